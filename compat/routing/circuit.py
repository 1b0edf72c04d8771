"""Circuits: an upstream that fails is left alone for a while, then asked with one call.

    circuit = circuits.of(CircuitKey("anthropic", fingerprint_of(key), "claude-x"))
    permit = circuit.admit()               # NoUpstream at once while the circuit is open
    try:
        ...                                # the call; permit.committed() at its first content
        permit.succeeded()
    except GatewayError as error:
        permit.failed(error)               # counts only where the error's class says `trips_circuit`
        raise
    finally:
        permit.release()                   # whatever is left: a hang-up, a 4xx; neither success nor failure

`outcomes.py` says when a circuit opens. pybreaker holds the state, counts faults in a row, and decides what follows a probe; it is asked
and notified at once, while the call itself runs outside of it. Its own ways of running a call don't fit here: `call()` holds a lock while
the function runs, so that calls stand in line; `calling()` lets every call of a half-open circuit through; both count a client's hang-up
(`GeneratorExit`) as a failure.

A circuit that opened though some calls still end well is *ailing*: the plan passes it by while there is anybody else to ask, and asks it
all the same when there is nobody (`admit(despite=True)`). Where nothing ends well any more, it is dead, and only the probe is sent.

What this module adds: one probe at a time; the outcome of a call that was admitted before the circuit last opened is ignored, for it says
of a time that is over; a monotonic clock, for the cooldown must not depend on the wall clock being put right.

Gateways that share a Redis notify each other of openings and closings (`compat/cluster/circuits.py`); each sends a probe of its own.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pybreaker import STATE_CLOSED, STATE_OPEN, CircuitBreaker, CircuitMemoryStorage

from compat.clock import Clock
from compat.config.sections import CircuitSettings
from compat.errors import MAX_RETRY_AFTER_S, GatewayError, NoUpstream, UpstreamTimeout, UpstreamUnreachable
from compat.routing.outcomes import Outcomes

CIRCUIT_OPEN = "circuit_open"
"""The code of a refusal by a circuit."""

PROBE_RETRY_AFTER_S = 2
_MAX_CAUSE_CHARS = 500


@dataclass(frozen=True, slots=True)
class CircuitKey:
    """What a circuit is for. `credential` is the fingerprint of the key that the upstream is called with, empty without one."""

    upstream: str
    credential: str
    model: str

    def __str__(self) -> str:
        """`upstream/model`, with the credential's first digits: enough to tell keys apart, too few to tell what they are."""
        return f"{self.upstream}/{self.model}" + (f" (key {self.credential[:4]})" if self.credential else "")


@dataclass(frozen=True, slots=True)
class CircuitChange:
    """A circuit that changed: `state` is `closed`, `open` or `half-open`, `failures` the faults in a row, `cause` the last one's words.

    `is_dead`: none of its calls ends well any more.
    """

    key: CircuitKey
    state: str
    failures: int
    cause: str
    is_dead: bool = False


class _Fault(Exception):
    """The exception that pybreaker gets; never leaves this module."""


def fingerprint_of(credential: str) -> str:
    """A short name for a key that does not show it; empty for none."""
    return hashlib.sha256(credential.encode()).hexdigest()[:16] if credential else ""


class Circuits:
    """All circuits, made on first use. Mutable: the circuits; no step of it waits, so no lock is needed under gevent.

    `on_change` is called after every change of state.
    The least recently used closed circuits are forgotten beyond `max_circuits`.
    """

    def __init__(self, settings: CircuitSettings, clock: Clock, on_change: Callable[[CircuitChange], None]) -> None:
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._circuits: OrderedDict[CircuitKey, Circuit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._circuits)

    def of(self, key: CircuitKey) -> Circuit:
        """The circuit of `key`."""
        circuit = self._circuits.get(key)
        if circuit is not None:
            self._circuits.move_to_end(key)
            return circuit
        if len(self._circuits) >= self._settings.max_circuits:
            closed = (key for key, circuit in self._circuits.items() if circuit.state == STATE_CLOSED)
            del self._circuits[next(closed, next(iter(self._circuits)))]
        circuit = self._circuits[key] = Circuit(key, self._settings, self._clock, self._on_change)
        return circuit

    def forget(self, upstreams: Collection[str]) -> None:
        """Forget the circuits of upstreams that are not what they were."""
        for key in [key for key in self._circuits if key.upstream in upstreams]:
            del self._circuits[key]

    def hear(self, change: CircuitChange, opened_at_s: float) -> None:
        """Another gateway opened a circuit, at a time in seconds since 1970, or found its upstream well again.

        Of a circuit that nobody here has used, only an opening matters.
        """
        if change.state == STATE_OPEN or change.key in self._circuits:
            self.of(change.key).hear(change, opened_at_s)

    def report(self) -> list[Mapping[str, object]]:
        """The state of every circuit worth reporting: not closed, or with failures counted."""
        return [circuit.report() for circuit in self._circuits.values() if circuit.state != STATE_CLOSED or circuit.failures]


class Circuit:
    """One circuit. Mutable: the storage, the probe, what was last seen."""

    def __init__(self, key: CircuitKey, settings: CircuitSettings, clock: Clock, on_change: Callable[[CircuitChange], None]) -> None:
        self.key = key
        self._cooldown_s = settings.cooldown_s
        self._fail_max = settings.failures
        self._storage = CircuitMemoryStorage(STATE_CLOSED)
        self._breaker = CircuitBreaker(
            fail_max=sys.maxsize,  # when it opens is for the outcomes to say
            reset_timeout=settings.cooldown_s,
            success_threshold=settings.successes,
            state_storage=self._storage,
            throw_new_error_on_trip=False,
        )
        self._clock = clock
        self._on_change = on_change
        self._cause = ""
        self._seen_state = STATE_CLOSED
        self._open_until_s = 0.0
        self._probe: Permit | None = None
        self._outcomes = Outcomes(settings)
        self._is_dead_elsewhere: bool | None = None
        self.era = 0

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        return self._breaker.current_state

    @property
    def failures(self) -> int:
        """Faults in a row."""
        return max(self._breaker.fail_counter, self._outcomes.run)

    @property
    def is_admitting(self) -> bool:
        """Whether `admit` would let a call through now."""
        return self.state == STATE_CLOSED or (self._probe is None and self._wait_s() <= 0)

    @property
    def opens_in_s(self) -> float:
        """Seconds until a call may be let through: 0 when it would be now, or when a probe that is under way decides it."""
        return max(self._wait_s(), 0.0)

    @property
    def is_ailing(self) -> bool:
        """Whether it would not admit a call, and yet some calls end well there: better than nobody."""
        return not self.is_admitting and not self._is_dead

    def admit(self, *, despite: bool = False) -> Permit:
        """Leave for one call. `NoUpstream` while it is open, or half open with its probe under way, unless `despite` that it is ailing."""
        if not self.is_admitting:
            if despite and not self._is_dead:
                return self._permit()
            raise self._refusal()
        permit = self._permit()
        if self.state == STATE_OPEN:
            self._breaker.half_open()
            self._note_change()
        if self.state != STATE_CLOSED:
            self._probe = permit
        return permit

    def settle(self, permit: Permit, fault: GatewayError | None) -> None:
        """Hear how the call of `permit` ended: with a fault, or well."""
        is_probe = self._probe is permit
        self.forget(permit)
        if permit.era != self.era:
            return
        is_news = self._note(permit, fault)
        if not (is_probe or (self.state == STATE_CLOSED and is_news)):
            return
        try:
            self._breaker.call(_raise if fault is not None else _pass)
        except _Fault as told:
            told.__traceback__ = None  # of frames that hold it
        if self.state == STATE_CLOSED and fault is not None and self._outcomes.is_failing(self._clock.monotonic()):
            self._breaker.open()
        self._note_change()

    def committed(self, permit: Permit) -> None:
        """The call of `permit` has shown content. A probe has done its job by then."""
        if self._probe is permit:
            self.settle(permit, None)
        elif permit.era == self.era:
            self._outcomes.committed(permit.number)

    def _note(self, permit: Permit, fault: GatewayError | None) -> bool:
        """Put it in the books; whether it says anything about the time since the last faults."""
        now_s = self._clock.monotonic()
        if fault is None:
            self._is_dead_elsewhere = None
            return self._outcomes.ended_well(permit.number, now_s)
        self._cause = fault.message[:_MAX_CAUSE_CHARS]
        is_unheard = isinstance(fault, UpstreamUnreachable | UpstreamTimeout)
        self._outcomes.ended_badly(permit.number, now_s, is_unheard=is_unheard)
        return True

    def hear(self, change: CircuitChange, opened_at_s: float) -> None:
        """Open or close as another gateway did. Half open, our own probe decides, unless the others report that all is well."""
        if (change.state == STATE_OPEN) != (self.state == STATE_CLOSED):
            return
        self._storage.reset_counter()
        if change.state == STATE_OPEN:
            self._is_dead_elsewhere = change.is_dead
            self._cause = change.cause
            for _ in range(min(change.failures, self._fail_max)):
                self._storage.increment_counter()
        self._probe = None
        self._storage.state = change.state
        self._note_change(open_for_s=max(self._clock.now() - opened_at_s, 0.0))

    def forget(self, permit: Permit) -> None:
        """Hear no more of the call of `permit`; let another call probe, if it was the probe."""
        if self._probe is permit:
            self._probe = None
        self._outcomes.forget(permit.number)

    def report(self) -> dict[str, object]:
        """What a person wants to know. `next_probe_s` 0: the next call probes."""
        report: dict[str, object] = {
            "upstream": self.key.upstream,
            "model": self.key.model,
            "key": self.key.credential[:4],
            "state": self.state,
            "failures": self.failures,
            "cause": self._cause,
        }
        if self.state == STATE_OPEN:
            report["next_probe_s"] = round(max(self._wait_s(), 0.0), 1)
        return report

    def _note_change(self, open_for_s: float = 0.0) -> None:
        """Record a change of state, if there is one: an opening begins an era and a cooldown, of which a part may be over."""
        state = self.state
        if state == self._seen_state:
            return
        self._seen_state = state
        if state == STATE_CLOSED:
            self._is_dead_elsewhere = None
            self._outcomes.forget_all()
        if state == STATE_OPEN:
            self.era += 1
            self._probe = None
            self._open_until_s = self._clock.monotonic() + max(self._cooldown_s - open_for_s, 0.0)
        is_dead = state != STATE_CLOSED and self._is_dead
        self._on_change(CircuitChange(self.key, state, self.failures, self._cause, is_dead))

    @property
    def _is_dead(self) -> bool:
        if self._is_dead_elsewhere is not None and (self._is_dead_elsewhere or not self._outcomes.calls):
            return self._is_dead_elsewhere
        return self._outcomes.is_dead

    def _permit(self) -> Permit:
        return Permit(self, self.era, self._outcomes.begin(self._clock.monotonic()))

    def _wait_s(self) -> float:
        return self._open_until_s - self._clock.monotonic() if self.state == STATE_OPEN else 0.0

    def _refusal(self) -> NoUpstream:
        wait_s = math.ceil(self._wait_s())
        when = f"The next probe is in {wait_s} s." if wait_s > 0 else "A probe is under way."
        cause = f"; the last one: {self._cause.rstrip('.')}" if self._cause else ""
        counts = f"{self.failures} faults in a row" if self._is_dead else self._outcomes.words
        return NoUpstream(
            f"The circuit of {self.key.upstream} for {self.key.model} is open: {counts}{cause}. {when}",
            code=CIRCUIT_OPEN,
            retry_after_s=min(wait_s, MAX_RETRY_AFTER_S) if wait_s > 0 else PROBE_RETRY_AFTER_S,
        )


class Permit:
    """Leave for one call; the first of `succeeded`, `failed` and `release` counts, later ones do nothing."""

    __slots__ = ("_circuit", "_is_settled", "era", "number")

    def __init__(self, circuit: Circuit, era: int, number: int) -> None:
        self._circuit = circuit
        self._is_settled = False
        self.era = era
        self.number = number

    @property
    def key(self) -> CircuitKey:
        """What the circuit is for."""
        return self._circuit.key

    @property
    def is_stale(self) -> bool:
        """Whether the circuit opened since: the call that was admitted should not be made."""
        return self.era != self._circuit.era

    def committed(self) -> None:
        """The first content came: a probe has done its job, and does not hold others up until its end.

        For any other call the whole answer counts; else an upstream that cuts every stream would never be found out.
        """
        self._circuit.committed(self)

    def succeeded(self) -> None:
        """The answer is complete."""
        if not self._is_settled:
            self._is_settled = True
            self._circuit.settle(self, None)

    def failed(self, error: GatewayError) -> None:
        """The call ended with `error`: a fault of the upstream counts, anything else is a `release`."""
        if not error.trips_circuit:
            self.release()
        elif not self._is_settled:
            self._is_settled = True
            self._circuit.settle(self, error)

    def release(self) -> None:
        """The call ended without saying anything about the upstream's health."""
        self._is_settled = True
        self._circuit.forget(self)


def _pass() -> None:
    pass


def _raise() -> None:
    raise _Fault
