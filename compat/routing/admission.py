"""How many calls an upstream gets at once, and who is next when it has enough.

    ticket = gates.of("anthropic").enter(client, size_bytes, is_stream, deadline_s)    # NoUpstream: the queue is full
    try:
        while not ticket.wait(step_s):      # NoUpstream: waited too long; heartbeats go out between two steps
            ...
        ...                                 # the call
    finally:
        ticket.release(outcome, latency_s)  # the slot, or the place in the queue; the first release counts

The limit of an upstream grows by one after as many good answers as it allows, while it is made use of, and shrinks when the upstream says
429 or 529, or when its answers begin later and later. It shrinks from what was really running, once per round of calls: those that were
let in before it shrank say nothing new. How much it shrinks follows the share of late answers that were such objections, as DCTCP does it
(RFC 8257, section 3.3): one 429 among many good answers says little. It starts high: as long as an upstream does not object, nobody waits.

Late answers are seen by the best of a few in a row, compared with the best of the last minutes for requests of that size: one answer may be
late because its model thinks, but when even the quickest of eight is late, calls stand in line at the upstream.

The queue is bounded in length and in time. Clients take turns; short streaming calls, at whose other end somebody is watching, go ahead of
bulk, yet bulk gets every fifth slot. When the queue is full, the client that has most in it gives way.

Nothing here waits but `Ticket.wait`, and it holds no lock; whatever is thrown into it (`GreenletExit`, a hang-up) leaves the queue clean.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Literal

from gevent.event import Event

from compat.config.sections import AdmissionSettings
from compat.errors import MAX_RETRY_AFTER_S, GatewayError, NoUpstream, UpstreamOverloaded, UpstreamRateLimit

Outcome = Literal["ok", "overloaded", "failed", "cancelled"]
"""How a call ended, as far as the limit is concerned."""

_SMALLS_IN_A_ROW = 4
_SMOOTHING = 0.2
_OVERLOAD_SMOOTHING = 1 / 16
_BATCH = 8
_LEAST_LATENCY_S = 0.001


def outcome_of(error: GatewayError | None) -> Outcome:
    """What a call's end says about the upstream's load."""
    if error is None:
        return "ok"
    return "overloaded" if isinstance(error, UpstreamRateLimit | UpstreamOverloaded) else "failed"


class Gates:
    """A gate per upstream, made on first use. Mutable: the gates."""

    def __init__(self, settings: AdmissionSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._gates: dict[str, Gate] = {}

    def of(self, upstream: str) -> Gate:
        """The gate of the upstream of that name."""
        gate = self._gates.get(upstream)
        if gate is None:
            gate = self._gates[upstream] = Gate(upstream, self._settings, self._clock)
        return gate

    def report(self) -> dict[str, Mapping[str, int]]:
        """Upstream -> its limit, the calls in flight, the calls that wait."""
        return {name: gate.report() for name, gate in self._gates.items()}


class AdaptiveLimit:
    """How many calls at once are good for an upstream. Mutable: all fields; `era` counts how often it shrank."""

    def __init__(self, settings: AdmissionSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._limit = float(min(max(settings.first_limit, settings.min_limit), settings.max_limit))
        self._best: dict[int, MovingMinimum] = {}
        self._batch: list[float] = []
        self._overloaded = 1.0  # the share of answers that said so; until there are some, the first one is believed
        self.era = 0

    @property
    def value(self) -> int:
        """Calls at once."""
        return int(self._limit)

    def note(self, outcome: Outcome, latency_s: float | None, size_bytes: int, in_flight: int, era: int) -> None:
        """Learn from a call that ended while `in_flight` ran, itself included, and that was let in in `era`."""
        if outcome == "overloaded":
            self._overloaded += _OVERLOAD_SMOOTHING * (1 - self._overloaded)
            if era == self.era:
                self._shrink(in_flight, 1 - (1 - self._settings.shrink_to) * self._overloaded, self._settings.min_limit)
        elif outcome == "ok":
            self._overloaded -= _OVERLOAD_SMOOTHING * self._overloaded
            slowness = self._weigh(latency_s, size_bytes) if latency_s is not None and era == self.era else 1.0
            if slowness > self._settings.slow_factor and in_flight > self._settings.min_limit_when_slow:
                share = max(self._settings.slow_factor / slowness, self._settings.shrink_to)
                self._shrink(in_flight, share, self._settings.min_limit_when_slow)
            elif in_flight * 2 >= self._limit:
                self._limit = min(self._limit + 1 / self._limit, self._settings.max_limit)

    def _shrink(self, in_flight: int, share: float, least: int) -> None:
        self._limit = min(self._limit, max(min(self._limit, in_flight) * share, least))
        self._batch = []
        self.era += 1

    def _weigh(self, latency_s: float, size_bytes: int) -> float:
        """How many times slower than it could be the upstream is: known with the last answer of a batch, 1 until then."""
        size_class = size_bytes.bit_length() // 2
        best = self._best.get(size_class)
        if best is None:
            best = self._best[size_class] = MovingMinimum(self._settings.slow_window_s)
        latency_s = max(latency_s, _LEAST_LATENCY_S)
        self._batch.append(latency_s / best.note(latency_s, self._clock()))
        if len(self._batch) < _BATCH:
            return 1.0
        slowness, self._batch = min(self._batch), []
        return slowness


class MovingMinimum:
    """The least value of the last one to two windows. Mutable: all fields."""

    __slots__ = ("_began_s", "_least", "_least_before", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._began_s = -math.inf
        self._least = self._least_before = math.inf

    def note(self, value: float, now_s: float) -> float:
        """Take a value in; the minimum with it."""
        gone_s = now_s - self._began_s
        if gone_s >= self._window_s:
            self._least_before = self._least if gone_s < 2 * self._window_s else math.inf
            self._least = math.inf
            self._began_s = now_s
        self._least = min(self._least, value)
        return min(self._least, self._least_before)


class Gate:
    """The limit and the queue of one upstream. Mutable: `in_flight`, the limit, the queue; changed in single steps, without a switch."""

    def __init__(self, upstream: str, settings: AdmissionSettings, clock: Callable[[], float]) -> None:
        self.upstream = upstream
        self.limit = AdaptiveLimit(settings, clock)
        self.in_flight = 0
        self._settings = settings
        self._clock = clock
        self._queue = FairQueue()
        self._typical_s = 1.0

    def enter(self, client: str, size_bytes: int, is_stream: bool, deadline_s: float) -> Ticket:
        """A ticket that is admitted at once, or waits until `deadline_s` on the injected clock. `NoUpstream` when the queue is full."""
        now_s = self._clock()
        is_small = is_stream and size_bytes <= self._settings.small_bytes
        ticket = Ticket(self, client, size_bytes, is_small, min(deadline_s, now_s + self._settings.queue_wait_s), self._clock)
        if len(self._queue) >= self._settings.queue_length:
            giving_way = self._queue.give_way(client)
            if giving_way is None:
                raise self.refusal("has too many calls waiting")
            giving_way.refuse(self.refusal("has too many calls waiting"))
        self._queue.add(ticket)
        self._fill()
        return ticket

    def leave(self, ticket: Ticket, outcome: Outcome, latency_s: float | None) -> None:
        """Free the slot of an admitted ticket, or the place of a waiting one; for `Ticket.release`."""
        if not ticket.is_admitted:
            self._queue.remove(ticket)
            return
        self.limit.note(outcome, latency_s, ticket.size_bytes, self.in_flight, ticket.era)
        self._typical_s += _SMOOTHING * (self._clock() - ticket.admitted_s - self._typical_s)
        self.in_flight -= 1
        self._fill()

    def refusal(self, cause: str) -> NoUpstream:
        """The error for a call that can't wait any longer; it says when a place may be free."""
        wait_s = math.ceil(self._typical_s * (len(self._queue) + 1) / self.limit.value)
        return NoUpstream(
            f"{self.upstream} {cause}: {self.in_flight} calls are running, {len(self._queue)} are in the queue.",
            code="upstream_busy",
            retry_after_s=min(max(wait_s, 1), MAX_RETRY_AFTER_S),
        )

    def report(self) -> dict[str, int]:
        """The limit, the calls in flight, the calls that wait."""
        return {"limit": self.limit.value, "in_flight": self.in_flight, "waiting": len(self._queue)}

    def _fill(self) -> None:
        while self.in_flight < self.limit.value and (ticket := self._queue.take()) is not None:
            self.in_flight += 1
            ticket.admit(self.limit.era)


class Ticket:
    """One call's place: waiting, admitted, or done with. Mutable: `is_admitted`, `admitted_s`, `era`."""

    def __init__(self, gate: Gate, client: str, size_bytes: int, is_small: bool, until_s: float, clock: Callable[[], float]) -> None:
        self.client = client
        self.size_bytes = size_bytes
        self.is_small = is_small
        self.is_admitted = False
        self.admitted_s = 0.0
        self.era = 0
        self._gate = gate
        self._until_s = until_s
        self._clock = clock
        self._changed = Event()
        self._refusal: NoUpstream | None = None
        self._is_released = False

    def wait(self, timeout_s: float) -> bool:
        """Whether the call may begin, after waiting for at most `timeout_s`. `NoUpstream` when the queue's time or the deadline is over.

        After any error, whatever was thrown in, the place in the queue is free.
        """
        try:
            left_s = self._until_s - self._clock()
            if not self._changed.is_set() and left_s > 0:
                self._changed.wait(min(timeout_s, left_s))
            if self._refusal is not None:
                raise self._refusal
            if not self.is_admitted and self._clock() >= self._until_s:
                raise self._gate.refusal("had no room for this call in time")
        except BaseException:
            self.release()
            raise
        return self.is_admitted

    def release(self, outcome: Outcome = "cancelled", latency_s: float | None = None) -> None:
        """Give the slot or the place back; the second call does nothing.

        `latency_s` is the time until the upstream began to answer, which for a whole answer is unknown (`None`): it comes when all is done.
        """
        if not self._is_released:
            self._is_released = True
            self._gate.leave(self, outcome, latency_s)

    def admit(self, era: int) -> None:
        """For the gate: the call may begin."""
        self.is_admitted = True
        self.admitted_s = self._clock()
        self.era = era
        self._changed.set()

    def refuse(self, error: NoUpstream) -> None:
        """For the gate: the call, out of the queue already, shall not wait any longer."""
        self._refusal = error
        self._changed.set()


class FairQueue:
    """Who is next: small calls before bulk, but not for ever; within both, clients in turn. Mutable: all fields."""

    def __init__(self) -> None:
        self._small: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._bulk: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._length = 0
        self._smalls_in_a_row = 0

    def __len__(self) -> int:
        return self._length

    def add(self, ticket: Ticket) -> None:
        """Put a ticket behind its client's others."""
        self._lane(ticket).setdefault(ticket.client, deque()).append(ticket)
        self._counts[ticket.client] += 1
        self._length += 1

    def take(self) -> Ticket | None:
        """The next ticket, taken out."""
        is_bulks_turn = self._smalls_in_a_row >= _SMALLS_IN_A_ROW
        lane = (self._bulk or self._small) if is_bulks_turn else (self._small or self._bulk)
        if not lane:
            return None
        client, tickets = next(iter(lane.items()))
        ticket = tickets[0]
        self.remove(ticket)
        if tickets:
            lane.move_to_end(client)
        self._smalls_in_a_row = self._smalls_in_a_row + 1 if ticket.is_small and self._bulk else 0
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out, wherever it stands; nothing happens when it is not there."""
        lane = self._lane(ticket)
        tickets = lane.get(ticket.client, deque())
        if ticket not in tickets:
            return
        tickets.remove(ticket)
        self._length -= 1
        self._counts[ticket.client] -= 1
        if not self._counts[ticket.client]:
            del self._counts[ticket.client]
        if not tickets:
            del lane[ticket.client]

    def give_way(self, client: str) -> Ticket | None:
        """Out of a full queue: the newest ticket of the client that has most of them, if it has more than `client` would have."""
        heaviest, count = self._counts.most_common(1)[0]
        if count <= self._counts[client] + 1:
            return None
        ticket = (self._bulk.get(heaviest) or self._small[heaviest])[-1]
        self.remove(ticket)
        return ticket

    def _lane(self, ticket: Ticket) -> OrderedDict[str, deque[Ticket]]:
        return self._small if ticket.is_small else self._bulk
