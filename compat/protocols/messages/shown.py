"""Frames and bodies of the Messages protocol as the gateway's clients are shown them, read back as events.

    for event in ShownReader().read(block): ...      one SSE event; nothing for a ping
    whole_events(body)                               the events of a whole answer
    replayed(body)                                   a whole answer as the stream that it could have been

Unlike an upstream's half this trusts what it reads, and leaves nothing out: a block that no event can say is `Unknown`, with its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from compat import jsonio
from compat.protocols.events import (
    ArgumentsDelta,
    BlockKind,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    Signature,
    Start,
    Stop,
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.protocols.messages.shapes import API, read_answer, read_input
from compat.protocols.messages.words import STOP_REASONS, read_counts, usage_of
from compat.protocols.messages.writer import frame
from compat.protocols.upstream_errors import event_error
from compat.wire.sse import parse_event

_KINDS: Mapping[str, BlockKind] = {"text": "text", "thinking": "thinking", "tool_use": "tool_call"}
_LATE = ("stop_reason", "stop_sequence", "stop_details")


class ShownReader:
    """Reads frames, one event after the other. Mutable: all of it. `number` is the last block's, `open_kind` its kind while it is open."""

    def __init__(self) -> None:
        self.is_done = False
        self.number = -1
        self.open_kind: BlockKind | None = None
        self._unknown: set[int] = set()
        self._counts: dict[str, int] = {}

    @property
    def place(self) -> tuple[int, BlockKind | None]:
        """The number of the last block, and its kind while it is open."""
        return self.number, self.open_kind

    def read(self, block: bytes) -> Iterator[Event]:
        """The events in one SSE event. Errors: what an error in it stands for."""
        data = parse_event(block).data
        if data:
            event = jsonio.decode(data)
            yield from _EVENTS.get(event.get("type"), ShownReader._ignored)(self, event)

    def _ignored(self, _: Mapping[str, Any]) -> Iterator[Event]:
        yield from ()

    def _message_start(self, event: Mapping[str, Any]) -> Iterator[Event]:
        message = event["message"]
        self._counts = read_counts(message.get("usage"))
        yield Start(str(message.get("id") or ""))

    def _block_start(self, event: Mapping[str, Any]) -> Iterator[Event]:
        block, index = event["content_block"], event["index"]
        self.number = index
        self.open_kind = _KINDS.get(block["type"])
        if self.open_kind is None:
            self._unknown.add(index)
            yield Unknown(API, block["type"], value=block)
            return
        yield BlockStart(index, self.open_kind, str(block.get("id") or ""), str(block.get("name") or ""))
        if block.get("text"):
            yield TextDelta(index, block["text"])
        if block.get("thinking"):
            yield ThinkingDelta(index, block["thinking"])
        if block.get("signature"):
            yield Signature(index, API, block["signature"])
        if block.get("citations"):
            yield Cited(index, tuple(block["citations"]))

    def _block_delta(self, event: Mapping[str, Any]) -> Iterator[Event]:
        index, delta = event["index"], event["delta"]
        if index in self._unknown:
            return
        match delta:
            case {"type": "text_delta", "text": text}:
                yield TextDelta(index, text)
            case {"type": "thinking_delta", "thinking": text}:
                yield ThinkingDelta(index, text)
            case {"type": "input_json_delta", "partial_json": text}:
                yield ArgumentsDelta(index, text)
            case {"type": "signature_delta", "signature": signature}:
                yield Signature(index, API, signature)
            case {"type": "citations_delta", "citation": citation}:
                yield Cited(index, (citation,))
            case _:
                yield Unknown(API, str(delta.get("type")), value=delta)

    def _block_stop(self, event: Mapping[str, Any]) -> Iterator[Event]:
        self.open_kind = None
        if event["index"] not in self._unknown:
            yield BlockStop(event["index"])

    def _message_delta(self, event: Mapping[str, Any]) -> Iterator[Event]:
        delta = event.get("delta") or {}
        reason = delta.get("stop_reason")
        if reason:
            yield Stop(STOP_REASONS.get(reason, "end"), details=delta.get("stop_details"), sequence=delta.get("stop_sequence") or "")
        self._counts |= read_counts(event.get("usage"))
        yield Used(usage_of(self._counts))

    def _message_stop(self, _: Mapping[str, Any]) -> Iterator[Event]:
        self.is_done = True
        yield from ()

    def _error(self, event: Mapping[str, Any]) -> Iterator[Event]:
        raise event_error(event.get("error"), "the upstream")


_EVENTS: Mapping[Any, Callable[[ShownReader, Mapping[str, Any]], Iterator[Event]]] = {
    "message_start": ShownReader._message_start,
    "content_block_start": ShownReader._block_start,
    "content_block_delta": ShownReader._block_delta,
    "content_block_stop": ShownReader._block_stop,
    "message_delta": ShownReader._message_delta,
    "message_stop": ShownReader._message_stop,
    "error": ShownReader._error,
}


def replayed_events(body: bytes) -> Iterator[dict[str, Any]]:
    """A whole answer as the events of its stream: each block in one piece, arguments with the bytes that they have."""
    message, texts = jsonio.decode(body), read_answer(body).content or ()
    usage = message.get("usage") or {}
    head = {**message, "content": [], **dict.fromkeys(_LATE), "usage": {**usage, "output_tokens": min(usage.get("output_tokens") or 0, 1)}}
    yield {"type": "message_start", "message": head}
    for index, (block, text) in enumerate(zip(message["content"], texts, strict=True)):
        opening, deltas = _opened(block, text)
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {name: message.get(name) for name in _LATE}, "usage": usage}
    yield {"type": "message_stop"}


def replayed(body: bytes) -> bytes:
    """A whole answer as a stream."""
    return b"".join(map(frame, replayed_events(body)))


def whole_events(body: bytes) -> Iterator[Event]:
    """The events of a whole answer."""
    reader = ShownReader()
    for event in replayed_events(body):
        yield from _EVENTS[event["type"]](reader, event)


def _opened(block: Mapping[str, Any], text: msgspec.Raw) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block, which has this `text`, as it opens, and what is added to it."""
    match block:
        case {"type": "text", "text": words}:
            sources = [{"type": "citations_delta", "citation": citation} for citation in block.get("citations") or ()]
            return {"type": "text", "text": ""}, [*([{"type": "text_delta", "text": words}] if words else []), *sources]
        case {"type": "thinking", "thinking": thought}:
            shown = [{"type": "thinking_delta", "thinking": thought}] if thought else []
            signed = [{"type": "signature_delta", "signature": block.get("signature") or ""}]
            return {"type": "thinking", "thinking": "", "signature": ""}, [*shown, *signed]
        case {"type": "tool_use" | "server_tool_use", "input": _}:
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": read_input(text)}]
    return dict(block), []
