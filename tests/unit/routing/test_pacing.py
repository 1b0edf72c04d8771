"""What upstreams say of their limits is obeyed before they refuse: headers as they come, waits, other deployments, calls under way."""

from __future__ import annotations

import datetime
import types
from typing import Any

import pytest

from compat.config.sections import PacingSettings
from compat.routing.pacing import MAX_BLOCK_S, MAX_LANES, Advice, Pacing

NOW_S = 1_700_000_000.0
LANE = ("anthropic", "key", "claude")


def date(offset_s: float) -> str:
    return datetime.datetime.fromtimestamp(NOW_S + offset_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def openai(kind: str = "requests", limit: Any = 100, remaining: Any = 0, reset: str = "60s") -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(remaining),
        f"x-ratelimit-reset-{kind}": reset,
    }


def anthropic(kind: str = "requests", limit: Any = 50, remaining: Any = 0, reset_s: float = 50) -> dict[str, str]:
    return {
        f"anthropic-ratelimit-{kind}-limit": str(limit),
        f"anthropic-ratelimit-{kind}-remaining": str(remaining),
        f"anthropic-ratelimit-{kind}-reset": date(reset_s),
    }


class Bench:
    def __init__(self, **settings: Any) -> None:
        self.passed_s = 0.0
        clock: Any = types.SimpleNamespace(monotonic=lambda: 100.0 + self.passed_s, now=lambda: NOW_S + self.passed_s)
        self.pacing = Pacing(PacingSettings(**settings), clock)

    def heard(self, headers: dict[str, str], status: int = 200, lane: Any = LANE) -> None:
        self.pacing.sent(lane).heard(status, headers)

    def wait_s(self, lane: Any = LANE) -> float:
        return self.pacing.advice(lane).wait_s


def test_nothing_is_known_of_a_lane_that_was_never_called() -> None:
    assert Bench().pacing.advice(LANE) == Advice("go", 0.0, "")


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        pytest.param(openai(remaining=1), 0, id="one is left"),
        pytest.param(openai(limit=60, remaining=0, reset="60s"), 1, id="one is there again after a second"),
        pytest.param(openai(limit=60, remaining=0, reset="6m0s"), 6, id="a duration in minutes"),
        pytest.param(openai(limit=1, remaining=0, reset="1h2m3.5s"), 3600, id="a duration in hours, bounded"),
        pytest.param(openai(limit=1, remaining=0, reset="20ms"), 0.02, id="milliseconds"),
        pytest.param(openai(limit=1, remaining=0, reset="2m0.5s"), 120.5, id="fractions"),
        pytest.param(openai(limit=1, remaining=0, reset="7"), 7, id="plain seconds"),
        pytest.param(openai(limit=1, remaining=0, reset=str(int(NOW_S + 9))), 9, id="a date in seconds"),
        pytest.param(openai(limit=1, remaining=0, reset=str(int(NOW_S + 9) * 1000)), 9, id="a date in milliseconds"),
        pytest.param(openai(limit=1, remaining=0, reset=str(int(NOW_S - 9))), 0, id="a date that is over"),
        pytest.param(openai("requests-day", limit=1, remaining=0, reset="30"), 30, id="Cerebras' names"),
        pytest.param(anthropic(limit=50, remaining=0, reset_s=50), 1, id="Anthropic's requests"),
        pytest.param(anthropic("output-tokens", limit=8000, remaining=0, reset_s=8000 / 1000), 0.001, id="Anthropic's output tokens"),
        pytest.param({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"}, 12, id="without a limit, all of the time"),
        pytest.param({"x-ratelimit-limit": "0", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"}, 0, id="a limit of nothing"),
        pytest.param({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "12"}, 0, id="without a limit, some are left"),
        pytest.param({"x-ratelimit-limit": "5", "x-ratelimit-remaining": "7", "x-ratelimit-reset": "12"}, 0, id="more than the limit"),
    ],
)
def test_a_call_waits_as_long_as_the_headers_mean(headers: dict[str, str], wait_s: float) -> None:
    bench = Bench()
    bench.heard(headers)
    assert bench.wait_s() == pytest.approx(wait_s)


@pytest.mark.parametrize(
    "headers",
    [
        openai(remaining="many"),
        openai(remaining=-1),
        openai(remaining="nan"),
        openai(remaining="inf"),
        openai(remaining="9" * 400),
        openai(reset=""),
        openai(reset="soon"),
        openai(reset="6m0"),
        openai(reset="1.2.3s"),
        openai(reset="9" * 20 + "s"),
        openai(reset="-5"),
        openai(reset="2026-01-01T00:00:00"),
        openai(reset="9999-99-99T00:00:00Z"),
        {"x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-reset-requests": "60s"},
        {"x-ratelimit-remaining-" + "a" * 100: "0", "x-ratelimit-reset-" + "a" * 100: "60"},
        {"x-other": "0", "anthropic-ratelimit-unified-status": "allowed"},
    ],
    ids=str,
)
def test_what_cant_be_read_is_passed_over(headers: dict[str, str]) -> None:
    bench = Bench()
    bench.heard(headers)
    assert bench.pacing.advice(LANE) == Advice()


def test_a_limit_that_cant_be_read_is_unknown() -> None:
    bench = Bench()
    bench.heard(openai(limit="?", remaining=0, reset="8s"))
    assert bench.wait_s() == 8


def test_a_bucket_that_is_full_makes_nobody_wait() -> None:
    bench = Bench()
    bench.heard(anthropic("input-tokens", limit=5000, remaining=5000, reset_s=30))
    assert bench.wait_s() == 0


def test_waiting_makes_the_wait_shorter_and_the_reset_ends_it() -> None:
    bench = Bench()
    bench.heard(openai("tokens", limit=2, remaining=0, reset="100s"))
    assert bench.wait_s() == pytest.approx(50)
    bench.passed_s = 30
    assert bench.wait_s() == pytest.approx(20)
    bench.passed_s = 51
    assert bench.wait_s() == 0
    bench.passed_s = 100
    assert bench.wait_s() == 0


def test_the_longest_wait_of_all_limits_counts_and_is_named() -> None:
    bench = Bench(max_wait_s=3.0)
    bench.heard(openai("requests", limit=60, remaining=0, reset="60s") | openai("tokens", limit=60, remaining=0, reset="180s"))
    assert bench.pacing.advice(LANE) == Advice("wait", pytest.approx(3.0), "0 tokens were left")


def test_a_wait_that_is_too_long_sends_the_call_elsewhere() -> None:
    bench = Bench(max_wait_s=3.0)
    bench.heard(openai(limit=1, remaining=0, reset="10s"))
    assert bench.pacing.advice(LANE) == Advice("switch", pytest.approx(10.0), "0 requests were left")
    bench.passed_s = 7.5
    assert bench.pacing.advice(LANE).action == "wait"
    bench.passed_s = 10
    assert bench.pacing.advice(LANE).action == "go"


def test_calls_under_way_use_what_is_left() -> None:
    bench = Bench()
    bench.heard(openai("requests", limit=60, remaining=2, reset="58s") | openai("tokens", limit=600, remaining=100, reset="500s"))
    first = bench.pacing.sent(LANE)
    assert bench.wait_s() == 0
    second = bench.pacing.sent(LANE)
    assert bench.wait_s() == pytest.approx(1)
    first.lost()
    first.lost()
    second.heard(200, {})
    second.heard(429, {"retry-after": "30"})
    assert bench.wait_s() == 0


def test_calls_under_way_are_taken_off_where_no_rate_is_known() -> None:
    bench = Bench()
    bench.heard({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "5"})
    bench.pacing.sent(LANE)
    assert bench.wait_s() == 5


def test_a_refusal_keeps_the_lane_closed_as_long_as_it_asks() -> None:
    bench = Bench()
    bench.heard({"retry-after": "20"}, 429)
    assert bench.pacing.advice(LANE) == Advice("switch", 20.0, "it asked callers to wait")
    bench.passed_s = 20
    assert bench.pacing.advice(LANE) == Advice()


@pytest.mark.parametrize("headers", [{}, {"retry-after": "soon"}, {"retry-after": "0"}], ids=str)
def test_a_refusal_without_a_time_closes_nothing(headers: dict[str, str]) -> None:
    bench = Bench()
    bench.heard(headers, 429)
    assert bench.wait_s() == 0


def test_a_refusal_for_days_is_tried_again_after_half_a_minute() -> None:
    bench = Bench()
    bench.heard({"retry-after": "259200"}, 429)
    assert bench.wait_s() == MAX_BLOCK_S


def test_an_answer_to_a_call_that_left_later_opens_the_lane_again() -> None:
    bench = Bench()
    earlier = bench.pacing.sent(LANE)
    bench.passed_s = 1
    bench.heard({"retry-after": "20"}, 429)
    bench.passed_s = 2
    earlier.heard(200, {})
    assert bench.wait_s() == 19
    bench.heard({}, 529)
    assert bench.wait_s() == 19
    bench.heard({}, 200)
    assert bench.wait_s() == 0


def test_lanes_know_nothing_of_each_other() -> None:
    bench = Bench()
    bench.heard(openai(), lane=("openai", "a", "gpt"))
    assert bench.wait_s(lane=("openai", "b", "gpt")) == 0
    assert bench.wait_s(lane=("openai", "a", "gpt")) > 0


def test_switched_off_it_lets_everything_go() -> None:
    bench = Bench(enabled=False)
    bench.heard(openai())
    assert bench.pacing.advice(LANE) == Advice()


def test_lanes_are_bounded_the_least_used_go_first() -> None:
    bench = Bench()
    bench.heard(openai(), lane="first")
    bench.heard(openai(), lane="second")
    for number in range(MAX_LANES - 2):
        bench.heard({}, lane=number)
    bench.heard({}, lane="first")
    bench.heard({}, lane="one more")
    assert len(bench.pacing) == MAX_LANES
    assert bench.wait_s(lane="first") > 0
    assert bench.wait_s(lane="second") == 0


def test_limits_of_a_lane_are_bounded() -> None:
    bench = Bench()
    bench.heard(openai("requests", limit=1, remaining=0, reset="9"))
    headers: dict[str, str] = {}
    for number in range(100):
        headers |= openai("requests-" + chr(97 + number % 26) * (1 + number // 26), remaining=50)
    bench.heard(headers)
    assert bench.wait_s() == 0
