"""Identical calls in flight share one upstream call: a client that asks again gets the answer that is under way.

    key = flight_key(call.client, body, idempotency_key=..., retry_count=...)    # None: this call is nobody else's
    reader = flights.join(key, run, run.frames())
    reader.leader     # the run that the frames come from: this call's own, or that of the call before it
    for frame in reader: ...
    reader.close()    # from a `finally`

The work is done in a greenlet of its own, which belongs to no client; whoever has joined is a reader, the first one too. So a client that
leaves takes nothing from the others, and only when the last one has left the work is ended, at once.

What was said is kept for those who join later, up to `record_bytes`; then nobody can join any more, and it is forgotten as it is read. The
work keeps pace with the quickest reader, at most `ahead_bytes` before it, so that a slow client makes the upstream slow down as it does
elsewhere. A reader that falls behind by more than `record_bytes` is let go with an error: it may be a connection that is dead already, and
must not hold up the one that is alive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Generic, TypeVar

from compat.settings import Positive, Section

T = TypeVar("T")


class SingleFlightSettings(Section, frozen=True):
    """`[single_flight]`: whether identical calls share one upstream call, how much of it is kept, how far it may run ahead of its readers."""

    enabled: bool = True
    record_bytes: Positive = 1024 * 1024
    ahead_bytes: Positive = 256 * 1024


def flight_key(client: str, body: bytes, *, idempotency_key: str = "", retry_count: str = "") -> str | None:
    """What two calls must have in common to share an answer: the client, every byte of the body, and the idempotency key.

    `retry_count` is `x-stainless-retry-count`, which OpenAI's SDKs send: a number above 0 marks a call that was made before. A call with
    neither stands alone.
    """
    is_retry = retry_count.isascii() and retry_count.isdigit() and int(retry_count[:9]) > 0
    if not (idempotency_key or is_retry):
        return None
    digest = hashlib.sha256(body)
    for part in (client, idempotency_key):
        words = part.encode("utf-8", "surrogatepass")
        digest.update(b"\0%d\0" % len(words) + words)
    return digest.hexdigest()


class SingleFlight(Generic[T]):
    """The calls in flight that others can join. Mutable: the flights, changed in single steps, without a switch.

    `T` is what belongs to a call besides its frames, such as the object that knows its headers.
    """

    def __init__(self, settings: SingleFlightSettings) -> None:
        self._settings = settings
        self._flights: dict[str, Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: str | None, leader: T, frames: Generator[bytes, None, None]) -> Reader[T]:
        """A reader of the flight of `key`, or of a new one over `frames`; with no key, or switched off, of one that nobody can join.

        `frames` is begun only where it is needed.
        """
        if key is None or not self._settings.enabled:
            return Flight(leader, self._settings).begin(frames)
        flight = self._flights.get(key)
        if flight is not None and flight.is_joinable:
            return flight.reader()
        flight = self._flights[key] = Flight(leader, self._settings, lambda ended: self._forget(key, ended))
        return flight.begin(frames)

    def _forget(self, key: str, flight: Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
