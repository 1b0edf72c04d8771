"""Where a call goes next: one plan per call, over its route's deployments and keys.

    plan = CallPlan(policies, route, session, deadline_s)
    place = plan.next()                    # a candidate that its circuit admits; NoUpstream when there is none
    ...                                    # the attempt
    plan.succeeded(place)                  # or: decision = plan.failed(place, error, now_s), before any content
    plan.left(place)                       # always: a hang-up says nothing about the upstream

The order is affinity's, whether a deployment may be called is its circuit's word, what follows a failure is for `retry_decision`. Where no
circuit admits the call, it goes all the same to one whose calls still end well now and then: circuits never take the last of those away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from compat.errors import MAX_RETRY_AFTER_S, GatewayError, NoUpstream, UpstreamBroken, UpstreamRateLimit, UpstreamUnreachable
from compat.routing.admission import Gates
from compat.routing.affinity import Affinity, Candidate, after_failure, may_help
from compat.routing.circuit import Circuit, CircuitKey, Circuits, Permit, fingerprint_of
from compat.routing.pacing import Advice, Pacing
from compat.routing.retry import Decision, Progress, Retries, is_circuits, is_key_at_fault, is_lasting
from compat.routing.router import Route

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy objects that calls share."""

    circuits: Circuits
    retries: Retries
    affinity: Affinity
    gates: Gates
    pacing: Pacing


@dataclass(frozen=True, slots=True)
class Place:
    """A candidate, and the circuit's leave to call it; after `wait_s`, by the upstream's own word on its rate limits."""

    candidate: Candidate
    permit: Permit
    wait_s: float = 0.0

    @property
    def lane(self) -> CircuitKey:
        """What the upstream counts together: itself, the key, the model."""
        return self.permit.key


@dataclass(slots=True)
class CallPlan:
    """One call's way over its candidates. Mutable: all but the first four fields.

    `attempts` counts all that were made, `_waited_s` the time that was spent on waiting for circuits: as much as an upstream may ask for.
    """

    policies: Policies
    route: Route
    session: str
    deadline_s: float
    attempts: int = 0
    _candidates: list[Candidate] = field(init=False)
    _attempts_before: int = 0
    _tries: dict[tuple[str, int], int] = field(default_factory=dict)
    _previous_wait_s: float = 0.0
    _waited_s: float = 0.0

    def __post_init__(self) -> None:
        self._candidates = self.policies.affinity.plan(self.session, self.route)
        self.policies.retries.budget.note_call()

    def next(self) -> Place:
        """The first candidate that may be called now; one whose rate limit is used up only when there is no other.

        The error of the first that may not, when none may. Errors: `NoUpstream`, `UpstreamRateLimit`.
        """
        refusal: NoUpstream | None = None
        full: list[tuple[Advice, Candidate]] = []
        ailing: list[tuple[Advice, Candidate]] = []
        for candidate in self._candidates:
            advice = self.policies.pacing.advice(self._circuit(candidate).key)
            if advice.action == "switch":
                full.append((advice, candidate))
                continue
            try:
                return self._take(candidate, advice.wait_s)
            except NoUpstream as error:
                refusal = refusal or error
                if self._circuit(candidate).is_ailing:
                    ailing.append((advice, candidate))
        if ailing:
            advice, candidate = ailing[0]
            return self._take(candidate, advice.wait_s, despite=True)
        if full and refusal is None:
            advice, candidate = min(full, key=lambda one: one[0].wait_s)
            if advice.wait_s <= MAX_RETRY_AFTER_S:
                return self._take(candidate, advice.wait_s)
            words = f"{candidate.deployment.upstream.name} has no room for {math.ceil(advice.wait_s)} s: {advice.reason}."
            raise UpstreamRateLimit(words, retry_after_s=advice.wait_s)
        raise refusal or NoUpstream("Every deployment of this route has failed.")

    def _take(self, candidate: Candidate, wait_s: float, *, despite: bool = False) -> Place:
        permit = self._circuit(candidate).admit(despite=despite)
        self.attempts += 1
        self._tries[_name(candidate)] = self._tries.get(_name(candidate), 0) + 1
        return Place(candidate, permit, wait_s)

    def failed(self, place: Place, error: GatewayError, now_s: float) -> Decision:
        """What to do after `error`, which came before any content; where it is to go on, `next` gives another candidate."""
        self.charge(place, error)
        rest = after_failure(self._candidates, place.candidate, is_key_at_fault=is_key_at_fault(error))
        rest.sort(key=self._was_tried)
        kept = rest if is_lasting(error, self.policies.retries.settings) else [*rest, place.candidate]
        if is_circuits(error):  # it was not called at all
            self.attempts -= 1
        helpers = kept if is_circuits(error) else [one for one in rest if may_help(error, place.candidate, one)]
        usable = [one for one in helpers if self._is_open_to_calls(one)]
        is_open = not self._circuit(place.candidate).is_admitting
        if is_open and not usable:
            usable = [one for one in helpers if self._circuit(one).is_ailing]
            is_open = not self._circuit(place.candidate).is_ailing
        again = sum(self._was_tried(one) for one in usable)
        closed = [one for one in helpers if not self._circuit(one).is_admitting]
        progress = Progress(
            attempts=self.attempts - self._attempts_before,
            tries_here=self._tries.get(_name(place.candidate), 0),
            others=len(usable) - again,
            remaining_s=self.deadline_s - now_s,
            previous_wait_s=self._previous_wait_s,
            is_open=is_open,
            again=again,
            is_awaitable=self._wait_s(closed, now_s) is not None,
        )
        decision = self.policies.retries.decide(error, progress)
        self._previous_wait_s = decision.wait_s or self._previous_wait_s
        if decision.action == "next":
            self._candidates = kept
        return decision

    def charge(self, place: Place, error: GatewayError) -> None:
        """Tell the circuit of a fault.

        A broken connection to the embedded engine is that of our own child, which is started again: calls wait for it, and no circuit
        may keep them from it when it is back.
        """
        if place.candidate.deployment.is_embedded and isinstance(error, UpstreamUnreachable | UpstreamBroken):
            place.permit.release()
        else:
            place.permit.failed(error)

    def may_rescue(self, place: Place, now_s: float) -> bool:
        """Whether somebody may carry on the answer in whose middle a candidate died; it comes last from now on; attempts start again."""
        rest = after_failure(self._candidates, place.candidate, is_key_at_fault=False)
        self._candidates = [*rest, place.candidate]
        self._attempts_before = self.attempts
        self._tries.clear()
        return self._wait_s(self._candidates, now_s) is not None

    def patience(self, now_s: float) -> float | None:
        """How long a call that is under way waits before it asks for the `next` place again; `None` when no circuit will open in time."""
        wait_s = self._wait_s(self._candidates, now_s)
        if wait_s is not None:
            wait_s = max(wait_s, _POLL_S)
            self._waited_s += wait_s
        return wait_s

    def _wait_s(self, candidates: Sequence[Candidate], now_s: float) -> float | None:
        """Seconds until the first of their circuits lets a call through, if this one has the time."""
        circuits = [self._circuit(one) for one in candidates]
        soonest_s = min((0.0 if circuit.is_ailing else circuit.opens_in_s for circuit in circuits), default=math.inf)
        most_s = min(self.policies.retries.settings.max_retry_after_s - self._waited_s, self.deadline_s - now_s)
        return soonest_s if soonest_s < most_s else None

    def succeeded(self, place: Place) -> None:
        """The answer is complete: the session stays here."""
        place.permit.succeeded()
        self.policies.affinity.keep(self.session, self.route, place.candidate)

    def left(self, place: Place) -> None:
        """The attempt is over, however it ended."""
        place.permit.release()

    def _is_open_to_calls(self, candidate: Candidate) -> bool:
        circuit = self._circuit(candidate)
        return circuit.is_admitting and self.policies.pacing.advice(circuit.key).action != "switch"

    def _was_tried(self, candidate: Candidate) -> bool:
        return _name(candidate) in self._tries

    def _circuit(self, candidate: Candidate) -> Circuit:
        key = candidate.key
        deployment = candidate.deployment
        return self.policies.circuits.of(
            CircuitKey(deployment.upstream.name, fingerprint_of(key.reveal()) if key else "", deployment.target)
        )


def _name(candidate: Candidate) -> tuple[str, int]:
    return candidate.deployment.name, candidate.key_index
