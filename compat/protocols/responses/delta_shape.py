"""Deltas of the Responses API that are known by their bytes (see `raw_text`): each has its own number, and padding of its own length."""

from __future__ import annotations

import re

from compat.protocols.raw_text import VALUE, is_utf8, text_of, value_at

_KEY = re.compile(rb'"delta":\s*"')
_OWN = re.compile(rb'("sequence_number"(?:\\?\s)*:(?:\\?\s)*)\d+|("obfuscation"(?:\\?\s)*:(?:\\?\s)*)"(?:[^"\\]|\\[^"\\])*"')
"""What differs between two deltas besides their text, in escaped bytes: no quote in a JSON string stands without a backslash."""


class DeltaShape:
    """What stands around the text of a delta. Immutable."""

    __slots__ = ("_match", "_start")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._start = before[: before.find(b'"sequence_number"')] if b'"sequence_number"' in before else before
        rest = before[len(self._start) :]
        self._match = re.compile(_around(rest) + b"(" + VALUE + b")" + _around(after)).fullmatch

    def values(self, text: bytes) -> list[bytes] | None:
        """The strings in the text of events (see `EventSplitter.complete`) that all have this shape; else `None`."""
        start = self._start
        if not text.startswith(start) or not (text.isascii() or is_utf8(text)):
            return None
        size, match = len(start), self._match
        found = match(text, size)
        if found is not None:  # one event, as most come: nothing that matches holds a line end
            return [found[1]]
        blocks = text.split(b"\n\n")
        matches = [match(block, size) for block in blocks if block.startswith(start)]
        values = [one[1] for one in matches if one is not None]
        return values if len(values) == len(blocks) else None


def delta_shape(event: bytes, text: str) -> DeltaShape | None:
    """The shape of a delta whose text is `text`; `None` where that is not plain."""
    keys = list(_KEY.finditer(event))
    value = value_at(event, keys[0].end()) if len(keys) == 1 else None
    if value is None or text_of((value[0],)) != text:
        return None
    return DeltaShape(event[: value.start()], event[value.end() :])


def _around(part: bytes) -> bytes:
    return _OWN.sub(lambda own: own[1] + rb"\d{1,18}" if own[1] else own[2] + rb'"[A-Za-z0-9_-]*+"', re.escape(part))
