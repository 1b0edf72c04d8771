"""What clients of the Responses protocol make of the frames that they are shown, and answers of a chat that they are to read.

response_of(events_of(frames))      the answer, put together of its pieces; each event has its place, and is of the SDK's types
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from compat.wire.sse import EventSplitter, parse_event
from tests.fakes.openai_answers import TOOL_CALLS, chunk, completion, text_chunks, tool_chunks, usage_chunk

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
FIELDS = frozenset(
    {
        *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id", "instructions"),
        *("output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p", "presence_penalty"),
        *("frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage", "max_output_tokens", "max_tool_calls", "store"),
        *("background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key"),
    }
)
"""What Open Responses demands of the response object (schema of 2026-04-24)."""
_LISTS: Mapping[str, tuple[str, str]] = {
    "response.content_part": ("content", "content_index"),
    "response.reasoning_summary_part": ("summary", "summary_index"),
}
_LATE: Mapping[str, tuple[str, ...]] = {"tool_search_call": ("arguments",), "web_search_call": ("action",)}
"""Fields of an item that come with its end."""
_WORDS: Mapping[str, tuple[str, str, str]] = {
    "response.output_text": ("content", "content_index", "text"),
    "response.refusal": ("content", "content_index", "refusal"),
    "response.reasoning_text": ("content", "content_index", "text"),
    "response.reasoning_summary_text": ("summary", "summary_index", "text"),
    "response.function_call_arguments": ("", "", "arguments"),
    "response.custom_tool_call_input": ("", "", "input"),
}


def events_of(frames: bytes) -> list[dict[str, Any]]:
    """The events, each named by its type and with its number."""
    events = []
    for number, block in enumerate(EventSplitter().feed(frames)):
        name, data = parse_event(block)
        events.append(json.loads(data))
        assert (events[-1]["type"], events[-1]["sequence_number"]) == (name.decode(), number)
        _EVENT.validate_python(_known(events[-1]))
    return events


def _known(event: dict[str, Any]) -> dict[str, Any]:
    """The event with a code that the SDK's list has: two that Codex acts on are missing there."""
    if event["type"] != "response.failed":
        return event
    return {**event, "response": {**event["response"], "error": {**event["response"]["error"], "code": "server_error"}}}


class _Fold:
    """An answer from its pieces. Mutable: all of it."""

    def __init__(self) -> None:
        self.output: list[dict[str, Any]] = []
        self.item: dict[str, Any] | None = None
        self.part: dict[str, Any] | None = None

    def added(self, event: Mapping[str, Any]) -> None:
        assert self.item is None, "an item is open"
        assert event["output_index"] == len(self.output)
        self.item = json.loads(json.dumps(event["item"]))

    def done(self, event: Mapping[str, Any]) -> None:
        item, whole = self.item, event["item"]
        assert item is not None
        assert self.part is None
        late = ("status", "phase", "encrypted_content", *_LATE.get(item["type"], ()))
        assert {**item, **{key: whole[key] for key in late if key in whole}} == whole, "the pieces are not the whole"
        self.output.append(whole)
        self.item = None

    def about(self, event: Mapping[str, Any]) -> dict[str, Any]:
        item = self.item
        assert item is not None, "no item is open"
        assert (event["item_id"], event["output_index"]) == (item["id"], len(self.output))
        return item

    def part_event(self, within: str, index: str, what: str, event: Mapping[str, Any]) -> None:
        parts = self.about(event).setdefault(within, [])
        if what == "added":
            assert self.part is None, "a part is open"
            assert event[index] == len(parts)
            self.part = dict(event["part"])
            parts.append(self.part)
        else:
            assert (event["part"], event[index]) == (self.part, len(parts) - 1)
            self.part = None

    def words(self, within: str, index: str, key: str, what: str, event: Mapping[str, Any]) -> None:
        item = self.about(event)
        if within:
            assert self.part is not None
            assert event[index] == len(item[within]) - 1
        target = self.part if within and self.part is not None else item
        if what == "delta":
            assert event["delta"]
            target[key] += event["delta"]
        else:
            assert target[key] == event[key]

    def annotation(self, event: Mapping[str, Any]) -> None:
        self.about(event)
        assert self.part is not None
        self.part["annotations"] = [*self.part["annotations"], event["annotation"]]
        assert event["annotation_index"] == len(self.part["annotations"]) - 1


def response_of(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer that the events end with, which is what their pieces say."""
    fold = _Fold()
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"] == events[1]["response"]
    for event in events[2:-1]:
        name, _, what = event["type"].rpartition(".")
        if name == "response.output_item":
            (fold.added if what == "added" else fold.done)(event)
        elif name in _LISTS:
            fold.part_event(*_LISTS[name], what, event)
        elif name == "response.web_search_call":
            fold.about(event)
        elif name in _WORDS:
            fold.words(*_WORDS[name], what, event)
        else:
            assert event["type"] == "response.output_text.annotation.added"
            fold.annotation(event)
    end = events[-1]["response"]
    assert events[-1]["type"] == f"response.{end['status']}"
    assert fold.item is None
    assert end["output"] == fold.output
    begun, late = events[0]["response"], ("status", "output", "usage", "incomplete_details", "completed_at")
    assert {**begun, **{key: end[key] for key in late}} == end
    return checked(end)


def checked(response: dict[str, Any]) -> dict[str, Any]:
    """A response, which has all its fields and is of the SDK's types."""
    Response.model_validate(response)
    assert response.keys() >= FIELDS
    return response


# Answers of a chat.


@dataclass(frozen=True)
class Row:
    """A chat's answer, streamed and whole, and what the client reads."""

    says: str
    chunks: Sequence[dict[str, Any]]
    whole: dict[str, Any]
    output: Sequence[dict[str, Any]]
    reason: str = "completed"
    notes: tuple[str, ...] = ()


def called(index: int, **fields: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, **fields}]})


def function(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def text_part(text: str, annotations: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": []}


def message(index: int, *parts: dict[str, Any] | str, phase: str = "final_answer", status: str = "completed") -> dict[str, Any]:
    content = [text_part(part) if isinstance(part, str) else part for part in parts]
    head = {"id": f"msg_ours_{index}", "type": "message", "status": status, "role": "assistant"}
    return {**head, "content": content, "phase": phase}


def call_item(index: int, call_id: str, name: str, arguments: str, **rest: Any) -> dict[str, Any]:
    head = {"id": f"fc_ours_{index}", "type": "function_call", "call_id": call_id, "status": "completed"}
    return {**head, "name": name, "arguments": arguments, **rest}


def calls(first: int = 0) -> list[dict[str, Any]]:
    return [call_item(first, "call_1", "read_file", '{"path": "a.py"}'), call_item(first + 1, "call_2", "list_files", "{}")]


END = [chunk({}, "stop"), usage_chunk()]
CALLS_END = [chunk({}, "tool_calls"), usage_chunk()]

ROWS = [
    Row("text", text_chunks(), completion(), [message(0, "Hello there.")]),
    Row("no text at all", [chunk({"content": ""}), *END], completion(""), []),
    Row("escapes", [chunk({"content": 'a"\n'}), chunk({"content": "%s é"}), *END], completion('a"\n%s é'), [message(0, 'a"\n%s é')]),
    Row("calls", tool_chunks(), completion(None, finish_reason="tool_calls", tool_calls=TOOL_CALLS), calls()),
    Row(
        "text before calls is commentary",
        [chunk({"content": "Let me look."}), *tool_chunks()[1:-2], *END],
        completion("Let me look.", tool_calls=TOOL_CALLS),
        [message(0, "Let me look.", phase="commentary"), *calls(1)],
    ),
    Row(
        "calls whose pieces come in turns",
        [
            called(0, id="call_1", function={"name": "read_file", "arguments": '{"path"'}),
            called(1, id="call_2", function={"name": "list_files", "arguments": "{"}),
            called(0, function={"arguments": ': "a.py"}'}),
            called(1, function={"arguments": "}"}),
            *CALLS_END,
        ],
        completion(None, finish_reason="tool_calls", tool_calls=TOOL_CALLS),
        calls(),
    ),
    Row(
        "a call without an id and arguments",
        [called(0, function={"name": "read", "arguments": ""}), *CALLS_END],
        completion(None, finish_reason="tool_calls", tool_calls=[{"function": {"name": "read", "arguments": ""}}]),
        [call_item(0, "call_ours_0", "read", "{}")],
    ),
    Row(
        "an answer that is too long",
        [chunk({"content": "A"}), chunk({}, "length"), usage_chunk()],
        completion("A", finish_reason="length"),
        [message(0, "A", status="incomplete")],
        "max_output_tokens",
    ),
    Row(
        "a call that is cut",
        [called(0, id="call_1", function={"name": "read", "arguments": '{"a'}), chunk({}, "length"), usage_chunk()],
        completion(None, finish_reason="length", tool_calls=[function("call_1", "read", '{"a')]),
        [call_item(0, "call_1", "read", '{"a', status="incomplete")],
        "max_output_tokens",
    ),
    Row(
        "a filtered answer",
        [chunk({"content": "A"}), chunk({}, "content_filter"), usage_chunk()],
        completion("A", finish_reason="content_filter"),
        [message(0, "A", status="incomplete")],
        "content_filter",
    ),
    Row(
        "a refusal in words",
        [chunk({"content": "No: "}), chunk({"refusal": "I "}), chunk({"refusal": "won't."}), *END],
        completion("No: ", refusal="I won't."),
        [message(0, "No: ", {"type": "refusal", "refusal": "I won't."})],
    ),
    Row(
        "what this protocol does not know",
        [chunk({"content": "A", "audio": {"id": "x"}}), *END],
        completion("A", audio={"id": "x"}),
        [message(0, "A")],
        notes=("left_out=audio",),
    ),
]
