"""A call's way over its candidates: who is asked next, who is left out, what counts anew after a rescue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.config.sections import AdmissionSettings, AffinitySettings, CircuitSettings, PacingSettings, RetrySettings
from compat.errors import (
    GatewayError,
    NoUpstream,
    UpstreamBroken,
    UpstreamFailure,
    UpstreamKeyRefused,
    UpstreamOutOfCredit,
    UpstreamOverloaded,
    UpstreamRateLimit,
    UpstreamRefusal,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from compat.routing.admission import Gates
from compat.routing.affinity import Affinity
from compat.routing.circuit import Circuits
from compat.routing.pacing import Pacing
from compat.routing.plan import CallPlan, Place, Policies
from compat.routing.retry import CIRCUIT_OPEN, Decision, Retries
from compat.routing.router import Deployment, Group, Route
from compat.upstream.client import Secret, Upstream
from compat.upstream.kinds import UPSTREAM_KINDS
from tests.unit.builders import StillClock

DEADLINE_S = 1000.0


def deployment(upstream: str, target: str = "m", keys: int = 1) -> Deployment:
    secrets = tuple(Secret(f"sk-{number}") for number in range(keys))
    return Deployment(Upstream(upstream, UPSTREAM_KINDS["openai"], "http://x/v1", secrets), target, Model(id=target))


class Setting:
    """A plan over deployments, each of a priority of its own, and what all plans share."""

    def __init__(self, *deployments: Deployment, **retry: Any) -> None:
        self.clock = StillClock()
        self.route = Route("r", tuple(Group((one,), (1,)) for one in deployments))
        settings = RetrySettings(**{"budget_percent": 10.0, "budget_calls": 3, **retry})
        self.policies = Policies(
            Circuits(CircuitSettings(), self.clock, lambda _: None),
            Retries(settings, self.clock.monotonic, lambda: 0.0),
            Affinity(AffinitySettings(), self.clock.monotonic),
            Gates(AdmissionSettings(), self.clock.monotonic),
            Pacing(PacingSettings(), self.clock),
        )
        self.plan = self.new_plan()
        self.place: Place | None = None

    def new_plan(self) -> CallPlan:
        return CallPlan(self.policies, self.route, "session", DEADLINE_S)

    def next(self) -> str:
        """Who is asked, and under which key where there are several."""
        place = self.place = self.plan.next()
        several = len(place.candidate.deployment.upstream.keys) > 1
        return place.candidate.deployment.name + (f"#{place.candidate.key_index}" if several else "")

    def fail(self, error: GatewayError) -> Decision:
        assert self.place is not None
        decision = self.plan.failed(self.place, error, self.clock.monotonic())
        self.plan.left(self.place)
        return decision

    def way(self, *errors: GatewayError) -> list[str]:
        """Those who are asked while these errors come, and what is done in the end."""
        asked = [self.next()]
        for error in errors:
            decision = self.fail(error)
            if decision.action == "stop":
                return [*asked, "stop"]
            asked.append(self.next())
        return asked

    def open(self, name: str) -> None:
        """Open the circuit of a deployment: ten calls of others fail there."""
        one = next(one for one in self.route.deployments if one.name == name)
        plan = CallPlan(self.policies, Route("other", (Group((one,), (1,)),)), "other", DEADLINE_S)
        for _ in range(10):
            place = plan.next()
            place.permit.failed(UpstreamFailure("x"))


A, B, C = deployment("a"), deployment("b"), deployment("c")
TWO_KEYS = deployment("a", keys=2)
Make = Callable[[], GatewayError]
FAULT, BUSY, DEAD, LATE = UpstreamFailure("x"), UpstreamOverloaded("x"), UpstreamUnreachable("x"), UpstreamTimeout("x")
HOUR = UpstreamRateLimit("x", retry_after_s=3600)

WAYS: list[tuple[str, tuple[Deployment, ...], tuple[GatewayError, ...], list[str]]] = [
    ("two tries each", (A, B, C), (FAULT,) * 5, ["a/m", "a/m", "b/m", "b/m", "c/m", "c/m"]),
    ("who is not heard from is asked once", (A, B, C), (DEAD, LATE), ["a/m", "b/m", "c/m"]),
    ("alone it is asked again", (A,), (DEAD, FAULT, LATE), ["a/m"] * 4),
    ("until the budget is used up", (A,), (FAULT,) * 6, ["a/m"] * 4 + ["stop"]),
    ("after all were asked, they are asked again", (A, B), (DEAD, DEAD, FAULT), ["a/m", "b/m", "b/m", "a/m"]),
    ("an hour is not waited for", (A,), (HOUR,), ["a/m", "stop"]),
    ("an hour means never again", (A, B), (HOUR, FAULT, FAULT), ["a/m", "b/m", "b/m", "b/m"]),
    ("who has to wait an hour leaves it to those who were asked", (A, B), (FAULT, FAULT, HOUR), ["a/m", "a/m", "b/m", "a/m"]),
    ("a refused key", (A, B), (UpstreamKeyRefused("x"),), ["a/m", "b/m"]),
    ("no such model", (A, deployment("a", "n")), (UpstreamRefusal("x", status=404),), ["a/m", "a/n"]),
    ("another model of the same upstream", (A, deployment("a", "n")), (FAULT, FAULT), ["a/m", "a/m", "a/n"]),
    ("other upstreams come before it", (A, deployment("a", "n"), B), (FAULT, FAULT), ["a/m", "a/m", "b/m"]),
    ("not where the upstream is down", (A, deployment("a", "n")), (DEAD,), ["a/m", "a/m"]),
    ("a malformed request", (A, B), (UpstreamRefusal("x"),), ["a/m", "stop"]),
    ("a full queue", (A, B), (NoUpstream("x"),), ["a/m", "b/m"]),
]


@pytest.mark.parametrize(("deployments", "errors", "way"), [row[1:] for row in WAYS], ids=[row[0] for row in WAYS])
def test_who_is_asked(deployments: tuple[Deployment, ...], errors: tuple[GatewayError, ...], way: list[str]) -> None:
    assert Setting(*deployments).way(*errors) == way


@pytest.mark.parametrize("error", [UpstreamKeyRefused("x"), HOUR, UpstreamOutOfCredit("x")])
def test_where_the_key_is_at_fault_the_other_key_is_next(error: GatewayError) -> None:
    first, second = Setting(TWO_KEYS, B).way(error)
    assert {first, second} == {"a/m#0", "a/m#1"}


def test_where_the_upstream_is_at_fault_its_other_key_is_no_help() -> None:
    setting = Setting(TWO_KEYS)
    assert len(set(setting.way(FAULT, FAULT, DEAD))) == 1


def test_attempts_are_bounded_over_all_deployments() -> None:
    assert Setting(A, B, C, attempts=2).way(DEAD, DEAD) == ["a/m", "b/m", "stop"]


def test_attempts_are_counted() -> None:
    setting = Setting(A, B)
    setting.way(FAULT, FAULT, FAULT)
    assert setting.plan.attempts == 4


# Circuits.


def test_an_open_circuit_is_passed_by() -> None:
    setting = Setting(A, B)
    setting.open("a/m")
    assert setting.next() == "b/m"
    assert setting.plan.attempts == 1


def test_when_no_circuit_admits_the_first_ones_refusal_is_raised() -> None:
    setting = Setting(A, B)
    setting.open("b/m")
    setting.open("a/m")
    with pytest.raises(NoUpstream, match="The circuit of a for m is open") as caught:
        setting.next()
    assert caught.value.code == "circuit_open"
    assert setting.plan.attempts == 0


def test_a_circuit_that_opened_meanwhile_is_not_waited_for() -> None:
    setting = Setting(A, B)
    assert setting.next() == "a/m"
    setting.open("a/m")
    assert setting.fail(FAULT) == Decision("next", "its circuit is open")
    assert setting.next() == "b/m"


def test_alone_the_call_stops_with_its_own_error_when_the_circuit_opened() -> None:
    setting = Setting(A)
    setting.next()
    setting.open("a/m")
    assert setting.fail(FAULT).action == "stop"


def test_a_candidate_whose_circuit_is_open_is_no_other() -> None:
    setting = Setting(A, B)
    setting.open("b/m")
    assert setting.way(DEAD) == ["a/m", "a/m"]


def ail(setting: Setting, *names: str) -> None:
    """Open circuits by a rate of 90 %."""
    for name in names:
        one = next(one for one in setting.route.deployments if one.name == name)
        plan = CallPlan(setting.policies, Route("other", (Group((one,), (1,)),)), "other", DEADLINE_S)
        for number in range(20):
            place = plan.next()
            place.permit.failed(FAULT) if number % 10 != 5 else place.permit.succeeded()
        assert [row["state"] for row in setting.policies.circuits.report() if row["upstream"] == name[0]] == ["open"]


def test_an_ailing_deployment_is_passed_by_while_there_is_another_one() -> None:
    setting = Setting(A, B, C)
    ail(setting, "a/m", "b/m")
    assert setting.way(DEAD, FAULT) == ["c/m", "c/m", "c/m"]


def test_where_all_are_ailing_or_dead_the_ailing_ones_are_asked_all_the_same() -> None:
    setting = Setting(A, B, C, budget_calls=10)
    setting.open("a/m")
    ail(setting, "b/m", "c/m")
    assert setting.way(FAULT, FAULT, FAULT, DEAD) == ["b/m", "b/m", "c/m", "c/m", "b/m"]


def test_alone_an_ailing_deployment_is_asked_as_any_other_and_carries_on() -> None:
    setting = Setting(A)
    ail(setting, "a/m")
    assert setting.way(FAULT, DEAD) == ["a/m", "a/m", "a/m"]
    assert setting.place is not None
    assert setting.plan.may_rescue(setting.place, DEADLINE_S - 1)


def test_a_call_whose_deployment_began_to_ail_while_it_was_in_the_queue_asks_again() -> None:
    setting = Setting(A)
    setting.next()
    ail(setting, "a/m")
    assert setting.fail(NoUpstream("x", code=CIRCUIT_OPEN)).action == "next"
    assert setting.next() == "a/m"


def test_a_call_that_left_says_nothing() -> None:
    setting = Setting(A)
    for _ in range(9):
        plan = setting.new_plan()
        plan.left(plan.next())
    assert setting.policies.circuits.report() == []


def test_success_closes_the_count_and_keeps_the_session_there() -> None:
    setting = Setting(A, B)
    group = Group((A, B), (1, 1))
    setting.route = Route("r", (group,))
    setting.plan = setting.new_plan()
    first = setting.next()
    for _ in range(2):
        setting.fail(FAULT)
        second = setting.next()
    assert second != first
    assert setting.place is not None
    setting.plan.succeeded(setting.place)
    setting.plan = setting.new_plan()
    assert setting.next() == second


# Waits and the budget.


def test_waiting_is_paid_for_and_going_on_is_not() -> None:
    setting = Setting(A, B, C, budget_percent=0.0, budget_calls=1)
    assert setting.way(FAULT, DEAD, DEAD) == ["a/m", "a/m", "b/m", "c/m"]
    assert setting.fail(FAULT).action == "stop"
    assert setting.policies.retries.budget.report()["retries"] == 1


def test_coming_back_costs_a_wait() -> None:
    setting = Setting(A, B)
    assert setting.way(DEAD) == ["a/m", "b/m"]
    setting.next()
    decision = setting.fail(FAULT)
    assert decision.action == "next"
    assert decision.wait_s > 0


# A rescue.


def test_after_a_death_the_others_come_first_and_attempts_count_anew() -> None:
    setting = Setting(A, B, attempts=2)
    setting.next()
    assert setting.place is not None
    setting.place.permit.failed(UpstreamBroken("x"))
    assert setting.plan.may_rescue(setting.place, setting.clock.monotonic())
    assert setting.next() == "b/m"
    assert setting.fail(DEAD).action == "next", "the one that died may be asked again"
    assert setting.next() == "a/m"
    assert setting.fail(FAULT).action == "stop"
    assert setting.plan.attempts == 3


def test_alone_the_one_that_died_carries_on_also_when_its_circuit_has_to_be_waited_for() -> None:
    setting = Setting(A)
    setting.next()
    assert setting.place is not None
    assert setting.plan.may_rescue(setting.place, setting.clock.monotonic())
    assert setting.next() == "a/m"
    setting.open("a/m")
    assert setting.plan.may_rescue(setting.place, setting.clock.monotonic())
    assert not setting.plan.may_rescue(setting.place, DEADLINE_S - 10), "its next probe is in 15 s"


# Waiting for a circuit.


def test_a_call_that_failed_waits_for_the_circuit_of_another_one() -> None:
    setting = Setting(A, B)
    assert setting.next() == "a/m"
    setting.open("b/m")
    decision = setting.fail(HOUR)
    assert decision == Decision("next", "the upstream asks for a wait of 3600 s, and an open circuit may close in time")
    with pytest.raises(NoUpstream):
        setting.plan.next()
    assert setting.plan.patience(setting.clock.monotonic()) == pytest.approx(15.0)
    setting.clock.monotonic_s += 15
    assert setting.next() == "b/m"


def test_a_call_that_was_turned_away_in_the_queue_was_no_attempt() -> None:
    setting = Setting(A)
    setting.next()
    setting.open("a/m")
    assert setting.fail(NoUpstream("x", code=CIRCUIT_OPEN)).action == "next"
    assert setting.plan.attempts == 0
    setting.clock.monotonic_s += 15
    assert setting.next() == "a/m"


def test_waiting_for_circuits_is_bounded() -> None:
    setting = Setting(A, B)
    setting.next()
    setting.open("b/m")
    setting.fail(HOUR)
    now_s = setting.clock.monotonic()
    assert setting.plan.patience(now_s) == pytest.approx(15.0)
    assert setting.plan.patience(now_s) is None, "no more than 30 s in all"


def test_a_probe_under_way_is_looked_after_again_and_again() -> None:
    setting = Setting(A, B)
    setting.next()
    setting.open("b/m")
    setting.fail(HOUR)
    setting.clock.monotonic_s += 15
    probing = CallPlan(setting.policies, Route("other", (Group((B,), (1,)),)), "other", DEADLINE_S).next()
    with pytest.raises(NoUpstream, match="A probe is under way"):
        setting.plan.next()
    assert setting.plan.patience(setting.clock.monotonic()) == pytest.approx(0.2)
    probing.permit.succeeded()
    assert setting.next() == "b/m"


def test_a_deployment_that_asked_to_be_left_alone_is_no_other() -> None:
    setting = Setting(A, B)
    other = CallPlan(setting.policies, Route("other", (Group((B,), (1,)),)), "other", DEADLINE_S).next()
    setting.policies.pacing.sent(other.lane).heard(429, {"retry-after": "60"})
    assert setting.next() == "a/m"
    assert setting.fail(DEAD).action == "wait"
    assert setting.next() == "a/m"
