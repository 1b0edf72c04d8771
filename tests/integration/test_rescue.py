"""An upstream dies in the middle of its answer, and the client sees one unbroken answer, or an honest error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from compat.config.catalog import merge
from tests.cases.faults import (
    ARGUMENTS,
    BEGUN,
    TEXT,
    TOOL,
    Wire,
    called,
    chunk,
    closing,
    end,
    event,
    healthy,
    opening,
    right,
    said,
    streamed,
)
from tests.conftest import RunningGateway
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request, Sleep, Stall
from tests.integration.test_cancellation import Client, is_at_rest, wait_for
from tests.integration.test_faults import row_of, streamed_message

TOOLS = [{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object", "properties": {}}}}]
TARGETS: dict[Wire, str] = {"openai": "their-model", "anthropic": "claude-haiku-4-5"}
Responder = Callable[[Request], Answer]


class Pair:
    """A gateway in front of two upstreams: the first dies, the second is healthy."""

    def __init__(self, start: Any, first: FakeUpstream, second: FakeUpstream) -> None:
        self._start = start
        self.first, self.second = first, second

    def gateway(self, wires: tuple[Wire, Wire] = ("openai", "openai"), targets: tuple[str, ...] = (), **more: Any) -> RunningGateway:
        route = [f"{name}/{target}" for name, target in zip("ab", targets or [TARGETS[wire] for wire in wires], strict=True)]
        upstreams = {"a": row_of(self.first, wires[0]), "b": row_of(self.second, wires[1])}
        retry = {"first_wait_s": 0.001, "max_wait_s": 0.002}
        settings = {"upstreams": upstreams, "models": {"claude-4-sonnet": {"route": route}}, "retry": retry}
        return self._start(merge(settings, more))


@pytest.fixture
def pair(start_gateway: Any) -> Iterator[Pair]:
    with FakeUpstream() as first, FakeUpstream() as second:
        yield Pair(start_gateway, first, second)


def dies_after(wire: Wire, *pieces: str) -> Answer:
    return streamed([*opening(wire), *said(wire, *pieces), Cut()])


def usage_of(text: str) -> dict[str, Any]:
    return next(found["usage"] for line in text.split("\n") if line.startswith("data: {") and "usage" in (found := json.loads(line[6:])))


wires = pytest.mark.parametrize(
    "wires",
    [("openai", "openai"), ("openai", "anthropic"), ("anthropic", "openai"), ("anthropic", "anthropic")],
    ids=lambda pair: f"{pair[0]} to {pair[1]}",
)


@wires
def test_the_client_sees_one_unbroken_answer(pair: Pair, wires: tuple[Wire, Wire]) -> None:
    pair.first.script(dies_after(wires[0], "The quick ", "brown fox "))
    pair.second.script(healthy(wires[1]))
    gateway = pair.gateway(wires)
    answer = gateway.chat(stream=True, stream_options={"include_usage": True})
    body, usage_event = answer.text.split('"choices":[]')[0], usage_of(answer.text)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.text.count("[DONE]") == 1
    assert f": carried on after a fault: a/{TARGETS[wires[0]]} -> b/{TARGETS[wires[1]]}\n\ndata: [DONE]" in answer.text
    chunks = [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {") and line.endswith("}")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == TEXT
    assert sum("role" in chunk["choices"][0]["delta"] for chunk in chunks) == 1
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert (usage_event["prompt_tokens"], usage_event["completion_tokens"]) == (10, 20 + len(BEGUN) // 4)
    assert usage_event["total_tokens"] == 30 + len(BEGUN) // 4
    [record] = gateway.calls()
    assert record["outcome"] == "ok"
    assert record["attempts"] == 2
    assert record["deployment"] == f"b/{TARGETS[wires[1]]}"
    assert record["carried_on_from"] == [f"a/{TARGETS[wires[0]]}"]
    assert record["completion_tokens"] == 20 + len(BEGUN) // 4
    assert record["is_estimate"]
    carried_on = next(line for line in gateway.log_lines() if line["event"] == "answer.carried_on")
    assert carried_on["deployment"] == f"a/{TARGETS[wires[0]]}"
    assert TEXT[:10] not in json.dumps(gateway.log_lines())


def test_a_prefill_is_the_text_and_words_are_for_the_others(pair: Pair) -> None:
    for wire, target, roles in (
        ("anthropic", "claude-haiku-4-5", ["user", "assistant"]),
        ("anthropic", "claude-sonnet-4-6", ["user", "assistant", "user"]),
        ("openai", "m", ["user", "assistant", "user"]),
    ):
        pair.first.script(dies_after("openai", BEGUN))
        pair.second.script(healthy(wire))
        gateway = pair.gateway(("openai", wire), ("m", target))
        assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT
        assert [message["role"] for message in pair.second.requests[-1].json["messages"]] == roles


@pytest.mark.parametrize("repeated", [0, 12, 17, 20])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_repeated_is_shown_once(pair: Pair, repeated: int, size: int) -> None:
    pair.first.script(dies_after("openai", BEGUN))
    rest = TEXT[len(BEGUN) - repeated :]
    pieces = [rest[at : at + size] for at in range(0, len(rest), size)]
    pair.second.script(streamed([*opening("openai"), *said("openai", *pieces), *closing("openai"), end("openai")]))
    assert streamed_message(pair.gateway().chat(stream=True).text)[0]["content"] == TEXT


def test_reasoning_of_the_second_part_is_not_shown_and_the_client_hears_that_it_lives(pair: Pair) -> None:
    pair.first.script(dies_after("openai", BEGUN))
    thoughts = [step for _ in range(4) for step in (chunk({"reasoning_content": "Where was I?"}), Sleep(0.06))]
    pair.second.script(streamed([*opening("openai"), *thoughts, *said("openai", TEXT[20:]), *closing("openai"), end("openai")]))
    text = pair.gateway(server={"heartbeat_s": 0.05}).chat(stream=True).text
    assert streamed_message(text)[0]["content"] == TEXT
    assert "Where was I?" not in text
    assert text.count(": keep-alive") >= 2


def test_an_answer_that_died_while_it_thought_is_asked_anew(pair: Pair) -> None:
    pair.first.script(streamed([*opening("openai"), chunk({"reasoning_content": "Let me see."}), Cut()]))
    pair.second.script(healthy("openai"))
    gateway = pair.gateway()
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT
    assert [message["role"] for message in pair.second.requests[-1].json["messages"]] == ["user"]


def test_usage_that_an_upstream_told_before_it_died_is_added(pair: Pair) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103}
    told = {"id": "x", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"content": BEGUN}}], "usage": usage}
    pair.first.script(streamed([*opening("openai"), event(told, "openai"), Cut()]))
    pair.second.script(healthy("openai"))
    facts = {"claude-4-sonnet": {"route": ["a/m", "b/m"]}}
    gateway = pair.gateway(models=facts)
    got = usage_of(gateway.chat(stream=True, stream_options={"include_usage": True}).text)
    assert (got["prompt_tokens"], got["completion_tokens"], got["total_tokens"]) == (110, 23, 133)
    [record] = gateway.calls()
    assert (record["prompt_tokens"], record["completion_tokens"]) == (110, 23)
    assert record["cost_usd"] == pytest.approx(got["cost_details"]["upstream_inference_cost"])
    assert "is_estimate" not in record


def test_a_second_death_is_carried_on_as_well_and_each_part_counts_once(pair: Pair) -> None:
    pair.first.script(dies_after("openai", BEGUN), healthy("openai"))
    pair.second.script(dies_after("openai", TEXT[20:40]))
    gateway = pair.gateway()
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT
    pair.first.script(dies_after("openai", BEGUN), healthy("openai"))
    answer = gateway.chat(stream=True, stream_options={"include_usage": True})
    assert ": carried on after a fault: a/their-model -> b/their-model -> a/their-model\n" in answer.text
    assert usage_of(answer.text)["completion_tokens"] == 20 + 40 // 4
    for record in gateway.calls():
        assert (record["outcome"], record["attempts"]) == ("ok", 3)
        assert record["carried_on_from"] == ["a/their-model", "b/their-model"]


def test_deaths_are_bounded(pair: Pair) -> None:
    pair.first.script(dies_after("openai", BEGUN))
    pair.second.script(dies_after("openai", TEXT[20:40]))
    gateway = pair.gateway(rescue={"times": 1})
    message, last = streamed_message(gateway.chat(stream=True).text)
    assert message["content"] == TEXT[:40]
    assert last["error"]["code"] == "upstream_broken"
    assert len(pair.first.requests) + len(pair.second.requests) == 2


def test_the_one_who_is_to_carry_on_may_be_asked_twice_and_so_may_the_next(pair: Pair) -> None:
    overloaded = Answer((b'{"error": {"message": "overloaded"}}',), 529)
    pair.first.script(dies_after("openai", BEGUN), healthy("openai"))
    pair.second.script(overloaded)
    gateway = pair.gateway()
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT
    assert (len(pair.first.requests), len(pair.second.requests)) == (2, 2)
    [record] = gateway.calls()
    assert record["carried_on_from"] == ["a/their-model"]
    assert record["completion_tokens"] == 20 + len(BEGUN) // 4, "a part that was never said costs nothing"


def test_with_one_deployment_it_is_asked_again(pair: Pair) -> None:
    pair.first.script(dies_after("openai", BEGUN), healthy("openai"))
    gateway = pair.gateway(models={"claude-4-sonnet": {"route": ["a/m"]}})
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT


# Tool calls.


@wires
def test_a_tool_call_that_was_held_back_is_asked_for_again(pair: Pair, wires: tuple[Wire, Wire]) -> None:
    pair.first.script(streamed([*opening(wires[0]), *called(wires[0], '{"path": ', '"x'), Cut()]), healthy(wires[0]))
    pair.second.script(healthy(wires[1]))
    gateway = pair.gateway(wires)
    answer = gateway.chat(stream=True, tools=TOOLS)
    [call] = streamed_message(answer.text)[0]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == ARGUMENTS
    assert "carried on" not in answer.text
    assert gateway.calls()[0]["attempts"] == 2


def test_text_before_a_tool_call_that_was_held_back_stays(pair: Pair) -> None:
    def carries_on(request: Request) -> Answer:
        assert request.json["messages"][1] == {"role": "assistant", "content": BEGUN}
        return right("openai", is_stream=True, is_call=True)

    pair.first.script(streamed([*opening("openai"), *said("openai", BEGUN), Sleep(0.1), *called("openai", '{"path": '), Cut()]))
    pair.second.script(carries_on)
    message, last = streamed_message(pair.gateway().chat(stream=True, tools=TOOLS).text)
    assert not last
    assert message["content"] == BEGUN
    assert [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]] == [ARGUMENTS]


@wires
def test_never_inside_a_tool_call_that_was_shown(pair: Pair, wires: tuple[Wire, Wire]) -> None:
    pair.first.script(streamed([*opening(wires[0]), *called(wires[0], '{"path": ', '"x'), Cut()]))
    gateway = pair.gateway(wires, rescue={"hold_tool_calls_bytes": 0})
    message, last = streamed_message(gateway.chat(stream=True, tools=TOOLS).text)
    assert message["tool_calls"][0]["function"]["arguments"] == '{"path": "x'
    assert last["error"]["code"] == "upstream_broken"
    assert pair.second.requests == []


def test_a_tool_call_longer_than_the_bound_is_shown_as_it_comes(pair: Pair) -> None:
    pair.first.script(streamed([*opening("openai"), *called("openai", '{"text": "', *["x" * 100] * 20), Stall()]))
    gateway = pair.gateway(rescue={"hold_tool_calls_bytes": 2000}, timeouts={"silence_s": 0.2})
    message, last = streamed_message(gateway.chat(stream=True, tools=TOOLS).text)
    assert len(message["tool_calls"][0]["function"]["arguments"]) == 2010
    assert last["error"]["code"] == "upstream_timeout"


def test_a_tool_call_held_back_counts_as_content_once_it_is_complete(pair: Pair) -> None:
    pair.first.script(healthy("openai"))
    gateway = pair.gateway()
    gateway.chat(stream=True, tools=TOOLS)
    assert gateway.calls()[0]["ttft_ms"] > 0


@pytest.mark.parametrize("calls", [None, []], ids=["null", "an empty list"])
def test_text_of_a_server_that_mentions_tool_calls_all_along_is_not_held_back(pair: Pair, calls: Any) -> None:
    pair.first.script(streamed([*opening("openai"), chunk({"content": BEGUN, "tool_calls": calls}), Stall()]))
    gateway = pair.gateway()
    client = Client(gateway)
    assert BEGUN.encode() in client.sock.recv(65536), "it came while the upstream was silent"
    client.leave()
    wait_for(lambda: is_at_rest(gateway))


# What is not carried on.

NOT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("JSON", {"response_format": {"type": "json_object"}}, {}),
    ("a schema", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}}, {}),
    ("several answers", {"n": 2}, {}),
    ("switched off", {}, {"rescue": {"enabled": False}}),
    ("switched off for the model", {}, {"models": {"claude-4-sonnet": {"rescue": False}}}),
    ("one attempt only", {}, {"retry": {"attempts": 1}}),
]


@pytest.mark.parametrize(("body", "settings"), [row[1:] for row in NOT], ids=[row[0] for row in NOT])
def test_what_is_not_carried_on_ends_with_the_error_event(pair: Pair, body: dict[str, Any], settings: dict[str, Any]) -> None:
    pair.first.script(dies_after("openai", BEGUN))
    gateway = pair.gateway(**settings)
    text = gateway.chat(stream=True, **body).text
    message, last = streamed_message(text)
    assert message["content"] == BEGUN
    assert last == {"type": "error", "error": {**last["error"], "code": "upstream_broken"}}
    assert "[DONE]" not in text
    assert pair.second.requests == []
    assert gateway.calls()[0]["outcome"] == "error"


def test_a_model_can_have_it_where_it_is_switched_off(pair: Pair) -> None:
    pair.first.script(dies_after("openai", BEGUN))
    pair.second.script(healthy("openai"))
    gateway = pair.gateway(rescue={"enabled": False}, models={"claude-4-sonnet": {"rescue": True}})
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT


def test_a_refusal_is_not_carried_on(pair: Pair) -> None:
    pair.first.script(streamed([*opening("openai"), chunk({"refusal": "I can"}), Cut()]))
    assert streamed_message(pair.gateway().chat(stream=True).text)[1]["error"]["code"] == "upstream_broken"
    assert pair.second.requests == []


def test_an_error_that_another_attempt_can_t_help_ends_the_answer(pair: Pair) -> None:
    bad = event({"error": {"type": "invalid_request_error", "message": "no"}}, "openai")
    pair.first.script(streamed([*opening("openai"), *said("openai", BEGUN), bad]))
    assert streamed_message(pair.gateway().chat(stream=True).text)[1]["error"]["message"] == "a: no"
    assert pair.second.requests == []
