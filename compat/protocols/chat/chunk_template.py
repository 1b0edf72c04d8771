"""Chunks that are like the one before but for their text: known by their bytes, and rewritten without being decoded.

Nearly all chunks of a stream differ in one JSON string only. A template is made of a chunk that was decoded, checked and forwarded: what
stood before the string and after it, as the upstream wrote it and as the client got it. Bytes that hold nothing but the same around another
string then mean the same, and need no second look. Anything else is left to the decoder.
"""

from __future__ import annotations

import re

from compat.protocols.raw_text import is_utf8, is_value, value_at

_TEXT = re.compile(rb'"(?:content|reasoning_content|reasoning|arguments)"\s*:\s*"')
_MAX_CHUNK_BYTES = 16 * 1024
"""Of a chunk that a template is made of: longer ones are few, and cost more to look at than to decode."""


class ChunkTemplate:
    """What stands before and after the text of a chunk: in the upstream's event, and in the client's frame. Immutable."""

    __slots__ = ("_after", "_before", "_between", "_our_after", "_our_before", "_our_between")

    def __init__(self, before: bytes, after: bytes, our_before: bytes, our_after: bytes) -> None:
        self._before = before
        self._after = after
        self._between = after + b"\n\n" + before
        self._our_before = our_before
        self._our_after = our_after
        self._our_between = our_after + our_before

    def rewritten(self, text: bytes) -> tuple[bytes, int] | None:
        """The client's frames for the text of events (see `EventSplitter.complete`) that all are like the template, and how much text these
        hold; else `None`.
        """
        before, after = self._before, self._after
        if not (text.startswith(before) and text.endswith(after)):
            return None
        if not text.isascii() and not is_utf8(text):
            return None
        value = text[len(before) : -len(after)]
        if is_value(value) is not None:
            return self._our_before + value + self._our_after, len(value)
        values = value.split(self._between)
        if not all(map(is_value, values)):
            return None
        return self._our_before + self._our_between.join(values) + self._our_after, sum(map(len, values))


def template_of(data: bytes, frame: bytes) -> ChunkTemplate | None:
    """The template of an event's data and the frame it became; `None` when there is no text that is the same in both."""
    if len(data) > _MAX_CHUNK_BYTES:
        return None
    theirs, ours = _around(b"data: " + data), _around(frame)
    if theirs is None or ours is None or theirs[1] != ours[1]:
        return None
    return ChunkTemplate(theirs[0], theirs[2], ours[0], ours[2])


def _around(event: bytes) -> tuple[bytes, bytes, bytes] | None:
    """What stands before the text, the text, and what stands after it."""
    key = _TEXT.search(event)
    value = key and value_at(event, key.end())
    if value is None or not key:
        return None
    before, after = event[: value.start()], event[value.end() :]
    return before, value[0], after
