"""Stop sequences for upstreams whose API has none: the answer's text ends before the first of them.

    reader = StoppingReader(reader, sequences)    a reader that ends the answer where a sequence is complete

What may be the beginning of a sequence is held back until it is known, across deltas, within one text. Of several the one that is
complete first counts, of those the longest. Nothing but text is looked at. Once a sequence was found the answer is at its end, or where the
tool call that is open ends: then the upstream is left, and what the answer took is an estimate. Time is linear in the text, and Python
looks at no more characters of one piece than a sequence has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from compat.protocols.base import ThinkingRecord
from compat.protocols.events import BlockKind, BlockStart, BlockStop, Cited, Event, Stop, TextDelta, Used
from compat.protocols.joined import EventReader
from compat.wire.usage import Usage

MAX_SEQUENCES = 4
MAX_CHARS = 4096
"""Of a sequence."""


class _Matcher:
    """Where a sequence ends in a text that comes in pieces (Knuth, Morris and Pratt). Mutable: `matched`, how much of it stands at the end
    of what came."""

    __slots__ = ("_back", "matched", "sequence")

    def __init__(self, sequence: str) -> None:
        self.sequence = sequence
        self.matched = 0
        self._back = [0] * len(sequence)
        for at in range(1, len(sequence)):
            self._back[at] = self._longer(self._back[at - 1], sequence[at])

    def restart(self) -> None:
        """Another text begins."""
        self.matched = 0

    def end_in(self, piece: str) -> int:
        """How much of the next piece there is up to the sequence's end; 0 where it is not complete."""
        size = len(self.sequence)
        if len(piece) > size:  # a search runs at the speed of C, and leaves only the last characters
            at = (self.sequence[: self.matched] + piece).find(self.sequence)
            if at >= 0:
                return at + size - self.matched
            self.matched, piece = 0, piece[len(piece) - size + 1 :]
        for at, char in enumerate(piece, 1):
            self.matched = self._longer(self.matched, char)
            if self.matched == size:
                return at
        return 0

    def _longer(self, matched: int, char: str) -> int:
        """How much of the sequence stands at the end, with one more character."""
        while matched and self.sequence[matched] != char:
            matched = self._back[matched - 1]
        return matched + (self.sequence[matched] == char)


class StopText:
    """One text after the other, up to the first of several sequences. Mutable: what is held back, and `found`."""

    def __init__(self, sequences: Iterable[str]) -> None:
        self._matchers = [_Matcher(sequence) for sequence in sequences]
        self._held = ""
        self.found = ""

    def take(self, piece: str) -> str:
        """What is known not to belong to a sequence, now that `piece` came; with `found` the text is over."""
        text = self._held + piece
        ends = [(end, -len(one.sequence), one.sequence) for one in self._matchers if (end := one.end_in(piece))]
        if ends:
            end, size, self.found = min(ends)
            return text[: len(self._held) + end + size]
        shown = len(text) - max(one.matched for one in self._matchers)
        self._held = text[shown:]
        return text[:shown]

    def rest(self) -> str:
        """What was held back of a text that is over, and no sequence after all."""
        rest, self._held = self._held, ""
        for one in self._matchers:
            one.restart()
        return rest


class StoppingReader(EventReader):
    """See above, and `EventReader`."""

    def __init__(self, reader: EventReader, sequences: Sequence[str]) -> None:
        super().__init__(reader.ctx, reader.notes)
        self._reader = reader
        self._text = StopText(sequences)
        self._block = -1
        self._open: dict[int, BlockKind] = {}
        self._has_calls = False

    @property
    def thinking(self) -> ThinkingRecord | None:
        """See `EventReader`."""
        return self._reader.thinking

    @property
    def _is_over(self) -> bool:
        """Whether a sequence was found, and no call is open."""
        return bool(self._text.found) and "tool_call" not in self._open.values()

    def read(self, block: bytes) -> Sequence[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        reader = self._reader
        if self.is_finished:
            return ()
        events = list(self._cut(reader.read(block)))
        self.has_content, self.is_complete = reader.has_content, reader.is_complete
        self.is_finished = reader.is_finished or self._is_over
        if self.is_finished:
            self.usage = reader.usage or reader.usage_so_far()
        return events

    def end(self, *, is_whole: bool) -> Sequence[Event]:
        """See `EventReader`."""
        if not self._is_over:
            return list(self._cut(self._reader.end(is_whole=is_whole)))
        assert self.usage is not None
        return *map(BlockStop, self._open), self._stop(), Used(self.usage)

    def whole(self, body: bytes) -> Iterator[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        yield from self._cut(self._reader.whole(body))
        self.usage = self._reader.usage

    def usage_so_far(self) -> Usage:
        """See `EventReader`."""
        return self.usage or self._reader.usage_so_far()

    def _stop(self) -> Stop:
        return Stop("tool_calls" if self._has_calls else "end", sequence=self._text.found)

    def _cut(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if self._text.found:
                yield from self._after(event)
            elif isinstance(event, TextDelta):
                yield from self._words(event)
            else:
                if isinstance(event, BlockStop | Cited) and event.index == self._block and (rest := self._text.rest()):
                    yield TextDelta(event.index, rest)
                self._count(event)
                yield event

    def _words(self, event: TextDelta) -> Iterator[Event]:
        if event.index != self._block:
            if rest := self._text.rest():
                yield TextDelta(self._block, rest)
            self._block = event.index
        if shown := self._text.take(event.text):
            yield TextDelta(event.index, shown)

    def _after(self, event: Event) -> Iterator[Event]:
        """What follows a sequence: the rest of blocks that are open, but for text and its sources, and the answer's end."""
        if isinstance(event, Stop):
            yield self._stop()
        elif isinstance(event, Used):
            yield event
        elif not isinstance(event, TextDelta | BlockStart | Cited) and getattr(event, "index", None) in self._open:
            self._count(event)
            yield event

    def _count(self, event: Event) -> None:
        """Know which blocks are open."""
        if isinstance(event, BlockStart):
            self._open[event.index] = event.kind
            self._has_calls = self._has_calls or event.kind == "tool_call"
        elif isinstance(event, BlockStop):
            self._open.pop(event.index, None)
