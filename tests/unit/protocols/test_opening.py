"""What a conversation began with, and that it stays the same while the conversation grows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.protocols.opening import MAX_HEAD_BYTES, first_elements, opening_of
from compat.routing.affinity import session_of
from compat.wire.envelope import Envelope

SYSTEM = {"role": "system", "content": "You are an agent."}
TASK = {"role": "user", "content": "Fix the bug."}


def session(*messages: Any) -> str:
    body = json.dumps({"model": "m", "messages": list(messages)}).encode()
    return session_of("ada", "", lambda: opening_of(Envelope(body), "messages"))


def test_a_session_stays_the_same_while_its_conversation_grows() -> None:
    turns = [SYSTEM, TASK]
    first = session(*turns)
    for number in range(20):
        turns += [{"role": "assistant", "content": f"Step {number}"}, {"role": "user", "content": "Go on."}]
        assert session(*turns) == first


def test_a_session_without_a_system_message_stays_the_same_when_the_answer_joins_it() -> None:
    assert session(TASK) == session(TASK, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "More."})


@pytest.mark.parametrize(
    "same",
    [
        {"role": "user", "content": [{"type": "text", "text": "Fix the bug."}]},
        {"role": "user", "content": [{"type": "text", "text": "Fix the bug.", "cache_control": {"type": "ephemeral"}}]},
        {"content": "Fix the bug.", "role": "user", "cache_control": {"type": "ephemeral"}},
    ],
)
def test_markers_and_the_shape_of_the_content_do_not_count(same: dict[str, Any]) -> None:
    assert session(SYSTEM, same) == session(SYSTEM, TASK)


@pytest.mark.parametrize(
    "other",
    [
        [SYSTEM, {"role": "user", "content": "Another task."}],
        [{**SYSTEM, "content": "You are a poet."}, TASK],
        [{**SYSTEM, "role": "developer"}, TASK],
        [TASK],
        [SYSTEM, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [SYSTEM, {"role": "user", "content": None}],
        [SYSTEM, {"role": "user", "content": ["Fix", {"text": 5}]}],
        [SYSTEM],
        [{"role": "assistant", "content": "I begin."}],
        ["no message"],
        [{"role": ["user"], "content": "Fix the bug."}],
    ],
)
def test_other_beginnings_are_other_sessions(other: list[Any]) -> None:
    assert session(*other) != session(SYSTEM, TASK)
    assert session(*other) == session(*other)


def test_a_body_without_messages_has_a_session_as_well() -> None:
    assert len(session_of("ada", "", lambda: opening_of(Envelope(b'{"model": "m"}'), "messages"))) == 32


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES - 200, MAX_HEAD_BYTES, 5 * MAX_HEAD_BYTES])
def test_a_very_long_beginning_counts_by_its_beginning(size: int) -> None:
    long = {"role": "user", "content": "x" * size}
    assert session(SYSTEM, long) == session(SYSTEM, long, {"role": "assistant", "content": "y"})
    assert session(SYSTEM, long) != session(TASK, long)


def test_a_deeply_nested_beginning_is_not_walked_to_its_end() -> None:
    nested = {"role": "user", "content": [[] for _ in range(10_000)]}
    assert session(SYSTEM, nested) == session(SYSTEM, nested, TASK)
    assert session(SYSTEM, nested) != session(TASK, nested)


def test_a_conversation_that_an_answer_begins_is_known_by_it() -> None:
    answer = {"role": "assistant", "content": "I begin."}
    assert session(answer) == session(answer, {"role": "tool", "content": "4"}, TASK)


# The first elements of an array.


@pytest.mark.parametrize(
    ("array", "elements"),
    [
        (b'[{"a":1},{"b":[2,3]},{"c":4}]', [b'{"a":1}', b'{"b":[2,3]}']),
        (b'[{"a":1}]', [b'{"a":1}']),
        (b'[{"a":1},{"b":2}]', [b'{"a":1}', b'{"b":2}']),
        (b'["a,]}\\"","\\\\"]', [b'"a,]}\\""', b'"\\\\"']),
        (b"[1,2,3", [b"1", b"2"]),
        (b'[{"a":1},{"b":', []),
        (b'[{"a":1},{"b":"cut, ] here', []),
        (b'[{"a":1},{"b":"cut\\', []),
        (b"[]", []),
        (b"[ ]", []),
        (b"", []),
        (b"[" + b"1," * 10_000 + b"1]", [b"1", b"1"]),
        (b"[" + b"[" * 10_000 + b"]" * 10_000 + b"]", []),
    ],
)
def test_the_first_elements_are_cut_out_as_they_are(array: bytes, elements: list[bytes]) -> None:
    assert first_elements(array, 2)[0] == elements


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.lists(_JSON, max_size=4), st.booleans(), st.integers(0, 300))
def test_elements_are_found_in_any_array_and_never_half(values: list[Any], is_ascii: bool, cut: int) -> None:
    array = json.dumps(values, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    assert [json.loads(element) for element in first_elements(array, 2)[0]] == values[:2]
    found, _ = first_elements(array[:cut], 2)
    assert not found or [json.loads(element) for element in found] == values[:2]
