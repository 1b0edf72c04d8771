"""Upstreams that mean harm: what they can make us keep, and for how long they can make us wait, is bounded (promises 6 and 15)."""

from __future__ import annotations

import itertools
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from compat.config.sections import TimeoutSettings
from compat.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from compat.upstream.client import Secret, Upstream, UpstreamClient
from compat.upstream.http1 import MAX_HEAD_BYTES, Connection, Exchange
from compat.upstream.inflate import MAX_INFLATED_BYTES, STEP_BYTES
from compat.upstream.kinds import UPSTREAM_KINDS
from compat.upstream.models_list import list_models
from compat.upstream.pool import ConnectionPool, Origin
from tests.fakes.authority import Authority
from tests.unit.upstream.proxy import serving

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
MAX_READS = 100_000


class EndlessSocket:
    """Gives `first`, then `again` for ever; `given_bytes` is what was read."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self._pieces = itertools.chain([first] if first else [], itertools.repeat(again))
        self.given_bytes = 0
        self.reads = 0

    def settimeout(self, timeout_s: float) -> None:
        pass

    def recv(self, size: int) -> bytes:
        piece = next(self._pieces)
        assert len(piece) <= size
        self.reads += 1
        self.given_bytes += len(piece)
        return piece

    def close(self) -> None:
        pass


def opened(first: bytes, again: bytes) -> tuple[EndlessSocket, Exchange]:
    sock = EndlessSocket(first, again)
    return sock, Exchange(Connection(sock), lambda _connection, _is_reusable: None)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (OK, b"x-filler: 1\r\n"),
        (OK, b"x-filler: 1\r\n" * 4096),
        (OK + b"x-line: ", b"a" * 1000),
        (OK, b"a" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"very " * 100),
        (b"", b"\r\n"),
        (CHUNKED, b"0"),
        (CHUNKED + b"5;", b"extension=1;" * 50),
        (CHUNKED + b"5\r\nHello\r\n0\r\n", b"x-trailer: 1\r\n"),
        (CHUNKED + b"5\r\nHello\r\n0\r\nx-trailer: ", b"a" * 1000),
    ],
    ids=[
        "headers",
        "headers, many at a time",
        "a header line",
        "a header name",
        "interim answers",
        "interim answers with headers",
        "a reason phrase",
        "empty lines",
        "zeros of a chunk's size",
        "an extension of a chunk",
        "trailers",
        "a trailer line",
    ],
)
def test_framing_without_end_is_broken_off(first: bytes, again: bytes) -> None:
    sock, exchange = opened(first, again)

    def read() -> None:
        while exchange.receive_head(1) is None or exchange.receive(1) != b"":
            assert sock.reads < MAX_READS

    with pytest.raises(UpstreamBroken):
        read()
    assert sock.given_bytes <= MAX_HEAD_BYTES + len(first) + len(again)


@pytest.mark.parametrize(
    ("first", "again"),
    [(OK, b"x"), (CHUNKED + b"5;", b"x"), (CHUNKED, b"0")],
    ids=["the head", "an extension", "a chunk's size"],
)
def test_a_drip_gives_control_back_with_every_read(first: bytes, again: bytes) -> None:
    """The caller's deadlines count: of the head that of the first byte, of the body that of silence."""
    sock, exchange = opened(first, again)
    exchange.receive_head(1)
    for _ in range(10):
        before = sock.reads
        assert (exchange.receive_head(1) and exchange.receive(1)) is None
        assert sock.reads == before + 1


def test_compressed_nothing_for_ever_gives_control_back() -> None:
    packer = zlib.compressobj(wbits=31)
    begin = packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH)
    sock, exchange = opened(OK + b"content-encoding: gzip\r\n\r\n" + begin, b"\x00\x00\x00\xff\xff")
    assert exchange.receive_head(1) is not None
    for _ in range(10):
        before = sock.reads
        assert exchange.receive(1) is None
        assert sock.reads <= before + 1


@pytest.mark.slow
def test_a_bomb_is_handed_out_in_steps_and_broken_off() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(bytes(2 * MAX_INFLATED_BYTES)) + packer.flush()
    pieces = iter([OK + b"content-encoding: gzip\r\n\r\n", *(bomb[at : at + 65536] for at in range(0, len(bomb), 65536))])

    class Bomb(EndlessSocket):
        def recv(self, _size: int) -> bytes:
            return next(pieces)

    exchange = Exchange(Connection(Bomb(b"", b"")), lambda _connection, _is_reusable: None)
    while exchange.receive_head(1) is None:
        pass
    sizes: list[int] = []

    def explode() -> None:
        while (data := exchange.receive(1)) != b"":
            sizes.append(len(data or b""))

    with pytest.raises(UpstreamBroken, match="too large"):
        explode()
    assert max(sizes) <= STEP_BYTES
    assert sum(sizes) <= MAX_INFLATED_BYTES


@pytest.mark.parametrize(
    "line",
    [
        b"x-a: 1\rx-b: 2",
        b"x-a: 1\nx-b: 2",
        b"x-a: 1\r\n x-b: 2",
        b"x-a: 1\x00",
        b"x-a: \x1b[31m",
        b"x-a: 1\x7f",
        b"x\x00a: 1",
        b"x a: 1",
        b": 1",
    ],
)
def test_a_header_that_would_be_several_is_refused(line: bytes) -> None:
    _, exchange = opened(OK + line + b"\r\ncontent-length: 0\r\n\r\n", b"")
    with pytest.raises(UpstreamBroken):
        exchange.receive_head(1)


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        b"content-length: 5\r\ncontent-length: 5\r\n",
        b"content-length: 5, 6\r\n",
        b"content-length: +5\r\n",
        b"content-length: 0x5\r\n",
        b"content-length: 99999999999999999999999\r\n",
    ],
)
def test_lengths_that_contradict_are_refused(head: bytes) -> None:
    _, exchange = opened(OK + head + b"\r\nHello", b"")
    with pytest.raises(UpstreamBroken):
        exchange.receive_head(1)


# Over real sockets, in time.


def drip(first: bytes, again: bytes, pause_s: float = 0.02) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(first)
        while True:
            sock.sendall(again)
            time.sleep(pause_s)

    return serve


@pytest.fixture
def client() -> Iterator[UpstreamClient]:
    made = UpstreamClient()
    yield made
    made.close()


def at(url: str, **more: object) -> Upstream:
    return Upstream("fake", UPSTREAM_KINDS["openai"], url, (Secret("sk-canary-0123456789"),), **more)


def within(bound_s: float, work: Callable[[], object]) -> UpstreamError:
    began_s = time.monotonic()
    with pytest.raises(UpstreamError) as caught:
        work()
    assert time.monotonic() - began_s < bound_s
    return caught.value


def test_a_handshake_that_drips_is_bounded_by_the_time_to_connect(client: UpstreamClient) -> None:
    with serving(drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x00")) as port:
        upstream = at(f"https://127.0.0.1:{port}", timeouts=TimeoutSettings(connect_s=0.3))
        assert type(within(3, lambda: client.open(upstream, "openai.chat", b"{}", {}))) is UpstreamTimeout


def test_a_proxy_that_drips_is_bounded_by_the_time_to_connect() -> None:
    with serving(drip(b"HTTP/1.1 200 ", b"O")) as port:
        pool = ConnectionPool(Origin("https", "upstream.test", 443, f"http://127.0.0.1:{port}"), connect_s=0.3)
        assert type(within(3, lambda: pool.open(b""))) is UpstreamTimeout


def test_a_record_that_drips_gives_control_back(client: UpstreamClient, authority: Authority) -> None:
    def serve(sock: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = authority.server.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                tls.read(65536)
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        tls.write(OK + b"x" * 10_000)
        for byte in outgoing.read():
            sock.sendall(bytes([byte]))
            time.sleep(0.02)

    with serving(serve) as port:
        exchange = client.open(at(f"https://127.0.0.1:{port}", ca_file=authority.ca_file), "openai.chat", b"{}", {})
        began_s = time.monotonic()
        for _ in range(5):
            assert exchange.receive_head(0.1) is None
        assert time.monotonic() - began_s < 1
        exchange.close()


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"H"),
        (OK, b"x-a: 1\r\n"),
        (OK + b"content-length: 100000\r\n\r\n", b" "),
        (CHUNKED, b"1\r\n \r\n"),
        (CHUNKED + b"1;", b"x"),
    ],
    ids=["a status line", "headers", "a body", "chunks", "an extension"],
)
def test_a_list_that_drips_is_bounded_by_its_time(first: bytes, again: bytes) -> None:
    with serving(drip(first, again)) as port:
        error = within(3, lambda: list_models(at(f"http://127.0.0.1:{port}"), 0.3))
    assert type(error) in ((UpstreamTimeout,) if first else (UpstreamTimeout, UpstreamBroken))


def test_a_list_that_has_no_end_is_broken_off() -> None:
    with serving(drip(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n", pause_s=0)) as port:
        error = within(20, lambda: list_models(at(f"http://127.0.0.1:{port}"), 15))
    assert type(error) is UpstreamBroken


# What leaves.


@pytest.mark.parametrize("value", ["a\r\nx-b: 1", "a\nb", "a\rb", "a\x00", "a\x7f", "sk-…", "\x1b[31m"])
def test_a_header_that_would_be_several_is_not_sent(client: UpstreamClient, value: str) -> None:
    upstream = at("http://127.0.0.1:1")
    with pytest.raises(UpstreamUnreachable, match="'x-own' has a value that can't be sent"):
        client.open(upstream, "openai.chat", b"{}", {"x-own": value})
    own = replace(upstream, name="own", headers={"X-Own": value})
    secret = replace(upstream, name="secret", keys=(Secret(value),))
    for configured in (own, secret):
        with pytest.raises(UpstreamUnreachable, match="can't be sent") as caught:
            client.open(configured, "openai.chat", b"{}", {})
        assert value not in caught.value.message
        with pytest.raises(UpstreamUnreachable) as caught:
            list_models(configured, 1)
        assert value not in caught.value.message


@pytest.mark.parametrize("name", ["x own", "x\r\nown", "", "x:own", "é"])
def test_a_header_whose_name_is_none_is_not_sent(client: UpstreamClient, name: str) -> None:
    with pytest.raises(UpstreamUnreachable, match="can't be sent"):
        client.open(at("http://127.0.0.1:1"), "openai.chat", b"{}", {name: "1"})
