"""Plain completions: passed on where the upstream has them, asked for by a chat prompt where it has not."""

from __future__ import annotations

import json
from typing import Any

import gevent
import gevent.event
import openai
import pytest
import requests

from tests.conftest import RunningGateway, to_upstream
from tests.fakes.openai_answers import chunk, completion, error_answer, json_answer, stream_answer, usage_chunk
from tests.fakes.upstream import Answer, FakeUpstream, Request
from tests.integration.services_folder import until

PROMPT, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"
THEIRS = {
    "id": "cmpl-theirs",
    "object": "text_completion",
    "created": 1,
    "model": "their-model",
    "choices": [{"index": 0, "text": "a + b", "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}


def ask(gateway: RunningGateway, path: str = "/completions", **body: Any) -> requests.Response:
    sent = {"model": "claude-4-sonnet", "prompt": PROMPT, "suffix": SUFFIX, **body}
    return gateway.http.post(gateway.url + path, json=sent, timeout=30)


def events(answer: requests.Response) -> list[Any]:
    data = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(item) for item in data[:-1]]


@pytest.fixture
def chatting(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    """A gateway before an upstream that has chat and nothing else."""
    settings = to_upstream(upstream)
    settings["upstreams"]["fake"]["kind"] = "deepseek"
    return start_gateway(settings)


@pytest.mark.parametrize("path", ["/completions", "/v1/completions", "/completions/"])
def test_it_is_passed_on_where_the_upstream_completes(gateway: RunningGateway, upstream: FakeUpstream, path: str) -> None:
    upstream.script(json_answer(THEIRS))
    answer = ask(gateway, path, max_tokens=20, temperature=0.2)
    assert answer.json() == {**THEIRS, "model": "claude-4-sonnet"}
    sent = upstream.requests[0]
    assert sent.path == "/v1/completions"
    assert sent.json == {"model": "their-model", "prompt": PROMPT, "suffix": SUFFIX, "max_tokens": 20, "temperature": 0.2}
    assert gateway.calls()[-1]["completion_tokens"] == 3


def test_it_is_streamed_when_it_is_asked_to_be(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(json_answer(THEIRS))
    first, last = events(ask(gateway, stream=True, stream_options={"include_usage": True}))
    assert (first["object"], first["choices"][0]["text"], first["choices"][0]["finish_reason"]) == ("text_completion", "a + b", "stop")
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 12)


def test_a_chat_model_is_asked_by_a_prompt_and_that_is_remembered(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    words = "This is a chat model and not supported in the v1/completions endpoint."
    upstream.script(error_answer(404, words), json_answer(completion("a + b")), json_answer(completion("b + a")))
    assert ask(gateway).json()["choices"][0]["text"] == "a + b"
    assert ask(gateway).json()["choices"][0]["text"] == "b + a"
    assert [request.path for request in upstream.requests] == ["/v1/completions", "/v1/chat/completions", "/v1/chat/completions"]


def test_the_chat_prompt_shows_the_hole(chatting: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(json_answer(completion("a + b")))
    answer = ask(chatting, max_tokens=30, temperature=0.1, stop=["\n\n"]).json()
    assert (answer["object"], answer["model"], answer["id"]) == ("text_completion", "claude-4-sonnet", "cmpl-theirs")
    assert answer["choices"] == [{"index": 0, "text": "a + b", "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"]["total_tokens"] == 18
    body = upstream.requests[0].json
    assert body["messages"][1] == {"role": "user", "content": f"{PROMPT}<hole/>{SUFFIX}"}
    assert (body["max_tokens"], body["temperature"], body["stop"], body["stream"]) == (30, 0.1, ["\n\n"], False)


def test_without_a_suffix_the_text_is_carried_on(chatting: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(json_answer(completion("a + b")))
    assert ask(chatting, suffix=None, echo=True).json()["choices"][0]["text"] == PROMPT + "a + b"
    assert upstream.requests[0].json["messages"][1]["content"] == PROMPT


FENCED = ["``", "`py", "thon\n", "a +", " b\n", "`", "``"]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [(["a", " + ", "b"], "a + b"), (FENCED, "a + b"), (["`a", "` + b"], "`a` + b"), (["```\na\n```"], "a"), (["  ", "a "], "  a ")],
)
def test_streamed_and_whole_answers_are_the_same_text(
    chatting: RunningGateway, upstream: FakeUpstream, pieces: list[str], text: str
) -> None:
    chunks = [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": piece}) for piece in pieces),
        chunk({}, "stop"),
        usage_chunk(),
    ]
    upstream.script(stream_answer(chunks), json_answer(completion("".join(pieces))))
    streamed = events(ask(chatting, stream=True, stream_options={"include_usage": True}))
    whole = ask(chatting).json()
    assert "".join(item["choices"][0]["text"] for item in streamed if item["choices"]) == text
    assert whole["choices"][0]["text"] == text
    assert {(item["id"], item["object"], item["model"]) for item in streamed} == {("cmpl-theirs", "text_completion", "claude-4-sonnet")}
    assert [item["choices"][0]["finish_reason"] for item in streamed if item["choices"]][-1] == "stop"
    assert streamed[-1]["usage"]["total_tokens"] == 18


def test_the_openai_sdk_completes(chatting: RunningGateway) -> None:
    with openai.OpenAI(base_url=chatting.url, api_key="sk-any", max_retries=0) as client:
        whole = client.completions.create(model="claude-4-sonnet", prompt=PROMPT, suffix=SUFFIX)
        streamed = list(client.completions.create(model="claude-4-sonnet", prompt=PROMPT, suffix=SUFFIX, stream=True))
    assert whole.choices[0].text == "Hello there."
    assert "".join(item.choices[0].text for item in streamed) == "Hello there."


def test_an_error_keeps_its_status(chatting: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(error_answer(429, "slow down"))
    assert [ask(chatting, stream=stream).status_code for stream in (False, True)] == [429, 429]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"suffix": 1}, "suffix"),
        ({"n": 2}, "n"),
        ({"stream": 1}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"model": ""}, "model"),
    ],
)
def test_a_wrong_field_is_named(gateway: RunningGateway, upstream: FakeUpstream, body: dict[str, Any], param: str) -> None:
    answer = ask(gateway, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert upstream.requests == []


def test_it_tells_where_it_was_and_what_is_left(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(json_answer(THEIRS))
    gateway = start_gateway(to_upstream(upstream, limits={"client": "2/day"}))
    for stream, left in ((False, "1"), (True, "0")):
        headers = ask(gateway, stream=stream).headers
        told = [headers[name] for name in ("x-compat-upstream", "x-compat-attempts", "x-ratelimit-remaining-requests")]
        assert told == ["fake/their-model", "1", left]
    assert ask(gateway).status_code == 429


def test_calls_at_once_hold_what_their_answers_may_cost(start_gateway: Any, upstream: FakeUpstream) -> None:
    """Of many completions at once one passes a budget at most, as of chat calls."""
    opened = gevent.event.Event()

    def waits(_: Request) -> Answer:
        assert opened.wait(20)
        return json_answer(THEIRS)

    upstream.default = waits
    facts = {"max_output": 1000, "price": {"input": 0.0, "output": 30.0}}
    gateway = start_gateway(to_upstream(upstream, models={"their-model": {"facts": facts}}, limits={"budget": {"day_usd": 0.06}}))
    running = [gevent.spawn(ask, gateway) for _ in range(2)]
    until(lambda: len(upstream.requests) == 2, "both are there")
    refused = ask(gateway).status_code
    opened.set()
    assert [one.get().status_code for one in running] == [200, 200]
    assert refused in {402, 429}
    assert ask(gateway, max_tokens=10).status_code == 200, "what was not used was given back"
