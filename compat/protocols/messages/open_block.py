"""A content block of Anthropic's while its answer is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from compat.protocols.raw_text import text_of


@dataclass(slots=True)
class OpenBlock:
    """An open content block: its number among all parts of the answer, as it began, and the pieces that came since.

    `raw` are pieces after these that were not decoded yet.
    """

    number: int
    opening: dict[str, Any]
    pieces: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    signature: list[str] = field(default_factory=list)
    citations: list[Any] = field(default_factory=list)
    is_answer: bool = False

    @property
    def kind(self) -> str:
        """The block's type."""
        return str(self.opening.get("type"))

    def decode(self) -> int:
        """Decode the pieces that were not yet; how many characters these are."""
        if not self.raw:
            return 0
        text = text_of(self.raw)
        self.raw.clear()
        self.pieces.append(text)
        return len(text)
