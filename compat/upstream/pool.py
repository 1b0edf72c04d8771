"""Connections to upstreams, kept open between calls.

A pool belongs to one origin and one credential: two keys never share a connection. A connection that the upstream closed while it
lay idle is found by a look before it is used, or, when it closes in that very moment, replaced once, and only when no byte of an
answer came.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field

from compat.errors import UpstreamTimeout, UpstreamUnreachable
from compat.upstream.http1 import Connection, Exchange
from compat.upstream.proxy import address_of, authorization_of, open_tunnel, proxy_of
from compat.upstream.tls import TlsSocket, tls_context

MAX_IDLE = 64
MAX_IDLE_S = 120.0
_SEND_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection goes. `proxy` is the URL of an HTTP proxy or empty."""

    scheme: str
    host: str
    port: int
    proxy: str = field(default="", repr=False)

    @property
    def netloc(self) -> str:
        """The value of the `host` header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> Origin:
    """The origin of a base URL. `ValueError` when it is not an http(s) URL with a host."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"'{url}' is not an http or https URL")
    host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ValueError(f"'{url}' has an invalid host name") from error
    return Origin(parts.scheme, host, port, proxy_of(parts.scheme, host, parts.netloc.rpartition("@")[2]))


class ConnectionPool:
    """Open exchanges with one origin, under one credential. `connect` makes their sockets; tests give it a network in memory.

    Mutable: `_idle`, newest last, so that a burst's surplus ages out, and `_is_closed`. Every step that touches them runs without a switch
    to another greenlet. Errors of making one: `UpstreamUnreachable` when `ca_file` can't be used.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        connect_s: float,
        ca_file: str = "",
        clock: Callable[[], float] = time.monotonic,
        connect: Callable[..., socket.socket] = socket.create_connection,
    ) -> None:
        self._origin = origin
        self._connect_s = connect_s
        self._clock = clock
        self._connect_to = connect
        self._idle: list[Connection] = []
        self._is_closed = False
        self._tls = tls_context(ca_file) if origin.scheme == "https" else None
        self.opened = 0

    def open(self, message: bytes) -> Exchange:
        """Send `message` (a whole request) and return its exchange. Errors: `UpstreamUnreachable`, `UpstreamTimeout`."""
        connection = self._take_idle()
        if connection is not None:
            try:
                self._send(connection, message)
            except UpstreamUnreachable:
                pass
            else:
                return Exchange(connection, self._give_back, lambda: self._send(self._connect(), message))
        return Exchange(self._send(self._connect(), message), self._give_back)

    def __len__(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    def close(self) -> None:
        """Close every idle connection, and from now on each one when its exchange ends."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().sock.close()

    def _send(self, connection: Connection, message: bytes) -> Connection:
        try:
            _send_all(connection.sock, message)
        except (BrokenPipeError, ConnectionResetError) as error:
            if connection.is_reused:
                connection.sock.close()
                raise UpstreamUnreachable("The upstream closed the connection.") from error
            # A fresh connection: an upstream that refuses a body early has answered already; the read will show it.
        except TimeoutError as error:
            connection.sock.close()
            raise UpstreamTimeout(f"The upstream did not take the request within {_SEND_TIMEOUT_S:g} s.") from error
        except OSError as error:
            connection.sock.close()
            raise UpstreamUnreachable(f"The request could not be sent: {error.strerror or error}.") from error
        except BaseException:
            connection.sock.close()
            raise
        return connection

    def _give_back(self, connection: Connection, is_reusable: bool) -> None:
        if not is_reusable or self._is_closed or len(self._idle) >= MAX_IDLE:
            connection.sock.close()
            return
        connection.is_reused = True
        connection.idle_since_s = self._clock()
        self._idle.append(connection)

    def _take_idle(self) -> Connection | None:
        too_old_s = self._clock() - MAX_IDLE_S
        while self._idle and self._idle[0].idle_since_s < too_old_s:
            self._idle.pop(0).sock.close()
        while self._idle:
            connection = self._idle.pop()
            if _is_quiet(connection.sock):
                return connection
            connection.sock.close()
        return None

    def _connect(self) -> Connection:
        origin = self._origin
        try:
            sock = self._connected(countdown(self._connect_s, self._clock))
        except socket.gaierror as error:
            raise UpstreamUnreachable(f"The host {self._address()[0]} can't be resolved: {error.strerror}.") from error
        except TimeoutError as error:
            raise UpstreamTimeout(f"No connection to {origin.netloc} within {self._connect_s:g} s.") from error
        except ssl.SSLCertVerificationError as error:
            raise UpstreamUnreachable(f"The certificate of {origin.netloc} is not trusted: {error.verify_message}.") from error
        except ssl.SSLError as error:
            raise UpstreamUnreachable(f"TLS with {origin.netloc} failed: {error.reason or error}.") from error
        except OSError as error:
            raise UpstreamUnreachable(f"No connection to {origin.netloc}: {error.strerror or error}.") from error
        except ValueError as error:  # a `UnicodeError` of the resolver's, or TLS does not take the name
            raise UpstreamUnreachable(f"No connection to {origin.netloc}: a host on the way has an invalid name.") from error
        self.opened += 1
        return Connection(sock)

    def _connected(self, left_s: Callable[[], float]) -> socket.socket | TlsSocket:
        """A socket that reaches the origin, through the proxy and over TLS where it must."""
        origin = self._origin
        sock = self._connect_to(self._address(), timeout=left_s())
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.settimeout(left_s())
            if origin.proxy and origin.scheme == "https":
                authority = f"{origin.netloc.removesuffix(f':{origin.port}')}:{origin.port}"
                open_tunnel(sock, authority, authorization_of(origin.proxy), left_s)
            if self._tls is None:
                return sock
            secured = TlsSocket(sock, self._tls, origin.host)
            secured.shake_hands(left_s)
        except BaseException:
            sock.close()
            raise
        return secured

    def _address(self) -> tuple[str, int]:
        """Where the socket goes."""
        origin = self._origin
        return address_of(origin.proxy, origin.scheme) if origin.proxy else (origin.host, origin.port)


def countdown(bound_s: float, clock: Callable[[], float] = time.monotonic) -> Callable[[], float]:
    """From now on, the seconds that are left of `bound_s`, asked for by a call; it raises `TimeoutError` when there are none."""
    deadline_s = clock() + bound_s

    def left_s() -> float:
        left = deadline_s - clock()
        if left <= 0:
            raise TimeoutError("the time is over")
        return left

    return left_s


def request_target(origin: Origin, path: str) -> str:
    """The target of a request line: absolute where a plain-text proxy must know where to go (RFC 9112, section 3.2.2)."""
    return f"http://{origin.netloc}{path}" if origin.proxy and origin.scheme == "http" else path


def proxy_headers(origin: Origin) -> dict[str, str]:
    """The credentials for a plain-text proxy, if its URL has any; through a tunnel they were given when it was opened."""
    return authorization_of(origin.proxy) if origin.scheme == "http" else {}


def _send_all(sock: socket.socket | TlsSocket, message: bytes) -> None:
    """Send all of it, as fast as it is taken. Most leaves at once; `sendall` asks for the size of the system's buffer first."""
    sent = 0
    if not isinstance(sock, TlsSocket):
        sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            sent = sock.send(message)
    if sent < len(message):
        sock.settimeout(_SEND_TIMEOUT_S)
        sock.sendall(memoryview(message)[sent:])


def _is_quiet(sock: socket.socket | TlsSocket) -> bool:
    """Whether an idle connection is open with nothing to read: data or an end now can't belong to the next answer."""
    try:
        sock.settimeout(0)
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False
