"""What the readers of streamed blocks share: an answer's bound, and deltas that are known by their bytes (see `raw_text`)."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from compat.errors import UpstreamBroken
from compat.protocols.base import TranslationContext
from compat.protocols.events import ArgumentsDelta, Event, TextDelta, ThinkingDelta
from compat.protocols.joined import DeltaKind, EventReader, RawDeltas
from compat.protocols.notes import Notes
from compat.protocols.raw_text import text_of

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Of events: more than half a million tokens, however finely they are cut."""
SHAPES = 4
"""How many deltas of a block are looked at, for those that follow to be known by their bytes."""
_MAX_SHAPE_BYTES = 4096


class Shape(Protocol):
    """What stands around the text of an event."""

    def values(self, text: bytes) -> list[bytes] | None:
        """The strings in the text of events (see `EventSplitter.complete`) that all have this shape; else `None`."""
        ...


@dataclass(slots=True, kw_only=True)
class OpenText:
    """An open block of text: its number among all parts of the answer, and the pieces that came; `raw` are pieces after these that were
    not decoded yet. Mutable."""

    number: int
    pieces: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def decode(self) -> int:
        """Decode the pieces that were not yet; how many characters these are."""
        if not self.raw:
            return 0
        text = text_of(self.raw)
        self.raw.clear()
        self.pieces.append(text)
        return len(text)


class ShapedReader(EventReader):
    """A reader of deltas of which nearly all look alike. `_shapes_left`: how many deltas of the open block are still looked at."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        super().__init__(ctx, notes)
        self._bytes = 0
        self._shapes_left = 0
        self._known: tuple[Shape, OpenText, DeltaKind] | None = None

    @abc.abstractmethod
    def _shape(self, block: bytes, text: str) -> Shape | None:
        """The shape of an event whose delta is `text`; `None` where that is not plain."""

    def known(self, text: bytes) -> RawDeltas | None:
        """See `EventReader`. Only deltas of the block whose last one was decoded are known."""
        known = self._known
        if known is None or (values := known[0].values(text)) is None:
            return None
        self._count(text)
        if b"" in values:
            values = [value for value in values if value]
        known[1].raw += values
        return RawDeltas(known[2], known[1].number, values)

    def _count(self, text: bytes) -> None:
        self._bytes += len(text)
        if self._bytes > MAX_ANSWER_BYTES:
            raise UpstreamBroken(f"The upstream sent an answer of more than {MAX_ANSWER_BYTES} bytes.")

    def _learn_shape(self, block: bytes, events: Sequence[Event], into: OpenText) -> None:
        """Know deltas like this one by their bytes; a few that look otherwise are decoded, and looked at in their turn."""
        self._forget_shape()
        if self._shapes_left and len(events) == 1 and len(block) <= _MAX_SHAPE_BYTES:
            event = events[0]
            if isinstance(event, TextDelta | ThinkingDelta | ArgumentsDelta):
                self._shapes_left -= 1
                shape = self._shape(block, event.text)
                if shape is not None:
                    self._known, self.knows = (shape, into, type(event)), True

    def _forget_shape(self) -> None:
        self._known, self.knows = None, False
