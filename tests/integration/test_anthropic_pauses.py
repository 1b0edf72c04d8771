"""`pause_turn`: the upstream interrupts a long turn, the gateway lets it go on, and the client sees one answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from compat.calls.attempt import MAX_PARTS
from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers as answers
from tests.fakes.anthropic_rules import violations
from tests.fakes.anthropic_settings import to_claude
from tests.fakes.upstream import Answer, Cut, FakeUpstream
from tests.integration.kilo_session import events_of, read_stream

MODEL = "claude-sonnet-4-6"
FIRST = [answers.thinking("I search.", model=MODEL), answers.text("I look it up. "), answers.server_tool_use()]
SECOND = [answers.web_search_result(), answers.text("Still looking. "), answers.server_tool_use(call_id="srvtoolu_2")]
LAST = [answers.web_search_result(call_id="srvtoolu_2"), answers.text("It is sunny."), answers.tool_use("read_file", {"path": "a.py"})]
USAGES = [
    {"input_tokens": 100, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 0, "output_tokens": 10},
    {"input_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 150, "output_tokens": 5},
    {"input_tokens": 30, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 150, "output_tokens": 7},
]
SUM = {"prompt_tokens": 500, "completion_tokens": 22, "total_tokens": 522}


def part(blocks: list[dict[str, Any]], usage: dict[str, Any], *, stream: bool, paused: bool = True) -> Answer:
    rest: dict[str, Any] = {"usage": usage, "stop_reason": "pause_turn" if paused else None}
    return answers.stream_answer(answers.stream_events(blocks, **rest)) if stream else answers.json_answer(answers.message(blocks, **rest))


def parts(*, stream: bool) -> list[Answer]:
    """An answer that was paused twice."""
    first, second = (part(blocks, usage, stream=stream) for blocks, usage in zip((FIRST, SECOND), USAGES[:2], strict=True))
    return [first, second, part(LAST, USAGES[2], stream=stream, paused=False)]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=answers.respond) as running:
        yield running


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_claude(upstream))


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def test_a_whole_answer_is_resumed(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(*parts(stream=False))
    answer = gateway.chat(reasoning_effort="low")
    document = answer.json()
    message = document["choices"][0]["message"]
    assert message["content"] == "I look it up. Still looking. It is sunny."
    assert message["reasoning_content"] == "I search."
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["read_file"]
    assert document["choices"][0]["finish_reason"] == "tool_calls"
    assert {name: document["usage"][name] for name in SUM} == SUM
    assert document["usage"]["prompt_tokens_details"]["cached_tokens"] == 300
    assert answer.headers["x-compat-attempts"] == "1"


def test_a_streamed_answer_is_resumed_in_one_stream(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(*parts(stream=True))
    reply = read_stream(gateway.chat(stream=True, stream_options={"include_usage": True}, reasoning_effort="low").text)
    assert reply.text == "I look it up. Still looking. It is sunny."
    assert reply.reasoning == "I search."
    assert [call.name for call in reply.calls] == ["read_file"]
    assert reply.finish_reason == "tool_calls"
    assert {name: reply.usage[name] for name in SUM} == SUM
    assert reply.usage["prompt_tokens_details"]["cached_tokens"] == 300


@both
def test_what_was_said_before_a_pause_goes_back_as_it_was(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.script(*parts(stream=stream))
    assert gateway.chat(stream=stream, reasoning_effort="low").status_code == 200
    bodies = [request.json for request in upstream.requests]
    assert len(bodies) == 3
    assert bodies[1]["messages"] == [*bodies[0]["messages"], {"role": "assistant", "content": FIRST}]
    assert bodies[2]["messages"] == [*bodies[0]["messages"], {"role": "assistant", "content": [*FIRST, *SECOND]}]
    for body in bodies:
        assert {name: body[name] for name in body if name != "messages"} == {
            name: bodies[0][name] for name in bodies[0] if name != "messages"
        }
        assert violations(body) == []


@both
def test_the_call_is_one_line_in_the_log_with_all_its_tokens(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.script(*parts(stream=stream))
    gateway.chat(stream=stream, reasoning_effort="low")
    (call,) = gateway.calls()
    assert (call["outcome"], call["attempts"]) == ("ok", 1)
    assert (call["prompt_tokens"], call["completion_tokens"]) == (500, 22)
    assert (call["cache_read_tokens"], call["cache_write_tokens"]) == (300, 50)


@both
def test_the_thinking_of_all_parts_is_kept_for_the_next_turn(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.script(*parts(stream=stream))
    gateway.chat(stream=stream, reasoning_effort="low")
    upstream.script(answers.respond)
    said = {"role": "assistant", "content": "I look it up. Still looking. It is sunny."}
    said["tool_calls"] = [{"id": "toolu_1", "type": "function", "function": {"name": "read_file", "arguments": '{"path":"a.py"}'}}]
    history = [{"role": "user", "content": "Hi"}, said, {"role": "tool", "tool_call_id": "toolu_1", "content": "x"}]
    answer = gateway.chat(messages=history, reasoning_effort="low")
    assert answer.status_code == 200, answer.text
    assert "thinking=restored" in answer.headers["x-compat-notes"]
    assert upstream.requests[-1].json["messages"][1]["content"][0] == FIRST[0]


def test_pauses_without_end_give_what_was_said_in_a_whole_answer(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(part(FIRST, USAGES[0], stream=False))
    got = gateway.chat()
    choice = got.json()["choices"][0]
    assert (got.status_code, choice["finish_reason"]) == (200, "length")
    assert choice["message"]["content"] == "I look it up. " * len(upstream.requests)
    assert "stop_reason=pause_turn" in got.headers["x-compat-notes"]
    assert len(upstream.requests) == MAX_PARTS


def test_pauses_without_end_give_what_was_said_in_a_stream(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(part(FIRST, USAGES[0], stream=True))
    reply = read_stream(gateway.chat(stream=True, stream_options={"include_usage": True}).text)
    assert (reply.text, reply.finish_reason) == ("I look it up. " * MAX_PARTS, "length")
    assert reply.usage["completion_tokens"] == 10 * MAX_PARTS
    assert "stop_reason=pause_turn" in gateway.calls()[-1]["notes"]
    assert len(upstream.requests) == MAX_PARTS


@both
def test_endless_pauses_without_content_are_not_begun_again_elsewhere(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    gateway = start_gateway(to_claude(upstream, retry={"attempts": 3}))
    upstream.script(part([answers.server_tool_use()], USAGES[0], stream=stream))
    assert gateway.chat(stream=stream).status_code == 502
    assert len(upstream.requests) < 20


@both
def test_an_answer_that_fails_after_a_pause_is_an_error(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.script(part(FIRST, USAGES[0], stream=stream), answers.error_answer(500, "it broke while it went on"))
    got = gateway.chat(stream=stream)
    error = events_of(got.text)[-1]["error"] if stream else got.json()["error"]
    assert "it broke while it went on" in error["message"]
    assert "[DONE]" not in got.text


def test_a_stream_that_breaks_after_a_pause_is_an_error(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    begun = [answers.one_event(event) for event in answers.stream_events(SECOND)[:4]]
    upstream.script(part(FIRST, USAGES[0], stream=True), answers.sse_answer(*begun, Cut()))
    events = events_of(gateway.chat(stream=True).text)
    assert events[-1]["type"] == "error"
    assert "[DONE]" not in events


@both
def test_what_a_failed_resumption_cost_is_in_the_log(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.script(part(FIRST, USAGES[0], stream=stream), answers.error_answer(500, "it broke"))
    gateway.chat(stream=stream)
    assert gateway.calls()[-1]["prompt_tokens"] == 150
