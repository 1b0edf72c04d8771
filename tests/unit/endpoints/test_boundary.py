"""The error boundary: whatever leaves a view is an answer in OpenAI's shape, and our own faults tell the client nothing of their inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import flask
import pytest
import werkzeug.exceptions
from werkzeug.test import Client

from compat.calls.gateway import Gateway
from compat.config.sections import ServerSettings
from compat.endpoints.answers import error_body
from compat.endpoints.boundary import attach_boundary
from compat.endpoints.front import Front
from compat.errors import GatewayError, ShuttingDown, UpstreamRateLimit
from compat.protocols.chat.errors import error_body as chat_error_body
from tests.unit.builders import make_gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path)


def client_of(gateway: Gateway, error: Exception) -> Client:
    """A client of an application whose one view raises `error`."""
    app = flask.Flask("tests")
    attach_boundary(app, gateway)

    @app.post("/v1/chat/completions")
    def view() -> Any:
        raise error

    return Client(Front(app, ServerSettings(), lambda: "new-id"))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ShuttingDown("Later."), 503, "shutting_down"),
        (werkzeug.exceptions.NotFound(), 404, "unknown_url"),
        (werkzeug.exceptions.RequestEntityTooLarge(), 413, None),
        (werkzeug.exceptions.BadRequest(), 400, None),
        (KeyError("canary"), 500, "internal_error"),
        (RecursionError(), 500, "internal_error"),
    ],
)
def test_any_error_has_openais_shape(gateway: Gateway, error: Exception, status: int, code: str | None) -> None:
    answer = client_of(gateway, error).post("/v1/chat/completions")
    assert (answer.status_code, answer.content_type, answer.headers["x-request-id"]) == (status, "application/json", "new-id")
    assert answer.json["error"]["code"] == code
    assert answer.json["error"]["message"]
    assert "canary" not in answer.text


def test_another_method_is_told_which_ones_there_are(gateway: Gateway) -> None:
    answer = client_of(gateway, KeyError()).get("/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert answer.json["error"]["message"] == "GET is not allowed on /v1/chat/completions; allowed: OPTIONS, POST."


def test_an_unknown_url_is_told_where_the_api_is(gateway: Gateway) -> None:
    message = client_of(gateway, KeyError()).post("/v1/" + "x" * 500).json["error"]["message"]
    assert "/v1/chat/completions" in message
    assert len(message) < 300


def test_our_own_fault_is_logged_by_its_place_and_never_by_its_words(gateway: Gateway, tmp_path: Path) -> None:
    client_of(gateway, KeyError("PROMPT-CANARY")).post("/v1/chat/completions", headers={"x-request-id": "r-1"})
    gateway.log.close()
    record = json.loads((tmp_path / "logs/openai_compat.log").read_text())
    assert (record["level"], record["event"], record["request_id"], record["type"]) == ("error", "error", "r-1", "KeyError")
    assert "in view" in record["where"]
    assert "PROMPT-CANARY" not in json.dumps(record)


@pytest.mark.parametrize(
    ("wait_s", "header"), [(None, None), (0.0, "0"), (0.2, "1"), (7.0, "7"), (29.5, "30"), (3600.0, "30"), (float("inf"), "30")]
)
def test_a_wait_is_whole_seconds_and_never_longer_than_thirty(wait_s: float | None, header: str | None) -> None:
    assert error_body(UpstreamRateLimit("w", retry_after_s=wait_s)).response().headers.get("retry-after") == header


def test_headers_of_an_error_and_of_its_call_are_sent() -> None:
    error: GatewayError = ShuttingDown("w", headers=(("connection", "close"),))
    answer = error_body(error, [("x-compat-attempts", "2")]).response()
    assert (answer.headers["connection"], answer.headers["x-compat-attempts"]) == ("close", "2")
    assert (answer.data, answer.content_type) == (chat_error_body(error), "application/json")
