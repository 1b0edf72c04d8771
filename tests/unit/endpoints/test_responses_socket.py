"""`GET /v1/responses`: a WebSocket that is asked for is refused in the way that Codex understands at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from werkzeug.test import Client

from compat.factory import create_app
from tests.unit.builders import make_gateway


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(create_app(make_gateway(tmp_path)))


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/v1/responses", "/v1/responses/"])
def test_an_upgrade_is_refused_at_once_with_json(client: Client, path: str) -> None:
    answer = client.get(path, headers={"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"})
    assert (answer.status_code, answer.content_type, answer.headers["upgrade"]) == (426, "application/json", "HTTP/1.1")
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert "POST /v1/responses" in answer.json["error"]["message"]


def test_other_urls_have_no_sockets(client: Client) -> None:
    assert client.get("/healthz", headers={"connection": "Upgrade", "upgrade": "websocket"}).status_code == 400
