"""The model list: what clients of three kinds want to know of each name."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from compat.accounting.keys import new_key
from compat.calls.gateway import Gateway
from compat.config.catalog import Model, Price, PriceTier
from compat.endpoints.models import model_row
from compat.factory import create_app
from compat.routing.router import Deployment, Group, Route
from tests.unit.builders import make_gateway, make_upstream

FACTS = {"context": 5000, "max_output": 300, "price": {"input": 3.0, "output": 15.0, "cache_read": 0.3, "cache_write": 3.75}}


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    upstreams = {"up": {"kind": "openai", "base_url": "http://up.example/v1", "models": ["one", "org/two"], "api_keys": ["sk-1"]}}
    models = {"mine": {"route": ["up/mine", "gone/x"], "facts": FACTS}, "lost": {"route": ["gone/x"]}}
    return make_gateway(tmp_path, {"upstreams": upstreams, "models": models})


@pytest.fixture
def client(gateway: Gateway) -> Client:
    return Client(create_app(gateway))


def listed(client: Client) -> dict[str, Any]:
    document = client.get("/v1/models").json
    assert document["object"] == "list"
    return {row["id"]: row for row in document["data"]}


def test_the_list_has_every_name_that_leads_somewhere(gateway: Gateway, client: Client) -> None:
    rows = listed(client)
    assert set(gateway.catalog.aliases) <= set(rows)
    assert "mine" in rows
    assert "lost" not in rows


def test_an_upstreams_own_ids_are_listed_once_discovery_knows_them(gateway: Gateway, client: Client) -> None:
    gateway.router.learn(gateway.router.upstreams, {"up": ["one", "<b>"]})
    assert {"up/one", "up/<b>"} <= set(listed(client))


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/", "/v1/v1/models"])
def test_the_list_is_found_where_clients_look(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.content_type, answer.json["object"]) == (200, "application/json", "list")


def test_a_row_has_the_fields_that_clients_know(client: Client) -> None:
    assert listed(client)["mine"] == {
        "id": "mine",
        "object": "model",
        "created": 1735689600,
        "owned_by": "up",
        "display_name": "mine",
        "name": "mine",
        "context_length": 5000,
        "max_output_tokens": 300,
        "pricing": {"prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000003", "input_cache_write": "0.00000375"},
        "capabilities": {"tools": True, "images": False, "files": False, "reasoning": False, "efforts": []},
        "route": ["up/mine"],
    }


def test_one_model_is_told_as_it_is_listed(client: Client) -> None:
    assert client.get("/v1/models/mine").json == listed(client)["mine"]


@pytest.mark.parametrize("path", ["/v1/models/one", "/models/one", "/v1/models/org/two", "/v1/models/up/any/thing", "/v1/models/org%2Ftwo"])
def test_any_name_that_leads_somewhere_can_be_asked_for(client: Client, path: str) -> None:
    row = client.get(path).json
    assert row["id"] == path.replace("%2F", "/").partition("models/")[2]
    assert row["route"] == ["up/" + row["id"].removeprefix("up/")]


@pytest.mark.parametrize(("name", "status", "code"), [("nobody", 404, "model_not_found"), ("lost", 503, "no_upstream")])
def test_a_name_that_leads_nowhere_is_an_error(client: Client, name: str, status: int, code: str) -> None:
    answer = client.get(f"/v1/models/{name}")
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/claude-4-sonnet"])
def test_a_key_is_asked_for_once_there_is_one(tmp_path: Path, path: str) -> None:
    key, digest = new_key()
    client = Client(create_app(make_gateway(tmp_path, {"keys": {"ada": {"hash": digest}}}, {"OPENAI_API_KEY": "sk-1"})))
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"authorization": "Bearer wrong"}).json["error"]["code"] == "invalid_api_key"
    assert client.get(path, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert client.get(path, headers={"x-api-key": key}).status_code == 200


def test_a_key_sees_the_models_that_it_may_call(tmp_path: Path) -> None:
    key, digest = new_key()
    rows = {"ada": {"hash": digest, "models": ["claude-4*"]}}
    client = Client(create_app(make_gateway(tmp_path, {"keys": rows}, {"ANTHROPIC_API_KEY": "sk-1"})))
    headers = {"authorization": f"Bearer {key}"}
    names = [row["id"] for row in client.get("/v1/models", headers=headers).json["data"]]
    assert "claude-4-sonnet" in names
    assert {name[:8] for name in names} == {"claude-4"}
    assert [row["model_name"] for row in client.get("/v1/model/info", headers=headers).json["data"]] == names
    assert client.get("/v1/models/claude-4-sonnet", headers=headers).status_code == 200
    refused = client.get("/v1/models/claude-haiku-4-5", headers=headers)
    assert (refused.status_code, refused.json["error"]["code"]) == (403, "model_not_allowed")


def row_of(gateway: Gateway, name: str, model: Model) -> dict[str, Any]:
    return model_row(gateway, Route(name, (Group((Deployment(make_upstream("up"), "x", model),), (1,)),)))


@pytest.mark.parametrize(
    ("name", "model", "shown"),
    [
        ("x", Model(id="x", display_name="The X"), "The X"),
        ("my-x", Model(id="x", display_name="The X"), "my-x (The X)"),
    ],
)
def test_a_name_of_ones_own_shows_what_it_stands_for(gateway: Gateway, name: str, model: Model, shown: str) -> None:
    row = row_of(gateway, name, model)
    assert (row["display_name"], row["name"]) == (shown, shown)


def test_an_alias_has_a_name_of_its_own(gateway: Gateway) -> None:
    name, alias = next((name, alias) for name, alias in gateway.catalog.aliases.items())
    shown = alias.display_name or f"{name} (The X)"
    assert row_of(gateway, name, Model(id="x", display_name="The X"))["name"] == shown


def test_the_price_of_a_usual_prompt_on_this_day_is_listed(gateway: Gateway) -> None:
    tiers = (PriceTier(above=5, input=10), PriceTier(hours=((0, 24),), input=10), PriceTier(since=datetime.date(2020, 1, 1), input=2))
    row = row_of(gateway, "x", Model(id="x", price=Price(input=1.5, tiers=tiers)))
    assert row["pricing"]["prompt"] == "0.000003"


def test_dates_are_seconds_and_days(gateway: Gateway) -> None:
    row = row_of(gateway, "x", Model(id="x", released=datetime.date(2024, 1, 1), retires=datetime.date(2027, 2, 3)))
    assert (row["created"], row["retires"]) == (1704067200, "2027-02-03")
    assert "retires" not in row_of(gateway, "x", Model(id="x"))


@pytest.mark.parametrize(
    ("dollars", "text"), [(0.0, "0"), (3.0, "0.000003"), (0.025, "0.000000025"), (1_000_000.0, "1"), (10_000_000.0, "10")]
)
def test_prices_are_dollars_per_token_in_plain_digits(gateway: Gateway, dollars: float, text: str) -> None:
    assert row_of(gateway, "x", Model(price=Price(input=dollars)))["pricing"]["prompt"] == text


VERSION = {"anthropic-version": "2023-06-01"}


def test_clients_of_anthropics_protocol_read_its_form_with_names_that_they_show(client: Client) -> None:
    found = client.get("/v1/models?limit=1000", headers=VERSION).json
    names = {one["id"]: one["display_name"] for one in found["data"]}
    assert {"mine", "claude-compat/mine"} <= set(names)
    assert not found["has_more"]
    assert not any(name.startswith("claude-compat/claude") for name in names)
    one = client.get("/v1/models/claude-compat/mine", headers=VERSION).json
    assert (one["type"], one["id"], one["display_name"]) == ("model", "claude-compat/mine", "mine")
    assert client.get("/v1/models/claude-compat/mine").json["id"] == "claude-compat/mine"


def test_their_errors_on_models_have_its_shape(client: Client) -> None:
    assert client.get("/v1/models/nobody", headers=VERSION).json["error"]["type"] == "not_found_error"
    assert client.get("/v1/models?limit=0", headers=VERSION).json["error"]["type"] == "invalid_request_error"
    assert client.get("/v1/models/nobody").json["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/models?client_version=0.171.0", "/models?client_version=0.171.0"])
def test_codex_reads_a_list_of_its_own_beside_that_of_openai(client: Client, path: str) -> None:
    found = client.get(path).json
    assert [one["slug"] for one in found["models"]] == [one["id"] for one in found["data"]]
    facts = {one["slug"]: one for one in found["models"]}["mine"]
    assert (facts["context_window"], facts["supported_reasoning_levels"]) == (5000, [])
    assert client.get("/v1/models/mine", headers={"user-agent": "codex_cli_rs/0.171.0"}).json["id"] == "mine"
