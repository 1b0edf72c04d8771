"""Clients of Anthropic's protocol over upstreams of OpenAI's chat: Anthropic's own SDK does a task of several calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from compat.config.settings import merge
from tests.cases.messages_client import events_of, message_of
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import anthropic_answers as answers
from tests.fakes import openai_answers as openai
from tests.fakes.anthropic_settings import KEY, origin_of
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request

ALIAS = "claude-4-sonnet"
HELLO: Any = [{"role": "user", "content": "Say hello."}]
TOOLS: Any = [
    {"name": "read_file", "description": "Reads.", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}
]
FAST = {"attempts": 4, "first_wait_s": 0.001, "max_wait_s": 0.002}


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.root, api_key="sk-any", max_retries=0, timeout=30) as client:
        yield client


def ask(gateway: RunningGateway, **fields: Any) -> Any:
    sent = {"model": ALIAS, "messages": HELLO, "max_tokens": 100, **fields}
    return gateway.http.post(f"{gateway.url}/messages", json=sent, timeout=30)


def read(answer: Any) -> dict[str, Any]:
    return message_of(events_of(b"\n\n".join(one for one in answer.content.split(b"\n\n") if not one.startswith(b":"))))


def test_whole_and_streamed_answers_are_equal(client: anthropic.Anthropic, upstream: FakeUpstream) -> None:
    whole = client.messages.create(model=ALIAS, max_tokens=100, messages=HELLO)
    with client.messages.stream(model=ALIAS, max_tokens=100, messages=HELLO) as stream:
        streamed = stream.get_final_message()
    assert [block.model_dump(exclude_none=True) for block in whole.content] == [{"type": "text", "text": "Hello there."}]
    assert [block.model_dump(exclude={"parsed_output"}, exclude_none=True) for block in streamed.content] == [
        {"type": "text", "text": "Hello there."}
    ]
    assert whole.usage.model_dump(exclude_none=True) == streamed.usage.model_dump(exclude_none=True)
    assert whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0) == openai.USAGE["prompt_tokens"]
    assert [one.json["model"] for one in upstream.requests] == ["their-model"] * 2


def test_a_task_of_several_calls_is_done(client: anthropic.Anthropic, upstream: FakeUpstream) -> None:
    with client.messages.stream(model=ALIAS, max_tokens=100, messages=HELLO, tools=TOOLS) as stream:
        first = stream.get_final_message()
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.id, call.name, call.input) for call in calls] == [("call_1", "read_file", {"path": "a.py"}), ("call_2", "list_files", {})]
    results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": f"of {call.id}"} for call in calls]
    said: Any = [block.model_dump(exclude={"parsed_output"}, exclude_none=True) for block in first.content]
    history: Any = [*HELLO, {"role": "assistant", "content": said}, {"role": "user", "content": results}]
    upstream.script(openai.json_answer(openai.completion("Done.")))
    last = client.messages.create(model=ALIAS, max_tokens=100, messages=history, tools=TOOLS)
    assert last.content[0].text == "Done."
    sent = upstream.requests[-1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [message["content"] for message in sent[2:]] == ["of call_1", "of call_2"]


def thinker(request: Request) -> Answer:
    """Thinks aloud, and is streamed where that is asked for."""
    if not request.json.get("stream"):
        return openai.json_answer(openai.completion("A", reasoning_content="Hm."))
    chunks = [openai.chunk({"reasoning_content": "Hm."}), openai.chunk({"content": "A"}), openai.chunk({}, "stop"), openai.usage_chunk()]
    return openai.stream_answer(chunks)


@pytest.mark.parametrize("display", ["omitted", "summarized"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_model_thought_goes_back_to_it_after_a_restart_and_to_no_other(
    start_gateway: Any, upstream: FakeUpstream, display: str, stream: bool
) -> None:
    upstream.default = thinker
    secret = {"sealing": {"secrets": ["0123456789abcdef0123456789abcdef"]}}
    settings = to_upstream(upstream, **secret, models={"other": {"route": ["fake/other-model"]}})
    first = ask(start_gateway(settings), thinking={"type": "adaptive", "display": display}, stream=stream)
    content = read(first)["content"] if stream else first.json()["content"]
    assert [block["type"] for block in content] == ["thinking", "text"]
    assert content[0]["thinking"] == ("" if display == "omitted" else "Hm.")
    history = [*HELLO, {"role": "assistant", "content": content}, *HELLO]
    restarted = start_gateway(settings)
    assert ask(restarted, messages=history).status_code == 200
    assert upstream.requests[-1].json["messages"][1] == {"role": "assistant", "content": "A", "reasoning_content": "Hm."}
    other = ask(restarted, messages=history, model="other")
    assert upstream.requests[-1].json["messages"][1] == {"role": "assistant", "content": "A"}
    assert "thinking=omitted" in other.headers["x-compat-notes"]


def test_an_overflow_is_the_sentence_that_clients_compact_on(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    words = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens."
    upstream.script(openai.error_answer(400, words, code="context_length_exceeded"))
    answer = ask(gateway)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        {"type": "invalid_request_error", "message": "prompt is too long: 130001 tokens > 128000 maximum"},
    )


@pytest.mark.parametrize(
    ("status", "theirs", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (402, 402, "billing_error"),
        (404, 404, "not_found_error"),
        (429, 429, "rate_limit_error"),
        (502, 500, "api_error"),
        (503, 529, "overloaded_error"),
    ],
)
def test_an_upstreams_error_is_one_of_this_protocol(
    gateway: RunningGateway, upstream: FakeUpstream, status: int, theirs: int, kind: str
) -> None:
    upstream.script(openai.error_answer(status, "their words"))
    answer = ask(gateway, stream=True)
    assert (answer.status_code, answer.json()["error"]["type"]) == (theirs, kind)
    assert "their words" in answer.json()["error"]["message"]


def test_an_answer_that_was_cut_is_carried_on_by_another_kind_of_upstream(start_gateway: Any, upstream: FakeUpstream) -> None:
    with FakeUpstream(default=answers.stream_answer(answers.stream_events([answers.text(" there.")]))) as claude:
        upstreams = {"claude": {"kind": "anthropic", "base_url": origin_of(claude), "api_keys": [KEY]}}
        route = {ALIAS: {"route": ["fake/their-model", "claude/claude-sonnet-4-6"]}}
        gateway = start_gateway(merge(to_upstream(upstream, upstreams=upstreams, retry=FAST), {"models": route}))
        upstream.script(openai.sse_answer(openai.event(openai.chunk({"content": "Hello"})), Cut()))
        answer = ask(gateway, stream=True)
        assert [block["text"] for block in read(answer)["content"]] == ["Hello there."]
        assert claude.requests[0].json["messages"][-2] == {"role": "assistant", "content": "Hello"}


def test_a_call_goes_on_at_the_other_kind_where_the_first_has_no_room(start_gateway: Any, upstream: FakeUpstream) -> None:
    with FakeUpstream(default=answers.error_answer(529, "Overloaded")) as claude:
        upstreams = {"claude": {"kind": "anthropic", "base_url": origin_of(claude), "api_keys": [KEY]}}
        route = {ALIAS: {"route": ["claude/claude-sonnet-4-6", "fake/their-model"]}}
        gateway = start_gateway(merge(to_upstream(upstream, upstreams=upstreams, retry=FAST), {"models": route}))
        for stream in (False, True):
            answer = ask(gateway, stream=stream)
            content = read(answer)["content"] if stream else answer.json()["content"]
            assert content == [{"type": "text", "text": "Hello there."}]


def test_what_was_left_out_is_noted(gateway: RunningGateway) -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    answer = ask(gateway, tools=[*TOOLS, search], safeguards=[{"type": "dangerous_tool_use"}])
    assert answer.headers["x-compat-notes"] == "dropped=tool(web_search); dropped=safeguards"
    assert json.loads(answer.content)["type"] == "message"


def test_a_session_is_the_key_of_its_prompt_cache_where_the_upstream_knows_one(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    def keys(session: str) -> str:
        headers = {"x-claude-code-session-id": session}
        sent = {"model": ALIAS, "messages": HELLO, "max_tokens": 100}
        gateway.http.post(f"{gateway.url}/messages", json=sent, headers=headers, timeout=30)
        return str(upstream.requests[-1].json["prompt_cache_key"])

    assert keys("one") == keys("one") != keys("two")
    assert "one" not in keys("one")


def test_an_upstream_that_refuses_the_key_is_asked_without(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(openai.error_answer(400, "Unknown parameter: 'prompt_cache_key'."), openai.respond)
    answer = ask(gateway)
    assert answer.headers["x-compat-notes"] == "learnt=prompt_cache_key"
    assert ["prompt_cache_key" in one.json for one in upstream.requests] == [True, False]
