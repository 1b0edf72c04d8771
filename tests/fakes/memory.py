"""A network in memory: the scripted upstreams of `tests/fakes/upstream.py` without sockets, and without waiting.

    network = Network()
    upstream = network.upstream(default=...)                        requests, url and script as those of a `FakeUpstream`
    transport = UpstreamClient(make_pool=network.pool)              for `build_gateway(..., transport=transport, clock=network.clock)`

Only the socket is another: pools, TLS, the parser and everything behind them are the gateway's own, and get the bytes that a socket would
have given, in the same pieces. Where nothing comes, the time that a reader would have waited is skipped. Answers are made when the request
is sent, so one that goes on for ever, or that waits for an event, needs a real socket.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import io
import math
import os
import socket
import time
import uuid
from functools import partial
from typing import Any, NoReturn

import gevent

from compat.upstream.pool import ConnectionPool
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Hangup, Reset, Responder, Sleep

_FIRST_PORT = 50_001
_MOMENT_S = 1.0
"""A reader that does not wait finds what comes after a shorter pause when it reads again; after a longer one it waits for it."""

Sent = bytes | Sleep | Cut | Reset
"""What a server does on a connection, in order; a stall is a long sleep."""


class SkippingClock:
    """The time, and all that was skipped."""

    def __init__(self) -> None:
        self.skipped_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped_s

    def now(self) -> float:
        return time.time() + self.skipped_s

    def new_id(self) -> str:
        return uuid.uuid4().hex


class ServerEnd:
    """The server's end of a connection, as far as a `FakeUpstream` uses it: notes what is done instead of doing it."""

    def __init__(self) -> None:
        self.sent: collections.deque[Sent] = collections.deque()
        self._is_reset = False
        self._timeout_s: float | None = None

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def settimeout(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s

    def setsockopt(self, _level: int, option: int, *_: Any) -> None:
        self._is_reset = self._is_reset or option == socket.SO_LINGER

    def recv(self, _size: int) -> bytes:
        """Look for a client that leaves, for so long."""
        assert self._timeout_s is not None
        self.sent.append(Sleep(self._timeout_s))
        raise TimeoutError

    def close(self) -> None:
        self.sent.append(Reset() if self._is_reset else Cut())


class MemoryUpstream(FakeUpstream):
    """A scripted upstream in memory. `tls` may refuse a handshake; none succeeds."""

    def serve(self, server: ServerEnd, reader: io.BytesIO, number: int) -> bool:
        """Answer one request, if all of it is there; whether the connection goes on."""
        try:
            request = self._read(reader, number)
            if request is None:
                return True
            self.requests.append(request)
            answer = self._next(request)
            self._answer(server, answer)
        except (OSError, Hangup):
            return False
        return answer.keeps_alive and answer.framing != "close"

    def shake_hands(self, server: ServerEnd) -> bool:
        """Whether a client may go on."""
        with contextlib.suppress(OSError):
            if self.tls is not None:
                self.tls.wrap_socket(server, server_side=True)
            return True
        return False


class MemorySocket:
    """The client's end: pieces come one with each read, and the descriptor is readable as long as one may come.

    Mutable: the server's end, what was sent and not read there, the time-out, and the pipe behind the descriptor.
    """

    def __init__(self, upstream: MemoryUpstream, clock: SkippingClock, number: int) -> None:
        self._upstream = upstream
        self._clock = clock
        self._number = number
        self._server = ServerEnd()
        self._unread = b""
        self._timeout_s = 0.0
        self._is_open = True
        self._pipe: tuple[int, int] | None = None
        self._is_readable = False
        if not upstream.shake_hands(self._server):
            self._end()

    def fileno(self) -> int:
        if self._pipe is None:
            self._pipe = os.pipe()
            self._show()
        return self._pipe[0]

    def setsockopt(self, *_: Any) -> None:
        """There is nothing to set."""

    def settimeout(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def send(self, data: bytes) -> int:
        """Send all of it; how much."""
        self.sendall(data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Send a part of a request, or its last one, which is answered."""
        self._unread += data
        if not self._is_open or not self._is_whole():
            return
        reader = io.BytesIO(self._unread)
        if not self._upstream.serve(self._server, reader, self._number):
            self._end()
        self._unread = reader.read()
        self._show()

    def recv(self, size: int) -> bytes:
        """The next piece. Errors: `TimeoutError` and `BlockingIOError`, when none comes in time; `ConnectionResetError`."""
        sent = self._server.sent
        while not sent or isinstance(sent[0], Sleep):
            self._wait(sent)
        match sent[0]:
            case bytes() as piece:
                sent.popleft()
                if len(piece) > size:
                    sent.appendleft(piece[size:])
                return piece[:size]
            case Reset():
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return b""

    def close(self) -> None:
        self._is_open = False
        if self._pipe is not None:
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None

    def _wait(self, sent: collections.deque[Sent]) -> None:
        """Wait as long as nothing comes. That ends with the error of a socket where the reader does not wait so long."""
        pause_s = sent[0].seconds if sent and isinstance(sent[0], Sleep) else math.inf
        timeout_s = self._timeout_s
        is_over = pause_s <= timeout_s or (timeout_s == 0 and pause_s <= _MOMENT_S)
        if is_over:
            sent.popleft()
        elif sent:
            sent[0] = Sleep(pause_s - timeout_s)
        self._clock.skipped_s += pause_s if is_over else timeout_s
        if timeout_s:
            gevent.sleep(0)  # others go on, as they would
        if pause_s > timeout_s:
            self._raise_too_late(is_silent=not is_over)

    def _raise_too_late(self, *, is_silent: bool) -> NoReturn:
        if self._timeout_s:
            raise TimeoutError("timed out")
        if is_silent and self._pipe is not None and self._is_readable:
            os.read(self._pipe[0], 1)
            self._is_readable = False
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _show(self) -> None:
        """Make the descriptor readable."""
        if self._pipe is not None and not self._is_readable:
            os.write(self._pipe[1], b"x")
            self._is_readable = True

    def _is_whole(self) -> bool:
        head, end, body = self._unread.partition(b"\r\n\r\n")
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return bool(end) and len(body) >= sum(map(int, lengths))

    def _end(self) -> None:
        self._is_open = False
        self._server.close()


class Network:
    """Upstreams in memory, and the way to them. Other addresses refuse; a name of the domain `.invalid` is unknown (RFC 6761)."""

    def __init__(self) -> None:
        self.clock = SkippingClock()
        self.pool = partial(ConnectionPool, connect=self._connect, clock=self.clock.monotonic)
        self._upstreams: dict[int, MemoryUpstream] = {}

    def upstream(self, default: Answer | Responder | None = None, tls: Any = None) -> MemoryUpstream:
        made = MemoryUpstream(default, tls)
        made.port = _FIRST_PORT + len(self._upstreams)
        self._upstreams[made.port] = made
        return made

    def _connect(self, address: tuple[str, int], timeout: float) -> MemorySocket:
        host, port = address
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        upstream = self._upstreams.get(port)
        if upstream is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        upstream.connections += 1
        return MemorySocket(upstream, self.clock, upstream.connections)
