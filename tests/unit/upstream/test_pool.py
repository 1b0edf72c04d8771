"""Connections to upstreams: as few as can be, replaced once, through the proxy of the environment, over TLS that is checked."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from compat.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from compat.upstream.http1 import Exchange
from compat.upstream.pool import MAX_IDLE, MAX_IDLE_S, ConnectionPool, Origin, origin_of
from tests.fakes.authority import Authority
from tests.fakes.openai_answers import json_answer
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Reset
from tests.unit.upstream.proxy import TunnelProxy, serving, unused_port, wait_until

MESSAGE = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
ANSWER = json_answer({"n": 1}, framing="length")


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=ANSWER) as running:
        yield running


@pytest.fixture
def tls_upstream(authority: Authority) -> Iterator[FakeUpstream]:
    with FakeUpstream(default=ANSWER, tls=authority.server) as running:
        yield running


MakePool = Callable[..., ConnectionPool]


@pytest.fixture
def pool_of() -> Iterator[MakePool]:
    """Makes pools of an upstream, a URL or an origin, and closes them."""
    pools: list[ConnectionPool] = []

    def make(where: FakeUpstream | str | Origin, **more: Any) -> ConnectionPool:
        url = where.url if isinstance(where, FakeUpstream) else where
        pools.append(ConnectionPool(origin_of(url) if isinstance(url, str) else url, **{"connect_s": 5, **more}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def finish(exchange: Exchange) -> int:
    try:
        while (head := exchange.receive_head(5)) is None:
            pass
        while exchange.receive(5) != b"":
            pass
    finally:
        exchange.close()
    return head.status


def call(pool: ConnectionPool) -> int:
    return finish(pool.open(MESSAGE))


# Reuse.


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_200_calls_in_a_row_open_one_connection(upstream: FakeUpstream, framing: str, pool_of: MakePool) -> None:
    upstream.script(json_answer({"n": 1}, framing=framing))
    pool = pool_of(upstream)
    assert {call(pool) for _ in range(200)} == {200}
    assert (upstream.connections, pool.opened, len(upstream.requests)) == (1, 1, 200)


def test_200_calls_over_tls_open_one_connection(tls_upstream: FakeUpstream, authority: Authority, pool_of: MakePool) -> None:
    pool = pool_of(tls_upstream, ca_file=authority.ca_file)
    assert {call(pool) for _ in range(200)} == {200}
    assert (tls_upstream.connections, pool.opened, len(tls_upstream.requests)) == (1, 1, 200)


def test_calls_at_the_same_time_have_connections_of_their_own(upstream: FakeUpstream, pool_of: MakePool) -> None:
    pool = pool_of(upstream)
    running = [pool.open(MESSAGE) for _ in range(5)]
    assert [finish(exchange) for exchange in running] == [200] * 5
    assert upstream.connections == 5
    assert call(pool) == 200
    assert upstream.connections == 5


def test_the_idle_connections_are_bounded(upstream: FakeUpstream, pool_of: MakePool) -> None:
    pool = pool_of(upstream)
    for exchange in [pool.open(MESSAGE) for _ in range(MAX_IDLE + 3)]:
        finish(exchange)
    wait_until(lambda: upstream.open_connections == MAX_IDLE)
    pool.close()
    wait_until(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize(("idle_s", "connections"), [(MAX_IDLE_S - 1, 1), (MAX_IDLE_S + 1, 2)])
def test_a_connection_that_was_idle_for_too_long_is_not_used(
    upstream: FakeUpstream, idle_s: float, connections: int, pool_of: MakePool
) -> None:
    clock = ManualClock()
    pool = pool_of(upstream, clock=clock)
    call(pool)
    clock.now_s += idle_s
    call(pool)
    assert upstream.connections == connections
    wait_until(lambda: upstream.open_connections == 1)


def test_a_bursts_surplus_ages_out_while_calls_go_on(upstream: FakeUpstream, pool_of: MakePool) -> None:
    clock = ManualClock()
    pool = pool_of(upstream, clock=clock)
    for exchange in [pool.open(MESSAGE) for _ in range(3)]:
        finish(exchange)
    clock.now_s += MAX_IDLE_S - 1
    call(pool)
    clock.now_s += 2
    call(pool)
    wait_until(lambda: upstream.open_connections == 1)
    assert upstream.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        json_answer({}, framing="close"),
        Answer(raw=(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",), keeps_alive=False),
        Answer(raw=(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",), keeps_alive=False),
    ],
    ids=["the end is the framing", "connection: close", "HTTP/1.0"],
)
def test_a_connection_that_the_upstream_will_close_is_not_kept(upstream: FakeUpstream, answer: Answer, pool_of: MakePool) -> None:
    upstream.script(answer)
    pool = pool_of(upstream)
    assert [call(pool), call(pool)] == [200, 200]
    assert (upstream.connections, len(upstream.requests)) == (2, 2)


def test_what_is_given_back_to_a_closed_pool_is_closed(upstream: FakeUpstream, pool_of: MakePool) -> None:
    pool = pool_of(upstream)
    exchange = pool.open(MESSAGE)
    pool.close()
    assert finish(exchange) == 200
    wait_until(lambda: upstream.open_connections == 0)


# Stale connections.


def test_a_connection_that_closed_while_idle_is_found_before_it_is_used(upstream: FakeUpstream, pool_of: MakePool) -> None:
    upstream.script(Answer((b"{}",), framing="length", keeps_alive=False), ANSWER)
    pool = pool_of(upstream)
    call(pool)
    wait_until(lambda: upstream.open_connections == 0)
    assert call(pool) == 200
    assert (upstream.connections, len(upstream.requests)) == (2, 2)


def test_a_connection_with_bytes_that_nobody_asked_for_is_not_used(upstream: FakeUpstream, pool_of: MakePool) -> None:
    sent: list[bytes] = []

    def late() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        wait_until(lambda: bool(finished))
        yield b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"
        sent.append(b"408")

    finished: list[int] = []
    upstream.script(Answer(raw=late()), ANSWER)
    pool = pool_of(upstream)
    finished.append(call(pool))
    wait_until(lambda: bool(sent))
    assert call(pool) == 200
    assert upstream.connections == 2


@pytest.mark.parametrize("end", [Cut(), Reset()], ids=["cut", "reset"])
def test_a_connection_that_closes_as_it_is_used_is_replaced(upstream: FakeUpstream, end: Any, pool_of: MakePool) -> None:
    upstream.script(ANSWER, Answer(raw=(end,)), ANSWER)
    pool = pool_of(upstream)
    assert [call(pool), call(pool)] == [200, 200]
    assert [request.connection for request in upstream.requests] == [1, 1, 2]


@pytest.mark.parametrize("end", [Cut(), Reset()], ids=["cut", "reset"])
def test_it_is_replaced_once_and_only_once(upstream: FakeUpstream, end: Any, pool_of: MakePool) -> None:
    upstream.script(ANSWER, Answer(raw=(end,)), Answer(raw=(end,)), ANSWER)
    pool = pool_of(upstream)
    call(pool)
    with pytest.raises(UpstreamUnreachable):
        call(pool)
    assert [request.connection for request in upstream.requests] == [1, 1, 2]


@pytest.mark.parametrize("end", [Cut(), Reset()], ids=["cut", "reset"])
def test_a_request_on_a_fresh_connection_is_sent_once(upstream: FakeUpstream, end: Any, pool_of: MakePool) -> None:
    upstream.script(Answer(raw=(end,)), ANSWER)
    with pytest.raises(UpstreamUnreachable):
        call(pool_of(upstream))
    assert len(upstream.requests) == 1


# What keeps a connection from being made.


def refused(pool: ConnectionPool) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        pool.open(MESSAGE)
    assert pool.opened == 0
    return caught.value


def test_a_refused_connection_is_an_unreachable_upstream(pool_of: MakePool) -> None:
    port = unused_port()
    error = refused(pool_of(f"http://127.0.0.1:{port}"))
    assert type(error) is UpstreamUnreachable
    assert error.message == f"No connection to 127.0.0.1:{port}: Connection refused."


def test_a_name_that_does_not_resolve_is_an_unreachable_upstream(pool_of: MakePool) -> None:
    # An interface that is not there: the resolver says no without asking the network.
    error = refused(pool_of("http://[fe80::1%nosuch]:81/"))
    assert type(error) is UpstreamUnreachable
    assert "The host fe80::1%nosuch can't be resolved" in error.message


def test_a_proxys_name_that_does_not_resolve_is_told(pool_of: MakePool) -> None:
    error = refused(pool_of(Origin("https", "upstream.test", 443, "http://[fe80::1%nosuch]:3128")))
    assert type(error) is UpstreamUnreachable
    assert "The host fe80::1%nosuch can't be resolved" in error.message


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test"])
def test_a_name_that_can_not_be_asked_for_is_an_unreachable_upstream(host: str, pool_of: MakePool) -> None:
    assert type(refused(pool_of(Origin("http", host, 80)))) is UpstreamUnreachable


def test_a_name_that_tls_does_not_take_is_an_unreachable_upstream(pool_of: MakePool) -> None:
    with serving(TunnelProxy(unused_port()).serve) as port:
        assert type(refused(pool_of(Origin("https", ".test", 443, f"http://127.0.0.1:{port}")))) is UpstreamUnreachable


def silent(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def test_a_server_that_never_speaks_tls_is_bounded_in_time(pool_of: MakePool) -> None:
    with serving(silent) as port:
        error = refused(pool_of(f"https://127.0.0.1:{port}", connect_s=0.2))
    assert type(error) is UpstreamTimeout
    assert "within 0.2 s" in error.message


def plain_text(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    silent(sock)


def test_a_server_of_plain_text_is_no_tls_upstream(pool_of: MakePool) -> None:
    with serving(plain_text) as port:
        error = refused(pool_of(f"https://127.0.0.1:{port}"))
    assert type(error) is UpstreamUnreachable
    assert error.message.startswith("TLS with 127.0.0.1")


def test_a_certificate_of_an_unknown_authority_is_refused(tls_upstream: FakeUpstream, pool_of: MakePool) -> None:
    error = refused(pool_of(tls_upstream))
    assert type(error) is UpstreamUnreachable
    assert "is not trusted" in error.message
    assert not tls_upstream.requests


def test_a_certificate_for_another_name_is_refused(tls_upstream: FakeUpstream, authority: Authority, pool_of: MakePool) -> None:
    error = refused(pool_of(f"https://localhost:{tls_upstream.port}", ca_file=authority.ca_file))
    assert type(error) is UpstreamUnreachable
    assert "is not trusted" in error.message


# Tunnels.


def tunnelled(proxy_port: int, credentials: str = "") -> Origin:
    return Origin("https", "upstream.test", 8443, f"http://{credentials}127.0.0.1:{proxy_port}")


def test_tls_goes_through_a_tunnel_that_is_opened_once(tls_upstream: FakeUpstream, authority: Authority, pool_of: MakePool) -> None:
    proxy = TunnelProxy(tls_upstream.port)
    with serving(proxy.serve) as port:
        pool = pool_of(tunnelled(port, "user:pass%3Aword@"), ca_file=authority.ca_file)
        assert [call(pool) for _ in range(3)] == [200] * 3
        pool.close()
    assert len(proxy.heads) == 1
    lines = proxy.heads[0].split("\r\n")
    assert lines[:2] == ["CONNECT upstream.test:8443 HTTP/1.1", "host: upstream.test:8443"]
    assert lines[2] == "proxy-authorization: Basic " + base64.b64encode(b"user:pass:word").decode()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "407 Proxy Authentication Required"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway"),
        (b"HTTP/1.1 403\r\n\r\n", "403"),
        (b"garbage\r\n\r\n", "refused a tunnel"),
        (b"", "did not answer"),
        (b"HTTP/1.1 403 Forb", "did not answer"),
        (b"HTTP/1.1 403 X\r\nx: " + b"a" * 20_000, "did not answer"),
    ],
    ids=["407", "502", "no reason", "garbage", "nothing", "half a head", "a head without end"],
)
def test_a_proxy_that_refuses_is_an_unreachable_upstream(answer: bytes, words: str, pool_of: MakePool) -> None:
    with serving(TunnelProxy(0, answer).serve) as port:
        error = refused(pool_of(tunnelled(port, "user:canary@")))
    assert type(error) is UpstreamUnreachable
    assert words in error.message
    assert "canary" not in error.message


def test_a_proxy_that_says_nothing_is_bounded_in_time(pool_of: MakePool) -> None:
    with serving(silent) as port:
        assert type(refused(pool_of(tunnelled(port), connect_s=0.2))) is UpstreamTimeout


def test_a_proxy_that_is_not_there_is_an_unreachable_upstream(pool_of: MakePool) -> None:
    assert type(refused(pool_of(tunnelled(unused_port())))) is UpstreamUnreachable


@pytest.mark.parametrize(
    ("scheme", "proxy", "words"),
    [
        ("https", "https://user:canary@proxy.test:3128", "HTTPS_PROXY names a proxy of the kind https://"),
        ("http", "socks5://user:canary@proxy.test:1080", "HTTP_PROXY names a proxy of the kind socks5://"),
        ("https", "socks5h://proxy.test", "HTTPS_PROXY names a proxy of the kind socks5h://"),
        ("http", "http://", "HTTP_PROXY names no host"),
        ("http", "http://user:canary@:3128", "HTTP_PROXY names no host"),
        ("http", "http://user:canary@proxy.test:port", "HTTP_PROXY is not the URL of a proxy"),
        ("http", "http://[canary", "HTTP_PROXY is not the URL of a proxy"),
    ],
)
def test_a_proxy_that_can_not_be_used_is_told_by_its_variable(scheme: str, proxy: str, words: str, pool_of: MakePool) -> None:
    error = refused(pool_of(Origin(scheme, "upstream.test", 80, proxy)))
    assert type(error) is UpstreamUnreachable
    assert words in error.message
    assert "canary" not in error.message


def test_what_a_proxy_says_is_shown_without_control_characters(pool_of: MakePool) -> None:
    with serving(TunnelProxy(0, b"HTTP/1.1 403 \x1b[31m\x85no\r\n\r\n").serve) as port:
        error = refused(pool_of(tunnelled(port)))
    assert "403 ?[31m?no." in error.message


def test_a_proxy_is_found_where_its_url_has_no_scheme(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, pool_of: MakePool) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{upstream.port}")
    assert call(pool_of("http://upstream.test/v1")) == 200
