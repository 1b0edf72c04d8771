"""What to do with an attempt that failed: wait and ask the same deployment again, go on to the next one, or stop.

`retry_decision` is a pure function of the error, the call's progress, the settings, a random number and the room in the
budget. Its rules, the first that fits wins:

1. The time is up, the attempts are used up, or another attempt can't help (the request is at fault): stop. (An attempt whose content was
   shown does not come here: see `compat.calls.resume`.)
2. The fault lies with this deployment (its key, its credit, no such model there, queue full, a parameter it does not know), or its
   circuit is open now: the next one.
3. The upstream asks for a longer wait than `max_retry_after_s`: the next one.
4. It could not be reached, or took its whole time: the next one, if there is one. Asking again would double what the client has waited.
5. It was asked `tries_per_deployment` times: the next one, if there is one.
6. Neither the retry budget nor the deadline may be overdrawn: the next one.
7. Wait: as long as the upstream asks for, else with decorrelated jitter, which keeps calls that failed together from coming back together.

Where the next one is due and all were asked, those whose fault may have passed are asked again, after a wait, or one is waited for whose
circuit is about to let a call through; where there are none, the call stops. The budget is for waits only: it keeps a broken upstream from
being asked many times over by everyone, while each further deployment is asked once and guarded by its own circuit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from compat.config.sections import RetrySettings
from compat.errors import (
    GatewayError,
    NoUpstream,
    Unsupported,
    UpstreamKeyRefused,
    UpstreamOutOfCredit,
    UpstreamRateLimit,
    UpstreamRefusal,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from compat.routing.circuit import CIRCUIT_OPEN

WINDOW_S = 60
_ASKED_JITTER = 0.1
_ASKED_JITTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call has come when an attempt fails.

    `attempts` and `tries_here` count the failed one; `others` are candidates that would take the call now and were not asked yet, `again`
    those that were and may be asked again. `previous_wait_s` is the last wait that was drawn, 0 before the first. `is_open`: its circuit
    would refuse another try. `is_awaitable`: the circuit of another one will soon let a call through.
    """

    attempts: int
    tries_here: int
    others: int
    remaining_s: float
    previous_wait_s: float = 0.0
    is_open: bool = False
    again: int = 0
    is_awaitable: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """After `wait_s`, `wait`: ask the same deployment again; `next`: go on to the next one; or `stop`. `reason` is for the log."""

    action: Literal["wait", "next", "stop"]
    reason: str
    wait_s: float = 0.0


def retry_decision(error: GatewayError, progress: Progress, settings: RetrySettings, chance: float, *, has_budget: bool) -> Decision:
    """What to do after `error`; `chance` is a number from 0 to 1."""
    if reason := _reason_to_stop(error, progress, settings):
        return Decision("stop", reason)
    wait_s = _wait_s(error.retry_after_s, progress.previous_wait_s, settings, chance)
    if reason := _reason_to_go_on(error, progress, settings, wait_s, has_budget=has_budget):
        if progress.others:
            return Decision("next", reason)
        wait_s = _wait_s(None, progress.previous_wait_s, settings, chance)
        if progress.again and has_budget and wait_s < progress.remaining_s:
            return Decision("next", f"{reason}, and the others are asked again", wait_s)
        if progress.is_awaitable:
            return Decision("next", f"{reason}, and an open circuit may close in time")
        return Decision("stop", f"{reason}, and no other deployment is left")
    return Decision("wait", "another attempt may succeed", wait_s)


def is_key_at_fault(error: GatewayError) -> bool:
    """Whether the same upstream may answer better when it is called with another key: refused, used up, or out of credit."""
    return isinstance(error, UpstreamKeyRefused | UpstreamOutOfCredit | UpstreamRateLimit)


def _reason_to_stop(error: GatewayError, progress: Progress, settings: RetrySettings) -> str:
    if not (error.retryable or _is_deployment_at_fault(error)):
        return "another attempt would fail in the same way"
    if progress.attempts >= settings.attempts:
        return "the attempts are used up"
    return "the time is up" if progress.remaining_s <= 0 else ""


def _reason_to_go_on(error: GatewayError, progress: Progress, settings: RetrySettings, wait_s: float, *, has_budget: bool) -> str:
    if _is_deployment_at_fault(error):
        return "this deployment can't serve the call"
    if progress.is_open:
        return "its circuit is open"
    if (error.retry_after_s or 0.0) > settings.max_retry_after_s:
        return f"the upstream asks for a wait of {error.retry_after_s:g} s"
    if progress.others and isinstance(error, UpstreamTimeout | UpstreamUnreachable):
        return "the upstream did not respond"
    if (progress.others or progress.again) and progress.tries_here >= settings.tries_per_deployment:
        return "the deployment was tried often enough"
    if not has_budget:
        return "the retry budget is used up"
    return "the time left is too short for a wait" if wait_s >= progress.remaining_s else ""


def is_lasting(error: GatewayError, settings: RetrySettings) -> bool:
    """Whether the same deployment will not do better within this call."""
    return not is_circuits(error) and (_is_deployment_at_fault(error) or (error.retry_after_s or 0.0) > settings.max_retry_after_s)


def is_circuits(error: GatewayError) -> bool:
    """Whether it was an open circuit of ours that turned the call away, without the upstream being asked."""
    return isinstance(error, NoUpstream) and error.code == CIRCUIT_OPEN


def _is_deployment_at_fault(error: GatewayError) -> bool:
    """Whether another deployment may serve what this one will not, however often it is asked."""
    if isinstance(error, UpstreamKeyRefused | UpstreamOutOfCredit | NoUpstream | Unsupported):
        return True
    return isinstance(error, UpstreamRefusal) and error.status == 404


def _wait_s(asked_s: float | None, previous_s: float, settings: RetrySettings, chance: float) -> float:
    """The wait an upstream asks for and a little more; else one drawn between the first wait and three times the previous one."""
    if asked_s:
        return asked_s + chance * min(asked_s * _ASKED_JITTER, _ASKED_JITTER_S)
    first_s = settings.first_wait_s
    most_s = max(previous_s, first_s) * 3
    return min(first_s + chance * (most_s - first_s), settings.max_wait_s)


class RetryBudget:
    """How many waits the calls of the last minute allow. Mutable: counts by the second, at most 61 of them; no step of it waits."""

    def __init__(self, settings: RetrySettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._seconds: deque[list[int]] = deque()  # [second, calls, retries]
        self._calls = 0
        self._retries = 0

    def note_call(self) -> None:
        """Count a call: once, whatever its attempts."""
        self._now()[1] += 1
        self._calls += 1

    def take(self) -> bool:
        """Take one retry out of the budget; false when there is none."""
        if not self.has_left():
            return False
        self._now()[2] += 1
        self._retries += 1
        return True

    def has_left(self) -> bool:
        """Whether a retry may be made now."""
        self._now()
        return self._retries + 1 <= self._calls * self._settings.budget_percent / 100 + self._settings.budget_calls

    def report(self) -> dict[str, int]:
        """Calls and retries of the last minute."""
        self._now()
        return {"calls": self._calls, "retries": self._retries}

    def _now(self) -> list[int]:
        """The present second's counts, after forgetting those that are a minute old."""
        second = int(self._clock())
        while self._seconds and self._seconds[0][0] <= second - WINDOW_S:
            _, calls, retries = self._seconds.popleft()
            self._calls -= calls
            self._retries -= retries
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        return self._seconds[-1]


class Retries:
    """The policy with its budget and its dice. Mutable: the budget."""

    def __init__(self, settings: RetrySettings, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self.settings = settings
        self._random = random
        self.budget = RetryBudget(settings, clock)

    def decide(self, error: GatewayError, progress: Progress) -> Decision:
        """What to do after `error`; a wait is paid for out of the budget."""
        decision = retry_decision(error, progress, self.settings, self._random(), has_budget=self.budget.has_left())
        if decision.wait_s or decision.action == "wait":
            self.budget.take()
        return decision
