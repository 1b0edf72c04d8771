"""Token counts of our own, for upstreams that leave usage out: an estimate, and marked as one.

    prompt_tokens(envelope, keys)  -> tokens of a request
    text_tokens(text)              -> tokens of what was written
    estimated_usage(prompt, size)  -> Usage(..., is_estimate=True)
    StreamScale().add(event)       -> how much text a stream of chunks holds

Without counts Kilo Code sees 0 tokens, and never compacts a conversation before it overflows. So what matters is that a long conversation
counts as long: a rule of thumb that is rather too high than too low. It reads the request's text once, and decodes nothing.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from compat.wire.extent import WINDOW_BYTES
from compat.wire.usage import Usage

CHARS_PER_TOKEN = 3.5
"""Between prose (about 4) and code with the JSON of tool calls (about 3). A Chinese character counts as a token of its own."""
TOKENS_PER_MESSAGE = 4
TOKENS_PER_IMAGE = 1_500
"""Of a large picture, by the vendors' own words; its bytes say nothing."""

_CONTENT_BYTES = 10
_ARGUMENTS_BYTES = 44
"""What a chunk with a piece of text, or of a call's arguments, is longer than the empty one besides the piece."""

_DATA_URL = re.compile(rb"data:[a-z]+/[a-z0-9.+-]+\Z", re.IGNORECASE)
_DATA_MARK = b";base64,"
_LABEL_BYTES = 100
_SOURCE = re.compile(rb'"data"\s*:\s*"(?=[A-Za-z0-9+/]{64})')
_BASE64 = b'"base64"'
_PDF = b"JVBER"
_PAGE_BYTES = 100 * 1024
"""Of a document in base64, for each page."""
_MAX_PICTURES = 10_000
_ESCAPED = re.compile(rb"(?:\\u[0-9a-fA-F]{4})+")
_ESCAPE_BYTES = 6
_ROLE = b'"role"'
_CONTINUATION = bytes(range(0x80, 0xC0))


def prompt_tokens(request: Mapping[str, bytes], keys: Sequence[str]) -> int:
    """Tokens of a request, whose top-level values are JSON texts: those of `keys` as they are written, the conversation first, pictures by
    their number."""
    values = [request.get(name, b"") for name in keys]
    text, pictures = _without_pictures(b"".join(values))
    text, files = _without_files(text)
    return text_tokens(text) + TOKENS_PER_MESSAGE * values[0].count(_ROLE) + TOKENS_PER_IMAGE * (pictures + files)


def _without_pictures(text: bytes) -> tuple[bytes, int]:
    """JSON text less what its data URLs hold, and how many there are. What is found by searching for bytes costs next to nothing."""
    parts: list[bytes] = []
    start = pictures = 0
    mark = text.find(_DATA_MARK)
    for _ in range(_MAX_PICTURES):
        if mark < 0:
            break
        end = mark + len(_DATA_MARK)
        if _DATA_URL.search(text[max(mark - _LABEL_BYTES, start) : mark]) is not None:
            pictures += 1
            parts.append(text[start:mark])
            start = end = text.find(b'"', mark) % (len(text) + 1)
        mark = text.find(_DATA_MARK, end)
    return b"".join((*parts, text[start:])), pictures


def _without_files(text: bytes) -> tuple[bytes, int]:
    """JSON text less what its base64 sources hold, as Anthropic's protocol has them, and how many pictures these are: a document is one for
    each of its pages, about."""
    parts: list[bytes] = []
    start = pictures = 0
    for match in itertools.islice(_SOURCE.finditer(text), _MAX_PICTURES):
        before = text[max(match.start() - _LABEL_BYTES, start) : match.start()]
        if _BASE64 not in before:
            continue
        end = text.find(b'"', match.end())
        if end < 0:
            break
        parts.append(text[start : match.end()])
        start = end
        pictures += max((end - match.end()) // _PAGE_BYTES, 1) if text.startswith(_PDF, match.end()) else 1
    return b"".join((*parts, text[start:])), pictures


def text_tokens(text: bytes) -> int:
    """Tokens of UTF-8 text, or of JSON with escapes; at least one where there is any."""
    if not text:
        return 0
    escaped = wide = 0
    for start in range(0, len(text), WINDOW_BYTES):  # a character or an escape that is cut in two is one of many
        window = text[start : start + WINDOW_BYTES]
        if b"\\u" in window:
            escaped += sum(map(len, _ESCAPED.findall(window))) // _ESCAPE_BYTES
        if not window.isascii():
            wide += len(window) - len(window.translate(None, _CONTINUATION))
    wide //= 2
    narrow = max(len(text) - _ESCAPE_BYTES * escaped - 3 * wide, 0)
    return max(round(narrow / CHARS_PER_TOKEN) + wide + escaped, 1)


class StreamScale:
    """Weighs the chunks of a stream without reading them: what they are longer than the shortest of them, the empty one at the end.

    Mutable: all fields; `_weighed` is text of which it was known how long it is.
    """

    __slots__ = ("_bytes", "_events", "_shortest", "_weighed")

    def __init__(self) -> None:
        self._weighed = 0
        self._bytes = 0
        self._events = 0
        self._shortest = 1 << 30

    def add(self, event: bytes) -> None:
        """One chunk with a choice."""
        size = len(event)
        self._bytes += size - (_ARGUMENTS_BYTES if b'"arguments"' in event else _CONTENT_BYTES)
        self._events += 1
        self._shortest = min(self._shortest, size)

    def add_weighed(self, text_bytes: int) -> None:
        """Chunks of which it is known how much text they hold."""
        self._weighed += text_bytes

    @property
    def text_bytes(self) -> int:
        """Of text, reasoning and arguments, about."""
        return max(self._bytes - self._events * self._shortest, 0) + self._weighed


def estimated_usage(prompt: int, answer_bytes: int) -> Usage:
    """The usage of a call with so many tokens of prompt, and so much text, reasoning, names and arguments of tool calls in its answer."""
    return Usage(prompt_tokens=prompt, completion_tokens=math.ceil(answer_bytes / CHARS_PER_TOKEN), is_estimate=True)
