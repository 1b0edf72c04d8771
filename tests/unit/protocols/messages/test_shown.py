"""What the gateway's clients were shown in the Messages protocol, read back; whole answers played as streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.errors import UpstreamOverloaded
from compat.protocols.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    Signature,
    Start,
    Stop,
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.protocols.messages.shapes import API
from compat.protocols.messages.shown import ShownReader, replayed, whole_events
from compat.protocols.messages.writer import PING
from compat.protocols.transcript import Transcript
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage
from tests.cases.messages_client import events_of, message_of, plain
from tests.fakes.anthropic_answers import (
    event_bytes,
    message,
    redacted_thinking,
    server_tool_use,
    stream_events,
    text,
    thinking,
    tool_use,
    web_citation,
    web_search_result,
)

SOURCE = web_citation("https://a.example")
BLOCKS = [
    thinking("Hm."),
    redacted_thinking(),
    {**text("Look."), "citations": [SOURCE]},
    server_tool_use("web_search", {"query": "q"}),
    tool_use("read_file", {"path": "a.py"}),
]


def read(frames: bytes) -> tuple[list[Event], ShownReader]:
    reader = ShownReader()
    return [event for block in EventSplitter().feed(frames) for event in reader.read(block)], reader


def joined(events: list[Event]) -> list[Event]:
    """The events with the pieces of each block joined."""
    whole: list[Event] = []
    for event in events:
        last = whole[-1] if whole else None
        if isinstance(event, TextDelta | ThinkingDelta | ArgumentsDelta) and isinstance(last, type(event)) and last.index == event.index:
            whole[-1] = type(event)(event.index, last.text + event.text)
        elif not isinstance(event, ArgumentsDelta) or event.text:
            whole.append(event)
    return whole


def test_a_stream_and_a_whole_answer_are_the_same_events() -> None:
    streamed, reader = read(PING + event_bytes(stream_events(BLOCKS)))
    assert reader.is_done
    assert joined(streamed) == joined(list(whole_events(json.dumps(message(BLOCKS)).encode())))
    assert joined(streamed) == [
        Start("msg_theirs"),
        BlockStart(0, "thinking"),
        ThinkingDelta(0, "Hm."),
        Signature(0, API, BLOCKS[0]["signature"]),
        BlockStop(0),
        Unknown(API, "redacted_thinking", value=BLOCKS[1]),
        BlockStart(2, "text"),
        TextDelta(2, "Look."),
        Cited(2, (SOURCE,)),
        BlockStop(2),
        Unknown(API, "server_tool_use", value={**BLOCKS[3], "input": {}}),
        BlockStart(4, "tool_call", BLOCKS[4]["id"], "read_file"),
        ArgumentsDelta(4, '{"path": "a.py"}'),
        BlockStop(4),
        Stop("tool_calls"),
        Used(Usage(19, 7, 3, 5)),
    ]


def test_blocks_that_open_with_their_content_are_read_too() -> None:
    opening = {"thinking": {**thinking("Hm."), "signature": "s"}, "text": {**text("A"), "citations": [SOURCE]}}
    frames = event_bytes(
        [{"type": "content_block_start", "index": at, "content_block": block} for at, block in enumerate(opening.values())]
    )
    assert read(frames)[0] == [
        BlockStart(0, "thinking"),
        ThinkingDelta(0, "Hm."),
        Signature(0, API, "s"),
        BlockStart(1, "text"),
        TextDelta(1, "A"),
        Cited(1, (SOURCE,)),
    ]


def test_a_comment_is_no_event() -> None:
    assert read(b": keep-alive\n\n")[0] == []


def test_the_reader_knows_which_block_is_open() -> None:
    events = stream_events([text("A"), text("B")])
    at = next(number for number, event in enumerate(events) if event.get("index") == 1)
    assert [
        (reader.number, reader.open_kind)
        for _, reader in map(read, map(event_bytes, (events[:1], events[:3], events[:at], events[: at + 1])))
    ] == [
        (-1, None),
        (0, "text"),
        (0, None),
        (1, "text"),
    ]


def test_how_an_answer_ended_is_read_with_its_details() -> None:
    refused = {"stop_reason": "refusal", "stop_details": {"category": "bio"}}
    stopped = {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    for end, stop in ((refused, Stop("refusal", details={"category": "bio"})), (stopped, Stop("end", sequence="END"))):
        assert stop in read(event_bytes(stream_events([text("A")], **end)))[0]
    assert read(event_bytes([{"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}}]))[0] == [Used(Usage(0, 2))]


def test_an_error_is_what_it_stands_for_and_what_is_unknown_is_named() -> None:
    with pytest.raises(UpstreamOverloaded):
        read(b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n')
    frames = event_bytes([{"type": "news"}, {"type": "content_block_delta", "index": 0, "delta": {"type": "odd_delta"}}])
    assert read(frames)[0] == [Unknown(API, "odd_delta", value={"type": "odd_delta"})]


@pytest.mark.parametrize(
    "blocks", [BLOCKS, [], [text("")], [{**thinking(""), "signature": ""}], [*BLOCKS, web_search_result("srvtoolu_1", SOURCE["url"])]]
)
def test_a_whole_answer_is_played_as_the_stream_it_could_have_been(blocks: list[Any]) -> None:
    whole = message(blocks)
    assert message_of(events_of(replayed(json.dumps(whole).encode()))) == plain(whole)


def test_arguments_keep_their_bytes() -> None:
    body = json.dumps(message([tool_use("f", {})])).replace('"input": {}', '"input": {"a" :1.50}').encode()
    transcript = Transcript()
    for event in whole_events(body):
        transcript.add(event)
    assert transcript.turn().calls[0].arguments == '{"a" :1.50}'
