"""Deltas of the Responses API that are known by their bytes (see `raw_text`): each has its own number, and padding of its own length."""

from __future__ import annotations

import re

from compat.protocols.raw_text import VALUE, is_utf8, text_of, value_at

_KEY = re.compile(rb'"delta":\s*"')
_OWN = re.compile(rb'("sequence_number"(?:\\?\s)*:(?:\\?\s)*)\d+|("obfuscation"(?:\\?\s)*:(?:\\?\s)*)"(?:[^"\\]|\\[^"\\])*"')
"""What differs between two deltas besides their text, in escaped bytes: no quote in a JSON string stands without a backslash."""


class DeltaShape:
    """What stands around the text of a delta. Immutable."""

    __slots__ = ("_match",)

    def __init__(self, before: bytes, after: bytes) -> None:
        self._match = re.compile(_around(before) + b"(" + VALUE + b")" + _around(after)).fullmatch

    def values(self, text: bytes) -> list[bytes] | None:
        """The strings in the text of events (see `EventSplitter.complete`) that all have this shape; else `None`."""
        found = self._match(text)
        if found is not None:  # one event, as most come: nothing that matches holds a line end
            values = [found[1]]
        else:
            blocks = text.split(b"\n\n")
            values = [one[1] for one in map(self._match, blocks) if one is not None]
            if len(values) < len(blocks):
                return None
        return values if text.isascii() or is_utf8(text) else None


def delta_shape(event: bytes, text: str) -> DeltaShape | None:
    """The shape of a delta whose text is `text`; `None` where that is not plain."""
    keys = list(_KEY.finditer(event))
    value = value_at(event, keys[0].end()) if len(keys) == 1 else None
    if value is None or text_of((value[0],)) != text:
        return None
    return DeltaShape(event[: value.start()], event[value.end() :])


def _around(part: bytes) -> bytes:
    return _OWN.sub(lambda own: own[1] + rb"\d{1,18}" if own[1] else own[2] + rb'"[A-Za-z0-9_-]*+"', re.escape(part))
