"""Answers in OpenAI's wire API, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.fakes.upstream import Answer, Step

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
TOOL_CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a.py"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "list_files", "arguments": "{}"}},
]


def completion(
    text: str | None = "Hello there.", *, model: str = "their-model", finish_reason: str = "stop", **message: Any
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-theirs",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}],
        "usage": USAGE,
    }


def chunk(delta: dict[str, Any], finish_reason: str | None = None, *, model: str = "their-model", **rest: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-theirs",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        **rest,
    }


def usage_chunk(**rest: Any) -> dict[str, Any]:
    return {**chunk({}), "choices": [], "usage": USAGE, **rest}


def text_chunks(text: str = "Hello there.") -> list[dict[str, Any]]:
    words = text.split(" ")
    parts = [word if number == len(words) - 1 else word + " " for number, word in enumerate(words)]
    return [chunk({"role": "assistant", "content": ""}), *(chunk({"content": part}) for part in parts), chunk({}, "stop"), usage_chunk()]


def tool_chunks() -> list[dict[str, Any]]:
    def call(index: int, **fields: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, **fields}]})

    return [
        chunk({"role": "assistant", "content": None}),
        call(0, id="call_1", type="function", function={"name": "read_file", "arguments": ""}),
        call(0, function={"arguments": '{"path": '}),
        call(0, function={"arguments": '"a.py"}'}),
        call(1, id="call_2", type="function", function={"name": "list_files", "arguments": "{}"}),
        chunk({}, "tool_calls"),
        usage_chunk(),
    ]


def event(data: dict[str, Any] | str, end: bytes = b"\n") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode() + end + end


def sse_bytes(chunks: Sequence[dict[str, Any]], end: bytes = b"\n") -> bytes:
    return b"".join(event(item, end) for item in chunks) + event("[DONE]", end)


def sse_answer(*steps: Step, **rest: Any) -> Answer:
    return Answer(steps, headers=(("content-type", "text/event-stream"),), **rest)


def stream_answer(chunks: Sequence[dict[str, Any]], **rest: Any) -> Answer:
    return sse_answer(*(event(item) for item in chunks), event("[DONE]"), **rest)


def json_answer(document: Any, status: int = 200, headers: Sequence[tuple[str, str]] = (), framing: str = "length") -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Answer((body,), status, (("content-type", "application/json"), *headers), framing)


def error_answer(status: int, message: str, headers: Sequence[tuple[str, str]] = (), **fields: Any) -> Answer:
    return json_answer({"error": {"message": message, "type": "some_error", "param": None, "code": None, **fields}}, status, headers)


def respond(request: Any) -> Answer:
    """A fair imitation: whole or streamed as asked, tool calls where tools are offered, JSON where a schema is."""
    body = request.json
    text = '{"name": "Ada", "age": 36}' if body.get("response_format") else "Hello there."
    if body.get("stream"):
        chunks = tool_chunks() if body.get("tools") else text_chunks(text)
        if not (body.get("stream_options") or {}).get("include_usage"):
            chunks = chunks[:-1]
        return stream_answer(chunks)
    if body.get("tools"):
        return json_answer(completion(None, finish_reason="tool_calls", tool_calls=TOOL_CALLS))
    return json_answer(completion(text))
