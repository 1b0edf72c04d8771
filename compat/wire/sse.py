"""Server-sent events, decoded on bytes by the WHATWG text (HTML, section 9.2.6 "Interpreting an event stream").

    upstream bytes ── EventSplitter.feed ──> blocks ── parse_event ──> Event
                                               └─ passthrough forwards a block as it stands

A *block* is the text of one event: its lines joined by "\\n", without the blank line that ends it. Line ends may be LF, CRLF or CR,
cut anywhere between two reads; `str.splitlines` would also split on U+2028 inside JSON. Two liberties are taken, since real servers
need them: an event that lacks its last blank line still counts at the end of the stream, and the end of the stream is the caller's
to judge.
"""

from __future__ import annotations

from typing import NamedTuple

from compat.errors import UpstreamBroken

_BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"
"""As numbers: to look for bytes in bytes takes three times as long, since they are tried as a number first."""
DEFAULT_MAX_EVENT_BYTES = 32 * 1024 * 1024
KEEP_ALIVE = b": keep-alive\n\n"


class Event(NamedTuple):
    """One event: `name` is the value of its `event` field (empty when it has none), `data` its data lines joined by "\\n"."""

    name: bytes
    data: bytes


class EventSplitter:
    """Bytes in, blocks out: every split of the same bytes gives the same blocks.

    Holds at most one unfinished event of `max_event_bytes`; a longer one raises `UpstreamBroken`.
    """

    __slots__ = ("_after_cr", "_at_start", "_max_event_bytes", "_rest")

    def __init__(self, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._rest = bytearray()
        self._after_cr = False
        self._at_start = True
        self._max_event_bytes = max_event_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The blocks that `data` completes."""
        text = self.complete(data)
        return blocks_of(text) if text else []

    def complete(self, data: bytes) -> bytes:
        """The text of the events that `data` completes: blocks with a blank line between two of them (see `blocks_of`)."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        rest = self._rest
        if self._at_start:
            data = self._without_bom(data)
        if not rest and data.endswith(b"\n\n"):  # whole events, as upstreams mostly send them
            return data[:-2]
        searched = max(len(rest) - 1, 0)
        rest += data
        end = rest.rfind(b"\n\n", searched) if _LF in data else -1
        if end < 0:
            if len(rest) > self._max_event_bytes:
                raise UpstreamBroken(f"The upstream sent an event of more than {self._max_event_bytes} bytes.")
            return b""
        text = bytes(rest[:end])
        del rest[: end + 2]
        return text

    def finish(self) -> list[bytes]:
        """The event that the end of the stream completes, if there is one."""
        block = bytes(self._rest).strip(b"\n")
        self._rest.clear()
        return [block] if block else []

    def _without_bom(self, data: bytes) -> bytes:
        """`data` less a byte order mark at the very start of the stream, which may arrive in pieces."""
        start = bytes(self._rest) + data
        self._rest.clear()
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._rest += start
            return b""
        self._at_start = False
        return start.removeprefix(_BOM)


def blocks_of(text: bytes) -> list[bytes]:
    """The blocks in the text of events."""
    if _LF not in text:  # one event of one line, seen at the speed of `memchr`: that counts for one of a megabyte
        return [text]
    return [stripped for block in text.split(b"\n\n") if (stripped := block.strip(b"\n"))]


def parse_event(block: bytes) -> Event:
    """The event a block stands for; `data` is empty for comments and for events without data, which a reader ignores."""
    if block.startswith(b"data: ") and _LF not in block:
        return Event(b"", block[6:])
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(name, b"\n".join(data))


def data_frame(data: bytes) -> bytes:
    """One encoded event with `data`, which holds no line end (JSON as we write it never does)."""
    return b"data: " + data + b"\n\n"
