"""Chunks that are like the one before but for their text: known by their bytes, and written anew without being decoded.

Nearly all chunks of a stream differ in one JSON string only. A template is made of a chunk that was decoded, checked and forwarded: what
stood before the string and after it, as the upstream wrote it and as the client got it. Bytes that hold nothing but the same around another
string then mean the same, and need no second look. Anything else is left to the decoder.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_VALUE = rb'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*'
"""What a JSON string holds (RFC 8259, section 7), but for surrogates, of which a lone half would have to be mended."""

_TEXT = re.compile(rb'"(?:content|reasoning_content|reasoning|arguments)"\s*:\s*"')
_value = re.compile(_VALUE).fullmatch
_value_at = re.compile(_VALUE + rb'(?=")').match
_MAX_FRAME_BYTES = 4096


class Alike(NamedTuple):
    """The client's frames for events that are like the template, and how much text these hold."""

    frames: bytes
    text_bytes: int


class ChunkTemplate:
    """What stands before and after the text of a chunk: on the upstream's wire, and on the client's. Immutable."""

    __slots__ = ("_after", "_before", "_our_after", "_our_before", "_size")

    def __init__(self, before: bytes, after: bytes, our_before: bytes, our_after: bytes) -> None:
        self._before = before
        self._after = after
        self._our_before = our_before
        self._our_after = our_after
        self._size = len(before) + len(after)

    def rewritten(self, data: bytes) -> Alike | None:
        """The client's frames for `data`, when it is nothing but whole events that are like the template; else `None`."""
        before, after = self._before, self._after
        if not (data.startswith(before) and data.endswith(after)):
            return None
        text = data[len(before) : -len(after)]
        if not data.isascii() and not _is_utf8(data):
            return None
        if _value(text) is not None:
            return Alike(self._our_before + text + self._our_after, len(text))
        texts = data[len(before) : -len(after)].split(after + before)
        if not all(map(_value, texts)):
            return None
        between = self._our_after + self._our_before
        text_bytes = len(data) - len(texts) * self._size
        return Alike(self._our_before + between.join(texts) + self._our_after, text_bytes)


def template_of(theirs: bytes, ours: bytes) -> ChunkTemplate | None:
    """The template of an event and the frame it became, both with their framing; `None` when there is no text that is the same in both."""
    their_parts, our_parts = _around(theirs), _around(ours)
    if their_parts is None or our_parts is None or their_parts[1] != our_parts[1]:
        return None
    return ChunkTemplate(their_parts[0], their_parts[2], our_parts[0], our_parts[2])


def _around(event: bytes) -> tuple[bytes, bytes, bytes] | None:
    """What stands before the text, the text, and what stands after it."""
    key = _TEXT.search(event)
    value = key and _value_at(event, key.end())
    if value is None or not key:
        return None
    before, after = event[: value.start()], event[value.end() :]
    return (before, value[0], after) if len(before) + len(after) <= _MAX_FRAME_BYTES else None


def _is_utf8(data: bytes) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
