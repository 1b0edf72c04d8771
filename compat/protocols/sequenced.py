"""Blocks one after the other: what lies beside each other in an upstream's answer, for clients that have one block open at a time.

    order = Sequenced()
    for event in events: for one in order.take(event): ...

Blocks are numbered 0, 1, 2 in the order in which they open, and no number is used twice. A text or a thought ends where something else
begins; when it goes on later, that is another block. A tool call is open until it is complete, and what comes meanwhile waits for it:
pieces of parallel calls that come in turns are put together (tickets CLIProxyAPI#4655, #5581, headroom#2890). A block without content
is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from compat.errors import UpstreamBroken
from compat.protocols.events import (
    ArgumentsDelta,
    BlockKind,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    RefusalDelta,
    Signature,
    Stop,
    TextDelta,
    ThinkingDelta,
)

Content = TextDelta | ThinkingDelta | RefusalDelta | ArgumentsDelta | Signature | Cited
_STRUCTURE = re.compile(r'["\\{}\[\]]')
_INHERITED = -1
_AT_ONCE = frozenset({"tool_call", "search", "found"})


class Balance:
    """Whether a JSON text is at its end, seen from its brackets, however it is cut. Each piece is looked at once. Mutable."""

    __slots__ = ("_depth", "_has_begun", "_in_string", "_skip")

    def __init__(self) -> None:
        self._depth = 0
        self._has_begun = False
        self._in_string = False
        self._skip = -1

    def add(self, piece: str) -> None:
        """The next piece."""
        for match in _STRUCTURE.finditer(piece):
            at, mark = match.start(), match[0]
            if at == self._skip:
                continue
            if self._in_string:
                self._in_string = mark != '"'
                self._skip = at + 1 if mark == "\\" else -1
            elif mark == '"':
                self._in_string = True
            elif mark != "\\":
                self._has_begun = True
                self._depth += 1 if mark in "{[" else -1
        if piece:
            self._skip = 0 if self._skip == len(piece) else -1

    @property
    def is_complete(self) -> bool:
        """Whether all that was opened is closed."""
        return self._has_begun and self._depth <= 0 and not self._in_string


@dataclass(slots=True)
class _Block:
    """A block of the upstream's. Mutable: whether it waits, what it waits with, and whether it is complete."""

    start: BlockStart
    balance: Balance = field(default_factory=Balance)
    unread: list[str] = field(default_factory=list)
    held: list[Content] = field(default_factory=list)
    is_held: bool = False
    is_over: bool = False

    def can_end(self) -> bool:
        """Whether something else may begin now."""
        if self.start.kind != "tool_call" or self.is_over:
            return True
        for piece in self.unread:
            self.balance.add(piece)
        self.unread.clear()
        return self.balance.is_complete


class Sequenced:
    """See above. Mutable: all of it. `open_index` is the upstream's number of the open block, `number` the client's."""

    def __init__(self, number: int = -1, open_kind: BlockKind | None = None) -> None:
        """`number` is the last one that was used, `open_kind` the kind of that block where it is open: an answer that goes on."""
        self.number = number
        self.open_index: int | None = None
        self._blocks: dict[int, _Block] = {}
        self._waiting: dict[int, _Block] = {}
        if open_kind is not None:
            self.open_index = _INHERITED
            self._blocks[_INHERITED] = _Block(BlockStart(_INHERITED, open_kind))

    def take(self, event: Event) -> Sequence[Event]:
        """What one event becomes. Errors: `UpstreamBroken` for pieces of a call that was complete."""
        return _HANDLERS.get(type(event), Sequenced._as_it_is)(self, event)

    def end(self) -> list[Event]:
        """No more content comes: whatever waits is written, and the last block is closed."""
        events = [*self._close()]
        for index in list(self._waiting):
            events += [*self._release(index), *self._close()]
        return events

    def _as_it_is(self, event: Event) -> Sequence[Event]:
        return (event,)

    def _stop(self, event: Stop) -> Sequence[Event]:
        return *self.end(), event

    def _start(self, event: BlockStart) -> Sequence[Event]:
        """A tool call or a search is shown at once where that can be, other blocks with their first content."""
        block = self._blocks[event.index] = _Block(event)
        return self._turn_to(block) if event.kind in _AT_ONCE else ()

    def _arguments(self, event: ArgumentsDelta) -> Sequence[Event]:
        block = self._blocks[event.index]
        block.unread.append(event.text)
        if event.index == self.open_index:
            return (msgspec.structs.replace(event, index=self.number),)
        if not block.is_held and not event.text.strip():
            return ()
        return self._held(block, event)

    def _content(self, event: Content) -> Sequence[Event]:
        if event.index == self.open_index:
            return (msgspec.structs.replace(event, index=self.number),)
        block = self._blocks[event.index]
        return self._held(block, event) if block.is_held or block.start.kind == "tool_call" else self._turn_to(block, event)

    def _held(self, block: _Block, event: Content) -> Sequence[Event]:
        """More of a block that waits."""
        if not block.is_held:
            raise UpstreamBroken("The upstream went on with a tool call that was complete.")
        block.held.append(event)
        return self._next()

    def _turn_to(self, block: _Block, *content: Content) -> Sequence[Event]:
        """Another block begins or goes on: at once, or when what is before it is complete."""
        before = self._next()
        if not self._may_change():
            block.is_held = True
            block.held += content
            self._waiting[block.start.index] = block
            return before
        if self.open_index == _INHERITED and self._blocks[_INHERITED].start.kind == block.start.kind:
            self.open_index = block.start.index
            opened: list[Event] = []
        else:
            opened = [*self._close(), self._open(block)]
        return *before, *opened, *(msgspec.structs.replace(event, index=self.number) for event in content)

    def _may_change(self) -> bool:
        return self.open_index is None or self._blocks[self.open_index].can_end()

    def _open(self, block: _Block) -> Event:
        self.number += 1
        self.open_index = block.start.index
        return msgspec.structs.replace(block.start, index=self.number)

    def _close(self) -> Iterator[Event]:
        if self.open_index is not None:
            self.open_index = None
            yield BlockStop(self.number)

    def _over(self, event: BlockStop) -> Sequence[Event]:
        self._blocks[event.index].is_over = True
        return self._next()

    def _next(self) -> list[Event]:
        """Write blocks that wait, as long as what is before each is complete; close what is over."""
        events: list[Event] = []
        while self._waiting and self._may_change():
            events += [*self._close(), *self._release(next(iter(self._waiting)))]
        if self.open_index is not None and self._blocks[self.open_index].is_over:
            events += self._close()
        return events

    def _release(self, index: int) -> list[Event]:
        block = self._waiting.pop(index)
        block.is_held = False
        opened = self._open(block)
        held, block.held = block.held, []
        return [opened, *(msgspec.structs.replace(event, index=self.number) for event in held)]


_HANDLERS: Mapping[type[Event], Callable[[Sequenced, Any], Sequence[Event]]] = {
    BlockStart: Sequenced._start,
    TextDelta: Sequenced._content,
    ThinkingDelta: Sequenced._content,
    RefusalDelta: Sequenced._content,
    ArgumentsDelta: Sequenced._arguments,
    Signature: Sequenced._content,
    Cited: Sequenced._content,
    BlockStop: Sequenced._over,
    Stop: Sequenced._stop,
}
