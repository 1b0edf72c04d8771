"""Answers of the Responses API as events, whole and streamed.

An answer is a list of items, each with parts; in a stream each event type has a handler. What deltas leave out is taken from the `.done`
events, from `response.output_item.done`, and at last from the answer that the stream's end holds, in that order: some servers send only one
of them. Exactly one event ends an answer: `response.completed`, `response.incomplete`, `response.failed` or `error`. Items without a
counterpart are left out with a note. Rules are those of docs/translation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from compat.errors import UpstreamBroken
from compat.protocols.base import ThinkingRecord, TranslationContext
from compat.protocols.events import BlockKind, BlockStart, BlockStop, Event, Signature, Start, Stop, ThinkingDelta, Unknown, Used
from compat.protocols.joined import MAX_ANSWER_BYTES, SHAPES, ShapedReader
from compat.protocols.notes import Notes
from compat.protocols.responses.delta_shape import DeltaShape, delta_shape
from compat.protocols.responses.open_item import OpenItem, OpenPart
from compat.protocols.responses.parts import API, CALLS, DELTAS, PARAGRAPH, WORDS, PartKey, WholePart, part_of, parts_of
from compat.protocols.responses.searches import SEARCH_CALL, HostedSearches
from compat.protocols.responses.shapes import Answer, ResponseEvent, decode_event, read_answer, read_item
from compat.protocols.responses.words import ReasoningKeeper, answer_error, stop_reason_of, usage_of
from compat.wire.estimate import estimated_usage
from compat.wire.sse import parse_event
from compat.wire.usage import Usage

_NOTHING: tuple[Event, ...] = ()
_UNFINISHED = frozenset({"queued", "in_progress", "cancelled"})


class ResponsesReader(ShapedReader):
    """See `EventReader`."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        super().__init__(ctx, notes)
        self._kept = ReasoningKeeper()
        self._blocks = 0
        self._items: dict[int, OpenItem | None] = {}
        self._last = -1
        self._has_begun = False
        self._has_calls = False
        self._is_refused = False
        self._written_chars = 0
        self._ending: Answer | None = None
        self._block = b""
        search = ctx.memory.search
        self._searches = HostedSearches(search, self._next_number) if search is not None else None

    @property
    def thinking(self) -> ThinkingRecord | None:
        """See `EventReader`."""
        return self._kept.record()

    def read(self, block: bytes) -> Sequence[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        self._block = block
        data = parse_event(block).data
        if not data or self.is_finished or data == b"[DONE]":
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
            if event.error is not None and not event.type:  # in the shape of other protocols, from something in between
                raise answer_error(event.error, self.ctx.upstream_name)
            return _NOTHING
        self._forget_shape()
        events = handler(self, event)
        if not self._has_begun and (events or self.is_finished):  # some servers announce no answer
            self._has_begun = True
            return Start(), *events
        return events

    def _shape(self, block: bytes, text: str) -> DeltaShape | None:
        return delta_shape(block, text)

    def end(self, *, is_whole: bool) -> Sequence[Event]:  # noqa: ARG002  # this protocol has an end mark of its own
        """See `EventReader`."""
        if self._ending is None:
            raise UpstreamBroken("The upstream ended its answer without a response.completed.")
        return self._end(self._ending)

    def _end(self, answer: Answer) -> Sequence[Event]:
        reason = stop_reason_of(
            answer.status or "completed",
            answer.incomplete_details,
            has_calls=self._has_calls,
            is_refused=self._is_refused,
            notes=self.notes,
        )
        assert self.usage is not None
        return *(self._searches.rest() if self._searches is not None else ()), Stop(reason), Used(self.usage)

    def usage_so_far(self) -> Usage:
        """See `EventReader`. Counts come with the end: before it there is an estimate."""
        if self.usage is not None:
            return self.usage
        parts = (part for item in self._items.values() if item is not None for part in item.parts.values())
        self._written_chars += sum(part.decode() for part in parts)
        prompt = self.ctx.prompt_tokens()
        return estimated_usage(prompt, self._written_chars)

    # Whole answers.

    def whole(self, body: bytes) -> Iterable[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        answer = read_answer(body)
        if answer.error is not None or answer.status == "failed":
            raise answer_error(answer.error, self.ctx.upstream_name)
        if answer.output is None or answer.status in _UNFINISHED:
            raise UpstreamBroken("The upstream's answer has no output, or is not complete.")
        return self._whole([read_item(raw) for raw in answer.output], answer)

    def _whole(self, items: Sequence[Mapping[str, Any]], answer: Answer) -> Iterator[Event]:
        yield Start(answer.id, int(answer.created_at))
        for index, item in enumerate(items):
            yield from self._completed(index, item)
        self.usage = usage_of(answer.usage) or self.usage_so_far()
        yield from self._end(answer)

    # One handler per event type.

    def _created(self, event: ResponseEvent) -> Sequence[Event]:
        if self._has_begun:
            return _NOTHING
        self._has_begun = True
        answer = read_answer(event.response)
        return (Start(answer.id, int(answer.created_at)),)

    def _item_added(self, event: ResponseEvent) -> Sequence[Event]:
        if event.item is None:
            raise UpstreamBroken("The upstream began an item that it did not send.")
        return self._opened(self._last + 1 if event.output_index is None else event.output_index, event.item)

    def _item_done(self, event: ResponseEvent) -> Sequence[Event]:
        if event.item is None:
            raise UpstreamBroken("The upstream ended an item that it did not send.")
        return list(self._completed(self._index(event), event.item))

    def _words(self, event: ResponseEvent) -> Sequence[Event]:
        """A piece of a part, or all of it: what the pieces have left out."""
        words = WORDS[event.type]
        key = (words.place, event.content_index if words.place == "content" else event.summary_index)
        text = getattr(event, words.field)
        if not isinstance(text, str):
            raise UpstreamBroken("The upstream sent a piece of text that is not a text.")
        item = self._item(event, words.kind)
        if item is None or not text:
            return _NOTHING
        if words.field != "delta":
            return self._missing(item, key, words.kind, text)
        events = self._more(item, key, words.kind, text)
        if self._shapes_left:
            self._learn_shape(self._block, events, item.parts[key])
        return events

    def _part_done(self, event: ResponseEvent) -> Sequence[Event]:
        item = self._items.get(self._index(event))
        if item is None or item.kind != "message":
            return _NOTHING
        whole = part_of(("content", event.content_index), event.part)
        return list(self._whole_part(item, whole)) if whole.kind is not None else _NOTHING

    def _annotation(self, event: ResponseEvent) -> Sequence[Event]:
        item = self._items.get(self._index(event))
        part = item.parts.get(("content", event.content_index)) if item is not None else None
        if part is not None and not part.is_closed:
            part.citations.append(event.annotation)
        return _NOTHING

    def _ended(self, event: ResponseEvent) -> Sequence[Event]:
        answer = read_answer(event.response)
        answer.status = answer.status or event.type.removeprefix("response.")
        events: list[Event] = []
        for index, raw in enumerate(answer.output or ()):
            if self._items.get(index, raw) is not None:
                item = read_item(raw)
                known = self._items.get(index)
                if known is None or known.kind == _kind_of(item):
                    events += self._completed(index, item)
        for known in self._items.values():
            if known is not None and known.kind == "function_call" and answer.status == "completed" and not known.has_whole_call():
                raise UpstreamBroken("The upstream ended its answer within a tool call.")
            events += self._closed(known) if known is not None else ()
        self.usage = usage_of(answer.usage) or self.usage_so_far()
        self._ending = answer
        self.is_finished = True
        return events

    def _failed(self, event: ResponseEvent) -> Sequence[Event]:
        raise answer_error(read_answer(event.response).error, self.ctx.upstream_name)

    def _error(self, event: ResponseEvent) -> Sequence[Event]:
        flat = {"message": event.message, "code": event.code, "param": event.param}
        raise answer_error(event.error or flat, self.ctx.upstream_name)

    # Items and their parts.

    def _index(self, event: ResponseEvent) -> int:
        return max(self._last, 0) if event.output_index is None else event.output_index

    def _item(self, event: ResponseEvent, kind: BlockKind) -> OpenItem | None:
        """The item that an event is about; one that was not announced is begun. `None`: it has ended."""
        index = self._index(event)
        if index not in self._items:
            self._items[index] = OpenItem("reasoning" if kind == "thinking" else "message")
            self._last = index
        return self._items[index]

    def _opened(self, index: int, item: Mapping[str, Any]) -> Sequence[Event]:
        kind = _kind_of(item)
        if index in self._items:
            return _NOTHING
        self._last = index
        known = self._items[index] = OpenItem(kind)
        if kind in CALLS:
            return self._call(known, item)
        if kind == "reasoning":
            known.block = OpenPart(number=self._next_number(), kind="thinking")
            return (BlockStart(known.block.number, "thinking"),)
        is_shown = kind == "message" or (kind == SEARCH_CALL and self._searches is not None)
        return _NOTHING if is_shown else (Unknown(API, kind),)

    def _call(self, known: OpenItem, item: Mapping[str, Any]) -> Sequence[Event]:
        match item:
            case {"call_id": str(call_id), "name": str(name)}:
                known.block = part = OpenPart(number=self._next_number(), kind="tool_call")
                self.has_content = self._has_calls = True
                self._kept.call(call_id)
                name = self.ctx.memory.client_names.get(name, name)
                return (BlockStart(part.number, "tool_call", call_id, name, is_freeform=known.kind == "custom_tool_call"),)
        raise UpstreamBroken("The upstream sent a tool call without a name or an id.")

    def _more(self, item: OpenItem, key: PartKey, kind: BlockKind, text: str) -> Sequence[Event]:
        """A piece."""
        part = item.parts.get(key)
        if part is None:
            self._shapes_left = SHAPES
            return self._begun(item, key, kind, text)
        self._written_chars += part.decode()
        if part.is_closed:
            return _NOTHING
        part.pieces.append(text)
        part.chars += len(text)
        self._written_chars += len(text)
        return (DELTAS[kind](part.number, text),)

    def _begun(self, item: OpenItem, key: PartKey, kind: BlockKind, text: str) -> list[Event]:
        """The first piece of a part, which begins its block, or a paragraph of its item's."""
        events: list[Event] = []
        block = item.block
        if (kind if block is None else block.kind) != kind or (block is None and kind == "tool_call"):
            raise UpstreamBroken("The upstream sent a piece of text for an item that has none of its kind.")
        if block is None:
            block = OpenPart(number=self._next_number(), kind=kind)
            events.append(BlockStart(block.number, kind))
            if kind == "thinking":
                item.block = block
        elif kind == "thinking" and item.parts:
            events.append(ThinkingDelta(block.number, PARAGRAPH))
        item.parts[key] = OpenPart(number=block.number, kind=kind, pieces=[text], chars=len(text))
        self.has_content = True
        self._is_refused = self._is_refused or kind == "refusal"
        self._written_chars += len(text)
        events.append(DELTAS[kind](block.number, text))
        return events

    def _missing(self, item: OpenItem, key: PartKey, kind: BlockKind, whole: str) -> Sequence[Event]:
        """What the pieces of a part have left out. Where they said something else, they stand."""
        part = item.parts.get(key)
        self._written_chars += part.decode() if part is not None else 0
        if part is not None and (part.chars >= len(whole) or not whole.startswith("".join(part.pieces))):
            return _NOTHING
        return self._more(item, key, kind, whole[part.chars if part is not None else 0 :])

    def _completed(self, index: int, item: Mapping[str, Any]) -> Iterator[Event]:
        """All of an item that was not said before, and its end. One that has ended says nothing more."""
        if index not in self._items:
            yield from self._opened(index, item)
        known = self._items[index]
        if known is None:
            return
        for part in parts_of(item):
            yield from self._whole_part(known, part)
        yield from self._closed(known, item)
        self._items[index] = None

    def _whole_part(self, item: OpenItem, whole: WholePart) -> Iterator[Event]:
        """What was not said of a part, and its end."""
        if whole.kind is None:
            yield Unknown(API, whole.name)
        elif whole.words:
            yield from self._missing(item, whole.key, whole.kind, whole.words)
            part = item.parts[whole.key]
            part.citations = list(whole.citations) or part.citations
            if item.block is None:
                yield from part.close()

    def _closed(self, known: OpenItem, item: Mapping[str, Any] | None = None) -> Iterator[Event]:
        """The end of an item's blocks. Without the item itself it was not finished, and its reasoning is not kept."""
        if known.block is None:
            for part in known.parts.values():
                self._written_chars += part.decode()
                yield from part.close()
            if item is not None and known.kind == "message":
                self._kept.message(item, sum(part.chars for part in known.parts.values()))
            if self._searches is not None:
                yield from self._searched(self._searches, known, item or {})
            return
        if known.kind == "reasoning" and item is not None:
            self._kept.reasoning(item)
            if item.get("encrypted_content"):
                yield Signature(known.block.number, API, item)
        yield BlockStop(known.block.number)

    def _searched(self, searches: HostedSearches, known: OpenItem, item: Mapping[str, Any]) -> Iterator[Event]:
        """The search that an item is, or what was found by the sources of its words."""
        if known.kind == SEARCH_CALL:
            self.has_content = True
            yield from searches.done(item)
        for part in known.parts.values():
            yield from searches.cited(part.citations)

    def _next_number(self) -> int:
        self._blocks += 1
        return self._blocks - 1


def _kind_of(item: Mapping[str, Any]) -> str:
    kind = item.get("type", "message")
    if not isinstance(kind, str):
        raise UpstreamBroken("The upstream sent something that is not an item.")
    return kind


_HANDLERS: Mapping[str, Callable[[ResponsesReader, ResponseEvent], Sequence[Event]]] = {
    "response.created": ResponsesReader._created,
    "response.output_item.added": ResponsesReader._item_added,
    "response.output_item.done": ResponsesReader._item_done,
    "response.content_part.done": ResponsesReader._part_done,
    "response.output_text.annotation.added": ResponsesReader._annotation,
    **dict.fromkeys(WORDS, ResponsesReader._words),
    "response.completed": ResponsesReader._ended,
    "response.incomplete": ResponsesReader._ended,
    "response.failed": ResponsesReader._failed,
    "error": ResponsesReader._error,
}
