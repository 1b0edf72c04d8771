"""Connections to upstreams, kept open between calls.

A pool belongs to one origin and one credential: two keys never share a connection. A connection that the upstream closed while it
lay idle is found by a look before it is used, or, when it closes in that very moment, replaced once, and only when no byte of an
answer came.

Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as everybody spells them (`urllib.request`).
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from compat.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from compat.upstream.http1 import Connection, Exchange

MAX_IDLE = 64
MAX_IDLE_S = 120.0
_SEND_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection goes. `proxy` is the URL of an HTTP proxy or empty."""

    scheme: str
    host: str
    port: int
    proxy: str = ""

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
    proxies = urllib.request.getproxies()
    proxy = "" if urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]) else proxies.get(parts.scheme, "")
    return Origin(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], proxy)


class ConnectionPool:
    """Open exchanges with one origin, under one credential.

    Mutable: `_idle` only, newest last, so that a burst's surplus ages out. Every step that touches it runs without a switch to another
    greenlet.
    """

    def __init__(self, origin: Origin, *, connect_s: float, ca_file: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._origin = origin
        self._connect_s = connect_s
        self._clock = clock
        self._idle: list[Connection] = []
        self._tls = _tls_context(ca_file) if origin.scheme == "https" else None
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

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().sock.close()

    def _send(self, connection: Connection, message: bytes) -> Connection:
        try:
            connection.sock.settimeout(_SEND_TIMEOUT_S)
            connection.sock.sendall(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            if connection.is_reused:
                connection.sock.close()
                raise UpstreamUnreachable("The upstream closed the connection.") from error
            # A fresh connection: an upstream that refuses a body early has answered already; the read will tell.
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
        if not is_reusable or len(self._idle) >= MAX_IDLE:
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
        deadline_s = self._clock() + self._connect_s
        try:
            sock = self._connect_tcp(deadline_s)
        except socket.gaierror as error:
            raise UpstreamUnreachable(f"The host {origin.host} can't be resolved: {error.strerror}.") from error
        except TimeoutError as error:
            raise UpstreamTimeout(f"No connection to {origin.netloc} within {self._connect_s:g} s.") from error
        except ssl.SSLCertVerificationError as error:
            raise UpstreamUnreachable(f"The certificate of {origin.netloc} is not trusted: {error.verify_message}.") from error
        except ssl.SSLError as error:
            raise UpstreamUnreachable(f"TLS with {origin.netloc} failed: {error.reason or error}.") from error
        except OSError as error:
            raise UpstreamUnreachable(f"No connection to {origin.netloc}: {error.strerror or error}.") from error
        self.opened += 1
        return Connection(sock)

    def _connect_tcp(self, deadline_s: float) -> socket.socket:
        origin = self._origin
        if origin.proxy:
            proxy = urllib.parse.urlsplit(origin.proxy)
            address = (proxy.hostname or "", proxy.port or 80)
        else:
            address = (origin.host, origin.port)
        sock = socket.create_connection(address, timeout=max(deadline_s - self._clock(), 0.001))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.settimeout(max(deadline_s - self._clock(), 0.001))
            if origin.proxy and origin.scheme == "https":
                _open_tunnel(sock, origin)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=origin.host)
        except BaseException:
            sock.close()
            raise
        return sock


def request_target(origin: Origin, path: str) -> str:
    """The target of a request line: absolute where a plain-text proxy must be told where to go (RFC 9112, section 3.2.2)."""
    return f"http://{origin.netloc}{path}" if origin.proxy and origin.scheme == "http" else path


def proxy_headers(origin: Origin) -> dict[str, str]:
    """The credentials for a plain-text proxy, if its URL has any; through a tunnel they were given when it was opened."""
    return _proxy_authorization(origin) if origin.scheme == "http" else {}


def _proxy_authorization(origin: Origin) -> dict[str, str]:
    proxy = urllib.parse.urlsplit(origin.proxy)
    if not proxy.username:
        return {}
    pair = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
    return {"proxy-authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _open_tunnel(sock: socket.socket, origin: Origin) -> None:
    """Ask an HTTP proxy for a tunnel (RFC 9110, section 9.3.6)."""
    authority = f"{origin.netloc.removesuffix(f':{origin.port}')}:{origin.port}"
    headers = {"host": authority, **_proxy_authorization(origin)}
    lines = [f"CONNECT {authority} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = sock.recv(4096)
        answer += data
        if not data or len(answer) > 16 * 1024:
            raise UpstreamUnreachable("The proxy did not answer.")
    status = answer.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        raise UpstreamUnreachable(f"The proxy refused a tunnel to {authority}: {b' '.join(status[1:]).decode('latin-1')[:100]}.")


def _is_quiet(sock: socket.socket) -> bool:
    """Whether an idle connection is open with nothing to read: data or an end now can't belong to the next answer."""
    try:
        sock.settimeout(0)
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except (OSError, UpstreamBroken):
        return False
    return False


def _tls_context(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    return context
