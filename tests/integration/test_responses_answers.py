"""Answers of the Responses protocol over real sockets, of an upstream that speaks another one: failed, given again, and with thoughts in
the form in which Codex sends them back."""

from __future__ import annotations

from typing import Any

import pytest

from compat.config.settings import merge
from tests.cases.responses_client import checked, events_of, response_of
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request

ALIAS = "claude-4-sonnet"
HELLO = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(over_chat(upstream))


def over_chat(upstream: FakeUpstream, **more: Any) -> dict[str, Any]:
    """Settings with an upstream that has nothing but chat."""
    return merge(to_upstream(upstream, upstreams={"fake": {"wire_api": "chat"}}), more)


def ask(gateway: RunningGateway, headers: Any = None, **fields: Any) -> Any:
    sent = {"model": ALIAS, "input": [HELLO], **fields}
    return gateway.http.post(f"{gateway.url}/responses", json=sent, headers=headers, timeout=30)


def events(answer: Any) -> list[dict[str, Any]]:
    return events_of(b"".join(one + b"\n\n" for one in answer.content.split(b"\n\n") if one and not one.startswith(b":")))


def read(answer: Any) -> dict[str, Any]:
    """The response of an answer, streamed or whole."""
    is_stream = answer.headers["content-type"].startswith("text/event-stream")
    return response_of(events(answer)) if is_stream else checked(answer.json())


def thinker(request: Request) -> Answer:
    """Thinks aloud, and is streamed where that is asked for."""
    if not request.json.get("stream"):
        return openai.json_answer(openai.completion("A", reasoning_content="Hm."))
    chunks = [openai.chunk({"reasoning_content": "Hm."}), openai.chunk({"content": "A"}), openai.chunk({}, "stop"), openai.usage_chunk()]
    return openai.stream_answer(chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_model_thought_goes_back_to_it_after_a_restart_and_to_no_other(
    start_gateway: Any, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.default = thinker
    secret = {"sealing": {"secrets": ["0123456789abcdef0123456789abcdef"]}}
    settings = over_chat(upstream, **secret, models={"other": {"route": ["fake/other-model"]}})
    output = read(ask(start_gateway(settings), stream=stream))["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    kept = {**output[0], "summary": [], "content": None}  # as Codex sends it
    restarted = start_gateway(settings)
    assert ask(restarted, input=[HELLO, kept, output[1], HELLO]).status_code == 200
    assert upstream.requests[-1].json["messages"][1] == {"role": "assistant", "content": "A", "reasoning_content": "Hm."}
    assert ask(restarted, input=[HELLO, kept, output[1], HELLO], model="other").status_code == 200
    assert upstream.requests[-1].json["messages"][1] == {"role": "assistant", "content": "A"}


def test_an_answer_that_fails_in_the_middle_ends_where_it_stands(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(over_chat(upstream, retry={"attempts": 2}))
    upstream.script(openai.sse_answer(*(openai.event(openai.chunk({"content": word})) for word in ("{", '"a')), Cut()))
    told = events(ask(gateway, stream=True, text={"format": {"type": "json_object"}}))
    begun, failed = told[0]["response"], told[-1]["response"]
    assert [one["type"] for one in told if "response" in one] == ["response.created", "response.in_progress", "response.failed"]
    assert failed["error"]["code"] == "server_error"
    assert failed == {**begun, "status": "failed", "error": failed["error"]}


@pytest.mark.parametrize(
    ("status", "ours", "code"),
    [(400, 400, None), (404, 404, None), (429, 503, None), (402, 429, "insufficient_quota"), (503, 503, "server_error")],
)
def test_an_upstreams_error_is_one_that_codex_acts_on(
    gateway: RunningGateway, upstream: FakeUpstream, status: int, ours: int, code: str | None
) -> None:
    upstream.script(openai.error_answer(status, "their words"))
    answer = ask(gateway, stream=True)
    assert answer.status_code == ours
    error = answer.json()["error"]
    assert "their words" in error["message"]
    assert code is None or error["code"] == code


def test_an_answer_is_given_again_whole_and_streamed(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(over_chat(upstream, cache={"enabled": True}))
    first = read(ask(gateway, top_p=0.5))
    for stream in (False, True):
        answer = ask(gateway, top_p=0.5, stream=stream)
        assert answer.headers["x-cache"] == "hit"
        given = read(answer)
        assert (given["output"][0]["content"], given["top_p"]) == (first["output"][0]["content"], 0.5)
        assert given["usage"]["total_tokens"] == 0
    assert len(upstream.requests) == 1
