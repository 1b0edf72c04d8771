"""A scripted upstream: an HTTP/1.1 server of our own on a raw socket, so that every odd framing and every fault is possible.

    with FakeUpstream() as upstream:
        upstream.script(json_answer(completion("Hello")), sse_answer(chunks("Hi"), Cut()))
        ... upstream.url, upstream.requests, upstream.connections, upstream.abandoned

Each request takes the next answer of the script; the last one serves all that follow. Steps are bytes to be sent as one piece of the
body, or one of the classes below.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sleep:
    """Send nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """Close the connection here."""


@dataclass(frozen=True)
class Reset:
    """End the connection with a reset here."""


@dataclass(frozen=True)
class Stall:
    """Send nothing more, until the client leaves or the server ends."""


@dataclass(frozen=True)
class Until:
    """Send nothing until the event is set."""

    event: threading.Event


Step = bytes | Sleep | Cut | Reset | Stall | Until


@dataclass(frozen=True)
class Answer:
    """One answer. `framing` is how the body's end is told: chunked, its length, or the connection's end; `raw` replaces everything."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    framing: str = "chunked"
    before_head: Sequence[Step] = ()
    raw: Sequence[Step] | None = None
    keeps_alive: bool = True


@dataclass(frozen=True)
class Request:
    """What the upstream got; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Responder = Callable[[Request], Answer]


class Hangup(Exception):
    """The connection ends here."""


@dataclass
class FakeUpstream:
    """The running server. `connections` counts those opened, `open_connections` those open now, `abandoned` answers that were left."""

    default: Answer | Responder | None = None
    tls: Any = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    abandoned: list[float] = field(default_factory=list)
    _script: list[Answer | Responder] = field(default_factory=list)
    _sockets: set[socket.socket] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __enter__(self) -> FakeUpstream:
        self._stopping.clear()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 2
        while self.open_connections and time.monotonic() < deadline:
            time.sleep(0.005)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def script(self, *answers: Answer | Responder) -> None:
        """The answers to come, in order; the last one stays."""
        self._script = list(answers)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open_connections += 1
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
            self._sockets.add(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with sock.makefile("rb") as reader:
                while (request := self._read(reader, number)) is not None:
                    self.requests.append(request)
                    answer = self._next(request)
                    self._answer(sock, answer)
                    if not answer.keeps_alive or answer.framing == "close":
                        return
        except (OSError, ValueError, Hangup):
            return
        finally:
            self._sockets.discard(sock)
            sock.close()
            self.open_connections -= 1

    def _read(self, reader: Any, number: int) -> Request | None:
        line = reader.readline().decode("latin-1").split()
        if len(line) != 3:
            return None
        headers: dict[str, str] = {}
        while text := reader.readline().decode("latin-1").strip():
            name, _, value = text.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = reader.read(int(headers.get("content-length", "0")))
        return Request(line[0], line[1], headers, body, number)

    def _next(self, request: Request) -> Answer:
        source = (self._script.pop(0) if len(self._script) > 1 else self._script[0]) if self._script else self.default
        assert source is not None, "no answer was scripted"
        return source if isinstance(source, Answer) else source(request)

    def _answer(self, sock: socket.socket, answer: Answer) -> None:
        try:
            if answer.raw is not None:
                self._send(sock, answer.raw, plain=True)
                return
            self._send(sock, answer.before_head, plain=True)
            body = b"".join(step for step in answer.steps if isinstance(step, bytes))
            lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in answer.headers)]
            lines += {
                "chunked": ["transfer-encoding: chunked"],
                "length": [f"content-length: {len(body)}"],
                "close": ["connection: close"],
            }[answer.framing]
            sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            self._send(sock, answer.steps, plain=answer.framing != "chunked")
            if answer.framing == "chunked":
                sock.sendall(b"0\r\n\r\n")
        except OSError:
            self.abandoned.append(time.monotonic())
            raise

    def _send(self, sock: socket.socket, steps: Iterable[Step], *, plain: bool) -> None:
        for step in steps:
            if isinstance(step, bytes):
                sock.sendall(step if plain else b"%x\r\n%s\r\n" % (len(step), step))
            elif isinstance(step, Sleep):
                self._wait(sock, step.seconds)
            elif isinstance(step, Until):
                assert step.event.wait(20)
            elif isinstance(step, Cut):
                self._say_goodbye(sock)
                raise Hangup
            elif isinstance(step, Reset):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise Hangup
            else:
                self._wait(sock, 600)
                raise Hangup

    def _say_goodbye(self, sock: socket.socket) -> None:
        """TLS ends with an alert of its own (RFC 8446, section 6.1), which servers send also where their answer is cut."""
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(0)
            with contextlib.suppress(OSError):
                sock.unwrap()

    def _wait(self, sock: socket.socket, seconds: float) -> None:
        """Wait, but notice a client that leaves: its end is read, not guessed."""
        sock.settimeout(seconds)
        try:
            if sock.recv(1) == b"":
                raise ConnectionResetError("the client left")
        except TimeoutError:
            return
        finally:
            if not self._stopping.is_set():
                sock.settimeout(None)
