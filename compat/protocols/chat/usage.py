"""OpenAI's usage object: its counts, and the cost beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.protocols.base import TranslationContext
from compat.wire.usage import MAX_TOKENS, Usage, cost_of


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """The counts of an OpenAI usage object; whatever an upstream leaves out, garbles or exaggerates counts as 0."""
    prompt = raw.get("prompt_tokens_details")
    completion = raw.get("completion_tokens_details")
    cached = _count(prompt, "cached_tokens") or _count(raw, "prompt_cache_hit_tokens")
    return Usage(
        prompt_tokens=_count(raw, "prompt_tokens"),
        completion_tokens=_count(raw, "completion_tokens"),
        cache_read_tokens=cached,
        cache_write_tokens=_count(prompt, "cache_write_tokens"),
        reasoning_tokens=_count(completion, "reasoning_tokens"),
    )


def _count(table: Any, key: str) -> int:
    value = table.get(key) if isinstance(table, dict) else None
    return value if type(value) is int and 0 < value <= MAX_TOKENS else 0


def with_cost(raw: Mapping[str, Any], ctx: TranslationContext, counted: Usage | None = None) -> dict[str, Any]:
    """The upstream's usage object with the cost by the catalog's prices, where the upstream reports none; `counted` is what it counts.

    Kilo Code shows `cost_details.upstream_inference_cost` as the step's cost.
    """
    usage = dict(raw)
    details = usage.get("cost_details")
    told = details if isinstance(details, dict) else {}
    if "upstream_inference_cost" not in told:
        cost = usage.get("cost")
        known = cost if isinstance(cost, (int, float)) else cost_of(counted or usage_of(raw), ctx.model.price)
        usage["cost_details"] = {**told, "upstream_inference_cost": known}
    return usage


def with_spent(raw: Mapping[str, Any], usage: Usage, cost_usd: float) -> dict[str, Any]:
    """The usage object of an answer's last part with what its earlier parts took, and their cost, each by the price of its own model."""
    prompt, answer = _count(raw, "prompt_tokens") + usage.prompt_tokens, _count(raw, "completion_tokens") + usage.completion_tokens
    told = {**raw, "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    details = raw.get("cost_details")
    cost = details.get("upstream_inference_cost") if isinstance(details, dict) else None
    if isinstance(details, dict) and isinstance(cost, int | float):
        told["cost_details"] = {**details, "upstream_inference_cost": cost + cost_usd}
    return told


def estimate_object(usage: Usage) -> dict[str, Any]:
    """The usage object for counts of our own; `is_estimate` marks them."""
    total = usage.prompt_tokens + usage.completion_tokens
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "total_tokens": total}
    return {**counts, "is_estimate": usage.is_estimate}
