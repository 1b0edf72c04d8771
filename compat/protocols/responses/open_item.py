"""Items and parts of the Responses API while an answer is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from compat.protocols.events import BlockKind, BlockStop, Cited, Event
from compat.protocols.raw_text import text_of
from compat.protocols.responses.parts import PartKey


@dataclass(slots=True)
class OpenPart:
    """A part of an item, or the arguments of a call: the number of its block, and the pieces that came; `raw` are pieces after these
    that were not decoded yet. Mutable."""

    number: int
    kind: BlockKind
    pieces: list[str] = field(default_factory=list)
    chars: int = 0
    raw: list[bytes] = field(default_factory=list)
    citations: list[Any] = field(default_factory=list)
    is_closed: bool = False

    def decode(self) -> int:
        """Decode the pieces that were not yet; how many characters these are."""
        if not self.raw:
            return 0
        text = text_of(self.raw)
        self.raw.clear()
        self.pieces.append(text)
        self.chars += len(text)
        return len(text)

    def close(self) -> Iterator[Event]:
        """Its end, once."""
        if not self.is_closed:
            self.is_closed = True
            if self.citations:
                yield Cited(self.number, tuple(self.citations))
            yield BlockStop(self.number)


@dataclass(slots=True)
class OpenItem:
    """An open item. Mutable: its parts. All parts of a reasoning item are one block, and so are the arguments of a call."""

    kind: str
    parts: dict[PartKey, OpenPart] = field(default_factory=dict)
    block: OpenPart | None = None

    def has_whole_call(self) -> bool:
        """Whether what came of a call's arguments is JSON, or nothing."""
        for part in self.parts.values():
            part.decode()
        pieces = [piece for part in self.parts.values() for piece in part.pieces]
        try:
            return not pieces or msgspec.json.decode("".join(pieces)) is not msgspec.UNSET
        except (msgspec.DecodeError, RecursionError):
            return False
