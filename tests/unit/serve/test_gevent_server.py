"""The server: what is on the wire, what malformed requests get, and how it stops."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compat.calls.gateway import Gateway
from compat.config.settings import load_settings
from compat.factory import build_gateway
from compat.serve.gevent_server import ClientOutlet, GatewayServer, Handler, Server
from compat.service.listener import open_listener

BOUND_S = 10.0
GET = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
App = Callable[[dict[str, Any], Any], Iterator[bytes]]


class Running:
    def __init__(self, app: App, gateway: Gateway) -> None:
        listener = open_listener("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.gateway = gateway
        self.server = Server(listener, app, gateway)
        self.server.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=BOUND_S)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    running: list[Running] = []

    def start(app: App, **server: Any) -> Running:
        settings = load_settings(None, {}, {"server": server, "embedded": {"enabled": False}, "discovery": {"enabled": False}})
        running.append(Running(app, build_gateway(settings, {}, tmp_path)))
        return running[-1]

    yield start
    for one in running:
        one.server.stop(0)


def hello(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("content-type", "text/plain"), ("content-length", "5")])
    yield b"hello"


def answer_of(sock: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of an answer with a length."""
    with sock.makefile("rb") as reader:
        status = reader.readline().decode().strip()
        headers: dict[str, str] = {}
        while line := reader.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, reader.read(int(headers["content-length"]))


def ends(sock: socket.socket) -> bool:
    return sock.recv(1) == b""


# The wire.


def test_a_head_leaves_together_with_the_first_bytes_of_its_body() -> None:
    sent: list[bytes] = []

    class Recording(Handler):
        def _sendall(self, data: bytes) -> None:
            sent.append(data)
            super()._sendall(data)

    listener = open_listener("127.0.0.1", 0)
    server = GatewayServer(listener, hello, 10, handler_class=Recording)
    server.start()
    with socket.create_connection(listener.getsockname(), timeout=BOUND_S) as sock:
        sock.sendall(GET)
        assert answer_of(sock)[2] == b"hello"
    server.stop(0)
    assert len(sent) == 1


def test_frames_leave_one_by_one_as_they_are_made(serve: Any) -> None:
    gate = threading.Event()

    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("content-type", "text/event-stream")])
        yield b"data: 1\n\n"
        assert gate.wait(BOUND_S)
        yield b"data: 2\n\n"

    with serve(app).connect() as sock:
        sock.sendall(GET)
        first = sock.recv(65536)
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"transfer-encoding: chunked" in first.lower()
        assert first.endswith(b"\r\n\r\n9\r\ndata: 1\n\n\r\n")
        gate.set()
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest += sock.recv(65536)
        assert rest == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


def test_an_answer_without_a_body_has_a_head(serve: Any) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("204 No Content", [])
        return []

    with serve(app).connect() as sock:
        sock.sendall(GET)
        assert sock.recv(65536).startswith(b"HTTP/1.1 204 No Content\r\n")


def test_one_connection_serves_many_requests(serve: Any) -> None:
    with serve(hello).connect() as sock:
        for _ in range(3):
            sock.sendall(GET)
            assert answer_of(sock)[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"],
    ids=["HTTP/1.0", "connection: close"],
)
def test_a_client_that_wants_one_answer_gets_one(serve: Any, request_bytes: bytes) -> None:
    with serve(hello).connect() as sock:
        sock.sendall(request_bytes)
        assert answer_of(sock)[2] == b"hello"
        assert ends(sock)


def test_the_clients_socket_is_in_the_environ(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = str(environ["compat.socket"].getpeername()[1]).encode()
        start_response("200 OK", [("content-length", str(len(body)))])
        return [body]

    with serve(app).connect() as sock:
        sock.sendall(GET)
        assert int(answer_of(sock)[2]) == sock.getsockname()[1]


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nx-filler: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x-filler: a\r\n" * 200 + b"\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: five\r\n\r\n",
    ],
    ids=["garbage", "an unknown version", "TLS", "a long header", "many headers", "a length that is none"],
)
def test_a_request_that_can_not_be_read_is_answered_in_openais_shape(serve: Any, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(hello).connect() as sock:
        sock.sendall(sent)
        status, headers, body = answer_of(sock)
        assert status == "HTTP/1.1 400 Bad Request"
        assert (headers["connection"], headers["content-type"]) == ("close", "application/json")
        error = json.loads(body)["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"].startswith("The request could not be read")
        assert ends(sock)
    assert capfd.readouterr() == ("", "")


def test_a_request_line_that_is_too_long_is_answered_in_openais_shape(serve: Any) -> None:
    with serve(hello).connect() as sock:
        sock.sendall(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n")
        status, _, body = answer_of(sock)
        assert status.startswith("HTTP/1.1 414 ")
        assert json.loads(body)["error"]["message"] == "The request line is too long."


def test_a_client_that_leaves_without_a_word_is_no_matter(serve: Any, capfd: pytest.CaptureFixture[str]) -> None:
    running = serve(hello)
    running.connect().close()
    with running.connect() as half:
        half.sendall(b"GET / HT")
    with running.connect() as sock:
        sock.sendall(GET)
        assert answer_of(sock)[2] == b"hello"
    assert capfd.readouterr() == ("", "")


def test_connections_are_bounded(serve: Any) -> None:
    running = serve(hello, max_connections=1)
    with running.connect() as second:
        with running.connect() as first:
            del first
            second.sendall(GET)
            assert answer_of(second)[2] == b"hello"
            third = running.connect()
        with third:
            third.sendall(GET)
            third.settimeout(0.1)
            with pytest.raises(TimeoutError):
                third.recv(1)
            second.close()
            third.settimeout(BOUND_S)
            assert answer_of(third)[2] == b"hello"


# Stopping.


class Slow:
    """An application whose calls last until `gate` is set; it counts them as the pipeline does."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.has_begun = threading.Event()
        self.gateway: Gateway | None = None

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        assert self.gateway is not None
        self.gateway.gauges.in_flight += 1
        try:
            start_response("200 OK", [("content-length", "8")])
            yield b"slow"
            self.has_begun.set()
            assert self.gate.wait(BOUND_S)
            yield b"done"
        finally:
            self.gateway.gauges.in_flight -= 1


@pytest.fixture
def slow(serve: Any) -> tuple[Slow, Running]:
    app = Slow()
    running = serve(app)
    app.gateway = running.gateway
    return app, running


def test_stopping_at_rest_is_immediate_and_frees_the_port(serve: Any) -> None:
    running = serve(hello)
    begun_s = time.monotonic()
    assert running.server.stop(BOUND_S) == 0
    assert time.monotonic() - begun_s < 1
    with pytest.raises(ConnectionRefusedError):
        running.connect()
    assert running.gateway.gauges.is_draining


def test_a_running_call_may_finish(slow: tuple[Slow, Running]) -> None:
    app, running = slow
    left: list[int] = []
    with running.connect() as sock:
        sock.sendall(GET)
        assert app.has_begun.wait(BOUND_S)
        stopping = threading.Thread(target=lambda: left.append(running.server.stop(BOUND_S)))
        stopping.start()
        while not running.gateway.gauges.is_draining:
            time.sleep(0.001)
        with pytest.raises(ConnectionRefusedError):
            running.connect()
        assert left == []
        app.gate.set()
        assert answer_of(sock)[2] == b"slowdone"
        stopping.join(BOUND_S)
    assert left == [0]


@pytest.mark.slow
def test_a_call_that_does_not_finish_is_ended_at_the_bound(slow: tuple[Slow, Running]) -> None:
    app, running = slow
    with running.connect() as sock:
        sock.sendall(GET)
        assert app.has_begun.wait(BOUND_S)
        assert running.server.stop(0.1) == 1
        rest = b""
        while data := sock.recv(65536):
            rest += data
        assert rest.endswith(b"\r\n\r\nslow")
    assert running.gateway.gauges.in_flight == 0


class FullSocket:
    """Takes as many bytes at a time as `room` says, and none where that is 0."""

    def __init__(self, *room: int) -> None:
        self.room = list(room)
        self.taken = b""

    def send(self, data: bytes, _flags: int, _timeout: float) -> int:
        size = self.room.pop(0)
        if not size:
            raise BlockingIOError
        self.taken += data[:size]
        return min(size, len(data))


def outlet_over(sock: FullSocket) -> ClientOutlet:
    handler: Any = SimpleNamespace(socket=sock, headers_sent=True, response_use_chunked=True, owed=b"")
    return ClientOutlet(handler)


def test_a_probe_that_was_taken_in_part_goes_on_before_the_next_frame() -> None:
    sock = FullSocket(5, 1000)
    outlet = outlet_over(sock)
    assert outlet.probe()
    assert outlet.send_frames(b"data: x\n\n") == b""
    assert sock.taken == b"e\r\n: keep-alive\n\n\r\n" + b"9\r\ndata: x\n\n\r\n"


def test_a_probe_for_which_there_is_no_room_is_none() -> None:
    sock = FullSocket(0, 1000)
    outlet = outlet_over(sock)
    assert not outlet.probe()
    assert outlet.send_frames(b"data: x\n\n") == b""
    assert sock.taken == b"9\r\ndata: x\n\n\r\n"
