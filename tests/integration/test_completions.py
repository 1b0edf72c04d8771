"""Plain completions: passed on where the upstream has them, asked for by a chat prompt where it has not."""

from __future__ import annotations

import json
import threading
from typing import Any

import gevent
import gevent.event
import openai
import pytest
import requests

from tests.conftest import RunningGateway, to_upstream
from tests.fakes.openai_answers import chunk, completion, error_answer, event, json_answer, sse_answer, stream_answer, usage_chunk
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request, Until
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
    told = answer.json()
    assert told.pop("usage")["total_tokens"] == 12
    assert told == {name: value for name, value in THEIRS.items() if name != "usage"} | {"model": "claude-4-sonnet"}
    sent = upstream.requests[0]
    assert sent.path == "/v1/completions"
    assert sent.json == {"model": "their-model", "prompt": PROMPT, "suffix": SUFFIX, "max_tokens": 20, "temperature": 0.2}
    assert gateway.calls()[-1]["completion_tokens"] == 3


def pieces(*texts: str, reason: str | None = "stop") -> list[bytes]:
    """Events of an upstream's own completion."""
    head = {key: THEIRS[key] for key in ("id", "object", "created", "model")}
    rows: list[tuple[str, str | None]] = [(text, None) for text in texts]
    choices = [{"index": 0, "text": text, "logprobs": None, "finish_reason": end} for text, end in (*rows, ("", reason))]
    return [event({**head, "choices": [choice]}) for choice in choices]


def text_of(told: list[Any]) -> str:
    return "".join(item["choices"][0]["text"] for item in told if item.get("choices"))


def test_an_upstreams_own_stream_arrives_as_it_is_written(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Not a whole answer played as a stream: the first piece is there before the upstream has written the second."""
    first, *rest = pieces("a + ", "b")
    is_read = threading.Event()

    usage = event({"object": "text_completion", "choices": [], "usage": THEIRS["usage"]})
    upstream.script(sse_answer(first, Until(is_read), *rest, usage, event("[DONE]")))
    sent = {"model": "claude-4-sonnet", "prompt": PROMPT, "suffix": SUFFIX, "stream": True, "stream_options": {"include_usage": True}}
    with gateway.http.post(gateway.url + "/completions", json=sent, timeout=30, stream=True) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines)[6:])["choices"][0]["text"] == "a + "
        is_read.set()
        told = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    assert text_of(told) == "b"
    assert {(item["object"], item["id"], item["model"]) for item in told} == {("text_completion", "cmpl-theirs", "claude-4-sonnet")}
    assert told[-1]["usage"]["total_tokens"] == 12
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    [record] = gateway.calls()
    assert (record["completion_tokens"], record["endpoint"], record["finish_reason"]) == (3, "completions", "stop")


def test_a_whole_answer_to_a_stream_is_a_stream(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(json_answer(THEIRS))
    first, last = events(ask(gateway, stream=True, stream_options={"include_usage": True}))
    assert (first["object"], first["choices"][0]["text"], first["choices"][0]["finish_reason"]) == ("text_completion", "a + b", "stop")
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 12)


def test_an_end_mark_without_a_reason_ends_a_completion(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(sse_answer(*pieces("a", reason=None), event("[DONE]")))
    told = events(ask(gateway, stream=True))
    assert (text_of(told), told[-1]["choices"][0]["finish_reason"]) == ("a", "stop")
    assert gateway.calls()[-1]["notes"] == "finish_reason=inferred"


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ((Cut(),), "upstream_broken"),
        ((b"data: {\n\n",), "upstream_broken"),
        ((), "upstream_broken"),
        ((b'data: {"choices": [{"text": 5}]}\n\n',), "upstream_broken"),
        ((b'data: {"error": {"message": "overloaded", "type": "overloaded_error"}}\n\n',), "server_error"),
        ((b'event: error\ndata: {"message": "overloaded", "type": "overloaded_error"}\n\n',), "server_error"),
    ],
)
def test_a_completion_that_breaks_ends_with_an_error(gateway: RunningGateway, upstream: FakeUpstream, steps: Any, code: str) -> None:
    upstream.script(sse_answer(pieces("a")[0], *steps))
    text = ask(gateway, stream=True).text
    last = json.loads(text.rstrip().splitlines()[-1][6:])
    assert last["error"]["code"] == code
    assert "[DONE]" not in text


def test_the_answer_cache_and_the_session_are_those_of_any_call(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(json_answer(THEIRS))
    headers = {"x-compat-cache": "on", "x-session-id": "s1"}
    sent = {"model": "claude-4-sonnet", "prompt": PROMPT, "suffix": SUFFIX}
    told = [gateway.http.post(gateway.url + "/completions", json=sent, headers=headers, timeout=30) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in told] == ["miss", "hit"]
    assert [answer.json()["choices"] for answer in told] == [THEIRS["choices"]] * 2
    streamed = gateway.http.post(gateway.url + "/completions", json={**sent, "stream": True}, headers=headers, timeout=30)
    assert (streamed.headers["x-cache"], text_of(events(streamed))) == ("hit", "a + b")
    echoed = gateway.http.post(gateway.url + "/completions", json={**sent, "suffix": "", "echo": True}, headers=headers, timeout=30)
    assert echoed.headers["x-cache"] == "miss"


def test_a_call_that_falls_back_to_a_chat_has_one_record(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(error_answer(404, "not here"), json_answer(completion("a + b")))
    answer = ask(gateway)
    assert answer.json()["choices"][0]["text"] == "a + b"
    assert "learnt=endpoint infill" in answer.headers["x-compat-notes"]
    assert [record["outcome"] for record in gateway.calls()] == ["ok"]


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
