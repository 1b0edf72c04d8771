"""The factory: what settings and the environment make, and that nothing has begun when it is made."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from werkzeug.routing import Map
from werkzeug.test import Client

from compat.clock import SystemClock
from compat.config.settings import SettingsError, load_settings
from compat.engine.ladder import Ladder
from compat.factory import LazyRule, build_gateway, create_app
from compat.upstream.client import UpstreamClient
from tests.unit.builders import NoTransport, StillClock, make_gateway

UP = {"up": {"kind": "openai", "base_url": "http://up.example/v1"}}


def test_the_collaborators_follow_the_settings(tmp_path: Path) -> None:
    gateway = make_gateway(
        tmp_path,
        {"upstreams": UP, "models": {"m": {"route": ["up/x"], "facts": {"context": 5}}}, "log": {"file": "a/b.log"}},
        {"OPENAI_API_KEY": "k"},
    )
    assert list(gateway.router.upstreams) == ["up", "openai"]
    assert gateway.router.resolve("m").deployments[0].name == "up/x"
    assert gateway.catalog.models["m"].context == 5
    assert (gateway.engine, gateway.started_s) == (None, 100.0)
    assert isinstance(gateway.transport, NoTransport)
    gateway.log.event("started", {})
    gateway.log.close()
    assert (tmp_path / "a/b.log").exists()


def test_nothing_has_begun(tmp_path: Path) -> None:
    before = threading.active_count()
    settings = load_settings(None, {}, {"upstreams": UP})
    gateway = build_gateway(settings, {}, tmp_path)
    create_app(gateway)
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []
    assert {state.state for state in gateway.discovery.states.values()} == {"unknown"}
    assert isinstance(gateway.transport, UpstreamClient)
    assert gateway.transport.connections_opened == 0
    assert isinstance(gateway.clock, SystemClock)


def test_urls_are_built_as_of_any_rule() -> None:
    urls = Map([LazyRule("/calls/<call_id>", endpoint="call"), LazyRule("/", endpoint="start")]).bind("host")
    for _ in range(2):  # compiled by the first one
        assert urls.build("call", {"call_id": "a b", "key": "1"}) == "/calls/a%20b?key=1"
        assert urls.build("call", {"call_id": "d", "key": "2"}, append_unknown=False) == "/calls/d"
        assert urls.build("start") == "/"


def test_two_gateways_share_nothing(tmp_path: Path) -> None:
    first, second = make_gateway(tmp_path, {"upstreams": UP}), make_gateway(tmp_path)
    first.gauges.calls = 5
    first.router.learn({}, {"up": ["x"]})
    assert (second.gauges.calls, second.router.offers, dict(second.router.upstreams)) == (0, {}, {})


@pytest.mark.parametrize(
    ("model", "name", "context"),
    [("/models/Some-Model.Q4.gguf", "Some-Model.Q4", 4096), ("never-heard-of", "never-heard-of", 4096)],
)
def test_the_embedded_model_has_a_name(tmp_path: Path, model: str, name: str, context: int) -> None:
    gateway = make_gateway(tmp_path, {"embedded": {"enabled": True, "model": model, "context_tokens": 4096, "cache_dir": str(tmp_path)}})
    deployment = gateway.router.resolve(name).deployments[0]
    assert (deployment.is_embedded, deployment.target, deployment.model.context) == (True, name, context)
    assert gateway.engine is not None


def test_without_an_upstream_an_alias_goes_to_the_embedded_model(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"embedded": {"enabled": True, "cache_dir": str(tmp_path)}})
    assert [deployment.is_embedded for deployment in gateway.router.resolve("claude-4-sonnet").deployments] == [True]


@pytest.mark.parametrize("facts", [{"contxt": 5}, {"context": "many"}, {"price": {"inputs": 1}}])
def test_facts_that_dont_fit_end_the_start(tmp_path: Path, facts: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"models\.m\.facts"):
        make_gateway(tmp_path, {"models": {"m": {"facts": facts}}})


def test_an_unknown_family_ends_the_start_with_words(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"models\.m\.facts\.like"):
        make_gateway(tmp_path, {"models": {"m": {"facts": {"like": "no-such-family"}}}})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[upstreams.up]\nkind = "opnai"', "upstreams.up.kind"),
        ('[upstreams.up]\nkind = "openai"\nbase_url = "x"', "upstreams.up.base_url"),
        ("[models.m.facts]\ncontxt = 5", "models.m.facts"),
    ],
)
def test_what_the_factory_finds_is_told_with_its_key_and_its_file(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        build_gateway(load_settings(path, {}), {}, tmp_path, clock=StillClock(), transport=NoTransport())
    assert key in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/healthz", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/chat/completions", 400),
        ("POST", "/v1/nothing", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e/factory.py", 404),
    ],
)
def test_the_application_has_every_endpoint(tmp_path: Path, method: str, path: str, status: int) -> None:
    client = Client(create_app(make_gateway(tmp_path)))
    answer = client.open(path, method=method, data=b"{}" if method == "POST" else None, content_type="application/json")
    assert answer.status_code == status
    assert answer.headers["x-request-id"]


def test_the_front_stands_before_the_application(tmp_path: Path) -> None:
    client = Client(create_app(make_gateway(tmp_path, {"server": {"allowed_hosts": ["gateway.localhost"]}})))
    assert client.get("/healthz", headers={"host": "gateway.localhost"}).status_code == 200
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 421


def test_the_real_clock_runs_and_its_ids_never_come_twice() -> None:
    clock = SystemClock()
    first = clock.monotonic()
    assert clock.monotonic() >= first
    assert clock.now() > 1_700_000_000
    ids = {clock.new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(text) == 32 and int(text, 16) >= 0 for text in ids)


@pytest.mark.parametrize(
    ("settings", "environment", "name", "tools"),
    [
        ({"model": "auto"}, {}, "embedded-model", True),
        ({"model": "auto"}, {"CI": "true"}, "smollm2-135m-instruct", False),
        ({"model": "small"}, {}, "smollm2-135m-instruct", False),
        ({"model": "qwen2.5-coder-1.5b-instruct"}, {"CI": "true"}, "qwen2.5-coder-1.5b-instruct", True),
    ],
    ids=["a ladder", "CI", "small", "one for good"],
)
def test_the_embedded_model_is_a_ladder_but_where_one_is_chosen(
    tmp_path: Path, settings: dict[str, str], environment: dict[str, str], name: str, tools: bool
) -> None:
    gateway = make_gateway(tmp_path, {"embedded": {"enabled": True, "cache_dir": str(tmp_path), **settings}}, environment)
    (deployment,) = gateway.router.resolve("claude-4-sonnet").deployments
    assert (deployment.target, deployment.model.tools) == (name, tools)
    assert isinstance(gateway.engine, Ladder) == (name == "embedded-model")
    assert gateway.router.resolve(name).deployments == (deployment,)
