"""The HTTP proxy that the environment names for an upstream: whether there is one, where it is, and the tunnel through it.

Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as everybody spells them (`urllib.request`), with a scheme or without.
This machine is never sought through one. A proxy that itself wants TLS or SOCKS is not supported; that is reported with each call and by
`--check`, not at start: other upstreams may do without it.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping

from compat.errors import UpstreamUnreachable

_DEFAULT_PORT = 80
_MAX_HEAD_BYTES = 16 * 1024


def proxy_of(scheme: str, host: str, netloc: str) -> str:
    """The URL of the proxy for an origin, or `""` for none."""
    if _is_this_machine(host):
        return ""
    proxy = urllib.request.getproxies().get(scheme, "").strip()
    if not proxy or urllib.request.proxy_bypass(netloc):
        return ""
    return proxy if "://" in proxy else f"http://{proxy.removeprefix('//')}"


def address_of(proxy: str, scheme: str) -> tuple[str, int]:
    """Host and port of the proxy for `scheme`. Errors: `UpstreamUnreachable`, which names the variable, for one that can't be used."""
    variable = f"{scheme.upper()}_PROXY"
    try:
        parts = urllib.parse.urlsplit(proxy)
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError as error:
        raise UpstreamUnreachable(f"{variable} is not the URL of a proxy.") from error
    if parts.scheme != "http":
        raise UpstreamUnreachable(f"{variable} names a proxy of the kind {parts.scheme}://, which is not supported; http:// is.")
    if not host:
        raise UpstreamUnreachable(f"{variable} names no host.")
    return host, port


def authorization_of(proxy: str) -> dict[str, str]:
    """The header that identifies us to the proxy, if its URL holds credentials."""
    parts = urllib.parse.urlsplit(proxy)
    if not parts.username:
        return {}
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {"proxy-authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def open_tunnel(sock: socket.socket, authority: str, headers: Mapping[str, str], left_s: Callable[[], float]) -> None:
    """Ask the proxy behind `sock` for a tunnel to `authority` (RFC 9110, section 9.3.6).

    `left_s` gives the time that is left, or raises `TimeoutError`. Errors: `UpstreamUnreachable`, `OSError`.
    """
    lines = [f"CONNECT {authority} HTTP/1.1", f"host: {authority}", *(f"{name}: {value}" for name, value in headers.items())]
    sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        sock.settimeout(left_s())
        data = sock.recv(4096)
        answer += data
        if not data or len(answer) > _MAX_HEAD_BYTES:
            raise UpstreamUnreachable("The proxy did not answer.")
    status = answer.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        words = b" ".join(status[1:]).decode("latin-1")[:100]
        shown = "".join(letter if letter.isprintable() else "?" for letter in words)
        raise UpstreamUnreachable(f"The proxy refused a tunnel to {authority}: {shown}.")


def _is_this_machine(host: str) -> bool:
    """Whether `host` is the loopback, by name or by address; the unspecified address leads there too."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
