"""Requests for the Responses API, from OpenAI's chat: each row's body is taken by the strict imitation, and says what the row says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from compat.config.catalog import Model, load_catalog
from compat.errors import BadRequest, GatewayError, Unsupported, UpstreamRefusal
from compat.protocols import TRANSLATORS
from compat.protocols.base import ThinkingRecord, TranslatedRequest, TranslationContext
from compat.protocols.request import (
    Choice,
    Document,
    Freeform,
    Function,
    Hosted,
    Image,
    Reasoning,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    Unknown,
)
from compat.protocols.responses.parts import API
from compat.protocols.responses.refusals import refused_part
from compat.protocols.responses.request import write_request
from compat.protocols.responses.turns import CONTINUE, fitted_id
from compat.wire.envelope import Envelope
from tests.cases.messages import ABSENT, MARK, PDF, PNG, call, chat, result, said, system, text, tool, user
from tests.cases.messages_checks import at, written
from tests.fakes.responses_items import reasoning
from tests.fakes.responses_rules import violations

SOL, ASTRA, OLD, PLAIN, OTHER = "gpt-6.1-sol", "gpt-6-astra", "gpt-5.4", "gpt-4.1", "their-model"
TRANSLATOR = TRANSLATORS["openai.chat", "openai.responses"]
SEALED = ["reasoning.encrypted_content"]
HELLO = {"role": "user", "content": "Hello"}
HELLO_SENT = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
IMAGE_SENT = {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PNG}"}
PATCH = {
    "type": "custom",
    "custom": {
        "name": "patch",
        "description": "Patches.",
        "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "s: A"}},
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
LONG = "a" * 5000


@cache
def model_of(model_id: str) -> Model:
    return load_catalog().model_of("openai", model_id)


def context(
    model_id: str = SOL, *, records: Mapping[str, ThinkingRecord] | None = None, refused: Iterable[str] = (), **rest: Any
) -> TranslationContext:
    kept = records or {}
    return TranslationContext(
        alias="sol",
        target=model_id,
        model=model_of(model_id),
        completion_id="chatcmpl-ours",
        created_s=17,
        is_stream=False,
        upstream_name="fake",
        refused_parameters=frozenset(refused),
        find_thinking=lambda ids: {call_id: kept[call_id] for call_id in ids if call_id in kept},
        **rest,
    )


def translated(sent: Mapping[str, Any], ctx: TranslationContext) -> TranslatedRequest:
    """The translation, done twice: its input is unchanged, and so is its outcome."""
    envelope = Envelope(written({"model": "sol", **sent}))
    before = (envelope.body, dict(envelope))
    first = TRANSLATOR.request(envelope, ctx)
    assert TRANSLATOR.request(envelope, ctx) == first, "translation may run again"
    assert (envelope.body, dict(envelope)) == before, "the input is unchanged"
    return first


def body_of(request: TranslatedRequest, needs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The upstream's body, once the strict imitation has taken it."""
    body = json.loads(request.body)
    assert violations(body, account="sk-canary", needs=needs) == []
    return dict(body)


@dataclass(frozen=True)
class Row:
    """`sent` is the client's body less `model`, `holds` the upstream's values by path."""

    sent: Mapping[str, Any]
    holds: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    model: str = SOL
    refused: frozenset[str] = frozenset()
    session: str = ""


def asked(**fields: Any) -> dict[str, Any]:
    return chat(HELLO, **fields)


def function(name: str = "read", **rest: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, "strict": False, **rest}


def item(kind: str, call_id: str = "call_1", **rest: Any) -> dict[str, Any]:
    return {"type": kind, "call_id": call_id, **rest}


TOOLS = {"tools": [{"type": "function", "function": {"name": "read"}}]}
CALLED = item("function_call", name="read", arguments="{}")
ANSWERED = item("function_call_output", output="ok")
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]}

ROWS: dict[str, Row] = {
    "the least": Row(
        asked(),
        {"model": SOL, "input": [HELLO_SENT], "store": False, "include": SEALED, "reasoning": {"summary": "auto"}, "stream": ABSENT},
    ),
    "a model that does not reason": Row(asked(), {"include": ABSENT, "reasoning": ABSENT}, model=PLAIN),
    "a model that does not reason unasked": Row(asked(), {"include": ABSENT, "reasoning": ABSENT}, model=OLD),
    "a model that nobody knows": Row(asked(), {"include": SEALED, "reasoning": ABSENT}, model=OTHER),
    # messages
    "instructions stay where they are": Row(
        chat(system("Be brief."), HELLO, said("Hi."), {"role": "developer", "content": "Be kind."}, HELLO),
        {
            "input": [
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
                HELLO_SENT,
                SAID,
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be kind."}]},
                HELLO_SENT,
            ]
        },
    ),
    "parts of a user's message": Row(
        chat(user(text("Look"), IMAGE, {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "high"}})),
        {
            "input.0.content": [
                {"type": "input_text", "text": "Look"},
                IMAGE_SENT,
                {"type": "input_image", "detail": "high", "image_url": "https://a/b.png"},
            ]
        },
    ),
    "a detail that nobody knows": Row(
        chat(user({"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "huge"}})),
        {"input.0.content.0.detail": "auto"},
        ("dropped=detail",),
    ),
    "a file": Row(
        chat(user({"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}})),
        {"input.0.content.0": {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
    ),
    "a file of text": Row(
        chat(user({"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,SGVsbG8="}})),
        {"input.0.content.0": {"type": "input_text", "text": "File a.txt:\n\nHello"}},
    ),
    "blank text and empty messages": Row(
        chat(user(text(" \n")), system(" "), said(""), HELLO),
        {"input": [HELLO_SENT]},
        ("dropped=empty@0", "dropped=empty@1", "dropped=empty@2"),
    ),
    "names of speakers": Row(
        chat({**HELLO, "name": "Ann"}, {**said("Hi."), "name": "Sol"}, HELLO), {"input.0": HELLO_SENT}, ("dropped=name(2)",)
    ),
    "a refusal in the history": Row(
        chat(HELLO, {"role": "assistant", "content": None, "refusal": "No."}, HELLO),
        {"input.1.content": [{"type": "refusal", "refusal": "No."}]},
    ),
    "a history that the model's words end": Row(chat(HELLO, said("Hi.")), {"input.2.content.0.text": CONTINUE}, ("prefill=continue",)),
    "nothing but what is left out": Row(
        chat(user(text(" "))), {"input.0.content.0.text": "(The conversation begins here.)"}, ("dropped=empty@0", "added=user@0")
    ),
    "nothing but instructions": Row(chat(system()), {"input.0.role": "developer", "input.1": ABSENT}),
    "reasoning that a client sends back is not said again": Row(
        chat(HELLO, {**said("Hi."), "reasoning_content": "Hm."}, HELLO), {"input.1": SAID}, ("thinking=omitted",)
    ),
    # calls
    "a round of calls": Row(
        chat(HELLO, said("I read.", call(), call("call_2", arguments='{"a": 1}')), result("call_2", "two"), result(), HELLO, **TOOLS),
        {
            "input.1.content.0.text": "I read.",
            "input.2": CALLED,
            "input.3": item("function_call", "call_2", name="read", arguments='{"a": 1}'),
            "input.4": item("function_call_output", "call_2", output="two"),
            "input.5": ANSWERED,
            "input.6": HELLO_SENT,
        },
    ),
    "words between a call and its result come after it": Row(
        chat(HELLO, said(None, call()), user(text("Look")), system("Hm."), result()),
        {"input.1": CALLED, "input.2": ANSWERED, "input.3.role": "user", "input.4.role": "developer"},
    ),
    "a result that is missing": Row(
        chat(HELLO, said(None, call()), HELLO),
        {"input.2.output": "The result of this call is not known: the call was interrupted.", "input.3": HELLO_SENT},
        ("added=tool_result",),
    ),
    "a result without a call": Row(
        chat(HELLO, said("Hi."), result("call_9"), HELLO),
        {"input.2.role": "user", "input.2.content.1.text": "ok", "input.3": HELLO_SENT},
        ("moved=stray_result@2",),
    ),
    "calls that are numbered anew in each turn": Row(
        chat(HELLO, said(None, call("0")), result("0", "a"), said(None, call("0")), result("0", "b")),
        {"input.1.call_id": "0", "input.2": item("function_call_output", "0", output="a"), "input.3.call_id": "0-2", "input.4.output": "b"},
    ),
    "a long id": Row(
        chat(HELLO, said(None, call("c" * 80)), result("c" * 80)),
        {"input.1.call_id": fitted_id("c" * 80), "input.2.call_id": fitted_id("c" * 80)},
    ),
    "a result with a picture": Row(
        chat(HELLO, said(None, call()), result(content=[text("Here."), IMAGE])),
        {"input.2.output": [{"type": "input_text", "text": "Here."}, IMAGE_SENT]},
    ),
    "a result that a client wrote as JSON": Row(
        chat(HELLO, said(None, call()), result(content=json.dumps([text("Here."), IMAGE]))),
        {"input.2.output": [{"type": "input_text", "text": "Here."}, IMAGE_SENT]},
    ),
    "a result that looks like that": Row(
        chat(
            HELLO,
            said(None, call()),
            result(content=json.dumps([{"type": "image_url", "image_url": {"url": "data:image/bmp;base64,Qk0="}}])),
        ),
        {"input.2.output": json.dumps([{"type": "image_url", "image_url": {"url": "data:image/bmp;base64,Qk0="}}])},
    ),
    "an empty result": Row(chat(HELLO, said(None, call()), result(content="")), {"input.2.output": ""}),
    "a freeform call": Row(
        chat(
            HELLO,
            said(None, {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}),
            result(),
            tools=[PATCH],
        ),
        {
            "input.1": item("custom_tool_call", name="patch", input="*** Begin"),
            "input.2": item("custom_tool_call_output", output="ok"),
            "tools.0": {
                "type": "custom",
                "name": "patch",
                "description": "Patches.",
                "format": {"type": "grammar", "syntax": "lark", "definition": "s: A"},
            },
        },
    ),
    # tools
    "a tool is never made strict": Row(asked(**TOOLS), {"tools": [function()], "parallel_tool_calls": ABSENT, "tool_choice": ABSENT}),
    "a strict tool stays strict": Row(
        asked(tools=[{"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": SCHEMA, "strict": True}}]),
        {"tools.0": function(parameters=SCHEMA, strict=True, description="Reads.")},
    ),
    "a schema without a type": Row(asked(tools=[tool(parameters={"properties": {}})]), {"tools.0.parameters.type": "object"}),
    "a name that does not fit": Row(asked(tools=[tool("my.tool")]), {"tools.0.name": "my_tool_4f9d05"}),
    "a tool twice": Row(asked(tools=[tool(), tool()]), {"tools.1": ABSENT}, ("dropped=duplicate_tool(read)",)),
    "tools of the service": Row(asked(tools=[{"type": "web_search"}, tool()], tool_choice="auto"), {"tools.0": {"type": "web_search"}}),
    "tools of another service": Row(asked(tools=[{"type": "bash_20250124", "name": "bash"}]), {"tools": ABSENT}, ("dropped=tool(bash)",)),
    "tools that nobody knows": Row(asked(tools=[{"type": "hologram"}, tool()]), {"tools.1": ABSENT}, ("dropped=tool(unnamed)",)),
    "any tool": Row(asked(**TOOLS, tool_choice="required"), {"tool_choice": "required"}),
    "no tool": Row(asked(**TOOLS, tool_choice="none"), {"tool_choice": "none"}),
    "one tool": Row(
        asked(**TOOLS, tool_choice={"type": "function", "function": {"name": "read"}}),
        {"tool_choice": {"type": "function", "name": "read"}},
    ),
    "some of the tools": Row(
        asked(
            tools=[tool(), tool("write"), PATCH],
            tool_choice={
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "read"}}]},
            },
        ),
        {
            "tools.2.name": "patch",
            "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "read"}]},
        },
    ),
    "a choice without tools": Row(asked(tool_choice="required"), {"tool_choice": ABSENT}, ("dropped=tool_choice",)),
    "no choice without tools": Row(
        asked(tool_choice="auto", parallel_tool_calls=True), {"tool_choice": ABSENT, "parallel_tool_calls": ABSENT}
    ),
    "one call at a time": Row(asked(**TOOLS, parallel_tool_calls=False), {"parallel_tool_calls": False}),
    "one call at a time, refused": Row(
        asked(**TOOLS, parallel_tool_calls=False),
        {"parallel_tool_calls": ABSENT},
        ("dropped=parallel_tool_calls",),
        refused=frozenset({"parallel_tool_calls"}),
    ),
    # reasoning
    "an effort": Row(asked(reasoning_effort="xhigh"), {"reasoning": {"effort": "xhigh", "summary": "auto"}, "include": SEALED}),
    "no effort": Row(asked(reasoning_effort="none"), {"reasoning": {"effort": "none"}, "include": ABSENT}),
    "an effort that the model lacks": Row(asked(reasoning_effort="minimal"), {"reasoning.effort": "low"}, ("clamped=reasoning_effort",)),
    "more effort than there is": Row(asked(reasoning_effort="max"), {"reasoning.effort": "xhigh"}, ("clamped=reasoning_effort",), OLD),
    "an effort that reasoning begins with": Row(asked(reasoning_effort="low"), {"reasoning.effort": "low", "include": SEALED}, model=OLD),
    "no effort where there is always some": Row(
        asked(reasoning_effort="none"), {"reasoning.effort": "low"}, ("clamped=reasoning_effort",), ASTRA
    ),
    "an effort for a model that does not reason": Row(
        asked(reasoning_effort="low"), {"reasoning": ABSENT}, ("dropped=reasoning_effort",), PLAIN
    ),
    "no effort for a model that does not reason": Row(asked(reasoning_effort="none"), {"reasoning": ABSENT}, model=PLAIN),
    "an effort for a model that nobody knows": Row(asked(reasoning_effort="low"), {"reasoning": {"effort": "low"}}, model=OTHER),
    "a budget": Row(
        asked(thinking={"type": "enabled", "budget_tokens": 8000}), {"reasoning.effort": "medium"}, ("thinking=effort(medium)",)
    ),
    "a budget beyond all": Row(
        asked(thinking={"type": "enabled", "budget_tokens": 10**6}), {"reasoning.effort": "max"}, ("thinking=effort(max)",)
    ),
    "what else is said of reasoning": Row(
        asked(reasoning={"effort": "low", "exclude": True}), {"reasoning.effort": "low"}, ("dropped=reasoning.exclude",)
    ),
    "reasoning that was refused": Row(
        asked(reasoning_effort="low"), {"reasoning": ABSENT}, ("dropped=reasoning_effort",), refused=frozenset({"reasoning"})
    ),
    "an effort that was refused": Row(
        asked(reasoning_effort="low"),
        {"reasoning": {"summary": "auto"}},
        ("dropped=reasoning_effort",),
        refused=frozenset({"reasoning.effort"}),
    ),
    "a level that was refused": Row(
        asked(reasoning_effort="max"),
        {"reasoning.effort": "xhigh"},
        ("clamped=reasoning_effort",),
        refused=frozenset({"reasoning.effort.max"}),
    ),
    "every level was refused": Row(
        asked(reasoning_effort="low"),
        {"reasoning.effort": ABSENT},
        ("clamped=reasoning_effort",),
        refused=frozenset(f"reasoning.effort.{level}" for level in ("none", "low", "medium", "high", "xhigh", "max")),
    ),
    "a summary that was refused": Row(asked(), {"reasoning": ABSENT, "include": SEALED}, refused=frozenset({"reasoning.summary"})),
    "a seal that was refused": Row(asked(), {"include": ABSENT}, refused=frozenset({"include"})),
    # other parameters
    "a limit": Row(asked(max_tokens=100), {"max_output_tokens": 100}),
    "a limit under the least": Row(asked(max_completion_tokens=5), {"max_output_tokens": 16}, ("raised=max_completion_tokens",)),
    "a limit over the most": Row(asked(max_tokens=10**6), {"max_output_tokens": 128_000}, ("clamped=max_tokens",)),
    "sampling while it reasons": Row(
        asked(temperature=0.2, top_p=0.5, top_k=3),
        {"temperature": ABSENT, "top_p": ABSENT},
        ("dropped=temperature", "dropped=top_p", "dropped=top_k"),
    ),
    "sampling without reasoning": Row(asked(temperature=0.2, top_p=0.5), {"temperature": 0.2, "top_p": 0.5}, model=PLAIN),
    "sampling where it does not reason unasked": Row(asked(temperature=0.2), {"temperature": 0.2}, model=OLD),
    "sampling at no effort": Row(asked(temperature=0.2, reasoning_effort="none"), {"temperature": 0.2}),
    "sampling that was refused": Row(
        asked(temperature=0.2), {"temperature": ABSENT}, ("dropped=temperature",), PLAIN, frozenset({"temperature"})
    ),
    "default sampling": Row(asked(temperature=1, top_p=1.0), {"temperature": ABSENT, "top_p": ABSENT}),
    "any JSON": Row(
        chat({"role": "user", "content": "Say it in JSON."}, response_format={"type": "json_object"}),
        {"text": {"format": {"type": "json_object"}}},
    ),
    "a schema": Row(
        asked(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "my answer", "description": "d", "schema": SCHEMA, "strict": True},
            }
        ),
        {"text.format": {"type": "json_schema", "name": "my_answer_73fa54", "description": "d", "schema": SCHEMA, "strict": True}},
    ),
    "a schema without a name": Row(
        asked(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}),
        {"text.format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}},
    ),
    "few words": Row(asked(verbosity="low"), {"text": {"verbosity": "low"}}),
    "as many words as usual": Row(asked(verbosity="medium"), {"text": ABSENT}),
    "a number of words that nobody knows": Row(asked(verbosity="some"), {"text": ABSENT}, ("dropped=verbosity",)),
    "few words, refused": Row(asked(verbosity="low"), {"text": ABSENT}, ("dropped=verbosity",), refused=frozenset({"verbosity"})),
    "who asks": Row(
        asked(user="ann", metadata={"a": "b"}, service_tier="flex", prompt_cache_key="mine"),
        {"user": "ann", "metadata": {"a": "b"}, "service_tier": "flex", "prompt_cache_key": "mine"},
        session="ours",
    ),
    "who asks, refused": Row(
        asked(user="ann", metadata={"a": "b"}, service_tier="flex", prompt_cache_key="mine"),
        {"user": ABSENT, "metadata": ABSENT, "service_tier": ABSENT, "prompt_cache_key": ABSENT},
        ("dropped=user", "dropped=metadata", "dropped=service_tier"),
        refused=frozenset({"user", "metadata", "service_tier", "prompt_cache_key"}),
    ),
    "the session keys the cache": Row(asked(), {"prompt_cache_key": "ours"}, session="ours"),
    "a long key": Row(
        asked(prompt_cache_key="k" * 65), {"prompt_cache_key": "5f0bf0e8d0cba30c9849c6a534c7489987691279675fec7c31d3e3b679065e6d"}
    ),
    "metadata that is no text": Row(asked(metadata={"a": 1}), {"metadata": ABSENT}, ("dropped=metadata",)),
    "fields that hold something else": Row(
        asked(user=3, metadata="a", service_tier="gold"), {"user": ABSENT}, ("dropped=metadata", "dropped=user", "dropped=service_tier")
    ),
    "what this API has not": Row(
        asked(seed=3, logit_bias={"1": 2}, presence_penalty=1, frequency_penalty=1, logprobs=True, store=True),
        {"seed": ABSENT, "store": False},
        (
            "dropped=store",
            "dropped=seed",
            "dropped=logit_bias",
            "dropped=presence_penalty",
            "dropped=frequency_penalty",
            "dropped=logprobs",
        ),
    ),
    "stop sequences": Row(asked(stop=["END", "\n"]), {"stop": ABSENT}, ("emulated=stop",)),
    "more and longer stop sequences than are looked for": Row(
        asked(stop=["", "a" * 5000, *"abcde"]), {"stop": ABSENT}, ("emulated=stop", "dropped=stop(3)")
    ),
    "no stop sequence": Row(asked(stop=""), {"stop": ABSENT}, ("dropped=stop(1)",)),
    "how long a cache lives": Row(asked(prompt_cache_options={"ttl": "12h"}), {"prompt_cache_options": {"ttl": "12h"}}),
    "how long a cache lives, refused": Row(
        asked(prompt_cache_options={"ttl": "12h"}),
        {"prompt_cache_options": ABSENT},
        ("dropped=prompt_cache_options",),
        refused=frozenset({"prompt_cache_options"}),
    ),
    "half a character": Row(chat({"role": "user", "content": "a\ud83d"}), {"input.0.content.0.text": "a\ufffd"}, ("repaired=surrogates",)),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_request_is_translated_as_its_row_says(row: Row) -> None:
    request = translated(row.sent, context(row.model, refused=row.refused, session=row.session))
    body = body_of(request)
    assert {path: at(body, path) for path in row.holds} == dict(row.holds)
    assert request.notes == row.notes


@pytest.mark.parametrize(
    ("stop", "kept"), [("END", ("END",)), (["", "a" * 5000, *"abcde"], ("a", "b", "c", "d")), (None, ())], ids=["one", "many", "none"]
)
def test_stop_sequences_are_kept_for_the_answer(stop: Any, kept: tuple[str, ...]) -> None:
    assert translated(asked(stop=stop), context(SOL)).memory.stop == kept


REFUSED: dict[str, tuple[dict[str, Any], type[GatewayError], str, str]] = {
    "several answers": (asked(n=2), Unsupported, "'n' must be 1", "n"),
    "a choice of no tool": (
        asked(**TOOLS, tool_choice={"type": "function", "function": {"name": "write"}}),
        BadRequest,
        "not among the tools",
        "tool_choice",
    ),
    "a choice that leaves none": (
        asked(**TOOLS, tool_choice={"type": "allowed_tools", "allowed_tools": {"tools": []}}),
        BadRequest,
        "allows none of the tools",
        "tool_choice",
    ),
    "an image of another type": (
        chat(user({"type": "image_url", "image_url": {"url": "data:image/bmp;base64,Qk0="}})),
        Unsupported,
        "PNG, JPEG",
        "messages[0].content[0]",
    ),
    "sound": (chat(user({"type": "input_audio", "input_audio": {}})), Unsupported, "input_audio", "messages[0].content[0]"),
    "a file elsewhere": (chat(user({"type": "file", "file": {"file_id": "file_1"}})), Unsupported, "file_data", "messages[0].content[0]"),
}


@pytest.mark.parametrize(("sent", "kind", "words", "param"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_is_an_error_with_the_clients_place(
    sent: dict[str, Any], kind: type[GatewayError], words: str, param: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        translated(sent, context())
    assert str(caught.value.param).startswith(param)


def test_a_stream_is_asked_for_as_one() -> None:
    assert body_of(translated(asked(), replace(context(), is_stream=True)))["stream"] is True


def test_the_clients_names_are_remembered() -> None:
    assert translated(asked(tools=[tool("my.tool"), tool()]), context()).memory.client_names == {"my_tool_4f9d05": "my.tool"}


# Reasoning that is put back.


def thought(item_id: str = "rs_1") -> dict[str, Any]:
    return {**reasoning(item_id=item_id), "summary": []}


def record(*blocks: dict[str, Any]) -> ThinkingRecord:
    return ThinkingRecord(tuple(block["id"] for block in blocks if block["type"] == "tool_use"), blocks)


def used(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id}


def spoken(chars: int, **rest: Any) -> dict[str, Any]:
    return {"type": "text", "chars": chars, **rest}


def kinds(body: Mapping[str, Any]) -> list[str]:
    return [one.get("id") or one.get("call_id") or one["content"][0]["text"] for one in body["input"]]


@pytest.mark.parametrize(
    ("kept", "turn", "expected"),
    [
        (record(thought(), used()), said(None, call()), ["rs_1", "call_1"]),
        (record(thought(), spoken(3), used()), said("One", call()), ["rs_1", "One", "call_1"]),
        (record(thought(), spoken(9), used()), said("One", call()), ["rs_1", "One", "call_1"]),
        (record(thought(), spoken(3), thought("rs_2"), used()), said("One", call()), ["rs_1", "One", "rs_2", "call_1"]),
        (
            record(thought(), spoken(3), thought("rs_2"), spoken(3), used()),
            said("OneTwo", call()),
            ["rs_1", "One", "rs_2", "Two", "call_1"],
        ),
        (record(thought(), spoken(3), thought("rs_2"), spoken(3), used()), said(None, call()), ["rs_1", "rs_2", "call_1"]),
        (
            record(thought(), spoken(3), thought("rs_2"), spoken(3), used()),
            said("Something", call()),
            ["rs_1", "rs_2", "Something", "call_1"],
        ),
        (record(thought(), used()), said("One", call()), ["rs_1", "One", "call_1"]),
        (
            record(thought(), used(), thought("rs_2"), used("call_2")),
            said(None, call(), call("call_2")),
            ["rs_1", "call_1", "rs_2", "call_2"],
        ),
        (record(thought(), used(), used("call_2")), said(None, call()), ["rs_1", "call_1"]),
        (record(thought(), used(), thought("rs_2")), said(None, call()), ["rs_1", "call_1"]),
    ],
)
def test_reasoning_goes_back_to_where_it_was(kept: ThinkingRecord, turn: dict[str, Any], expected: list[str]) -> None:
    calls = [one["id"] for one in turn["tool_calls"]]
    sent = chat(HELLO, turn, *(result(call_id) for call_id in calls), HELLO)
    request = translated(sent, context(records=dict.fromkeys(kept.tool_call_ids, kept)))
    body = body_of(request, needs={"call_1": "rs_1"})
    assert kinds(body)[1 : 1 + len(expected)] == expected
    assert "thinking=restored" in request.notes
    assert len(body["input"]) == 1 + len(expected) + len(calls) + 1


def test_the_phase_of_a_message_goes_back_with_the_reasoning() -> None:
    kept = record(thought(), spoken(3, phase="commentary"), used())
    body = body_of(translated(chat(HELLO, said("One", call()), result()), context(records={"call_1": kept})))
    assert body["input"][2] == {
        "type": "message",
        "role": "assistant",
        "phase": "commentary",
        "content": [{"type": "output_text", "text": "One"}],
    }


def test_reasoning_goes_back_once_where_a_client_makes_several_messages_of_a_turn() -> None:
    kept = record(thought(), used(), used("call_2"))
    sent = chat(HELLO, said(None, call()), result(), said(None, call("call_2")), result("call_2"))
    body = body_of(translated(sent, context(records={"call_1": kept, "call_2": kept})))
    assert kinds(body)[1:] == ["rs_1", "call_1", "call_1", "call_2", "call_2"]


def test_reasoning_that_the_upstream_refused_is_left_out() -> None:
    sent = chat(HELLO, {**said(None, call()), "reasoning_content": "Hm."}, result())
    request = translated(sent, context(records={"call_1": record(thought(), used())}, refused={"input.reasoning"}))
    assert kinds(body_of(request))[1:] == ["call_1", "call_1"]
    assert request.notes == ("thinking=omitted",)


# The cache.


def marks(body: Mapping[str, Any]) -> list[str]:
    return [part["text"][:9] for one in body["input"] for part in one.get("content", ()) if part.get("prompt_cache_breakpoint")]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (chat(system(LONG), HELLO), ["aaaaaaaaa"]),
        (chat(system(), HELLO), []),
        (chat(user(text(LONG))), []),
        (chat(system(LONG), user(text("One", **MARK)), said("Hi."), user(text("Two", **MARK)), HELLO), ["aaaaaaaaa", "One", "Two"]),
        (
            chat({**system(LONG), **MARK}, *(user(text(f"No. {n}", **MARK)) for n in range(5))),
            ["aaaaaaaaa", "No. 3", "No. 4"],
        ),
        (chat(user(text(LONG), text("End", **MARK)), said([text("Hi.", **MARK)]), HELLO), ["End"]),
    ],
)
def test_the_instructions_and_the_clients_latest_marks_are_breakpoints(sent: dict[str, Any], expected: list[str]) -> None:
    assert marks(body_of(translated(sent, context()))) == expected
    assert marks(body_of(translated(sent, context(OLD)))) == []
    assert marks(body_of(translated(sent, context(refused={"prompt_cache_breakpoint"})))) == []


def test_a_longer_history_begins_with_the_same_items() -> None:
    turns: list[dict[str, Any]] = [system(LONG), user(text("Begin"))]
    before: Sequence[Any] = []
    digests: Sequence[Any] = []
    for number in range(6):
        marked = [{**turn, **MARK} if number == len(turns) - 1 else turn for number, turn in enumerate(turns)]
        request = translated(chat(*marked, **TOOLS), context())
        items = [
            {**one, "content": [{**part, "prompt_cache_breakpoint": None} for part in one["content"]]} if "content" in one else one
            for one in body_of(request)["input"]
        ]
        assert items[: len(before)] == before
        assert list(request.segments)[: len(digests)] == digests
        assert [name for name, _ in request.segments] == ["tools", *(f"input[{n}]" for n in range(len(items)))]
        before, digests = items, list(request.segments)
        turns += [said("I read.", call(f"call_{number}")), result(f"call_{number}"), user(text("Go on"))]


# What other clients say.


def write(*turns: Turn, ctx: TranslationContext | None = None, **rest: Any) -> TranslatedRequest:
    return write_request(Request(api=rest.pop("api", "openai.chat"), turns=turns, **rest), ctx or context())


def from_user(*blocks: Any) -> Turn:
    return Turn("user", blocks, "here", 0)


def from_model(*blocks: Any, **more: Any) -> Turn:
    return Turn("assistant", blocks, "here", 1, more=more)


GO = from_user(Text("here", "Go"))


def test_blocks_in_the_apis_own_words_are_sent_as_they_are() -> None:
    own = {"type": "input_file", "file_id": "file_1"}
    picture = {"type": "input_image", "file_id": "file_2"}
    blocks = (
        Document("d", file_id="file_1", origin=API, value=own),
        Image("i", origin=API, value=picture),
        Unknown("u", API, "input_text", {"type": "input_text", "text": "a"}),
    )
    assert body_of(write(from_user(*blocks)))["input"][0]["content"] == [own, picture, {"type": "input_text", "text": "a"}]


def test_documents_by_address_and_without_a_name() -> None:
    blocks = (Document("d", url="https://a/b.pdf"), Document("d", text="Words"), Document("d", data=PDF))
    assert body_of(write(from_user(*blocks)))["input"][0]["content"] == [
        {"type": "input_file", "file_url": "https://a/b.pdf"},
        {"type": "input_text", "text": "Words"},
        {"type": "input_file", "filename": "file", "file_data": f"data:application/octet-stream;base64,{PDF}"},
    ]


def test_an_image_that_is_nowhere_is_refused_in_a_result_as_well() -> None:
    image = Image("here", file_id="file_1")
    with pytest.raises(Unsupported, match="must hold its data"):
        write(from_user(image))
    with pytest.raises(Unsupported, match="must hold its data"):
        write(GO, from_model(ToolCall("c", "call_1", "read", "{}")), from_user(ToolResult("r", "call_1", (image,))))


def test_a_failed_call_says_so() -> None:
    request = write(
        GO, from_model(ToolCall("c", "call_1", "read", "{}")), from_user(ToolResult("r", "call_1", (Text("t", "no"),), is_error=True))
    )
    assert body_of(request)["input"][2]["output"] == "[error]\nno"


def test_reasoning_in_the_apis_own_words_goes_back_before_what_follows_it() -> None:
    own = thought()
    request = write(GO, from_model(Thinking("t", origin=API, value=own), Text("t", "Hi.")), GO, ctx=context(records={}))
    assert body_of(request)["input"][1:3] == [own, SAID]
    assert request.notes == ()
    last = write(GO, from_model(Text("t", "Hi."), Thinking("t", origin=API, value=own)), GO)
    assert body_of(last)["input"][1:2] == [SAID]


def test_thoughts_of_another_api_and_unknown_blocks_of_the_model_are_left_out() -> None:
    request = write(
        GO,
        from_model(Thinking("t", "Hm.", "sig", origin="anthropic.messages"), Text("t", "Hi."), Unknown("messages[1].content[2]", "x", "y")),
        GO,
    )
    assert body_of(request)["input"][1] == SAID
    assert request.notes == ("dropped=messages[1].content[2]", "thinking=omitted")


def test_instructions_are_words() -> None:
    request = write(Turn("system", (Image("system[0]", url="https://a/b"), Text("s", "Be brief.")), "system", 0), GO)
    assert body_of(request)["input"][0]["content"] == [{"type": "input_text", "text": "Be brief."}]
    assert request.notes == ("dropped=system[0]",)


def test_phases_that_a_client_keeps_are_sent() -> None:
    assert body_of(write(GO, from_model(Text("t", "Hi."), phase="final_answer"), GO))["input"][1] == {**SAID, "phase": "final_answer"}


def test_calls_keep_their_namespace() -> None:
    call_of = ToolCall("c", "call_1", "read", "{}", namespace="files")
    body = body_of(write(GO, from_model(call_of), from_user(ToolResult("r", "call_1"))))
    assert body["input"][1]["namespace"] == "files"
    assert body["input"][2]["output"] == ""


def test_users_of_other_services_are_not_named() -> None:
    request = write(GO, api="anthropic.messages", user_id="{}", metadata={"a": "b"})
    assert "user" not in body_of(request)
    assert request.notes == ("dropped=user_id", "dropped=metadata")


def test_deferred_tools_and_hosted_ones_without_words_are_left_out() -> None:
    tools = (Function("tools[0]", "late", is_deferred=True), Hosted("tools[1]", "web_search", "", None), Function("tools[2]", "read"))
    request = write(GO, tools=tools)
    assert body_of(request)["tools"] == [function()]
    assert request.notes == ("dropped=tool(late)", "dropped=tool(unnamed)")


def test_a_tool_of_the_service_may_be_chosen_by_its_type() -> None:
    servers = [Hosted(f"tools[{n}]", "mcp", "", {"type": "mcp", "server_label": str(n)}) for n in range(2)]
    tools = (*servers, Hosted("tools[2]", "web_search", "", {"type": "web_search"}), Freeform("tools[3]", "patch"))
    body = json.loads(write(GO, tools=tools, choice=Choice("one", "web_search")).body)
    assert body["tool_choice"] == {"type": "web_search"}
    assert [one["type"] for one in body["tools"]] == ["mcp", "mcp", "web_search", "custom"]


def test_a_freeform_tool_may_have_no_format() -> None:
    assert body_of(write(GO, tools=(Freeform("tools[0]", "patch"),)))["tools"] == [{"type": "custom", "name": "patch"}]


def test_a_result_may_stand_beside_blank_words() -> None:
    turn = from_user(ToolResult("r", "call_1", (Text("t", "ok"),)), Text("t", " "))
    request = write(GO, from_model(ToolCall("c", "call_1", "read", "{}")), turn)
    assert body_of(request)["input"][2:] == [ANSWERED]
    assert request.notes == ()


@pytest.mark.parametrize("display", ["omitted", "shown"])
def test_a_summary_is_asked_for_where_thinking_is_shown(display: Any) -> None:
    body = body_of(write(GO, reasoning=Reasoning(is_adaptive=True, display=display)))
    assert body["reasoning"] == {"effort": "high", **({"summary": "auto"} if display == "shown" else {})}


# What was refused.


@pytest.mark.parametrize(
    ("words", "param", "code", "status", "name"),
    [
        (
            "The encrypted content for item rs_1 could not be verified. Reason: ...",
            None,
            "invalid_encrypted_content",
            400,
            "input.reasoning",
        ),
        ("The encrypted content gAAA...Rg== could not be verified.", None, None, 400, "input.reasoning"),
        ("reasoning `encrypted_content` was not issued to this caller", None, None, 400, "input.reasoning"),
        ("Not Found", None, None, 404, "endpoint openai.responses"),
        ("Invalid URL (POST /v1/responses)", None, None, 404, "endpoint openai.responses"),
        ("Method Not Allowed", None, None, 405, "endpoint openai.responses"),
        ("Something.", None, None, 403, None),
        ("Item with id 'rs_1' not found. Items are not persisted when `store` is set to false.", "input", None, 404, "input.reasoning"),
        ("Item 'rs_1' of type 'reasoning' was provided without its required following item.", "input", None, 400, "input.reasoning"),
        ("Encrypted content is not supported with this model.", "include", None, 400, "include"),
        (
            "Unsupported value: 'max' is not supported with the 'gpt-5.4' model. Supported values are: 'low'.",
            "reasoning.effort",
            "unsupported_value",
            400,
            "reasoning.effort.max",
        ),
        ("Unsupported parameter: 'reasoning.effort' is not supported with this model.", "reasoning.effort", None, 400, "reasoning.effort"),
        (
            "Your organization must be verified to generate reasoning summaries.",
            "reasoning.summary",
            "unsupported_value",
            400,
            "reasoning.summary",
        ),
        ("Unsupported parameter: 'prompt_cache_breakpoint' is not supported with this model.", None, None, 400, "prompt_cache_breakpoint"),
        ("Unknown parameter: 'prompt_cache_key'.", "prompt_cache_key", None, 400, "prompt_cache_key"),
        ("Unsupported parameter: 'temperature' is not supported with this model.", "temperature", None, 400, "temperature"),
        ("The model 'gpt-9' does not exist.", "model", "model_not_found", 404, None),
        ("No tool output found for function call call_1.", "input", None, 400, None),
        ("Your input exceeds the context window of this model.", "input", "context_length_exceeded", 500, None),
        ("reasoning.effort is wonderful", None, None, 400, None),
    ],
)
def test_a_refusal_names_what_the_call_can_do_without(
    words: str, param: str | None, code: str | None, status: int, name: str | None
) -> None:
    assert refused_part(UpstreamRefusal(words, status=status, param=param, code=code)) == name
