"""`POST /v1/messages/count_tokens`: by the upstream where it counts, else an estimate that learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from compat.config.settings import merge
from compat.factory import stop_background
from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers as answers
from tests.fakes.anthropic_settings import ALIAS, to_claude
from tests.fakes.responses_settings import ALIAS as GPT
from tests.fakes.responses_settings import to_openai
from tests.fakes.upstream import FakeUpstream

HELLO: Any = [{"role": "user", "content": "Say hello. " * 200}]
BODY: dict[str, Any] = {"model": ALIAS, "messages": HELLO}


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=answers.respond) as running:
        yield running


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_claude(upstream))


def asked(gateway: RunningGateway, **changes: Any) -> Any:
    return gateway.http.post(f"{gateway.url}/messages/count_tokens?beta=true", json={**BODY, **changes}, timeout=30)


def test_an_upstream_that_counts_is_asked(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(answers.json_answer({"input_tokens": 4321}))
    with anthropic.Anthropic(base_url=gateway.root, api_key="sk-any", max_retries=0, timeout=30) as client:
        assert client.messages.count_tokens(model=ALIAS, messages=HELLO).input_tokens == 4321
    [request] = upstream.requests
    assert (request.path, request.json["model"]) == ("/v1/messages/count_tokens", "claude-sonnet-4-6")
    [call] = gateway.calls()
    assert (call["endpoint"], call["outcome"], call.get("cost_usd")) == ("count_tokens", "ok", None)


def test_one_that_has_no_counts_is_asked_once(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(answers.error_answer(404, "no such thing"))
    for _ in range(2):
        answer = asked(gateway)
        assert (answer.status_code, answer.headers["x-compat-notes"]) == (200, "input_tokens=estimate")
        assert 500 < answer.json()["input_tokens"] < 1000
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", [401, 429, 500, 529])
def test_whatever_else_keeps_it_from_counting_there_is_an_estimate(gateway: RunningGateway, upstream: FakeUpstream, status: int) -> None:
    upstream.script(answers.error_answer(status, "not now", kind="api_error"))
    answer = asked(gateway)
    assert (answer.status_code, answer.headers["x-compat-notes"]) == (200, "input_tokens=estimate")


def test_what_is_wrong_with_the_request_is_said_in_the_upstreams_words(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(answers.error_answer(400, "messages: their own words"))
    answer = asked(gateway)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "messages: their own words")


@pytest.mark.parametrize(("change", "status"), [({"model": "nobody"}, 404), ({"messages": []}, 400), ({"model": 5}, 400)])
def test_our_own_refusals_have_anthropics_shape(gateway: RunningGateway, change: dict[str, Any], status: int) -> None:
    answer = asked(gateway, **change)
    assert (answer.status_code, answer.json()["type"]) == (status, "error")


def test_an_upstream_of_another_protocol_is_estimated_at_once(start_gateway: Any, upstream: FakeUpstream) -> None:
    row = {"kind": "openai", "base_url": upstream.url, "api_keys": ["sk-canary-0123456789"], "models": ["gpt-x"]}
    gateway = start_gateway({"upstreams": {"other": row}})
    answer = asked(gateway, model="other/gpt-x")
    assert (answer.status_code, answer.headers["x-compat-notes"], upstream.requests) == (200, "input_tokens=estimate", [])


def test_the_usage_of_calls_teaches_the_estimate(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(merge(to_claude(upstream), {}))
    upstream.script(answers.error_answer(404, "no such thing"))
    first = asked(gateway).json()["input_tokens"]
    upstream.script(answers.json_answer(answers.message([answers.text("Hi")], usage={"input_tokens": 3 * first, "output_tokens": 2})))
    answer = gateway.http.post(f"{gateway.url}/messages", json={**BODY, "max_tokens": 9}, timeout=30)
    assert answer.status_code == 200
    assert asked(gateway).json()["input_tokens"] == pytest.approx(3 * first, rel=0.01)


def test_what_was_learnt_is_known_after_a_restart(tmp_path: Path, upstream: FakeUpstream) -> None:
    first = RunningGateway(to_claude(upstream), tmp_path)
    upstream.script(answers.error_answer(404, "no such thing"))
    told = asked(first).json()["input_tokens"]
    upstream.script(answers.json_answer(answers.message([answers.text("Hi")], usage={"input_tokens": 3 * told, "output_tokens": 2})))
    first.http.post(f"{first.url}/messages", json={**BODY, "max_tokens": 9}, timeout=30)
    stop_background(first.gateway)
    first.close()
    second = RunningGateway(to_claude(upstream), tmp_path)
    upstream.script(answers.error_answer(404, "no such thing"))
    assert asked(second).json()["input_tokens"] == pytest.approx(3 * told, rel=0.01)
    second.close()


# The same in the Responses API.


@pytest.fixture
def responses_gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    started: RunningGateway = start_gateway(to_openai(upstream))
    return started


def test_openais_service_is_asked_for_its_own_count(responses_gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(answers.json_answer({"object": "response.input_tokens", "input_tokens": 4321}))
    with openai.OpenAI(base_url=responses_gateway.url, api_key="sk-any", max_retries=0, timeout=30) as client:
        assert client.responses.input_tokens.count(model=GPT, input="Say hello.").input_tokens == 4321
    [request] = upstream.requests
    assert (request.path, request.json["model"]) == ("/v1/responses/input_tokens", "gpt-6.1-sol")
    assert [call["endpoint"] for call in responses_gateway.calls()] == ["input_tokens"]


def test_any_other_is_estimated(gateway: RunningGateway) -> None:
    body = {"model": ALIAS, "input": "Say hello. " * 200}
    answer = gateway.http.post(f"{gateway.url}/responses/input_tokens", json=body, timeout=30)
    assert (answer.status_code, answer.headers["x-compat-notes"]) == (200, "input_tokens=estimate")
    assert 400 < answer.json()["input_tokens"] < 1000
