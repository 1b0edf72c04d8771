"""Answers that a service stored: none is found, in OpenAI's words, whoever may ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from werkzeug.test import Client

from compat.accounting.keys import new_key
from compat.factory import create_app
from tests.unit.builders import make_gateway

ROUTES = [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")]


@pytest.mark.parametrize(("method", "below"), ROUTES)
@pytest.mark.parametrize("base", ["/v1/responses", "/responses", "/v1/v1/responses"])
def test_none_is_found(tmp_path: Path, method: str, below: str, base: str) -> None:
    gateway = make_gateway(tmp_path)
    answer = Client(create_app(gateway)).open(f"{base}/resp_1{below}", method=method)
    gateway.responses.close()
    assert answer.status_code == 404
    told = answer.json["error"]
    assert (told["message"], told["type"]) == ("Response with id 'resp_1' not found.", "invalid_request_error")


def test_a_key_is_asked_for_first(tmp_path: Path) -> None:
    _, digest = new_key()
    client = Client(create_app(make_gateway(tmp_path, {"keys": {"ada": {"hash": digest}}})))
    assert client.get("/v1/responses/resp_1").status_code == 401
