"""Neutral requests as OpenAI's chat has them, where no client of the Messages protocol can ask for them: see its own tests as well."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.errors import Unsupported
from compat.protocols.base import TranslatedRequest, TranslationContext
from compat.protocols.chat.upstream_request import write_request
from compat.protocols.chat.upstream_turns import is_known
from compat.protocols.request import Choice, Format, Freeform, Function, Reasoning, Request, Text, ToolCall, ToolResult, Turn

CTX = TranslationContext("alias", "m-1", Model(id="m-1"), "resp_1", 17, is_stream=False)
HI = Turn("user", (Text("input[0]", "Hi"),), "input[0]", 0)


def written(*turns: Turn, **fields: Any) -> tuple[dict[str, Any], TranslatedRequest]:
    request = write_request(Request(api="openai.responses", turns=turns or (HI,), **fields), CTX)
    return json.loads(request.body), request


def test_one_answer_is_given_per_call() -> None:
    with pytest.raises(Unsupported, match="'n' must be 1"):
        written(answers=2, names={"answers": "n"})


def test_what_was_repaired_and_what_could_not_be_read_is_noted() -> None:
    _, request = written(was_repaired=True, unread=("user",), reasoning=Reasoning(extras=("reasoning.summary",)), extras={"seed": b"1"})
    assert request.notes == ("dropped=user", "dropped=reasoning.summary", "dropped=seed", "repaired=surrogates")


def test_a_tool_that_is_called_with_raw_text_is_a_function_with_one_input() -> None:
    call = ToolCall("input[1]", "c", "patch", "*** Begin", "freeform")
    body, _ = written(
        HI,
        Turn("assistant", (call,), "input[1]", 1),
        Turn("user", (ToolResult("input[2]", "c", (Text("input[2]", "ok"),)),), "input[2]", 2),
        tools=(Freeform("tools[0]", "patch", "Changes files."), Freeform("tools[1]", "run")),
    )
    assert json.loads(body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"input": "*** Begin"}
    described = [tool["function"]["description"] for tool in body["tools"]]
    assert described == ["Changes files.\nPass the raw text in `input`.", "Pass the raw text in `input`."]
    assert body["tools"][0]["function"]["parameters"]["required"] == ["input"]


def test_a_choice_among_some_tools_leaves_the_others_out() -> None:
    tools = tuple(Function(f"tools[{at}]", name) for at, name in enumerate("ab"))
    body, _ = written(tools=tools, choice=Choice("any", allowed=frozenset("a")))
    assert [tool["function"] for tool in body["tools"]] == [{"name": "a", "parameters": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (Format("json"), {"type": "json_object"}),
        (
            Format("schema", {"type": "object"}, "n", "d", strict=True),
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "description": "d", "strict": True}},
        ),
    ],
)
def test_structures(wanted: Format, sent: Any) -> None:
    assert written(format=wanted)[0]["response_format"] == sent


def test_a_model_is_known_by_more_than_its_name() -> None:
    assert not is_known(Model(id="m-1", display_name="M", owned_by="x"))
    assert is_known(Model(id="m-1", reasoning=True))
