"""What the mock upstream says, as bytes that are ready to send, and what the load generator must find in them.

Strategy: everything is encoded once, at start. All answers carry the same text, whole or in `CHUNKS` pieces, in both wire APIs, so that
one comparison proves any answer right. Only a slow stream is made as it goes: each of its pieces is a *stamp*, its number and the
moment at which it was due, in a field of fixed width, so that the receiver can tell how late it came. Both processes read the same
monotonic clock of one machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Wire = Literal["openai", "anthropic"]

CHUNKS = 200
PIECES = tuple(f"{number:03d} " for number in range(CHUNKS))
TEXT = "".join(PIECES)
SLOW_CHUNKS = 40
SLOW_GAP_S = 0.1
SLOW_MODEL = "slow-model"
FAST_MODEL = "fast-model"
PATHS: Mapping[Wire, str] = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}

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

    def slow_frame(self, number: int, due_s: float) -> bytes:
        """Piece `number` of a slow stream, stamped with the moment at which it was due."""
        return self.slow_before + _STAMP_FORMAT % (number, due_s) + self.slow_after


def prepare() -> Mapping[bytes, Answers]:
    """Path -> answers."""
    return {PATHS["openai"].encode(): _openai(), PATHS["anthropic"].encode(): _anthropic()}


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(document: Any) -> bytes:
    body = _compact(document)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def _around_stamp(frame: bytes) -> tuple[bytes, bytes]:
    before, _, after = frame.partition(_PLACEHOLDER.encode())
    return before, after


def _openai() -> Answers:
    usage = {"prompt_tokens": 1000, "completion_tokens": CHUNKS, "total_tokens": 1000 + CHUNKS}

    def frame(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _openai_frame({"choices": [choice]})

    before, after = _around_stamp(frame({"content": _PLACEHOLDER}))
    message = {"role": "assistant", "content": TEXT, "refusal": None}
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
        frames=tuple(frame({"content": piece}) for piece in PIECES),
        closing=finish + done + _END,
        closing_with_usage=finish + _openai_frame({"choices": [], "usage": usage}) + done + _END,
        slow_before=before,
        slow_after=after,
    )


def _openai_frame(rest: Mapping[str, Any]) -> bytes:
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": _CREATED_S, "model": _MODEL, "system_fingerprint": None}
    return _chunk(b"data: " + _compact({**head, **rest}) + b"\n\n")


def _anthropic() -> Answers:
    usage = {"input_tokens": 1000, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": CHUNKS}
    head = {"id": "msg_bench", "type": "message", "role": "assistant", "model": _MODEL}

    def delta(text: str) -> bytes:
        return _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})

    before, after = _around_stamp(delta(_PLACEHOLDER))
    start: dict[str, Any] = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    content = [{"type": "text", "text": TEXT}]
    closing = (
        _event("content_block_stop", {"index": 0})
        + _event("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": CHUNKS}})
        + _event("message_stop", {})
        + _END
    )
    return Answers(
        whole=_whole({**head, "content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}),
        opening=_STREAM_HEAD
        + _event("message_start", {"message": start})
        + _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        + _event("ping", {}),
        frames=tuple(delta(piece) for piece in PIECES),
        closing=closing,
        closing_with_usage=closing,
        slow_before=before,
        slow_after=after,
    )


def _event(name: str, rest: Mapping[str, Any]) -> bytes:
    return _chunk(b"event: %s\ndata: %s\n\n" % (name.encode(), _compact({"type": name, **rest})))
