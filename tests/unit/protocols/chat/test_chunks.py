"""OpenAI's stream: each frame is the JSON it should be, and a whole completion becomes a stream that says the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat import jsonio
from compat.errors import UpstreamBroken
from compat.protocols.chat.chunks import ChunkWriter, completion_frames
from tests.fakes.openai_answers import TOOL_CALLS, USAGE, completion

HEAD = {"id": 'chatcmpl-"1"', "object": "chat.completion.chunk", "created": 17, "model": "aliäs"}
CASES: list[tuple[str, Callable[[ChunkWriter], bytes], dict[str, Any], str | None]] = [
    ("role", lambda writer: writer.role(), {"role": "assistant", "content": ""}, None),
    ("text", lambda writer: writer.text(b"content", 'a"\n'), {"content": 'a"\n'}, None),
    ("reasoning", lambda writer: writer.text(b"reasoning_content", "é"), {"reasoning_content": "é"}, None),
    (
        "tool call",
        lambda writer: writer.tool_call(1, "call_1", "f"),
        {"tool_calls": [{"index": 1, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        None,
    ),
    (
        "arguments",
        lambda writer: writer.ready_arguments(2) % jsonio.encode('{"a": '),
        {"tool_calls": [{"index": 2, "function": {"arguments": '{"a": '}}]},
        None,
    ),
    ("delta", lambda writer: writer.delta({"annotations": [1]}), {"annotations": [1]}, None),
    ("finish", lambda writer: writer.finish("stop"), {}, "stop"),
]


def chunks_of(frames: bytes) -> list[Any]:
    blocks = frames.split(b"\n\n")
    assert blocks.pop() == b""
    assert all(block.startswith(b"data: ") and b"\n" not in block for block in blocks)
    return [block[6:].decode() if block == b"data: [DONE]" else json.loads(block[6:]) for block in blocks]


def writer() -> ChunkWriter:
    return ChunkWriter('chatcmpl-"1"', 17, "aliäs")


@pytest.mark.parametrize(("name", "write", "delta", "reason"), CASES, ids=[case[0] for case in CASES])
def test_a_frame_is_one_chunk(name: str, write: Callable[[ChunkWriter], bytes], delta: dict[str, Any], reason: str | None) -> None:
    assert chunks_of(write(writer())) == [{**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}]


def test_the_usage_chunk_has_no_choice() -> None:
    assert chunks_of(writer().usage(USAGE)) == [{**HEAD, "choices": [], "usage": USAGE}]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_arrives_as_it_is(text: str) -> None:
    assert chunks_of(writer().text(b"content", text))[0]["choices"][0]["delta"]["content"] == text
    arguments = writer().ready_arguments(0) % jsonio.encode(text)
    assert chunks_of(arguments)[0]["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] == text


def frames(document: dict[str, Any], wants_usage: bool = False) -> list[Any]:
    return chunks_of(completion_frames(json.dumps(document).encode(), wants_usage=wants_usage))


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_completion_as_a_stream_says_the_same(wants_usage: bool) -> None:
    document = completion("Hi.", reasoning_content="Hm.", refusal=None, tool_calls=TOOL_CALLS, finish_reason="tool_calls")
    *chunks, end = frames(document, wants_usage)
    usage = chunks.pop() if wants_usage else None
    assert end == "[DONE]"
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("chatcmpl-theirs", "chat.completion.chunk", 1_700_000_000, "their-model")
    }
    assert [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]) for chunk in chunks] == [
        ({"role": "assistant", "content": ""}, None),
        (
            {
                "content": "Hi.",
                "reasoning_content": "Hm.",
                "tool_calls": [{"index": 0, **TOOL_CALLS[0]}, {"index": 1, **TOOL_CALLS[1]}],
            },
            None,
        ),
        ({}, "tool_calls"),
    ]
    if usage is not None:
        assert (usage["choices"], usage["usage"], usage["id"]) == ([], USAGE, "chatcmpl-theirs")


def test_every_choice_keeps_its_index() -> None:
    document = completion("one")
    document["choices"] += [{"index": 1, "message": {"role": "assistant", "content": "two"}, "finish_reason": "length"}]
    chunks = frames(document)[:-1]
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 0, 0, 1, 1, 1]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop", None, None, "length"]


@pytest.mark.parametrize("usage", [None, "many"])
def test_a_completion_without_usage_has_no_usage_chunk(usage: Any) -> None:
    assert len(frames({**completion(), "usage": usage}, wants_usage=True)) == 4


def test_a_completion_without_a_date_is_written_all_the_same() -> None:
    document = completion("x")
    del document["created"]
    assert frames(document)[-1] == "[DONE]"


@pytest.mark.parametrize("message", [None, "Hi", ["Hi"]])
def test_a_choice_without_a_message_is_the_upstreams_fault(message: Any) -> None:
    document = completion()
    document["choices"][0]["message"] = message
    with pytest.raises(UpstreamBroken, match="a choice without a message"):
        frames(document)


@pytest.mark.parametrize(
    "garble",
    [{"created": "today"}, {"created": [1]}, {"tool_calls": 5}, {"tool_calls": [5]}, {"tool_calls": {"id": "1"}}],
    ids=lambda garble: json.dumps(garble),
)
def test_a_garbled_completion_is_the_upstreams_fault(garble: dict[str, Any]) -> None:
    document = completion()
    document.update({key: value for key, value in garble.items() if key == "created"})
    document["choices"][0]["message"].update({key: value for key, value in garble.items() if key == "tool_calls"})
    with pytest.raises(UpstreamBroken):
        frames(document)
