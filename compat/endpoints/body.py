"""Reading a request's body: once, bounded in size and in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gevent

from compat.config.sections import ServerSettings
from compat.endpoints.compression import check_encoding, decoded_body
from compat.errors import BadRequest, BodyTooLarge, RequestTimeout, WrongMediaType
from compat.streaming.offload import Offload
from compat.wire.envelope import Envelope, client_envelope

_JSON = "application/json"
_MAX_DIGITS = 18
"""Of a `Content-Length`; `int` refuses thousands of them."""


def read_envelope(environ: dict[str, Any], settings: ServerSettings, offload: Offload) -> Envelope:
    """The envelope of a request. Errors: those of `read_json_body`."""
    body = read_json_body(environ, settings, offload.in_thread)
    return offload.run(body, partial(client_envelope, body))


def read_json_body(
    environ: dict[str, Any], settings: ServerSettings, elsewhere: Callable[[Callable[[], bytes]], bytes] = lambda work: work()
) -> bytes:
    """The bytes of a JSON body; one that is compressed is decoded `elsewhere`, for a few bytes may stand for many.

    Errors: `WrongMediaType`, `BodyTooLarge`, `RequestTimeout`, `BadRequest`."""
    media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if media_type != _JSON and (media_type or "HTTP_ORIGIN" in environ):
        raise WrongMediaType(f"Send the body with 'Content-Type: {_JSON}', not '{media_type[:100]}'.")
    encoding = environ.get("HTTP_CONTENT_ENCODING", "")
    check_encoding(encoding)
    limit = settings.max_body_bytes
    length = _length_bytes(environ.get("CONTENT_LENGTH") or "")
    if length is not None and length > limit:
        raise BodyTooLarge(f"The body has {length} bytes; the limit is {limit} (server.max_body_bytes).")
    given: Any = environ["wsgi.input"]
    try:
        body: bytes = (
            given.read(limit + 1) if getattr(given, "is_at_hand", False) else _read_in_time(given, limit + 1, settings.body_timeout_s)
        )
    except (OSError, ValueError) as error:
        raise BadRequest(f"The body could not be read: {error}.") from error
    if len(body) > limit:
        raise BodyTooLarge(f"The body has more than {limit} bytes, the limit (server.max_body_bytes).")
    if length is not None and len(body) < length:
        raise BadRequest("The body ended before its Content-Length.")
    return elsewhere(partial(decoded_body, encoding, body, limit)) if encoding else body


def _read_in_time(given: Any, most_bytes: int, bound_s: float) -> bytes:
    with gevent.Timeout(bound_s, RequestTimeout(f"The body did not arrive within {bound_s:g} s.")):
        body: bytes = given.read(most_bytes)
    return body


def _length_bytes(written: str) -> int | None:
    """The value of `Content-Length` (RFC 9110, section 8.6: digits of ASCII only); one beyond all measure is a very long one."""
    if not written:
        return None
    if not (written.isascii() and written.isdigit()):
        raise BadRequest(f"The Content-Length {written[:40]!r} is not a number.")
    return int(written) if len(written) < _MAX_DIGITS else 10**_MAX_DIGITS
