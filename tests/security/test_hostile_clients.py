"""Clients that mean harm, on raw sockets: slow ones, many ones, and those whose requests are two things at once."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import compat.serve.gevent_server
from compat.serve.open_files import raise_file_limit
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, FakeUpstream

BOUND_S = 15.0
BODY = json.dumps({"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@contextlib.contextmanager
def connected(gateway: RunningGateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=BOUND_S) as sock:
        yield sock


def rest_of(sock: socket.socket) -> bytes:
    """All that comes until the server closes the connection; a reset is an end as well."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            data += piece
    return data


def said(gateway: RunningGateway, *pieces: bytes) -> bytes:
    """What the server answers to `pieces`, until it closes."""
    with connected(gateway) as sock:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                sock.sendall(piece)
        return rest_of(sock)


def drip(sock: socket.socket, data: bytes, pause_s: float = 0.05) -> threading.Thread:
    """Send byte by byte, in the background, until the server has enough."""

    def send() -> None:
        ended = threading.Event()
        with contextlib.suppress(OSError):
            for byte in data:
                sock.sendall(bytes([byte]))
                ended.wait(pause_s)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def first_answer(sock: socket.socket) -> bytes:
    """One answer with a length, whether the connection ends after it or not."""
    with sock.makefile("rb") as reader:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            assert line, head
            head += line
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return head + reader.read(int(length.partition(b":")[2]))


def works(gateway: RunningGateway) -> bool:
    return gateway.chat(timeout=BOUND_S).status_code == 200


# Slow ones.


def test_promise_11_a_body_that_drips_ends_with_a_408(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, server={"body_timeout_s": 0.3}))
    with connected(gateway) as sock:
        sock.sendall(HEAD + b"content-length: 1000\r\n\r\n")
        drip(sock, b" " * 1000)
        sock.settimeout(5)
        assert first_answer(sock).startswith(b"HTTP/1.1 408 ")
    assert upstream.requests == []
    assert works(gateway)


@pytest.mark.slow
@pytest.mark.parametrize("field", [b"host: 127.0.0.1", b"host: evil.example"], ids=["too slow", "refused"])
def test_promise_11_a_body_that_nobody_waits_for_ends_with_its_connection(start_gateway: Any, upstream: FakeUpstream, field: bytes) -> None:
    """Else a client that announces much and sends little holds a connection for ever."""
    gateway = start_gateway(to_upstream(upstream, server={"body_timeout_s": 0.3}))
    with connected(gateway) as sock:
        sock.settimeout(2)
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + field + b"\r\ncontent-type: application/json\r\n")
        sock.sendall(b"content-length: 100000\r\n\r\n")
        drip(sock, b" " * 1000)
        assert rest_of(sock).startswith(b"HTTP/1.1 4")


@pytest.mark.slow
def test_promise_11_a_client_that_says_nothing_is_dropped(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat.serve.gevent_server, "HEAD_TIMEOUT_S", 0.3)
    begun_s = time.monotonic()
    assert said(gateway) == b""
    assert said(gateway, b"GET / HT") == b""
    assert said(gateway, HEAD).startswith((b"", b"HTTP/1.1 400 "))
    assert time.monotonic() - begun_s < 5


def test_promise_11_a_head_that_drips_is_dropped(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat.serve.gevent_server, "HEAD_TIMEOUT_S", 0.3)
    with connected(gateway) as sock:
        sock.settimeout(1.5)
        drip(sock, b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"a" * 1000)
        rest_of(sock)


def test_promise_11_a_client_that_does_not_read_loses_its_answer(
    start_gateway: Any, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat.serve.gevent_server, "SEND_TIMEOUT_S", 0.3, raising=False)
    gateway = start_gateway(to_upstream(upstream))
    event = openai.event(openai.chunk({"content": "x" * 60_000}))
    upstream.script(openai.sse_answer(*[event] * 2000))
    with connected(gateway) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps({**json.loads(BODY), "stream": True}).encode()
        sock.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert sock.recv(1) == b"H"
        deadline_s = time.monotonic() + 2
        ended = threading.Event()
        while gateway.gateway.gauges.in_flight and time.monotonic() < deadline_s:
            ended.wait(0.02)
        assert gateway.gateway.gauges.in_flight == 0


# Many ones.


@pytest.mark.slow
def test_promise_11_a_thousand_idle_connections_keep_nobody_out(gateway: RunningGateway) -> None:
    raise_file_limit()
    count = 1000
    with contextlib.ExitStack() as stack:
        for number in range(count):
            sock = stack.enter_context(connected(gateway))
            if number % 2:
                sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        begun_s = time.monotonic()
        assert works(gateway)
        assert gateway.get("/healthz").status_code == 200
        assert time.monotonic() - begun_s < 5
    assert works(gateway)


@pytest.mark.slow
def test_promise_11_idle_connections_beyond_the_cap_make_others_wait_for_the_time_of_a_head_at_most(
    start_gateway: Any, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat.serve.gevent_server, "HEAD_TIMEOUT_S", 0.5)
    gateway = start_gateway(to_upstream(upstream, server={"max_connections": 5}))
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(gateway))
        begun_s = time.monotonic()
        assert works(gateway)
        assert time.monotonic() - begun_s < BOUND_S


# Two things at once.


def statuses(answer: bytes) -> list[bytes]:
    return [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_pipelined_requests_are_answered_in_their_order(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    call = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    missing = b"GET /nowhere HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    assert statuses(said(gateway, call + GET + call + missing)) == [b"200", b"200", b"200", b"404"]
    assert len(upstream.requests) == 2


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"content-length: %d\r\n" % len(BODY)
INNER = b"GET /inner HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
SMUGGLED = {
    "both lengths, chunks first": (b"transfer-encoding: chunked\r\n" + LENGTH, CHUNKED),
    "both lengths, length first": (LENGTH + b"transfer-encoding: chunked\r\n", CHUNKED),
    "both lengths, the inner one short": (b"content-length: 4\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n" + INNER),
    "an encoding that nobody knows": (b"transfer-encoding: xchunked\r\n", INNER),
    "chunks within another encoding": (b"transfer-encoding: gzip, chunked\r\n", CHUNKED + INNER),
    "chunks said twice": (b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", CHUNKED + INNER),
    "a vertical tab in the encoding": (b"transfer-encoding: \x0bchunked\r\n", CHUNKED + INNER),
    "two lengths": (LENGTH + b"content-length: 0\r\n", BODY),
    "two lengths in one": (b"content-length: %d, 0\r\n" % len(BODY), BODY),
    "a length with a sign": (b"content-length: +%d\r\n" % len(BODY), BODY),
    "a length with an underscore": (b"content-length: 1_0\r\n", BODY + INNER),
    "a negative length": (b"content-length: -1\r\n", BODY),
    "a length in hexadecimal": (b"content-length: 0x5\r\n", BODY),
    "a length beyond all measure": (b"content-length: " + b"9" * 30 + b"\r\n", BODY),
    "a space before the colon": (b"content-length : %d\r\n" % len(BODY), BODY + INNER),
    "a folded line": (b"content-length:\r\n %d\r\n" % len(BODY), BODY + INNER),
    "a chunk with a sign": (b"transfer-encoding: chunked\r\n", b"+5\r\nHello\r\n0\r\n\r\n"),
    "a chunk that is no number": (b"transfer-encoding: chunked\r\n", b"zz\r\nHello\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": (b"transfer-encoding: chunked\r\n", b"2\r\nHello\r\n0\r\n\r\n"),
    "a chunk whose end is missing": (b"transfer-encoding: chunked\r\n", b"5\r\nHello0\r\n\r\n"),
    "a size beyond all measure": (b"transfer-encoding: chunked\r\n", b"f" * 40 + b"\r\nHello\r\n0\r\n\r\n"),
    "a carriage return alone": (b"x: 1\rcontent-length: 5\r\n", b""),
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_that_could_be_two_is_refused_and_ends_its_connection(gateway: RunningGateway, upstream: FakeUpstream, name: str) -> None:
    fields, body = SMUGGLED[name]
    with connected(gateway) as sock:
        sock.settimeout(2)
        sock.sendall(HEAD + fields + b"\r\n" + body + INNER)
        answer = rest_of(sock)
    assert [status[:1] for status in statuses(answer)] == [b"4"], answer[:400]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    assert upstream.requests == []
    assert works(gateway)


HUGE = {
    "a line": b"x: " + b"a" * 1_000_000 + b"\r\n",
    "lines": b"x: a\r\n" * 100_000,
    "a name": b"a" * 1_000_000 + b": x\r\n",
    "cookies": b"cookie: " + b"a=b; " * 100_000 + b"\r\n",
}


@pytest.mark.parametrize("name", HUGE)
def test_promise_11_huge_heads_are_refused(gateway: RunningGateway, upstream: FakeUpstream, name: str) -> None:
    answer = said(gateway, HEAD + HUGE[name] + LENGTH + b"\r\n" + BODY)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert upstream.requests == []
    assert works(gateway)


def test_promise_11_a_huge_request_line_is_refused(gateway: RunningGateway) -> None:
    answer = said(gateway, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 414 ", b"HTTP/1.1 400 "))
    assert works(gateway)


TARGETS = (
    *(b"/../app.py", b"/static/../../app.py", b"/static/..%2f..%2fapp.py", b"/static/%2e%2e/%2e%2e/app.py", b"/static/....//app.py"),
    *(
        b"/static/..\\..\\app.py",
        b"/static//etc/passwd",
        b"/static/%00page.css",
        b"//evil.example/",
        b"/\\evil.example",
        b"/%0d%0ax-evil:1",
    ),
    *(
        b"http://169.254.169.254/latest/meta-data/",
        b"http://evil.example/v1/models/../../x",
        b"https://evil.example/",
        b"*",
        b"evil.example:443",
    ),
    *(
        b"/v1/models/..%2f..%2fetc%2fpasswd",
        b"/setup/..%2f..%2fapp.py",
        b"/setup/%2e%2e",
        b"/v1/chat/completions/../../../etc/passwd",
        b"/%ff%fe",
    ),
    *(b"/v1/models/" + b"a/" * 3000, b"/?url=http://169.254.169.254/", b"/v1/models?api_base=http://evil.example", b"/%25%32%65"),
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[:40].decode())
def test_no_path_leads_out(gateway: RunningGateway, upstream: FakeUpstream, target: bytes) -> None:
    """Promise 5: neither to a file, nor to another host, nor to an upstream that nobody called."""
    for method in (b"GET", b"POST", b"CONNECT"):
        body = b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}" if method == b"POST" else b"\r\n"
        answer = said(gateway, b"%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n%s" % (method, target, body))
        status = statuses(answer)
        assert len(status) == 1
        assert status[0][:1] in {b"2", b"4"}
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert b"x-evil" not in head.lower()
        assert b"location" not in head.lower()
        assert b"monkey.patch_all" not in rest
        assert b"root:" not in rest
        assert upstream.requests == []


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (b"host: evil.example", b"421"),
        (b"host: 127.0.0.1.evil.example", b"421"),
        (b"host: 169.254.169.254", b"421"),
        (b"host: 127.0.0.1\r\nhost: evil.example", b"4"),
        (b"host: evil.example\r\nhost: 127.0.0.1", b"4"),
        (b"host: 127.0.0.1\r\norigin: https://evil.example", b"403"),
        (b"host: 127.0.0.1\r\norigin: null", b"403"),
        (b"host: 127.0.0.1\r\nsec-fetch-site: cross-site", b"403"),
        (b"host: 127.0.0.1\r\nsec-fetch-site: same-origin\r\nsec-fetch-site: cross-site", b"4"),
        (b"host: 127.0.0.1\r\nsec-fetch-site: cross-site\r\nSec-Fetch-Site: none", b"4"),
    ],
)
def test_a_page_of_another_site_is_refused_before_its_body_is_read(
    gateway: RunningGateway, upstream: FakeUpstream, field: bytes, status: bytes
) -> None:
    """Promises 2 and 3; the body is announced, and never sent."""
    request = b"POST /v1/chat/completions HTTP/1.1\r\n" + field + b"\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
    with connected(gateway) as sock:
        sock.settimeout(5)
        sock.sendall(request)
        answer = first_answer(sock)
    assert statuses(answer)[0].startswith(status), answer[:200]
    assert b"access-control" not in answer.lower()
    assert upstream.requests == []


def test_a_preflight_gets_no_leave(gateway: RunningGateway) -> None:
    answer = said(
        gateway,
        b"OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: https://evil.example\r\n"
        b"access-control-request-method: POST\r\naccess-control-request-private-network: true\r\nconnection: close\r\n\r\n",
    )
    assert statuses(answer) == [b"403"]
    assert b"access-control" not in answer.lower()


def test_an_answer_that_is_left_is_ended_upstream(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    event = openai.event(openai.chunk({"content": "x" * 1000}))
    upstream.script(Answer((event,) * 20_000, headers=(("content-type", "text/event-stream"),)))
    body = json.dumps({**json.loads(BODY), "stream": True}).encode()
    for _ in range(5):
        with connected(gateway) as sock:
            sock.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
            sock.recv(100)
    upstream.script(openai.respond)
    assert works(gateway)
    deadline_s = time.monotonic() + 5
    waiting = threading.Event()
    while gateway.gateway.gauges.in_flight and time.monotonic() < deadline_s:
        waiting.wait(0.02)
    assert gateway.gateway.gauges.in_flight == 0
