"""What coding agents ask besides their calls is answered, and nobody hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from werkzeug.test import Client

from compat.factory import create_app
from tests.unit.builders import make_gateway


@pytest.mark.parametrize(
    ("method", "path"), [("HEAD", "/"), ("HEAD", "/api/hello"), ("GET", "/api/hello"), ("POST", "/api/event_logging/batch")]
)
def test_it_is_answered_at_once(tmp_path: Path, method: str, path: str) -> None:
    gateway = make_gateway(tmp_path)
    answer = Client(create_app(gateway)).open(path, method=method, data=b"not even JSON" if method == "POST" else None)
    assert answer.status_code == 200
    assert method == "HEAD" or answer.json == {}


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/messages/batches/msgbatch_1/results", "/v1/v1/messages/batches"])
def test_what_is_not_served_below_the_messages_has_anthropics_shape(tmp_path: Path, path: str) -> None:
    answer = Client(create_app(make_gateway(tmp_path))).post(path, json={})
    assert (answer.status_code, answer.json["type"], answer.json["error"]["type"]) == (404, "error", "not_found_error")
    assert answer.headers["request-id"]
    assert "/v1/messages" in answer.json["error"]["message"]
