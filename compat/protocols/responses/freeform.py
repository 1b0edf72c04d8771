"""Raw text that a model wrote as the arguments of a function, for tools that are called with text and not with JSON.

    unwrapped = Unwrapped()
    text = unwrapped.feed(piece) ... + unwrapped.end()

The function takes `{"input": "..."}`. The text is decoded as it comes, however it is cut. Models invent other forms
(tickets codex#16397, #33405, CLIProxyAPI#5753): `{"patch": "..."}`, `{"command": ["apply_patch", "..."]}`, any object with one text, a
JSON string, bare text. These are known at their end only. Escapes that JSON does not have stand for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_OPENING = re.compile(r'\s*\{\s*"(?:input|patch)"\s*:\s*"')
_MAX_OPENING = 64
"""Of characters: what begins otherwise is looked at when all of it came."""
_KNOWN = r"u(?:[0-9a-fA-F]{4}|[0-9a-fA-F]{0,3}[^0-9a-fA-F])"
"""What stands behind a backslash, as far as it must be there to say where its escape ends."""
_UNITS = re.compile(
    rf'(?:[^"\\]|\\[^u]|\\(?=u[0-9a-fA-F]{{0,3}}[^0-9a-fA-F])u|\\u(?![dD][89abAB])[0-9a-fA-F]{{4}}'
    rf"|\\u[dD][89abAB][0-9a-fA-F]{{2}}(?=[^\\]|\\(?:[^u]|{_KNOWN})))*",
    re.DOTALL,
)
"""Characters and escapes that nothing behind them changes: the first half of a pair of surrogates is kept for the second."""
_ESCAPE = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\(.)", re.DOTALL)
_CHARACTERS: Mapping[str, str] = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_REPLACEMENT = "\ufffd"


class Unwrapped:
    """See above. Mutable: all of it."""

    __slots__ = ("_is_over", "_is_within", "_rest", "_whole")

    def __init__(self) -> None:
        self._whole: list[str] = []
        self._rest = ""
        self._is_within = False
        self._is_over = False

    def feed(self, piece: str) -> str:
        """The next piece of the arguments; what it adds to the text."""
        if self._is_over:
            return ""
        if self._is_within:
            return self._decoded(piece)
        self._whole.append(piece)
        if len(self._rest) > _MAX_OPENING:
            return ""
        self._rest += piece
        opening = _OPENING.match(self._rest)
        if opening is None:
            return ""
        self._is_within = True
        text, self._rest = self._rest[opening.end() :], ""
        return self._decoded(text)

    def end(self) -> str:
        """The text that is left when all arguments came."""
        if self._is_over:
            return ""
        if self._is_within:
            self._is_over = True
            return _plain(self._rest)
        return unwrapped("".join(self._whole))

    def _decoded(self, piece: str) -> str:
        text = self._rest + piece
        units = _UNITS.match(text)
        assert units is not None
        end = units.end()
        self._is_over = text[end : end + 1] == '"'
        self._rest = text[end:]
        return _plain(text[:end])


def unwrapped(arguments: str) -> str:
    """The text in arguments that all came."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return arguments
    return _text_in(value, arguments)


def _text_in(value: Any, otherwise: str) -> str:
    match value:
        case str():
            return value
        case {"input": str(text)} | {"patch": str(text)}:
            return text
        case {"command": [*_, str(text)]}:
            return text
        case dict() if len(value) == 1 and isinstance(text := next(iter(value.values())), str):
            return text
    return otherwise


def _plain(text: str) -> str:
    """The characters that an escaped text stands for; half a pair of surrogates is replaced."""
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(match: re.Match[str]) -> str:
    high, low, code, other = match.groups()
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    if code is not None:
        character = chr(int(code, 16))
        return _REPLACEMENT if "\ud800" <= character <= "\udfff" else character
    return _CHARACTERS.get(other, match[0])
