"""Answers in OpenAI's chat protocol, whole and streamed, written from events.

A piece of text or of arguments is written into a frame that is ready but for one string. Tool calls are counted 0, 1, 2 whatever blocks lie
between (rule 1); blocks without a counterpart are left out with a note (rule 29). Rules are those of
docs/translation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio
from compat.protocols.base import TranslationContext
from compat.protocols.chat.chunks import API, DONE, ChunkWriter, called
from compat.protocols.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    RefusalDelta,
    Signature,
    Start,
    Stop,
    StopReason,
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.protocols.joined import FrameWriter, RawDeltas
from compat.protocols.notes import Notes
from compat.protocols.raw_text import text_of
from compat.wire.usage import Usage, cost_of

_encode = msgspec.json.Encoder().encode
REASONS: Mapping[StopReason, str] = {"end": "stop", "tool_calls": "tool_calls", "length": "length", "refusal": "content_filter"}


class ChatWriter(FrameWriter):
    """See `FrameWriter`. One use: frames, or one body."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        self._ctx = ctx
        self._notes = notes
        self._chunks = ChunkWriter(ctx.completion_id, ctx.created_s, ctx.alias)
        self._content, self._reasoning = self._chunks.ready(b"content"), self._chunks.ready(b"reasoning_content")
        self._has_role = False
        self._calls: dict[int, int] = {}
        self._freeform: set[int] = set()
        self._text_starts: dict[int, int] = {}
        self._text_chars = 0
        self._uncounted: list[bytes] = []

    @classmethod
    def going_on(cls, ctx: TranslationContext) -> ChatWriter:
        """The writer of a stream that has begun already: its role is out."""
        writer = cls(ctx, Notes())
        writer._has_role = True
        return writer

    def write(self, event: Event) -> bytes:
        """See `FrameWriter`."""
        return _FRAMES[type(event)](self, event)

    def write_raw(self, deltas: RawDeltas) -> bytes:
        """See `FrameWriter`."""
        kind, index, values = deltas
        if kind is ArgumentsDelta:
            frame = self._ready_arguments(index)
        elif kind is TextDelta:
            self._uncounted += values
            frame = self._content
        else:
            frame = self._reasoning
        if len(values) == 1:
            return frame % (b'"' + values[0] + b'"')
        return b"".join([frame % (b'"' + value + b'"') for value in values])

    def finish(self) -> bytes:
        """See `FrameWriter`."""
        return DONE

    def _role(self) -> bytes:
        if self._has_role:
            return b""
        self._has_role = True
        return self._chunks.role()

    def _start(self, _: Start) -> bytes:
        return self._role()

    def _block_start(self, event: BlockStart) -> bytes:
        if event.kind == "text":
            self._text_starts[event.index] = self._count()
        if event.kind != "tool_call":
            return b""
        number = self._calls[event.index] = len(self._calls)
        if event.is_freeform:
            self._freeform.add(event.index)
        return self._role() + self._chunks.tool_call(number, event.call_id, event.name, event.more, is_freeform=event.is_freeform)

    def _count(self) -> int:
        """How many characters of text there are so far."""
        if self._uncounted:
            self._text_chars += len(text_of(self._uncounted))
            self._uncounted.clear()
        return self._text_chars

    def _text(self, event: TextDelta) -> bytes:
        text = event.text
        self._text_chars += len(text)
        frame = self._content % _encode(text)
        return frame if self._has_role else self._role() + frame

    def _thinking(self, event: ThinkingDelta) -> bytes:
        frame = self._reasoning % _encode(event.text)
        return frame if self._has_role else self._role() + frame

    def _refusal(self, event: RefusalDelta) -> bytes:
        return self._role() + self._chunks.text(b"refusal", event.text)

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        return self._ready_arguments(event.index) % _encode(event.text)

    def _ready_arguments(self, block: int) -> bytes:
        return self._chunks.ready_arguments(self._calls[block], is_freeform=block in self._freeform)

    def _cited(self, event: Cited) -> bytes:
        annotations = annotations_of(event.citations, self._text_starts[event.index], self._count(), self._notes)
        return self._role() + self._chunks.delta({"annotations": annotations}) if annotations else b""

    def _nothing(self, _: Event) -> bytes:
        return b""

    def _block_stop(self, _: BlockStop) -> bytes:
        self._count()
        return b""

    def _unknown(self, event: Unknown) -> bytes:
        if event.origin == API and event.value is not None:
            return self._role() + self._chunks.delta({event.what: event.value})
        self._notes.add("left_out", event.what)
        return b""

    def _stop(self, event: Stop) -> bytes:
        reason = self.reason = REASONS[event.reason]
        if event.reason != "refusal" or not event.refusal:
            return self._role() + self._chunks.finish(reason)
        refusal = self._chunks.text(b"refusal", event.refusal)
        return self._role() + refusal + self._chunks.finish(reason, refusal_fields(event.details))

    def _used(self, event: Used) -> bytes:
        if not self._ctx.wants_usage:
            return b""
        return self._chunks.usage(event.told if isinstance(event.told, dict) else usage_object(event.usage, self._ctx))

    # Whole answers.

    def body(self, events: Iterable[Event]) -> bytes:
        """See `FrameWriter`."""
        texts: dict[str, list[str]] = {"content": [], "reasoning_content": [], "refusal": []}
        calls: dict[int, BlockStart] = {}
        pieces: dict[int, list[str]] = {}
        annotations: list[dict[str, Any]] = []
        stop, usage = Stop("end"), Usage()
        for event in events:
            match event:
                case BlockStart(index, "tool_call"):
                    calls[index], pieces[index] = event, []
                case BlockStart():
                    self._block_start(event)
                case TextDelta():
                    texts["content"].append(event.text)
                    self._text_chars += len(event.text)
                case ThinkingDelta():
                    texts["reasoning_content"].append(event.text)
                case RefusalDelta():
                    texts["refusal"].append(event.text)
                case ArgumentsDelta():
                    pieces[event.index].append(event.text)
                case Cited():
                    annotations += annotations_of(event.citations, self._text_starts[event.index], self._text_chars, self._notes)
                case Unknown():
                    self._unknown(event)
                case Stop():
                    stop = event
                case Used():
                    usage = event.usage
        said = {name: "".join(parts) for name, parts in texts.items()}
        made = [
            {"id": call.call_id, **called(call.name, "".join(pieces[index]), is_freeform=call.is_freeform)} for index, call in calls.items()
        ]
        return self._document(_message(said, made, annotations, stop), stop, usage)

    def _document(self, message: Mapping[str, Any], stop: Stop, usage: Usage) -> bytes:
        ctx = self._ctx
        self.reason = REASONS[stop.reason]
        choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.reason}
        if stop.reason == "refusal":
            choice |= refusal_fields(stop.details)
        head = {"id": ctx.completion_id, "object": "chat.completion", "created": ctx.created_s, "model": ctx.alias}
        return jsonio.encode({**head, "choices": [choice], "usage": usage_object(usage, ctx)})


def _message(said: Mapping[str, str], calls: Sequence[Any], annotations: Sequence[Any], stop: Stop) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said["content"] or None, "refusal": None}
    if said["reasoning_content"]:
        message["reasoning_content"] = said["reasoning_content"]
    if calls:
        message["tool_calls"] = calls
    if annotations:
        message["annotations"] = annotations
    refusal = said["refusal"] or (stop.refusal if stop.reason == "refusal" else "")
    if refusal or stop.reason == "refusal":
        message["refusal"] = refusal
    elif not said["content"] and not calls:
        message["content"] = ""
    return message


_FRAMES: Mapping[type[Event], Callable[[ChatWriter, Any], bytes]] = {
    Start: ChatWriter._start,
    BlockStart: ChatWriter._block_start,
    TextDelta: ChatWriter._text,
    ThinkingDelta: ChatWriter._thinking,
    RefusalDelta: ChatWriter._refusal,
    ArgumentsDelta: ChatWriter._arguments,
    Cited: ChatWriter._cited,
    BlockStop: ChatWriter._block_stop,
    Signature: ChatWriter._nothing,
    Unknown: ChatWriter._unknown,
    Stop: ChatWriter._stop,
    Used: ChatWriter._used,
}


def refusal_fields(details: Any) -> dict[str, Any]:
    """The upstream's own words on a refusal, beside the choice's finish_reason."""
    return {"native_finish_reason": "refusal", "stop_details": details if isinstance(details, dict) else None}


def annotations_of(citations: Sequence[Any], start: int, end: int, notes: Notes) -> list[dict[str, Any]]:
    """Citations of the web as `url_citation` annotations of `content[start:end]`; those of other sources have no counterpart."""
    found = []
    for citation in citations:
        url = citation.get("url") if isinstance(citation, dict) else None
        if not isinstance(url, str):
            notes.add("left_out", "citation")
            continue
        title = citation.get("title")
        fields = {"url": url, "title": title if isinstance(title, str) else "", "start_index": start, "end_index": end}
        found.append({"type": "url_citation", "url_citation": fields})
    return found


def usage_object(usage: Usage, ctx: TranslationContext) -> dict[str, Any]:
    """Usage in both dialects: OpenAI's, and the top-level cache counts that Roo, Cline and older Kilo read; with the cost."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cost_details": {"upstream_inference_cost": cost_of(usage, ctx.model.price)},
    }
