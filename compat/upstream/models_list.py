"""The model list of an upstream, off the hot path, by requests.

requests makes the request; the pool of the calls carries it. So a list is asked for through the same proxy, with trust in the same
authorities, within the same bounds and with the same errors as a call, and its time-out is for the whole of it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import msgspec
import requests
import requests.adapters
import requests.structures

from compat.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from compat.protocols.upstream_errors import refusal_of
from compat.upstream.client import Upstream, field_lines, request_headers
from compat.upstream.http1 import Exchange
from compat.upstream.listing import Listing, read_listing
from compat.upstream.pool import ConnectionPool, origin_of, proxy_headers, request_target

_MAX_LIST_BYTES = 16 * 1024 * 1024


def list_models(upstream: Upstream, timeout_s: float) -> Listing:
    """What `upstream` lists. Errors: any `GatewayError`; a refused key is an `UpstreamKeyRefused`."""
    url = upstream.base_url + upstream.kind.paths["models"]
    headers = request_headers(upstream, upstream.keys[0] if upstream.keys else None)
    carrier = _Carrier(upstream.ca_file, timeout_s)
    try:
        with requests.Session() as session:
            session.trust_env = False  # an entry of ~/.netrc would take the place of the key
            session.mount("http://", carrier)
            session.mount("https://", carrier)
            answer = session.get(url, headers=headers, allow_redirects=False)
    except (UpstreamTimeout, TimeoutError) as error:
        raise UpstreamTimeout(f"{upstream.name} did not list its models within {timeout_s:g} s.") from error
    except UpstreamUnreachable as error:
        raise UpstreamUnreachable(f"{upstream.name} can't be reached at {upstream.base_url}: {error.message}") from error
    except UpstreamBroken as error:
        raise UpstreamBroken(f"{upstream.name} did not list its models: {error.message}") from error
    except (requests.RequestException, ValueError) as error:  # it could not be written down; what they say may quote the key
        raise UpstreamUnreachable(f"{upstream.name} can't be called at {upstream.base_url}: {type(error).__name__}.") from None
    if answer.status_code != 200:
        told = {name.lower(): value for name, value in answer.headers.items()}
        refusal = refusal_of(answer.status_code, told, answer.content, upstream.name)
        upstream.explain(refusal)
        raise refusal
    return _listing(upstream, answer.content)


class _Carrier(requests.adapters.BaseAdapter):
    """Carries a request of requests over a connection of its own, and reads the whole answer, within `timeout_s`."""

    def __init__(self, ca_file: str, timeout_s: float) -> None:
        super().__init__()
        self._ca_file = ca_file
        self._timeout_s = timeout_s

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        """Errors: `UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamBroken`; `TimeoutError` when the time is over."""
        deadline_s = time.monotonic() + self._timeout_s

        def left_s() -> float:
            left = deadline_s - time.monotonic()
            if left <= 0:
                raise TimeoutError("the time to answer is over")
            return left

        origin = origin_of(request.url or "")
        pool = ConnectionPool(origin, connect_s=self._timeout_s, ca_file=self._ca_file)
        own = {name.lower(): value for name, value in request.headers.items()}
        headers = {"host": origin.netloc, **proxy_headers(origin), **own}
        first = f"{request.method} {request_target(origin, request.path_url)} HTTP/1.1\r\n"
        exchange = pool.open(b"%s%s\r\n" % (first.encode("latin-1"), field_lines(headers)))
        try:
            return _answer(request, exchange, left_s)
        finally:
            exchange.close()
            pool.close()

    def close(self) -> None:
        """Nothing is kept."""


def _answer(request: requests.PreparedRequest, exchange: Exchange, left_s: Callable[[], float]) -> requests.Response:
    while (head := exchange.receive_head(left_s())) is None:
        pass
    body = bytearray()
    while (data := exchange.receive(left_s())) != b"":
        body += data or b""
        if len(body) > _MAX_LIST_BYTES:
            raise UpstreamBroken("The list is too long.")
    answer = requests.Response()
    answer.request = request
    answer.url = request.url or ""
    answer.status_code = head.status
    answer.headers = requests.structures.CaseInsensitiveDict(head.headers)
    answer.raw = io.BytesIO(body)
    return answer


def _listing(upstream: Upstream, body: bytes) -> Listing:
    try:
        rows: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"{upstream.name} sent a model list that is not JSON.") from error
    rows = rows.get("data", rows.get("models")) if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise UpstreamBroken(f"{upstream.name} sent a model list that is not a list.")
    return read_listing(rows)
