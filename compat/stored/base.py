"""What is kept of an answer, and what a store of answers promises.

    store.save(client, record)                whether it is kept; readable by any worker as soon as this returns
    store.find(client, answer_id)             the record, of that client alone
    store.delete(client, answer_id)           whether there was one
    store.add_frames(...), store.frames(...)  the stream of an answer that is made in the background
    store.is_wanted(...), store.cancel(...)   "it is still being made", and "make no more of it"

It is asked where a client waits for it, not in the background: the next turn names the answer a moment later, maybe at another worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from compat.errors import GatewayError
from compat.storage.redis_link import Link

UNFINISHED = frozenset({"queued", "in_progress"})
LEASE_S = 30.0
"""How long after its last sign of life an unfinished answer counts as being made."""
T = TypeVar("T")


class StoreUnavailable(GatewayError):
    """The store of answers can't be used just now."""

    status = 503
    type = "server_error"
    code = "server_error"


class Record(msgspec.Struct, frozen=True, array_like=True):
    """An answer: its response object as JSON, the items of its own input as a JSON list, and the answer before it.

    `is_background`: it is made without a client, and can be cancelled; `has_frames`: its stream is kept as well. `saved_s` is seconds since
    1970, of this state.
    """

    answer_id: str
    status: str
    body: bytes
    items: bytes
    previous: str = ""
    is_background: bool = False
    has_frames: bool = False
    saved_s: float = 0.0

    def ended(self, status: str, body: bytes) -> Record:
        """The same answer at its end."""
        return msgspec.structs.replace(self, status=status, body=body)


class Found(msgspec.Struct, frozen=True):
    """A record, and the last sign of life of its making (seconds since 1970)."""

    record: Record
    beat_s: float

    def is_being_made(self, now_s: float) -> bool:
        """Whether somebody is at it."""
        return self.record.status in UNFINISHED and now_s - max(self.record.saved_s, self.beat_s) < LEASE_S


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Backend(Protocol):
    """Where answers are kept, each under its client and id. Errors: those of its `Link`."""

    max_record_bytes: int

    def read(self, client: str, answer_id: str) -> tuple[bytes, float] | None:
        """A record, packed, and its last sign of life."""
        ...

    def write(self, client: str, answer_id: str, packed: bytes) -> None:
        """Keep a record."""
        ...

    def remove(self, client: str, answer_id: str) -> bool:
        """Drop it with all that belongs to it; whether it was there."""
        ...

    def append(self, client: str, answer_id: str, number: int, frames: bytes) -> None:
        """Keep a part of its stream."""
        ...

    def parts(self, client: str, answer_id: str, since: int) -> Sequence[bytes]:
        """The parts from a number on."""
        ...

    def beat(self, client: str, answer_id: str, now_s: float) -> bool:
        """Note a sign of life; false where it is cancelled, or gone."""
        ...

    def cancel(self, client: str, answer_id: str) -> None:
        """Mark it as cancelled."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class ResponseStore:
    """A store of answers; without a backend none is kept, and nothing may be asked but whether it `is_on`."""

    def __init__(self, link: Link, backend: Backend | None = None) -> None:
        self._link = link
        self._backend = backend

    @property
    def is_on(self) -> bool:
        """Whether answers are stored."""
        return self._backend is not None

    @property
    def fault(self) -> str:
        """What is wrong now, for people; empty when all is well."""
        return self._link.fault

    def find(self, client: str, answer_id: str) -> Found | None:
        """That client's answer. Errors: `StoreUnavailable`."""
        row = self._ask(lambda backend: backend.read(client, answer_id))
        if row is None:
            return None
        try:
            return Found(_decode(row[0]), row[1])
        except msgspec.DecodeError:
            self._link.distrust("an answer")
            return None

    def save(self, client: str, record: Record) -> bool:
        """Keep an answer, in place of what it was before. False where it is too long, or the store can't be used."""
        packed = _encode(record)
        if len(packed) > self._there.max_record_bytes:
            return False
        return self._tried(lambda backend: backend.write(client, record.answer_id, packed)) is not None

    def delete(self, client: str, answer_id: str) -> bool:
        """Forget an answer; whether there was one. Errors: `StoreUnavailable`."""
        return self._ask(lambda backend: backend.remove(client, answer_id))

    def add_frames(self, client: str, answer_id: str, number: int, frames: bytes) -> bool:
        """Keep a part of a stream, whose number it is; false where that can't be done."""
        return self._tried(lambda backend: backend.append(client, answer_id, number, frames)) is not None

    def frames(self, client: str, answer_id: str, since: int) -> Sequence[bytes]:
        """The parts of a stream from number `since` on. Errors: `StoreUnavailable`."""
        return self._ask(lambda backend: backend.parts(client, answer_id, since))

    def is_wanted(self, client: str, answer_id: str, now_s: float) -> bool:
        """Whether an answer is to be made further, neither cancelled nor deleted; and a sign of life of its maker."""
        alive = self._tried(lambda backend: backend.beat(client, answer_id, now_s))
        return alive is None or alive[0]

    def cancel(self, client: str, answer_id: str) -> None:
        """Let no more be made of it. Errors: `StoreUnavailable`."""
        self._ask(lambda backend: backend.cancel(client, answer_id))

    def close(self) -> None:
        """Close it."""
        if self._backend is not None:
            self._backend.close()

    @property
    def _there(self) -> Backend:
        assert self._backend is not None, "nothing is stored"
        return self._backend

    def _tried(self, question: Callable[[Backend], T]) -> tuple[T] | None:
        """The answer, or nothing where the store can't be used."""
        backend = self._there
        return self._link.ask(lambda: (question(backend),))

    def _ask(self, question: Callable[[Backend], T]) -> T:
        answer = self._tried(question)
        if answer is None:
            raise StoreUnavailable("Stored responses can't be reached just now.", retry_after_s=5)
        return answer[0]
