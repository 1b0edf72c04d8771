"""What a request must be before the server takes it: one head of bounded size, which can be read in one way only.

RFC 9112, sections 2.2, 3.2, 5.1, 5.2 and 6.3: gevent's own parser takes a bare CR for a line's end, drops `content-length` beside
`transfer-encoding`, ignores an encoding that it does not know and reads `+5` and `1_0` as numbers. Each of these lets somebody between the
client and us see another request than we do.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

import gevent
from gevent.pywsgi import Input

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 128
LINGER_S = 1.0
LINGER_BLOCK_BYTES = 1024 * 1024
LINGER_BLOCKS = 64
"""How much of a body that nobody wanted is read all the same, from a client that sends each block of it in time. One that is still sending
when its connection is reset may not see its answer; proxies never do, and answer 502 instead. It costs no more than a body that is
wanted."""

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_SINGLE = frozenset(
    {"host", "content-length", "transfer-encoding", "content-type", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"}
)
"""Fields that decide something. Of those that are there twice a server joins the values, and a rule for one value passes over the two."""


class HeadRefused(ValueError):
    """The head is no head."""


class Fields:
    """The header fields of a request, with as much of an `email.message.Message` (which takes ten times as long) as gevent's handler wants.

    `items` has them in their order, the names in lower case. Read only, but for `del`, which gevent uses.
    """

    status = ""
    """gevent's report of what is wrong with the head; here that is an exception."""

    def __init__(self, items: Sequence[tuple[str, str]]) -> None:
        self.items = items
        self._first = dict(reversed(items))

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a field; names are compared without regard to case."""
        return self._first.get(name.lower(), default)

    getheader = get

    @property
    def typeheader(self) -> str | None:
        """The content type."""
        return self._first.get("content-type")

    def __delitem__(self, name: str) -> None:
        del self._first[name.lower()]


def strict_headers(fp: Any, *_: object) -> Fields:
    """The headers of a request, for `WSGIHandler.MessageClass`. Errors: `HeadRefused`."""
    items: list[tuple[str, str]] = []
    size = 0
    while True:
        line = fp.readline(MAX_HEAD_BYTES + 1)
        size += len(line)
        if size > MAX_HEAD_BYTES or len(items) > MAX_FIELDS:
            raise HeadRefused(f"more than {MAX_FIELDS} header fields, or {MAX_HEAD_BYTES} bytes of them")
        if line in {b"\r\n", b"\n"}:
            break
        if not line.endswith(b"\n"):
            raise HeadRefused("the head ended early")
        match = _FIELD.fullmatch(line)
        if match is None:
            raise HeadRefused(f"invalid header field: {line[:60]!a}")
        items.append((str(match[1], "latin-1").lower(), str(match[2], "latin-1")))
    check_fields(items)
    return Fields(items)


def check_fields(items: Sequence[tuple[str, str]]) -> None:
    """Whether the fields that say where the request goes and ends say it once, and in one way. Errors: `HeadRefused`."""
    values: dict[str, str] = {}
    for name, value in items:
        if name in _SINGLE:
            if name in values:
                raise HeadRefused(f"the header field {name} occurs twice")
            values[name] = value
    encoding, length = values.get("transfer-encoding"), values.get("content-length")
    if encoding is not None and (length is not None or encoding.lower() != "chunked"):
        raise HeadRefused("the length of the body can be read in two ways")
    if length is not None and _LENGTH.fullmatch(length) is None:
        raise HeadRefused("the content-length is not a number")


class Body(Input):  # type: ignore[misc]  # gevent has no types
    """A request's body. What nobody read is read after the answer, so that the client sees it; what is left then ends the connection.

    `is_at_hand`: all of it came together with the head: reading it takes no time.
    """

    is_left = False
    is_at_hand = False

    def _discard(self) -> None:
        if self._chunked_input_error:
            self.is_left = True
            return
        if not self.chunked_input and self.position >= (self.content_length or 0):
            return
        self.send_100_continue_enabled = False
        self.is_left = True
        with contextlib.suppress(OSError, ValueError):
            for _ in range(LINGER_BLOCKS):
                with gevent.Timeout(LINGER_S, TimeoutError()):
                    if len(self.read(LINGER_BLOCK_BYTES)) < LINGER_BLOCK_BYTES:
                        self.is_left = False
                        return
