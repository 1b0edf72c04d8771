"""What the gateway's clients were shown in the Responses protocol, read back; whole answers played as streams."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from compat.errors import ContextTooLong, GatewayError, UpstreamBroken
from compat.protocols.base import ToolShape
from compat.protocols.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    RefusalDelta,
    Signature,
    Start,
    Stop,
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.protocols.responses.parts import API
from compat.protocols.responses.shown import ShownReader, piece_chars, replayed, whole_events
from compat.protocols.transcript import Transcript
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage
from tests.cases.responses_client import events_of, response_of
from tests.fakes.responses_answers import USAGE, error_event, event_bytes, failed, incomplete, numbered, response
from tests.fakes.responses_answers import events_of as stream_of
from tests.fakes.responses_items import (
    custom_call,
    function_call,
    message,
    open_reasoning,
    reasoning,
    refusal_part,
    text_part,
    url_citation,
    web_search,
)

SOURCE = url_citation()
ITEMS = [
    reasoning("Hm.", "So."),
    web_search(),
    message(text_part("Look.", [SOURCE]), refusal_part("No.")),
    function_call(namespace="ns"),
    custom_call(),
]
SEEN = Used(Usage(19, 7, 3, 5, reasoning_tokens=2), USAGE)


def read(frames: bytes) -> tuple[list[Event], ShownReader]:
    reader = ShownReader()
    return [event for block in EventSplitter().feed(frames) for event in reader.read(block)], reader


def joined(events: Sequence[Event]) -> list[Event]:
    """The events with the pieces of each block joined."""
    whole: list[Event] = []
    for event in events:
        last = whole[-1] if whole else None
        if isinstance(event, TextDelta | ThinkingDelta | RefusalDelta | ArgumentsDelta) and isinstance(last, type(event)):
            whole[-1] = type(event)(event.index, last.text + event.text)
        else:
            whole.append(event)
    return whole


EVENTS = [
    Start("resp_theirs", 1_700_000_000),
    BlockStart(0, "thinking"),
    ThinkingDelta(0, "Hm.\n\nSo."),
    Signature(0, API, ITEMS[0]["encrypted_content"]),
    BlockStop(0),
    Unknown(API, "web_search_call"),
    Unknown(API, "web_search_call", value=ITEMS[1]),
    BlockStart(1, "text"),
    TextDelta(1, "Look."),
    Cited(1, (SOURCE,)),
    BlockStop(1),
    BlockStart(2, "refusal"),
    RefusalDelta(2, "No."),
    BlockStop(2),
    BlockStart(3, "tool_call", "call_1", "read_file", more=ToolShape("function", "read_file", "ns")),
    ArgumentsDelta(3, "{}"),
    BlockStop(3),
    BlockStart(4, "tool_call", "call_1", "apply_patch", more=ToolShape("freeform", "apply_patch"), is_freeform=True),
    ArgumentsDelta(4, "*** Begin"),
    BlockStop(4),
    Stop("tool_calls"),
    SEEN,
]


def test_a_stream_and_a_whole_answer_are_the_same_events() -> None:
    whole = response(ITEMS)
    streamed, reader = read(b": hello\n\n" + event_bytes(stream_of(whole)) + b"data: [DONE]\n\n")
    assert reader.is_done
    assert joined(streamed) == joined(list(whole_events(json.dumps(whole).encode()))) == EVENTS


@pytest.mark.parametrize("left", ["output_item.done", "completed"])
def test_servers_that_send_no_pieces_are_read_by_what_they_send(left: str) -> None:
    whole = response(ITEMS)
    events = [event for event in stream_of(whole) if event["type"] in ("response.created", f"response.{left}", "response.completed")]
    assert joined(read(event_bytes(events))[0]) == EVENTS


def test_a_reader_needs_neither_numbers_nor_places() -> None:
    events = [
        {key: value for key, value in event.items() if key not in ("sequence_number", "output_index")}
        for event in stream_of(response(ITEMS))
    ]
    assert joined(read(event_bytes(events))[0]) == EVENTS


def test_items_that_lie_beside_each_other_are_told_apart() -> None:
    calls = [function_call("a", '{"x": 1}', "call_1"), function_call("b", '{"y": 2}', "call_2", "fc_2")]
    begun, *rest = stream_of(response(calls))
    items = [[event for event in rest if event.get("output_index") == index] for index in (0, 1)]
    mixed = [event for pair in zip(*items, strict=True) for event in pair]
    transcript = Transcript()
    for event in read(event_bytes(numbered([begun, *mixed, rest[-1]])))[0]:
        transcript.add(event)
    assert [(call.call_id, call.arguments) for call in transcript.turn().calls] == [("call_1", '{"x": 1}'), ("call_2", '{"y": 2}')]


def test_reasoning_in_its_own_words_is_a_thought() -> None:
    events = joined(read(event_bytes(stream_of(response([open_reasoning("Hm.")]))))[0])
    assert events[1:4] == [BlockStart(0, "thinking"), ThinkingDelta(0, "Hm."), BlockStop(0)]


@pytest.mark.parametrize(
    ("whole", "reason"),
    [
        (response([message()]), "end"),
        (response([message(refusal_part())]), "refusal"),
        (incomplete([message()]), "length"),
        (incomplete([message()], "content_filter"), "refusal"),
    ],
)
def test_how_an_answer_ended_is_read(whole: dict[str, Any], reason: str) -> None:
    events, reader = read(event_bytes(stream_of(whole)))
    assert [event.reason for event in events if isinstance(event, Stop)] == [reason]
    assert reader.is_done
    del whole["usage"], whole["status"]
    bare = {"type": "response.incomplete" if reason in ("length",) else "response.completed", "response": whole, "sequence_number": 0}
    assert not any(isinstance(event, Used) for event in read(event_bytes([bare]))[0])


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.failed", "response": failed("context_length_exceeded", "maximum context length is 5")},
        error_event("context_length_exceeded", "maximum context length is 5"),
        {"type": "error", "error": {"code": "context_length_exceeded", "message": "maximum context length is 5"}},
    ],
)
def test_an_error_is_what_it_stands_for(event: dict[str, Any]) -> None:
    with pytest.raises(ContextTooLong):
        read(event_bytes([event]))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.created"},
        {"type": "response.output_item.added", "item": {"type": "function_call"}},
        {"type": "response.output_item.added", "item": 5},
        {"type": "response.completed", "response": {"output": [5]}},
        {"type": "response.created", "response": {}, "sequence_number": "x"},
    ],
)
def test_what_is_no_event_is_the_upstreams_fault(event: dict[str, Any]) -> None:
    with pytest.raises(UpstreamBroken):
        read(event_bytes([event]))


@pytest.mark.parametrize("data", [b"{", b'{"type":"response.output_text.delta","delta":"\xff"}'])
def test_what_is_no_json_is_the_upstreams_fault(data: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        list(ShownReader().read(b"data: " + data))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_text.delta", "delta": "A"},
        {"type": "response.content_part.done", "part": text_part("A")},
        {"type": "response.output_text.annotation.added", "annotation": SOURCE},
        {"type": "response.in_progress"},
    ],
)
def test_what_is_about_no_item_says_nothing(event: dict[str, Any]) -> None:
    assert read(event_bytes([event]))[0] == []


def test_unknown_parts_are_named_and_empty_ones_say_nothing() -> None:
    item = message(text_part(""), {"type": "output_audio"})
    assert read(event_bytes(stream_of(response([item]))))[0][1:-2] == [Unknown(API, "output_audio")]
    assert list(whole_events(json.dumps(response([item])).encode()))[1:-2] == [Unknown(API, "output_audio")]


@pytest.mark.parametrize(
    "items",
    [ITEMS[:1] + ITEMS[2:], [], [open_reasoning()], [message(text_part(""), text_part("B"))], [function_call(arguments="")]],
    ids=["all", "none", "open", "empty", "no arguments"],
)
def test_a_whole_answer_is_played_as_the_stream_it_could_have_been(items: list[Any]) -> None:
    whole = {**response(items), "completed_at": None, "presence_penalty": 0, "frequency_penalty": 0}
    assert response_of(events_of(replayed(json.dumps(whole).encode()))) == whole


def test_an_answer_that_failed_is_played_as_one() -> None:
    whole = json.dumps(failed()).encode()
    assert events_of(replayed(whole))[-1]["type"] == "response.failed"
    with pytest.raises(GatewayError):
        list(whole_events(whole))
    assert [event for event in whole_events(json.dumps(response([], status="queued")).encode()) if isinstance(event, Stop)] == []


def test_the_reader_knows_where_the_answer_stands() -> None:
    events = stream_of(response([reasoning("Hm."), message(text_part("So far", [SOURCE]), text_part("B"))]))
    done = next(number for number, event in enumerate(events) if event["type"] == "response.output_item.done")
    text = next(number for number, event in enumerate(events) if event["type"] == "response.output_text.done")
    part = next(number for number, event in enumerate(events) if event["type"] == "response.content_part.done")
    assert read(event_bytes(events[:2]))[1].place.item is None
    thinking = read(event_bytes(events[:done]))[1].place
    assert (thinking.open_kind, thinking.output, thinking.number) == ("thinking", (), done)
    within = read(event_bytes(events[:text]))[1].place
    assert within.item is not None
    assert (within.open_kind, len(within.output), within.item.pieces, within.item.open) == ("text", 1, [b"So far"], "output_text")
    between = read(event_bytes(events[: part + 1]))[1].place
    assert between.item is not None
    assert (between.open_kind, len(between.item.parts), between.item.open) == (None, 1, "")


@pytest.mark.parametrize(
    ("block", "chars"),
    [
        (b'event: x\ndata: {"type":"response.output_text.delta","delta":"Hello"}', 5),
        (b'data: {"type":"response.function_call_arguments.delta","delta":"{}"}', 2),
        (b'data: {"type":"response.output_text.done","text":"Hello","delta":"Hello"}', 0),
        (b'data: {"type":"response.output_text.delta","del', 0),
        (b'data: {"type":"response.output_text.delta","delta":5}', 0),
        (b'data: {"type":"response.output_text.delta","delta":"\xff"}', 0),
        (b": keep-alive", 0),
    ],
)
def test_the_text_of_a_piece_is_counted_where_it_can_be_read_alone(block: bytes, chars: int) -> None:
    assert piece_chars(block) == chars
