"""Hostile bytes on the gateway's own socket: what is no request is refused in OpenAI's shape, and the server goes on."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.conftest import RunningGateway
from tests.security import fuzz_cases as cases
from tests.security.fuzz_wire import Cut, cut, places
from tests.security.in_process import SETTINGS

BOUND_S = 20.0
LINES = (
    *(
        b"GET / HTTP/1.1",
        b"POST /v1/chat/completions HTTP/1.1",
        b"GET http://evil.example/ HTTP/1.1",
        b"CONNECT 169.254.169.254:80 HTTP/1.1",
    ),
    *(
        b"GET /healthz HTTP/1.0",
        b"GET /v1/models HTTP/0.9",
        b"PRI * HTTP/2.0",
        b"GET / HTTP/9.9",
        b"get / http/1.1",
        b"\x16\x03\x01",
        b"POST  / HTTP/1.1",
    ),
)
FIELDS = (
    *(
        b"host: 127.0.0.1",
        b"host: evil.example",
        b"host: 127.0.0.1\r\nhost: evil.example",
        b"content-length: 2",
        b"content-length: 5",
        b"x: y",
    ),
    *(
        b"content-length: -1",
        b"content-length: 2, 5",
        b"content-length: +2",
        b"transfer-encoding: chunked",
        b"transfer-encoding: chunked, chunked",
    ),
    *(
        b"transfer-encoding: xchunked",
        b" transfer-encoding: chunked",
        b"transfer-encoding : chunked",
        b"expect: 100-continue",
        b"connection: upgrade",
    ),
    *(
        b"upgrade: h2c",
        b"content-type: application/json",
        b"x: " + b"a" * 9000,
        b"\x00: \x00",
        b"no colon",
        b"x: a\rb: c",
        b"connection: close",
    ),
)
BODIES = (b"", b"{}", b"2\r\n{}\r\n0\r\n\r\n", b"zz\r\n", b"-1\r\n", b"2;x=" + b"y" * 99 + b"\r\n{}\r\n0\r\nx: y\r\n\r\n", b"\xff" * 9)
requests = st.builds(
    lambda line, fields, body: b"\r\n".join([line, *fields, b"", body]),
    st.sampled_from(LINES),
    st.lists(st.sampled_from(FIELDS), max_size=5),
    st.sampled_from(BODIES),
)
bytes_sent = cases.damaged(st.lists(requests, min_size=1, max_size=3).map(b"".join)) | cases.noise


@cache
def running() -> RunningGateway:
    """One server for all cases."""
    return RunningGateway(dict(SETTINGS), Path(tempfile.mkdtemp(prefix="openai-compat-fuzz-")))


def exchange(data: list[bytes]) -> bytes:
    """All that the server says to `data`, until it closes the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", running().port), timeout=BOUND_S) as sock, contextlib.suppress(ConnectionError):
        for piece in data:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        while piece := sock.recv(65536):
            answer += piece
    return answer


def bytes_are_answered_or_dropped(sent: Cut) -> None:
    """No fault of ours, no word of our inside; the connection ends, and the next client is served."""
    answer = exchange(cut(*sent))
    assert answer == b"" or answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), answer[:100]
    for status in (b"HTTP/1.1 500", b"HTTP/1.0 500", b"Traceback", b"gevent"):
        assert status not in answer, answer[:500]
    records = [line for *_, line in running().gateway.log._queue if "where" in line]
    assert records == []
    running().gateway.log._queue.clear()
    assert exchange([b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"]).startswith(b"HTTP/1.1 200")


PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Any]] = {"server": (st.tuples(bytes_sent, places), bytes_are_answered_or_dropped)}
