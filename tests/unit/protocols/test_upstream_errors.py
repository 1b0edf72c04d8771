"""What a refused call means: every status, every shape of a body, every spelling of a wait."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat import errors
from compat.errors import GatewayError
from compat.protocols.chat.errors import error_body, error_object
from compat.protocols.upstream_errors import MAX_MESSAGE_CHARS, error_fields, event_error, refusal_of, retry_after_s
from tests.cases.refusals import BODIES, DATE, NOT_OVERFLOWS, OVERFLOWS, WAITS


def refused(status: int, message: str = "No.", **fields: Any) -> GatewayError:
    return refusal_of(status, {}, json.dumps({"error": {"message": message, **fields}}).encode(), "fake")


@pytest.mark.parametrize(
    ("status", "error_class", "type_", "code"),
    [
        (400, errors.UpstreamRefusal, "invalid_request_error", None),
        (401, errors.UpstreamKeyRefused, "authentication_error", "upstream_key_refused"),
        (402, errors.UpstreamOutOfCredit, "insufficient_quota", "insufficient_quota"),
        (403, errors.UpstreamKeyRefused, "authentication_error", "upstream_key_refused"),
        (404, errors.UpstreamRefusal, "invalid_request_error", None),
        (408, errors.UpstreamBusy, "invalid_request_error", None),
        (409, errors.UpstreamBusy, "invalid_request_error", None),
        (413, errors.UpstreamRefusal, "invalid_request_error", None),
        (422, errors.UpstreamRefusal, "invalid_request_error", None),
        (425, errors.UpstreamBusy, "invalid_request_error", None),
        (429, errors.UpstreamRateLimit, "rate_limit_error", "rate_limit_exceeded"),
        (499, errors.UpstreamRefusal, "invalid_request_error", None),
        (500, errors.UpstreamFailure, "server_error", "server_error"),
        (502, errors.UpstreamFailure, "server_error", "server_error"),
        (503, errors.UpstreamOverloaded, "overloaded_error", "server_error"),
        (504, errors.UpstreamFailure, "server_error", "server_error"),
        (529, errors.UpstreamOverloaded, "overloaded_error", "server_error"),
    ],
)
def test_a_status_has_its_class_and_is_kept(status: int, error_class: type[GatewayError], type_: str, code: str | None) -> None:
    error = refused(status)
    assert type(error) is error_class
    assert (error.status, error.type, error.code, error.message) == (status, type_, code, "fake: No.")


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("code", ["invalid_api_key", None, 17])
def test_a_refused_key_never_reads_as_one_of_the_clients_own(status: int, code: Any) -> None:
    error = refused(status, "Incorrect API key provided.", code=code, type="invalid_request_error")
    assert (type(error), error.code) == (errors.UpstreamKeyRefused, "upstream_key_refused")


def test_a_refused_key_in_a_running_stream_is_one_by_its_code_alone() -> None:
    error = event_error({"message": "m", "code": "invalid_api_key"}, "fake")
    assert (type(error), error.status, error.code) == (errors.UpstreamKeyRefused, 401, "upstream_key_refused")


def test_the_upstreams_own_words_win() -> None:
    error = refused(400, "No.", type="their_type", code="their_code", param="tools[0]")
    assert error_object(error) == {"message": "fake: No.", "type": "their_type", "param": "tools[0]", "code": "their_code"}


@pytest.mark.parametrize(
    "fields", [{"type": None}, {"type": ""}, {"type": 5}, {"type": "error"}, {"code": 17, "param": ["x"]}, {"param": None}]
)
def test_words_of_a_wrong_type_are_passed_over(fields: dict[str, Any]) -> None:
    error = refused(400, "No.", **fields)
    assert error_object(error) == {"message": "fake: No.", "type": "invalid_request_error", "param": None, "code": None}


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 399])
def test_a_redirect_is_not_followed_and_its_target_not_told(status: int) -> None:
    error = refusal_of(status, {"location": "http://elsewhere.example/"}, b"elsewhere.example", "fake")
    assert type(error) is errors.UpstreamBroken
    assert f"status {status}" in error.message
    assert "elsewhere" not in error.message


@pytest.mark.parametrize("status", [201, 202, 204, 206])
def test_a_success_that_is_no_answer_is_the_upstreams_fault(status: int) -> None:
    error = refusal_of(status, {}, b"", "fake")
    assert isinstance(error, errors.UpstreamBroken)
    assert error.status == 502


@pytest.mark.parametrize("words", OVERFLOWS)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_full_context_is_told_by_its_code(words: str, status: int) -> None:
    error = refused(status, words)
    assert type(error) is errors.ContextTooLong
    assert (error.status, error.code, error.message) == (400, "context_length_exceeded", f"fake: {words}")


@pytest.mark.parametrize(
    ("status", "words", "fields", "kind"),
    [
        (400, "Your credit balance is too low to access the Anthropic API.", {}, errors.UpstreamOutOfCredit),
        (400, "Insufficient Balance", {}, errors.UpstreamOutOfCredit),
        (429, "You exceeded your current quota", {"code": "insufficient_quota"}, errors.UpstreamOutOfCredit),
        (429, "You exceeded your current quota", {"type": "insufficient_quota"}, errors.UpstreamOutOfCredit),
        (429, "You exceeded your current quota. Please retry in 3s.", {}, errors.UpstreamRateLimit),
        (400, "API key not valid. Please pass a valid API key.", {}, errors.UpstreamKeyRefused),
        (400, "Incorrect API key provided", {}, errors.UpstreamKeyRefused),
        (400, "This organization has been disabled.", {}, errors.UpstreamKeyRefused),
        (422, "Insufficient credits in the text", {}, errors.UpstreamRefusal),
    ],
)
def test_what_the_account_is_to_blame_for_is_told_from_what_the_request_is(
    status: int, words: str, fields: dict[str, Any], kind: type[GatewayError]
) -> None:
    error = refused(status, words, **fields)
    assert (type(error), error.status, error.message) == (kind, status, f"fake: {words}")


@pytest.mark.parametrize("words", NOT_OVERFLOWS)
def test_other_words_are_no_full_context(words: str) -> None:
    assert type(refused(400, words)) is errors.UpstreamRefusal


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_a_status_that_says_something_else_is_believed(status: int) -> None:
    assert refused(status, OVERFLOWS[0]).status == status


@pytest.mark.parametrize("status", [400, 404, 429])
def test_the_code_alone_tells_a_full_context(status: int) -> None:
    assert type(refused(status, "Too big", code="context_length_exceeded")) is errors.ContextTooLong


@pytest.mark.parametrize(("body", "fields"), BODIES, ids=[repr(body[:50]) for body, _ in BODIES])
def test_an_error_object_is_found_in_any_body(body: bytes, fields: dict[str, Any]) -> None:
    assert error_fields(body) == fields


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":null,"message":"words"}', "words"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"errors":["Not Found"]}', "Not Found"),
        (b'{"errors":[{"message":"first"},{"message":"second"}]}', "first"),
        (b'{"detail":[{"type":"missing","loc":["body","model"],"msg":"Field required"}]}', "model: Field required"),
        (b'{"detail":[{"loc":["body","messages",0,"x"],"msg":"Extra"},{"msg":"more"}]}', "messages.0.x: Extra"),
        (b'{"detail":[{"loc":["body"],"msg":"Odd"}]}', "Odd"),
        (b'{"detail":{"msg":"Odd","loc":5}}', "Odd"),
        (b'{"detail":{"reason":"odd"}}', "{'reason': 'odd'}"),
        (b'{"message":"","detail":"words"}', "words"),
    ],
)
def test_an_upstreams_words_are_kept_in_other_shapes_too(body: bytes, message: str) -> None:
    assert refusal_of(404, {}, body, "fake").message == f"fake: {message}"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error":{}}', b'{"error":{"message":null}}', b'{"error":{"message":" \\n"}}', b"<p></p>"])
def test_an_error_without_words_is_told_by_its_status(body: bytes) -> None:
    assert refusal_of(418, {}, body, "fake").message == "fake: status 418 without a message"


@pytest.mark.parametrize("piece", ["<", "<script", "<style ", "<a ", "<script></"])
def test_a_page_of_tags_without_an_end_takes_linear_time(piece: str) -> None:
    body = (piece * 64 * 1024)[: 64 * 1024].encode()
    start = time.process_time()
    error_fields(body)
    assert time.process_time() - start < 0.5


def test_scripts_and_styles_are_no_words() -> None:
    body = b"<html><style>a<b{}</style><script src='x'>if (a < b) { c() }</SCRIPT><p>Bad\n<b>gateway</b> <script>d()"
    assert error_fields(body) == {"message": "Bad gateway d()"}


def test_words_are_bounded_and_hold_no_control_characters() -> None:
    assert refused(400, "a\x1b[31m\x00b\r\u2028c\nd\x9be").message == "fake: a [31m b  c\nd e"
    assert len(refused(400, "a" * 10_000).message) == MAX_MESSAGE_CHARS + len("fake: ")
    assert refused(400, {"detail": [1]}).message == "fake: {'detail': [1]}"


@given(st.binary(max_size=200), st.integers(200, 999))
def test_no_body_breaks_it(body: bytes, status: int) -> None:
    error = refusal_of(status, {}, body, "fake")
    assert error.message.startswith("fake")
    json.loads(error_body(error))


@pytest.mark.parametrize(("headers", "wait_s"), WAITS, ids=[str(headers)[:70] for headers, _ in WAITS])
def test_a_wait_is_read_in_every_spelling(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s
    assert refusal_of(429, headers, b"{}", "fake").retry_after_s == wait_s


@pytest.mark.parametrize("headers", [{"retry-after-ms": "nan"}, {"retry-after-ms": "NaN", "retry-after": "5"}])
def test_a_wait_is_a_number(headers: dict[str, str]) -> None:
    wait_s = retry_after_s(headers)
    assert wait_s is None or not math.isnan(wait_s)


def test_a_date_beyond_all_calendars_is_no_wait() -> None:
    assert retry_after_s({"retry-after": f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", "date": DATE}) is None


def test_a_garbled_wait_does_not_hide_a_sound_one() -> None:
    assert retry_after_s({"retry-after-ms": "soon", "retry-after": "5"}) == 5.0


@pytest.mark.parametrize(
    ("error", "error_class", "status", "message"),
    [
        ({"message": "m"}, errors.UpstreamFailure, 500, "m"),
        ({"message": "m", "type": "overloaded_error"}, errors.UpstreamOverloaded, 529, "m"),
        ({"message": "m", "type": "rate_limit_error"}, errors.UpstreamRateLimit, 429, "m"),
        ({"message": "m", "type": "invalid_request_error"}, errors.UpstreamRefusal, 400, "m"),
        ({"message": "m", "type": "authentication_error"}, errors.UpstreamKeyRefused, 401, "m"),
        ({"message": "m", "type": "permission_error"}, errors.UpstreamKeyRefused, 403, "m"),
        ({"message": "m", "type": "not_found_error"}, errors.UpstreamRefusal, 404, "m"),
        ({"message": "m", "type": "request_too_large"}, errors.UpstreamRefusal, 413, "m"),
        ({"message": "m", "type": "timeout_error"}, errors.UpstreamFailure, 504, "m"),
        ({"message": "m", "type": "api_error"}, errors.UpstreamFailure, 500, "m"),
        ({"message": "m", "type": "unheard_of"}, errors.UpstreamFailure, 500, "m"),
        ({"message": "m", "code": 429}, errors.UpstreamRateLimit, 429, "m"),
        ({"message": "m", "code": 502, "type": "invalid_request_error"}, errors.UpstreamFailure, 502, "m"),
        ({"message": "m", "code": 17}, errors.UpstreamFailure, 500, "m"),
        ({"message": "m", "code": 600}, errors.UpstreamFailure, 500, "m"),
        ({"message": "m", "code": "rate_limit_exceeded"}, errors.UpstreamRateLimit, 429, "m"),
        ({"message": "m", "type": ["x"], "code": {"y": 1}}, errors.UpstreamFailure, 500, "m"),
        ({"message": OVERFLOWS[0], "code": 400}, errors.ContextTooLong, 400, OVERFLOWS[0]),
        ({}, errors.UpstreamFailure, 500, "an error without a message"),
        ("plain words", errors.UpstreamFailure, 500, "plain words"),
        (["a"], errors.UpstreamFailure, 500, "['a']"),
        (None, errors.UpstreamFailure, 500, "None"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_error_inside_a_200_has_the_class_that_its_words_mean(
    error: Any, error_class: type[GatewayError], status: int, message: str
) -> None:
    found = event_error(error, "fake")
    assert type(found) is error_class
    assert (found.status, found.message, found.retry_after_s) == (status, f"fake: {message}", None)
