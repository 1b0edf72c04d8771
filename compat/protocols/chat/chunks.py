"""OpenAI's chat protocol: shapes, and the encoding of streams with a head that is made once.

Most chunks of a stream differ in one string only. `ChunkWriter` keeps everything around it ready, so that a text chunk costs one
JSON string.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from compat import jsonio
from compat.errors import UpstreamBroken
from compat.wire.sse import data_frame

API: Literal["openai.chat"] = "openai.chat"
DONE = b"data: [DONE]\n\n"
"""The event after the last chunk."""

CALLS_KEY = b'"tool_calls"'
_CALL_MARK = re.compile(CALLS_KEY + rb"\s*:\s*\[\s*\{")


def begins_call(data: bytes) -> bool:
    """Whether there is a tool call in a chunk or a frame. Its mark can't occur in a text, where quotes are escaped; some servers send an
    empty list or `null` all along."""
    return CALLS_KEY in data and _CALL_MARK.search(data) is not None


class ChunkWriter:
    """Frames of one stream: one id, one `created`, one model. Pure; every method returns whole frames."""

    __slots__ = ("_delta_head", "_head", "_ready_head")

    def __init__(self, completion_id: str, created_s: int, model: str) -> None:
        head = {"id": completion_id, "object": "chat.completion.chunk", "created": created_s, "model": model}
        self._head = b"data: " + jsonio.encode(head)[:-1]
        self._delta_head = self._head + b',"choices":[{"index":0,"delta":{'
        self._ready_head = self._delta_head.replace(b"%", b"%%")

    def role(self) -> bytes:
        """The opening chunk."""
        return self._delta_head + b'"role":"assistant","content":""},"finish_reason":null}]}\n\n'

    def text(self, field: bytes, text: str) -> bytes:
        """A piece of `content`, `reasoning_content` or `refusal`."""
        return b'%s"%s":%s},"finish_reason":null}]}\n\n' % (self._delta_head, field, jsonio.encode(text))

    def ready(self, field: bytes) -> bytes:
        """A frame with a piece of such text, for `%` with the piece as a JSON string."""
        return self._ready_head + b'"%s":%%s},"finish_reason":null}]}\n\n' % field

    def tool_call(self, index: int, call_id: str, name: str, more: Mapping[str, Any] | None = None, *, is_freeform: bool = False) -> bytes:
        """The opening of a tool call: its id, type, name and no arguments yet; `more` are further fields of it."""
        call = {"index": index, "id": call_id, **called(name, "", is_freeform=is_freeform), **(more or {})}
        return b'%s"tool_calls":[%s]},"finish_reason":null}]}\n\n' % (self._delta_head, jsonio.encode(call))

    def ready_arguments(self, index: int, *, is_freeform: bool = False) -> bytes:
        """A frame with a piece of a tool call's arguments, or of a freeform call's text, for `%` with the piece as a JSON string."""
        place = b'"custom":{"input":' if is_freeform else b'"function":{"arguments":'
        return self._ready_head + b'"tool_calls":[{"index":%d,%s%%s}}]},"finish_reason":null}]}\n\n' % (index, place)

    def delta(self, delta: Mapping[str, Any]) -> bytes:
        """Any other delta."""
        return b'%s,"choices":[{"index":0,"delta":%s,"finish_reason":null}]}\n\n' % (self._head, jsonio.encode(delta))

    def finish(self, reason: str, more: Mapping[str, Any] | None = None) -> bytes:
        """The empty delta that ends the answer; `more` are further fields of its choice."""
        ending = jsonio.encode({"finish_reason": reason, **(more or {})})[1:]
        return b"%s},%s]}\n\n" % (self._delta_head, ending)

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """The usage chunk, which has no choice."""
        return b'%s,"choices":[],"usage":%s}\n\n' % (self._head, jsonio.encode(usage))


def called(name: str, arguments: str, *, is_freeform: bool) -> dict[str, Any]:
    """Type, name and arguments of a tool call."""
    if is_freeform:
        return {"type": "custom", "custom": {"name": name, "input": arguments}}
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def completion_frames(body: bytes, wants_usage: bool) -> bytes:  # one of `ClientProtocol.replay`
    """A whole completion (in our own words: checked, with the client's model name) as the stream that it could have been.

    `UpstreamBroken` when a choice is not one.
    """
    completion = jsonio.decode(body)
    created_s = completion.get("created") or 0
    if not isinstance(created_s, int | float) or not math.isfinite(created_s):
        raise UpstreamBroken("The upstream's answer has an invalid 'created'.")
    head = {"id": completion["id"], "object": "chat.completion.chunk", "created": int(created_s), "model": completion["model"]}
    frames: list[bytes] = []
    for choice in completion["choices"]:
        message = choice.get("message")
        if not isinstance(message, dict):
            raise UpstreamBroken("The upstream's answer has a choice without a message.")
        index = choice.get("index", 0)
        delta = {key: value for key, value in message.items() if key not in {"role", "tool_calls"} and value is not None}
        if calls := message.get("tool_calls"):
            if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
                raise UpstreamBroken("The upstream's answer has malformed tool calls.")
            delta["tool_calls"] = [{"index": position, **call} for position, call in enumerate(calls)]
        for part, reason in (({"role": "assistant", "content": ""}, None), (delta, None), ({}, choice.get("finish_reason"))):
            frames.append(data_frame(jsonio.encode({**head, "choices": [{"index": index, "delta": part, "finish_reason": reason}]})))
    if wants_usage and isinstance(completion.get("usage"), dict):
        frames.append(ChunkWriter(head["id"], head["created"], head["model"]).usage(completion["usage"]))
    return b"".join((*frames, DONE))
