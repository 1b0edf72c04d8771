"""What the core asks of the Responses protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols import CLIENT_PROTOCOLS, protocol_at
from compat.protocols.client_protocol import DEFAULT_MODEL, Ask, Identity
from compat.protocols.responses.client import RESPONSES
from compat.protocols.responses.client_request import read_request
from compat.wire.envelope import Envelope
from tests.fakes.responses_answers import event_bytes, stream_events
from tests.fakes.responses_items import custom_call, function_call, message, reasoning, text_part

HI = {"role": "user", "content": "Hi"}


def envelope(**fields: Any) -> Envelope:
    return Envelope(json.dumps({"model": "gpt", "input": [HI], **fields}).encode())


def test_what_a_request_says() -> None:
    assert RESPONSES.read(envelope(), {}) == Ask("gpt", wants_usage=True)
    asked = RESPONSES.read(envelope(stream=True, max_output_tokens=100, prompt_cache_key="k"), {"session-id": "", "thread-id": "t"})
    assert asked == Ask("gpt", True, True, 100, session_id="t")
    assert RESPONSES.read(envelope(input="Hi", prompt_cache_key="k"), {}).session_id == "k"
    assert RESPONSES.read(envelope(input=[], previous_response_id="resp_1", prompt_cache_key=5), {}).session_id == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "'stream' must be true or false"),
        ({"input": 5}, "'input' must be a string or a list"),
        ({"input": []}, "at least one item"),
    ],
)
def test_what_no_call_can_do_without(fields: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        RESPONSES.read(envelope(**fields), {})


@pytest.mark.parametrize("given", [{}, {"model": None, "input": None}])
def test_without_a_model_or_an_input_there_are_defaults(given: Any) -> None:
    asked = Envelope(jsonio.encode(given))
    assert RESPONSES.read(asked, {}).model == DEFAULT_MODEL
    assert RESPONSES.obstacle is not None
    assert RESPONSES.obstacle(asked) == ""
    request = read_request(asked)
    [turn] = request.turns
    assert [block.text for block in turn.blocks] == ["(The conversation begins here.)"]
    assert request.changes == ("default=model", "default=input")


def test_a_conversation_is_known_by_what_it_began_with() -> None:
    began = RESPONSES.opening(envelope())
    parts = [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}, {"role": "assistant", "content": "Yes?"}]
    assert began == RESPONSES.opening(envelope(input=parts))
    assert began != RESPONSES.opening(envelope(input=[{"role": "user", "content": "Ho"}]))
    assert RESPONSES.opening(envelope(input="Hi")) != RESPONSES.opening(envelope(input="Ho"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"input": "Hi"}, ""),
        ({"tools": []}, ""),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": [HI, function_call()]}, "tool-results"),
        ({"input": [{"type": "additional_tools", "tools": []}, HI]}, "tools"),
        ({"input": ["x"]}, "input"),
    ],
)
def test_answers_of_agents_are_not_given_again(fields: Any, why: str) -> None:
    assert RESPONSES.obstacle is not None
    assert RESPONSES.obstacle(envelope(**fields)) == why


@pytest.mark.parametrize("call", [function_call(), custom_call()])
def test_the_beginning_of_a_call_is_known_by_its_bytes(call: Any) -> None:
    calls = event_bytes(stream_events([reasoning("Hm."), call]))
    others = event_bytes(stream_events([message(text_part('"type":"function_call"'))]))
    assert RESPONSES.call_key in calls
    assert RESPONSES.begins_call(calls)
    assert not RESPONSES.begins_call(others)


def test_its_urls_and_ids() -> None:
    assert CLIENT_PROTOCOLS["openai.responses"] is protocol_at("/v1/responses") is protocol_at("/v1/responses/resp_1/input_items")
    assert RESPONSES.answer_id("1") == "resp_1"
    assert RESPONSES.replay(RESPONSES.again([], Identity("resp_1", 17, "gpt")), True).count(b"event: response.completed") == 1
