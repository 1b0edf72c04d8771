"""Requests in OpenAI's chat protocol as neutral ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.errors import BadRequest, Unsupported
from compat.protocols.chat.request import read_request
from compat.protocols.request import (
    Choice,
    Document,
    Format,
    Freeform,
    Function,
    Hosted,
    Image,
    Reasoning,
    Request,
    Sampling,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    Unknown,
)
from compat.wire.envelope import Envelope
from tests.cases.messages import HELLO, PDF, PNG
from tests.cases.messages_checks import written


def image(url: str, **rest: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **rest}}


def read(**fields: Any) -> Request:
    return read_request(Envelope(written({"model": "m", "messages": [HELLO], **fields})))


@pytest.mark.parametrize("schema", [None, 5, "object", [{"type": "string"}], True])
def test_a_schema_is_an_object(schema: Any) -> None:
    with pytest.raises(BadRequest, match="must be an object"):
        read(response_format={"type": "json_schema", "json_schema": {"schema": schema}})


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({"function_call": "none"}, ("dropped=function_call",)),
        ({"functions": [{"name": "f"}], "function_call": "none"}, ("dropped=functions", "dropped=function_call")),
        ({"functions": None, "function_call": None}, ()),
        ({"max_completion_tokens": 0, "max_tokens": 0}, ("raised=max_completion_tokens",)),
        ({"max_completion_tokens": 1}, ()),
    ],
)
def test_what_is_read_otherwise_than_it_was_sent_is_noted(fields: dict[str, Any], changes: tuple[str, ...]) -> None:
    request = read(**fields)
    assert request.changes == changes
    assert request.limit == (1 if "max_completion_tokens" in fields else None)
    assert request.tools == ()


def test_functions_of_old_that_may_be_called_are_refused() -> None:
    with pytest.raises(Unsupported, match="'functions' was replaced"):
        read(functions=[{"name": "f"}])


def test_a_request_holds_all_that_the_client_said_with_its_place() -> None:
    messages = [
        {"role": "developer", "content": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {
            "role": "user",
            "name": "ada",
            "content": [{"type": "text", "text": "Look"}, image(f"data:image/png;base64,{PNG}", detail="high")],
        },
        {
            "role": "assistant",
            "content": [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": "Well"}, {"type": "refusal", "refusal": "No."}],
            "reasoning_content": "So.",
            "refusal": "Never.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": 1}},
                {"id": "b", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "done"},
    ]
    tools = [
        {"type": "function", "function": {"name": "f", "description": "F", "parameters": {"type": "object"}, "strict": True}},
        {"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}},
        {"type": "web_search", "cache_control": {"type": "ephemeral"}},
    ]
    parameters = {
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "stop": "END",
        "reasoning": {"effort": "minimal", "summary": "auto"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": False}},
        "verbosity": "low",
        "user": "ada",
        "metadata": {"team": "x"},
        "promptCacheKey": "s1",
        "service_tier": "flex",
        "store": True,
        "seed": 5,
        "top_logprobs": 0,
    }
    request = read(messages=messages, tools=tools, **parameters)
    assert request.turns == (
        Turn("system", (Text("messages[0].content", "Be brief."),), "messages[0]", 0, cache="1h"),
        Turn(
            "user",
            (Text("messages[1].content[0]", "Look"), Image("messages[1].content[1]", "image/png", PNG, detail="high")),
            "messages[1]",
            1,
            "ada",
        ),
        Turn(
            "assistant",
            (
                Thinking("messages[2]", "So.", is_beside=True, origin="openai.chat", value={"reasoning_content": "So."}),
                Thinking("messages[2].content[0]", "Hm.", origin="openai.chat", value={"type": "reasoning", "text": "Hm."}),
                Text("messages[2].content[1]", "Well"),
                Text("messages[2].content[2]", "No.", is_refusal=True),
                Text("messages[2].refusal", "Never.", is_refusal=True),
                ToolCall("messages[2].tool_calls[0]", "a", "f", "{}"),
                ToolCall("messages[2].tool_calls[1]", "b", "patch", "*** Begin", "freeform"),
            ),
            "messages[2]",
            2,
        ),
        Turn("user", (ToolResult("messages[3]", "a", (Text("messages[3].content", "done"),)),), "messages[3]", 3),
    )
    assert request.tools == (
        Function("tools[0]", "f", "F", {"type": "object"}, strict=True),
        Freeform("tools[1]", "patch", format={"type": "text"}),
        Hosted("tools[2]", "web_search", value={"type": "web_search"}, cache="default"),
    )
    assert (request.choice, request.parallel, request.limit, request.sampling) == (Choice("one", "f"), False, 7, Sampling(0.5))
    assert (request.stop, request.reasoning) == (("END",), Reasoning("minimal", extras=("reasoning.summary",)))
    assert request.format == Format("schema", {"type": "object"}, "n", strict=False)
    assert (request.verbosity, request.user_id, request.metadata, request.cache_key) == ("low", "ada", {"team": "x"}, "s1")
    assert (request.service_tier, request.store, dict(request.extras)) == ("flex", True, {"verbosity": b'"low"', "seed": b"5"})
    assert [request.name(field) for field in ("limit", "effort", "choice")] == ["max_completion_tokens", "reasoning_effort", "tool_choice"]


def test_extras_are_the_clients_fields_without_a_neutral_place_and_no_others() -> None:
    extras = read(seed=5, user="ada", top_logprobs=0, mine=[1]).extras
    assert (list(extras), len(extras), extras["mine"]) == (["seed", "mine"], 2, b"[1]")
    with pytest.raises(KeyError):
        extras["user"]


def test_what_holds_something_else_than_it_should_is_named() -> None:
    assert read(metadata="x", user=5, service_tier=1).unread == ("metadata", "user", "service_tier")


def test_blocks_that_a_client_wrote_as_json_keep_the_text_that_they_were_written_in() -> None:
    text = json.dumps([image(f"data:image/png;base64,{PNG}")])
    turn = read(messages=[{"role": "tool", "tool_call_id": "a", "content": text}]).turns[0]
    assert turn.blocks == (ToolResult("messages[0]", "a", (Image("messages[0].content[0]", "image/png", PNG),), written=text),)


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "file", "file": {"file_id": "file-1"}}, Document("messages[0].content[0]", file_id="file-1")),
        ({"type": "sound", "data": 1}, Unknown("messages[0].content[0]", "openai.chat", "sound", {"type": "sound", "data": 1})),
        (
            {"type": "document", "source": {"type": "text", "data": "Hi"}, "title": "T", "context": "C"},
            Document(
                "messages[0].content[0]",
                text="Hi",
                name="T",
                origin="anthropic.messages",
                value={"type": "document", "source": {"type": "text", "data": "Hi"}, "title": "T", "context": "C"},
            ),
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PDF}},
            Document(
                "messages[0].content[0]",
                "application/pdf",
                data=PDF,
                origin="anthropic.messages",
                value={"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
            ),
        ),
    ],
)
def test_a_part_is_a_block(part: dict[str, Any], block: Any) -> None:
    assert read(messages=[{"role": "user", "content": [part]}]).turns[0].blocks == (block,)


def test_reasoning_without_words_is_nothing() -> None:
    turn = read(messages=[{"role": "assistant", "content": "Hi", "reasoning_content": "", "tool_calls": []}]).turns[0]
    assert turn.blocks == (Text("messages[0].content", "Hi"),)


def test_arguments_of_more_values_than_a_request_may_have_are_refused() -> None:
    arguments = json.dumps({"a": list(range(400_001))})
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(BadRequest, match=r"messages\[0\].tool_calls\[0\].function.arguments has more than 400000"):
        read(messages=[{"role": "assistant", "tool_calls": [call]}])
    long = {"id": "a", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": "x" * 400_001})}}
    assert read(messages=[{"role": "assistant", "tool_calls": [long]}]).turns[0].blocks


def test_a_file_that_holds_nothing_is_refused() -> None:
    with pytest.raises(BadRequest, match="must hold its 'file_data'"):
        read(messages=[{"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf"}}]}])
