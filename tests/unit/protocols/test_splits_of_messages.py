"""Streams for clients of the Messages protocol: however an upstream's bytes are cut, a client gets the same, and what a whole one is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.protocols import TRANSLATORS
from compat.protocols.base import AnswerMemory, TranslationContext, WireApi
from compat.protocols.sealed import Sealer
from tests.cases.messages_client import events_of, message_of
from tests.fakes import anthropic_answers, openai_answers, responses_answers, responses_items
from tests.fakes.anthropic_blocks import text, thinking, tool_use

CTX = TranslationContext(
    "claude", "their-x", Model(id="their-x", reasoning=True), "msg_1", 17, is_stream=True, upstream_name="fake", sealer=Sealer([b"secret"])
)
WORDS, ARGUMENTS = "Aü✓ b", {"path": "ä.py"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps(ARGUMENTS)}}
DELTAS: list[dict[str, Any]] = [
    *({"reasoning_content": piece} for piece in ("Hm", ".")),
    *({"content": piece} for piece in (WORDS[:2], WORDS[2:])),
    {"tool_calls": [{"index": 0, **CALL, "function": {"name": "f", "arguments": ""}}]},
    *({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in ('{"pa', 'th": "ä.py"}')),
]
CHAT = [*(openai_answers.chunk(delta) for delta in DELTAS), openai_answers.chunk({}, "tool_calls"), openai_answers.usage_chunk()]
ITEMS = [
    responses_items.reasoning("Hm."),
    responses_items.message(responses_items.text_part(WORDS)),
    responses_items.function_call("f", json.dumps(ARGUMENTS)),
]
BLOCKS = [thinking("Hm."), text(WORDS), tool_use("f", ARGUMENTS)]
STREAMS: dict[WireApi, bytes] = {
    "openai.chat": openai_answers.sse_bytes(CHAT),
    "openai.responses": responses_answers.event_bytes(responses_answers.stream_events(ITEMS)),
    "anthropic.messages": anthropic_answers.event_bytes(anthropic_answers.stream_events(BLOCKS)),
}
WHOLE: dict[WireApi, Any] = {
    "openai.chat": openai_answers.completion(WORDS, finish_reason="tool_calls", reasoning_content="Hm.", tool_calls=[CALL]),
    "openai.responses": responses_answers.response(ITEMS),
    "anthropic.messages": anthropic_answers.message(BLOCKS),
}
each_upstream = pytest.mark.parametrize("api", STREAMS)


def fed(api: WireApi, pieces: Sequence[bytes], ctx: TranslationContext = CTX) -> bytes:
    stream = TRANSLATORS["anthropic.messages", api].stream(ctx)
    frames = b"".join(map(stream.feed, pieces))
    assert stream.failure is None
    return frames + stream.finish(is_whole=True)


@each_upstream
def test_it_is_the_same_byte_by_byte(api: WireApi) -> None:
    data = STREAMS[api]
    assert fed(api, [bytes([byte]) for byte in data]) == fed(api, [data])


@pytest.mark.slow
@each_upstream
def test_it_is_the_same_in_all_splits_in_two(api: WireApi) -> None:
    data = STREAMS[api]
    expected = fed(api, [data])
    assert [cut for cut in range(1, len(data)) if fed(api, [data[:cut], data[cut:]]) != expected] == []


@each_upstream
def test_it_is_what_a_whole_answer_is(api: WireApi) -> None:
    streamed = message_of(events_of(fed(api, [STREAMS[api]])))
    whole = json.loads(TRANSLATORS["anthropic.messages", api].response(json.dumps(WHOLE[api]).encode(), CTX).body)
    assert (streamed["content"], streamed["stop_reason"]) == (whole["content"], whole["stop_reason"])
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use"]
    assert (whole["content"][1]["text"], whole["content"][2]["input"]) == (WORDS, ARGUMENTS)


@pytest.mark.parametrize("api", ["openai.chat", "openai.responses"])
def test_thoughts_that_were_not_asked_for_are_left_out_whole_and_streamed(api: WireApi) -> None:
    ctx = replace(CTX, memory=AnswerMemory(drops_thinking=True))
    data = STREAMS[api]
    streamed = message_of(events_of(fed(api, [data], ctx)))
    whole = json.loads(TRANSLATORS["anthropic.messages", api].response(json.dumps(WHOLE[api]).encode(), ctx).body)
    assert streamed["content"] == whole["content"]
    assert [block["type"] for block in whole["content"]] == ["text", "tool_use"]
    assert fed(api, [bytes([byte]) for byte in data], ctx) == fed(api, [data], ctx)
