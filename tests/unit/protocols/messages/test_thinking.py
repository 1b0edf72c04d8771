"""Thinking on models whose answers are short: the budget needs room below the limit (docs/translation.md, rules 9 and 21)."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import pytest

from tests.cases.messages import OLD, chat
from tests.cases.messages_checks import context, translated


@pytest.mark.parametrize(
    ("most", "asked", "limit", "budget", "notes"),
    [
        (1024, None, 1024, None, ("dropped=reasoning_effort",)),
        (1024, 5, 1024, None, ("raised=max_tokens", "dropped=reasoning_effort")),
        (1025, 5, 1025, 1024, ("raised=max_tokens",)),
        (1025, None, 1025, 1024, ()),
        (5000, None, 5000, 2500, ()),
        (50_000, None, 50_000, 20_000, ()),
    ],
)
def test_a_budget_is_less_than_the_limit_or_there_is_none(
    most: int, asked: int | None, limit: int, budget: int | None, notes: tuple[str, ...]
) -> None:
    ctx = context(OLD)
    ctx = dataclasses.replace(ctx, model=msgspec.structs.replace(ctx.model, max_output=most))
    request = translated(chat(reasoning_effort="high", max_tokens=asked), ctx)
    body = json.loads(request.body)
    assert body["max_tokens"] == limit
    assert body.get("thinking") == (None if budget is None else {"type": "enabled", "budget_tokens": budget})
    assert request.notes == notes
