"""Answers in Anthropic's Messages protocol, whole and streamed, written from events.

    message_start  ping  (content_block_start  delta ...  content_block_stop)*  message_delta  message_stop

One block is open at a time (`protocols/sequenced`), the head goes out before the first of them, and the end only when its counts are
known. A thought ends with its signature: the upstream's own where that is Anthropic, else a sealed one of ours (`protocols/sealed`), which
holds what that upstream wants back. The three counts of the prompt add up to it. A whole answer is the same blocks, put together.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio
from compat.protocols.base import TranslationContext
from compat.protocols.events import (
    ArgumentsDelta,
    BlockKind,
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
from compat.protocols.messages.shapes import API
from compat.protocols.notes import Notes
from compat.protocols.sealed import PREFIX, Sealed
from compat.protocols.sequenced import Sequenced
from compat.protocols.served import found_block, search_id
from compat.wire.usage import Usage

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
REASONS: Mapping[StopReason, str] = {"end": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "refusal": "refusal"}
CITATIONS = frozenset(f"{kind}_location" for kind in ("char", "page", "content_block", "web_search_result", "search_result"))
"""What a citation of this protocol may be of."""

_encode = msgspec.json.Encoder().encode
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%s","%s":%%s}}\n\n'
_FIT = re.compile(r"[A-Za-z0-9_-]{1,128}")
_WRAPPED = "toolu_compat_"


def fit_call_id(call_id: str) -> str:
    """The id of a call as this protocol's clients and upstreams take it; see `call_id_of`."""
    if _FIT.fullmatch(call_id) and not call_id.startswith(_WRAPPED):
        return call_id
    return _WRAPPED + base64.urlsafe_b64encode(call_id.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


def call_id_of(fitted: str) -> str:
    """The upstream's id of a call."""
    wrapped = fitted.removeprefix(_WRAPPED)
    if wrapped == fitted:
        return fitted
    try:
        return base64.b64decode(wrapped + "=" * (-len(wrapped) % 4), b"-_", validate=True).decode("utf-8", "surrogatepass")
    except ValueError:
        return fitted


class MessagesWriter(FrameWriter):
    """See `FrameWriter`. One use: frames, or one body."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        self._ctx = ctx
        self._notes = notes
        self._order = Sequenced()
        self._has_begun = False
        self._is_thought = False
        self._ready = b""
        self._calls = 0
        self._searches = 0
        self._sealed_calls = -1
        self._is_refused = False
        self._signature: str | None = None
        self._hidden: list[str] = []
        self._dropped: set[int] = set()
        self._stop = Stop("end")
        self._usage = Usage()

    @classmethod
    def going_on(cls, ctx: TranslationContext, number: int, open_kind: BlockKind | None) -> MessagesWriter:
        """The writer of a stream that has begun already, whose last block has this number, and this kind where it is open."""
        writer = cls(ctx, Notes())
        writer._has_begun = True
        writer._order = Sequenced(number, open_kind)
        if open_kind is not None:
            writer._opened(open_kind, number)
        return writer

    def write(self, event: Event) -> bytes:
        """See `FrameWriter`."""
        if type(event) is TextDelta and event.index == self._order.open_index:
            return self._ready % _encode(event.text)
        return b"".join([_FRAMES[type(one)](self, one) for one in self._in_order(event)])

    def write_raw(self, deltas: RawDeltas) -> bytes:
        """See `FrameWriter`."""
        kind, index, values = deltas
        if index != self._order.open_index or kind is ArgumentsDelta or (self._is_thought and self._ctx.memory.hides_thinking):
            return super().write_raw(deltas)
        ready = self._ready
        return b"".join([ready % (b'"' + value + b'"') for value in values])

    def finish(self) -> bytes:
        """See `FrameWriter`."""
        return b"".join([_FRAMES[type(one)](self, one) for one in self._order.end()]) + self._head() + self._end()

    def _in_order(self, event: Event) -> Sequence[Event]:
        """What one event becomes. What an upstream says of a call besides travels in the seal of a thought before it."""
        if self._is_dropped(event):
            return ()
        if type(event) is not BlockStart or event.kind != "tool_call" or not event.more or not event.call_id:
            return self._order.take(event)
        index = self._sealed_calls = self._sealed_calls - 1
        seal = Signature(index, "openai.chat", {"calls": {event.call_id: event.more}})
        return [one for each in (BlockStart(index, "thinking"), seal, BlockStop(index), event) for one in self._order.take(each)]

    def _is_dropped(self, event: Event) -> bool:
        """Whether it is of a thought that the client doesn't want."""
        if not self._ctx.memory.drops_thinking:
            return False
        if isinstance(event, BlockStart) and event.kind == "thinking":
            self._dropped.add(event.index)
        return getattr(event, "index", None) in self._dropped

    # One handler per event.

    def _head(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        prompt = self._ctx.prompt_tokens()
        message = {**self._identity(), "content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
        return frame({"type": "message_start", "message": {**message, "usage": usage_object(Usage(prompt, 1))}}) + PING

    def _identity(self) -> dict[str, Any]:
        return {"id": self._ctx.completion_id, "type": "message", "role": "assistant", "model": self._ctx.alias}

    def _start(self, _: Start) -> bytes:
        return self._head()

    def _block_start(self, event: BlockStart) -> bytes:
        self._opened(event.kind, event.index)
        opening, rest = self._opening(event), b""
        if event.kind == "search":
            rest = self._ready % _encode(str(jsonio.encode(opening["input"]), "utf-8"))
            opening["input"] = {}
        return self._head() + frame({"type": "content_block_start", "index": event.index, "content_block": opening}) + rest

    def _opened(self, kind: BlockKind, number: int) -> None:
        self._is_thought = kind == "thinking"
        name, key = _DELTA_NAMES[kind]
        self._ready = _DELTA % (number, name, key)
        self._signature = None
        self._is_refused = self._is_refused or kind == "refusal"
        self._calls += kind == "tool_call"
        self._searches += kind == "search"

    def _opening(self, event: BlockStart) -> dict[str, Any]:
        if event.kind == "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        if event.kind == "search":
            return {"type": "server_tool_use", "id": search_id(event.call_id), "name": event.name, "input": {"query": event.more}}
        if event.kind == "found":
            return found_block(event.call_id, event.more)
        if event.kind != "tool_call":
            return {"type": "text", "text": ""}
        call_id = event.call_id or f"toolu_{self._ctx.completion_id.removeprefix('msg_')}_{event.index}"
        return {"type": "tool_use", "id": fit_call_id(call_id), "name": event.name, "input": {}}

    def _words(self, event: TextDelta | RefusalDelta | ArgumentsDelta) -> bytes:
        return self._ready % _encode(event.text)

    def _thinking(self, event: ThinkingDelta) -> bytes:
        if self._ctx.memory.hides_thinking:
            self._hidden.append(event.text)
            return b""
        return self._ready % _encode(event.text)

    def _signed(self, event: Signature) -> bytes:
        self._signature = event.value if event.origin == API else self._sealed(event.origin, event.value)
        return b""

    def _cited(self, event: Cited) -> bytes:
        return b"".join(
            frame({"type": "content_block_delta", "index": event.index, "delta": {"type": "citations_delta", "citation": citation}})
            for citation in self._known(event.citations)
        )

    def _block_stop(self, event: BlockStop) -> bytes:
        end = frame({"type": "content_block_stop", "index": event.index})
        if not self._is_thought:
            return end
        delta = {"type": "signature_delta", "signature": self._take_signature()}
        return frame({"type": "content_block_delta", "index": event.index, "delta": delta}) + end

    def _unknown(self, event: Unknown) -> bytes:
        self._notes.add("left_out", event.what)
        return b""

    def _stopped(self, event: Stop) -> bytes:
        self._stop = event
        return self._head()

    def _used(self, event: Used) -> bytes:
        self._usage = event.usage
        return b""

    def _end(self) -> bytes:
        return frame({"type": "message_delta", "delta": self._outcome(), "usage": self._counts()}) + STOP

    # Of frames and bodies alike.

    def _take_signature(self) -> str:
        """The signature of the thought that ends. One that nobody signed is sealed: it must not be taken for a model's own."""
        hidden, self._hidden = "".join(self._hidden), []
        return self._sealed("openai.chat", hidden or None) if self._signature is None else self._signature

    def _sealed(self, origin: str, value: Any) -> str:
        ctx = self._ctx
        return ctx.sealer.seal(Sealed(ctx.upstream_name, ctx.target, origin, value)) if ctx.sealer is not None else PREFIX

    def _known(self, citations: Sequence[Any]) -> Iterable[Any]:
        for citation in citations:
            kind = citation.get("type") if isinstance(citation, dict) else None
            if kind in CITATIONS:
                yield citation
            elif kind == "url_citation" and isinstance(citation.get("url"), str):
                place = {"url": citation["url"], "title": str(citation.get("title") or citation["url"])}
                yield {"type": "web_search_result_location", **place, "encrypted_index": PREFIX, "cited_text": ""}
            else:
                self._notes.add("left_out", "citation")

    def _outcome(self) -> dict[str, Any]:
        """How the answer ended. What the upstream calls an end is one with calls where it made any, and the other way round."""
        reason, stop = REASONS[self._stop.reason], self._stop
        if self._is_refused:
            reason = "refusal"
        elif reason in ("end_turn", "tool_use"):
            reason = "tool_use" if self._calls else "stop_sequence" if stop.sequence else "end_turn"
        self.reason = reason
        return {
            "stop_reason": reason,
            "stop_sequence": stop.sequence or None if reason == "stop_sequence" else None,
            "stop_details": refusal_details(stop) if reason == "refusal" else None,
        }

    def _counts(self) -> dict[str, Any]:
        searches = {"server_tool_use": {"web_search_requests": self._searches, "web_fetch_requests": 0}} if self._searches else {}
        return {**usage_object(self._usage), **searches}

    # Whole answers.

    def body(self, events: Iterable[Event]) -> bytes:
        """See `FrameWriter`."""
        blocks: list[dict[str, Any]] = []
        pieces: list[str] = []
        for event in (one for each in events for one in self._in_order(each)):
            match event:
                case BlockStart():
                    self._opened(event.kind, event.index)
                    blocks.append(self._opening(event))
                case TextDelta() | RefusalDelta() | ThinkingDelta() | ArgumentsDelta():
                    pieces.append(event.text)
                case Cited():
                    blocks[-1].setdefault("citations", []).extend(self._known(event.citations))
                case BlockStop():
                    self._complete(blocks[-1], "".join(pieces))
                    pieces.clear()
                case Signature():
                    self._signed(event)
                case Stop():
                    self._stop = event
                case Used():
                    self._usage = event.usage
                case Unknown():
                    self._unknown(event)
        return jsonio.encode({**self._identity(), "content": blocks, **self._outcome(), "usage": self._counts()})

    def _complete(self, block: dict[str, Any], whole: str) -> None:
        if block["type"] == "text":
            block["text"] = whole
        elif block["type"] == "tool_use":
            block["input"] = self._input(whole)
        elif block["type"] == "thinking":
            is_hidden = self._ctx.memory.hides_thinking
            block["thinking"] = "" if is_hidden else whole
            self._hidden += [whole] if is_hidden else []
            block["signature"] = self._take_signature()

    def _input(self, arguments: str) -> Any:
        """The arguments with the bytes that the model wrote. What is not a JSON object is wrapped into one: the client's own check of the
        tool's input shows the model what it wrote."""
        text = arguments.strip()
        if not text or text == "null":
            return {}
        try:
            msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            self._notes.add("wrapped", "arguments")
            return {"arguments": arguments}
        return msgspec.Raw(text.encode())


_DELTA_NAMES: Mapping[BlockKind, tuple[bytes, bytes]] = {
    "text": (b"text_delta", b"text"),
    "refusal": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    **dict.fromkeys(("tool_call", "search", "found"), (b"input_json_delta", b"partial_json")),
}
_FRAMES: Mapping[type[Event], Callable[[MessagesWriter, Any], bytes]] = {
    Start: MessagesWriter._start,
    BlockStart: MessagesWriter._block_start,
    TextDelta: MessagesWriter._words,
    ThinkingDelta: MessagesWriter._thinking,
    Signature: MessagesWriter._signed,
    RefusalDelta: MessagesWriter._words,
    ArgumentsDelta: MessagesWriter._words,
    Cited: MessagesWriter._cited,
    BlockStop: MessagesWriter._block_stop,
    Unknown: MessagesWriter._unknown,
    Stop: MessagesWriter._stopped,
    Used: MessagesWriter._used,
}


def frame(event: Mapping[str, Any]) -> bytes:
    """One event as it is sent, named by its type."""
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), jsonio.encode(event))


def usage_object(usage: Usage) -> dict[str, Any]:
    """Usage in this protocol's words: what was new of the prompt, what was read from a cache, and what was written to one."""
    read = min(usage.cache_read_tokens, usage.prompt_tokens)
    written = min(usage.cache_write_tokens, usage.prompt_tokens - read)
    return {
        "input_tokens": usage.prompt_tokens - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": min(usage.reasoning_tokens, usage.completion_tokens)},
    }


def refusal_details(stop: Stop) -> dict[str, Any]:
    """What is said of a refusal: the upstream's own details where they are of this shape."""
    details = stop.details if isinstance(stop.details, dict) else {}
    told = {key: details[key] for key in ("category", "explanation") if isinstance(details.get(key), str)}
    return {"type": "refusal", "category": None, "explanation": stop.refusal or None, **told}
