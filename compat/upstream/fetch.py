"""GET, off the hot path, over a connection of the kind that carries calls.

So it goes through the same proxy, with trust in the same authorities, within the same bounds and with the same errors as a call; the
time-out is for the whole of it. requests only writes the URL and its query.
"""

from __future__ import annotations

from collections.abc import Mapping

import requests

from compat.errors import UpstreamBroken, UpstreamTimeout
from compat.upstream.client import field_lines
from compat.upstream.http1 import Head
from compat.upstream.pool import ConnectionPool, countdown, origin_of, proxy_headers, request_target

_MAX_BYTES = 16 * 1024 * 1024


def fetch(
    url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None, ca_file: str = ""
) -> tuple[Head, bytes]:
    """The answer to a GET, whose redirects are not followed.

    Errors: `UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamBroken`; `requests.RequestException` and `ValueError` for a request that
    can't be written down, in words that may hold a key.
    """
    left_s = countdown(timeout_s)
    request = requests.Request("GET", url, headers=headers, params=query).prepare()
    origin = origin_of(request.url or "")
    own = {name.lower(): value for name, value in request.headers.items()}
    lines = field_lines({"host": origin.netloc, **proxy_headers(origin), **own})
    pool = ConnectionPool(origin, connect_s=timeout_s, ca_file=ca_file)
    exchange = pool.open(b"GET %s HTTP/1.1\r\n%s\r\n" % (request_target(origin, request.path_url).encode("latin-1"), lines))
    body = bytearray()
    try:
        while (head := exchange.receive_head(left_s())) is None:
            pass
        while (data := exchange.receive(left_s())) != b"":
            body += data or b""
            if len(body) > _MAX_BYTES:
                raise UpstreamBroken("The answer is too long.")
    except TimeoutError as error:
        raise UpstreamTimeout(f"No answer within {timeout_s:g} s.") from error
    finally:
        exchange.close()
        pool.close()
    return head, bytes(body)
