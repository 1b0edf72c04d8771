"""Frames and bodies of the Responses protocol as the gateway's clients are shown them, read back as events.

    for event in ShownReader().read(block): ...      one SSE event
    whole_events(body)                               the events of a whole answer
    replayed(body)                                   a whole answer as the stream that it could have been

Unlike an upstream's half this trusts what it reads, and leaves nothing out: an item that no event can say is `Unknown`, with its value.
Servers whose bytes are handed on may send items without their pieces, or nothing before the end: then the words are taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import UpstreamBroken
from compat.protocols.base import ToolShape
from compat.protocols.events import BlockKind, BlockStart, BlockStop, Cited, Event, Signature, Start, Stop, ThinkingDelta, Unknown, Used
from compat.protocols.notes import Notes
from compat.protocols.responses.items import Item, Place, encode, frame, part_object
from compat.protocols.responses.parts import API, CALLS, DELTAS, LISTS, PARAGRAPH, SHAPES
from compat.protocols.responses.words import answer_error, stop_reason_of, usage_of
from compat.wire.sse import parse_event

_Object = Mapping[str, Any]
_NAMES: Mapping[str, str] = {f"{shape.words}.delta": name for name, shape in SHAPES.items()}
"""An event's type -> the part, or call, that it is more of."""
_LATE: _Object = {"status": "in_progress", "output": [], "usage": None, "completed_at": None, "error": None, "incomplete_details": None}


@dataclass(slots=True)
class _Open:
    """An item that is open, with the number of its last block, and that one's kind while it is open. Mutable: all of it."""

    item: Item
    block: int = -1
    kind: BlockKind | None = None


class ShownReader:
    """Reads frames, one event after the other. Mutable: all of it."""

    def __init__(self) -> None:
        self.is_done = False
        self._number = 0
        self._next_block = 0
        self._last = -1
        self._open: dict[int, _Open] = {}
        self._output: list[Any] = []
        self._has_calls = False
        self._is_refused = False
        self._response: _Object = {}

    @property
    def place(self) -> Place:
        """Where the answer stands; a later look may find it elsewhere."""
        found = next(reversed(self._open.values()), None)
        if found is None:
            return Place(self._number, tuple(self._output), echoed=self._response)
        item = found.item
        copied = replace(item, parts=[*item.parts], pieces=[b"".join(item.pieces)], annotations=[*item.annotations], chars=0, counted=0)
        return Place(self._number, tuple(self._output), copied, found.kind, self._response)

    def read(self, block: bytes) -> Iterator[Event]:
        """The events in one SSE event. Errors: what an error in it stands for, `UpstreamBroken` for anything else."""
        data = parse_event(block).data
        if not data or data == b"[DONE]":
            return
        try:
            yield from self.take(msgspec.json.decode(data))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError, msgspec.DecodeError) as error:
            raise UpstreamBroken(f"The upstream sent an invalid event: {error!r}.") from error

    def take(self, event: _Object) -> Iterator[Event]:
        """The same of an event that is decoded."""
        self._number = event.get("sequence_number", self._number) + 1
        kind = event["type"]
        if kind in _NAMES:
            found = self._open.get(self._index(event))
            if found is not None and event["delta"]:
                yield from self._more(found, _NAMES[kind], event["delta"])
        else:
            yield from _EVENTS.get(kind, ShownReader._ignored)(self, event)

    def _index(self, event: _Object) -> int:
        return int(event.get("output_index", self._last))

    def _ignored(self, _: _Object) -> Iterator[Event]:
        yield from ()

    def _created(self, event: _Object) -> Iterator[Event]:
        self._response = event["response"]
        yield Start(str(self._response.get("id") or ""), int(self._response.get("created_at") or 0))

    def _added(self, event: _Object) -> Iterator[Event]:
        fields = event["item"]
        self._last = index = int(event.get("output_index", self._last + 1))
        found = self._open[index] = _Open(Item(index, dict(fields)))
        kind = found.item.kind
        if kind in CALLS:
            self._has_calls = True
            is_freeform = kind == "custom_tool_call"
            shape = ToolShape("freeform" if is_freeform else "function", fields["name"], fields.get("namespace") or "")
            block = self._begun(found, "tool_call")
            yield BlockStart(block, "tool_call", fields["call_id"], fields["name"], more=shape, is_freeform=is_freeform)
            found.item.begin(kind)
        elif kind == "reasoning":
            yield BlockStart(self._begun(found, "thinking"), "thinking")
        elif kind not in LISTS:
            yield Unknown(API, kind)

    def _begun(self, found: _Open, kind: BlockKind) -> int:
        found.block, found.kind = self._next_block, kind
        self._next_block += 1
        return found.block

    def _more(self, found: _Open, name: str, words: str) -> Iterator[Event]:
        """More of a part, which may be the first of it."""
        item, kind = found.item, SHAPES[name].kind
        if item.open != name:
            item.begin(name)
            if kind == "thinking" and item.parts:
                yield ThinkingDelta(found.block, PARAGRAPH)
            elif kind != found.kind:
                self._is_refused |= kind == "refusal"
                yield BlockStart(self._begun(found, kind), kind)
        item.pieces.append(encode(words)[1:-1])
        yield DELTAS[kind](found.block, words)

    def _part_done(self, event: _Object) -> Iterator[Event]:
        if (found := self._open.get(self._index(event))) is not None:
            yield from self._whole_part(found, event["part"])

    def _whole_part(self, found: _Open, part: _Object) -> Iterator[Event]:
        """The end of a part, and its words where no pieces came."""
        item, name = found.item, part["type"]
        item.parts.append(part)
        if name not in SHAPES:
            yield Unknown(API, name)
            return
        words = part[SHAPES[name].key]
        if item.open != name and words:
            item.parts.pop()
            yield from self._more(found, name, words)
            item.parts.append(part)
        sources = (part.get("annotations") or [])[len(item.annotations) :]
        if sources and item.open:
            yield Cited(found.block, tuple(sources))
        if item.open and found.kind != "thinking":
            found.kind = None
            yield BlockStop(found.block)
        item.begin("")

    def _annotation(self, event: _Object) -> Iterator[Event]:
        found = self._open.get(self._index(event))
        if found is not None and found.item.open:
            found.item.annotations.append(event["annotation"])
            yield Cited(found.block, (event["annotation"],))

    def _done(self, event: _Object) -> Iterator[Event]:
        fields, kind = event["item"], event["item"]["type"]
        if self._index(event) not in self._open:
            yield from self._added(event)
        found = self._open.pop(self._index(event))
        item = found.item
        for part in [part for within in LISTS.get(kind, ()) for part in fields.get(within) or ()][len(item.parts) :]:
            yield from self._whole_part(found, part)
        if kind in CALLS and not item.pieces:
            yield from self._more(found, kind, fields[SHAPES[kind].key])
        if kind == "reasoning" and fields.get("encrypted_content"):
            yield Signature(found.block, API, fields["encrypted_content"])
        if kind in CALLS or kind == "reasoning":
            yield BlockStop(found.block)
        elif kind not in LISTS:
            yield Unknown(API, kind, value=fields)
        self._output.append(fields)

    def _ended(self, event: _Object) -> Iterator[Event]:
        response = event["response"]
        for item in (response.get("output") or ())[len(self._output) :]:
            yield from self._done({"item": item, "output_index": len(self._output)})
        status = response.get("status") or event["type"].removeprefix("response.")
        details = response.get("incomplete_details")
        yield Stop(stop_reason_of(status, details, has_calls=self._has_calls, is_refused=self._is_refused, notes=Notes()))
        usage = usage_of(response.get("usage"))
        if usage is not None:
            yield Used(usage, response["usage"])
        self.is_done = True

    def _failed(self, event: _Object) -> Iterator[Event]:
        raise answer_error((event.get("response") or {}).get("error"), "the upstream")

    def _error(self, event: _Object) -> Iterator[Event]:
        raise answer_error(event.get("error") or {key: event.get(key) for key in ("message", "code", "param")}, "the upstream")


_EVENTS: Mapping[Any, Callable[[ShownReader, _Object], Iterator[Event]]] = {
    "response.created": ShownReader._created,
    "response.output_item.added": ShownReader._added,
    "response.content_part.done": ShownReader._part_done,
    "response.reasoning_summary_part.done": ShownReader._part_done,
    "response.output_text.annotation.added": ShownReader._annotation,
    "response.output_item.done": ShownReader._done,
    **dict.fromkeys(("response.completed", "response.incomplete"), ShownReader._ended),
    "response.failed": ShownReader._failed,
    "error": ShownReader._error,
}


class _Piece(msgspec.Struct, frozen=True):
    """What is read of a piece of an item."""

    type: str = ""
    delta: str = ""


_piece = msgspec.json.Decoder(_Piece).decode


def piece_chars(block: bytes) -> int:
    """How much text, reasoning and arguments of tool calls an SSE event adds; none where it is no such event, or only a part of one."""
    try:
        piece = _piece(parse_event(block).data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return len(piece.delta) if piece.type.endswith(".delta") else 0


# Whole answers.


def replayed_events(body: bytes) -> Iterator[dict[str, Any]]:
    """A whole answer as the events of its stream: each item with its words in one piece."""
    response = jsonio.decode(body)
    begun = {**response, **_LATE}
    yield from ({"type": f"response.{name}", "response": begun} for name in ("created", "in_progress"))
    for index, item in enumerate(response.get("output") or ()):
        yield from _item_events(index, item)
    yield {"type": f"response.{response.get('status') or 'completed'}", "response": response}


def replayed(body: bytes) -> bytes:
    """A whole answer as a stream."""
    return b"".join(frame(event["type"], event, number) for number, event in enumerate(replayed_events(body)))


def whole_events(body: bytes) -> Iterator[Event]:
    """The events of a whole answer."""
    reader = ShownReader()
    for event in replayed_events(body):
        yield from reader.take(event)


def _item_events(index: int, item: _Object) -> Iterator[dict[str, Any]]:
    kind = item["type"]
    place = {"item_id": item.get("id", ""), "output_index": index}
    lists = [within for within in LISTS.get(kind, ()) if within in item]
    emptied: dict[str, Any] = {**item, **{within: [] for within in lists}}
    emptied.pop("encrypted_content", None)
    if kind in CALLS:
        emptied[SHAPES[kind].key] = ""
    if "status" in item:
        emptied["status"] = "in_progress"
    yield {"type": "response.output_item.added", "output_index": index, "item": emptied}
    if kind in CALLS:
        yield from _words(kind, place, item[SHAPES[kind].key])
    for within in lists:
        for number, part in enumerate(item[within] or ()):
            yield from _part_events(place, number, part)
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part_events(place: _Object, number: int, part: _Object) -> Iterator[dict[str, Any]]:
    shape = SHAPES.get(part["type"])
    if shape is None:
        return
    place = {**place, shape.index: number}
    yield {"type": f"{shape.part}.added", **place, "part": part_object(part["type"], "")}
    yield from _words(part["type"], place, part[shape.key])
    for at, annotation in enumerate(part.get("annotations") or ()):
        yield {"type": "response.output_text.annotation.added", **place, "annotation_index": at, "annotation": annotation}
    yield {"type": f"{shape.part}.done", **place, "part": part}


def _words(name: str, place: _Object, words: str) -> Iterable[dict[str, Any]]:
    shape = SHAPES[name]
    if words:
        yield {"type": f"{shape.words}.delta", **place, "delta": words, **shape.more}
    yield {"type": f"{shape.words}.done", **place, shape.key: words, **shape.more}
