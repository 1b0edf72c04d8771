"""Calls that are demanded of llama.cpp's server: a schema for the answer, and the answer as a call."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.errors import BadRequest, UpstreamBroken
from compat.protocols import TRANSLATORS
from compat.protocols.base import AnswerMemory, TranslatedRequest, TranslationContext
from compat.wire.envelope import Envelope
from tests.fakes.openai_answers import completion

TRANSLATOR = TRANSLATORS["openai.chat", "llama.chat"]
PASSTHROUGH = TRANSLATORS["openai.chat", "openai.chat"]
CTX = TranslationContext("alias", "tiny", Model(), "chatcmpl-0123456789abcdef0123456789abcdef", 17, is_stream=False)
STREAM = dataclasses.replace(CTX, is_stream=True)
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ADD = {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}


def tool(name: str, parameters: Any, description: str = "") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [tool("weather", WEATHER, "Tells the weather."), tool("add", ADD)]
NAMED = {"type": "function", "function": {"name": "add"}}
HI = [{"role": "user", "content": "Hi"}]


def request(ctx: TranslationContext = CTX, **more: Any) -> TranslatedRequest:
    envelope = Envelope(json.dumps({"model": "alias", "messages": HI, **more}).encode())
    before = bytes(envelope.body)
    translated = TRANSLATOR.request(envelope, ctx)
    assert envelope.body == before, "the input is unchanged"
    assert TRANSLATOR.request(envelope, ctx) == translated, "translation may run again"
    return translated


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "auto"},
        {"tools": TOOLS, "tool_choice": "none"},
        {"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}},
    ],
)
def test_where_the_model_is_free_nothing_is_changed(more: dict[str, Any]) -> None:
    envelope = Envelope(json.dumps({"model": "alias", "messages": HI, **more}).encode())
    assert TRANSLATOR.request(envelope, STREAM) == PASSTHROUGH.request(envelope, STREAM)


def test_a_named_function_becomes_the_schema_of_its_arguments() -> None:
    translated = request(tools=TOOLS, tool_choice=NAMED, parallel_tool_calls=True, temperature=0.5)
    sent = json.loads(translated.body)
    assert sent["response_format"] == {"type": "json_schema", "json_schema": {"name": "call", "strict": True, "schema": ADD}}
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & sent.keys()
    assert (sent["model"], sent["temperature"], sent["stream"]) == ("tiny", 0.5, False)
    assert sent["messages"] == [
        {"role": "system", "content": "Answer with the JSON arguments of a call of this function:\n- add"},
        *HI,
    ]
    assert (translated.notes, translated.memory) == (("tool_choice=response_format",), AnswerMemory(called_tool="add"))


def test_one_of_several_is_called_by_its_name() -> None:
    translated = request(tools=TOOLS, tool_choice="required")
    sent = json.loads(translated.body)
    weather, add = sent["response_format"]["json_schema"]["schema"]["anyOf"]
    assert weather["properties"] == {"name": {"const": "weather"}, "arguments": WEATHER}
    assert add["properties"] == {"name": {"const": "add"}, "arguments": {"type": "object"}}
    assert translated.notes == ("tool_choice=response_format", "unchecked=tools[1].parameters")
    assert "- weather: Tells the weather.\n- add" in sent["messages"][0]["content"]


def test_allowed_tools_narrow_what_may_be_called() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
    assert request(tools=TOOLS, tool_choice=choice).memory.called_tool == "add"


def test_the_system_message_keeps_its_words() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HI]
    sent = json.loads(request(messages=messages, tools=TOOLS, tool_choice=NAMED).body)["messages"]
    assert sent[0]["content"].startswith("Be brief.\n\nAnswer with")
    assert sent[1:] == HI


def test_a_stream_is_asked_for_whole() -> None:
    sent = json.loads(request(STREAM, stream=True, stream_options={"include_usage": True}, tools=TOOLS, tool_choice=NAMED).body)
    assert sent["stream"] is False
    assert "stream_options" not in sent


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([], "required"),
        (None, "required"),
        (TOOLS, {"type": "function", "function": {"name": "sub"}}),
        (TOOLS, {"type": "function"}),
        ([{"type": "custom", "custom": {"name": "shell"}}], "required"),
        ([tool("a", "text")], "required"),
        ([{"type": "function", "function": {"name": 7}}], "required"),
        (7, "required"),
    ],
)
def test_a_demand_that_can_not_be_met_is_refused(tools: Any, choice: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        request(tools=tools, tool_choice=choice)
    assert caught.value.param in {"tools", "tool_choice"}


def answered(text: str | None, called: str, reason: str = "stop") -> dict[str, Any]:
    document = completion(text, finish_reason=reason)
    ctx = dataclasses.replace(CTX, memory=AnswerMemory(called_tool=called))
    answer = TRANSLATOR.response(json.dumps(document).encode(), ctx)
    choice: dict[str, Any] = json.loads(answer.body)["choices"][0]
    assert answer.stop_reason == choice["finish_reason"]
    return choice


def test_the_text_becomes_the_call_of_the_named_function() -> None:
    choice = answered('{"a": 1}', "add")
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]) == ("function", {"name": "add", "arguments": '{"a": 1}'})
    assert call["id"].startswith("call_")


def test_the_text_names_the_function_where_there_are_several() -> None:
    choice = answered('{"name": "weather", "arguments": {"city": "Köln"}}', "*")
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Köln"}


@pytest.mark.parametrize(("called", "has_call"), [("add", True), ("*", False)])
def test_a_call_that_was_cut_at_its_limit_says_so(called: str, has_call: bool) -> None:
    choice = answered('{"name": "wea', called, "length")
    assert choice["finish_reason"] == "length"
    assert bool(choice["message"].get("tool_calls")) is has_call


def test_an_answer_to_a_free_call_is_passed_on() -> None:
    body = json.dumps(completion("Hi.")).encode()
    assert TRANSLATOR.response(body, CTX) == PASSTHROUGH.response(body, CTX)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": [7]}', b'{"choices": [{"message": 7}]}'])
def test_what_is_no_completion_is_a_fault_of_the_upstream(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        TRANSLATOR.response(body, dataclasses.replace(CTX, memory=AnswerMemory(called_tool="add")))
