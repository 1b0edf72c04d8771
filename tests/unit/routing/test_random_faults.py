"""Calls over deployments whose faults are drawn by lot, with the default settings and a clock that jumps from event to event."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from compat.config.sections import AdmissionSettings, AffinitySettings, CircuitSettings, PacingSettings, RescueSettings, RetrySettings
from compat.errors import (
    GatewayError,
    NoUpstream,
    UpstreamBroken,
    UpstreamFailure,
    UpstreamRateLimit,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from compat.routing.admission import Gates
from compat.routing.affinity import Affinity
from compat.routing.circuit import Circuits
from compat.routing.pacing import Pacing
from compat.routing.plan import CallPlan, Policies
from compat.routing.retry import Retries
from compat.routing.router import Group, Route
from tests.unit.builders import StillClock
from tests.unit.routing.test_plan import deployment

AT_ONCE = 64
BEGINS_S, LASTS_S = 0.3, 1.0

# Each kind of fault: what it is, after how many seconds, and whether the client has seen something by then.
KINDS: list[tuple[Callable[[], GatewayError], float, bool]] = [
    (lambda: UpstreamFailure("500"), 0.02, False),
    (lambda: UpstreamRateLimit("429"), 0.02, False),
    (lambda: UpstreamUnreachable("reset"), 0.01, False),
    (lambda: UpstreamBroken("cut before content"), 0.05, False),
    (lambda: UpstreamBroken("malformed"), 0.05, False),
    (lambda: UpstreamTimeout("silent"), 1.5, False),
    (lambda: UpstreamBroken("cut within"), 0.6, True),
]


class Simulation:
    """Deployments with a share of faults each, and 64 calls at a time over all of them."""

    def __init__(self, *shares: float, seed: int = 1) -> None:
        self.clock = StillClock()
        self.dice = random.Random(seed)
        self.shares = {f"up{number}/m": share for number, share in enumerate(shares)}
        group = tuple(deployment(f"up{number}") for number in range(len(shares)))
        self.route = Route("r", (Group(group, (1,) * len(group)),))
        self.asked: Counter[str] = Counter()
        self.openings = 0
        self.policies = Policies(
            Circuits(CircuitSettings(), self.clock, self._on_change),
            Retries(RetrySettings(), self.clock.monotonic, self.dice.random),
            Affinity(AffinitySettings(), self.clock.monotonic),
            Gates(AdmissionSettings(), self.clock.monotonic),
            Pacing(PacingSettings(), self.clock),
        )

    def run(self, calls: int) -> Counter[str]:
        """How they ended: `right`, or the code of their error."""
        ends: Counter[str] = Counter()
        numbers = iter(range(calls))
        queue = [(self.clock.monotonic_s, number, self._call(number, ends)) for number in islice(numbers, AT_ONCE)]
        heapq.heapify(queue)
        while queue:
            self.clock.monotonic_s, number, steps = heapq.heappop(queue)
            wait_s = next(steps, None)
            if wait_s is not None:
                heapq.heappush(queue, (self.clock.monotonic_s + wait_s, number, steps))
            elif (number := next(numbers, -1)) >= 0:
                heapq.heappush(queue, (self.clock.monotonic_s, number, self._call(number, ends)))
        return ends

    def _on_change(self, change: object) -> None:
        self.openings += getattr(change, "state", "") == "open"

    def _call(self, number: int, ends: Counter[str]) -> Iterator[float]:
        """What the pipeline does with a plan; hands out the seconds that pass."""
        now = self.clock.monotonic
        plan = CallPlan(self.policies, self.route, f"session {number}", now() + 3600)
        deaths = 0
        while True:
            try:
                place = plan.next()
            except NoUpstream as error:
                wait_s = plan.patience(now()) if plan.attempts else None
                if wait_s is None:
                    ends[str(error.code)] += 1
                    return
                yield wait_s
                continue
            name = place.candidate.deployment.name
            self.asked[name] += 1
            if self.dice.random() >= self.shares[name]:
                yield BEGINS_S
                place.permit.committed()
                yield LASTS_S
                plan.succeeded(place)
                plan.left(place)
                ends["right"] += 1
                return
            make, seconds, is_shown = self.dice.choice(KINDS)
            yield seconds
            if is_shown:
                place.permit.committed()
                place.permit.failed(make())
                plan.left(place)
                deaths += 1
                if deaths <= RescueSettings().times and plan.may_rescue(place, now()):
                    continue
                ends["cut"] += 1
                return
            error = make()
            decision = plan.failed(place, error, now())
            plan.left(place)
            if decision.action == "stop":
                ends[str(error.code)] += 1
                return
            yield decision.wait_s


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shares", [(0.3,), (0.3, 0.3), (0.3, 0.3, 0.3)], ids=["one", "two", "three"])
def test_random_faults_cost_next_to_no_answer(shares: tuple[float, ...], seed: int) -> None:
    ends = Simulation(*shares, seed=seed).run(2000)
    assert ends["right"] >= 1990, ends
    assert not ends["circuit_open"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_faults_open_no_circuit(seed: int) -> None:
    simulation = Simulation(0.3, 0.3, seed=seed)
    simulation.run(2000)
    assert simulation.openings == 0


def test_a_dead_deployment_is_not_asked_on_every_call() -> None:
    simulation = Simulation(1.0, 0.0)
    begun_s = simulation.clock.monotonic_s
    ends = simulation.run(2000)
    probes = (simulation.clock.monotonic_s - begun_s) / CircuitSettings().cooldown_s + 1
    assert ends["right"] == 2000
    assert simulation.asked["up0/m"] < 2 * AT_ONCE + probes


@pytest.mark.slow
def test_where_all_are_dead_calls_end_at_once_and_nobody_is_asked() -> None:
    simulation = Simulation(1.0, 1.0)
    ends = simulation.run(2000)
    assert ends["circuit_open"] > 1800
    assert simulation.asked.total() < 6 * AT_ONCE


def test_a_deployment_that_mostly_fails_is_passed_by_while_another_one_is_well() -> None:
    simulation = Simulation(0.9, 0.0)
    ends = simulation.run(2000)
    assert ends["right"] == 2000
    assert simulation.asked["up0/m"] < 300


@pytest.mark.slow
def test_where_all_mostly_fail_they_are_asked_all_the_same() -> None:
    """Six attempts of which 80 % fail give 74 % of right answers; circuits that shut everybody out would leave few of them."""
    simulation = Simulation(0.8, 0.8)
    ends = simulation.run(2000)
    assert simulation.openings
    assert ends["right"] > 1300, ends
    assert not ends["circuit_open"]
