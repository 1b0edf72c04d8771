"""Token counts and what they cost."""

from __future__ import annotations

import pytest

from compat.config.catalog import Price
from compat.wire.usage import Usage, cost_of

PRICE = Price(input=3.0, output=15.0, cache_read=0.3, cache_write=3.75)


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(), 0.0),
        (Usage(prompt_tokens=1_000_000), 3.0),
        (Usage(completion_tokens=1_000_000), 15.0),
        (Usage(prompt_tokens=1_000_000, cache_read_tokens=1_000_000), 0.3),
        (Usage(prompt_tokens=1_000_000, cache_write_tokens=1_000_000), 3.75),
        (Usage(prompt_tokens=1000, completion_tokens=100, cache_read_tokens=600, cache_write_tokens=300), 0.003105),
        (Usage(completion_tokens=100, reasoning_tokens=90), 0.0015),
        (Usage(prompt_tokens=10, cache_read_tokens=100), 0.00003),
        (Usage(prompt_tokens=10**400), 0.0),
        (Usage(prompt_tokens=10, cache_write_tokens=10**400), 0.0),
    ],
    ids=[
        "nothing",
        "prompt",
        "answer",
        "read",
        "written",
        "all",
        "reasoning is in the answer",
        "more read than there was",
        "huge",
        "huge writes",
    ],
)
def test_every_token_has_its_price(usage: Usage, dollars: float) -> None:
    assert cost_of(usage, PRICE) == pytest.approx(dollars, rel=1e-9)


def test_without_prices_nothing_costs_anything() -> None:
    assert cost_of(Usage(10**9, 10**9, 5, 5, 5), Price()) == 0.0
