"""The tools of `bench.optimisations`: a scripted upstream, gateways in this process, calls to them. Import after gevent's patch."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import gevent.server

from compat.config.settings import load_settings, merge
from compat.factory import build_gateway, create_app
from compat.serve.gevent_server import Server
from compat.service.listener import open_listener

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
QUIET: dict[str, Any] = {
    "server": {"port": 0},
    "discovery": {"enabled": False},
    "embedded": {"enabled": False},
    "log": {"terminal": False},
    "retry": {"attempts": 1},
}
Handler = Callable[["Request"], None]


@dataclass(frozen=True, slots=True)
class Request:
    """A request at the upstream, and the socket to answer it on."""

    sock: socket.socket
    body: bytes

    def answer(self, text: str = "Hello there.", status: int = 200, headers: str = "") -> None:
        """A whole answer."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
        body = json.dumps(document if status == 200 else {"error": {"message": "no", "type": "t", "code": None}}).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
        self.sock.sendall(head.encode() + body)

    def begin_stream(self) -> None:
        """The head of a stream that ends with its connection."""
        self.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")

    def send(self, text: str, finish: str | None = None) -> None:
        """One chunk of a stream."""
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        self.sock.sendall(b"data: " + json.dumps(chunk).encode() + b"\n\n" + (b"data: [DONE]\n\n" if finish else b""))


@dataclass
class Upstream:
    """A server that lets `handler` answer. Mutable: `connections` and `calls` are counted, `bodies` kept."""

    handler: Handler = field(default=lambda request: request.answer())
    closes: bool = False
    connections: int = 0
    calls: int = 0
    bodies: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Upstream:
        self._server = gevent.server.StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(timeout=0.1)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _serve(self, sock: socket.socket, _address: Any) -> None:
        self.connections += 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), sock, sock.makefile("rb") as reader:
            while reader.readline():
                length = 0
                while (line := reader.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                body = reader.read(length)
                self.calls += 1
                self.bodies[-3:] = [*self.bodies[-2:], body]
                self.handler(Request(sock, body))
                if self.closes or b'"stream":true' in body.replace(b" ", b""):
                    return


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got: status, headers, the raw body, and when its first byte and its last one came, in seconds."""

    status: int
    headers: dict[str, str]
    body: bytes
    first_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Client:
    """A client of a gateway at `port`."""

    port: int
    gateway: Any

    def call(self, headers: dict[str, str] | None = None, **body: Any) -> Reply:
        """One call over a connection of its own."""
        document = {"model": "bench", "messages": [{"role": "user", "content": "Hi"}], **body}
        begun_s = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = {"content-type": "application/json", **(headers or {})}
            connection.request("POST", "/v1/chat/completions", json.dumps(document), sent)
            answer = connection.getresponse()
            first = answer.read(1)
            first_s = time.monotonic() - begun_s
            data = first + answer.read()
        finally:
            connection.close()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data, first_s, time.monotonic() - begun_s)

    def many(self, count: int, **rest: Any) -> list[Reply]:
        """`count` calls at once."""
        jobs = [gevent.spawn(self.call, **rest) for _ in range(count)]
        return [job.get() for job in jobs]


@contextlib.contextmanager
def gateway(upstream: Upstream, settings: dict[str, Any] | None = None, kind: str = "openai") -> Iterator[Client]:
    """A gateway in this process, with `settings` over its defaults."""
    base_url = f"{upstream.url}/v1" if kind == "openai" else upstream.url
    target = "m" if kind == "openai" else "claude-sonnet-4-6"
    ours = {
        "upstreams": {"up": {"kind": kind, "base_url": base_url, "api_keys": ["k"]}},
        "models": {"bench": {"route": [f"up/{target}"]}},
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        made = build_gateway(load_settings(None, {}, merge(merge(QUIET, ours), settings or {})), {}, Path(folder))
        listener = open_listener("127.0.0.1", 0)
        server = Server(listener, create_app(made), made)
        server.start()
        try:
            yield Client(listener.getsockname()[1], made)
        finally:
            server.stop(0.2)
            made.usage.close()
            made.vault.close()
            made.log.close()
