"""The error tree: every class with its status, its words, and what it tells the pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compat import errors
from compat.errors import GatewayError
from compat.protocols.chat.errors import error_object

# class -> status, type, code, retryable, trips_circuit
TABLE: dict[type[GatewayError], tuple[int, str, str | None, bool, bool]] = {
    errors.GatewayError: (500, "server_error", None, False, False),
    errors.ClientError: (400, "invalid_request_error", None, False, False),
    errors.BadRequest: (400, "invalid_request_error", None, False, False),
    errors.ContextTooLong: (400, "invalid_request_error", "context_length_exceeded", False, False),
    errors.Unsupported: (400, "invalid_request_error", "unsupported_value", False, False),
    errors.GatewayLoop: (400, "invalid_request_error", "gateway_loop", False, False),
    errors.InvalidKey: (401, "invalid_request_error", "invalid_api_key", False, False),
    errors.ForbiddenOrigin: (403, "invalid_request_error", "origin_not_allowed", False, False),
    errors.ForbiddenClient: (403, "invalid_request_error", "client_not_allowed", False, False),
    errors.ModelForbidden: (403, "permission_error", "model_not_allowed", False, False),
    errors.NotFound: (404, "invalid_request_error", "unknown_url", False, False),
    errors.ModelNotFound: (404, "invalid_request_error", "model_not_found", False, False),
    errors.MethodNotAllowed: (405, "invalid_request_error", "method_not_allowed", False, False),
    errors.RequestTimeout: (408, "invalid_request_error", "request_timeout", False, False),
    errors.BodyTooLarge: (413, "invalid_request_error", "request_too_large", False, False),
    errors.WrongMediaType: (415, "invalid_request_error", "unsupported_media_type", False, False),
    errors.MisdirectedHost: (421, "invalid_request_error", "host_not_allowed", False, False),
    errors.TooManyRequests: (429, "rate_limit_error", "rate_limit_exceeded", False, False),
    errors.GatewayLoop: (400, "invalid_request_error", "gateway_loop", False, False),
    errors.UpstreamError: (502, "upstream_error", None, False, False),
    errors.UpstreamRefusal: (400, "invalid_request_error", None, False, False),
    errors.UpstreamKeyRefused: (401, "authentication_error", "upstream_key_refused", False, False),
    errors.UpstreamOutOfCredit: (402, "insufficient_quota", "insufficient_quota", False, False),
    errors.UpstreamBusy: (409, "invalid_request_error", None, True, False),
    errors.UpstreamRateLimit: (429, "rate_limit_error", "rate_limit_exceeded", True, False),
    errors.UpstreamFault: (502, "upstream_error", "upstream_fault", True, True),
    errors.UpstreamFailure: (502, "server_error", "server_error", True, True),
    errors.UpstreamOverloaded: (503, "overloaded_error", "server_error", True, True),
    errors.UpstreamUnreachable: (502, "upstream_error", "upstream_unreachable", True, True),
    errors.UpstreamTimeout: (504, "timeout_error", "upstream_timeout", True, True),
    errors.UpstreamBroken: (502, "upstream_error", "upstream_broken", True, True),
    errors.NoUpstream: (503, "server_error", "no_upstream", False, False),
    errors.ShuttingDown: (503, "server_error", "shutting_down", False, False),
    errors.InternalError: (500, "server_error", "internal_error", False, False),
}
CLASSES = pytest.mark.parametrize("error_class", TABLE, ids=lambda error_class: error_class.__name__)


def tree(root: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_every_class_of_the_tree_is_in_the_table() -> None:
    ours = {error_class for error_class in tree(GatewayError) if error_class.__module__ == "compat.errors"}
    assert ours <= set(TABLE)


@CLASSES
def test_a_class_carries_its_own_data(error_class: type[GatewayError]) -> None:
    error = error_class("words")
    assert (error.status, error.type, error.code, error.retryable, error.trips_circuit) == TABLE[error_class]


def test_only_an_upstreams_fault_trips_the_circuit_and_all_that_trips_is_retryable() -> None:
    assert {error_class for error_class, row in TABLE.items() if row[4]} == set(tree(errors.UpstreamFault))
    assert all(row[3] for row in TABLE.values() if row[4])


def test_one_error_may_differ_from_its_class() -> None:
    error = errors.UpstreamRefusal("w", status=418, type="teapot", code="short", retry_after_s=1.5, headers=(("allow", "GET"),))
    assert (error.status, error.type, error.code) == (418, "teapot", "short")
    assert (error.retry_after_s, error.headers) == (1.5, (("allow", "GET"),))
    assert (errors.UpstreamRefusal.status, errors.UpstreamRefusal.type, errors.UpstreamRefusal.code) == (400, "invalid_request_error", None)


def test_the_words_are_those_of_the_exception() -> None:
    assert str(errors.BadRequest("the words")) == "the words"
    assert errors.BadRequest("the words").message == "the words"


def test_a_secret_is_taken_out_of_every_word() -> None:
    error = errors.UpstreamRefusal("up: no KEY, KEY", type="KEY", param="a.KEY", code="x_KEY")
    error.redact(lambda text: text.replace("KEY", "***"))
    assert error_object(error) == {"message": "up: no ***, ***", "type": "***", "param": "a.***", "code": "x_***"}
    assert "KEY" not in repr(error)
    bare = errors.UpstreamRefusal("no KEY")
    bare.redact(lambda text: text.replace("KEY", "***"))
    assert (bare.message, bare.param, bare.code) == ("no ***", None, None)


def test_a_client_that_left_is_no_error_to_be_shown() -> None:
    assert not issubclass(errors.ClientGone, GatewayError)


def test_frames_are_forgotten_along_all_causes_also_where_these_go_in_a_circle() -> None:
    try:
        try:
            raise OSError("refused")
        except OSError as cause:
            raise errors.UpstreamUnreachable("refused") from cause
    except GatewayError as caught:
        error = caught
    cause = error.__cause__
    assert cause is not None
    cause.__context__ = error
    error.forget_frames()
    assert (error.__traceback__, cause.__traceback__) == (None, None)
