"""How much there is in a JSON text: bounds for work that can't be interrupted.

    check_utf8(text)              -> BadRequest unless it is UTF-8
    check_values(text, what)      -> BadRequest when there are more keys and values than any request needs
    check_escapes(text)           -> BadRequest when there are more escaped characters than any request needs

A decoder of JSON is one step for the interpreter: nothing else runs until it is done, and an empty list of two bytes takes eighty in
memory. So the number of values is bounded before a text is decoded. Both checks take a window at a time.
"""

from __future__ import annotations

import codecs

from compat.errors import BadRequest

MAX_VALUES = 400_000
"""Of one text: keys and values, seen by the commas, colons and opening brackets outside of strings. The request of a coding agent has a few
thousand, OpenAI takes 300,000 tokens for embeddings; this many are decoded in about a twentieth of a second."""

MAX_ESCAPES = 2_500_000
"""Of one text: characters written as `\\uXXXX`. More than any model takes as tokens; this many are decoded in a twentieth of a second."""

WINDOW_BYTES = 64 * 1024
_ESCAPE_BYTES = 6
_MARKS = (b",", b":", b"[", b"{")


def check_utf8(text: bytes) -> None:
    """`BadRequest`, with the place, unless `text` is UTF-8. As one string it would take four times its size for a single rare character."""
    if text.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(text), WINDOW_BYTES):
        before = start - len(decoder.getstate()[0])
        try:
            decoder.decode(text[start : start + WINDOW_BYTES], start + WINDOW_BYTES >= len(text))
        except UnicodeDecodeError as error:
            raise BadRequest(f"The body is not valid UTF-8: {error.reason} at byte {before + error.start}.") from error


def check_values(text: bytes, what: str = "The body", most: int = MAX_VALUES, param: str | None = None) -> None:
    """`BadRequest` when `text`, which is JSON, has more than `most` keys and values; `what` is its name."""
    if len(text) <= most or _count(text) <= most:  # most texts are short, or have too few even with what stands in strings
        return
    count = 0
    is_within = False
    carried = b""
    for start in range(0, len(text), WINDOW_BYTES):
        window = carried + text[start : start + WINDOW_BYTES]
        carried = b"\\" if (len(window) - len(window.rstrip(b"\\"))) % 2 else b""
        window = window[:-1] if carried else window
        if b"\\" in window:
            window = window.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = window.split(b'"')
        count += sum(b"".join(pieces[is_within::2]).count(mark) for mark in _MARKS)
        is_within ^= len(pieces) % 2 == 0
        if count > most:
            raise BadRequest(f"{what} has more than {most} keys and values.", param=param)


def check_escapes(text: bytes) -> None:
    """`BadRequest` when `text`, which is JSON, has more than `MAX_ESCAPES` characters that are escaped by their number."""
    if len(text) <= MAX_ESCAPES * _ESCAPE_BYTES:
        return
    if sum(text.count(b"\\u", start, start + WINDOW_BYTES) for start in range(0, len(text), WINDOW_BYTES)) > MAX_ESCAPES:
        raise BadRequest(f"The body has more than {MAX_ESCAPES} escaped characters: send them as UTF-8.")


def _count(text: bytes) -> int:
    return sum(text.count(mark, start, start + WINDOW_BYTES) for start in range(0, len(text), WINDOW_BYTES) for mark in _MARKS)
