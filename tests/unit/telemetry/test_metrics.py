"""Metrics: what one call adds to them, what they are called, how many there can be, and that all workers are in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

from compat.telemetry.metrics import MAX_CLIENTS, MAX_OUTCOMES, MAX_ROUTES, OTHER, Metrics, Readings

RECORD: dict[str, Any] = {
    "client": "laptop",
    "model": "sonnet",
    "deployment": "up/vendor/m",
    "attempts": 1,
    "outcome": "ok",
    "status": 200,
    "duration_ms": 2500.0,
    "ttft_ms": 500.0,
    "prompt_tokens": 100,
    "completion_tokens": 21,
    "cache_read_tokens": 60,
    "cache_write_tokens": 30,
    "cost_usd": 0.25,
}
ROUTE = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "up",
    "gen_ai_request_model": "sonnet",
    "gen_ai_response_model": "vendor/m",
}


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


class Bench:
    def __init__(self) -> None:
        self.metrics = Metrics()

    def call(self, **changes: Any) -> None:
        self.metrics.began()
        self.metrics.observe({**RECORD, **changes})

    def all(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        return samples(self.metrics.render()[1].decode())

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        return self.all().get(name, {}).get(tuple(sorted((labels or {}).items())))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("gen_ai_server_request_duration_seconds_sum", {**ROUTE, "error_type": ""}, 2.5),
        ("gen_ai_server_request_duration_seconds_bucket", {**ROUTE, "error_type": "", "le": "1.28"}, 0),
        ("gen_ai_server_request_duration_seconds_bucket", {**ROUTE, "error_type": "", "le": "2.56"}, 1),
        ("gen_ai_server_time_to_first_token_seconds_sum", ROUTE, 0.5),
        ("gen_ai_server_time_to_first_token_seconds_count", ROUTE, 1),
        ("gen_ai_server_time_per_output_token_seconds_sum", ROUTE, 0.1),
        ("gen_ai_client_token_usage_sum", {**ROUTE, "gen_ai_token_type": "input"}, 100),
        ("gen_ai_client_token_usage_sum", {**ROUTE, "gen_ai_token_type": "output"}, 21),
        ("openai_compat_calls_total", {"upstream": "up", "outcome": "ok", "status": "200"}, 1),
        ("openai_compat_prompt_cache_tokens_total", {"upstream": "up", "model": "vendor/m", "operation": "read"}, 60),
        ("openai_compat_prompt_cache_tokens_total", {"upstream": "up", "model": "vendor/m", "operation": "write"}, 30),
        ("openai_compat_cost_usd_total", {"client": "laptop", "upstream": "up"}, 0.25),
        ("openai_compat_retries_total", {"upstream": "up", "model": "vendor/m"}, 0),
        ("openai_compat_in_flight", {}, 0),
    ],
)
def test_a_call_is_in(bench: Bench, name: str, labels: dict[str, str], value: float) -> None:
    bench.call()
    assert bench.value(name, labels) == pytest.approx(value)
    assert bench.metrics.fault == ""


@pytest.mark.parametrize(
    ("endpoint", "operation"), [("embeddings", "embeddings"), ("completions", "text_completion"), ("infill", "text_completion")]
)
def test_other_endpoints_are_other_operations(bench: Bench, endpoint: str, operation: str) -> None:
    bench.call()
    bench.call(endpoint=endpoint)
    for name in ("chat", operation):
        labels = {**ROUTE, "gen_ai_operation_name": name, "gen_ai_token_type": "input"}
        assert bench.value("gen_ai_client_token_usage_sum", labels) == 100


def test_calls_in_flight_are_those_that_began_and_are_not_over(bench: Bench) -> None:
    bench.metrics.began()
    bench.metrics.began()
    bench.call()
    assert bench.value("openai_compat_in_flight") == 2


def test_a_failed_call_says_how(bench: Bench) -> None:
    bench.call(outcome="error", status=502, attempts=3, ttft_ms=None, prompt_tokens=None, cost_usd=None, code="upstream_broken")
    bench.call(outcome="cancelled", status=499)
    assert bench.value("gen_ai_server_request_duration_seconds_count", {**ROUTE, "error_type": "502"}) == 1
    assert bench.value("gen_ai_server_request_duration_seconds_count", {**ROUTE, "error_type": "499"}) == 1
    assert bench.value("gen_ai_server_request_duration_seconds_count", {**ROUTE, "error_type": ""}) == 0
    assert bench.value("openai_compat_calls_total", {"upstream": "up", "outcome": "error", "status": "502"}) == 1
    assert bench.value("openai_compat_retries_total", {"upstream": "up", "model": "vendor/m"}) == 2
    assert bench.value("gen_ai_server_time_per_output_token_seconds_count", ROUTE) == 0
    assert bench.value("openai_compat_limit_refusals_total", {"limit": "upstream_broken"}) is None


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "budget_spent"])
def test_a_refusal_of_our_own_is_counted_and_an_upstreams_is_not(bench: Bench, code: str) -> None:
    refused = {"outcome": "error", "status": 429, "code": code}
    bench.call(**refused)
    assert bench.value("openai_compat_limit_refusals_total", {"limit": code}) is None
    bench.call(**refused, deployment=None, attempts=0)
    assert bench.value("openai_compat_limit_refusals_total", {"limit": code}) == 1
    assert bench.value("openai_compat_calls_total", {"upstream": "", "outcome": "error", "status": "429"}) == 1


def test_a_call_that_led_nowhere_has_no_model(bench: Bench) -> None:
    bench.call(model="anything at all", deployment=None, outcome="error", status=404, code="model_not_found", attempts=0)
    assert "anything" not in bench.metrics.render()[1].decode()


@pytest.mark.parametrize(("verdict", "label"), [("hit", "hit"), ("miss", "miss"), ("bypass;tools", "bypass")])
def test_the_answer_cache_is_counted_by_its_verdict(bench: Bench, verdict: str, label: str) -> None:
    bench.call(cache=verdict)
    bench.call(cache="")
    assert bench.all()["openai_compat_answer_cache_total"] == {(("verdict", label),): 1}


def test_an_answer_of_one_token_has_no_time_per_token(bench: Bench) -> None:
    bench.call(completion_tokens=1, cache_read_tokens=0, cache_write_tokens=0)
    bench.call(ttft_ms=None)
    assert bench.value("gen_ai_server_time_per_output_token_seconds_count", ROUTE) == 0
    assert bench.value("openai_compat_prompt_cache_tokens_total", {"upstream": "up", "model": "vendor/m", "operation": "read"}) == 60


def test_readings_are_gauges_and_what_is_gone_is_zero(bench: Bench) -> None:
    gate = {"limit": 16, "in_flight": 3, "waiting": 2}
    bench.metrics.sample(Readings({"up": gate}, {"vault": (5, 500)}, {("up", "open"): 2, ("up", "half-open"): 1}))
    assert bench.value("openai_compat_concurrency_limit", {"upstream": "up"}) == 16
    assert bench.value("openai_compat_upstream_in_flight", {"upstream": "up"}) == 3
    assert bench.value("openai_compat_queued", {"upstream": "up"}) == 2
    assert bench.value("openai_compat_store_entries", {"store": "vault"}) == 5
    assert bench.value("openai_compat_store_bytes", {"store": "vault"}) == 500
    assert bench.value("openai_compat_circuits", {"upstream": "up", "state": "open"}) == 2
    bench.metrics.sample(Readings(circuits={("up", "open"): 1}))
    assert bench.value("openai_compat_circuits", {"upstream": "up", "state": "open"}) == 1
    assert bench.value("openai_compat_circuits", {"upstream": "up", "state": "half-open"}) == 0
    assert bench.value("openai_compat_queued", {"upstream": "up"}) == 0


def test_what_waits_is_a_gauge_too(bench: Bench) -> None:
    for count in (3, 0):
        bench.metrics.sample(Readings(stores={"vault": (2, 500)}, counts={"log queue": count}))
        assert bench.value("openai_compat_store_entries", {"store": "log queue"}) == count
        assert bench.value("openai_compat_store_entries", {"store": "vault"}) == 2
    assert bench.value("openai_compat_store_bytes", {"store": "log queue"}) is None


def test_what_was_lost_is_counted_on(bench: Bench) -> None:
    for total in (3, 3, 10):
        bench.metrics.sample(Readings(dropped={"log lines": total}))
    assert bench.value("openai_compat_dropped_total", {"what": "log lines"}) == 10


def test_two_gateways_in_one_process_have_metrics_of_their_own(bench: Bench) -> None:
    bench.call()
    assert Bench().all()["openai_compat_in_flight"] == {(): 0}
    assert "openai_compat_calls_total" not in Bench().all()


def test_the_process_is_in_and_times_of_creation_are_not(bench: Bench) -> None:
    bench.call()
    assert bench.value("process_resident_memory_bytes") > 1_000_000
    assert not any(name.endswith("_created") for name in bench.all())


@pytest.mark.parametrize(
    ("accept", "content_type", "ends"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", False),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", False),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("nonsense;;,", "text/plain; version=0.0.4; charset=utf-8", False),
    ],
)
def test_both_formats_are_spoken(bench: Bench, accept: str, content_type: str, ends: bool) -> None:
    bench.call()
    found_type, body = bench.metrics.render(accept)
    assert found_type.startswith(content_type)
    assert body.endswith(b"# EOF\n") is ends


@pytest.mark.slow
def test_names_of_strangers_cant_fill_the_memory(bench: Bench) -> None:
    for number in range(MAX_ROUTES + 50):
        bench.call(model=f"m{number}", client=f"c{number}")
    found = bench.all()
    assert len(found["gen_ai_server_time_to_first_token_seconds_count"]) == MAX_ROUTES + 1
    assert len(found["openai_compat_cost_usd_total"]) == MAX_CLIENTS + 1
    others = {
        **ROUTE,
        "gen_ai_operation_name": OTHER,
        "gen_ai_provider_name": OTHER,
        "gen_ai_request_model": OTHER,
        "gen_ai_response_model": "",
    }
    assert bench.value("gen_ai_server_time_to_first_token_seconds_count", others) == 50
    assert bench.value("openai_compat_cost_usd_total", {"client": OTHER, "upstream": OTHER}) == 12.5


@pytest.mark.slow
def test_outcomes_are_bounded(bench: Bench) -> None:
    for number in range(MAX_OUTCOMES + 3):
        bench.call(deployment=None, status=number)
    assert bench.value("openai_compat_calls_total", {"upstream": OTHER, "outcome": OTHER, "status": OTHER}) == 3


def test_labels_hold_no_control_characters_and_are_bounded(bench: Bench) -> None:
    bench.call(model='a\x1b[31m\n"\\' + "b" * 500)
    (labels,) = bench.all()["gen_ai_server_time_to_first_token_seconds_count"]
    name = dict(labels)["gen_ai_request_model"]
    assert name.startswith('a?[31m?"\\bbb')
    assert len(name) == 100


def test_counting_that_fails_is_not_felt_by_a_call(bench: Bench) -> None:
    class Full:
        def inc(self) -> None:
            raise OSError("No space left on device")

    working, bench.metrics._in_flight = bench.metrics._in_flight, Full()
    bench.metrics.began()
    assert bench.metrics.fault == "metrics can't be counted: No space left on device"
    bench.metrics._in_flight = working
    bench.metrics.began()
    assert bench.metrics.fault == ""


def test_counting_that_fails_is_told_once_and_so_is_its_end(bench: Bench) -> None:
    events: list[tuple[str, Any]] = []

    def fail() -> None:
        raise OSError("No space left on device")

    def tell() -> None:
        bench.metrics.tell(lambda name, fields: events.append((name, fields)))

    for _ in range(2):
        bench.metrics._count(fail)
        bench.metrics.began()
        tell()
    assert events == [("metrics.failed", {"reason": "metrics can't be counted: No space left on device"})]
    tell()
    tell()
    assert [name for name, _ in events] == ["metrics.failed", "metrics.recovered"]


def test_without_workers_nothing_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics = Metrics(is_shared=True)
    metrics.began()
    assert metrics.render()[1] == b""


@pytest.mark.slow
def test_all_workers_are_in_whoever_is_asked(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pipes: dict[str, Any] = {"cwd": Path(__file__).parents[3], "env": environment, "text": True, "stdout": subprocess.PIPE}

    def program(*words: str) -> Any:
        return subprocess.Popen([sys.executable, "-m", "tests.unit.metrics_program", *words], stdin=subprocess.PIPE, **pipes)

    def rendered() -> Any:
        return samples(program("render", "0").communicate(timeout=60)[0])

    calls = (("outcome", "ok"), ("status", "200"), ("upstream", "up"))
    workers = [program("count", "3"), program("count", "4")]
    assert [worker.stdout.readline() for worker in workers] == ["\n", "\n"]
    found = rendered()
    assert found["openai_compat_calls_total"][calls] == 7
    assert found["gen_ai_server_time_to_first_token_seconds_count"][tuple(sorted(ROUTE.items()))] == 7
    assert found["openai_compat_in_flight"] == {(): 2}
    assert found["openai_compat_circuits"] == {(("state", "open"), ("upstream", "up")): 2}
    assert found["openai_compat_dropped_total"] == {(("what", "log lines"),): 4}
    workers[0].communicate("\n", timeout=60)
    mark_process_dead(workers[0].pid, str(tmp_path))
    found = rendered()
    assert found["openai_compat_calls_total"][calls] == 7
    assert found["openai_compat_in_flight"] == {(): 1}
    workers[1].communicate("\n", timeout=60)
