"""Embeddings through the gateway: what goes to the upstream, and what the client gets of its answer."""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
import time
from typing import Any

import gevent
import openai
import pytest
import requests

from compat.calls.call import call_from
from compat.calls.run import CallRun
from compat.endpoints.embeddings import embedding_route
from compat.protocols.chat.embeddings import EMBEDDINGS
from compat.wire.envelope import Envelope
from tests.conftest import RunningGateway, to_upstream
from tests.fakes.openai_answers import completion, error_answer, json_answer
from tests.fakes.upstream import Answer, FakeUpstream, Request, Stall
from tests.integration.services_folder import until

MODEL = "fake/their-embedder"


def vector(text: str, size: int = 4) -> list[float]:
    """A vector that tells its text, in numbers that float32 holds."""
    return [float(len(text)), *(float(number) / 4 for number in range(1, size))]


def packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def embed(request: Request, *, knows_base64: bool = True) -> Answer:
    """A fair imitation of the endpoint. Rows come in another order than asked for, each with its index."""
    body = request.json
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    vectors = [vector(text, body.get("dimensions", 4)) for text in inputs]
    is_base64 = knows_base64 and body.get("encoding_format") == "base64"
    rows = [
        {"object": "embedding", "index": number, "embedding": packed(item) if is_base64 else item} for number, item in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 3 * len(inputs), "total_tokens": 3 * len(inputs)}
    return json_answer({"object": "list", "data": rows[::-1], "model": body["model"], "usage": usage})


def floats_only(request: Request) -> Answer:
    return embed(request, knows_base64=False)


@pytest.fixture
def upstream() -> Any:
    with FakeUpstream(default=embed) as running:
        yield running


def ask(gateway: RunningGateway, path: str = "/embeddings", **body: Any) -> requests.Response:
    return gateway.http.post(gateway.url + path, json={"model": MODEL, **body}, timeout=30)


@pytest.mark.parametrize("path", ["/embeddings", "/v1/embeddings", "/embeddings/"])
def test_a_batch_is_passed_on_and_comes_back_in_order(gateway: RunningGateway, upstream: FakeUpstream, path: str) -> None:
    answer = ask(gateway, path, input=["a", "bcd"], dimensions=3, user="u")
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, 0.25, 0.5]},
            {"object": "embedding", "index": 1, "embedding": [3.0, 0.25, 0.5]},
        ],
        "model": MODEL,
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    }
    sent = upstream.requests[0]
    assert sent.path == "/v1/embeddings"
    assert sent.json == {"model": "their-embedder", "input": ["a", "bcd"], "dimensions": 3, "user": "u"}
    assert sent.headers["authorization"] == "Bearer sk-canary-0123456789"


@pytest.mark.parametrize("responder", [embed, floats_only], ids=["knows base64", "floats only"])
def test_kilos_index_gets_base64_whatever_the_upstream_knows(start_gateway: Any, responder: Any) -> None:
    with FakeUpstream(default=responder) as upstream:
        gateway = start_gateway(to_upstream(upstream))
        rows = ask(gateway, input=[f"{'x' * n}" for n in range(1, 61)], encoding_format="base64").json()["data"]
    assert [row["embedding"] for row in rows] == [packed(vector("x" * n)) for n in range(1, 61)]
    assert [row["index"] for row in rows] == list(range(60))


def test_the_openai_sdk_reads_the_numbers(gateway: RunningGateway) -> None:
    with openai.OpenAI(base_url=gateway.url, api_key="sk-any", max_retries=0) as client:
        answer = client.embeddings.create(model=MODEL, input=["hello", "you"])
    assert [row.embedding for row in answer.data] == [vector("hello"), vector("you")]
    assert answer.usage.total_tokens == 6


def test_tokens_are_inputs_too(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(json_answer({"data": [{"index": 0, "embedding": [1.0]}]}))
    assert ask(gateway, input=[1, 2, 3]).json()["data"][0]["embedding"] == [1.0]
    assert upstream.requests[0].json["input"] == [1, 2, 3]


def test_a_batch_that_is_too_large_for_the_upstream_is_halved(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    def ten_at_most(request: Request) -> Answer:
        if len(request.json["input"]) > 10:
            return error_answer(400, "Value error, batch size is invalid, it should not be larger than 10.: input.contents")
        return embed(request)

    upstream.script(ten_at_most)
    answer = ask(gateway, input=[f"{'x' * n}" for n in range(1, 26)]).json()
    assert [row["embedding"][0] for row in answer["data"]] == [float(n) for n in range(1, 26)]
    assert answer["usage"]["prompt_tokens"] == 75


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": None}, "input"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "model": 1}, "model"),
        ({"input": [["a"]]}, "input"),
    ],
)
def test_a_wrong_field_is_named(gateway: RunningGateway, upstream: FakeUpstream, body: dict[str, Any], param: str) -> None:
    answer = ask(gateway, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert upstream.requests == []


def test_without_an_upstream_the_error_says_what_to_configure(start_gateway: Any) -> None:
    gateway = start_gateway({"upstreams": {"claude": {"kind": "anthropic", "base_url": "http://127.0.0.1:9", "api_keys": ["sk-1"]}}})
    error = ask(gateway, model="text-embedding-3-small", input="a")
    assert error.status_code == 404
    assert error.json()["error"]["code"] == "model_not_found"
    for words in ("no upstream with embedding models is configured", "OPENAI_API_KEY", "ollama pull", "'openai/text-embedding-3-small'"):
        assert words in error.json()["error"]["message"]


def test_a_bare_name_goes_to_an_upstream_whose_list_is_unknown(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    assert ask(gateway, model="text-embedding-3-small", input="a").json()["model"] == "text-embedding-3-small"
    assert upstream.requests[0].json["model"] == "text-embedding-3-small"
    gateway.gateway.router.learn(gateway.gateway.router.upstreams, {"fake": ["their-model"]})
    assert "is not an embedding model" in ask(gateway, model="text-embedding-3-small", input="a").json()["error"]["message"]


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (error_answer(401, "no such key"), 401, "no such key"),
        (json_answer({"data": []}), 502, "did not answer with 1 embeddings"),
        (json_answer({"data": [{"embedding": "@@"}]}), 502, "malformed"),
        (json_answer({"data": [{}]}), 502, "without an embedding"),
        (json_answer(b"<html>"), 502, "not JSON"),
        (json_answer([]), 502, "not an object"),
    ],
)
def test_what_the_upstream_does_wrong_is_told(
    gateway: RunningGateway, upstream: FakeUpstream, answer: Answer, status: int, words: str
) -> None:
    upstream.script(answer)
    told = ask(gateway, input="a")
    assert (told.status_code, words in told.json()["error"]["message"]) == (status, True), told.text


def test_another_upstream_takes_over(start_gateway: Any, upstream: FakeUpstream) -> None:
    with FakeUpstream(default=error_answer(500, "broken")) as broken:
        settings = to_upstream(upstream, retry={"attempts": 3, "first_wait_s": 0.01})
        settings["upstreams"]["bad"] = {"kind": "openai", "base_url": broken.url, "api_keys": ["sk-2"]}
        settings["models"]["mine"] = {"route": ["bad/theirs", "fake/their-embedder"]}
        gateway = start_gateway(settings)
        answer = ask(gateway, model="mine", input="a")
    assert (answer.status_code, answer.headers["x-compat-upstream"]) == (200, "fake/their-embedder")
    assert upstream.requests[-1].json["model"] == "their-embedder"


@pytest.mark.parametrize("steps", [(Stall(),), (b'{"data":', Stall())], ids=["no first byte", "silence within the answer"])
def test_an_upstream_that_falls_silent_is_given_up(start_gateway: Any, upstream: FakeUpstream, steps: tuple[Any, ...]) -> None:
    gateway = start_gateway(to_upstream(upstream, timeouts={"first_byte_s": 0.3, "silence_s": 0.3}))
    is_late = len(steps) == 1
    upstream.script(Answer(() if is_late else steps, before_head=steps if is_late else ()))
    assert ask(gateway, input="a").status_code == 504


def test_a_client_that_leaves_ends_the_call(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream))
    upstream.script(Answer(before_head=(Stall(),)))
    with pytest.raises(requests.ReadTimeout):
        gateway.http.post(gateway.url + "/embeddings", json={"model": MODEL, "input": "a"}, timeout=0.5)
    with gevent.Timeout(10):
        while not gateway.calls():
            gevent.sleep(0.01)
    assert [(record["outcome"], record["status"]) for record in gateway.calls()] == [("cancelled", 499)]
    assert gateway.gateway.gauges.in_flight == 0


def test_another_attempt_is_made_and_the_call_is_recorded(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, retry={"attempts": 3, "first_wait_s": 0.01}))
    upstream.script(error_answer(503, "busy"), embed)
    assert ask(gateway, input="a").status_code == 200
    record = gateway.calls()[-1]
    assert (record["endpoint"], record["deployment"], record["attempts"], record["outcome"]) == ("embeddings", MODEL, 2, "ok")
    assert record["prompt_tokens"] == 3
    assert "canary" not in str(gateway.log_lines())


def test_limits_count_embeddings_and_metrics_tell_of_them(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, limits={"client": "1/hour"}))
    answers = [ask(gateway, input="a").status_code for _ in range(2)]
    assert answers == [200, 429]
    assert [record["status"] for record in gateway.calls()] == answers
    assert f'model="{MODEL}"' in gateway.get("/metrics").text


def test_it_tells_where_it_was_and_what_is_left(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(
        to_upstream(upstream, limits={"client": "3/day; 1000 tokens/day"}, retry={"attempts": 2, "first_wait_s": 0.001})
    )
    upstream.script(error_answer(500, "no"), embed)
    answer = ask(gateway, input="a")
    told = {name: answer.headers[name] for name in ("x-compat-upstream", "x-compat-attempts", "x-ratelimit-remaining-requests")}
    assert told == {"x-compat-upstream": MODEL, "x-compat-attempts": "2", "x-ratelimit-remaining-requests": "2"}
    assert "x-ratelimit-limit-tokens" in answer.headers


def respond_chat(request: Request) -> Answer:
    """A chat's answer, or a completion's."""
    if request.path.endswith("/chat/completions"):
        return json_answer(completion("Hello"))
    return json_answer({"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]})


class Broken:
    """A transport with a fault of our own."""

    idle = 0

    def open(self, *_: Any) -> Any:
        raise ZeroDivisionError


def test_a_fault_of_our_own_leaves_nothing_taken(start_gateway: Any, upstream: FakeUpstream) -> None:
    """What was reserved is given back, and the call is no call in flight for ever."""
    gateway = start_gateway(to_upstream(upstream, limits={"client": "3/day"}))
    route = embedding_route(gateway.gateway, MODEL)
    broken = dataclasses.replace(gateway.gateway, transport=Broken())
    envelope = Envelope(json.dumps({"model": MODEL, "input": "a"}).encode())
    call = call_from(EMBEDDINGS, envelope, request_id="r", client="c", received_s=gateway.gateway.clock.monotonic())
    with pytest.raises(ZeroDivisionError):
        CallRun(broken, call, route=route).whole()
    until(lambda: dict(gateway.gateway.limits.headers("c", MODEL))["x-ratelimit-remaining-requests"] == "3", "it is given back")
    assert "openai_compat_in_flight 0.0" in gateway.get("/metrics").text
    assert (gateway.calls()[-1]["outcome"], gateway.calls()[-1]["status"]) == ("error", 500)
    assert gateway.gateway.policies.gates.report()["fake"]["in_flight"] == 0


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings"])
def test_every_call_waits_for_the_upstreams_limit(start_gateway: Any, upstream: FakeUpstream, path: str) -> None:
    """An upstream that has said that it has no room now is not asked before it has."""
    spent = (("content-type", "application/json"), ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "300ms"))
    gateway = start_gateway(to_upstream(upstream))
    body = {"model": MODEL, "input": "a", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}
    seen_s: list[float] = []

    def respond(request: Request) -> Answer:
        seen_s.append(time.monotonic())
        return dataclasses.replace(embed(request) if path == "/embeddings" else respond_chat(request), headers=spent)

    upstream.default = respond
    for _ in range(2):
        answer = gateway.http.post(gateway.url + path, json=body, timeout=30)
        assert answer.status_code == 200, answer.text
    assert seen_s[-1] - seen_s[-2] >= 0.25
