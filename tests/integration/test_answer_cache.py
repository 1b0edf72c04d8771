"""The cache of whole answers over real sockets: when it is asked, what it says, what a hit is, and who shares it."""

from __future__ import annotations

import json
from typing import Any

import gevent
import openai
import pytest

from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as answers
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Sleep, Stall
from tests.integration.services_folder import until

NAME = "claude-4-sonnet"
ON = {"x-compat-cache": "on"}
TOOLS = [{"type": "function", "function": {"name": "read_file", "parameters": {"type": "object"}}}]


@pytest.fixture
def caching(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_upstream(upstream, cache={"enabled": True}))


def verdict(gateway: RunningGateway, **rest: Any) -> str | None:
    return gateway.chat(**rest).headers.get("x-cache")


def test_it_is_off_unless_asked_for(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    assert [verdict(gateway) for _ in range(2)] == [None, None]
    assert len(upstream.requests) == 2
    assert [verdict(gateway, headers=ON) for _ in range(2)] == ["miss", "hit"]
    assert len(upstream.requests) == 3


def test_a_call_can_pass_by_or_have_a_new_answer(caching: RunningGateway, upstream: FakeUpstream) -> None:
    wishes = ["", "", "off", "refresh", ""]
    seen = [verdict(caching, headers={"x-compat-cache": wish} if wish else None) for wish in wishes]
    assert seen == ["miss", "hit", "bypass;off", "bypass;refresh", "hit"]
    assert len(upstream.requests) == 3
    assert caching.chat(headers={"x-compat-cache": "maybe"}).status_code == 400


def test_hits_say_nothing_about_how_quick_the_upstream_is(start_gateway: Any, upstream: FakeUpstream) -> None:
    limits = {"first_limit": 64, "min_limit_when_slow": 1, "slow_factor": 10}
    gateway = start_gateway(to_upstream(upstream, cache={"enabled": True}, concurrency=limits))
    upstream.default = answers.sse_answer(Sleep(0.1), answers.sse_bytes(answers.text_chunks()))
    assert [verdict(gateway, stream=True) for _ in range(2)] == ["miss", "hit"]
    jobs = [gevent.spawn(verdict, gateway, stream=True, messages=[{"role": "user", "content": f"{number:02}"}]) for number in range(20)]
    gevent.joinall(jobs, raise_error=True)
    assert {job.value for job in jobs} == {"miss"}
    assert gateway.gateway.policies.gates.report()["fake"]["limit"] >= 64


@pytest.mark.parametrize("first", [False, True], ids=["whole", "streamed"])
def test_a_hit_is_the_same_answer_whole_or_streamed_and_costs_nothing(caching: RunningGateway, upstream: FakeUpstream, first: bool) -> None:
    client = openai.OpenAI(base_url=caching.url, api_key="any", max_retries=0)
    messages: Any = [{"role": "user", "content": "Hi"}]
    given: Any = client.chat.completions.create(model=NAME, messages=messages, stream=first)
    assert [one.object for one in given][-1] == "chat.completion.chunk" if first else given.usage.total_tokens == 18
    raw = client.chat.completions.with_raw_response.create(model=NAME, messages=messages)
    whole = raw.parse()
    assert raw.headers["x-cache"] == "hit"
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason, whole.model) == ("Hello there.", "stop", NAME)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (0, 0, 0)
    chunks = list(client.chat.completions.create(model=NAME, messages=messages, stream=True, stream_options={"include_usage": True}))
    client.close()
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "Hello there."
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == "stop"
    assert (chunks[-1].usage.total_tokens, chunks[-1].choices) == (0, [])
    assert len({one.id for one in chunks}) == 1
    hits = [call for call in caching.calls() if call.get("cache") == "hit"]
    assert [(call["cost_usd"], call["prompt_tokens"], call["outcome"]) for call in hits] == [(0.0, 0, "ok")] * 2
    assert len(upstream.requests) == 1


def test_a_streamed_hit_is_whole_events_to_the_end_mark(caching: RunningGateway) -> None:
    caching.chat()
    answer = caching.chat(stream=True)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert (answer.headers["x-cache"], answer.headers["content-type"]) == ("hit", "text/event-stream; charset=utf-8")
    assert events[-1] == "[DONE]"
    assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in events[:-1])


def test_a_hit_takes_nothing_of_a_limit(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, cache={"enabled": True}, limits={"client": "2/day"}))
    assert [gateway.chat().status_code for _ in range(5)] == [200] * 5
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"tools": TOOLS}, "bypass;tools"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "c", "content": "x"}]}, "bypass;tool-results"),
        (
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": answers.TOOL_CALLS}]},
            "bypass;tool-results",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_calls_with_tools_always_reach_the_upstream(
    caching: RunningGateway, upstream: FakeUpstream, body: dict[str, Any], said: str, stream: bool
) -> None:
    assert [verdict(caching, stream=stream, **body) for _ in range(2)] == [said] * 2
    assert len(upstream.requests) == 2


LENGTH = answers.completion(finish_reason="length")
CUT_SHORT = [*answers.text_chunks()[:-2], answers.chunk({}, "length")]
REFUSAL = answers.completion(None, refusal="I can't.")


@pytest.mark.parametrize(
    ("answer", "stream"),
    [
        (answers.error_answer(500, "no"), False),
        (answers.error_answer(400, "no"), True),
        (answers.json_answer(LENGTH), False),
        (answers.stream_answer(CUT_SHORT), True),
        (answers.json_answer(REFUSAL), False),
        (answers.json_answer(answers.completion(finish_reason="content_filter")), False),
        (answers.json_answer(answers.completion(None, finish_reason="tool_calls", tool_calls=answers.TOOL_CALLS)), False),
        (answers.stream_answer(answers.tool_chunks()), True),
        (answers.sse_answer(answers.event(answers.chunk({"content": "Hel"})), Cut()), True),
        (answers.json_answer({**answers.completion(), "choices": []}), False),
    ],
    ids=["500", "400", "length", "length stream", "refusal", "filter", "tool calls", "tool stream", "cut", "empty"],
)
def test_only_whole_answers_of_text_are_kept(start_gateway: Any, upstream: FakeUpstream, answer: Answer, stream: bool) -> None:
    upstream.script(answer)
    gateway = start_gateway(to_upstream(upstream, cache={"enabled": True}, rescue={"enabled": False}))
    for _ in range(2):
        assert gateway.chat(stream=stream).headers.get("x-cache") == "miss"
    assert len(upstream.requests) == 2
    assert gateway.gateway.answers.shelf.entries == 0


def test_an_answer_whose_client_left_is_not_kept(caching: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(
        answers.sse_answer(answers.event(answers.chunk({"content": "Hel"})), Stall()), answers.stream_answer(answers.text_chunks())
    )
    body = {"model": NAME, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    with caching.http.post(f"{caching.url}/chat/completions", json=body, stream=True, timeout=30) as answer:
        assert b"Hel" in next(answer.iter_content(None))
    until(caching.calls, "the call is over")
    assert verdict(caching, stream=True) == "miss"


def test_an_answer_that_two_upstreams_gave_is_not_kept(start_gateway: Any, upstream: FakeUpstream) -> None:
    part = answers.sse_answer(answers.event(answers.chunk({"content": "Hello, this is the first half "})), Cut())
    with FakeUpstream(default=part) as dying:
        dies = {"kind": "openai", "base_url": dying.url, "api_keys": ["sk-canary-0123456789"]}
        route = [{"to": "dying/a", "priority": 1}, {"to": "fake/b", "priority": 2}]
        settings = to_upstream(upstream, cache={"enabled": True}, retry={"attempts": 3}, models={NAME: {"route": route}})
        gateway = start_gateway({**settings, "upstreams": {**settings["upstreams"], "dying": dies}})
        assert "[DONE]" in gateway.chat(stream=True).text
        assert "carried_on_from" in gateway.calls()[0]
        assert gateway.gateway.answers.shelf.entries == 0


def test_two_clients_never_share_an_answer(caching: RunningGateway, upstream: FakeUpstream) -> None:
    keys = ["one", "two", "one", "two"]
    assert [verdict(caching, headers={"authorization": f"Bearer {key}"}) for key in keys] == ["miss", "miss", "hit", "hit"]
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "change", [{"temperature": 0.5}, {"max_tokens": 7}, {"messages": [{"role": "user", "content": "hi"}]}, {"seed": 1}]
)
def test_another_question_is_another_answer(caching: RunningGateway, change: dict[str, Any]) -> None:
    assert [verdict(caching), verdict(caching, **change), verdict(caching)] == ["miss", "miss", "hit"]


def test_an_answer_of_claude_is_kept_as_well(start_gateway: Any) -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "Hello there."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 7},
    }
    with FakeUpstream(default=answers.json_answer(message)) as claude:
        settings = {
            "upstreams": {
                "claude": {"kind": "anthropic", "base_url": claude.url.removesuffix("/v1"), "api_keys": ["sk-canary-0123456789"]}
            },
            "models": {NAME: {"route": ["claude/claude-sonnet-4-6"]}},
            "cache": {"enabled": True},
        }
        gateway = start_gateway(settings)
        assert [verdict(gateway), verdict(gateway)] == ["miss", "hit"]
        assert gateway.chat().json()["choices"][0]["message"]["content"] == "Hello there."
        assert len(claude.requests) == 1


@needs_redis
@pytest.mark.heavy
def test_two_gateways_share_answers_in_redis(start_gateway: Any, upstream: FakeUpstream) -> None:
    with RedisServer() as redis:
        settings = to_upstream(upstream, cache={"enabled": True}, storage={"redis_url": redis.url})
        first, second = start_gateway(settings), start_gateway(settings)
        assert verdict(first) == "miss"
        until(lambda: verdict(first) == "hit", "it is kept")
        asked = len(upstream.requests)
        assert [verdict(second), verdict(second, stream=True)] == ["hit", "hit"]
        assert verdict(second, headers={"authorization": "Bearer another"}) == "miss"
        assert len(upstream.requests) == asked + 1
