"""Recorded traffic of the real APIs, where it is at hand: what was recorded is what the client gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import compat
from compat.protocols import TRANSLATORS
from compat.wire.envelope import Envelope
from compat.wire.sse import EventSplitter, parse_event
from tests.cases.messages_checks import accepted, chunks_of, context, feed, told_by_chunks, told_by_completion, translated

RECORDINGS = Path(compat.__file__).parent.parent.parent / "shared" / "recordings"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.json"))
CLAUDE = [name for name in NAMES if name.startswith("anthropic")]
OPENAI = [name for name in NAMES if name.startswith("openai")]
PASSTHROUGH = TRANSLATORS["openai.chat", "openai.chat"]
MESSAGES = TRANSLATORS["openai.chat", "anthropic.messages"]

pytestmark = pytest.mark.skipif(not NAMES, reason="no recordings beside the project")


def load(name: str) -> dict[str, Any]:
    return json.loads((RECORDINGS / f"{name}.json").read_text())


def events_of(text: str) -> Iterator[dict[str, Any]]:
    splitter = EventSplitter()
    for block in [*splitter.feed(text.encode()), *splitter.finish()]:
        data = parse_event(block).data
        if data and data != b"[DONE]":
            yield json.loads(data)


def recorded_message(recording: dict[str, Any]) -> dict[str, Any]:
    """The whole message that a recording holds, its events put together in the plainest way."""
    if not recording["stream"]:
        return recording["body"]
    whole: dict[str, Any] = {"content": [], "usage": {}}
    pieces: dict[int, str] = {}
    for event in events_of(recording["body"]):
        match event:
            case {"type": "message_start", "message": message}:
                whole["usage"] |= message["usage"]
            case {"type": "content_block_start", "content_block": block}:
                whole["content"].append(dict(block))
            case {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}:
                pieces[index] = pieces.get(index, "") + piece
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                for key in {"text", "thinking", "signature"} & delta.keys():
                    whole["content"][index][key] = whole["content"][index].get(key, "") + delta[key]
            case {"type": "message_delta", "delta": delta, "usage": usage}:
                whole |= delta
                whole["usage"] |= usage
    for index, text in pieces.items():
        whole["content"][index]["input"] = json.loads(text or "{}")
    return whole


def joined(message: dict[str, Any], kind: str) -> str:
    return "".join(block[kind] for block in message["content"] if block["type"] == kind)


@pytest.mark.parametrize("name", CLAUDE)
def test_a_recorded_answer_of_claude_reaches_the_client_as_it_was(name: str) -> None:
    recording = load(name)
    message = recorded_message(recording)
    ctx = context(recording["request"]["model"], is_stream=recording["stream"])
    if recording["stream"]:
        body = recording["body"].encode()
        for pieces in ([body], [bytes([byte]) for byte in body], [body.replace(b"\n", b"\r\n")]):
            frames, error = feed(MESSAGES.stream(ctx), pieces)
            assert error is None
            told = told_by_chunks(chunks_of(frames))
    else:
        told = told_by_completion(json.loads(MESSAGES.response(json.dumps(recording["body"]).encode(), ctx).body))
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    assert (told.content, told.reasoning) == (joined(message, "text"), joined(message, "thinking"))
    assert [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in told.calls] == [
        (call["id"], call["name"], call["input"]) for call in calls
    ]
    assert told.finish_reason == {"end_turn": "stop", "tool_use": "tool_calls"}[message["stop_reason"]]
    counted = message["usage"]
    assert told.usage is not None
    assert told.usage["prompt_tokens"] == sum(
        counted.get(key) or 0 for key in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    assert told.usage["completion_tokens"] == counted["output_tokens"]
    thought = (counted.get("output_tokens_details") or {}).get("thinking_tokens", 0)
    assert told.usage["completion_tokens_details"] == {"reasoning_tokens": thought}


@pytest.mark.parametrize("name", CLAUDE)
def test_a_recorded_request_of_claude_can_be_asked_for_in_openais_words(name: str) -> None:
    """The same request, said as an OpenAI client would, is translated to what was sent then, but for what we add."""
    recorded = load(name)["request"]
    ctx = context(recorded["model"], is_stream=recorded.get("stream", False))
    body = accepted(translated(openai_words(recorded), ctx), ctx)
    roles = [(message["role"], [block["type"] for block in blocks(message)]) for message in recorded["messages"]]
    assert [(message["role"], [block["type"] for block in message["content"]]) for message in body["messages"]] == roles
    assert body["max_tokens"] == recorded["max_tokens"]
    assert [tool["name"] for tool in body.get("tools", [])] == [tool["name"] for tool in recorded.get("tools", [])]
    assert [tool["input_schema"] for tool in body.get("tools", [])] == [tool["input_schema"] for tool in recorded.get("tools", [])]
    assert body.get("output_config") == recorded.get("output_config")
    assert body.get("thinking") == recorded.get("thinking")


def blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def openai_words(recorded: dict[str, Any]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for message in recorded["messages"]:
        texts = [block for block in blocks(message) if block["type"] == "text"]
        uses = [block for block in blocks(message) if block["type"] == "tool_use"]
        for block in blocks(message):
            if block["type"] == "tool_result":
                messages.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": block["content"]})
        calls = [
            {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": json.dumps(block["input"])}}
            for block in uses
        ]
        if texts or calls:
            messages.append({"role": message["role"], "content": texts, **({"tool_calls": calls} if calls else {})})
    sent: dict[str, Any] = {"messages": messages, "max_tokens": recorded["max_tokens"]}
    if "thinking" in recorded:
        sent["reasoning"] = {"max_tokens": recorded["thinking"]["budget_tokens"]}
    if "tools" in recorded:
        sent["tools"] = [
            {"type": "function", "function": {"name": tool["name"], "description": tool["description"], "parameters": tool["input_schema"]}}
            for tool in recorded["tools"]
        ]
    if "output_config" in recorded:
        schema = recorded["output_config"]["format"]["schema"]
        sent["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return sent


@pytest.mark.parametrize("name", OPENAI)
def test_a_recorded_answer_of_openai_passes_as_it_was(name: str) -> None:
    recording = load(name)
    ctx = context("claude-sonnet-4-6", is_stream=recording["stream"])
    if not recording["stream"]:
        answer = json.loads(PASSTHROUGH.response(json.dumps(recording["body"]).encode(), ctx).body)
        ChatCompletion.model_validate(answer)
        assert answer["choices"] == recording["body"]["choices"]
        assert {key: answer["usage"][key] for key in recording["body"]["usage"]} == recording["body"]["usage"]
        return
    recorded = list(events_of(recording["body"]))
    body = recording["body"].encode()
    for pieces in ([body], [bytes([byte]) for byte in body], [body.replace(b"\n", b"\r\n")]):
        frames, error = feed(PASSTHROUGH.stream(ctx), pieces)
        assert error is None
        chunks = list(events_of(frames.decode()))
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk)
        assert [chunk["choices"] for chunk in chunks if chunk["choices"]] == [chunk["choices"] for chunk in recorded if chunk["choices"]]
        assert {(chunk["id"], chunk["model"]) for chunk in chunks} == {(recorded[0]["id"], "claude")}


@pytest.mark.parametrize("name", OPENAI)
def test_a_recorded_request_to_openai_passes_as_it_was(name: str) -> None:
    recording = load(name)
    ctx = context("their-model", is_stream=recording["stream"])
    sent = json.loads(PASSTHROUGH.request(Envelope(json.dumps(recording["request"]).encode()), ctx).body)
    assert {key: sent[key] for key in recording["request"] if key not in {"model", "stream_options"}} == {
        key: value for key, value in recording["request"].items() if key not in {"model", "stream_options"}
    }
