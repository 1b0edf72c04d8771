"""Errors as clients of the Responses protocol read them: OpenAI's envelope before the stream, a `response.failed` within it.

The codes are those that Codex acts on (openai/codex, `codex-api/src/sse/responses.rs`; measured with 0.171):

    context_length_exceeded    ends the turn, or compacts
    rate_limit_exceeded        waits for as long as the message says ("try again in 1.5s"), then asks again
    insufficient_quota         ends the turn
    invalid_prompt             ends the turn, and shows the message
    server_error               asks again, up to five times

`server_is_overloaded` is not among them: Codex gives up on it at once, and another attempt may well succeed. Nor are statuses that it asks
again for in vain: a model that does not exist is a 400, as at OpenAI's; an upstream that has no room now is a 503, for Codex shows nothing
of a 429.
"""

from __future__ import annotations

from compat import jsonio
from compat.errors import (
    ClientError,
    ContextTooLong,
    GatewayError,
    ModelNotFound,
    TooManyRequests,
    UpstreamOutOfCredit,
    UpstreamRateLimit,
    UpstreamRefusal,
)
from compat.protocols.client_protocol import Identity
from compat.protocols.responses.items import Place, frame
from compat.protocols.responses.response_object import ResponseHead

_STATUSES: tuple[tuple[type[GatewayError], int], ...] = ((ModelNotFound, 400), (UpstreamOutOfCredit, 429), (UpstreamRateLimit, 503))
_CODES: tuple[tuple[type[GatewayError], str], ...] = (
    (ContextTooLong, "context_length_exceeded"),
    (UpstreamOutOfCredit, "insufficient_quota"),
    (TooManyRequests, "rate_limit_exceeded"),
    (UpstreamRateLimit, "rate_limit_exceeded"),
    (ClientError, "invalid_prompt"),
    (UpstreamRefusal, "invalid_prompt"),
)
_SERVER_ERROR = "server_error"


def status_of(error: GatewayError) -> int:
    """The status of the answer."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), error.status)


def headers_of(error: GatewayError) -> tuple[tuple[str, str], ...]:
    """What the answer's head says besides: OpenAI's SDKs try a 429 again unless it says not to."""
    return (("x-should-retry", "false"),) if isinstance(error, UpstreamOutOfCredit) else ()


def error_body(error: GatewayError) -> bytes:
    """The body of an error answer: the upstream's own where it speaks this protocol."""
    if error.verbatim:
        return error.verbatim
    return jsonio.encode({"error": {"message": _message(error), "type": error.type, "param": error.param, "code": error.code}})


def error_frame(error: GatewayError) -> bytes:
    """The event that ends a stream which can't be carried on."""
    return _failed(error, ResponseHead.of("", 0, "", {}), Place())


def error_end(error: GatewayError, identity: Identity) -> bytes:
    """The same for an answer that was begun, with what it says so far."""
    place = identity.place if isinstance(identity.place, Place) else Place()
    return _failed(error, ResponseHead.of(identity.answer_id, identity.created_s, identity.model, place.echoed), place)


def _failed(error: GatewayError, head: ResponseHead, place: Place) -> bytes:
    told = {"code": _code(error), "message": _message(error)}
    return frame("response.failed", {"response": head.encoded("failed", place.output, error=told)}, place.number)


def _code(error: GatewayError) -> str:
    """The first class that fits says it. What may succeed in another attempt is no fault of the request."""
    found = next((code for kind, code in _CODES if isinstance(error, kind)), _SERVER_ERROR)
    return _SERVER_ERROR if found == "invalid_prompt" and error.retryable else found


def _message(error: GatewayError) -> str:
    """Its words, with how long to wait where Codex reads that."""
    wait_s = error.retry_after_s
    if _code(error) != "rate_limit_exceeded" or wait_s is None or "try again in" in error.message:
        return error.message
    return f"{error.message} Please try again in {round(wait_s, 3):g}s."
