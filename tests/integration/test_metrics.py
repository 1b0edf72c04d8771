"""`GET /metrics` after calls over real sockets: what is counted of each of them, who may ask, and what counting costs."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import gevent
import pytest
from prometheus_client.parser import text_string_to_metric_families

from compat.accounting.keys import new_key
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as answers
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.fakes.upstream import Answer, FakeUpstream, Request
from tests.integration.services_folder import until

NAME = "claude-4-sonnet"
FACTS = {"their-model": {"facts": {"price": {"input": 0.0, "output": 1000.0, "cache_read": 0.0}}}}


def samples(gateway: RunningGateway, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = gateway.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def total(gateway: RunningGateway, name: str, **labels: str) -> float:
    """The sum of the samples of `name` that have these labels."""
    wanted = labels.items()
    return sum(value for (sample, has), value in samples(gateway).items() if sample == name and wanted <= has)


@pytest.fixture
def measured(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_upstream(upstream, models=FACTS, cache={"enabled": True}, limits={"models": {NAME: "4/day"}}))


def test_every_call_is_counted_with_its_outcome_tokens_cost_and_times(measured: RunningGateway, upstream: FakeUpstream) -> None:
    measured.chat(max_tokens=5)
    measured.chat(max_tokens=6, stream=True)
    upstream.script(answers.error_answer(500, "no"))
    measured.chat(max_tokens=7)
    route = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "fake", "gen_ai_request_model": NAME}
    assert total(measured, "openai_compat_calls_total", upstream="fake", outcome="ok", status="200") == 2
    assert total(measured, "openai_compat_calls_total", upstream="fake", outcome="error") == 1
    assert total(measured, "gen_ai_client_token_usage_sum", gen_ai_token_type="input", **route) == 22
    assert total(measured, "gen_ai_client_token_usage_sum", gen_ai_token_type="output", **route) == 14
    assert total(measured, "openai_compat_prompt_cache_tokens_total", operation="read") == 8
    assert total(measured, "openai_compat_cost_usd_total", upstream="fake") == pytest.approx(0.014)
    assert total(measured, "gen_ai_server_request_duration_seconds_count", error_type="", **route) == 2
    assert total(measured, "gen_ai_server_time_to_first_token_seconds_count", **route) == 1
    assert total(measured, "openai_compat_in_flight") == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_costs_what_its_hour_and_the_size_of_its_prompt_make_of_the_price(
    start_gateway: Any, upstream: FakeUpstream, stream: bool
) -> None:
    tiers = [{"since": "2020-01-01", "output": 2.0}, {"since": "2999-01-01", "output": 5.0}, {"above": 10, "output": 3.0}]
    facts = {"their-model": {"facts": {"price": {"output": 1000.0, "tiers": tiers}}}}
    gateway = start_gateway(to_upstream(upstream, models=facts))
    answer = gateway.chat(stream=stream, stream_options={"include_usage": True} if stream else None)
    assert re.findall(r'"upstream_inference_cost": ?([0-9.]+)', answer.text) == ["0.042"]
    assert [call["cost_usd"] for call in gateway.calls()] == [pytest.approx(0.042)]


def test_what_the_cache_and_the_limits_did_is_counted(measured: RunningGateway, upstream: FakeUpstream) -> None:
    statuses = [measured.chat().status_code for _ in range(3)]
    statuses += [measured.chat(headers={"x-compat-cache": "off"}).status_code for _ in range(4)]
    assert statuses == [200] * 6 + [429]
    verdicts = [total(measured, "openai_compat_answer_cache_total", verdict=verdict) for verdict in ("miss", "hit", "bypass")]
    assert verdicts == [1, 2, 4]
    assert total(measured, "openai_compat_limit_refusals_total", limit="rate_limit_exceeded") == 1
    assert total(measured, "openai_compat_store_entries", store="answers") == 1
    assert total(measured, "openai_compat_store_bytes", store="answers") > 500


def test_calls_under_way_and_waiting_show(start_gateway: Any, upstream: FakeUpstream) -> None:
    opened = threading.Event()

    def wait(request: Request) -> Answer:
        assert opened.wait(30)
        return answers.respond(request)

    upstream.default = wait
    gateway = start_gateway(to_upstream(upstream, concurrency={"first_limit": 2, "max_limit": 2}))
    calls = [gevent.spawn(gateway.chat) for _ in range(3)]
    until(lambda: len(upstream.requests) == 2 and gateway.gateway.gauges.in_flight == 3, "they are there")
    assert total(gateway, "openai_compat_in_flight") == 3
    assert total(gateway, "openai_compat_upstream_in_flight", upstream="fake") == 2
    assert total(gateway, "openai_compat_queued", upstream="fake") == 1
    assert total(gateway, "openai_compat_concurrency_limit", upstream="fake") == 2
    opened.set()
    assert [call.get().status_code for call in calls] == [200] * 3
    assert total(gateway, "openai_compat_in_flight") == 0


def test_an_open_circuit_shows(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(answers.error_answer(500, "no"))
    gateway = start_gateway(to_upstream(upstream, circuit={"failures": 1}))
    assert [gateway.chat().status_code for _ in range(2)] == [500, 503]
    assert total(gateway, "openai_compat_circuits", upstream="fake", state="open") == 1


def test_with_client_keys_it_takes_one(start_gateway: Any, upstream: FakeUpstream) -> None:
    key, digest = new_key()
    gateway = start_gateway(to_upstream(upstream, keys={"laptop": {"hash": digest}}))
    assert gateway.get("/metrics").status_code == 401
    assert gateway.chat(headers={"authorization": f"Bearer {key}"}).status_code == 200
    text = gateway.get("/metrics", headers={"authorization": f"Bearer {key}"}).text
    assert 'openai_compat_calls_total{outcome="ok",status="200",upstream="fake"} 1.0' in text
    assert key not in text


def test_no_prompt_no_answer_and_no_key_is_in_it(gateway: RunningGateway) -> None:
    gateway.chat(messages=[{"role": "user", "content": "canary-prompt"}], headers={"authorization": "Bearer sk-canary-client"})
    text = gateway.get("/metrics").text
    assert re.search(r"canary|Hello there", text) is None


def test_counting_a_call_costs_next_to_nothing(gateway: RunningGateway) -> None:
    gateway.chat(stream=True)
    record = gateway.calls()[0]
    metrics, best_us = gateway.gateway.metrics, float("inf")
    for _ in range(5):
        begun_s = time.process_time()
        for _ in range(500):
            metrics.began()
            metrics.observe(record)
        best_us = min(best_us, (time.process_time() - begun_s) * 1e6 / 500)
    assert best_us < 200, best_us


@pytest.mark.heavy
@needs_redis
def test_what_is_counted_in_redis_is_not_in_our_memory(start_gateway: Any, upstream: FakeUpstream) -> None:
    with RedisServer() as redis:
        more = {"storage": {"redis_url": redis.url}, "limits": {"client": "100/day; 100000 tokens/day"}, "cache": {"enabled": True}}
        gateway = start_gateway(to_upstream(upstream, **more))
        assert gateway.chat().status_code == 200
        assert gateway.get("/metrics").status_code == 200
        assert total(gateway, "openai_compat_store_entries", store="limit counts") == 0


def test_every_cache_and_queue_has_a_gauge(measured: RunningGateway) -> None:
    measured.chat(headers={"idempotency-key": "k"})
    stores = {dict(labels)["store"] for (name, labels) in samples(measured) if name == "openai_compat_store_entries"}
    assert stores == {
        *("vault", "answers", "circuits", "sessions", "rate limits", "shared answers", "refused parameters", "prompt cache watch"),
        *("log queue", "usage queue", "vault queue", "limit counts", "limited clients", "limit corrections", "routes", "idle connections"),
    }
    assert total(measured, "openai_compat_store_entries", store="routes") == 1
    assert total(measured, "openai_compat_store_entries", store="idle connections") == 1
    assert total(measured, "openai_compat_store_entries", store="circuits") == 1
    assert total(measured, "openai_compat_store_entries", store="rate limits") == 1
    assert total(measured, "openai_compat_store_entries", store="shared answers") == 0
    assert total(measured, "openai_compat_queued", upstream="fake") == 0
