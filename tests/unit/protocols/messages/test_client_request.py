"""Calls of the Messages protocol over an upstream of OpenAI's chat: as their rows say, append-only, and refused in Anthropic's words."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam
from pydantic import TypeAdapter

from compat.config.catalog import Model
from compat.errors import BadRequest
from compat.protocols.base import TranslatedRequest, TranslationContext
from compat.protocols.chat.upstream_request import write_request
from compat.protocols.messages.client_request import read_request
from compat.protocols.messages.edits import CLEARED
from compat.protocols.request import Function, Hosted, Request, Thinking
from compat.protocols.sealed import Sealed, Sealer
from compat.wire.envelope import Envelope
from tests.cases.messages_client_requests import (
    MESSAGES,
    PARAMETERS,
    REFUSED,
    TOOLS,
    Row,
    answered,
    call,
    result,
    said,
    text,
    tool,
    use,
    user,
)

RECORDED = Path(__file__).resolve().parents[5] / "shared" / "clients" / "claude-code"
SEALER = Sealer([b"secret"])
CTX = TranslationContext(
    "claude", "m-1", Model(id="m-1", display_name="m-1", owned_by="fake"), "msg_1", 17, is_stream=False, upstream_name="fake"
)
MESSAGE: TypeAdapter[Any] = TypeAdapter(ChatCompletionMessageParam)
TOOL: TypeAdapter[Any] = TypeAdapter(ChatCompletionToolUnionParam)


def asked(**sent: Any) -> Request:
    return read_request(Envelope(json.dumps({"model": "claude", "messages": [user("Hi")], **sent}).encode()))


def translated(ctx: TranslationContext = CTX, **sent: Any) -> TranslatedRequest:
    """The translation, done twice: it changes nothing, and gives the same again."""
    envelope = Envelope(json.dumps({"model": "claude", "messages": [user("Hi")], **sent}).encode())
    before = (envelope.body, dict(envelope))
    first = write_request(read_request(envelope), ctx)
    assert write_request(read_request(envelope), ctx) == first
    assert (envelope.body, dict(envelope)) == before
    check(json.loads(first.body))
    return first


def check(body: dict[str, Any]) -> None:
    """OpenAI's own types take it; every call has one result right behind it, and every result a call."""
    for message in body["messages"]:
        MESSAGE.validate_python(message)
    for one in body.get("tools", ()):
        TOOL.validate_python(one)
    waiting: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting
        waiting = [one["id"] for one in message.get("tool_calls", ())]
    assert not waiting
    assert body["messages"][-1]["role"] in ("user", "tool")


def context(row: Row) -> TranslationContext:
    model = msgspec.structs.replace(CTX.model, **row.facts)
    return dataclasses.replace(CTX, model=model, refused_parameters=frozenset(row.refused), **row.ctx)


@pytest.mark.parametrize("row", [*MESSAGES, *PARAMETERS, *TOOLS], ids=lambda row: row.says)
def test_a_call_is_as_its_row_says(row: Row) -> None:
    request = translated(context(row), **row.sent)
    body = json.loads(request.body)
    assert body == {"model": "m-1", "messages": [{"role": "user", "content": "Hi"}], **row.gets}
    assert [*asked(**row.sent).changes, *request.notes] == list(row.notes)


@pytest.mark.parametrize(("sent", "words"), REFUSED)
def test_what_is_not_sound_is_refused_in_the_protocols_words(sent: Any, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translated(**sent)
    assert words in caught.value.message
    assert caught.value.param


def test_a_stream_asks_for_its_counts_where_that_is_known() -> None:
    ctx = dataclasses.replace(CTX, is_stream=True)
    assert json.loads(translated(ctx).body)["stream_options"] == {"include_usage": True}
    for other in ({"sends_usage_option": False}, {"refused_parameters": frozenset({"stream_options"})}):
        body = json.loads(translated(dataclasses.replace(ctx, **other)).body)
        assert body["stream"] is True
        assert "stream_options" not in body


def test_long_calls_are_written_in_steps() -> None:
    words = "a" * (5 * 1024 * 1024)
    assert json.loads(translated(messages=[user(words)]).body)["messages"][0]["content"] == words


def test_names_that_were_changed_are_remembered_for_the_answer() -> None:
    name = "mcp__" + "x" * 70
    assert list(translated(tools=[tool(name), tool()]).memory.client_names.values()) == [name]


# Thoughts.


def thought(words: str, value: Any = None, *, model: str = "m-1") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": SEALER.seal(Sealed("fake", model, "openai.chat", value))}


def reasoning(*blocks: Any, **changes: Any) -> tuple[Any, tuple[str, ...]]:
    ctx = dataclasses.replace(CTX, **{"sealer": SEALER, **changes})
    request = translated(ctx, messages=[user("Hi"), said(*blocks, use()), user(result())])
    return json.loads(request.body)["messages"][1].get("reasoning_content"), request.notes


def test_what_this_model_thought_goes_back_to_it() -> None:
    assert reasoning(thought("Hm.")) == ("Hm.", ("thinking=restored",))
    assert reasoning(thought("", "Hidden.")) == ("Hidden.", ("thinking=restored",))
    assert reasoning(thought("a"), thought("b")) == ("ab", ("thinking=restored",))
    assert reasoning(thought("")) == (None, ())


def test_what_it_does_not_want_back_is_omitted() -> None:
    assert reasoning(thought("Hm."), unwanted_fields=frozenset({"reasoning_content"})) == (None, ("thinking=omitted",))
    assert reasoning(thought("Hm."), refused_parameters=frozenset({"reasoning_content"})) == (None, ("thinking=omitted",))


@pytest.mark.parametrize(
    ("block", "note"),
    [
        (thought("Hm.", model="m-2"), "thinking=omitted"),
        ({"type": "thinking", "thinking": "Hm.", "signature": ""}, "thinking=omitted"),
        ({"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmF0dXJl"}, "thinking=foreign"),
        ({"type": "redacted_thinking", "data": "x"}, "thinking=foreign"),
    ],
)
def test_what_another_model_thought_is_left_out_with_a_note(block: Any, note: str) -> None:
    assert reasoning(block) == (None, (note,))


def test_without_a_secret_no_thought_is_known() -> None:
    assert reasoning(thought("Hm."), sealer=None) == (None, ("thinking=omitted",))


def test_what_belongs_to_a_call_goes_back_with_it() -> None:
    more = {"extra_content": {"google": {"thought_signature": "x"}}}
    request = translated(
        dataclasses.replace(CTX, sealer=SEALER),
        messages=[user("Hi"), said(thought("", {"calls": {"toolu_1": more}}), use()), user(result())],
    )
    assert json.loads(request.body)["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [{**call(), **more}]},
        answered(),
    ]


# Tools that Anthropic's models know without a schema.


@pytest.mark.parametrize(
    ("kind", "words"),
    [("bash_20250124", "bash"), ("text_editor_20250728", "files"), ("memory_20250818", "/memories"), ("computer_20251124", "1024 x 768")],
)
def test_a_typed_tool_that_the_client_runs_is_a_function_for_any_model(kind: str, words: str) -> None:
    sized = {"display_width_px": 1024, "display_height_px": 768} if kind.startswith("computer") else {}
    [found] = asked(tools=[{"type": kind, "name": "x", **sized}]).tools
    assert isinstance(found, Function)
    assert words in found.description
    assert found.schema is not None
    assert found.schema["type"] == "object"


def test_a_tool_that_servers_run_stays_what_it_is() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    assert asked(tools=[{**search, "cache_control": {"type": "ephemeral"}}]).tools == (
        Hosted("tools[0]", "web_search_20250305", "web_search", search, "default"),
    )


def test_tools_that_a_server_found_are_deferred_no_longer() -> None:
    found = {
        "type": "tool_search_tool_result",
        "tool_use_id": "s",
        "content": {"tool_references": [{"type": "tool_reference", "tool_name": "later"}]},
    }
    request = asked(messages=[user("Hi"), said(found)], tools=[tool("later", defer_loading=True), tool("never", defer_loading=True)])
    assert [one.is_deferred for one in request.tools if isinstance(one, Function)] == [False, True]


# Sessions, edits, histories that grow.


def test_the_session_groups_calls_that_share_a_prompt() -> None:
    assert asked(metadata={"user_id": '{"session_id":"s-1"}'}).cache_key == "s-1"
    assert asked(metadata={"user_id": 5}).cache_key == asked().cache_key == ""


def edit(history: list[Any], **fields: Any) -> tuple[Request, list[Any]]:
    request = asked(messages=history, context_management={"edits": [fields]})
    return request, json.loads(write_request(request, CTX).body)["messages"]


CALLS = [
    one for number in range(5) for one in (said(use(f"t{number}", "read" if number else "keep")), user(result(f"t{number}", f"r{number}")))
]


@pytest.mark.parametrize(
    ("fields", "cleared"),
    [
        ({"trigger": {"type": "input_tokens", "value": 10}}, [0, 1]),
        ({"trigger": {"type": "input_tokens", "value": 10}, "keep": {"type": "tool_uses", "value": 0}}, [0, 1, 2, 3, 4]),
        ({"trigger": {"type": "tool_uses", "value": 4}, "keep": {"type": "tool_uses", "value": 4}}, [0]),
        ({"trigger": {"type": "tool_uses", "value": 5}}, []),
        ({}, []),
        ({"trigger": {"type": "input_tokens", "value": 10}, "exclude_tools": ["keep", 5]}, [1]),
    ],
)
def test_results_of_old_calls_are_cleared_where_the_upstream_can_not(fields: Any, cleared: list[int]) -> None:
    request, messages = edit([user("Hi"), *CALLS], type="clear_tool_uses_20250919", **fields)
    found = [number for number, message in enumerate(one for one in messages if one["role"] == "tool") if message["content"] == CLEARED]
    assert found == cleared
    assert request.changes == ((f"cleared=clear_tool_uses_20250919({len(cleared)})",) if cleared else ())


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ({}, [3]),
        ({"keep": {"type": "thinking_turns", "value": 2}}, [1, 3]),
        ({"keep": {"type": "thinking_turns", "value": 0}}, []),
        ({"keep": "all"}, [1, 3]),
    ],
)
def test_old_thoughts_are_cleared(keep: Any, left: list[int]) -> None:
    request, _ = edit(
        [user("Hi"), said(thought("a"), text("A")), user("And?"), said(thought("b"), text("B")), user("Go.")],
        type="clear_thinking_20251015",
        **keep,
    )
    assert [turn.position for turn in request.turns if any(isinstance(block, Thinking) for block in turn.blocks)] == left


@pytest.mark.parametrize("management", [{"edits": [{"type": "compact_20260112"}]}, {"edits": ["x"]}, {"edits": [{}]}])
def test_edits_that_are_not_known_are_noted(management: Any) -> None:
    assert asked(context_management=management).changes == ("dropped=context_management.edits",)


@pytest.mark.parametrize("management", [{}, {"edits": 5}, 5])
def test_no_edits_change_nothing(management: Any) -> None:
    assert asked(context_management=management).changes == ()


def test_a_history_that_grows_stays_the_same_from_its_beginning_on() -> None:
    history = [user("Hi"), {"role": "system", "content": [text("x", cache_control={"type": "ephemeral"})]}, *CALLS]
    bodies = [json.loads(translated(messages=history[: 2 + 2 * count]).body)["messages"] for count in range(6)]
    for before, after in itertools.pairwise(bodies):
        assert after[: len(before)] == before


def test_a_mark_that_moved_and_text_in_another_form_change_nothing() -> None:
    marked = [
        user(text("Hi", cache_control={"type": "ephemeral"})),
        {"role": "system", "content": [text("x", cache_control={"type": "ephemeral"})]},
    ]
    plain = [user("Hi"), {"role": "system", "content": "x"}]
    assert translated(messages=marked).body == translated(messages=plain).body


@pytest.mark.skipif(not RECORDED.exists(), reason="needs requests of the real client")
@pytest.mark.parametrize("name", ["first_turn", "after_tool", "web_search"])
def test_the_real_clients_requests_are_taken(name: str) -> None:
    sent = json.loads((RECORDED / f"{name}.json").read_bytes())
    body = json.loads(translated(dataclasses.replace(CTX, is_stream=True), **sent).body)
    assert not any(message["content"] and "billing" in str(message["content"]) for message in body["messages"])
    assert "DeferredToolPlaceholder" not in str(body.get("tools"))


OFFERED = {"name": "f", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("sent", "display"),
    [
        ({}, "dropped"),
        ({"tools": []}, "dropped"),
        ({"thinking": {"type": "disabled"}}, "dropped"),
        ({"tools": [OFFERED]}, None),
        ({"tools": [OFFERED], "thinking": {"type": "disabled"}}, None),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, None),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, "omitted"),
    ],
)
def test_thoughts_that_nobody_asked_for_are_left_out_but_beside_tools(sent: dict[str, Any], display: str | None) -> None:
    assert asked(**sent).reasoning.display == display
