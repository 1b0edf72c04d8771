"""Text of events that is handed on as it was written, without being decoded.

Nearly all events of a stream differ in one JSON string only. The bytes around it are taken from an event that was decoded; bytes that hold
nothing but the same around another string then mean the same. Anything else is left to the decoder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from compat import jsonio

VALUE = rb'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*'
"""What a JSON string holds (RFC 8259, section 7), but for surrogates, of which a lone half would have to be mended."""

is_value = re.compile(VALUE).fullmatch
"""Whether bytes are what a JSON string holds."""
value_at = re.compile(VALUE + rb'(?=")').match
"""What the JSON string holds that begins at a place."""


def is_utf8(data: bytes) -> bool:
    """Whether `data` is UTF-8."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def text_of(values: Sequence[bytes]) -> str:
    """The text that these are parts of, each what a JSON string holds."""
    return str(jsonio.decode(b'"' + b"".join(values) + b'"'))


class EventShape:
    """What stands before and after the text of an event. Immutable."""

    __slots__ = ("_after", "_before", "_between", "_tail")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._between = after + b"\n\n" + before
        self._tail = after.replace(b" ", b"")

    def values(self, text: bytes) -> list[bytes] | None:
        """The strings in the text of events (see `EventSplitter.complete`) that all have this shape; else `None`."""
        before, after = self._before, self._after
        if not text.startswith(before):
            return None
        if not text.isascii() and not is_utf8(text):
            return None
        value = text[len(before) : -len(after)] if text.endswith(after) else self._unpadded(text)
        if value is None:
            return None
        if is_value(value) is not None:
            return [value]
        values = value.split(self._between)
        return values if all(map(is_value, values)) else None

    def _unpadded(self, text: bytes) -> bytes | None:
        """The string of an event with other blanks at its end: some upstreams hide the length of what they say by them."""
        start = text.rstrip(b" }")
        return start[len(self._before) : -1] if text[len(start) - 1 :].replace(b" ", b"") == self._tail else None


def shape_of(event: bytes, key: re.Pattern[bytes], text: str) -> EventShape | None:
    """The shape of an event whose string behind `key`, which it has once, is `text`; `None` where that is not plain."""
    keys = list(key.finditer(event))
    value = value_at(event, keys[0].end()) if len(keys) == 1 else None
    if value is None or text_of((value[0],)) != text:
        return None
    return EventShape(event[: value.start()], event[value.end() :])


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
