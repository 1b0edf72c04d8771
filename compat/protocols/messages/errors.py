"""Errors as clients of the Messages protocol read them: `{"type": "error", "error": {"type", "message"}}`.

The status decides the type, and a few statuses are others here: 529 stands for an upstream that has no room, 500 for one that broke.
A stream that can't be carried on ends with an `error` event, and without a `message_stop`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat import jsonio
from compat.errors import ContextTooLong, GatewayError
from compat.protocols.messages.overflow import sentence

UNAUTHORIZED = 401
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES: Mapping[int, int] = {502: 500, 503: 529}


def status_of(error: GatewayError) -> int:
    """The status of the answer."""
    return _STATUSES.get(error.status, error.status)


def headers_of(error: GatewayError) -> tuple[tuple[str, str], ...]:
    """What the answer's head says besides. Claude Code tries a refused key again for three minutes unless the answer says not to."""
    return (("x-should-retry", "false"),) if status_of(error) == UNAUTHORIZED else ()


def error_fields(error: GatewayError) -> dict[str, str]:
    """The error object."""
    status = status_of(error)
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": kind, "message": sentence(error.message) if isinstance(error, ContextTooLong) else error.message}


def error_body(error: GatewayError) -> bytes:
    """The body of an error answer: the upstream's own where it speaks this protocol."""
    return error.verbatim or jsonio.encode(_document(error))


def error_frame(error: GatewayError) -> bytes:
    """The event that ends a stream which can't be carried on."""
    return b"event: error\ndata: " + jsonio.encode(_document(error)) + b"\n\n"


def _document(error: GatewayError) -> dict[str, Any]:
    return {"type": "error", "error": error_fields(error), **({"request_id": error.request_id} if error.request_id else {})}
