"""Event streams and the events that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

from compat.wire.sse import Event


@dataclass(frozen=True)
class SseCase:
    name: str
    text: bytes
    events: list[Event]


def _plain(*data: bytes) -> list[Event]:
    return [Event(b"", item) for item in data]


CASES = [
    SseCase("two events", b"data: 1\n\ndata: 2\n\n", _plain(b"1", b"2")),
    SseCase("CRLF", b"data: 1\r\n\r\ndata: 2\r\n\r\n", _plain(b"1", b"2")),
    SseCase("CR", b"data: 1\r\rdata: 2\r\r", _plain(b"1", b"2")),
    SseCase("mixed line ends", b"data: 1\n\r\ndata: 2\r\n\n", _plain(b"1", b"2")),
    SseCase("no space after the colon", b"data:1\n\n", _plain(b"1")),
    SseCase("one space only is taken away", b"data:  1\n\n", _plain(b" 1")),
    SseCase("several data lines", b"data: 1\ndata: 2\n\n", _plain(b"1\n2")),
    SseCase("a named event", b"event: ping\ndata: {}\n\n", [Event(b"ping", b"{}")]),
    SseCase("comments and other fields", b": hello\nid: 4\nretry: 3\ndata: 1\n\n: bye\n\n", _plain(b"1")),
    SseCase("a field without a colon", b"data\ndata: 1\n\n", _plain(b"\n1")),
    SseCase("a byte order mark", b"\xef\xbb\xbfdata: 1\n\n", _plain(b"1")),
    SseCase("the last blank line is missing", b"data: 1\n\ndata: 2", _plain(b"1", b"2")),
    SseCase("more blank lines than one", b"\n\ndata: 1\n\n\n\n\ndata: 2\n\n\n", _plain(b"1", b"2")),
    SseCase("U+2028 is no line end", "data: a\u2028b\n\n".encode(), _plain("a\u2028b".encode())),
    SseCase("text beyond ASCII", "data: é漢😀\n\n".encode(), _plain("é漢😀".encode())),
    SseCase("nothing", b"", []),
    SseCase("only half a byte order mark", b"\xef\xbb", []),
]
