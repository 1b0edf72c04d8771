"""`/healthz`: what it tells, and that it tells no secret."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from compat.accounting.keys import new_key
from compat.calls.gateway import Gateway
from compat.config.sections import EmbeddedSettings
from compat.endpoints.health import FLEET, embedded_report, health_report, route_text
from compat.engine.base import EngineStatus
from compat.engine.embedded import EmbeddedEngine
from compat.errors import UpstreamFailure
from compat.factory import create_app
from compat.routing.circuit import CircuitKey
from compat.routing.discovery import UpstreamState
from compat.service.fleet import Fleet
from compat.service.state import RunFolder
from tests.unit.builders import KEY, StillClock, make_gateway

UPSTREAMS = {
    "up": {"kind": "openai", "base_url": "http://up.example/v1", "api_keys": [KEY, KEY + "2"], "headers": {"x-token": "canary"}},
    "two": {"kind": "ollama"},
}


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path, {"upstreams": UPSTREAMS, "models": {"m": {"route": ["up/a", "two/b"]}, "lost": {"route": ["gone/x"]}}})


def test_a_sound_gateway_is_ok(gateway: Gateway) -> None:
    report = health_report(gateway)
    assert report["status"] == "ok"
    assert (report["uptime_s"], report["in_flight"], report["calls"]) == (0.0, 0, 0)
    assert report["log"] == {"dropped": 0, "fault": ""}
    assert report["embedded"] == {"state": "disabled"}
    assert set(report["routes"]) == set(gateway.catalog.aliases)


def test_an_upstream_is_told_with_its_state_and_the_number_of_its_keys(gateway: Gateway) -> None:
    gateway.discovery.states["two"] = UpstreamState("ok", "3 models")
    rows = health_report(gateway)["upstreams"]
    assert rows[0] == {
        "name": "up",
        "kind": "openai",
        "wire_api": "openai.chat, openai.responses",
        "base_url": "http://up.example/v1",
        "keys": 2,
        "state": "unknown",
        "detail": "",
    }
    assert (rows[1]["name"], rows[1]["keys"], rows[1]["state"], rows[1]["detail"]) == ("two", 0, "ok", "3 models")


def test_an_upstream_that_discovery_never_heard_of_is_unknown(gateway: Gateway) -> None:
    del gateway.discovery.states["up"]
    assert (health_report(gateway)["upstreams"][0]["state"], health_report(gateway)["upstreams"][0]["detail"]) == ("unknown", "")


def fail_upstream(gateway: Gateway) -> None:
    gateway.discovery.states["up"] = UpstreamState("failing", "wrong key")


def fail_log(gateway: Gateway) -> None:
    gateway.log._fault = "disk full"


def drain(gateway: Gateway) -> None:
    gateway.gauges.is_draining = True


@pytest.mark.parametrize(
    ("faults", "status"),
    [([fail_upstream], "degraded"), ([fail_log], "degraded"), ([drain], "draining"), ([fail_upstream, drain], "draining")],
)
def test_what_does_not_work_shows_in_the_status(gateway: Gateway, faults: list[Any], status: str) -> None:
    for fault in faults:
        fault(gateway)
    assert health_report(gateway)["status"] == status


def test_what_does_not_work_is_named_with_its_reason(gateway: Gateway) -> None:
    assert health_report(gateway)["causes"] == []
    fail_upstream(gateway)
    fail_log(gateway)
    circuit = gateway.policies.circuits.of(CircuitKey("two", "", "b"))
    for _ in range(gateway.settings.circuit.failures):
        circuit.admit().failed(UpstreamFailure("It is on fire."))
    report = health_report(gateway)
    assert report["causes"] == ["up: wrong key", "the circuit of two for b is open: It is on fire", "log: disk full"]
    assert report["status"] == "degraded"


@pytest.mark.parametrize(
    ("status", "is_told"),
    [
        (EngineStatus("failed", "fetching it failed: no network; next try in 5 s", "m", None, 8192, 0), True),
        (EngineStatus("fetching", "fetching 1 of 98 MB", "m", None, 8192, 0), False),
        (EngineStatus("ready", "ready", "m", 7, 8192, 0), False),
    ],
    ids=["failed", "fetching", "ready"],
)
def test_a_gateway_of_which_no_model_can_answer_is_degraded(tmp_path: Path, status: EngineStatus, is_told: bool) -> None:
    class Engine(EmbeddedEngine):
        def status(self) -> EngineStatus:
            return status

    engine = Engine(EmbeddedSettings(), lambda _event, _fields: None)
    report = health_report(replace(make_gateway(tmp_path), engine=engine))
    words = f"no model can answer: no upstream is configured, and the embedded model can't: {status.detail}"
    assert (report["status"], report["causes"]) == (("degraded", [words]) if is_told else ("ok", []))


def test_without_upstream_and_embedded_model_no_model_can_answer(tmp_path: Path) -> None:
    report = health_report(make_gateway(tmp_path))
    assert report["status"] == "degraded"
    assert report["causes"] == ["no model can answer: no upstream is configured, and the embedded model is switched off"]


def test_an_engine_that_failed_is_no_matter_where_upstreams_answer(gateway: Gateway) -> None:
    engine = EmbeddedEngine(EmbeddedSettings(model="/nowhere.gguf"), lambda _event, _fields: None)
    assert health_report(replace(gateway, engine=engine))["status"] == "ok"


def test_time_and_calls_are_counted(gateway: Gateway) -> None:
    assert isinstance(gateway.clock, StillClock)
    gateway.clock.monotonic_s += 12.34
    gateway.gauges.in_flight, gateway.gauges.calls, gateway.log.dropped = 2, 7, 3
    report = health_report(gateway)
    assert (report["uptime_s"], report["in_flight"], report["calls"], report["log"]["dropped"]) == (12.3, 2, 7, 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m", "up/a, then two/b"),
        ("up/x", "up/x"),
        ("lost", "No upstream of the route of 'lost' is configured."),
    ],
)
def test_a_route_is_told_in_words(gateway: Gateway, name: str, text: str) -> None:
    assert route_text(gateway, name) == text


def test_the_embedded_model_says_what_it_is(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"embedded": {"enabled": True, "cache_dir": str(tmp_path)}})
    assert gateway.engine is not None
    status = gateway.engine.status()
    assert embedded_report(gateway) == {
        "state": status.state,
        "detail": status.detail,
        "model": status.model,
        "better": None,
        "role": "demonstration and fallback",
    }
    assert health_report(gateway)["upstreams"] == []
    assert embedded_report(replace(gateway, engine=None)) == {"state": "disabled"}


class Climbing(EmbeddedEngine):
    """The small one answers, and a better one is fetched."""

    def status(self) -> EngineStatus:
        return EngineStatus("ready", "ready; big: 300 of 1117 MB", "tiny", 7, 8192, 0, "big", "fetching 300 of 1117 MB")


def test_it_says_which_model_answers_and_how_far_the_better_one_is(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"embedded": {"enabled": True, "model": "auto", "cache_dir": str(tmp_path)}})
    gateway = replace(gateway, engine=Climbing(EmbeddedSettings(), lambda _event, _fields: None))
    report = embedded_report(gateway)
    assert (report["model"], report["better"]) == ("tiny", {"model": "big", "detail": "fetching 300 of 1117 MB"})
    assert set(health_report(gateway)["routes"].values()) == {"embedded/tiny"}


def test_the_endpoint_is_never_cached_and_tells_no_secret(gateway: Gateway) -> None:
    answer = Client(create_app(gateway)).get("/healthz")
    assert (answer.status_code, answer.content_type, answer.headers["cache-control"]) == (200, "application/json", "no-store")
    assert answer.json == health_report(gateway)
    assert "canary" not in answer.text


def test_only_reading_is_allowed(gateway: Gateway) -> None:
    answer = Client(create_app(gateway)).post("/healthz")
    assert (answer.status_code, answer.json["error"]["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("sent", [{}, {"authorization": "Bearer sk-wrong"}, {"x-api-key": "sk-wrong"}])
def test_without_one_of_the_client_keys_only_the_status_is_told(tmp_path: Path, sent: dict[str, str]) -> None:
    key, digest = new_key()
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS, "keys": {"ada": {"hash": digest}}})
    fail_upstream(gateway)
    client = Client(create_app(gateway))
    assert client.get("/healthz", headers=sent).json == {"status": "degraded"}
    for admitted in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
        assert client.get("/healthz", headers=admitted).json == health_report(gateway)


def test_a_command_of_this_service_sees_everything_by_the_key_in_its_folder(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS, "keys": {"ada": {"hash": new_key()[1]}}})
    run = RunFolder(tmp_path / "run")
    client = Client(create_app(gateway))

    def told(authorization: str) -> dict[str, Any]:
        answer = client.get("/healthz", headers={"authorization": authorization}, environ_overrides={FLEET: Fleet(run, 1, 0.0)})
        report: dict[str, Any] = answer.json
        return report

    for wrong in ("", "Bearer", "Bearer ", "Bearer x", "Bearer \xe9", "Bearer " + "0" * 64):
        assert told(wrong) == {"status": "ok"}
    key = run.health_key()
    assert len(key) == 64
    assert run.health.stat().st_mode & 0o077 == 0
    assert told(f"Bearer {key}")["generations"] == []
    assert run.health_key() == key
    run.health.write_text("{}")
    assert told("Bearer " + key) == {"status": "ok"}


def test_who_has_no_client_key_is_told_that_it_is_not_ready_and_not_why(tmp_path: Path) -> None:
    key, digest = new_key()
    client = Client(create_app(make_gateway(tmp_path, {"keys": {"ada": {"hash": digest}}})))
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (503, {"status": "not ready"})
    told = client.get("/readyz", headers={"authorization": f"Bearer {key}"})
    assert (told.status_code, told.json["status"], "no upstream" in told.json["reason"]) == (503, "not ready", True)
    open_to_all = Client(create_app(make_gateway(tmp_path))).get("/readyz")
    assert (open_to_all.status_code, "no upstream" in open_to_all.json["reason"]) == (503, True)
