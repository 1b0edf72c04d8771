"""Anthropic's event stream as OpenAI's chunks.

Each event type has a handler, each content block a record of what it is and what came of it. Deltas are decoded into a typed struct and
written into a frame that is ready but for one string.

Tool calls are counted 0, 1, 2 whatever blocks lie between (rule 1), one without input has the arguments `{}` (rule 2), usage in
`message_delta` is cumulative (rule 16), an `error` event ends the stream as an error (rule 19), blocks without a counterpart are left out
with a note (rule 29).

Blocks are kept until the answer ends, for the vault and for a pause, so that an answer has a bound here as a whole one has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import UpstreamBroken
from compat.translate.anthropic_answer import (
    PAUSED,
    ThinkingKeeper,
    add_counts,
    annotations_of,
    finish_reason_of,
    loaded,
    read_counts,
    refusal_fields,
    refusal_text,
    usage_object,
    usage_of,
    words_of,
)
from compat.translate.base import Continuation, StreamTranslator, TranslationContext
from compat.translate.notes import Notes
from compat.translate.upstream_errors import event_error
from compat.wire.estimate import estimated_usage
from compat.wire.openai import ChunkWriter
from compat.wire.sse import DONE, parse_event
from compat.wire.usage import Usage

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Of events: more than half a million tokens, however finely they are cut."""


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: Any = None
    stop_reason: str | None = None
    stop_details: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


@dataclass(slots=True)
class _Block:
    """An open content block: as it began, the pieces that came since, and what it is to the client."""

    opening: dict[str, Any]
    pieces: list[str] = field(default_factory=list)
    signature: list[str] = field(default_factory=list)
    citations: list[Any] = field(default_factory=list)
    call_index: int = -1
    is_answer: bool = False
    text_start: int = 0

    @property
    def kind(self) -> str:
        """The block's type."""
        return str(self.opening.get("type"))


class AnthropicStream(StreamTranslator):
    """Events of an Anthropic upstream as chunks."""

    def __init__(self, ctx: TranslationContext) -> None:
        super().__init__(ctx)
        self._writer = ChunkWriter(ctx.completion_id, ctx.created_s, ctx.alias)
        self._receipt = Notes()
        self._kept = ThinkingKeeper()
        self._has_role = False
        self._calls = 0
        self._text_chars = 0
        self._written_chars = 0
        self._bytes = 0
        self._before: Mapping[str, int] = {}
        self._carried: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self._has_begun = False
        self._counts: dict[str, int] = {}
        self._open: dict[int, _Block] = {}
        self._stop_reason: str | None = None
        self._stop_details: Any = None

    def resume(self) -> None:
        """The answer paused, and goes on in another stream."""
        assert self.continuation is not None
        self._carried = list(self.continuation.blocks)
        self._before = self.continuation.counts
        super().resume()
        self._begin()

    def translate_event(self, block: bytes) -> bytes:
        """The chunks for one event. Errors: any `UpstreamError`."""
        data = parse_event(block).data
        if not data or self.is_finished:
            return b""
        self._bytes += len(data)
        if self._bytes > MAX_ANSWER_BYTES:
            raise UpstreamBroken(f"The upstream sent an answer of more than {MAX_ANSWER_BYTES} bytes.")
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamBroken(f"The upstream sent an event that is not one: {error}.") from error
        handler = _HANDLERS.get(event.type)
        if handler is None:
            if event.error is not None:  # an error in OpenAI's shape, from a server that speaks both
                raise event_error(event.error, self.ctx.upstream_name)
            return b""
        return handler(self, event)

    def translate_end(self) -> bytes:
        """finish_reason, usage if it was asked for, and the end mark."""
        if not self.is_finished or self._stop_reason is None:
            raise UpstreamBroken("The upstream ended its answer without a message_stop.")
        if self.continuation is not None:
            raise UpstreamBroken("The upstream paused its answer again and again.")
        reason = self.finish_reason = finish_reason_of(self._stop_reason, has_calls=self._calls > 0, notes=self._receipt)
        self.thinking = self._kept.record()
        self.notes = list(self._receipt.told())
        frames = [self._role()]
        if self._stop_reason == "refusal":
            frames.append(self._writer.text(b"refusal", refusal_text(self._stop_details)))
            frames.append(self._writer.finish(reason, refusal_fields(self._stop_details)))
        else:
            frames.append(self._writer.finish(reason))
        assert self.usage is not None
        if self.ctx.wants_usage:
            frames.append(self._writer.usage(usage_object(self.usage, self.ctx)))
        return b"".join((*frames, DONE))

    def usage_so_far(self) -> Usage:
        """See `StreamTranslator`. The prompt's count comes with the first event, the answer's with the last."""
        counts = add_counts(self._before, self._counts)
        prompt = self.ctx.count_prompt() if not counts and self.ctx.count_prompt is not None else 0
        estimate = estimated_usage(prompt, self._written_chars)
        if not counts:
            return estimate
        told = usage_of(counts)
        return replace(told, completion_tokens=max(told.completion_tokens, estimate.completion_tokens), is_estimate=True)

    # One handler per event type.

    def _message_start(self, event: _Event) -> bytes:
        if event.message is None:
            raise UpstreamBroken("The upstream sent a message_start without a message.")
        self._has_begun = True
        self._counts = read_counts(event.message.get("usage"))
        return self._role()

    def _role(self) -> bytes:
        if self._has_role:
            return b""
        self._has_role = True
        return self._writer.role()

    def _block_start(self, event: _Event) -> bytes:
        opening = event.content_block
        if opening is None:
            raise UpstreamBroken("The upstream sent a content_block_start without a block.")
        block = self._open[event.index] = _Block(opening, text_start=self._text_chars)
        match opening:
            case {"type": "text"}:
                return self._text(block, words_of(opening, "text"))
            case {"type": "thinking"}:
                block.signature.append(words_of(opening, "signature"))
                return self._thinking(block, words_of(opening, "thinking"))
            case {"type": "tool_use", "id": str(call_id), "name": str(name)}:
                return self._tool_use(block, call_id, name)
            case {"type": "redacted_thinking"}:
                return b""
            case {"type": str(kind)} if kind != "tool_use":
                self._receipt.add("left_out", kind)
                return b""
        raise UpstreamBroken("The upstream sent something that is not a content block.")

    def _block_delta(self, event: _Event) -> bytes:
        block, delta = self._open.get(event.index), event.delta
        if block is None or delta is None:
            raise UpstreamBroken("The upstream sent a delta for a content block that is not open.")
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
                self._receipt.add("left_out", unknown or "delta")
        return b""

    def _block_stop(self, event: _Event) -> bytes:
        block = self._open.pop(event.index, None)
        if block is None:
            raise UpstreamBroken("The upstream ended a content block that is not open.")
        whole = "".join(block.pieces)
        match block.kind:
            case "text":
                return self._end_text(block, whole)
            case "thinking":
                self._carry({**block.opening, "thinking": whole, "signature": "".join(block.signature)}, keeps=True)
            case "redacted_thinking":
                self._carry(block.opening, keeps=True)
            case "tool_use":
                return self._end_tool_use(block, whole)
            case _:
                self._carry({**block.opening, "input": loaded(whole)} if whole else block.opening)
        return b""

    def _message_delta(self, event: _Event) -> bytes:
        for name, count in read_counts(event.usage).items():
            self._counts[name] = max(count, self._counts.get(name, 0))
        if event.delta is not None and event.delta.stop_reason is not None:
            self._stop_reason = event.delta.stop_reason
            self._stop_details = event.delta.stop_details
        return b""

    def _message_stop(self, _: _Event) -> bytes:
        if not self._has_begun or self._stop_reason is None or self._open:
            raise UpstreamBroken("The upstream ended its answer before it was complete.")
        self.is_finished = True
        counts = add_counts(self._before, self._counts)
        self.usage = usage_of(counts)
        if self._stop_reason == PAUSED:
            self.continuation = Continuation(tuple(self._carried), counts)
        return b""

    def _ping(self, _: _Event) -> bytes:
        return b""

    def _error(self, event: _Event) -> bytes:
        raise event_error(event.error, self.ctx.upstream_name)

    # Content.

    def _text(self, block: _Block, text: str) -> bytes:
        if not text:
            return b""
        self.is_committed = True
        self._text_chars += len(text)
        self._written_chars += len(text)
        block.pieces.append(text)
        return self._role() + self._writer.text(b"content", text)

    def _thinking(self, block: _Block, thinking: str) -> bytes:
        if not thinking:
            return b""
        self.is_committed = True
        self._written_chars += len(thinking)
        block.pieces.append(thinking)
        return self._role() + self._writer.text(b"reasoning_content", thinking)

    def _tool_use(self, block: _Block, call_id: str, name: str) -> bytes:
        self.is_committed = True
        if name == self.ctx.memory.answer_tool:
            block.is_answer = True
            return self._role()
        block.call_index = self._calls
        self._calls += 1
        return self._role() + self._writer.tool_call(block.call_index, call_id, self.ctx.memory.client_names.get(name, name))

    def _arguments(self, block: _Block, piece: str) -> bytes:
        if not piece:
            return b""
        self._written_chars += len(piece)
        block.pieces.append(piece)
        if block.is_answer:
            self._text_chars += len(piece)
            return self._writer.text(b"content", piece)
        return self._writer.arguments(block.call_index, piece) if block.call_index >= 0 else b""

    def _end_text(self, block: _Block, whole: str) -> bytes:
        self._kept.text(whole)
        opened = block.opening.get("citations")
        citations = [*(opened if isinstance(opened, list) else ()), *block.citations]
        self._carry({"type": "text", "text": whole, **({"citations": citations} if citations else {})})
        annotations = annotations_of(citations, block.text_start, self._text_chars, self._receipt)
        return self._role() + self._writer.delta({"annotations": annotations}) if annotations else b""

    def _end_tool_use(self, block: _Block, whole: str) -> bytes:
        """Without pieces the input is what the opening held: nothing, or, from some servers, all of it."""
        frames = b""
        if not whole:
            opening = block.opening.get("input")
            whole = str(jsonio.encode(opening if isinstance(opening, dict) else {}), "utf-8")
            frames = self._arguments(block, whole)
        if not block.is_answer:
            self._kept.tool_use(str(block.opening["id"]))
        return frames

    def _carry(self, block: dict[str, Any], *, keeps: bool = False) -> None:
        """Keep a finished block: for the resumption of a pause, and thinking for the turns that follow."""
        self._carried.append(block)
        if keeps:
            self._kept.thinking(block)


_HANDLERS: Mapping[str, Callable[[AnthropicStream, _Event], bytes]] = {
    "message_start": AnthropicStream._message_start,
    "content_block_start": AnthropicStream._block_start,
    "content_block_delta": AnthropicStream._block_delta,
    "content_block_stop": AnthropicStream._block_stop,
    "message_delta": AnthropicStream._message_delta,
    "message_stop": AnthropicStream._message_stop,
    "ping": AnthropicStream._ping,
    "error": AnthropicStream._error,
}
