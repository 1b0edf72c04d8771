"""Calls whose answers are stored, and calls that go on from a stored answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial

from compat.calls.gateway import Gateway
from compat.errors import BadRequest, ContextTooLong
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.responses.client_request import previous_not_found
from compat.protocols.responses.state import (
    ENDS,
    Wish,
    changed,
    gone_on,
    retold,
    said_in,
    status_of,
)
from compat.reuse.single_flight import Reader, Told
from compat.stored.base import UNFINISHED, Record, ResponseStore
from compat.wire.envelope import Envelope

Keep = Callable[[Record], bool]


@dataclass(frozen=True, slots=True)
class Kept:
    """What becomes of an answer: its object says what is stored, and its end goes through `keep`, which says whether it is.

    A stored answer is named here, by `answer_id`, for services may give an id twice. `now` is in seconds since 1970.
    """

    wish: Wish
    keep: Keep
    now: Callable[[], float]
    answer_id: str

    def frames(self, frames: bytes) -> bytes:
        """Frames of the answer as the client sees them."""
        return retold(frames, self.tell)

    def whole(self, body: bytes) -> bytes:
        """A whole answer as the client sees it."""
        return self.tell(status_of(body), body)

    def tell(self, status: str, response: bytes) -> bytes:
        """The response object, which is kept at its end."""
        wish = self.wish
        told = {"store": wish.stores, "background": wish.is_background, "previous_response_id": wish.previous or None}
        shown = changed(response, {**told, "id": self.answer_id} if wish.stores else told)
        if status in ENDS and wish.stores and not self.keep(self.record(status, shown)):
            shown = changed(shown, {"store": False})
        return shown

    def record(self, status: str, body: bytes) -> Record:
        """What is stored of it in this state."""
        wish = self.wish
        items = b"[%s]" % b",".join(wish.items)
        is_streamed = wish.is_background and wish.is_stream
        return Record(self.answer_id, status, body, items, wish.previous, wish.is_background, is_streamed, self.now())


def kept_for(gateway: Gateway, client: str, wish: Wish, protocol: ClientProtocol) -> Kept:
    """What becomes of an answer to that client."""
    return Kept(wish, partial(gateway.responses.save, client), gateway.clock.now, protocol.answer_id(gateway.clock.new_id()))


def going_on(gateway: Gateway, client: str, wish: Wish, envelope: Envelope) -> Envelope:
    """The call with all that was said before it. Errors: `BadRequest`, `StoreUnavailable`."""
    before = history(gateway.responses, client, wish.previous, gateway.settings.server.max_body_bytes) if wish.previous else ()
    return gateway.offload.run(envelope.body, lambda: gone_on(envelope, before, wish.items))


def history(store: ResponseStore, client: str, answer_id: str, most_bytes: int) -> Sequence[bytes]:
    """The items up to the end of that answer, the first ones first. Errors: `BadRequest`, `StoreUnavailable`."""
    parts: list[list[bytes]] = []
    size = 0
    seen: set[str] = set()
    while answer_id and answer_id not in seen:
        seen.add(answer_id)
        found = store.find(client, answer_id)
        if found is None:
            raise previous_not_found(answer_id)
        record = found.record
        if record.status in UNFINISHED:
            raise BadRequest(f"Response '{answer_id}' is not finished: wait for it, or cancel it.", param="previous_response_id")
        said, is_all = said_in(record.items, record.body)
        parts.append(said)
        size += sum(map(len, said))
        if size > most_bytes:
            raise ContextTooLong(f"The conversation up to this response has more than {most_bytes} bytes.", param="previous_response_id")
        answer_id = "" if is_all else record.previous
    return [item for part in reversed(parts) for item in part]


class KeptAnswer:
    """The answer of a call, its own or one that it shares, on the way to the store and the client; see `Reader`."""

    def __init__(self, frames: Reader | Generator[bytes, None, None], leader: Told, shape: Callable[[bytes], bytes]) -> None:
        self.leader = leader
        self._frames = frames
        self._shape = shape

    def __iter__(self) -> KeptAnswer:
        return self

    def __next__(self) -> bytes:
        return self._shape(next(self._frames))

    def close(self) -> None:
        """Want no more."""
        self._frames.close()
