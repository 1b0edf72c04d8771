"""Answers in OpenAI's chat protocol as events, whole and streamed: the one reader of chunks.

It reads what the gateway itself hands out, and what upstreams send: a chunk of any server is one here, plain completions included, whose
choices have a `text`. What it does not know is `Unknown`; fields that are empty, and what servers add to the end of a choice, say nothing.

    for event in ChunkReader().read(block): ...      one SSE event; nothing for a comment
    whole_events(body)                               the events of a whole answer
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from compat.errors import UpstreamBroken
from compat.protocols.chat.chunks import API
from compat.protocols.chat.usage import usage_of
from compat.protocols.events import (
    ArgumentsDelta,
    BlockKind,
    BlockStart,
    Event,
    RefusalDelta,
    Start,
    Stop,
    StopReason,
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.protocols.upstream_errors import error_fields, event_error
from compat.wire.sse import parse_event

REASONS: Mapping[str, StopReason] = {
    "stop": "end",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "content_filter": "refusal",
}
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_DELTAS: Mapping[BlockKind, type[TextDelta | ThinkingDelta | RefusalDelta]] = {
    "text": TextDelta,
    "thinking": ThinkingDelta,
    "refusal": RefusalDelta,
}
_OF_CALL = frozenset({"index", "id", "type", "function"})
_THINKING = ("reasoning_content", "reasoning")
_IN_ORDER: Mapping[str, int] = {"reasoning_content": -1, "reasoning": -1, "tool_calls": 1}
"""Fields that lie beside each other: the model thought first, and called tools last."""
_OF_CHOICE = frozenset({"index", "finish_reason", "native_finish_reason", "stop_reason", "delta", "message", "text"})
_decode = msgspec.json.Decoder().decode


class ChunkReader:
    """Reads chunks, one event after the other. Mutable: which blocks are open, and whether the end mark came (`is_done`)."""

    place = None

    def __init__(self, upstream_name: str = "the upstream") -> None:
        self.is_done = False
        self._upstream_name = upstream_name
        self._has_begun = False
        self._blocks: dict[tuple[int, BlockKind, int], int] = {}

    def read(self, block: bytes) -> Iterator[Event]:
        """The events in one SSE event. Errors: `UpstreamBroken` for what is not a chunk, and what an error in it stands for."""
        name, data = parse_event(block)
        if not data:
            return
        if data == b"[DONE]":
            self.is_done = True
            return
        if name == b"error":
            raise event_error(error_fields(data), self._upstream_name)
        yield from self.read_chunk(decoded(data), "delta")

    def read_chunk(self, chunk: Mapping[str, Any], place: str) -> Iterator[Event]:
        """The events in one chunk, or in a whole answer, where a choice has its `message` in the `place` of the delta."""
        if chunk.get("error") is not None or chunk.get("type") == "error":
            raise event_error(chunk.get("error") or chunk, self._upstream_name)
        choices = chunk.get("choices") or ()
        if not isinstance(choices, list | tuple) or not all(isinstance(choice, dict) for choice in choices):
            raise UpstreamBroken("The upstream sent choices that are not choices.")
        if not self._has_begun:
            self._has_begun = True
            created = chunk.get("created")
            yield Start(str(chunk.get("id") or ""), int(created) if isinstance(created, int | float) else 0)
        for choice in choices:
            yield from self._choice(choice, place)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            yield Used(usage_of(usage), usage)

    def _choice(self, choice: Mapping[str, Any], place: str) -> Iterator[Event]:
        number = choice.get("index", 0)
        if not isinstance(number, int):
            raise UpstreamBroken("The upstream sent a choice whose index is not a number.")
        said = choice.get(place) or {}
        if not isinstance(said, dict):
            raise UpstreamBroken("The upstream sent a choice that says nothing.")
        if isinstance(text := choice.get("text"), str):
            said = {"content": text, **said}
        if said.get("reasoning_content"):  # some servers tell it under both names
            said = {name: value for name, value in said.items() if name != "reasoning"}
        for name, value in said.items() if len(said) < 2 else sorted(said.items(), key=_place):
            yield from self._field(number, name, value)
        for name, value in choice.items():
            if name not in _OF_CHOICE and value not in _NOTHING:
                yield Unknown(API, name, number)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            known = REASONS.get(reason)
            if known is None:
                yield Unknown(API, f"finish_reason {reason}", number)
            yield Stop(known or "end", choice=number)

    def _field(self, choice: int, name: str, value: Any) -> Iterator[Event]:
        """One field of a delta or a message."""
        if value in _NOTHING or (name, value) == ("role", "assistant"):
            return
        if name == "content" and isinstance(value, str):
            yield from self._words(choice, "text", value)
        elif name in _THINKING and isinstance(value, str):
            yield from self._words(choice, "thinking", value)
        elif name == "refusal" and isinstance(value, str):
            yield from self._words(choice, "refusal", value)
        elif name == "tool_calls" and isinstance(value, list):
            for position, piece in enumerate(value):
                yield from self._call(choice, position, piece)
        else:
            yield Unknown(API, name, choice, value)

    def _words(self, choice: int, kind: BlockKind, text: str) -> Iterator[Event]:
        key = (choice, kind, 0)
        if key not in self._blocks:
            self._blocks[key] = len(self._blocks)
            yield BlockStart(self._blocks[key], kind, choice=choice)
        yield _DELTAS[kind](self._blocks[key], text)

    def _call(self, choice: int, position: int, piece: Any) -> Iterator[Event]:
        """A piece of a tool call, or a whole one. Its index says which it is; in a whole answer its position does."""
        function = piece.get("function") if isinstance(piece, dict) else None
        function = function if isinstance(function, dict) else {}
        index = piece.get("index", position) if isinstance(piece, dict) else None
        if not isinstance(index, int):
            raise UpstreamBroken("The upstream sent a piece of a tool call that is not one.")
        key: tuple[int, BlockKind, int] = (choice, "tool_call", index)
        if key not in self._blocks:
            self._blocks[key] = len(self._blocks)
            more = {name: value for name, value in piece.items() if name not in _OF_CALL} or None
            yield BlockStart(self._blocks[key], "tool_call", str(piece.get("id") or ""), str(function.get("name") or ""), choice, more)
        arguments = function.get("arguments")
        if isinstance(arguments, str) and arguments:
            yield ArgumentsDelta(self._blocks[key], arguments)


def _place(field: tuple[str, Any]) -> int:
    return _IN_ORDER.get(field[0], 0)


def whole_events(body: bytes) -> Iterator[Event]:
    """The events of a whole answer. Errors: as those of `ChunkReader.read`."""
    return ChunkReader().read_chunk(decoded(body), "message")


def decoded(data: bytes) -> dict[str, Any]:
    """A JSON object of an upstream. Errors: `UpstreamBroken`."""
    try:
        document = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"The upstream sent an event that is not a chunk: {error}.") from error
    if not isinstance(document, dict):
        raise UpstreamBroken("The upstream sent an event that is not a chunk.")
    return document
