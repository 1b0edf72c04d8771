"""Clients of the Messages protocol over OpenAI's Responses API: what a model thought comes back to it in the client's own history."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext
from compat.protocols.sealed import Sealer
from compat.wire.envelope import Envelope
from tests.cases.messages_client import events_of, message_of
from tests.fakes import responses_items as items
from tests.fakes.responses_answers import event_bytes, response, stream_events

PAIR = TRANSLATORS["anthropic.messages", "openai.responses"]
CTX = TranslationContext(
    "claude", "gpt-x", Model(id="gpt-x", reasoning=True), "msg_1", 17, is_stream=True, upstream_name="fake", sealer=Sealer([b"secret"])
)
HI = {"role": "user", "content": "Hi"}
REASONING = items.reasoning("Hm.")
ANSWER = [REASONING, items.function_call()]


def streamed() -> list[dict[str, Any]]:
    stream = PAIR.stream(CTX)
    frames = stream.feed(event_bytes(stream_events(ANSWER)))
    content = message_of(events_of(frames + stream.finish(is_whole=True)))["content"]
    assert isinstance(content, list)
    return content


def sent(content: Any, ctx: TranslationContext = CTX) -> tuple[list[Any], tuple[str, ...]]:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "ok"}]}
    turns = [HI, {"role": "assistant", "content": content}, result]
    request = PAIR.request(Envelope(json.dumps({"model": "claude", "messages": turns, "max_tokens": 100}).encode()), ctx)
    return json.loads(request.body)["input"], request.notes


def test_whole_and_streamed_answers_carry_the_same_seal() -> None:
    whole = json.loads(PAIR.response(json.dumps(response(ANSWER)).encode(), CTX).body)["content"]
    assert whole == streamed()
    assert [block["type"] for block in whole] == ["thinking", "tool_use"]


def test_reasoning_goes_back_before_its_call() -> None:
    found, notes = sent(streamed())
    assert [item.get("type", item.get("role")) for item in found] == ["message", "reasoning", "function_call", "function_call_output"]
    assert found[1] == {"type": "reasoning", "id": REASONING["id"], "summary": [], "encrypted_content": REASONING["encrypted_content"]}
    assert not any(note.startswith("thinking") for note in notes)


@pytest.mark.parametrize(
    "changes",
    [{"target": "gpt-y"}, {"upstream_name": "other"}, {"sealer": None}, {"refused_parameters": frozenset({"input.reasoning"})}],
    ids=["another model", "another upstream", "no secret", "refused"],
)
def test_reasoning_goes_to_nobody_else_and_not_where_it_was_refused(changes: Any) -> None:
    found, notes = sent(streamed(), dataclasses.replace(CTX, **changes))
    assert "reasoning" not in [item.get("type") for item in found]
    assert "thinking=omitted" in notes


def test_a_seal_of_another_protocol_is_left_alone() -> None:
    chat = TRANSLATORS["anthropic.messages", "openai.chat"].response(
        b'{"choices":[{"message":{"content":"A","reasoning_content":"Hm."},"finish_reason":"stop"}]}', CTX
    )
    found, notes = sent([json.loads(chat.body)["content"][0], {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}])
    assert "reasoning" not in [item.get("type") for item in found]
    assert "thinking=omitted" in notes
