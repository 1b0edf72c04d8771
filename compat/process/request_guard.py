"""What a request must be before the server takes it: one head of bounded size, which can be read in one way only.

RFC 9112, sections 2.2, 3.2, 5.1, 5.2 and 6.3: gevent's own parser takes a bare CR for a line's end, drops `content-length` beside
`transfer-encoding`, ignores an encoding that it does not know and reads `+5` and `1_0` as numbers. Each of these lets somebody between the
client and us see another request than we do.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import gevent
from gevent.pywsgi import Input, headers_factory

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 128
LINGER_S = 1.0
LINGER_BLOCK_BYTES = 1024 * 1024
LINGER_BLOCKS = 64
"""How much of a body that nobody wanted is read all the same, from a client that sends each block of it in time. One that is still sending
when its connection is reset may not see its answer; proxies never do, and tell of a 502 instead. It costs no more than a body that is
wanted."""

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r?\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class HeadRefused(ValueError):
    """The head is no head."""


def strict_headers(fp: Any, *_: object) -> Any:
    """The headers of a request, for `WSGIHandler.MessageClass`. Errors: `HeadRefused`."""
    lines: list[bytes] = []
    size = 0
    while True:
        line = fp.readline(MAX_HEAD_BYTES + 1)
        size += len(line)
        if size > MAX_HEAD_BYTES or len(lines) > MAX_FIELDS:
            raise HeadRefused(f"more than {MAX_FIELDS} header fields, or {MAX_HEAD_BYTES} bytes of them")
        if line in {b"\r\n", b"\n"}:
            break
        if not line.endswith(b"\n"):
            raise HeadRefused("the head ended early")
        lines.append(line)
    check_fields(lines)
    return headers_factory(io.BytesIO(b"".join([*lines, b"\r\n"])))


def check_fields(lines: Sequence[bytes]) -> None:
    """Whether every line is one field, and those that say where the request goes and ends say it once. Errors: `HeadRefused`."""
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise HeadRefused(f"this is no header field: {line[:60]!a}")
        values.setdefault(match[1].lower(), []).append(match[2])
    for name in (b"host", b"content-length", b"transfer-encoding", b"content-type", b"origin"):
        if len(values.get(name, ())) > 1:
            raise HeadRefused(f"the header field {name.decode()} is there twice")
    encoding, length = values.get(b"transfer-encoding"), values.get(b"content-length")
    if encoding is not None and (length is not None or encoding[0].lower() != b"chunked"):
        raise HeadRefused("the length of the body can be read in two ways")
    if length is not None and _LENGTH.fullmatch(length[0]) is None:
        raise HeadRefused("the content-length is not a number")


class Body(Input):  # type: ignore[misc]
    """A request's body. What nobody read is read after the answer, so that the client sees it; what is left then ends the connection."""

    is_left = False

    def _discard(self) -> None:
        if self._chunked_input_error:
            self.is_left = True
            return
        self.send_100_continue_enabled = False
        self.is_left = True
        with contextlib.suppress(OSError, ValueError):
            for _ in range(LINGER_BLOCKS):
                with gevent.Timeout(LINGER_S, TimeoutError()):
                    if len(self.read(LINGER_BLOCK_BYTES)) < LINGER_BLOCK_BYTES:
                        self.is_left = False
                        return
