"""Circuits that gateways share through Redis: what one of them has found out about an upstream, the others need not.

    board = CircuitBoard(client, link, clock.now, gateway_id)
    board.note(change)        # from `on_change` of the circuits: at once, nothing is asked
    board.sync(circuits)      # in the background, every second: send what changed, read what others found out

Each gateway keeps its circuits in memory, so that no call waits for Redis; the others know a second later. One hash holds the last
change of each circuit. What is older than `FORGET_S` is taken away by whoever meets it; by then every circuit has been probed. So is what
no gateway wrote: its words would be in logs and errors, and a time in the future would keep a circuit open for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from compat.routing.circuit import CircuitChange, CircuitKey, Circuits
from compat.storage.redis_link import KEY_PREFIX, Link

KEY = f"{KEY_PREFIX}:circuits"
FORGET_S = 3600.0
SKEW_S = 300.0
"""How far the clock of another gateway may be ahead."""

_TOLD = frozenset({"open", "closed"})
_Name = Annotated[str, msgspec.Meta(max_length=200)]


class Entry(msgspec.Struct, frozen=True):
    """The last change of a circuit. `by` is the gateway that made it, `at_s` seconds since 1970 by that gateway's clock."""

    by: _Name
    at_s: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    upstream: _Name
    credential: _Name
    model: Annotated[str, msgspec.Meta(max_length=1000)]
    state: Literal["open", "closed"]
    failures: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    cause: Annotated[str, msgspec.Meta(max_length=1000)]
    is_dead: bool = True


class CircuitBoard:
    """News of circuits. Mutable: what is still to be sent, the entries that were seen; changed without a switch."""

    def __init__(self, client: Any, link: Link, now: Callable[[], float], gateway_id: str) -> None:
        self._client = client
        self._link = link
        self._now = now
        self._own = gateway_id
        self._untold: dict[bytes, bytes] = {}
        self._seen: dict[bytes, bytes] = {}
        self._is_hearing = False

    def note(self, change: CircuitChange) -> None:
        """A circuit changed here. A probe under way is not published."""
        if self._is_hearing or change.state not in _TOLD:
            return
        key = change.key
        place = (key.upstream, key.credential, key.model)
        cause = "".join(character if character.isprintable() else "?" for character in change.cause)
        entry = Entry(
            self._own, self._now(), *place, "open" if change.state == "open" else "closed", change.failures, cause, change.is_dead
        )
        field, packed = _field_of(*place), msgspec.json.encode(entry)
        if _entry_of(field, packed) is not None:  # a name that a client made up may be too long, or hold anything
            self._untold[field] = packed

    def sync(self, circuits: Circuits) -> None:
        """Send, then read. What can't be sent now is sent later."""
        if self._untold:
            telling, self._untold = self._untold, {}
            if self._link.ask(lambda: self._client.hset(KEY, mapping=telling)) is None:
                self._untold = telling | self._untold
                return
        entries: dict[bytes, bytes] | None = self._link.ask(lambda: self._client.hgetall(KEY))
        if entries is None:
            return
        old = [field for field, packed in entries.items() if not self._is_heard(circuits, field, packed)]
        self._seen = entries
        if old:
            self._link.ask(lambda: self._client.hdel(KEY, *old))

    def _is_heard(self, circuits: Circuits, field: bytes, packed: bytes) -> bool:
        """Record an entry; whether it is to be kept."""
        entry = _entry_of(field, packed)
        if entry is None or entry.at_s > self._now() + SKEW_S:
            self._link.distrust("an entry of a circuit")
            return False
        if self._now() - entry.at_s > FORGET_S:
            return False
        if entry.by != self._own and self._seen.get(field) != packed and field not in self._untold:
            place = CircuitKey(entry.upstream, entry.credential, entry.model)
            change = CircuitChange(place, entry.state, entry.failures, entry.cause, entry.is_dead)
            self._is_hearing = True
            try:
                circuits.hear(change, entry.at_s)
            finally:
                self._is_hearing = False
        return True


def _entry_of(field: bytes, packed: bytes) -> Entry | None:
    """The entry, where it can be a gateway's, and stands in its own place."""
    try:
        entry = msgspec.json.decode(packed, type=Entry)
    except (ValueError, RecursionError):  # msgspec's errors, and bytes that are not UTF-8
        return None
    texts = (entry.by, entry.upstream, entry.credential, entry.model, entry.cause)
    is_sound = field == _field_of(entry.upstream, entry.credential, entry.model) and all(text.isprintable() for text in texts)
    return entry if is_sound else None


def _field_of(upstream: str, credential: str, model: str) -> bytes:
    """Where a circuit's entry stands."""
    return msgspec.json.encode([upstream, credential, model])
