"""What a conversation began with, which stays the same while it grows: read from the beginning of its list of messages alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from compat import jsonio
from compat.wire.envelope import Envelope

MAX_HEAD_BYTES = 128 * 1024
"""How much of the messages is looked at; what is longer counts by its beginning."""

_MAX_TOKENS = 4096
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', re.DOTALL)
_ROLES = ("system", "developer", "user")


def opening_of(envelope: Envelope, key: str) -> list[bytes]:
    """The texts a conversation began with: those of the first two messages in `key` that are not answers."""
    head = envelope.get(key, b"")[:MAX_HEAD_BYTES]
    elements, seen = first_elements(head, 2)
    parts: list[bytes] = []
    for element in elements:
        message = jsonio.decode(element)
        if isinstance(message, dict) and message.get("role") in _ROLES:
            parts += [str(message["role"]).encode(), *_texts(message.get("content"))]
    return parts or elements[:1] or [head[:seen]]


def _texts(content: Any) -> Iterator[bytes]:
    """A message's text, the same whether it is written as a string or as parts; other parts count as they are."""
    if not isinstance(content, list):
        yield content.encode() if isinstance(content, str) else jsonio.encode(content)
        return
    for part in content:
        is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
        yield part["text"].encode() if is_text else jsonio.encode(part)


def first_elements(array: bytes, count: int) -> tuple[list[bytes], int]:
    """The JSON texts of the first `count` elements of an array that may be cut off, and how many bytes were looked at.

    There are none when the array ends, or has more brackets and commas than are worth counting, before they are whole.
    """
    elements: list[bytes] = []
    depth = start = 0
    for number, token in enumerate(_TOKEN.finditer(array)):
        mark = array[token.start()]
        if number >= _MAX_TOKENS or token[0] == b'"':
            return [], token.start()
        if mark in b"[{":
            depth += 1
            start = start or token.end()
        is_end = depth == 1 and mark in b",]"
        if is_end and array[start : token.start()].strip():
            elements.append(array[start : token.start()])
            start = token.end()
        if is_end and (mark == ord("]") or len(elements) == count):
            return elements, token.end()
        if mark in b"]}":
            depth -= 1
    return [], len(array)
