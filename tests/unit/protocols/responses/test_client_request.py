"""Calls of the Responses API over an upstream of OpenAI's chat: as their rows say, append-only, and refused in the API's words."""

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
from compat.errors import BadRequest, Unsupported
from compat.protocols.base import SearchTool, ToolShape, TranslatedRequest, TranslationContext
from compat.protocols.chat.upstream_request import write_request
from compat.protocols.messages.request import write_request as write_messages
from compat.protocols.request import Hosted, Request
from compat.protocols.responses.client_request import read_request
from compat.protocols.sealed import Sealed, Sealer
from compat.wire.envelope import Envelope
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.cases.messages_client_requests import Row
from tests.cases.responses_client_requests import (
    FIND,
    FOUND,
    HI,
    MESSAGES,
    PARAMETERS,
    PATCH,
    REFUSED,
    SEARCH,
    TOOLS,
    called,
    output,
    patched,
    said,
    space,
    tool,
)

RECORDED = Path(__file__).resolve().parents[5] / "shared" / "clients" / "codex"
SEALER = Sealer([b"secret"])
CTX = TranslationContext(
    "gpt", "m-1", Model(id="m-1", display_name="m-1", owned_by="fake"), "resp_1", 17, is_stream=False, upstream_name="fake"
)
CLAUDE = dataclasses.replace(context(SONNET), upstream_name="fake", target="m-1")
MESSAGE: TypeAdapter[Any] = TypeAdapter(ChatCompletionMessageParam)
TOOL: TypeAdapter[Any] = TypeAdapter(ChatCompletionToolUnionParam)


def asked(**sent: Any) -> Request:
    return read_request(Envelope(json.dumps({"model": "gpt", "input": "Hi", **sent}).encode()))


def translated(ctx: TranslationContext = CTX, **sent: Any) -> TranslatedRequest:
    """The translation, done twice: it changes nothing, and gives the same again."""
    envelope = Envelope(json.dumps({"model": "gpt", "input": "Hi", **sent}).encode())
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


@pytest.mark.parametrize("row", [*MESSAGES, *TOOLS, *PARAMETERS], ids=lambda row: row.says)
def test_a_call_is_as_its_row_says(row: Row) -> None:
    ctx = dataclasses.replace(CTX, model=msgspec.structs.replace(CTX.model, **row.facts))
    request = translated(ctx, **row.sent)
    assert json.loads(request.body) == {"model": "m-1", "messages": [{"role": "user", "content": "Hi"}], **row.gets}
    assert [*asked(**row.sent).changes, *request.notes] == list(row.notes)


@pytest.mark.parametrize(("sent", "words"), REFUSED)
def test_what_is_not_sound_is_refused_in_the_protocols_words(sent: Any, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translated(**sent)
    assert words in caught.value.message
    assert caught.value.param


def test_an_answer_that_was_not_stored_has_the_code_that_clients_know() -> None:
    with pytest.raises(BadRequest) as caught:
        translated(previous_response_id="resp_1")
    assert (caught.value.code, caught.value.status) == ("previous_response_not_found", 400)
    with pytest.raises(BadRequest) as caught:
        translated(input=[{"type": "item_reference", "id": "msg_1"}])
    assert caught.value.status == 404


def test_the_session_and_the_user_are_read() -> None:
    request = asked(prompt_cache_key="k", user="u", metadata={"a": "b"}, service_tier="flex")
    assert (request.cache_key, request.user_id, request.metadata, request.service_tier) == ("k", "u", {"a": "b"}, "flex")


def test_the_answer_gives_back_what_was_asked_for() -> None:
    sent = {"tools": [tool()], "temperature": 0.5, "text": {"verbosity": "low"}, "metadata": {"a": "b"}, "instructions": None}
    echoed = dict(asked(**sent, model="gpt", unknown=1).echoed)
    assert json.loads(bytes(echoed.pop("tools"))) == [tool()]
    assert echoed == {"temperature": 0.5, "text": {"verbosity": "low"}, "metadata": {"a": "b"}}


@pytest.mark.parametrize(
    ("tools", "search"),
    [
        ([{"type": "web_search", "external_web_access": True}, {"type": "web_search"}], SearchTool("web_search")),
        (
            [{"type": "web_search_preview", "filters": {"allowed_domains": ["a.example", 5]}}],
            SearchTool("web_search", allowed=("a.example",)),
        ),
        ([{"type": "web_search", "filters": {"allowed_domains": None}}], SearchTool("web_search")),
        ([{"type": "web_search", "external_web_access": False}], None),
        ([tool("web_search"), {"type": "web_search"}], None),
        ([{"type": "file_search"}], None),
    ],
)
def test_a_search_of_the_web_is_left_to_the_server(tools: Any, search: SearchTool | None) -> None:
    request = asked(tools=tools)
    assert request.search == search
    assert search is None or [one.name for one in request.tools] == [search.name]
    assert not any(isinstance(one, Hosted) and not one.is_optional for one in request.tools)


# The way back.


def shapes(**sent: Any) -> Any:
    return asked(**sent).shapes


def test_names_lead_back_to_tools_and_namespaces() -> None:
    long = space("a", tool(), {**PATCH, "name": "run"})
    assert shapes(tools=[tool(), long, SEARCH]) == {
        "a__read": ToolShape("function", "read", "a"),
        "run": ToolShape("freeform", "run", "a"),
        "tool_search": ToolShape("search", "tool_search"),
    }
    assert shapes(input=[HI, FIND, FOUND], tools=[SEARCH])["read"] == ToolShape("function", "read", "ns")


def test_calls_of_tools_that_are_offered_no_longer_keep_their_shape() -> None:
    """Codex asks for a summary of a conversation without its tools."""
    history = [HI, patched(), called("c2", namespace="ns"), output(), output("c2")]
    assert shapes(input=history, tools=[]) == {
        "patch": ToolShape("freeform", "patch"),
        "read": ToolShape("function", "read", "ns"),
    }


def test_a_tool_that_comes_later_renames_no_earlier_one() -> None:
    before = asked(tools=[space("a", tool())], input=[HI, called(namespace="a"), output()])
    later = {"type": "additional_tools", "role": "developer", "tools": [tool(), space("b", tool())]}
    after = asked(tools=[space("a", tool())], input=[HI, called(namespace="a"), output(), later])
    assert after.tools[: len(before.tools)] == before.tools
    assert after.turns == before.turns
    assert set(before.shapes) < set(after.shapes)
    assert len({one.name for one in after.tools}) == 3


# Histories that grow.

HISTORY = [
    HI,
    *(item for number in range(3) for item in (called(f"c{number}"), patched(f"p{number}"), output(f"c{number}"), output(f"p{number}"))),
]


def test_a_history_that_grows_stays_the_same_from_its_beginning_on() -> None:
    bodies = [json.loads(translated(input=HISTORY[: 1 + 4 * count]).body)["messages"] for count in range(4)]
    for before, after in itertools.pairwise(bodies):
        assert after[: len(before)] == before


# Thoughts.


def reasoned(words: str = "Hm.", value: Any = None, *, origin: str = "openai.chat", model: str = "m-1", **rest: Any) -> dict[str, Any]:
    seal = SEALER.seal(Sealed("fake", model, origin, value))
    return {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": words}], "encrypted_content": seal, **rest}


@pytest.mark.parametrize(
    ("item", "gets", "note"),
    [
        (reasoned(), "Hm.", "thinking=restored"),
        (reasoned("short", "All of it."), "All of it.", "thinking=restored"),
        (
            reasoned(content=[{"type": "reasoning_text", "text": "a"}, {"type": "reasoning_text", "text": "b"}, 5]),
            "a\n\nb",
            "thinking=restored",
        ),
        (reasoned(content="x", summary=None), None, ""),
        (reasoned(model="m-2"), None, "thinking=omitted"),
        ({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}, None, "thinking=foreign"),
        ({"type": "reasoning", "summary": []}, None, "thinking=omitted"),
    ],
)
def test_what_this_model_thought_goes_back_to_it(item: Any, gets: str | None, note: str) -> None:
    request = translated(dataclasses.replace(CTX, sealer=SEALER), input=[HI, item, called(), output()])
    assert json.loads(request.body)["messages"][1].get("reasoning_content") == gets
    assert request.notes == ((note,) if note else ())


def blocks_of(*history: Any, **sent: Any) -> tuple[list[Any], tuple[str, ...]]:
    """The model's turns in Anthropic's words."""
    ctx = dataclasses.replace(CLAUDE, sealer=SEALER)
    request = write_messages(asked(input=[HI, *history], reasoning={"effort": "high"}, tools=[tool(), PATCH], **sent), ctx)
    return [message["content"] for message in json.loads(request.body)["messages"] if message["role"] == "assistant"], request.notes


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
USE = {"type": "tool_use", "id": "c1", "name": "read", "input": {}}


@pytest.mark.parametrize("value", [THOUGHT, "sig"])
def test_signed_thinking_goes_back_byte_for_byte(value: Any) -> None:
    blocks, notes = blocks_of(reasoned("Hm.", value, origin="anthropic.messages"), called(), output())
    assert (blocks, notes) == ([[THOUGHT, USE]], ("thinking=restored",))


def test_thoughts_stay_where_they_stood_among_texts_and_calls() -> None:
    first, second = (reasoned("", value, origin="anthropic.messages") for value in (THOUGHT, REDACTED))
    blocks, _ = blocks_of(first, said("Let me see.", "assistant"), second, called(), output())
    assert blocks == [[THOUGHT, {"type": "text", "text": "Let me see."}, REDACTED, USE]]


@pytest.mark.parametrize(
    "item",
    [
        reasoned("Hm.", THOUGHT, origin="anthropic.messages", model="m-2"),
        reasoned("Hm.", THOUGHT, origin="openai.responses"),
        reasoned("Hm.", {"type": "other"}, origin="anthropic.messages"),
        reasoned("Hm.", 5, origin="anthropic.messages"),
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"},
    ],
)
def test_what_another_one_thought_is_not_sent(item: Any) -> None:
    assert blocks_of(item, called(), output()) == ([[USE]], ("thinking=omitted",))


def test_freeform_calls_are_functions_for_anthropics_models() -> None:
    blocks, _ = blocks_of(patched(), output())
    assert blocks == [[{"type": "tool_use", "id": "c1", "name": "patch", "input": {"input": "*** Begin"}}]]
    request = write_messages(asked(tools=[PATCH, {"type": "web_search"}, tool("later", defer_loading=True)]), CLAUDE)
    [made] = json.loads(request.body)["tools"]
    assert made["input_schema"]["required"] == ["input"]
    assert request.notes == ("dropped=tool(web_search)",)


def test_a_freeform_tool_whose_calls_nobody_restores_is_refused() -> None:
    request = dataclasses.replace(asked(tools=[PATCH]), shapes={})
    with pytest.raises(Unsupported):
        write_messages(request, CLAUDE)


# What the real client sends.


@pytest.mark.skipif(not RECORDED.exists(), reason="needs requests of the real client")
@pytest.mark.parametrize("turn", ["first_turn", "after_tool"])
@pytest.mark.parametrize("shape", ["function", "custom", "namespace"])
def test_the_real_clients_requests_are_taken(turn: str, shape: str) -> None:
    sent = json.loads((RECORDED / f"{turn}_{shape}.json").read_bytes())
    body = json.loads(translated(dataclasses.replace(CTX, is_stream=True), **sent).body)
    assert len(body["tools"]) > 5
    assert body["messages"][0]["role"] == "system"
    assert asked(**sent).cache_key == sent["prompt_cache_key"]
    messages = write_messages(asked(**sent), CLAUDE)
    assert len(json.loads(messages.body)["tools"]) == len(body["tools"])
