"""What the mock upstream says, as bytes that are ready to send, and what the load generator must find in them.

Strategy: everything is encoded once. How an answer looks follows from its model (`shape_of`); it carries the same text, whole or in
pieces, in both wire APIs, so that one comparison proves it right. Only a slow stream is made as it goes: each of its pieces is a *stamp*,
its number and the moment at which it was due, in a field of fixed width, so that the receiver can tell how late it came. Both processes
read the same monotonic clock of one machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Wire = Literal["openai", "anthropic", "responses"]

PATHS: Mapping[Wire, str] = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "responses": "/v1/responses"}
CHUNKS = 200
SLOW_CHUNKS = 40
FAST_MODEL = "fast-model"
SLOW_MODEL = "slow-model"
SHORT_MODEL = "short-model"
KILO_MODEL = "kilo-model"
CHAT_KILO_MODEL = "chat-kilo-model"
MINI_KILO_MODEL = "mini-kilo-model"
CLAUDE_KILO_MODEL = "claude-kilo-model"
GPT_KILO_MODEL = "gpt-kilo-model"
EVENT_MODEL = "event-model"
LONG_MODEL = "long-model"


@dataclass(frozen=True, slots=True)
class Shape:
    """How a model answers: its text in pieces. With a `gap_s` the pieces of a stream are stamps, one each so many seconds."""

    pieces: tuple[str, ...]
    gap_s: float = 0.0

    @property
    def text(self) -> str:
        """The text of a whole answer, and of a stream without stamps."""
        return "".join(self.pieces)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(f"{number:03d} " for number in range(count))


def _source(size: int) -> str:
    """About `size` bytes of text that looks like a program: quotes, line ends and letters beyond ASCII have to be escaped in JSON."""
    line = '    names["{0:07d}"] = "größer"\n'
    length = len(json.dumps(line.format(0), ensure_ascii=False).encode()) - 2
    return "".join(line.format(number) for number in range(size // length))


def shape_of(model: str) -> Shape:
    """How that model answers, whatever comes before the last two words of its name; one that is not known answers like the fast one."""
    return _SHAPES.get("-".join(model.split("-")[-2:]), _SHAPES[FAST_MODEL])()


_SHAPES: Mapping[str, Callable[[], Shape]] = {
    FAST_MODEL: lambda: Shape(_numbers(CHUNKS)),
    SHORT_MODEL: lambda: Shape(_numbers(5)),
    SLOW_MODEL: lambda: Shape(_numbers(SLOW_CHUNKS), 0.1),
    KILO_MODEL: lambda: Shape(_numbers(300), 0.02),
    EVENT_MODEL: lambda: Shape((_source(1_000_000),)),
    LONG_MODEL: lambda: Shape((_source(10_000_000),)),
}

STAMP = re.compile(r"(\d{3})@(\d{9}\.\d{6});")
STAMP_BYTES = re.compile(STAMP.pattern.encode())

_STAMP_FORMAT = b"%03d@%016.6f;"
_PLACEHOLDER = "000@000000000.000000;"
_MODEL = "bench-model"
_CREATED_S = 1_700_000_000
_END = b"0\r\n\r\n"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Answers:
    """One wire API's answers. `opening` begins with the head of the response, the closings end with the last chunk of its framing."""

    whole: bytes
    opening: bytes
    frames: tuple[bytes, ...]
    closing: bytes
    closing_with_usage: bytes
    slow_before: bytes
    slow_after: bytes
    gap_s: float

    def slow_frame(self, number: int, due_s: float) -> bytes:
        """Piece `number` of a slow stream, stamped with the moment at which it was due."""
        return self.slow_before + _STAMP_FORMAT % (number, due_s) + self.slow_after


def prepare(wire: Wire, shape: Shape) -> Answers:
    """That shape's answers in that wire API."""
    return _WRITERS[wire](shape)


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(document: Any) -> bytes:
    body = _compact(document)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def _around_stamp(frame: bytes) -> tuple[bytes, bytes]:
    before, _, after = frame.partition(_PLACEHOLDER.encode())
    return before, after


def _openai(shape: Shape) -> Answers:
    count = len(shape.pieces)
    usage = {"prompt_tokens": 1000, "completion_tokens": count, "total_tokens": 1000 + count}

    def frame(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _openai_frame({"choices": [choice]})

    before, after = _around_stamp(frame({"content": _PLACEHOLDER}))
    message = {"role": "assistant", "content": shape.text, "refusal": None}
    finish, done = frame({}, "stop"), _chunk(b"data: [DONE]\n\n")
    return Answers(
        whole=_whole(
            {
                "id": "chatcmpl-bench",
                "object": "chat.completion",
                "created": _CREATED_S,
                "model": _MODEL,
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
                "usage": usage,
            }
        ),
        opening=_STREAM_HEAD + frame({"role": "assistant", "content": "", "refusal": None}),
        frames=tuple(frame({"content": piece}) for piece in shape.pieces),
        closing=finish + done + _END,
        closing_with_usage=finish + _openai_frame({"choices": [], "usage": usage}) + done + _END,
        slow_before=before,
        slow_after=after,
        gap_s=shape.gap_s,
    )


def _openai_frame(rest: Mapping[str, Any]) -> bytes:
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": _CREATED_S, "model": _MODEL, "system_fingerprint": None}
    return _chunk(b"data: " + _compact({**head, **rest}) + b"\n\n")


def _anthropic(shape: Shape) -> Answers:
    count = len(shape.pieces)
    usage = {"input_tokens": 1000, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": count}
    head = {"id": "msg_bench", "type": "message", "role": "assistant", "model": _MODEL}

    def delta(text: str) -> bytes:
        return _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})

    before, after = _around_stamp(delta(_PLACEHOLDER))
    start: dict[str, Any] = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    content = [{"type": "text", "text": shape.text}]
    closing = (
        _event("content_block_stop", {"index": 0})
        + _event("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": count}})
        + _event("message_stop", {})
        + _END
    )
    return Answers(
        whole=_whole({**head, "content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}),
        opening=_STREAM_HEAD
        + _event("message_start", {"message": start})
        + _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        + _event("ping", {}),
        frames=tuple(delta(piece) for piece in shape.pieces),
        closing=closing,
        closing_with_usage=closing,
        slow_before=before,
        slow_after=after,
        gap_s=shape.gap_s,
    )


def _event(name: str, rest: Mapping[str, Any]) -> bytes:
    return _chunk(b"event: %s\ndata: %s\n\n" % (name.encode(), _compact({"type": name, **rest})))


def _responses(shape: Shape) -> Answers:
    count = len(shape.pieces)
    usage = {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": count,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1000 + count,
    }
    place = {"output_index": 0, "content_index": 0, "item_id": "msg_bench"}
    begun = {"id": "resp_bench", "object": "response", "created_at": _CREATED_S, "model": _MODEL, "output": [], "status": "in_progress"}
    empty, part = ({"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in ("", shape.text))
    item = {"id": "msg_bench", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    whole = {**begun, "output": [item], "status": "completed", "error": None, "usage": usage}

    def event(name: str, number: int, rest: Mapping[str, Any]) -> bytes:
        return _event(f"response.{name}", {"sequence_number": number, **rest})

    def delta(number: int, text: str) -> bytes:
        return event("output_text.delta", number, {**place, "delta": text, "logprobs": [], "obfuscation": "x" * (16 - len(text) % 16)})

    before, after = _around_stamp(delta(4, _PLACEHOLDER))
    closing = (
        event("output_text.done", count + 4, {**place, "text": shape.text, "logprobs": []})
        + event("content_part.done", count + 5, {**place, "part": part})
        + event("output_item.done", count + 6, {"output_index": 0, "item": item})
        + event("completed", count + 7, {"response": whole})
        + _END
    )
    return Answers(
        whole=_whole(whole),
        opening=_STREAM_HEAD
        + event("created", 0, {"response": begun})
        + event("in_progress", 1, {"response": begun})
        + event("output_item.added", 2, {"output_index": 0, "item": {**item, "content": [], "status": "in_progress"}})
        + event("content_part.added", 3, {**place, "part": empty}),
        frames=tuple(delta(number, piece) for number, piece in enumerate(shape.pieces, 4)),
        closing=closing,
        closing_with_usage=closing,
        slow_before=before,
        slow_after=after,
        gap_s=shape.gap_s,
    )


_WRITERS: Mapping[Wire, Callable[[Shape], Answers]] = {"openai": _openai, "anthropic": _anthropic, "responses": _responses}
