"""Errors in the shape of the Messages protocol."""

from __future__ import annotations

import json

import pytest

from compat.errors import (
    BodyTooLarge,
    ContextTooLong,
    GatewayError,
    InternalError,
    InvalidKey,
    MethodNotAllowed,
    ModelNotFound,
    NoUpstream,
    TooManyRequests,
    UpstreamBroken,
    UpstreamKeyRefused,
    UpstreamOutOfCredit,
    UpstreamOverloaded,
    UpstreamRefusal,
    UpstreamTimeout,
)
from compat.protocols.messages.errors import error_body, error_frame, headers_of, status_of
from tests.cases.messages_client import events_of
from tests.cases.messages_overflow import OVERFLOWS


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (UpstreamRefusal("x"), 400, "invalid_request_error"),
        (InvalidKey("x"), 401, "authentication_error"),
        (UpstreamKeyRefused("x"), 401, "authentication_error"),
        (UpstreamOutOfCredit("x"), 402, "billing_error"),
        (UpstreamKeyRefused("x", status=403), 403, "permission_error"),
        (ModelNotFound("x"), 404, "not_found_error"),
        (MethodNotAllowed("x"), 405, "invalid_request_error"),
        (BodyTooLarge("x"), 413, "request_too_large"),
        (TooManyRequests("x"), 429, "rate_limit_error"),
        (InternalError("x"), 500, "api_error"),
        (UpstreamBroken("x"), 500, "api_error"),
        (NoUpstream("x"), 529, "overloaded_error"),
        (UpstreamOverloaded("x", status=529), 529, "overloaded_error"),
        (UpstreamTimeout("x"), 504, "timeout_error"),
    ],
)
def test_the_status_decides_the_type(error: GatewayError, status: int, kind: str) -> None:
    assert status_of(error) == status
    assert headers_of(error) == ((("x-should-retry", "false"),) if status == 401 else ())
    assert json.loads(error_body(error)) == {"type": "error", "error": {"type": kind, "message": "x"}}
    assert events_of(error_frame(error)) == [{"type": "error", "error": {"type": kind, "message": "x"}}]


def test_an_overflow_is_reported_in_words_that_clients_know() -> None:
    words, told = OVERFLOWS[3]
    assert json.loads(error_body(ContextTooLong(f"fake: {words}")))["error"] == {"type": "invalid_request_error", "message": told}


def test_an_upstream_of_the_same_protocol_speaks_for_itself_until_we_add_to_its_words() -> None:
    error = UpstreamRefusal("fake: no")
    error.verbatim = b'{"error":{"message":"no, sk-secret"}}'
    error.redact(lambda text: text.replace("sk-secret", "[secret]"))
    assert error_body(error) == b'{"error":{"message":"no, [secret]"}}'
    error.append("Or so.")
    assert json.loads(error_body(error))["error"]["message"] == "fake: no Or so."
