"""The mark by which gateways that call each other in a circle come to an end."""

from __future__ import annotations

import pytest

from compat.errors import BadRequest, GatewayLoop
from compat.wire.hops import MAX_HOPS, hop_headers, hops_of


@pytest.mark.parametrize(("value", "hops"), [("", 0), ("0", 0), ("1", 1), (" 2 ", 2), (str(MAX_HOPS), MAX_HOPS), ("1, 2", 2), ("2,1", 2)])
def test_a_call_tells_how_many_gateways_it_has_come_through(value: str, hops: int) -> None:
    assert hops_of(value) == hops


@pytest.mark.parametrize("value", [str(MAX_HOPS + 1), "1, 9", "9" * 99, "9" * 10_000])
def test_a_call_that_has_come_through_too_many_goes_in_a_circle(value: str) -> None:
    with pytest.raises(GatewayLoop, match="in a loop") as caught:
        hops_of(value)
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (400, "gateway_loop", False)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("value", ["x", "-1", "1.5", ",", "1,,2", "\u0661", "1;2"])
def test_a_mark_that_is_no_count_is_refused(value: str) -> None:
    with pytest.raises(BadRequest, match="x-compat-hops"):
        hops_of(value)


def test_the_mark_that_goes_on_counts_this_gateway() -> None:
    assert hop_headers(0) == {}  # the heads of all requests say 1
    assert hop_headers(2) == {"x-compat-hops": "3"}
