"""TLS to upstreams: whom we trust, and a socket whose every call ends in its time.

Trusted are the authorities of the upstream's `ca_file`; without one those of the system (OpenSSL's own `SSL_CERT_FILE` and `SSL_CERT_DIR`
included), and where the system has none, which is so in bare containers and in python.org's Python for macOS, those that requests brings.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import requests.utils

from compat.errors import UpstreamUnreachable

_RAW_BYTES = 64 * 1024
_RECORD_BYTES = 16 * 1024
_SEND_BYTES = 256 * 1024


def tls_context(ca_file: str) -> ssl.SSLContext:
    """The context of all connections to an upstream. Errors: `UpstreamUnreachable` when `ca_file` can't be used."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as error:  # an `SSLError` is an `OSError`
        reason = "it holds no certificates" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None) or error
        raise UpstreamUnreachable(f"The ca_file {ca_file} can't be used: {reason}.") from error
    if not ca_file and not _has_authorities(context):
        context.load_verify_locations(cafile=requests.utils.DEFAULT_CA_BUNDLE_PATH)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _has_authorities(context: ssl.SSLContext) -> bool:
    folder = ssl.get_default_verify_paths().capath  # its files are not loaded before they are needed
    return context.cert_store_stats()["x509_ca"] > 0 or (folder is not None and any(Path(folder).glob("*")))


class TlsSocket:
    """TLS over a connected socket, as a client; the part of a socket's interface that exchanges need.

    It works through memory, because a time-out of gevent's `SSLSocket` starts again with every byte of a record: an upstream that drips
    could hold up `recv` or the handshake for days. Here a call makes one read at most.
    """

    __slots__ = ("_incoming", "_may_have_more", "_outgoing", "_sock", "_timeout_s", "_tls")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._timeout_s = 0.0
        self._may_have_more = True

    @property
    def has_more(self) -> bool:
        """Whether `recv` may give bytes that have left the socket already."""
        return self._may_have_more

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def shake_hands(self, left_s: Callable[[], float]) -> None:
        """Agree on keys. `left_s` gives the time that is left, or raises `TimeoutError`. Errors: `OSError`, `ssl.SSLError` among them."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                self._flush()
                return
            self._flush()
            self._sock.settimeout(left_s())
            self._take_in()

    def settimeout(self, timeout_s: float) -> None:
        """The most that a call waits; 0 for not at all."""
        self._timeout_s = timeout_s
        self._sock.settimeout(timeout_s)

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes, `b""` at the end. Errors: those of a socket; `ssl.SSLWantReadError` when a part of a record came."""
        if self._may_have_more:
            try:
                return self._read(size)
            except ssl.SSLWantReadError:
                self._may_have_more = False
        self._take_in()
        return self._read(size)

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of `data`; the time-out counts for the whole of it."""
        deadline_s = time.monotonic() + self._timeout_s
        view = memoryview(data)
        while view:
            sent = self._tls.write(view[:_SEND_BYTES])
            self._flush()
            view = view[sent:]
            if view:
                self._sock.settimeout(max(deadline_s - time.monotonic(), 0.001))

    def close(self) -> None:
        """Close the connection, without a close_notify: an answer that was read to its end needs none."""
        self._sock.close()

    def _read(self, size: int) -> bytes:
        tls = self._tls
        try:
            data = tls.read(min(size, _RECORD_BYTES))
            self._may_have_more = self._incoming.pending > 0 or tls.pending() > 0
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # many servers close without a word; the framing shows whether all has come
            data = b""
        finally:
            if self._outgoing.pending:
                self._flush()
        return data

    def _take_in(self) -> None:
        data = self._sock.recv(_RAW_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())
