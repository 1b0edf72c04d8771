"""The list of models in Anthropic's form: objects, pages by cursors, and names that Claude Code shows."""

from __future__ import annotations

from typing import Any

import pytest

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.messages.models import LISTING

ROWS: list[dict[str, Any]] = [
    {"id": "claude-x", "created": 1735689600, "display_name": "Claude X", "context_length": 200_000, "max_output_tokens": 64_000},
    {"id": "org/Anthropic.y", "created": 0, "display_name": ""},
    {"id": "gpt-x", "created": 0, "display_name": "GPT X", "context_length": 0},
]
IDS = ["claude-x", "org/Anthropic.y", "gpt-x", "claude-compat/gpt-x"]


def page(**query: str) -> Any:
    return jsonio.decode(LISTING.page(ROWS, query))


def test_a_model_has_the_fields_of_anthropics_api() -> None:
    assert jsonio.decode(LISTING.one(ROWS[0])) == {
        "type": "model",
        "id": "claude-x",
        "display_name": "Claude X",
        "created_at": "2025-01-01T00:00:00Z",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }
    assert jsonio.decode(LISTING.one(ROWS[1])) == {
        "type": "model",
        "id": "org/Anthropic.y",
        "display_name": "org/Anthropic.y",
        "created_at": "1970-01-01T00:00:00Z",
    }


def test_a_name_that_claude_code_would_not_show_is_there_once_more() -> None:
    found = page()
    assert [one["id"] for one in found["data"]] == IDS
    assert found["data"][3]["display_name"] == "GPT X"
    assert (found["has_more"], found["first_id"], found["last_id"]) == (False, IDS[0], IDS[3])


@pytest.mark.parametrize(
    ("query", "ids", "has_more"),
    [
        ({"limit": "2"}, IDS[:2], True),
        ({"limit": "1000"}, IDS, False),
        ({"limit": "2", "after_id": IDS[1]}, IDS[2:], False),
        ({"limit": "1", "after_id": IDS[1]}, IDS[2:3], True),
        ({"after_id": IDS[3]}, [], False),
        ({"limit": "2", "before_id": IDS[3]}, IDS[1:3], True),
        ({"limit": "2", "before_id": IDS[1]}, IDS[:1], False),
        ({"limit": "2", "after_id": "gone"}, IDS[:2], True),
        ({"limit": "2", "before_id": "gone"}, IDS[2:], True),
    ],
)
def test_pages_go_by_cursors(query: dict[str, str], ids: list[str], has_more: bool) -> None:
    found = page(**query)
    assert ([one["id"] for one in found["data"]], found["has_more"]) == (ids, has_more)
    assert found["first_id"] == (ids[0] if ids else None)


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"limit": "١"}, {"limit": "010000"}, {"limit": "00001" + "1" * 4400}]
)
def test_a_query_that_cannot_be_followed_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        page(**query)
    assert caught.value.param in query
