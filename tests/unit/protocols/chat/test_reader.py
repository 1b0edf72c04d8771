"""The one reader of chunks: what it makes of streams and whole answers, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.errors import GatewayError, UpstreamBroken, UpstreamOverloaded
from compat.protocols.chat.reader import ChunkReader, whole_events
from compat.protocols.events import BlockStart, Stop, Unknown
from compat.protocols.transcript import Transcript
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage
from tests.fakes.openai_answers import TOOL_CALLS, chunk, completion, event, sse_bytes, text_chunks, tool_chunks


def read(upstream: bytes) -> tuple[Transcript, ChunkReader]:
    reader, transcript = ChunkReader("fake"), Transcript()
    for block in EventSplitter().feed(upstream):
        for one in reader.read(block):
            transcript.add(one)
    return transcript, reader


def whole(document: Any) -> Transcript:
    transcript = Transcript()
    for one in whole_events(json.dumps(document).encode()):
        transcript.add(one)
    return transcript


def told(transcript: Transcript) -> list[Any]:
    """What an answer says, in however many pieces."""
    return [
        (turn.text, turn.thinking, [(call.call_id, call.name, call.arguments) for call in turn.calls], turn.unknown, turn.reason)
        for turn in transcript.turns.values()
    ]


@pytest.mark.parametrize(
    ("chunks", "document"),
    [
        (text_chunks("Hello there."), completion("Hello there.")),
        (tool_chunks(), completion(None, finish_reason="tool_calls", tool_calls=TOOL_CALLS)),
    ],
    ids=["text", "tool calls"],
)
def test_a_stream_says_what_its_whole_answer_says(chunks: list[dict[str, Any]], document: dict[str, Any]) -> None:
    streamed, reader = read(b": hi\n\n" + sse_bytes(chunks))
    assert reader.is_done
    assert told(streamed) == told(whole(document))
    assert streamed.usage == whole(document).usage == Usage(11, 7, 4, reasoning_tokens=2)
    assert streamed.identity == ("chatcmpl-theirs", 1_700_000_000)


def test_reasoning_under_two_names_counts_once_and_under_either() -> None:
    assert read(event(chunk({"reasoning_content": "a", "reasoning": "a"})))[0].turn().thinking == "a"
    assert read(event(chunk({"reasoning": "a"})))[0].turn().thinking == "a"


def test_of_fields_beside_each_other_thoughts_come_first_and_calls_last() -> None:
    message = {"tool_calls": TOOL_CALLS, "content": "a", "reasoning_content": "b"}
    starts = [
        one.kind
        for one in whole_events(json.dumps({"choices": [{"index": 0, "message": message}]}).encode())
        if isinstance(one, BlockStart)
    ]
    assert starts == ["thinking", "text", "tool_call", "tool_call"]


def test_a_plain_completion_is_read_as_well() -> None:
    assert read(event({"choices": [{"index": 0, "text": "a", "logprobs": None, "finish_reason": "length"}]}))[0].turn().text == "a"


def test_what_is_not_known_is_named() -> None:
    delta = {"role": "tool", "audio": {"id": "x"}, "content": [{"type": "text"}], "refusal": "No", "name": ""}
    transcript, _ = read(event({"choices": [{"index": 0, "delta": delta, "logprobs": {"content": []}, "finish_reason": "tired"}]}))
    turn = transcript.turn()
    assert turn.unknown == ["role", "audio", "content", "logprobs", "finish_reason tired"]
    assert (turn.refusal, turn.reason) == ("No", "end")
    assert transcript.identity == ("", 0)


@pytest.mark.parametrize(
    ("reason", "known"), [("stop", "end"), ("function_call", "tool_calls"), ("length", "length"), ("content_filter", "refusal")]
)
def test_reasons_are_neutral(reason: str, known: str) -> None:
    [stop] = [one for one in ChunkReader().read(event(chunk({}, reason)).strip()) if isinstance(one, Stop | Unknown)]
    assert isinstance(stop, Stop)
    assert stop.reason == known


@pytest.mark.parametrize(
    ("upstream", "error"),
    [
        (b"data: {\n\n", UpstreamBroken),
        (b"data: [1]\n\n", UpstreamBroken),
        (event({"choices": 5}), UpstreamBroken),
        (event({"choices": [5]}), UpstreamBroken),
        (event({"choices": [{"index": "0"}]}), UpstreamBroken),
        (event({"choices": [{"delta": [1]}]}), UpstreamBroken),
        (event(chunk({"tool_calls": [5]})), UpstreamBroken),
        (event(chunk({"tool_calls": [{"index": "a"}]})), UpstreamBroken),
        (event({"error": {"type": "overloaded_error", "message": "No"}}), UpstreamOverloaded),
        (event({"type": "error", "message": "No"}), GatewayError),
        (b'event: error\ndata: {"type": "overloaded_error"}\n\n', UpstreamOverloaded),
    ],
)
def test_what_is_no_chunk_is_the_upstreams_fault(upstream: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        read(upstream)
