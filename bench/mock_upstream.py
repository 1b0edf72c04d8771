"""A mock upstream: `python -m bench.mock_upstream [--tls CERTIFICATE KEY]` prints its ports and serves until it is ended.

Strategy: one thread, one selector, prepared bytes; nothing is parsed that need not be. A request is its head up to the blank line and
as many bytes of body as `content-length` says; the body is only searched for a few marks (which model, is it a stream, is usage wanted).
Each piece of a stream is one chunk of the framing and one `send`, as real servers do it. All slow streams share one heap of due times,
which are absolute, so that a late piece does not delay the next one. Below `/openai`, `/anthropic` and `/responses` there is that wire API
alone, so that a call which was passed on untranslated is found out. With a certificate there is a second port that speaks TLS.
"""

from __future__ import annotations

import argparse
import functools
import gc
import heapq
import itertools
import re
import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.answers import FAST_MODEL, NOT_FOUND, PATHS, Answers, Wire, prepare, shape_of

_READ_BYTES = 256 * 1024
_BACKLOG = 4096
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_MODEL = re.compile(rb'"model": ?"(?:[a-z]+-)*?([a-z]+-model)"')
_USAGE_MARK = b'"include_usage"'
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def wire_of(target: bytes) -> Wire | None:
    """The wire API that is spoken there; `None`: none is."""
    path = target.partition(b"?")[0].decode("latin-1")
    return next((wire for wire, its in PATHS.items() if path in (its, f"/{wire}{its}")), None)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request's body asks for."""

    model: str
    is_stream: bool
    wants_usage: bool


def read_body(body: bytes) -> Asked:
    """Search the body for the marks; nothing is decoded."""
    found = _MODEL.search(body)
    return Asked(found[1].decode() if found else FAST_MODEL, bool(_STREAM.search(body)), _USAGE_MARK in body)


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
        return self.begun_s + self.number * self.answers.gap_s


class MockUpstream:
    """The server on `listeners`; one with a context speaks TLS. Mutable: its connections, and the slow streams that are due."""

    def __init__(self, listeners: Sequence[tuple[socket.socket, ssl.SSLContext | None]]) -> None:
        self._listeners = listeners
        self._selector = selectors.DefaultSelector()
        self._prepared = functools.cache(lambda wire, model: prepare(wire, shape_of(model)))
        self._due: list[tuple[float, int, _SlowStream]] = []
        self._order = itertools.count()

    def serve(self) -> None:
        """Serve until the process is ended."""
        for listener, context in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, (listener, context))
        while True:
            timeout_s = max(self._due[0][0] - time.monotonic(), 0.0) if self._due else None
            for key, mask in self._selector.select(timeout_s):
                connection = key.data
                if isinstance(connection, tuple):
                    self._accept(*connection)
                elif mask & selectors.EVENT_WRITE:
                    self._flush(connection)
                else:
                    self._read(connection)
            if self._due:
                self._send_due()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self._selector.register(sock, selectors.EVENT_READ, _Connection(sock))

    def _read(self, connection: _Connection) -> None:
        is_tls = isinstance(connection.sock, ssl.SSLSocket)
        while connection.is_open:
            try:
                data = connection.sock.recv(_READ_BYTES)
            except _WOULD_BLOCK:
                return
            except OSError:
                data = b""
            if not data:
                self._close(connection)
                return
            self._take(connection, data)
            if not is_tls:  # a TLS socket may hold more than the selector can see
                return

    def _take(self, connection: _Connection, data: bytes) -> None:
        inbox = connection.inbox
        inbox += data
        while len(inbox) >= max(connection.needed, 1):
            head_end = inbox.find(b"\r\n\r\n") + 4
            if head_end < 4:
                return
            if not connection.needed:
                length = _LENGTH.search(inbox, 0, head_end)
                if length is None and _CHUNKED.search(inbox, 0, head_end):
                    if not inbox.endswith(b"\r\n0\r\n\r\n"):
                        return
                    connection.needed = len(inbox)
                else:
                    connection.needed = head_end + (int(length[1]) if length else 0)
                continue
            target, body = inbox.split(b" ", 2)[1], bytes(inbox[head_end : connection.needed])
            del inbox[: connection.needed]
            connection.needed = 0
            self._answer(connection, bytes(target), body)

    def _answer(self, connection: _Connection, target: bytes, body: bytes) -> None:
        wire = wire_of(target)
        if wire is None:
            self._send(connection, NOT_FOUND)
            return
        asked = read_body(body)
        answers = self._prepared(wire, asked.model)
        if not asked.is_stream:
            self._send(connection, answers.whole)
            return
        closing = answers.closing_with_usage if asked.wants_usage else answers.closing
        self._send(connection, answers.opening)
        if answers.gap_s:
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
            if stream.number < len(stream.answers.frames):
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
        except _WOULD_BLOCK:
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
        except _WOULD_BLOCK:
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


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


def main() -> None:
    """Listen on free ports of 127.0.0.1, print them, and serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.mock_upstream", description="An upstream that answers at once.")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="files in PEM: a second port speaks TLS")
    arguments = parser.parse_args()
    listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = [(_listener(), None)]
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
        listeners.append((_listener(), context))
    print(*(listener.getsockname()[1] for listener, _ in listeners), flush=True)
    gc.freeze()
    MockUpstream(listeners).serve()


if __name__ == "__main__":
    main()
