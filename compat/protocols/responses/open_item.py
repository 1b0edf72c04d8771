"""Items and parts of the Responses API while an answer is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from compat.protocols.events import BlockKind, BlockStop, Cited, Event
from compat.protocols.raw_text import OpenText
from compat.protocols.responses.parts import PartKey


@dataclass(slots=True, kw_only=True)
class OpenPart(OpenText):
    """A part of an item, or the arguments of a call; `chars` are those of its pieces. Mutable."""

    kind: BlockKind
    chars: int = 0
    citations: list[Any] = field(default_factory=list)
    is_closed: bool = False

    def decode(self) -> int:
        """See `OpenText`."""
        chars = OpenText.decode(self)
        self.chars += chars
        return chars

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
        """Whether what came of a call's arguments is whole."""
        for part in self.parts.values():
            part.decode()
        return is_whole([piece for part in self.parts.values() for piece in part.pieces])


def is_whole(arguments: Sequence[str]) -> bool:
    """Whether the pieces of a call's arguments are JSON, or nothing."""
    try:
        msgspec.json.decode("".join(arguments) or "{}")
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
