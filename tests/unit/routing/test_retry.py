"""Retries: when to wait, when to go on, when to stop, and how often all calls together may ask again."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.config.sections import RetrySettings
from compat.errors import (
    BadRequest,
    ContextTooLong,
    GatewayError,
    InternalError,
    NoUpstream,
    Unsupported,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamFailure,
    UpstreamKeyRefused,
    UpstreamOutOfCredit,
    UpstreamOverloaded,
    UpstreamRateLimit,
    UpstreamRefusal,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from compat.routing.retry import Decision, Progress, Retries, RetryBudget, is_key_at_fault, is_lasting, retry_decision
from tests.unit.builders import StillClock

SETTINGS = RetrySettings(attempts=3, budget_percent=10.0, budget_calls=3)
FIRST = Progress(attempts=1, tries_here=1, others=1, remaining_s=600.0)


def decide(error: GatewayError, *, has_budget: bool = True, chance: float = 0.0, **progress: Any) -> Decision:
    values = {name: getattr(FIRST, name) for name in FIRST.__slots__}
    return retry_decision(error, Progress(**{**values, **progress}), SETTINGS, chance, has_budget=has_budget)


# error -> what is done while there is another deployment, and what when there is none.
ACTIONS: list[tuple[str, GatewayError, str, str]] = [
    ("500", UpstreamFailure("x"), "wait", "wait"),
    ("529", UpstreamOverloaded("x", status=529), "wait", "wait"),
    ("503 that asks for 2 s", UpstreamOverloaded("x", retry_after_s=2), "wait", "wait"),
    ("503 that asks for 31 s", UpstreamOverloaded("x", retry_after_s=31), "next", "stop"),
    ("cut before content", UpstreamBroken("x"), "wait", "wait"),
    ("408, 409", UpstreamBusy("x"), "wait", "wait"),
    ("429", UpstreamRateLimit("x"), "wait", "wait"),
    ("429 that asks for 30 s", UpstreamRateLimit("x", retry_after_s=30), "wait", "wait"),
    ("429 that asks for a minute", UpstreamRateLimit("x", retry_after_s=60), "next", "stop"),
    ("429 that asks for no wait", UpstreamRateLimit("x", retry_after_s=0), "wait", "wait"),
    ("refused connection", UpstreamUnreachable("x"), "next", "wait"),
    ("stall", UpstreamTimeout("x"), "next", "wait"),
    ("401", UpstreamKeyRefused("x"), "next", "stop"),
    ("402", UpstreamOutOfCredit("x"), "next", "stop"),
    ("429 of a plan without quota", UpstreamOutOfCredit("x", status=429), "next", "stop"),
    ("404", UpstreamRefusal("x", status=404), "next", "stop"),
    ("circuit open, queue full", NoUpstream("x", retry_after_s=5), "next", "stop"),
    ("no counterpart in this wire API", Unsupported("x"), "next", "stop"),
    ("400 by the upstream", UpstreamRefusal("x"), "stop", "stop"),
    ("422", UpstreamRefusal("x", status=422), "stop", "stop"),
    ("400 by us", BadRequest("x"), "stop", "stop"),
    ("too long", ContextTooLong("x"), "stop", "stop"),
    ("our own fault", InternalError("x"), "stop", "stop"),
]


@pytest.mark.parametrize(("error", "action"), [pytest.param(error, action, id=name) for name, error, action, _ in ACTIONS])
def test_what_is_done_while_there_is_another_deployment(error: GatewayError, action: str) -> None:
    assert decide(error).action == action


@pytest.mark.parametrize(("error", "action"), [pytest.param(error, action, id=name) for name, error, _, action in ACTIONS])
def test_what_is_done_when_there_is_none(error: GatewayError, action: str) -> None:
    assert decide(error, others=0).action == action


@pytest.mark.parametrize("error", [pytest.param(error, id=name) for name, error, _, _ in ACTIONS])
@pytest.mark.parametrize("stopper", [{"attempts": 3}, {"remaining_s": 0.0}, {"remaining_s": -1.0}])
def test_after_the_last_attempt_or_the_deadline_nothing_is_tried(error: GatewayError, stopper: dict[str, Any]) -> None:
    assert decide(error, **stopper).action == "stop"


@pytest.mark.parametrize(
    ("progress", "has_budget", "expected"),
    [
        ({"tries_here": 2}, True, Decision("next", "the deployment was tried often enough")),
        ({"tries_here": 2, "others": 0}, True, Decision("wait", "another attempt may succeed", 0.25)),
        ({}, False, Decision("next", "the retry budget is used up")),
        ({"others": 0}, False, Decision("stop", "the retry budget is used up, and no other deployment is left")),
        ({"remaining_s": 0.2}, True, Decision("next", "the time left is too short for a wait")),
        (
            {"remaining_s": 0.2, "others": 0},
            True,
            Decision("stop", "the time left is too short for a wait, and no other deployment is left"),
        ),
    ],
)
def test_a_wait_needs_a_try_a_budget_and_time(progress: dict[str, Any], has_budget: bool, expected: Decision) -> None:
    assert decide(UpstreamFailure("x"), has_budget=has_budget, **progress) == expected


def test_a_stop_tells_how_long_the_upstream_wanted_us_to_wait() -> None:
    decision = decide(UpstreamRateLimit("x", retry_after_s=90), others=0)
    assert decision == Decision("stop", "the upstream asks for a wait of 90 s, and no other deployment is left")


# Waits.


@pytest.mark.parametrize(
    ("asked_s", "chance", "wait_s"), [(2, 0.0, 2.0), (2, 1.0, 2.2), (30, 0.0, 30.0), (30, 1.0, 31.0), (0.05, 1.0, 0.055)]
)
def test_an_upstreams_retry_after_is_obeyed_and_spread_a_little(asked_s: float, chance: float, wait_s: float) -> None:
    assert decide(UpstreamRateLimit("x", retry_after_s=asked_s), chance=chance).wait_s == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("previous_s", "chance", "wait_s"),
    [(0.0, 0.0, 0.25), (0.0, 1.0, 0.75), (0.75, 0.0, 0.25), (0.75, 1.0, 2.25), (0.1, 1.0, 0.75), (8.0, 1.0, 8.0), (8.0, 0.5, 8.0)],
)
def test_a_wait_lies_between_the_first_and_three_times_the_previous_one(previous_s: float, chance: float, wait_s: float) -> None:
    assert decide(UpstreamFailure("x"), chance=chance, previous_wait_s=previous_s).wait_s == pytest.approx(wait_s)


@given(st.lists(st.floats(0, 1), max_size=50))
def test_waits_never_leave_their_bounds(chances: list[float]) -> None:
    wait_s = 0.0
    for chance in chances:
        wait_s = decide(UpstreamFailure("x"), chance=chance, previous_wait_s=wait_s).wait_s
        assert SETTINGS.first_wait_s <= wait_s <= SETTINGS.max_wait_s


# The budget.


def spend(budget: RetryBudget) -> int:
    return sum(1 for _ in itertools.takewhile(lambda _: budget.take(), itertools.count()))


@pytest.mark.parametrize(("calls", "retries"), [(0, 3), (1, 3), (9, 3), (10, 4), (19, 4), (100, 13), (1000, 103)])
def test_retries_are_a_tenth_of_the_calls_and_three(calls: int, retries: int) -> None:
    budget = RetryBudget(SETTINGS, StillClock().monotonic)
    for _ in range(calls):
        budget.note_call()
    assert spend(budget) == retries
    assert budget.report() == {"calls": calls, "retries": retries}


def test_a_budget_of_nothing_allows_nothing() -> None:
    settings = msgspec.structs.replace(SETTINGS, budget_percent=0.0, budget_calls=0)
    budget = RetryBudget(settings, StillClock().monotonic)
    budget.note_call()
    assert not budget.has_left()


def test_the_minute_slides() -> None:
    clock = StillClock()
    budget = RetryBudget(SETTINGS, clock.monotonic)
    for _ in range(100):
        budget.note_call()
    assert spend(budget) == 13
    clock.monotonic_s += 30
    for _ in range(20):
        budget.note_call()
    assert spend(budget) == 2
    clock.monotonic_s += 29
    assert spend(budget) == 0
    clock.monotonic_s += 1
    assert budget.report() == {"calls": 20, "retries": 2}
    assert spend(budget) == 3
    clock.monotonic_s += 600
    assert budget.report() == {"calls": 0, "retries": 0}


def test_a_budget_holds_a_minute_of_counts_however_long_it_lives() -> None:
    clock = StillClock()
    budget = RetryBudget(SETTINGS, clock.monotonic)
    for _ in range(10_000):
        clock.monotonic_s += 0.37
        budget.note_call()
    assert len(budget._seconds) <= 61
    assert budget.report()["calls"] == pytest.approx(60 / 0.37, abs=3)


# The policy.


def make_retries(random: Callable[[], float] = lambda: 0.0, settings: RetrySettings = SETTINGS) -> Retries:
    return Retries(settings, StillClock().monotonic, random)


def test_only_waits_are_paid_for() -> None:
    retries = make_retries()
    retries.budget.note_call()
    actions = [retries.decide(UpstreamFailure("x"), FIRST).action for _ in range(5)]
    assert actions == ["wait", "wait", "wait", "next", "next"]
    assert retries.budget.report() == {"calls": 1, "retries": 3}


def test_chance_is_drawn_for_each_decision() -> None:
    draws = iter([0.0, 1.0])
    retries = make_retries(lambda: next(draws))
    assert [retries.decide(UpstreamFailure("x"), FIRST).wait_s for _ in range(2)] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UpstreamKeyRefused("401"), True),
        (UpstreamRateLimit("429"), True),
        (UpstreamOutOfCredit("402"), True),
        (UpstreamRefusal("404", status=404), False),
        (UpstreamFailure("500"), False),
        (NoUpstream("open"), False),
    ],
)
def test_another_key_helps_where_the_key_is_at_fault(error: GatewayError, expected: bool) -> None:
    assert is_key_at_fault(error) is expected


# Asking again those who were asked.


@pytest.mark.parametrize("error", [UpstreamKeyRefused("x"), NoUpstream("x"), UpstreamRateLimit("x", retry_after_s=60)])
def test_when_the_next_one_is_due_those_whose_fault_may_have_passed_are_asked_again_after_a_wait(error: GatewayError) -> None:
    decision = decide(error, others=0, again=1)
    assert decision.action == "next"
    assert decision.wait_s == SETTINGS.first_wait_s
    assert decide(error, others=0, again=1, has_budget=False).action == "stop"
    assert decide(error, others=0, again=1, remaining_s=0.1).action == "stop"
    assert decide(error, others=1, again=1) == Decision("next", decision.reason.partition(", and")[0])


def test_an_open_circuit_is_no_place_to_wait_for() -> None:
    assert decide(UpstreamFailure("x"), is_open=True).action == "next"
    assert decide(UpstreamFailure("x"), is_open=True, others=0).action == "stop"


@pytest.mark.parametrize(
    ("error", "is_lasting_one"),
    [
        (UpstreamKeyRefused("x"), True),
        (NoUpstream("x"), True),
        (UpstreamRefusal("x", status=404), True),
        (UpstreamRateLimit("x", retry_after_s=31), True),
        (UpstreamRateLimit("x", retry_after_s=30), False),
        (UpstreamFailure("x"), False),
        (UpstreamTimeout("x"), False),
    ],
)
def test_what_will_not_pass_within_a_call(error: GatewayError, is_lasting_one: bool) -> None:
    assert is_lasting(error, SETTINGS) is is_lasting_one
