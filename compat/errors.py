"""Every error a client can meet, as a tree whose classes carry their own data.

Nothing outside this file decides what an error means: a call reads the class attributes, and a client's protocol writes them in its own
shape (`ClientProtocol.error_body`). Foreign exceptions (sockets, TLS, parsers) are mapped to these in one place, `compat/upstream/`.

    GatewayError
    ├── ClientError                 the request can't be served as it is
    │   ├── BadRequest              400
    │   │   ├── GatewayLoop         400 gateway_loop: gateways that call each other in a circle
    │   │   ├── ContextTooLong      400 context_length_exceeded
    │   │   └── Unsupported         400 content or a parameter that has no counterpart
    │   ├── InvalidKey              401
    │   ├── ForbiddenOrigin         403
    │   ├── ForbiddenClient         403 of another machine, and there are no keys to know it by
    │   ├── ModelForbidden          403 a model that the client's key may not call
    │   ├── NotFound                404
    │   │   └── ModelNotFound       404 model_not_found
    │   ├── MethodNotAllowed        405
    │   ├── RequestTimeout          408 the body came too slowly
    │   ├── BodyTooLarge            413
    │   ├── WrongMediaType          415
    │   ├── MisdirectedHost         421
    │   └── TooManyRequests         429 a limit of this gateway
    ├── UpstreamError               the upstream's doing
    │   ├── UpstreamRefusal         4xx: its own words and status
    │   │   ├── UpstreamKeyRefused  401, 403, or a 400 that says so
    │   │   ├── UpstreamOutOfCredit 402, or a 400 or 429 that says so
    │   │   ├── UpstreamBusy        408, 409, 425: another attempt may succeed
    │   │   └── UpstreamRateLimit   429
    │   └── UpstreamFault           trips the circuit
    │       ├── UpstreamFailure     5xx
    │       ├── UpstreamOverloaded  503, 529, or an overload event inside a 200
    │       ├── UpstreamUnreachable DNS, refused, reset before an answer, TLS
    │       ├── UpstreamTimeout     no first byte, or silence for too long
    │       └── UpstreamBroken      cut, garbled or incomplete answer
    ├── NoUpstream                  503 nothing can serve this model just now
    ├── ShuttingDown                503
    └── InternalError               500 our own fault
    ClientGone                      the client hung up; never rendered, never a failure of the upstream
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

MAX_RETRY_AFTER_S = 30
"""The longest wait a client is asked for: Kilo Code obeys `retry-after` without a cap of its own."""


class GatewayError(Exception):
    """An error that can be shown to a client.

    `status` is the HTTP status for the client, `type` and `code` are machine-readable words, as OpenAI has them.
    `retryable`: another attempt may succeed; `trips_circuit`: the circuit counts it. `verbatim` is the upstream's own body, for clients
    that speak its protocol.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    retryable: ClassVar[bool] = False
    trips_circuit: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers = headers
        self.verbatim = b""
        self.request_id = ""
        if status is not None:
            self.status = status
        if type is not None:
            self.type = type
        if code is not None:
            self.code = code

    def redact(self, redacted: Callable[[str], str]) -> None:
        """Pass all text of the upstream's through `redacted`, which takes its credentials out."""
        self.message = redacted(self.message)
        self.args = (self.message,)
        self.type = redacted(self.type)
        self.param = redacted(self.param) if self.param else self.param
        self.code = redacted(self.code) if self.code else self.code
        self.verbatim = redacted(self.verbatim.decode("utf-8", "replace")).encode() if self.verbatim else b""

    def append(self, sentence: str) -> None:
        """Add a sentence of our own to the message, which is the upstream's own no longer."""
        self.verbatim = b""
        self.message = f"{self.message} {sentence}"
        self.args = (self.message,)

    def forget_frames(self) -> None:
        """Drop the frames that this error and its causes went through: nobody reads them, and each holds what its call held."""
        error: BaseException | None = self
        seen: set[int] = set()
        while error is not None and id(error) not in seen:  # causes can be made to go in a circle
            seen.add(id(error))
            error.__traceback__ = None
            error = error.__cause__ or error.__context__


class ClientError(GatewayError):
    status = 400
    type = "invalid_request_error"


class BadRequest(ClientError):
    pass


class ContextTooLong(BadRequest):
    """Kilo Code compacts the conversation when it sees this code."""

    code = "context_length_exceeded"


class GatewayLoop(BadRequest):
    """A 4xx, for every gateway on the way would try a 5xx again."""

    code = "gateway_loop"


class Unsupported(BadRequest):
    code = "unsupported_value"


class InvalidKey(ClientError):
    status = 401
    code = "invalid_api_key"


class ForbiddenOrigin(ClientError):
    status = 403
    code = "origin_not_allowed"


class ForbiddenClient(ClientError):
    status = 403
    code = "client_not_allowed"


class ModelForbidden(ClientError):
    status = 403
    type = "permission_error"
    code = "model_not_allowed"


class NotFound(ClientError):
    status = 404
    code = "unknown_url"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(ClientError):
    status = 405
    code = "method_not_allowed"


class RequestTimeout(ClientError):
    status = 408
    code = "request_timeout"


class BodyTooLarge(ClientError):
    status = 413
    code = "request_too_large"


class WrongMediaType(ClientError):
    status = 415
    code = "unsupported_media_type"


class MisdirectedHost(ClientError):
    status = 421
    code = "host_not_allowed"


class TooManyRequests(ClientError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class UpstreamError(GatewayError):
    """An answer, or the lack of one, that the upstream is responsible for."""

    status = 502
    type = "upstream_error"


class UpstreamRefusal(UpstreamError):
    """The upstream refused this request: its status and words are kept."""

    status = 400
    type = "invalid_request_error"


class UpstreamKeyRefused(UpstreamRefusal):
    status = 401
    type = "authentication_error"
    code = "upstream_key_refused"


class UpstreamOutOfCredit(UpstreamRefusal):
    """Its account has no money left, or its plan no quota: waiting does not help, another upstream or key does."""

    status = 402
    type = "insufficient_quota"
    code = "insufficient_quota"


class UpstreamBusy(UpstreamRefusal):
    status = 409
    retryable = True


class UpstreamRateLimit(UpstreamRefusal):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True


class UpstreamFault(UpstreamError):
    """A fault of the upstream's machinery: another attempt may succeed, and the circuit counts it."""

    code = "upstream_fault"
    retryable = True
    trips_circuit = True


class UpstreamFailure(UpstreamFault):
    type = "server_error"
    code = "server_error"


class UpstreamOverloaded(UpstreamFault):
    status = 503
    type = "overloaded_error"
    code = "server_error"


class UpstreamUnreachable(UpstreamFault):
    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamFault):
    status = 504
    type = "timeout_error"
    code = "upstream_timeout"


class UpstreamBroken(UpstreamFault):
    code = "upstream_broken"


class NoUpstream(GatewayError):
    status = 503
    type = "server_error"
    code = "no_upstream"


class ShuttingDown(GatewayError):
    status = 503
    type = "server_error"
    code = "shutting_down"


class InternalError(GatewayError):
    code = "internal_error"


class ClientGone(Exception):
    """The client closed its connection. Nothing is answered, nothing is held against the upstream."""
