"""The envelope of a JSON request: its top-level keys, each with its value as the client wrote it.

A passthrough body is never decoded further. `msgspec` checks the syntax of the whole; then the top level is walked once, where each value's
text is already known, to learn where it stands. So one value can be changed while all other bytes leave as they came.

A key that occurs twice is refused: two readers of one body must never disagree about what it says (RFC 8259, section 4).
A lone half of a surrogate pair (`"\\ud83d"`), which JavaScript clients send when they cut a string inside an emoji, becomes U+FFFD:
no upstream takes it, and refusing it would end an agent's session for one character.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import BadRequest
from compat.wire.extent import WINDOW_BYTES, check_escapes, check_utf8, check_values

MAX_KEYS = 1000
"""Of the top level: OpenAI's own requests know about fifty, and each is walked."""

MAX_KEY_CHARS = 512
"""Of a key of the top level."""

MAX_SHORT_BYTES = 64 * 1024
_SHORT = (
    *("model", "stream", "stream_options", "n", "best_of", "echo", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k"),
    *("seed", "parallel_tool_calls", "reasoning_effort", "service_tier", "dimensions", "encoding_format"),
    *("reasoning", "thinking", "tool_choice", "metadata", "user"),
)
"""Keys that are decoded again and again, wherever they are asked for, and objects that have a few keys (OpenAI takes 16 in `metadata`)."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_KEY = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_BLANK = b" \t\n\r"
_BLANKS = frozenset((b" ", b"\t", b"\n", b"\r"))
_FEW_BYTES = 16
_PLAIN_KEY = re.compile(rb'[{, \n]{0,16}"([^"\\]{0,64})"[ ]?:[ ]?(?![ \t\n\r])')
"""A key without an escape as most clients write it, up to where its value begins."""
_ESCAPES = re.compile(
    rb"(?:\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}){1,1000}+"
    rb"|(?P<lone>(?:\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})){1,1000}+)"
)
"""Runs of escaped backslashes and whole pairs, which stay, and runs of lone halves; of bounded length, for a match is one step."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_REPLACEMENT = rb"\ufffd"  # as long as what it stands for


class Envelope(Mapping[str, bytes]):
    """Top-level key -> the JSON text of its value. Immutable.

    `body` is the whole text, `was_repaired`: lone surrogates were replaced. Missing keys raise `KeyError`, as in any mapping.
    """

    __slots__ = ("_spans", "body", "was_repaired")

    def __init__(self, body: bytes) -> None:
        """`BadRequest` when `body` is not UTF-8, not a JSON object, nested too deeply, or has a key twice."""
        try:
            check_utf8(body)
            body, values, self.was_repaired = _read(body)
        except RecursionError as error:
            raise BadRequest("The body is nested too deeply.") from error
        except msgspec.ValidationError as error:
            raise BadRequest(f"The body must be a JSON object: {error}.") from error
        except msgspec.DecodeError as error:
            raise BadRequest(f"The body is not valid JSON: {error}.") from error
        if len(values) > MAX_KEYS:
            raise BadRequest(f"The body has more than {MAX_KEYS} keys.")
        if max(map(len, values), default=0) > MAX_KEY_CHARS:
            raise BadRequest(f"The body has a key of more than {MAX_KEY_CHARS} characters.")
        self.body = body
        self._spans = _find_spans(body, values)

    def __getitem__(self, key: str) -> bytes:
        start, end = self._spans[key]
        return self.body[start:end]

    def __iter__(self) -> Any:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def value(self, key: str, default: Any = None) -> Any:
        """The decoded value of `key`, or `default` where the key is missing."""
        span = self._spans.get(key)
        return default if span is None else jsonio.decode(self.body[span[0] : span[1]], f"'{key}'")

    def starts_with(self, key: str, opening: bytes) -> bool:
        """Whether the value of `key` begins with `opening` (`[`, `{`, `"`): its JSON type, without decoding it."""
        span = self._spans.get(key)
        return span is not None and self.body.startswith(opening, span[0])

    def size_bytes(self, key: str) -> int:
        """How long the text of a value is; 0 where the key is missing."""
        start, end = self._spans.get(key, (0, 0))
        return end - start

    def is_null(self, key: str) -> bool:
        """Whether the value of `key` is `null`, without decoding it."""
        return self.starts_with(key, b"null")

    def is_missing(self, key: str) -> bool:
        """Whether there is no value for `key`, or `null`."""
        return key not in self._spans or self.is_null(key)

    def is_empty(self, key: str) -> bool:
        """Whether there is nothing in the list that `key` has, without decoding it."""
        span = self._spans.get(key)
        return span is not None and self.body.startswith(b"]", _after_blank(self.body, span[0] + 1))

    def without(self, keys: Collection[str]) -> Envelope:
        """An envelope that lacks `keys`, the others byte for byte."""
        kept = [jsonio.encode(key) + b":" + self[key] for key in self if key not in keys]
        return Envelope(b"{" + b",".join(kept) + b"}")

    def replaced(self, changes: Mapping[str, bytes]) -> bytes:
        """A new body: the values of `changes` (JSON texts) in place of theirs, new keys at the end, every other byte unchanged."""
        spans = self._spans
        edits = sorted((*spans[key], text) for key, text in changes.items() if key in spans)
        parts: list[bytes] = []
        position = 0
        for start, end, text in edits:
            parts += (self.body[position:start], text)
            position = end
        added = [jsonio.encode(key) + b":" + text for key, text in changes.items() if key not in spans]
        if not added:
            return b"".join((*parts, self.body[position:]))
        closing = self.body.rindex(b"}")
        comma = b"," if spans else b""
        return b"".join((*parts, self.body[position:closing], comma, b",".join(added), b"}"))


def client_envelope(body: bytes) -> Envelope:
    """The envelope of a client's request, which has no more values than a request needs. Errors: `BadRequest`."""
    check_values(body)
    check_escapes(body)
    envelope = Envelope(body)
    for key in _SHORT if len(body) > MAX_SHORT_BYTES else ():
        if envelope.size_bytes(key) > MAX_SHORT_BYTES:
            raise BadRequest(f"'{key}' has more than {MAX_SHORT_BYTES} bytes.", param=key)
    return envelope


def _read(body: bytes) -> tuple[bytes, dict[str, msgspec.Raw], bool]:
    """The body, its values, and whether it was repaired."""
    try:
        return body, _decode(body), False
    except msgspec.DecodeError:
        whole = repaired(body)
        if whole == body:
            raise
        return whole, _decode(whole), True


def repaired(body: bytes) -> bytes:
    """JSON text with each lone half of a surrogate pair replaced by U+FFFD."""
    if _SURROGATE.search(body) is None:
        return body
    whole: bytearray | None = None
    for match in _ESCAPES.finditer(body):
        if match["lone"] is not None:
            whole = whole or bytearray(body)
            whole[match.start() : match.end()] = _REPLACEMENT * (len(match["lone"]) // len(_REPLACEMENT))
    return body if whole is None else bytes(whole)


def _find_spans(body: bytes, values: Mapping[str, msgspec.Raw]) -> dict[str, tuple[int, int]]:
    """Where each value stands. The text is known to be JSON: the first quote after a value begins a key."""
    spans: dict[str, tuple[int, int]] = {}
    position = 0
    while True:
        match = _PLAIN_KEY.match(body, position)
        if match is not None:
            key, start = str(match[1], "utf-8"), match.end()
        else:
            quote = body.find(b'"', position)
            match = _KEY.match(body, quote) if quote >= 0 else None
            if match is None:
                return spans
            key = jsonio.decode(match[0])
            start = _after_blank(body, body.index(b":", match.end()) + 1)
        value = bytes(values[key])
        position = start + len(value)
        if key in spans or not body.startswith(value, start):
            raise BadRequest(f"The key '{key[:100]}' occurs twice.", param=key[:100])
        spans[key] = (start, position)


def _after_blank(body: bytes, position: int) -> int:
    """The first place from `position` on that is not blank."""
    if body[position : position + 1] not in _BLANKS:
        return position
    size = _FEW_BYTES
    while True:
        window = body[position : position + size]
        blank = len(window) - len(window.lstrip(_BLANK))
        position += blank
        if not window or blank < len(window):
            return position
        size = WINDOW_BYTES


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def raw_items(text: bytes) -> list[bytes]:
    """The items of a JSON list, as they are written; none of anything else."""
    try:
        return [bytes(item) for item in _decode_list(text)]
    except msgspec.DecodeError:
        return []
