"""Items of an answer while they are written, and the events that say so.

    message, reasoning     output_item.added  (part.added  delta ...  done  part.done)*  output_item.done
    calls                  output_item.added  delta ...  done  output_item.done

What an event of each kind is called, and in which list of its item a part lies, is in `parts.SHAPES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from compat import jsonio
from compat.protocols.events import BlockKind
from compat.protocols.raw_text import text_of
from compat.protocols.responses.parts import SHAPES

encode = msgspec.json.Encoder().encode


def part_object(name: str, words: Any, annotations: list[Any] | None = None) -> dict[str, Any]:
    """A part with these words."""
    rest = {"annotations": annotations or [], "logprobs": []} if name == "output_text" else {}
    return {"type": name, SHAPES[name].key: words, **rest}


@dataclass(slots=True)
class Item:
    """An item that is open. Mutable: all but its first two fields.

    `fields` are those that it began with. `parts` are complete, `open` is the type of the one that is not; `pieces` are its words so far,
    or a call's, each as what a JSON string holds. `chars` of them are counted, up to the piece `counted`.
    """

    index: int
    fields: dict[str, Any]
    parts: list[Any] = field(default_factory=list)
    open: str = ""
    pieces: list[bytes] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    chars: int = 0
    counted: int = 0

    @property
    def kind(self) -> str:
        """Its type."""
        return str(self.fields["type"])

    @property
    def place(self) -> dict[str, Any]:
        """Where events about it say that it is."""
        return {"item_id": self.fields["id"], "output_index": self.index}

    @property
    def part_place(self) -> dict[str, Any]:
        """Where events about what is open say that it is."""
        shape = SHAPES[self.open]
        return {**self.place, shape.index: len(self.parts)} if shape.index else self.place

    def count(self) -> int:
        """How many characters the open part has so far."""
        if new := self.pieces[self.counted :]:
            self.chars += len(text_of(new))
            self.counted = len(self.pieces)
        return self.chars

    def words(self) -> msgspec.Raw:
        """The words so far, as a JSON string."""
        return msgspec.Raw(b'"%s"' % b"".join(self.pieces))

    def begin(self, name: str) -> None:
        """A part begins, or the words of a call."""
        self.open, self.pieces, self.annotations = name, [], []
        self.chars = self.counted = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer stands: the number of the next event, items that are complete, the one that is not, and of which kind its open
    block is. `echoed` are the fields that the answer gives back."""

    number: int = 0
    output: tuple[Any, ...] = ()
    item: Item | None = None
    open_kind: BlockKind | None = None
    echoed: Mapping[str, Any] = field(default_factory=dict)


def frame(name: str, fields: Mapping[str, Any], number: int) -> bytes:
    """One event as it is sent, with its number."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), encode({"type": name, **fields, "sequence_number": number}))


def ready(item: Item) -> bytes:
    """The frame of a delta of what is open, for `%` with what its JSON string holds and the event's number."""
    shape = SHAPES[item.open]
    fields = jsonio.encode({"type": f"{shape.words}.delta", **item.part_place, **shape.more}).replace(b"%", b"%%")
    return b'event: %s.delta\ndata: %s,"delta":"%%s","sequence_number":%%d}\n\n' % (shape.words.encode(), fields[:-1])


def annotation_of(citation: Any, item: Item) -> Mapping[str, Any] | None:
    """A source of the open text as this protocol has it; `None` for anything but a page of the web."""
    url = citation.get("url") if isinstance(citation, dict) else None
    if not isinstance(url, str) or item.open != "output_text":
        return None
    if citation.get("type") == "url_citation":
        return dict(citation)
    title = citation.get("title")
    return {
        "type": "url_citation",
        "url": url,
        "title": title if isinstance(title, str) else "",
        "start_index": 0,
        "end_index": item.count(),
    }
