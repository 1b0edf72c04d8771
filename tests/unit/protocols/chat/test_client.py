"""The client's half of chat: an answer that was begun is carried on as one stream."""

from __future__ import annotations

import json
from typing import Any

from compat.protocols.chat.client import ChatClient
from compat.protocols.events import BlockStart, Event, RefusalDelta, Stop, TextDelta, Unknown, Used
from compat.protocols.transcript import Transcript
from compat.wire.sse import DONE, EventSplitter
from compat.wire.usage import Usage

CLIENT = ChatClient()


def documents(*events: Event, wants_usage: bool = True) -> list[Any]:
    writer = CLIENT.going_on(("chatcmpl-1", 5), "alias", wants_usage=wants_usage)
    frames = b"".join(map(writer.write, events)) + writer.finish()
    assert frames.endswith(DONE)
    return [json.loads(block[6:]) for block in frames.removesuffix(DONE).split(b"\n\n") if block]


def test_a_stream_goes_on_under_its_identity_without_another_role() -> None:
    [text, end] = documents(TextDelta(0, "a"), Stop("end"))
    assert (text["id"], text["created"], text["model"]) == ("chatcmpl-1", 5, "alias")
    assert text["choices"][0]["delta"] == {"content": "a"}
    assert end["choices"][0]["finish_reason"] == "stop"


def test_refusals_and_what_only_this_protocol_knows_are_written() -> None:
    told = documents(
        BlockStart(0, "refusal"),
        RefusalDelta(0, "No"),
        Unknown("openai.chat", "audio", value={"id": "x"}),
        Unknown("openai.chat", "logprobs"),
        BlockStart(1, "tool_call", "c", "f", more={"extra": 1}),
        Stop("refusal"),
    )
    deltas = [one["choices"][0]["delta"] for one in told]
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}, "extra": 1}
    assert deltas == [{"refusal": "No"}, {"audio": {"id": "x"}}, {"tool_calls": [call]}, {}]
    assert told[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_usage_is_what_was_told_of_it() -> None:
    assert documents(Used(Usage(3, 4), {"prompt_tokens": 3, "x": 1}))[0]["usage"] == {"prompt_tokens": 3, "x": 1}
    assert documents(Used(Usage(3, 4), {"prompt_tokens": 3}), wants_usage=False) == []


def test_what_earlier_parts_took_is_added_to_counts_and_cost() -> None:
    told = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "cost_details": {"upstream_inference_cost": 0.5}, "x": 1}
    added = CLIENT.with_spent(told, Usage(100, 20), 0.25)
    assert added == {
        "prompt_tokens": 111,
        "completion_tokens": 27,
        "total_tokens": 138,
        "cost_details": {"upstream_inference_cost": 0.75},
        "x": 1,
    }
    assert CLIENT.with_spent(None, Usage(1, 2), 0.25) == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_what_it_writes_it_reads() -> None:
    writer = CLIENT.going_on(("chatcmpl-1", 5), "alias", wants_usage=False)
    reader, transcript = CLIENT.reader(), Transcript()
    frames = writer.write(TextDelta(0, "a")) + writer.write(Stop("length")) + writer.finish()
    for block in EventSplitter().feed(frames):
        for event in reader.read(block):
            transcript.add(event)
    assert (transcript.identity, transcript.turn().text, transcript.turn().reason, reader.is_done) == (
        ("chatcmpl-1", 5),
        "a",
        "length",
        True,
    )
