"""Anthropic's answers as events, whole and streamed.

Each event type has a handler, each content block a record of what it is and what came of it. One without input has the arguments `{}`
(rule 2), usage in `message_delta` is cumulative (rule 16), an `error` event ends the stream as an error (rule 19), blocks without a
counterpart are left out with a note (rule 29). Blocks are kept until the answer ends, for the vault and for a pause, so that an answer has
a bound here as a whole one has. Rules are those of docs/translation.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import UpstreamBroken
from compat.protocols.base import Continuation, ThinkingRecord, TranslationContext
from compat.protocols.events import (
    ArgumentsDelta,
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
from compat.protocols.joined import MAX_ANSWER_BYTES, SHAPES, ShapedReader
from compat.protocols.messages.shapes import API, MessageEvent, OpenBlock, decode_event, read_answer, read_input
from compat.protocols.messages.words import (
    PAUSED,
    ThinkingKeeper,
    add_counts,
    is_said,
    loaded,
    raise_counts,
    read_counts,
    refusal_text,
    stop_reason_of,
    usage_of,
    usage_of_part,
    words_of,
)
from compat.protocols.notes import Notes
from compat.protocols.raw_text import EventShape, shape_of
from compat.protocols.upstream_errors import event_error
from compat.wire.sse import parse_event
from compat.wire.usage import Usage

_TEXT_KEY = re.compile(rb'"(?:text|thinking|partial_json)"\s*:\s*"')

_NOTHING: tuple[Event, ...] = ()
_START = Start()


class MessagesReader(ShapedReader):
    """See `EventReader`."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        super().__init__(ctx, notes)
        self._kept = ThinkingKeeper()
        self._blocks = 0
        self._has_calls = False
        self._written_chars = 0
        before = ctx.continuation or Continuation()
        self._before: Mapping[str, int] = before.counts
        self._carried: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self._has_begun = False
        self._counts: dict[str, int] = {}
        self._open: dict[int, OpenBlock] = {}
        self._forget_shape()
        self._stop_reason: str | None = None
        self._stop_details: Any = None
        self._stop_sequence: str | None = None

    @property
    def thinking(self) -> ThinkingRecord | None:
        """See `EventReader`."""
        return self._kept.record()

    def resume(self) -> None:
        """See `EventReader`."""
        assert self.continuation is not None
        self._carried = list(self.continuation.blocks)
        self._before = self.continuation.counts
        self.continuation = None
        self.is_finished = False
        self._begin()

    def read(self, block: bytes) -> Sequence[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        data = parse_event(block).data
        if not data or self.is_finished:
            return _NOTHING
        self._bytes += len(data)
        if self._bytes > MAX_ANSWER_BYTES:
            raise self._too_long()
        try:
            event = decode_event(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamBroken(f"The upstream sent an invalid event: {error}.") from error
        handler = _HANDLERS.get(event.type)
        if handler is None:
            if event.error is not None:  # an error in OpenAI's shape, from a server that speaks both
                raise event_error(event.error, self.ctx.upstream_name)
            return _NOTHING
        events = handler(self, event)
        if self._shapes_left and handler is MessagesReader._block_delta and events:
            self._learn_shape(block, events, self._open[event.index])
        return events

    def _shape(self, block: bytes, text: str) -> EventShape | None:
        return shape_of(block, _TEXT_KEY, text)

    def end(self, *, is_whole: bool) -> Sequence[Event]:  # noqa: ARG002  # this protocol has an end mark of its own
        """See `EventReader`."""
        if not self.is_finished or self._stop_reason is None:
            raise UpstreamBroken("The upstream ended its answer without a message_stop.")
        if self.continuation is not None:
            raise UpstreamBroken("The upstream kept pausing its answer.")
        return self._end(self._stop_reason, self._stop_details, self._stop_sequence)

    def _end(self, stop_reason: str, details: Any, sequence: str | None) -> Sequence[Event]:
        reason = stop_reason_of(stop_reason, has_calls=self._has_calls, notes=self.notes)
        assert self.usage is not None
        refusal = refusal_text(details) if reason == "refusal" else ""
        return _START, Stop(reason, refusal, details, sequence=sequence or ""), Used(self.usage)

    def usage_so_far(self) -> Usage:
        """See `EventReader`."""
        self._written_chars += sum(block.decode() for block in self._open.values())
        return usage_of_part(add_counts(self._before, self._counts), self._written_chars, self.ctx)

    # Whole answers.

    def whole(self, body: bytes) -> Iterable[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        answer = read_answer(body)
        if answer.type == "error" or answer.error is not None:
            raise event_error(answer.error, self.ctx.upstream_name)
        if answer.content is None or answer.stop_reason is None:
            raise UpstreamBroken("The upstream's answer has no content or no stop_reason.")
        before = self.ctx.continuation or Continuation()
        counts = add_counts(before.counts, read_counts(answer.usage))
        blocks = (*before.blocks, *(loaded(block) for block in answer.content))
        self.usage = usage_of(counts)
        if answer.stop_reason == PAUSED and (self.ctx.resumes or not any(map(is_said, blocks))):
            self.continuation = Continuation(blocks, counts)
            return _NOTHING
        texts = (*map(jsonio.encode, before.blocks), *map(bytes, answer.content))
        return self._whole(zip(blocks, texts, strict=True), answer.stop_reason, answer.stop_details, answer.stop_sequence)

    def _whole(self, blocks: Iterable[tuple[Any, bytes]], reason: str, details: Any, sequence: str | None) -> Iterator[Event]:
        for block, text in blocks:
            yield from self._whole_block(block, text)
        yield from self._end(reason, details, sequence)

    def _whole_block(self, opening: Any, raw: bytes) -> list[Event]:
        """A block and its text: arguments keep the bytes that the model wrote. `UpstreamBroken` where it is not a block."""
        if not isinstance(opening, dict):
            raise UpstreamBroken("The upstream's answer holds something that is not a content block.")
        block = OpenBlock(number=self._next_number(), opening=opening)
        events = list(self._opened(block))
        if opening["type"] == "tool_use":
            arguments = read_input(raw)
            events += self._arguments(block, "{}" if arguments == "null" else arguments)
        return [*events, *self._closed(block)]

    # One handler per event type.

    def _message_start(self, event: MessageEvent) -> Sequence[Event]:
        if event.message is None:
            raise UpstreamBroken("The upstream sent a message_start without a message.")
        self._has_begun = True
        self._counts = read_counts(event.message.get("usage"))
        return (_START,)

    def _block_start(self, event: MessageEvent) -> Sequence[Event]:
        if event.content_block is None:
            raise UpstreamBroken("The upstream sent a content_block_start without a block.")
        block = self._open[event.index] = OpenBlock(number=self._next_number(), opening=event.content_block)
        self._forget_shape()
        self._shapes_left = SHAPES
        return self._opened(block)

    def _block_delta(self, event: MessageEvent) -> Sequence[Event]:
        block, delta = self._open.get(event.index), event.delta
        if block is None or delta is None:
            raise UpstreamBroken("The upstream sent a delta for a content block that is not open.")
        self._written_chars += block.decode()
        match delta.type:
            case "text_delta":
                return self._text(block, delta.text)
            case "input_json_delta":
                return self._arguments(block, delta.partial_json)
            case "thinking_delta":
                return self._thinking(block, delta.thinking)
            case "signature_delta":
                block.signature.append(delta.signature)
            case "citations_delta":
                block.citations.append(delta.citation)
            case unknown:
                return (Unknown(API, unknown or "delta"),)
        return _NOTHING

    def _block_stop(self, event: MessageEvent) -> Sequence[Event]:
        block = self._open.pop(event.index, None)
        if block is None:
            raise UpstreamBroken("The upstream ended a content block that is not open.")
        self._forget_shape()
        self._written_chars += block.decode()
        return self._closed(block)

    def _message_delta(self, event: MessageEvent) -> Sequence[Event]:
        raise_counts(self._counts, event.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self._stop_reason = event.delta.stop_reason
            self._stop_details = event.delta.stop_details
            self._stop_sequence = event.delta.stop_sequence
        return _NOTHING

    def _message_stop(self, _: MessageEvent) -> Sequence[Event]:
        if not self._has_begun or self._stop_reason is None or self._open:
            raise UpstreamBroken("The upstream ended its answer before it was complete.")
        self.is_finished = True
        counts = add_counts(self._before, self._counts)
        self.usage = usage_of(counts)
        if self._stop_reason == PAUSED:
            self.continuation = Continuation(tuple(self._carried), counts)
        return _NOTHING

    def _ping(self, _: MessageEvent) -> Sequence[Event]:
        return _NOTHING

    def _error(self, event: MessageEvent) -> Sequence[Event]:
        raise event_error(event.error, self.ctx.upstream_name)

    # Content.

    def _next_number(self) -> int:
        self._blocks += 1
        return self._blocks - 1

    def _opened(self, block: OpenBlock) -> Sequence[Event]:
        match block.opening:
            case {"type": "text"}:
                return BlockStart(block.number, "text"), *self._text(block, words_of(block.opening, "text"))
            case {"type": "thinking"}:
                block.signature.append(words_of(block.opening, "signature"))
                return BlockStart(block.number, "thinking"), *self._thinking(block, words_of(block.opening, "thinking"))
            case {"type": "tool_use", "id": str(call_id), "name": str(name)}:
                return self._tool_use(block, call_id, name)
            case {"type": "redacted_thinking"}:
                return (BlockStart(block.number, "thinking"),)
            case {"type": str(kind)} if kind != "tool_use":
                return (Unknown(API, kind),)
        raise UpstreamBroken("The upstream sent something that is not a content block.")

    def _text(self, block: OpenBlock, text: str) -> Sequence[Event]:
        if not text:
            return _NOTHING
        self.has_content = True
        self._written_chars += len(text)
        block.pieces.append(text)
        return (TextDelta(block.number, text),)

    def _thinking(self, block: OpenBlock, thinking: str) -> Sequence[Event]:
        if not thinking:
            return _NOTHING
        self.has_content = True
        self._written_chars += len(thinking)
        block.pieces.append(thinking)
        return (ThinkingDelta(block.number, thinking),)

    def _tool_use(self, block: OpenBlock, call_id: str, name: str) -> Sequence[Event]:
        self.has_content = True
        if name == self.ctx.memory.answer_tool:
            block.is_answer = True
            return (BlockStart(block.number, "text"),)
        self._has_calls = True
        return (BlockStart(block.number, "tool_call", call_id, self.ctx.memory.client_names.get(name, name)),)

    def _arguments(self, block: OpenBlock, piece: str) -> Sequence[Event]:
        if not piece:
            return _NOTHING
        self._written_chars += len(piece)
        block.pieces.append(piece)
        if block.is_answer:
            return (TextDelta(block.number, piece),)
        return (ArgumentsDelta(block.number, piece),) if block.kind == "tool_use" else _NOTHING

    def _closed(self, block: OpenBlock) -> Sequence[Event]:
        """The end of a block, which is kept: for the resumption of a pause, and thinking for the turns that follow."""
        whole = "".join(block.pieces)
        match block.kind:
            case "text":
                return self._closed_text(block, whole)
            case "thinking":
                signature = "".join(block.signature)
                self._carry({**block.opening, "thinking": whole, "signature": signature}, keeps=True)
                if signature:
                    return Signature(block.number, API, signature), BlockStop(block.number)
            case "redacted_thinking":
                self._carry(block.opening, keeps=True)
                return Signature(block.number, API, block.opening), BlockStop(block.number)
            case "tool_use":
                return self._closed_tool_use(block, whole)
            case _:
                self._carry({**block.opening, "input": loaded(whole)} if whole else block.opening)
                return _NOTHING
        return (BlockStop(block.number),)

    def _closed_text(self, block: OpenBlock, whole: str) -> Sequence[Event]:
        self._kept.text(whole)
        opened = block.opening.get("citations")
        citations = (*(opened if isinstance(opened, list) else ()), *block.citations)
        self._carry({"type": "text", "text": whole, **({"citations": list(citations)} if citations else {})})
        end = BlockStop(block.number)
        return (Cited(block.number, citations), end) if citations else (end,)

    def _closed_tool_use(self, block: OpenBlock, whole: str) -> Sequence[Event]:
        """Without pieces the input is what the opening held: nothing, or, from some servers, all of it."""
        events: Sequence[Event] = _NOTHING
        if not whole:
            opening = block.opening.get("input")
            whole = str(jsonio.encode(opening if isinstance(opening, dict) else {}), "utf-8")
            events = self._arguments(block, whole)
        if not block.is_answer:
            self._kept.tool_use(str(block.opening["id"]))
        self._carry({**block.opening, "input": loaded(whole)})
        return *events, BlockStop(block.number)

    def _carry(self, block: dict[str, Any], *, keeps: bool = False) -> None:
        self._carried.append(block)
        if keeps:
            self._kept.thinking(block)


_HANDLERS: Mapping[str, Callable[[MessagesReader, MessageEvent], Sequence[Event]]] = {
    "message_start": MessagesReader._message_start,
    "content_block_start": MessagesReader._block_start,
    "content_block_delta": MessagesReader._block_delta,
    "content_block_stop": MessagesReader._block_stop,
    "message_delta": MessagesReader._message_delta,
    "message_stop": MessagesReader._message_stop,
    "ping": MessagesReader._ping,
    "error": MessagesReader._error,
}
