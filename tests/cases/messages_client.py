"""What Anthropic's own SDK makes of the frames that its clients are shown, and answers of a chat that they are to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from compat.wire.sse import EventSplitter, parse_event
from tests.fakes.openai_answers import TOOL_CALLS, chunk, completion, text_chunks, tool_chunks, usage_chunk

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def events_of(frames: bytes) -> list[dict[str, Any]]:
    """The events, each named by its type."""
    events = []
    for block in EventSplitter().feed(frames):
        name, data = parse_event(block)
        events.append(json.loads(data))
        assert events[-1]["type"] == name.decode()
    return events


def message_of(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The message that the SDK puts together. One block is open at a time, numbers count, each event is of the SDK's types."""
    snapshot: Any = None
    pieces: dict[int, bytes] = {}
    number, is_open = -1, False
    for event in events:
        if event["type"] == "ping":
            assert snapshot is not None, "message_start comes first"
            continue
        _EVENT.validate_python(event)
        match event["type"]:
            case "content_block_start":
                assert not is_open
                number, is_open = number + 1, True
                assert event["index"] == number
            case "content_block_delta" | "content_block_stop":
                assert is_open
                assert event["index"] == number
                is_open = event["type"] == "content_block_delta"
            case "message_delta" | "message_stop":
                assert not is_open
        snapshot = accumulate_event(event=_EVENT.validate_python(event), current_snapshot=snapshot, json_bufs=pieces)
    return plain(json.loads(snapshot.to_json(exclude_none=False)))


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """A message as the SDK reads it, without what no answer says."""
    read = json.loads(Message.model_validate(document).model_dump_json(exclude_none=True))
    assert isinstance(read, dict)
    return read


@dataclass(frozen=True)
class Row:
    """A chat's answer, streamed and whole, and what the client reads."""

    says: str
    chunks: Sequence[dict[str, Any]]
    whole: dict[str, Any]
    content: Sequence[dict[str, Any]]
    stop_reason: str = "end_turn"
    end: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def call(index: int, **fields: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, **fields}]})


def use(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


READ, LIST = use("call_1", "read_file", {"path": "a.py"}), use("call_2", "list_files", {})
END = [chunk({}, "stop"), usage_chunk()]
CALLS_END = [chunk({}, "tool_calls"), usage_chunk()]
REFUSAL = {"type": "refusal", "category": None, "explanation": None}


def function(name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


ROWS = [
    Row("text", text_chunks(), completion(), [words("Hello there.")]),
    Row("no text at all", [chunk({"content": ""}), *END], completion(""), []),
    Row("calls", tool_chunks(), completion(None, finish_reason="tool_calls", tool_calls=TOOL_CALLS), [READ, LIST], "tool_use"),
    Row(
        "text before calls, and an end that says nothing of them",
        [chunk({"content": "Let me look."}), *tool_chunks()[1:-2], *END],
        completion("Let me look.", tool_calls=TOOL_CALLS),
        [words("Let me look."), READ, LIST],
        "tool_use",
    ),
    Row(
        "an end with calls that are not there",
        [chunk({"content": "Well."}), *CALLS_END],
        completion("Well.", finish_reason="tool_calls"),
        [words("Well.")],
    ),
    Row(
        "calls whose pieces come in turns",
        [
            call(0, id="call_1", function={"name": "read_file", "arguments": '{"path"'}),
            call(1, id="call_2", function={"name": "list_files", "arguments": "{"}),
            call(0, function={"arguments": ': "a.py"}'}),
            call(1, function={"arguments": "}"}),
            *CALLS_END,
        ],
        completion(None, finish_reason="tool_calls", tool_calls=TOOL_CALLS),
        [READ, LIST],
        "tool_use",
    ),
    Row(
        "ids that do not fit, and one that is missing",
        [
            call(0, id="functions.read:0", function={"name": "read", "arguments": "{}"}),
            call(1, function={"name": "read", "arguments": ""}),
            *CALLS_END,
        ],
        completion(
            None, finish_reason="tool_calls", tool_calls=[{"id": "functions.read:0", **function("read", "{}")}, function("read", "")]
        ),
        [use("toolu_compat_ZnVuY3Rpb25zLnJlYWQ6MA", "read", {}), use("toolu_ours_1", "read", {})],
        "tool_use",
    ),
    Row(
        "an answer that is too long",
        [chunk({"content": "A"}), chunk({}, "length"), usage_chunk()],
        completion("A", finish_reason="length"),
        [words("A")],
        "max_tokens",
    ),
    Row(
        "a filtered answer",
        [chunk({"content": "A"}), chunk({}, "content_filter"), usage_chunk()],
        completion("A", finish_reason="content_filter"),
        [words("A")],
        "refusal",
        {"stop_details": REFUSAL},
    ),
    Row(
        "a refusal in words",
        [chunk({"refusal": "I "}), chunk({"refusal": "won't."}), *END],
        completion(None, refusal="I won't."),
        [words("I won't.")],
        "refusal",
        {"stop_details": {**REFUSAL, "explanation": "I won't."}},
    ),
    Row(
        "what this protocol does not know",
        [chunk({"content": "A", "audio": {"id": "x"}}), *END],
        completion("A", audio={"id": "x"}),
        [words("A")],
        notes=("left_out=audio",),
    ),
]
