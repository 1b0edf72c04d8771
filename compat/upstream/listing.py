"""What an upstream's model list says: ids, and of some of them sizes, prices and the day on which they end.

    read_listing(rows) -> Listing(ids, shutdowns, facts)     pure

The fields are those of the services that have them: `shutdown_date` is OpenAI's (https://developers.openai.com/api/reference/resources/models),
`context_length`, `top_provider` and `pricing` (dollars per token, as text) OpenRouter's, `context_window` Groq's, `max_model_len` vLLM's,
`max_input_tokens` and `max_tokens` Anthropic's. What is odd is passed over: a list is no reason for a call to fail.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MAX_TOKENS = 10**9
_MAX_PRICE = 10**6
"""US dollars per million tokens; more can't be true."""
_CONTEXT = ("context_length", "context_window", "max_model_len", "max_input_tokens")
_OUTPUT = ("max_output_tokens", "max_completion_tokens", "max_tokens")
_PRICES = {"input": "prompt", "output": "completion", "cache_read": "input_cache_read", "cache_write": "input_cache_write"}


@dataclass(frozen=True, slots=True)
class Listing:
    """A model list in its order. By id: `shutdowns`, the days on which models end, and `facts`, fields of the catalog's models."""

    ids: tuple[str, ...] = ()
    shutdowns: Mapping[str, datetime.date] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_listing(rows: Iterable[Any]) -> Listing:
    """The rows of a list, decoded."""
    ids: list[str] = []
    shutdowns: dict[str, datetime.date] = {}
    facts: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = (row.get("id") or row.get("name")) if isinstance(row, dict) else None
        if not isinstance(name, str) or not name or not name.isprintable():
            continue
        model_id = name.removeprefix("models/")
        ids.append(model_id)
        if (day := _day(row.get("shutdown_date"))) is not None:
            shutdowns[model_id] = day
        if told := _facts(row):
            facts[model_id] = told
    return Listing(tuple(ids), shutdowns, facts)


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    provider = row.get("top_provider")
    provider = provider if isinstance(provider, dict) else {}
    facts: dict[str, Any] = {}
    if context := _first_count(row, _CONTEXT):
        facts["context"] = context
    if most := _first_count(provider, _OUTPUT) or _first_count(row, _OUTPUT):
        facts["max_output"] = most
    pricing = row.get("pricing")
    if isinstance(pricing, dict) and "prompt" in pricing and "completion" in pricing:
        prices = {name: _dollars(pricing.get(theirs, 0)) for name, theirs in _PRICES.items()}
        if None not in prices.values():
            facts["price"] = prices
    return facts


def _first_count(row: Mapping[str, Any], names: Iterable[str]) -> int:
    values = (row.get(name) for name in names)
    return next((value for value in values if type(value) is int and 0 < value <= _MAX_TOKENS), 0)


def _dollars(value: Any) -> float | None:
    """Dollars per million tokens, of dollars per token in a number or text; `None` for anything else."""
    try:
        dollars = float(value) * 1_000_000 if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        return None
    return round(dollars, 6) if 0 <= dollars <= _MAX_PRICE else None


def _day(value: Any) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None
