"""Requests for services that take a part of Anthropic's protocol: what they don't take is left out with a note."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.protocols.base import MessagesSubset, TranslationContext
from compat.protocols.messages.relay import MESSAGES_MESSAGES
from compat.wire.envelope import Envelope

FIELDS = frozenset({"model", "messages", "system", "max_tokens", "tools", "tool_choice", "thinking", "output_config"})
BLOCKS = frozenset({"text", "thinking", "tool_use", "tool_result"})
SUBSET = MessagesSubset(FIELDS, BLOCKS, frozenset({"files-1"}), frozenset({"web_search"}))
BETAS = "claude-code-20250219, files-1,context-management-2025-06-27"
CTX = TranslationContext(
    "claude", "deep-x", Model(id="deep-x"), "msg_1", 17, is_stream=True, subset=SUBSET, client_headers={"anthropic-beta": BETAS}
)
TOOL = {"name": "read", "description": "Reads.", "input_schema": {"type": "object"}}
HI = {"role": "user", "content": "Hi"}


def sent(ctx: TranslationContext = CTX, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    document = {"model": "claude", "max_tokens": 100, "messages": [HI], **fields}
    envelope = Envelope(json.dumps(document).encode())
    before = (envelope.body, dict(envelope))
    request = MESSAGES_MESSAGES.request(envelope, ctx)
    assert (envelope.body, dict(envelope)) == before
    body = json.loads(request.body)
    assert isinstance(body, dict)
    return body, request.notes


def test_a_request_that_is_taken_whole_keeps_its_bytes() -> None:
    body = (
        b'{ "model" : "claude",  "messages":[ {"role":"user","content":[ {"type":"text","text":"Hi"} ]} ], "max_tokens":5, "system":[ ] }'
    )
    request = MESSAGES_MESSAGES.request(Envelope(body), dataclasses.replace(CTX, client_headers={}))
    assert (request.body, request.notes) == (body.replace(b'"claude"', b'"deep-x"'), ())


def test_fields_and_betas_that_it_does_not_know_are_dropped() -> None:
    body, notes = sent(context_management={"edits": []}, container="c", thinking={"type": "adaptive"})
    assert body.keys() == {"model", "max_tokens", "messages", "thinking"}
    assert notes == ("dropped=context_management", "dropped=container", "dropped=anthropic-beta(2)")


@pytest.mark.parametrize(("betas", "left"), [(BETAS, {"anthropic-beta": "files-1"}), ("a,b", {}), ("", {})])
def test_betas_that_it_knows_stay(betas: str, left: dict[str, str]) -> None:
    ctx = dataclasses.replace(CTX, client_headers={"anthropic-beta": betas, "anthropic-version": "1"} if betas else {})
    request = MESSAGES_MESSAGES.request(Envelope(json.dumps({"model": "c", "messages": [HI]}).encode()), ctx)
    assert request.headers == {**left, **({"anthropic-version": "1"} if betas else {})}


def test_the_billing_block_is_dropped_and_instructions_in_between_are_words_of_the_users() -> None:
    system = [{"type": "text", "text": "x-anthropic-billing-header: 1"}, {"type": "text", "text": "Be kind."}, 5]
    body, notes = sent(system=system, messages=[HI, {"role": "system", "content": "Now."}])
    assert body["system"] == [{"type": "text", "text": "Be kind."}, 5]
    assert body["messages"][1]["role"] == "user"
    assert {"dropped=billing_header", "moved=system@1"} <= set(notes)


def test_tools_are_plain_ones() -> None:
    tools = [
        {**TOOL, "type": "custom", "eager_input_streaming": True, "cache_control": {"type": "ephemeral"}},
        {**TOOL, "name": "later", "defer_loading": True},
        {**TOOL, "name": "found", "defer_loading": True},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        {"type": "code_execution_20250825", "name": "code_execution"},
    ]
    reference = {"type": "tool_reference", "tool_name": "found"}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [reference]}]}
    body, notes = sent(tools=tools, messages=[HI, result], tool_choice={"type": "tool", "name": "read"})
    assert [tool["name"] for tool in body["tools"]] == ["read", "found", "bash", "web_search"]
    assert body["tools"][0] == {**TOOL, "cache_control": {"type": "ephemeral"}}
    assert body["tools"][2]["input_schema"]["properties"].keys() == {"command", "restart"}
    assert body["tools"][3] == tools[4]
    assert body["tool_choice"] == {"type": "tool", "name": "read"}
    assert body["messages"][1]["content"][0]["content"] == [{"type": "text", "text": "Tool loaded: found"}]
    assert {"dropped=tool(code_execution)", "left_out=tool_reference"} <= set(notes)


def test_a_choice_of_a_tool_that_is_gone_goes_with_it() -> None:
    code = {"type": "code_execution_20250825", "name": "code_execution"}
    body, notes = sent(tools=[TOOL, code], tool_choice={"type": "tool", "name": "code_execution"})
    assert "tool_choice" not in body
    assert "dropped=tool_choice" in notes
    assert not sent(tools=[code], tool_choice={"type": "any"})[0].keys() & {"tools", "tool_choice"}
    assert "tools" not in sent(tools=[code])[0]


def test_tools_are_not_looked_at_where_there_are_none() -> None:
    ctx = dataclasses.replace(CTX, subset=dataclasses.replace(SUBSET, fields=FIELDS - {"tools"}))
    assert "tools" not in sent(ctx, tools=[TOOL])[0]


def test_blocks_that_it_does_not_know_are_words_where_they_have_any() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aQ=="}}
    found = {"type": "search_result", "title": "A", "source": "u", "content": [{"type": "text", "text": "Tall."}]}
    content = [{"type": "text", "text": "See:"}, image, found, "odd", {"type": "tool_result", "tool_use_id": "t", "content": "plain"}]
    body, notes = sent(messages=[{"role": "user", "content": content}, {"role": "user", "content": [image]}])
    assert body["messages"][0]["content"] == [content[0], {"type": "text", "text": "A u\nTall."}, *content[3:]]
    assert body["messages"][1]["content"] == [{"type": "text", "text": "(no content)"}]
    assert notes[:2] == ("left_out=image(2)", "left_out=search_result") or "left_out=image(2)" in notes
