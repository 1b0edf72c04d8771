"""Identical calls in flight share one upstream call: a client that asks again gets the answer that is under way.

    key = flight_key(call.client, api, body, idempotency_key=..., retry_count=...)    # None: nobody can share this call
    reader = flights.join(key, run, run.frames())
    reader.leader      # the run whose frames these are: this call's own, or that of the call it has joined
    for frame in reader:
        ...
    reader.close()     # from a `finally`

The work is done in a greenlet of its own, which belongs to no client; whoever asked is a reader, the first one too. So a client that leaves
takes nothing from the others, and when the last one has left the work is ended at once.

What was said is kept for those who join later, up to `record_bytes`; then nobody can join any more, and it is forgotten as it is read. The
work goes at the pace of the quickest reader, at most `ahead_bytes` before it, so that a slow client makes the upstream slow down as it does
elsewhere. A reader that falls behind by more than `record_bytes` is let go with an error: of two connections of one client that carry the
same answer, one is dead as a rule, and it must not hold up the other.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Generator
from typing import Protocol

import gevent
from gevent.event import Event

from compat.config.sections import SingleFlightSettings
from compat.errors import GatewayError, InternalError, RequestTimeout


def flight_key(client: str, api: str, body: bytes, *, idempotency_key: str = "", retry_count: str = "") -> str | None:
    """What calls must have in common to share an answer: the client, its protocol, every byte of the body, and the idempotency key.

    `retry_count` is `x-stainless-retry-count`, which OpenAI's SDKs send: a number above 0 marks a call that was made before. `None` for a
    call with neither: it stands alone.
    """
    is_retry = retry_count.isascii() and retry_count.isdigit() and bool(retry_count.strip("0"))
    if not (idempotency_key or is_retry):
        return None
    digest = hashlib.sha256(body)
    for part in (client, api, idempotency_key):
        words = part.encode("utf-8", "surrogatepass")
        digest.update(b"\0%d\0" % len(words) + words)
    return digest.hexdigest()


class Told(Protocol):
    """The headers about the call whose answer a client gets."""

    @property
    def request_id(self) -> str:
        """The id of the call that is made."""
        ...

    def headers(self) -> list[tuple[str, str]]:
        """The headers that say how that call was made."""
        ...

    def error_frame(self, error: GatewayError, /) -> bytes:
        """The frame that ends the answer with an error."""
        ...


class Flights(Protocol):
    """Where calls meet: at this gateway (`SingleFlight`), or at all that share a Redis (`compat/cluster/flights.py`)."""

    def __len__(self) -> int:
        """How many flights there are at this gateway."""
        ...

    def join(self, key: str, leader: Told, frames: Generator[bytes, None, None], /) -> Reader:
        """A reader of the flight of `key`."""
        ...


class SingleFlight:
    """The flights that can be joined. Mutable: the flights, changed in single steps, without a switch."""

    def __init__(self, settings: SingleFlightSettings) -> None:
        self._settings = settings
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: str, leader: Told, frames: Generator[bytes, None, None]) -> Reader:
        """A reader of the flight of `key`, or of a new one over `frames`, which else are never begun."""
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(leader, self._settings, lambda: self._flights.pop(key))
            self._flights[key] = flight
            flight.start(frames)
        return flight.join()

    def __contains__(self, key: str) -> bool:
        """Whether there is a flight of `key` that can be joined."""
        return key in self._flights

    def reader(self, key: str) -> Reader:
        """A reader of the flight of `key`, which is there."""
        return self._flights[key].join()


class Flight:
    """One upstream call and its readers. Mutable: what was recorded, the readers, how it ended; changed without a switch.

    `on_closed` is called once: when it can't be joined any more.
    """

    def __init__(self, leader: Told, settings: SingleFlightSettings, on_closed: Callable[[], object]) -> None:
        self.leader = leader
        self._settings = settings
        self._on_closed = on_closed
        self._is_joinable = True
        self._recorded: deque[bytes] = deque()
        self._forgotten = 0
        self._size_bytes = 0
        self._readers: list[Reader] = []
        self._room = Event()
        self._worker: gevent.Greenlet | None = None
        self._is_ended = False
        self._failure: GatewayError | None = None

    def start(self, frames: Generator[bytes, None, None]) -> None:
        """Begin the work."""
        self._worker = gevent.spawn(self._run, frames)

    def join(self) -> Reader:
        """A reader that begins with the first frame."""
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """The reader wants no more; without readers the work ends. Nothing happens when it has left already."""
        if reader not in self._readers:
            return
        self._readers.remove(reader)
        self._room.set()
        if not self._readers and self._worker is not None:
            self._close()
            self._worker.kill(block=False)

    def next_frame(self, reader: Reader) -> bytes | None:
        """What comes next for `reader`: a frame, or nothing after the last one. Waits. An error that ended the work is raised in it."""
        while True:
            if reader.is_left_behind:
                raise RequestTimeout("This client read too slowly; the shared call continues without it.")
            position = reader.position - self._forgotten
            if position < len(self._recorded):
                frame = self._recorded[position]
                reader.position += 1
                reader.read_bytes += len(frame)
                self._forget()
                self._room.set()
                return frame
            if self._is_ended:
                if self._failure is not None:
                    raise self._failure
                return None
            reader.news.clear()
            reader.news.wait()

    def _run(self, frames: Generator[bytes, None, None]) -> None:
        failure: GatewayError | None = InternalError("The call that was shared ended before its answer did.")
        try:
            with contextlib.closing(frames):
                for frame in frames:
                    self._record(frame)
                    self._wait_for_room()
            failure = None
        except GatewayError as error:
            failure = error
        finally:
            self._failure = failure
            self._is_ended = True
            self._close()
            self._tell()

    def _record(self, frame: bytes) -> None:
        most_bytes = max(self._settings.record_bytes, self._settings.ahead_bytes)
        for reader in [reader for reader in self._readers if self._size_bytes - reader.read_bytes > most_bytes]:
            reader.is_left_behind = True
            self._readers.remove(reader)
        self._recorded.append(frame)
        self._size_bytes += len(frame)
        if self._size_bytes > self._settings.record_bytes:
            self._close()
        self._forget()
        self._tell()

    def _wait_for_room(self) -> None:
        while self._size_bytes - max((reader.read_bytes for reader in self._readers), default=0) > self._settings.ahead_bytes:
            self._room.clear()
            self._room.wait()

    def _close(self) -> None:
        if self._is_joinable:
            self._is_joinable = False
            self._on_closed()

    def _forget(self) -> None:
        """Drop what every reader has read, once nobody can join."""
        if self._is_joinable:
            return
        needed = min((reader.position for reader in self._readers), default=self._forgotten)
        while self._forgotten < needed:
            self._recorded.popleft()
            self._forgotten += 1

    def _tell(self) -> None:
        for reader in self._readers:
            reader.news.set()


class Reader:
    """One client's way through the frames. Mutable: all fields; the flight moves them.

    As in any answer, an error is raised before the first frame only; a later one becomes the last frame.
    """

    def __init__(self, flight: Flight) -> None:
        self.position = 0
        self.read_bytes = 0
        self.is_left_behind = False
        self.news = Event()
        self._flight = flight
        self._is_closed = False

    @property
    def leader(self) -> Told:
        """What belongs to the call whose frames these are."""
        return self._flight.leader

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> bytes:
        if self._is_closed:
            raise StopIteration
        try:
            frame = self._flight.next_frame(self)
        except GatewayError as error:
            self.close()
            if self.position == 0:
                raise
            return self.leader.error_frame(error)
        except BaseException:
            self.close()
            raise
        if frame is None:
            self.close()
            raise StopIteration
        return frame

    def close(self) -> None:
        """Want no more; the second call does nothing."""
        self._is_closed = True
        self._flight.leave(self)
