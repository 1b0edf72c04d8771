"""What every request passes before Flask sees it: a request id, the rules for hosts and browsers, the path that was meant.

A gateway that takes any key is safe on loopback only while web pages can't use it. A page of somebody else's gives itself away by
its `Origin`, by `Sec-Fetch-Site`, or, after DNS rebinding, by the `Host` it believes to talk to; all are judged before the body is read.

Nor are other machines served without client keys. The start sees to that wherever we know the address; a server that somebody else
configured (`gunicorn -c theirs.py app:app`) listens where it likes, so that each request is asked where it comes from. Behind a proxy on
this machine every client looks local: what a proxy adds to a request is taken as a sign that it came from elsewhere. The signs are never
believed otherwise, for any client can send them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

from compat.config.sections import ServerSettings
from compat.config.settings import COMMAND, is_loopback
from compat.errors import ForbiddenClient, ForbiddenOrigin, GatewayError, MisdirectedHost
from compat.protocols import CLIENT_PROTOCOLS, protocol_at
from compat.wire.hops import HOPS_VARIABLE, hops_of

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

REQUEST_ID = "compat.request_id"
_HERE = frozenset({"127.0.0.1", "::1", ""})
"""Addresses of clients on this machine, by far the most frequent ones; a socket of the file system has none."""
_USUAL_HOSTS = ("127.0.0.1", "localhost")
"""Names of this machine, known without being parsed."""
_FORWARDED = frozenset(
    f"HTTP_{name}"
    for name in (
        *("FORWARDED", "VIA", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "X_FORWARDED_SERVER", "X_REAL_IP"),
        *("X_CLIENT_IP", "TRUE_CLIENT_IP", "CF_CONNECTING_IP"),
    )
)
"""What proxies add: RFC 7239, RFC 9110 section 7.6.3, and the customs of nginx, Apache, HAProxy, Caddy, Traefik, Cloudflare and Akamai."""
_OWN_SITES = frozenset({"", "none", "same-origin", "same-site"})
"""Values of `Sec-Fetch-Site` that are harmless; a field that is there twice comes as a list from some servers, and is none of them."""
_SANE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MODELS = "/models"
_SPOKEN = tuple(path.removeprefix("/v1") for protocol in CLIENT_PROTOCOLS.values() for path in protocol.paths)
_COLLECTIONS = (_MODELS, *(path.removeprefix("/v1") for one in CLIENT_PROTOCOLS.values() if one.is_parent for path in one.paths))
"""Paths that others are below."""
_ENDINGS = tuple(sorted((*_SPOKEN, "/model/info", _MODELS), key=len, reverse=True))
"""Of the paths of endpoints; the longer one first where one ends with another."""


def canonical_path(path: str) -> str:
    """The endpoint that a path stands for: clients join URLs, so `/v1` may be missing or doubled, or a whole URL may stand in front."""
    bare = path.rstrip("/") or "/"
    for ending in _ENDINGS:
        if bare.endswith(ending):
            return f"/v1{ending}"
    for collection in _COLLECTIONS:
        before, found, rest = bare.partition(f"{collection}/")
        if found and _is_base(before):
            return f"/v1{collection}/{rest}"
    if bare.strip("/") == "v1":
        return "/"
    return path


def _is_base(path: str) -> bool:
    """Whether `path` is nothing but what stands before an endpoint: any number of `/v1`, a whole URL in front of them."""
    parts = [part for part in path.split("/") if part]
    if parts and parts[0].lower() in {"http:", "https:"}:
        parts = parts[2:]
    return all(part == "v1" for part in parts)


class Front:
    """The outermost WSGI application. `asks_for_keys`: whether a call needs a client key now; `command`: how the program is called."""

    def __init__(
        self,
        app: WsgiApp,
        settings: ServerSettings,
        new_id: Callable[[], str],
        asks_for_keys: Callable[[], bool] = lambda: False,
        command: str = COMMAND,
    ) -> None:
        self._command = command
        self._app = app
        self._new_id = new_id
        self._asks_for_keys = asks_for_keys
        self._hosts = frozenset(host.lower() for host in (*settings.allowed_hosts, settings.host, *_USUAL_HOSTS))
        self._takes_any_address = settings.host in {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.allowed_origins)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request; a refused one is answered here."""
        asked_id = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = asked_id if _SANE_ID.fullmatch(asked_id) else self._new_id()
        environ[REQUEST_ID] = request_id
        environ["PATH_INFO"] = canonical_path(environ.get("PATH_INFO", ""))

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            headers.append(("x-request-id", request_id))
            if name := protocol_at(environ["PATH_INFO"], environ).id_header:
                headers.append((name, request_id))
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        try:
            if (address := environ.get("REMOTE_ADDR", "")) not in _HERE:
                self._check_client(address)
            if not environ.keys().isdisjoint(_FORWARDED):
                self._check_proxied()
            self._check_host(environ.get("HTTP_HOST", ""))
            self._check_origin(environ.get("HTTP_ORIGIN", ""), environ.get("HTTP_SEC_FETCH_SITE", ""), environ)
            if hops := environ.get(HOPS_VARIABLE):
                hops_of(hops)
        except GatewayError as error:
            error.request_id = request_id
            protocol = protocol_at(environ["PATH_INFO"], environ)
            body = protocol.error_body(error)
            start(
                f"{protocol.error_status(error)} Refused",
                [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")],
            )
            return [body]
        return self._app(environ, start)

    def _check_client(self, address: str) -> None:
        if not self._asks_for_keys() and not is_loopback(address.removeprefix("::ffff:")):
            raise ForbiddenClient(f"Without client keys only this machine is served: {self._command} keys add NAME.")

    def _check_proxied(self) -> None:
        if not self._asks_for_keys():
            raise ForbiddenClient(
                "The request came through a proxy, so it may be from another machine, and without client keys only this machine is "
                f"served: {self._command} keys add NAME."
            )

    def _check_host(self, host: str) -> None:
        name = host_name(host)
        if not name or name in self._hosts or is_loopback(name) or (self._takes_any_address and _is_address(name)):
            return
        raise MisdirectedHost(f"The host '{name[:100]}' is not served here. If it should be, add it to server.allowed_hosts.")

    def _check_origin(self, origin: str, site: str, environ: Environ) -> None:
        if origin and origin.lower() not in self._origins and not self._is_own(origin, environ):
            raise ForbiddenOrigin(f"Pages of '{origin[:100]}' may not use this gateway. If they should, add it to server.allowed_origins.")
        if site not in _OWN_SITES and origin.lower() not in self._origins and not self._is_navigation(environ):
            raise ForbiddenOrigin("Pages of other sites may not use this gateway.")

    def _is_own(self, origin: str, environ: Environ) -> bool:
        """Whether the page came from this very gateway: its host was judged already. By https, too, under a name that a proxy has."""
        scheme, host = environ.get("wsgi.url_scheme", "http"), environ.get("HTTP_HOST", "").lower()
        return origin.lower() == f"{scheme}://{host}" or (origin.lower() == f"https://{host}" and self._is_proxys(host_name(host)))

    def _is_proxys(self, name: str) -> bool:
        """Whether it is a name that the settings allow: who answers to it by https is the user's own."""
        return name in self._hosts and not is_loopback(name)

    def _is_navigation(self, environ: Environ) -> bool:
        """Whether a person followed a link to one of our pages, which no script can read or steer."""
        return (
            environ.get("REQUEST_METHOD") == "GET"
            and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
            and environ.get("HTTP_SEC_FETCH_DEST") == "document"
        )


def host_name(host: str) -> str:
    """The name in a `Host` header, lower case, without port, brackets and a last dot; all of it where there is more than that."""
    name = host.strip().lower()
    bare, colon, port = name.partition("]:") if name.startswith("[") else name.rpartition(":")
    if colon and (port == "" or (port.isascii() and port.isdigit())):
        return bare.removeprefix("[").rstrip(".")
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1]
    return name.rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
