"""Errors in the words that Codex and OpenAI's SDKs act on."""

from __future__ import annotations

import json

import pytest

from compat.errors import (
    BadRequest,
    ContextTooLong,
    GatewayError,
    InternalError,
    InvalidKey,
    ModelNotFound,
    NoUpstream,
    TooManyRequests,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamOutOfCredit,
    UpstreamOverloaded,
    UpstreamRateLimit,
    UpstreamRefusal,
)
from compat.protocols.responses.client_errors import error_body, error_frame, headers_of, status_of
from tests.cases.responses_client import FIELDS, events_of


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextTooLong("x"), 400, "context_length_exceeded"),
        (UpstreamOutOfCredit("x"), 429, "insufficient_quota"),
        (TooManyRequests("x"), 429, "rate_limit_exceeded"),
        (UpstreamRateLimit("x"), 503, "rate_limit_exceeded"),
        (BadRequest("x"), 400, "invalid_prompt"),
        (ModelNotFound("x"), 400, "invalid_prompt"),
        (InvalidKey("x"), 401, "invalid_prompt"),
        (UpstreamRefusal("x", status=422), 422, "invalid_prompt"),
        (UpstreamBusy("x"), 409, "server_error"),
        (UpstreamOverloaded("x"), 503, "server_error"),
        (UpstreamBroken("x"), 502, "server_error"),
        (NoUpstream("x"), 503, "server_error"),
        (InternalError("x"), 500, "server_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else str(value),
)
def test_the_class_decides_status_and_code(error: GatewayError, status: int, code: str) -> None:
    assert status_of(error) == status
    event = events_of(error_frame(error))[0]
    response = event["response"]
    assert (event["type"], response["status"], response["error"]) == ("response.failed", "failed", {"code": code, "message": "x"})
    assert response.keys() >= FIELDS
    body = json.loads(error_body(error))
    assert body == {"error": {"message": "x", "type": error.type, "param": None, "code": error.code}}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UpstreamRateLimit("No room.", retry_after_s=1.5), "No room. Please try again in 1.5s."),
        (TooManyRequests("No room.", retry_after_s=20), "No room. Please try again in 20s."),
        (UpstreamRateLimit("Please try again in 2s.", retry_after_s=3), "Please try again in 2s."),
        (UpstreamOverloaded("No room.", retry_after_s=1.5), "No room."),
    ],
)
def test_how_long_to_wait_is_in_the_message_where_codex_reads_it(error: GatewayError, message: str) -> None:
    assert json.loads(error_body(error))["error"]["message"] == message
    assert events_of(error_frame(error))[0]["response"]["error"]["message"] == message


def test_an_upstream_of_the_same_protocol_speaks_for_itself_until_we_add_to_its_words() -> None:
    error = UpstreamRefusal("x")
    error.verbatim = b'{"error": {"message": "theirs"}}'
    assert error_body(error) == error.verbatim
    error.append("Ours.")
    assert json.loads(error_body(error))["error"]["message"] == "x Ours."


def test_an_account_without_credit_is_not_asked_again() -> None:
    assert headers_of(UpstreamOutOfCredit("x")) == (("x-should-retry", "false"),)
    assert headers_of(TooManyRequests("x")) == ()
