"""Requests of requests, off the hot path, over a connection of the kind that carries calls.

So they go through the same proxy, with trust in the same authorities, within the same bounds and with the same errors as a call; the
time-out is for the whole of one.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import requests
import requests.adapters
import requests.structures

from compat.errors import UpstreamBroken
from compat.upstream.client import field_lines
from compat.upstream.http1 import Exchange
from compat.upstream.pool import ConnectionPool, origin_of, proxy_headers, request_target

_MAX_BYTES = 16 * 1024 * 1024


class Carrier(requests.adapters.BaseAdapter):
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
        if len(body) > _MAX_BYTES:
            raise UpstreamBroken("The answer is too long.")
    answer = requests.Response()
    answer.request = request
    answer.url = request.url or ""
    answer.status_code = head.status
    answer.headers = requests.structures.CaseInsensitiveDict(head.headers)
    answer.raw = io.BytesIO(body)
    return answer
