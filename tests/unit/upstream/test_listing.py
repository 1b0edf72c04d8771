"""What is read of the rows of a model list, and what is passed over."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.upstream.listing import Listing, read_listing

PRICING = {"prompt": "0.000002", "completion": "0.00001", "input_cache_read": "0.0000002"}

# says, the row besides its id, the facts
FACTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("OpenAI", {"created": 1, "owned_by": "openai", "shutdown_date": None}, {}),
    (
        "OpenRouter",
        {"context_length": 1_050_000, "top_provider": {"context_length": 5, "max_completion_tokens": 128_000}, "pricing": PRICING},
        {
            "context": 1_050_000,
            "max_output": 128_000,
            "price": {"input": 2.0, "output": 10.0, "cache_read": 0.2, "cache_write": 0.0},
        },
    ),
    ("Groq", {"context_window": 131_072, "max_completion_tokens": 65_536}, {"context": 131_072, "max_output": 65_536}),
    ("vLLM", {"max_model_len": 40_960}, {"context": 40_960}),
    ("Anthropic", {"max_input_tokens": 1_000_000, "max_tokens": 128_000}, {"context": 1_000_000, "max_output": 128_000}),
    ("free", {"pricing": {"prompt": "0", "completion": 0}}, {"price": {"input": 0, "output": 0, "cache_read": 0, "cache_write": 0}}),
    ("a price by router", {"pricing": {"prompt": "-1", "completion": "-1"}}, {}),
    ("half a price", {"pricing": {"prompt": "1"}}, {}),
    ("odd prices", {"pricing": {"prompt": "much", "completion": None}}, {}),
    ("prices beyond all measure", {"pricing": {"prompt": "inf", "completion": "nan"}}, {}),
    (
        "sizes that are none",
        {"context_length": 0, "max_tokens": True, "context_window": "9", "max_model_len": 10**12, "top_provider": []},
        {},
    ),
]


@pytest.mark.parametrize(("row", "facts"), [row[1:] for row in FACTS], ids=[row[0] for row in FACTS])
def test_sizes_and_prices_are_read_where_they_are_sound(row: dict[str, Any], facts: dict[str, Any]) -> None:
    assert read_listing([{"id": "m", **row}]) == Listing(("m",), {}, {"m": facts} if facts else {})


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2027-01-14", datetime.date(2027, 1, 14)),
        ("2027-01-14T00:00:00Z", datetime.date(2027, 1, 14)),
        (None, None),
        ("", None),
        ("soon", None),
        ("2027-13-01", None),
        (1_800_000_000, None),
    ],
)
def test_the_day_of_a_shutdown_is_read(written: Any, day: datetime.date | None) -> None:
    assert read_listing([{"id": "m", "shutdown_date": written}]).shutdowns == ({"m": day} if day else {})


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_names = ["id", "name", "shutdown_date", "context_length", "max_tokens", "pricing", "top_provider"]


@pytest.mark.slow
@given(
    st.lists(
        _values | st.dictionaries(st.sampled_from(_names), _values | st.dictionaries(st.sampled_from(["prompt", "completion"]), _values))
    )
)
def test_no_list_is_odd_enough_to_fail(rows: list[Any]) -> None:
    listing = read_listing(rows)
    assert all(model_id.isprintable() for model_id in listing.ids)
    assert listing.shutdowns.keys() | listing.facts.keys() <= set(listing.ids)
