"""The Responses API over a WebSocket: messages that ask for an answer, its events as messages, and what one answer leaves to the next.

    {"type": "response.create", ...}   the body of `POST /v1/responses`, less `stream` and `background`
    {"type": "response.output_text.delta", ...}, ...   each event of the stream, without its frame
    {"type": "error", "status": 400, "error": {...}, "headers": {...}}   where there was no answer

A request that names the answer before it (`previous_response_id`) has only what is new; what went before is remembered for the connection,
also with `store: false`. Source: OpenAI's guide to the WebSocket mode.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.responses.client_request import previous_not_found
from compat.protocols.responses.input_items import list_of
from compat.protocols.responses.items import frame
from compat.protocols.responses.response_object import ResponseHead, usage_object
from compat.protocols.responses.state import Wish, check_outputs, sealing, wish_of
from compat.wire.envelope import Envelope
from compat.wire.sse import blocks_of, parse_event
from compat.wire.usage import Usage

_CREATE = "response.create"
_BESIDE = frozenset({"type", "stream", "background", "generate", "stream_id", "previous_response_id"})
"""Keys of a message that its call has not."""
_MOST_ANSWERS = 8
_NOTING = (b'"response.output_item.done"', b'"response.completed"', b'"response.incomplete"')


class _Named(msgspec.Struct, frozen=True):
    id: str = ""


class _Event(msgspec.Struct, frozen=True):
    """What is read of an event that ends an item or an answer."""

    type: str = ""
    item: msgspec.Raw = msgspec.Raw(b"")
    response: _Named = _Named()


_event = msgspec.json.Decoder(_Event).decode


class Create(msgspec.Struct, frozen=True):
    """One message that asks for an answer: the call's envelope, the items of its input, `stream_id` for the events of its answer.

    `generates`: whether there is an answer at all; else the input is only remembered. `wish` says what it goes on from, and whether it is
    to be stored.
    """

    envelope: Envelope
    items: tuple[bytes, ...]
    stream_id: str
    generates: bool
    wish: Wish


class Memory:
    """What went before each of the last answers of a connection, at most `most_bytes` in all; `older` finds
    those that it does not remember. Mutable: the answers, the oldest first."""

    def __init__(self, most_bytes: int, older: Callable[[str], Sequence[bytes]] | None = None) -> None:
        self._most_bytes = most_bytes
        self._older = older
        self._answers: dict[str, tuple[bytes, ...]] = {}

    def before(self, answer_id: str) -> tuple[bytes, ...]:
        """The items up to the end of that answer. Errors: `BadRequest`, in the words that clients know."""
        if (items := self._answers.get(answer_id)) is not None:
            return items
        if self._older is None:
            raise previous_not_found(answer_id)
        return tuple(self._older(answer_id))

    def keep(self, answer_id: str, items: tuple[bytes, ...]) -> None:
        """Remember an answer; the oldest ones go where there is no room."""
        self._answers.pop(answer_id, None)
        self._answers[answer_id] = items
        while len(self._answers) > _MOST_ANSWERS or self._size_bytes() > self._most_bytes:
            del self._answers[next(iter(self._answers))]

    def forget(self, answer_id: str) -> None:
        """Nobody goes on from that answer any more: a call that did so has failed."""
        self._answers.pop(answer_id, None)

    def _size_bytes(self) -> int:
        """Of all items, each counted once: the answers of a conversation share those that they begin with."""
        return sum({id(item): len(item) for items in self._answers.values() for item in items}.values())


def read_create(envelope: Envelope, memory: Memory) -> Create:
    """What a message asks for. Errors: `BadRequest`."""
    if (kind := envelope.value("type")) != _CREATE:
        raise BadRequest(f"Messages have the type '{_CREATE}', not {str(kind)[:100]!r}.", param="type")
    if envelope.value("background"):
        raise BadRequest("'background' is not supported over a WebSocket.", param="background")
    wish = wish_of(envelope)
    before = memory.before(wish.previous) if wish.previous else ()
    if before:
        try:
            check_outputs(before, wish.items)
        except BadRequest:
            memory.forget(wish.previous)
            raise
    items = (*before, *wish.items)
    changes = {"input": list_of(items), "stream": b"true", **sealing(envelope)}
    stream_id = envelope.value("stream_id")
    return Create(
        Envelope(envelope.without(_BESIDE).replaced(changes)),
        items,
        stream_id if isinstance(stream_id, str) else "",
        envelope.value("generate") is not False,
        wish,
    )


class AnswerMessages:
    """The frames of one answer as messages. Mutable: `items`, the items that it has so far, and `answer_id`, once it has come to an end."""

    def __init__(self, stream_id: str = "") -> None:
        self._tail = b"," + jsonio.encode({"stream_id": stream_id})[1:] if stream_id else b""
        self.items: list[bytes] = []
        self.answer_id = ""

    def of(self, frames: bytes) -> Iterable[bytes]:
        """The messages that stand for whole frames; comments have none."""
        for block in blocks_of(frames):
            if not (data := parse_event(block).data):
                continue
            if any(mark in data for mark in _NOTING):
                self._note(data)
            yield data[: data.rindex(b"}")] + self._tail if self._tail else data

    def _note(self, data: bytes) -> None:
        try:
            event = _event(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if event.type == "response.output_item.done":
            self.items.append(bytes(event.item))
        elif event.type in {"response.completed", "response.incomplete"}:
            self.answer_id = event.response.id


def error_message(status: int, body: bytes, headers: Collection[tuple[str, str]], stream_id: str = "") -> bytes:
    """An error as a message; `body` is that of an answer over HTTP, `headers` are its fields."""
    named: Mapping[str, Any] = {"stream_id": stream_id} if stream_id else {}
    return jsonio.encode({"type": "error", "status": status, **jsonio.decode(body), "headers": dict(headers), **named})


def warmed_up(answer_id: str, model: str, created_s: int) -> bytes:
    """The frames of an answer that was not to say anything (`generate: false`): it is there to be gone on from."""
    head = ResponseHead.of(answer_id, created_s, model, {})
    whole = head.encoded("completed", usage=usage_object(Usage(), 0.0), now_s=created_s)
    return frame("response.created", {"response": head.encoded("in_progress")}, 0) + frame("response.completed", {"response": whole}, 1)
