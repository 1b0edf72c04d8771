"""TLS over memory: byte by byte, in time, and with trust in the same authorities wherever an upstream is asked."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.errors import UpstreamUnreachable
from compat.upstream.http1 import Connection, Exchange
from compat.upstream.tls import TlsSocket, tls_context
from tests.fakes.authority import Authority


class Peer:
    """A TLS server in memory, behind the interface of a socket that gives at most `piece_bytes` per read.

    A read of nothing is a time-out, or, once `has_left`, the end.
    """

    def __init__(self, authority: Authority, piece_bytes: int) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = authority.server.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.piece_bytes = piece_bytes
        self.reads = 0
        self.timeouts_s: list[float] = []
        self.has_left = False
        self._is_agreed = False

    def settimeout(self, timeout_s: float) -> None:
        self.timeouts_s.append(timeout_s)

    def sendall(self, data: bytes) -> None:
        self._incoming.write(data)
        if not self._is_agreed:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                return
            self._is_agreed = True

    def recv(self, _size: int) -> bytes:
        self.reads += 1
        data = self._outgoing.read(self.piece_bytes)
        if not data and not self.has_left:
            raise TimeoutError("timed out")
        return data

    def received(self) -> bytes:
        data = b""
        while True:
            try:
                data += self.tls.read(65536)
            except ssl.SSLWantReadError:
                return data

    def close(self) -> None:
        pass


def forever() -> float:
    return 5.0


def connected(authority: Authority, piece_bytes: int = 65536) -> tuple[TlsSocket, Peer]:
    peer = Peer(authority, piece_bytes)
    sock = TlsSocket(peer, tls_context(authority.ca_file), "upstream.test")
    sock.shake_hands(forever)
    return sock, peer


@pytest.mark.parametrize("piece_bytes", [1, 7, 65536])
def test_an_answer_is_read_in_whatever_pieces_it_comes(authority: Authority, piece_bytes: int) -> None:
    sock, peer = connected(authority, piece_bytes)
    sock.settimeout(3)
    sock.sendall(b"request")
    assert peer.received() == b"request"
    peer.tls.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHel")
    peer.tls.write(b"lo")
    exchange = Exchange(Connection(sock), lambda _connection, _is_reusable: None)
    while exchange.receive_head(1) is None:
        pass
    body = b""
    while (data := exchange.receive(1)) != b"":
        body += data or b""
    assert body == b"Hello"


def test_no_call_makes_more_than_one_read(authority: Authority) -> None:
    sock, peer = connected(authority)
    peer.piece_bytes = 1
    peer.tls.write(b"Hello")
    data = b""
    while not data:
        before = peer.reads
        with contextlib.suppress(ssl.SSLWantReadError):
            data = sock.recv(100)
        assert peer.reads == before + 1
    assert data == b"Hello"


def test_what_came_already_is_given_without_a_read(authority: Authority) -> None:
    sock, peer = connected(authority)
    peer.tls.write(b"a" * 16384)
    peer.tls.write(b"b" * 16384)
    peer.tls.write(b"c")
    assert sock.recv(65536) == b"a" * 16384
    before = peer.reads
    assert sock.recv(100) == b"b" * 100
    assert sock.recv(65536) == b"b" * 16284
    assert sock.recv(65536) == b"c"
    assert peer.reads == before
    with pytest.raises(TimeoutError):
        sock.recv(65536)


@pytest.mark.parametrize("is_polite", [True, False])
def test_an_end_with_or_without_a_word_is_an_end(authority: Authority, is_polite: bool) -> None:
    sock, peer = connected(authority)
    peer.tls.write(b"Hello")
    assert sock.recv(100) == b"Hello"
    peer.has_left = True
    if is_polite:
        with pytest.raises(ssl.SSLWantReadError):  # it waits for our word, which does not come
            peer.tls.unwrap()
    assert [sock.recv(100), sock.recv(100)] == [b"", b""]


def test_a_handshake_has_an_end(authority: Authority) -> None:
    left = iter([0.5, 0.4, 0.3])

    def left_s() -> float:
        try:
            return next(left)
        except StopIteration:
            raise TimeoutError("over") from None

    peer = Peer(authority, 1)
    sock = TlsSocket(peer, tls_context(authority.ca_file), "upstream.test")
    with pytest.raises(TimeoutError, match="over"):
        sock.shake_hands(left_s)
    assert (peer.reads, peer.timeouts_s) == (3, [0.5, 0.4, 0.3])


def test_a_long_request_is_sent_whole(authority: Authority) -> None:
    sock, peer = connected(authority)
    sock.settimeout(60)
    body = bytes(range(256)) * 4096
    sock.sendall(body)
    assert peer.received() == body
    assert all(0 < timeout_s <= 60 for timeout_s in peer.timeouts_s)


# Whom we trust.


def authorities(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509_ca"]


def test_the_upstreams_own_authority_is_the_only_one(authority: Authority) -> None:
    assert authorities(tls_context(authority.ca_file)) == 1


def test_the_systems_authorities_can_be_named_by_the_environment(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    monkeypatch.setenv("SSL_CERT_DIR", "")
    assert authorities(tls_context("")) == 1


def test_a_system_without_authorities_has_those_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert authorities(tls_context("")) > 50


def test_a_folder_of_authorities_counts(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "00000000.0").write_bytes(Path(authority.ca_file).read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert authorities(tls_context("")) == 0  # they are loaded when they are needed


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _path: None, "No such file"),
        (lambda path: path.write_text(""), "holds no certificates"),
        (lambda path: path.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n"), "holds no certificates"),
        (lambda path: path.mkdir(), "can't be used"),
    ],
    ids=["none", "an empty file", "garbage", "a folder"],
)
def test_a_ca_file_that_can_not_be_used_is_told(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / "ca.pem")
    with pytest.raises(UpstreamUnreachable, match=words) as caught:
        tls_context(str(tmp_path / "ca.pem"))
    assert str(tmp_path / "ca.pem") in caught.value.message
