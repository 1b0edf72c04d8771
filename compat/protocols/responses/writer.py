"""Answers in OpenAI's Responses protocol, whole and streamed, written from events.

    response.created  response.in_progress  (output_item.added ... output_item.done)*  response.completed | incomplete

Items come one after the other (`protocols/sequenced`), texts that follow each other are parts of one message, and an item ends when it is
known what follows it: a message before something else is `commentary`, the last item of an answer that was too long is incomplete. What an
upstream wants back with a thought is sealed into its `encrypted_content` (`protocols/sealed`), together with its words: Codex sends no
`content` back. A whole answer is what the last event of the stream holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from compat.protocols.base import ToolShape, TranslationContext
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
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.protocols.joined import FrameWriter, RawDeltas
from compat.protocols.notes import Notes
from compat.protocols.raw_text import text_of
from compat.protocols.responses.freeform import Unwrapped
from compat.protocols.responses.items import Item, Place, annotation_of, encode, frame, part_object, ready
from compat.protocols.responses.parts import API, SHAPES
from compat.protocols.responses.patch import PATCH, is_broken
from compat.protocols.responses.response_object import REASONS, ResponseHead, told_cost, usage_object
from compat.protocols.sealed import Sealed
from compat.protocols.sequenced import Sequenced
from compat.wire.usage import Usage, cost_of

_PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "tool_search_call": "tsc",
    "web_search_call": "ws",
}
"""How ids of items begin, by their type."""
_CALLS: Mapping[str, str] = {"function": "function_call", "freeform": "custom_tool_call", "search": "tool_search_call"}
_LAST = -2
"""The number of a block that no upstream sent; there are more below it. `Sequenced` has one of its own above it."""


class ResponsesWriter(FrameWriter):
    """See `FrameWriter`. One use: frames, or one body."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        self._ctx = ctx
        self._notes = notes
        self._order = Sequenced()
        self._head = ResponseHead.of(ctx.completion_id, ctx.created_s, ctx.alias, ctx.memory.echoed)
        self._has_begun = False
        self._number = 0
        self._output: list[Any] = []
        self._item: Item | None = None
        self._ready = b""
        self._signature: Signature | None = None
        self._unwrapped: Unwrapped | None = None
        self._ours = _LAST
        self._search_id = ""
        self._is_refused = False
        self._stop = Stop("end")
        self._usage = usage_object(Usage(), 0)

    @classmethod
    def going_on(cls, ctx: TranslationContext, place: Place) -> ResponsesWriter:
        """The writer of a stream that has begun already, and stands there."""
        writer = cls(ctx, Notes())
        writer._has_begun = True
        writer._number, writer._output, writer._item = place.number, [*place.output], place.item
        writer._order = Sequenced(0, place.open_kind)
        if place.item is not None and place.item.open:
            writer._ready = ready(place.item)
        return writer

    def write(self, event: Event) -> bytes:
        """See `FrameWriter`."""
        if type(event) is TextDelta and event.index == self._order.open_index:
            return self._delta(encode(event.text)[1:-1])
        return b"".join([_FRAMES[type(one)](self, one) for one in self._in_order(event)])

    def write_raw(self, deltas: RawDeltas) -> bytes:
        """See `FrameWriter`."""
        kind, index, values = deltas
        item = self._item
        if kind is ArgumentsDelta or index != self._order.open_index or item is None or not item.open:
            return super().write_raw(deltas)
        item.pieces += values
        first = self._number
        self._number += len(values)
        template = self._ready
        return b"".join([template % (value, number) for number, value in enumerate(values, first)])

    def finish(self) -> bytes:
        """See `FrameWriter`."""
        frames = [_FRAMES[type(one)](self, one) for one in self._order.end()]
        frames += [self._begun(), self._ended(is_last=True)]
        status = self._outcome()
        return b"".join((*frames, self._frame(f"response.{status}", {"response": self._object(status)})))

    def body(self, events: Iterable[Event]) -> bytes:
        """See `FrameWriter`."""
        self._has_begun = True
        for event in events:
            self.write(event)
        for event in self._order.end():
            _FRAMES[type(event)](self, event)
        self._ended(is_last=True)
        return bytes(self._object(self._outcome()))

    def _in_order(self, event: Event) -> Sequence[Event]:
        """What one event becomes. What an upstream says of a call besides travels in the seal of a thought before it; what a refusal says
        at the answer's end alone becomes a part."""
        match event:
            case BlockStart(call_id=str(call_id), more=dict(more)) if call_id and more:
                ours = self._ours = self._ours - 1
                seal = Signature(ours, "openai.chat", {"calls": {call_id: more}})
                events: Sequence[Event] = (BlockStart(ours, "thinking"), seal, BlockStop(ours), event)
            case Stop(reason="refusal", refusal=str(words)) if words and not self._is_refused:
                self._stop = event
                events = (BlockStart(_LAST, "refusal"), RefusalDelta(_LAST, words), BlockStop(_LAST), event)
            case _:
                return self._order.take(event)
        return [one for each in events for one in self._order.take(each)]

    def _frame(self, name: str, fields: Mapping[str, Any]) -> bytes:
        self._number += 1
        return frame(name, fields, self._number - 1)

    def _delta(self, value: bytes) -> bytes:
        """A piece of what is open, as what a JSON string holds."""
        assert self._item is not None
        self._item.pieces.append(value)
        self._number += 1
        return self._ready % (value, self._number - 1)

    def _object(self, status: str) -> msgspec.Raw:
        return self._head.encoded(status, self._output, self._usage, self.reason if status == "incomplete" else None, now_s=self._ctx.now_s)

    def _outcome(self) -> str:
        """The answer's last status. A refusal in the model's own words is an answer."""
        reason = None if self._stop.reason == "refusal" and self._is_refused else REASONS.get(self._stop.reason)
        self.reason = reason or "completed"
        return "completed" if reason is None else "incomplete"

    # One handler per event.

    def _begun(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        response = {"response": self._head.encoded("in_progress")}
        return self._frame("response.created", response) + self._frame("response.in_progress", response)

    def _start(self, _: Start) -> bytes:
        return self._begun()

    def _block_start(self, event: BlockStart) -> bytes:
        return self._begun() + _STARTS[event.kind](self, event)

    def _said(self, event: BlockStart) -> bytes:
        """Another part of the message, or the first one of another."""
        self._is_refused |= event.kind == "refusal" and self._stop.reason != "refusal"
        is_more = self._item is not None and self._item.kind == "message"
        added = b"" if is_more else self._added("message", {"status": "in_progress", "role": "assistant", "content": []})
        return added + self._opened("output_text" if event.kind == "text" else "refusal")

    def _thought(self, _: BlockStart) -> bytes:
        return self._added("reasoning", {"summary": []})

    def _called(self, event: BlockStart) -> bytes:
        shape = event.more if isinstance(event.more, ToolShape) else self._ctx.memory.tools.get(event.name)
        kind = shape.kind if shape is not None else "freeform" if event.is_freeform else "function"
        name = _CALLS[kind]
        self._unwrapped = Unwrapped() if kind == "freeform" and not event.is_freeform else None
        call_id = event.call_id or f"call_{self._plain_id}_{len(self._output) + (self._item is not None)}"
        fields: dict[str, Any] = {"call_id": call_id, "status": "in_progress"}
        if kind == "search":
            return self._added(name, {**fields, "execution": "client", "arguments": {}})
        fields |= {"name": event.name if shape is None else shape.name, SHAPES[name].key: ""}
        if shape is not None and shape.namespace:
            fields["namespace"] = shape.namespace
        return self._added(name, fields) + self._opened(name)

    def _searched(self, event: BlockStart) -> bytes:
        """A search that is run for the model. What it gives comes later, and is its last one's."""
        self._search_id = event.call_id
        added = self._added("web_search_call", {"status": "in_progress", "action": {"type": "search", "query": event.more}})
        return added + self._step("in_progress") + self._step("searching")

    def _found(self, event: BlockStart) -> bytes:
        item = self._item
        if item is not None and item.kind == "web_search_call" and event.call_id == self._search_id:
            sources = [{"type": "url", "url": one.url} for one in event.more.results]
            item.fields |= {"action": {**item.fields["action"], "sources": sources}}
            item.fields |= {"status": "failed"} if event.more.error else {}
        return b""

    def _step(self, name: str) -> bytes:
        assert self._item is not None
        return self._frame(f"response.web_search_call.{name}", self._item.place)

    def _words(self, event: TextDelta | RefusalDelta) -> bytes:
        return self._delta(encode(event.text)[1:-1])

    def _thinking(self, event: ThinkingDelta) -> bytes:
        item = self._item
        assert item is not None
        if self._ctx.memory.hides_thinking:
            item.pieces.append(encode(event.text)[1:-1])
            return b""
        opened = b"" if item.open else self._opened("summary_text" if self._head.shows_summary else "reasoning_text")
        return opened + self._delta(encode(event.text)[1:-1])

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        assert self._item is not None
        text = self._unwrapped.feed(event.text) if self._unwrapped is not None else event.text
        if self._item.open:
            return self._delta(encode(text)[1:-1]) if text else b""
        self._item.pieces.append(encode(text)[1:-1])
        return b""

    def _signed(self, event: Signature) -> bytes:
        self._signature = event
        return b""

    def _cited(self, event: Cited) -> bytes:
        item = self._item
        assert item is not None
        frames = []
        for citation in event.citations:
            annotation = annotation_of(citation, item)
            if annotation is None:
                self._notes.add("left_out", "citation")
                continue
            fields = {**item.part_place, "annotation_index": len(item.annotations), "annotation": annotation}
            item.annotations.append(annotation)
            frames.append(self._frame("response.output_text.annotation.added", fields))
        return b"".join(frames)

    def _block_stop(self, _: BlockStop) -> bytes:
        """The words are complete; whether their item is, what follows says."""
        item = self._item
        if item is None or not item.open:
            return b""
        frames = []
        if self._unwrapped is not None and (rest := self._unwrapped.end()):
            frames.append(self._delta(encode(rest)[1:-1]))
        self._unwrapped = None
        shape = SHAPES[item.open]
        if item.kind == "function_call" and not b"".join(item.pieces).strip():
            frames.append(self._delta(b"{}"))
        words, place = item.words(), item.part_place
        frames.append(self._frame(f"{shape.words}.done", {**place, shape.key: words, **shape.more}))
        if not shape.part:
            item.fields[shape.key] = words
            if is_broken(item.fields):
                self._notes.add("invalid", PATCH)
        else:
            part = part_object(item.open, words, item.annotations)
            frames.append(self._frame(f"{shape.part}.done", {**place, "part": part}))
            item.parts.append(part)
        item.open = ""
        return b"".join(frames)

    def _unknown(self, event: Unknown) -> bytes:
        if event.origin == API and isinstance(event.value, dict):  # an item, in an answer that is carried on
            return self._begun() + self._ended() + self._whole_item(event.value)
        self._notes.add("left_out", event.what)
        return b""

    def _stopped(self, event: Stop) -> bytes:
        self._stop = event
        return self._begun()

    def _used(self, event: Used) -> bytes:
        cost = told_cost(event.told)
        self._usage = usage_object(event.usage, cost_of(event.usage, self._ctx.model.price) if cost is None else cost)
        return b""

    # Items.

    @property
    def _plain_id(self) -> str:
        return self._ctx.completion_id.removeprefix("resp_")

    def _added(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        """An item begins, and what was before it has ended."""
        ended = self._ended()
        index = len(self._output)
        item = self._item = Item(index, {"id": f"{_PREFIXES[kind]}_{self._plain_id}_{index}", "type": kind, **fields})
        return ended + self._frame("response.output_item.added", {"output_index": index, "item": item.fields})

    def _opened(self, name: str) -> bytes:
        """Words begin: a part, or those of a call."""
        item = self._item
        assert item is not None
        item.begin(name)
        self._ready = ready(item)
        part = SHAPES[name].part
        return self._frame(f"{part}.added", {**item.part_place, "part": part_object(name, "")}) if part else b""

    def _ended(self, *, is_last: bool = False) -> bytes:
        """The item that was open is complete, now that it is known what follows."""
        item = self._item
        if item is None:
            return b""
        frames, whole = b"", dict(item.fields)
        if whole.get("status") == "in_progress":
            whole["status"] = self._outcome() if is_last else "completed"
        if item.kind == "message":
            whole |= {"content": item.parts, "phase": "final_answer" if is_last else "commentary"}
        elif item.kind == "reasoning":
            whole |= self._of_thought(item)
        elif item.kind == "tool_search_call":
            whole["arguments"] = self._object_in(item)
        elif item.kind == "web_search_call" and whole["status"] == "completed":
            frames = self._step("completed")
        self._item = None
        return frames + self._done(whole)

    def _of_thought(self, item: Item) -> dict[str, Any]:
        within = SHAPES["summary_text" if self._head.shows_summary else "reasoning_text"].within
        shown = {within: item.parts} if item.parts else {}
        seal = self._seal(text_of(item.pieces))
        return {**shown, "encrypted_content": seal} if seal else shown

    def _seal(self, words: str) -> str:
        """What the client is to send back with a thought; empty where nobody could tell it from another's."""
        signature, self._signature = self._signature, None
        origin, value = ("openai.chat", None) if signature is None else (signature.origin, signature.value)
        if origin == API and isinstance(value, str):
            return value
        if origin == "openai.chat":
            value = value or words or None
        elif isinstance(value, str):
            value = {"type": "thinking", "thinking": words, "signature": value}
        ctx = self._ctx
        return ctx.sealer.seal(Sealed(ctx.upstream_name, ctx.target, origin, value)) if ctx.sealer is not None else ""

    def _object_in(self, item: Item) -> Any:
        """The arguments of a search, which are an object here and not its text."""
        text = text_of(item.pieces)
        try:
            return msgspec.json.decode(text or "{}", type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            self._notes.add("wrapped", "arguments")
            return {"arguments": text}

    def _whole_item(self, item: Mapping[str, Any]) -> bytes:
        """An item as it is."""
        return self._frame("response.output_item.added", {"output_index": len(self._output), "item": item}) + self._done(item)

    def _done(self, item: Mapping[str, Any]) -> bytes:
        whole = msgspec.Raw(encode(item))
        self._output.append(whole)
        return self._frame("response.output_item.done", {"output_index": len(self._output) - 1, "item": whole})


_STARTS: Mapping[BlockKind, Callable[[ResponsesWriter, BlockStart], bytes]] = {
    "text": ResponsesWriter._said,
    "refusal": ResponsesWriter._said,
    "thinking": ResponsesWriter._thought,
    "tool_call": ResponsesWriter._called,
    "search": ResponsesWriter._searched,
    "found": ResponsesWriter._found,
}
_FRAMES: Mapping[type[Event], Callable[[ResponsesWriter, Any], bytes]] = {
    Start: ResponsesWriter._start,
    BlockStart: ResponsesWriter._block_start,
    TextDelta: ResponsesWriter._words,
    ThinkingDelta: ResponsesWriter._thinking,
    Signature: ResponsesWriter._signed,
    RefusalDelta: ResponsesWriter._words,
    ArgumentsDelta: ResponsesWriter._arguments,
    Cited: ResponsesWriter._cited,
    BlockStop: ResponsesWriter._block_stop,
    Unknown: ResponsesWriter._unknown,
    Stop: ResponsesWriter._stopped,
    Used: ResponsesWriter._used,
}
