"""What a configuration takes from a model list."""

from __future__ import annotations

from typing import Any

import pytest

from compat.setup.offers import MAX_LISTED, Offer, main_model, read_offers, small_model


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", **more}


def test_a_row_gives_limits_prices_and_abilities() -> None:
    pricing = {"prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000003", "input_cache_write": "0.00000375"}
    abilities = {"tools": False, "images": True, "files": True, "reasoning": True}
    told = row("x", display_name="The X", context_length=200_000, max_output_tokens=64_000, pricing=pricing, capabilities=abilities)
    assert read_offers([told]) == (Offer("x", "The X", 200_000, 64_000, 3.0, 15.0, 0.3, 3.75, False, True, True, True),)


@pytest.mark.parametrize(
    "broken", [{"context_length": "many", "max_output_tokens": -1}, {"pricing": {"prompt": "free"}}, {"capabilities": []}]
)
def test_what_a_row_leaves_out_or_garbles_has_defaults(broken: dict[str, Any]) -> None:
    assert read_offers([row("x", **broken)]) == (Offer("x", "x"),)


def test_the_output_never_eats_the_whole_context() -> None:
    assert read_offers([row("x", context_length=8192, max_output_tokens=16_384)])[0].output == 4096


def test_an_upstream_that_lists_hundreds_is_left_out() -> None:
    rows = [row("alias"), row("local/one"), *(row(f"many/{number}") for number in range(MAX_LISTED + 1)), {"object": "model"}]
    assert [offer.id for offer in read_offers(rows)] == ["alias", "local/one"]


@pytest.mark.parametrize(
    ("names", "main"), [(["gpt-4", "claude-4-sonnet"], "claude-4-sonnet"), (["gpt-4"], "gpt-4"), ([], "claude-4-sonnet")]
)
def test_the_recommended_model_is_the_first_choice(names: list[str], main: str) -> None:
    assert main_model(Offer(name, name) for name in names) == main


CHEAP = Offer("cheap", "", 200_000, input_price=1, output_price=5)
DEAR = Offer("dear", "", 200_000, input_price=3, output_price=15)


@pytest.mark.parametrize(
    ("offers", "small"),
    [
        ([DEAR, CHEAP], "cheap"),
        ([DEAR], "dear"),
        ([DEAR, Offer("free", "", 200_000)], "dear"),
        ([DEAR, Offer("tiny", "", 4000, input_price=0.1)], "dear"),
        ([DEAR, Offer("gone soon", "", 200_000, input_price=0.1, is_short_lived=True)], "dear"),
        ([DEAR, Offer("same", "", 200_000, input_price=3, output_price=10)], "dear"),
    ],
)
def test_small_work_goes_to_the_cheapest_model_that_can_do_it(offers: list[Offer], small: str) -> None:
    assert small_model(offers, "dear") == small
