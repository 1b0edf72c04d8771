"""A mock upstream: `python -m bench.mock_upstream` prints its port and serves until it is ended.

Strategy: one thread, one selector, prepared bytes; nothing is parsed that need not be. A request is its head up to the blank line and
as many bytes of body as `content-length` says; the body is only searched for a few marks (is it a stream, a slow one, is usage wanted).
Each piece of a stream is one chunk of the framing and one `send`, as real servers do it. All slow streams share one heap of due times,
which are absolute, so that a late piece does not delay the next one.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import re
import selectors
import socket
import time
from dataclasses import dataclass, field

from bench.answers import NOT_FOUND, SLOW_CHUNKS, SLOW_GAP_S, SLOW_MODEL, Answers, prepare

_READ_BYTES = 256 * 1024
_BACKLOG = 4096
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_STREAM_MARKS = (b'"stream":true', b'"stream": true')
_USAGE_MARK = b'"include_usage"'
_SLOW_MARK = f'"{SLOW_MODEL}"'.encode()


@dataclass(slots=True, eq=False)
class _Connection:
    """A client. `inbox` holds what was read and not answered, `outbox` what the socket would not take yet."""

    sock: socket.socket
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    needed: int = 0
    is_open: bool = True


@dataclass(slots=True, eq=False)
class _SlowStream:
    """A stream that is under way: `number` is the piece that is due next."""

    connection: _Connection
    answers: Answers
    begun_s: float
    closing: bytes
    number: int = 0

    @property
    def due_s(self) -> float:
        return self.begun_s + self.number * SLOW_GAP_S


class MockUpstream:
    """The server on `listener`. Mutable: its connections, and the slow streams that are due."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._answers = prepare()
        self._due: list[tuple[float, int, _SlowStream]] = []
        self._order = itertools.count()

    def serve(self) -> None:
        """Serve until the process is ended."""
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        while True:
            timeout_s = max(self._due[0][0] - time.monotonic(), 0.0) if self._due else None
            for key, mask in self._selector.select(timeout_s):
                connection = key.data
                if connection is None:
                    self._accept()
                elif mask & selectors.EVENT_WRITE:
                    self._flush(connection)
                else:
                    self._read(connection)
            if self._due:
                self._send_due()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ, _Connection(sock))

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        inbox = connection.inbox
        inbox += data
        while len(inbox) >= max(connection.needed, 1):
            head_end = inbox.find(b"\r\n\r\n") + 4
            if head_end < 4:
                return
            if not connection.needed:
                length = _LENGTH.search(inbox, 0, head_end)
                connection.needed = head_end + (int(length[1]) if length else 0)
                continue
            target, body = inbox.split(b" ", 2)[1], bytes(inbox[head_end : connection.needed])
            del inbox[: connection.needed]
            connection.needed = 0
            self._answer(connection, bytes(target), body)

    def _answer(self, connection: _Connection, target: bytes, body: bytes) -> None:
        answers = self._answers.get(target)
        if answers is None:
            self._send(connection, NOT_FOUND)
        elif not any(mark in body for mark in _STREAM_MARKS):
            self._send(connection, answers.whole)
        else:
            closing = answers.closing_with_usage if _USAGE_MARK in body else answers.closing
            self._send(connection, answers.opening)
            if _SLOW_MARK in body:
                self._wait_for(_SlowStream(connection, answers, time.monotonic(), closing))
                return
            for frame in answers.frames:
                self._send(connection, frame)
            self._send(connection, closing)

    def _wait_for(self, stream: _SlowStream) -> None:
        heapq.heappush(self._due, (stream.due_s, next(self._order), stream))

    def _send_due(self) -> None:
        now_s = time.monotonic()
        while self._due and self._due[0][0] <= now_s:
            due_s, _, stream = heapq.heappop(self._due)
            frame = stream.answers.slow_frame(stream.number, due_s)
            stream.number += 1
            if stream.number < SLOW_CHUNKS:
                self._send(stream.connection, frame)
                self._wait_for(stream)
            else:
                self._send(stream.connection, frame + stream.closing)

    def _send(self, connection: _Connection, data: bytes) -> None:
        if not connection.is_open:
            return
        if connection.outbox:
            connection.outbox += data
            return
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        if sent < len(data):
            connection.outbox += data[sent:]
            self._selector.modify(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _flush(self, connection: _Connection) -> None:
        try:
            del connection.outbox[: connection.sock.send(connection.outbox)]
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        if not connection.outbox:
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)

    def _close(self, connection: _Connection) -> None:
        if connection.is_open:
            connection.is_open = False
            self._selector.unregister(connection.sock)
            connection.sock.close()


def main() -> None:
    """Listen on a free port of 127.0.0.1, print the port, and serve."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    gc.freeze()
    MockUpstream(listener).serve()


if __name__ == "__main__":
    main()
