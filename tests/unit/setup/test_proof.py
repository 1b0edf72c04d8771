"""The proof, over answers that are right and answers that a client would break on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from compat.setup.proof import Proof, ProofError, prove
from tests.fakes import anthropic_answers as answers
from tests.fakes import responses_answers as responses
from tests.fakes import responses_items as items
from tests.fakes.openai_answers import USAGE, chunk, event, text_chunks, usage_chunk

CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "note", "arguments": ""}}
PIECES = ['{"word"', ': "lighthouse"}']


def pieces(*arguments: str) -> list[dict[str, Any]]:
    return [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in arguments]


def call(**changes: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{**CALL, **changes}]})


GOOD = [chunk({"role": "assistant", "content": ""}), call(), *pieces(*PIECES), chunk({}, "tool_calls"), usage_chunk()]


def stream(chunks: list[dict[str, Any]], end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b": keep-alive\n\n" + b"".join(event(item) for item in chunks) + end


class Gateway:
    """What answers: each request takes the next of `answers`."""

    def __init__(self, *answers: bytes | ProofError) -> None:
        self.answers = list(answers)
        self.bodies: list[Mapping[str, Any]] = []

    def __call__(self, body: Mapping[str, Any]) -> Iterator[bytes]:
        self.bodies.append(json.loads(json.dumps(body)))
        answer = self.answers.pop(0)
        if isinstance(answer, ProofError):
            raise answer
        for start in range(0, len(answer), 7):
            yield answer[start : start + 7]


def test_a_whole_agent_step_is_made() -> None:
    gateway = Gateway(stream(GOOD), stream(text_chunks("I noted it.")))
    proof = prove(gateway, "claude-4-sonnet")
    assert proof.is_good, proof
    assert [line[:8] for line in proof.lines()] == ["  ok    "] * 4
    first, second = gateway.bodies
    assert (first["stream"], first["tool_choice"], first["stream_options"]) == (True, "auto", {"include_usage": True})
    assert second["messages"][1]["tool_calls"][0]["function"]["arguments"] == "".join(PIECES)
    assert (second["messages"][2]["role"], second["messages"][2]["tool_call_id"]) == ("tool", "call_1")


def test_the_cost_is_told_where_it_is_known() -> None:
    priced = usage_chunk(usage={**USAGE, "cost_details": {"upstream_inference_cost": 0.00123}})
    proof = prove(Gateway(stream([*GOOD[:-1], priced]), stream(text_chunks())), "x")
    assert proof.passed[2] == "usage is reported: 11 tokens in, 7 out, $0.001230"


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (stream(text_chunks("I can't.\x1b[31m")), 'answered in text instead of calling the tool: "I can\'t. [31m"'),
        (stream(GOOD[:-2]), "without a finish_reason"),
        (stream(GOOD, b""), "without [DONE]"),
        (stream(GOOD[:-1]), "no usage"),
        (stream([call(id=""), *GOOD[2:]]), "no id or no name"),
        (stream([call(function={"name": "other", "arguments": "{}"}), *GOOD[4:]]), "called something else: other('{}')"),
        (stream([call(), *pieces("{"), *GOOD[4:]]), "arguments are not JSON"),
        (stream([*GOOD[:-2], chunk({}, "stop"), usage_chunk()]), "ended for another reason: 'end', not 'tool_calls'"),
        (b'data: {"type":"error","error":{"message":"it broke","code":"server_error"}}\n\n', "ended with an error: it broke"),
        (b"data: {oops\n\n", "is not a chunk"),
        (ProofError("the gateway answered with status 503"), "status 503"),
    ],
)
def test_what_a_client_would_break_on_is_said_in_words(first: bytes | ProofError, words: str) -> None:
    proof = prove(Gateway(first), "x")
    assert not proof.is_good
    assert words in proof.failure
    assert proof.lines()[-2 if proof.hint else -1] == f"  FAIL  {proof.failure}"


def test_silence_after_the_tools_result_is_a_failure() -> None:
    proof = prove(Gateway(stream(GOOD), stream([chunk({"role": "assistant", "content": ""}, "stop")])), "x")
    assert (len(proof.passed), proof.failure) == (3, "after the tool's result the model said nothing")
    assert proof.lines()[-1].strip() == proof.hint


def test_a_proof_without_a_failure_is_good() -> None:
    assert Proof(("a",)).is_good


CALLED = answers.stream_events([answers.text("So."), answers.tool_use("note", {"word": "lighthouse"})])
NOTED = answers.stream_events([answers.text("I noted it.")])


def test_a_step_is_made_in_anthropics_protocol_as_well() -> None:
    gateway = Gateway(answers.event_bytes(CALLED), answers.event_bytes(NOTED))
    proof = prove(gateway, "x", "anthropic.messages")
    assert proof.is_good, proof
    first, second = gateway.bodies
    assert (first["tools"][0]["input_schema"]["type"], first["tool_choice"], "stream_options" in first) == (
        "object",
        {"type": "auto"},
        False,
    )
    assert [block["type"] for block in second["messages"][1]["content"]] == ["text", "tool_use"]
    assert second["messages"][2]["content"][0]["tool_use_id"] == "toolu_1"


@pytest.mark.parametrize("left", [0, 1])
def test_what_a_client_of_anthropics_protocol_would_break_on_is_named(left: int) -> None:
    events = CALLED[: len(CALLED) - 2 + left]
    proof = prove(Gateway(answers.event_bytes(events)), "x", "anthropic.messages")
    assert ("message_stop" if left else "stop_reason") in proof.failure


RESPONSES_CALL = responses.stream_events([items.function_call("note", '{"word": "lighthouse"}')])
RESPONSES_SAID = responses.stream_events([items.message(items.text_part("I noted it."))])


def test_a_step_is_made_in_openais_responses_protocol() -> None:
    gateway = Gateway(responses.event_bytes(RESPONSES_CALL), responses.event_bytes(RESPONSES_SAID))
    proof = prove(gateway, "claude-4-sonnet", "openai.responses")
    assert proof.is_good, proof
    first, second = gateway.bodies
    assert (first["max_output_tokens"], first["store"], first["tools"][0]["strict"]) == (2000, False, False)
    assert [item.get("type") for item in second["input"]] == [None, "function_call", "function_call_output"]
    assert second["input"][1]["call_id"] == second["input"][2]["call_id"]
