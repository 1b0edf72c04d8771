"""Where the breakpoints of the prompt cache go (optimisation 9)."""

from __future__ import annotations

from typing import Any

import pytest

from compat.protocols.messages.cache import MAX_MARKERS, plan_cache, strip_markers

FIVE = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
SIZE = 5000


def text(words: str = "a", marker: Any = None) -> dict[str, Any]:
    return {"type": "text", "text": words, **({"cache_control": marker} if marker else {})}


def turns(*sizes: int, marker: Any = None) -> list[dict[str, Any]]:
    """The user's and the assistant's in turn, each of so many blocks."""
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": [text(marker=marker) for _ in range(size)]} for number, size in enumerate(sizes)]


def planned(tools: int = 0, system: int = 0, messages: Any = (), marker: Any = None, size_chars: int = SIZE) -> list[Any]:
    """The numbers of the marked blocks and their lives."""
    parts = ([text(marker=marker) for _ in range(tools)], [text(marker=marker) for _ in range(system)], messages)
    plan_cache(*parts, cache_minimum=1000, size_chars=size_chars)
    blocks = [*parts[0], *parts[1], *(block for message in messages for block in message["content"])]
    return [(number, block["cache_control"].get("ttl", "5m")) for number, block in enumerate(blocks) if "cache_control" in block]


def numbers(**parts: Any) -> list[int]:
    return [number for number, _ in planned(**parts)]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"system": 2, "messages": turns(1, 1, 2)}, [1, 2, 5]),
        ({"tools": 2, "system": 1, "messages": turns(1)}, [2, 3]),
        ({"tools": 2, "messages": turns(1)}, [1, 2]),
        ({"messages": turns(1, 1, 1)}, [0, 2]),
        ({"messages": turns(1, 1, 1, 30, 30)}, [2, 62]),
        ({"system": 1, "messages": turns(1)}, []),
        ({"tools": 1, "messages": turns(1), "size_chars": 3999}, []),
        ({"tools": 1, "messages": turns(1), "size_chars": 4000}, [0, 1]),
        ({"tools": 1, "messages": [{"role": "system", "content": [text()]}]}, [0]),
        ({"tools": 1, "messages": []}, [0]),
    ],
)
def test_markers_are_added_where_the_next_turn_will_read(parts: dict[str, Any], expected: list[int]) -> None:
    assert numbers(**parts) == expected


def test_what_the_client_marks_is_completed_however_small_it_is() -> None:
    assert numbers(system=1, messages=turns(2, marker=FIVE), size_chars=10) == [0, 1, 2]


def test_there_are_never_more_than_four_and_the_latest_of_the_clients_are_kept() -> None:
    assert numbers(tools=3, system=3, messages=turns(3, 3, 3, marker=FIVE), marker=FIVE) == [5, 8, 13, 14]
    assert MAX_MARKERS == 4


def test_thinking_and_empty_text_are_never_marked() -> None:
    messages = [
        {"role": "user", "content": [text()]},
        {"role": "assistant", "content": [{**THOUGHT, "cache_control": FIVE}, text("", FIVE)]},
        {"role": "user", "content": [text()]},
    ]
    assert numbers(messages=messages) == [0, 3]
    assert "cache_control" not in messages[1]["content"][0]


def test_a_long_life_is_given_to_all_that_comes_before_it() -> None:
    messages = turns(1, 1, 1)
    messages[0]["content"][0]["cache_control"] = HOUR
    assert planned(system=1, messages=messages) == [(0, "1h"), (1, "1h"), (3, "5m")]


def test_a_marker_of_five_minutes_is_left_as_the_client_wrote_it() -> None:
    messages = turns(1)
    messages[0]["content"][0]["cache_control"] = {"type": "ephemeral", "ttl": "5m"}
    planned(messages=messages)
    assert messages[0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "5m"}


def test_markers_are_counted_as_they_are_stripped() -> None:
    tools, system, messages = [text(marker=FIVE)], [text()], turns(2, marker=HOUR)
    assert strip_markers(tools, system, messages) == 3
    assert strip_markers(tools, system, messages) == 0
    assert messages == turns(2)
