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

pybreaker holds the state and the rules by which it changes (closed, open, half-open), and is asked and told in no time: the call itself
runs outside of it. Its own ways of running a call don't fit here: `call()` holds a lock while the function runs, so that calls stand in
line; `calling()` lets every call of a half-open circuit through; both count a client's hang-up (`GeneratorExit`) as a failure.

What this module adds: one probe at a time; the word of a call that was admitted before the circuit last opened is not heard, for it tells
of a time that is over; a monotonic clock, for the cooldown must not depend on the wall clock being put right.

Gateways that share a Redis tell each other of openings and closings (`circuit_board.py`); each sends a probe of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pybreaker import STATE_CLOSED, STATE_OPEN, CircuitBreaker, CircuitMemoryStorage

from compat.errors import MAX_RETRY_AFTER_S, GatewayError, NoUpstream
from compat.sections import CircuitSettings

PROBE_RETRY_AFTER_S = 2
_MAX_CAUSE_CHARS = 500


class Clock(Protocol):
    """Both kinds of time."""

    def monotonic(self) -> float:
        """Seconds for measuring."""
        ...

    def now(self) -> float:
        """Seconds since 1970."""
        ...


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
    """A circuit that changed: `state` is `closed`, `open` or `half-open`, `cause` the words of the last fault."""

    key: CircuitKey
    state: str
    failures: int
    cause: str


class _Fault(Exception):
    """What pybreaker is told; never leaves this module."""


def fingerprint_of(credential: str) -> str:
    """A short name for a key that does not show it; empty for none."""
    return hashlib.sha256(credential.encode()).hexdigest()[:16] if credential else ""


def memory_storage(_name: str) -> CircuitMemoryStorage:
    """pybreaker's storage for one worker."""
    return CircuitMemoryStorage(STATE_CLOSED)


class Circuits:
    """All circuits, made on first use. Mutable: the circuits; no step of it waits, so no lock is needed under gevent.

    `on_change` hears of every change of state, after it. `make_storage` gets a name and makes one of pybreaker's storages.
    The least recently used closed circuits are forgotten beyond `max_circuits`.
    """

    def __init__(
        self,
        settings: CircuitSettings,
        clock: Clock,
        on_change: Callable[[CircuitChange], None],
        make_storage: Callable[[str], CircuitMemoryStorage] = memory_storage,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._make_storage = make_storage
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
        storage = self._make_storage(f"{key.upstream}:{key.credential}:{key.model}")
        circuit = self._circuits[key] = Circuit(key, self._settings, storage, self._clock, self._on_change)
        return circuit

    def hear(self, change: CircuitChange, opened_at_s: float) -> None:
        """Another gateway opened a circuit, at a time in seconds since 1970, or found its upstream well again.

        Of a circuit that nobody here has used, only an opening matters.
        """
        if change.state == STATE_OPEN or change.key in self._circuits:
            self.of(change.key).hear(change, opened_at_s)

    def report(self) -> list[Mapping[str, object]]:
        """The state of every circuit that has one to tell: not closed, or with failures counted."""
        return [circuit.report() for circuit in self._circuits.values() if circuit.state != STATE_CLOSED or circuit.failures]


class Circuit:
    """One circuit. Mutable: the storage, the probe, what was last seen and heard."""

    def __init__(
        self,
        key: CircuitKey,
        settings: CircuitSettings,
        storage: CircuitMemoryStorage,
        clock: Clock,
        on_change: Callable[[CircuitChange], None],
    ) -> None:
        self.key = key
        self._cooldown_s = settings.cooldown_s
        self._fail_max = settings.failures
        self._storage = storage
        self._breaker = CircuitBreaker(
            fail_max=settings.failures,
            reset_timeout=settings.cooldown_s,
            success_threshold=settings.successes,
            state_storage=storage,
            throw_new_error_on_trip=False,
        )
        self._clock = clock
        self._on_change = on_change
        self._cause = ""
        self._seen_state = STATE_CLOSED
        self._seen_opening: datetime | None = None
        self._open_until_s = 0.0
        self._probe: Permit | None = None
        self.era = 0

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        return self._breaker.current_state

    @property
    def failures(self) -> int:
        """Faults in a row."""
        return self._breaker.fail_counter

    @property
    def is_admitting(self) -> bool:
        """Whether `admit` would let a call through now."""
        self._look()
        return self.state == STATE_CLOSED or (self._probe is None and self._wait_s() <= 0)

    @property
    def opens_in_s(self) -> float:
        """Seconds until a call may be let through: 0 when it would be now, or when a probe that is under way decides it."""
        self._look()
        return max(self._wait_s(), 0.0)

    def admit(self) -> Permit:
        """Leave for one call. `NoUpstream` while the circuit is open, or half open with its probe under way."""
        if not self.is_admitting:
            raise self._refusal()
        if self.state == STATE_CLOSED:
            return Permit(self, self.era)
        if self.state == STATE_OPEN:
            self._breaker.half_open()
            self._look()
        self._probe = Permit(self, self.era)
        return self._probe

    def settle(self, permit: Permit, fault: GatewayError | None) -> None:
        """Hear how the call of `permit` ended: with a fault, or well."""
        is_probe = self.is_probe(permit)
        self.forget(permit)
        self._look()
        if permit.era != self.era or not (is_probe or self.state == STATE_CLOSED):
            return
        if fault is not None:
            self._cause = fault.message[:_MAX_CAUSE_CHARS]
        try:
            self._breaker.call(_raise if fault is not None else _pass)
        except _Fault as told:
            told.__traceback__ = None  # of frames that hold it
        if self.state == STATE_OPEN:  # by the word just told: pybreaker has put the wall clock's time there
            self._storage.opened_at = datetime.fromtimestamp(self._clock.now(), UTC)
        self._look()

    def hear(self, change: CircuitChange, opened_at_s: float) -> None:
        """Open or close on another gateway's word. Half open, the word of our own probe counts, unless the others' is that all is well."""
        self._look()
        if (change.state == STATE_OPEN) != (self.state == STATE_CLOSED):
            return
        self._storage.reset_counter()
        if change.state == STATE_OPEN:
            self._cause = change.cause
            for _ in range(min(change.failures, self._fail_max)):
                self._storage.increment_counter()
            self._storage.opened_at = datetime.fromtimestamp(opened_at_s, UTC)
        self._probe = None
        self._storage.state = change.state
        self._look()

    def forget(self, permit: Permit) -> None:
        """Let another call probe, if `permit` was the probe."""
        if self._probe is permit:
            self._probe = None

    def is_probe(self, permit: Permit) -> bool:
        """Whether the circuit's fate hangs on this call."""
        return self._probe is permit

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
            self._look()
            report["next_probe_s"] = round(max(self._wait_s(), 0.0), 1)
        return report

    def _look(self) -> None:
        """Take note of a change of state, by whomever: an opening begins an era and a cooldown."""
        state, opening = self.state, self._storage.opened_at
        if state == self._seen_state and (state != STATE_OPEN or opening == self._seen_opening):
            return
        self._seen_state = state
        if state == STATE_OPEN:
            self._seen_opening = opening
            self.era += 1
            self._probe = None
            gone_s = self._clock.now() - opening.timestamp() if opening is not None else 0.0
            self._open_until_s = self._clock.monotonic() + self._cooldown_s - min(max(gone_s, 0.0), self._cooldown_s)
        self._on_change(CircuitChange(self.key, state, self.failures, self._cause))

    def _wait_s(self) -> float:
        return self._open_until_s - self._clock.monotonic() if self.state == STATE_OPEN else 0.0

    def _refusal(self) -> NoUpstream:
        wait_s = math.ceil(self._wait_s())
        when = f"The next probe is in {wait_s} s." if wait_s > 0 else "A probe is under way."
        cause = f"; the last one: {self._cause.rstrip('.')}" if self._cause else ""
        return NoUpstream(
            f"{self.key.upstream} is not called for {self.key.model} just now: {self.failures} faults in a row{cause}. {when}",
            code="circuit_open",
            retry_after_s=min(wait_s, MAX_RETRY_AFTER_S) if wait_s > 0 else PROBE_RETRY_AFTER_S,
        )


class Permit:
    """Leave for one call; the first of `succeeded`, `failed` and `release` counts, later ones do nothing."""

    __slots__ = ("_circuit", "_is_settled", "era")

    def __init__(self, circuit: Circuit, era: int) -> None:
        self._circuit = circuit
        self._is_settled = False
        self.era = era

    @property
    def key(self) -> CircuitKey:
        """What the circuit is for."""
        return self._circuit.key

    @property
    def is_stale(self) -> bool:
        """Whether the circuit opened since: the call that was admitted should not be made."""
        return self.era != self._circuit.era

    def committed(self) -> None:
        """The first content came: a probe has told what it was sent for, and does not hold others up until its last word.

        For any other call the whole answer counts; else an upstream that cuts every stream would never be found out.
        """
        if self._circuit.is_probe(self):
            self._circuit.settle(self, None)

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
