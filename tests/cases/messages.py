"""Rows of the tables on OpenAI's chat completions behind Anthropic's Messages API: each names the rules that it shows
(docs/translation.md).

RequestRow     the client's body  -> what the upstream's body holds, and the notes
AnswerRow      content blocks     -> the message that the client gets, whole and streamed
StreamRow      the upstream's bytes -> what the client reads before the error that ends them
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compat.errors import GatewayError, UpstreamBroken
from compat.protocols.base import AnswerMemory, ThinkingRecord

SONNET, OPUS, OLD, NEWEST = "claude-sonnet-4-6", "claude-opus-4-8", "claude-sonnet-4-5", "claude-fable-5-1"
OPUS5, FABLE, OPUS45, OPUS47, OLDEST = "claude-opus-5", "claude-fable-5", "claude-opus-4-5", "claude-opus-4-7", "claude-3-haiku"
ABSENT = "(absent)"
PNG_BYTES = b"\x89PNG\r\n\x1a\n...."
PNG, JPEG, GIF, WEBP, PDF = (
    base64.b64encode(data).decode() for data in (PNG_BYTES, b"\xff\xd8\xff\xe0....", b"GIF89a......", b"RIFF1234WEBPVP8 ", b"%PDF-1.7\n..")
)
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
HELLO = {"role": "user", "content": "Hello"}
HELLO_SENT = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}


@dataclass(frozen=True)
class RequestRow:
    """`says` is a sentence, `sent` the client's body less `model`, `holds` the upstream's values by path (`messages.0.role`)."""

    rules: tuple[int, ...]
    says: str
    sent: Mapping[str, Any]
    holds: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    model: str = SONNET
    records: Mapping[str, ThinkingRecord] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RefusedRow:
    """A body that can't be translated: `words` are in the message, which is the client's to read."""

    rules: tuple[int, ...]
    says: str
    sent: Mapping[str, Any]
    words: str
    param: str | None
    model: str = SONNET


@dataclass(frozen=True)
class AnswerRow:
    """`message` is the client's message less what is the same everywhere, `usage` those of its counts that matter."""

    rules: tuple[int, ...]
    says: str
    blocks: Sequence[dict[str, Any]]
    message: Mapping[str, Any]
    finish_reason: str = "stop"
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None
    counted: dict[str, Any] | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    choice: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    memory: AnswerMemory = field(default_factory=AnswerMemory)
    thinking: ThinkingRecord | None = None


@dataclass(frozen=True)
class StreamRow:
    """A stream that fails: the client has read `text`, and `words` are in the error."""

    rules: tuple[int, ...]
    says: str
    upstream: bytes
    words: str
    text: str = ""
    error: type[GatewayError] = UpstreamBroken


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A client's body; one greeting where no messages are given."""
    return {"messages": list(messages or (HELLO,)), **fields}


def user(*parts: Any, **rest: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts), **rest}


def said(content: Any = None, *calls: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {}), **rest}


def system(content: Any = "Be brief.", **rest: Any) -> dict[str, Any]:
    return {"role": "system", "content": content, **rest}


def call(call_id: str = "call_1", name: str = "read", arguments: Any = "{}", **rest: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **rest}


def result(call_id: str = "call_1", content: Any = "ok", **rest: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **rest}


def tool(name: str = "read", parameters: Any = None, **rest: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object", "properties": {}}}, **rest}


def text(words: str = "Hello", **rest: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **rest}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def use(call_id: str = "call_1", name: str = "read", arguments: Any = None, **rest: Any) -> dict[str, Any]:
    """The upstream's block of a call."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": {} if arguments is None else arguments, **rest}


def used(call_id: str = "call_1", content: Any = "ok", **rest: Any) -> dict[str, Any]:
    """The upstream's block of a result."""
    return {"type": "tool_result", "tool_use_id": call_id, **({} if content is None else {"content": content}), **rest}


def missing(call_id: str = "call_1") -> dict[str, Any]:
    words = "The result of this call is not known: the call was interrupted."
    return {"type": "tool_result", "tool_use_id": call_id, "is_error": True, "content": words}


def turn(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    """A message of the upstream's body."""
    return {"role": role, "content": list(blocks)}


def pasted(media_type: str, data: str) -> dict[str, Any]:
    """The upstream's block of an image that came with the request."""
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


TOOLS = [tool()]
TOOL_SENT = {"name": "read", "input_schema": {"type": "object", "properties": {}}}
ROUND = (HELLO, said(None, call()), result())
