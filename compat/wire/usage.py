"""Token counts and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from compat.config.catalog import Price

MAX_TOKENS = 10**12
"""The most that a count can be; a larger one from an upstream is ignored."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer in the client's terms: `prompt_tokens` includes what was read from and written to a cache.

    `cache_write_tokens` includes those that were written to live for an hour.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    is_estimate: bool = False


def added_usage(first: Usage, second: Usage) -> Usage:
    """Both counts in one."""
    sums = {name: getattr(first, name) + getattr(second, name) for name in _COUNTS}
    return Usage(**sums, is_estimate=first.is_estimate or second.is_estimate)


_COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)


def cost_of(usage: Usage, price: Price) -> float:
    """US dollars, at the price of the call's time (`Price.at`).

    What was read from or written to a cache has its own price; the rest of the prompt has the plain one.

    Counts beyond all measure cost nothing: they can't be true, and no float holds them.
    """
    plain, read, written, written_1h, answer = cost_parts(usage, price)
    prompt = plain[0] * plain[1] + read[0] * read[1] + written[0] * written[1] + written_1h[0] * written_1h[1]
    return (prompt + answer[0] * answer[1]) / 1_000_000


def cost_parts(usage: Usage, price: Price) -> tuple[tuple[int, float], ...]:
    """Tokens, and US dollars per million of them: of the plain prompt, read from a cache, written to one, written to one for an hour, and
    of the answer."""
    if max(usage.prompt_tokens, usage.completion_tokens, usage.cache_read_tokens, usage.cache_write_tokens) > MAX_TOKENS:
        return ((0, 0.0),) * 5
    price = price.of_prompt(usage.prompt_tokens)
    return (
        (max(usage.prompt_tokens - usage.cache_read_tokens - usage.cache_write_tokens, 0), price.input),
        (usage.cache_read_tokens, price.cache_read),
        (usage.cache_write_tokens - usage.cache_write_1h_tokens, price.cache_write),
        (usage.cache_write_1h_tokens, price.cache_write_1h),
        (usage.completion_tokens, price.output),
    )
