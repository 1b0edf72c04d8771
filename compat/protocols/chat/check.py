"""The check of a request's messages for upstreams that would take malformed ones, or break on them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from compat.errors import BadRequest, Unsupported
from compat.wire.envelope import Envelope


class _ToolFunction(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _ToolCall(msgspec.Struct):
    id: str
    function: _ToolFunction | None = None
    type: str = "function"


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


class _Request(msgspec.Struct):
    messages: list[_Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    tools: list[dict[str, Any]] | None = None


_decode = msgspec.json.Decoder(_Request).decode
_LEAST = {"max_tokens": 1, "max_completion_tokens": 1, "temperature": 0, "top_p": 0, "n": 1}


def check_messages(envelope: Envelope, *, takes_images: bool = True) -> None:
    """`BadRequest`, naming the place, unless every message has a known role and content of the right type, and the numbers are in range.

    Without `takes_images` a part other than text is `Unsupported`.
    """
    try:
        request = _decode(envelope.body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request is malformed: {error}.") from error
    for position, message in enumerate(request.messages):
        if not takes_images and isinstance(message.content, list):
            _check_text_only(message.content, f"messages[{position}].content")
        if message.content is None and not message.tool_calls and message.role != "assistant":
            raise BadRequest(f"messages[{position}] has no content.", param=f"messages[{position}].content")
    for name, least in _LEAST.items():
        value = getattr(request, name)
        if value is not None and value < least:
            raise BadRequest(f"'{name}' must be at least {least}.", param=name)


def _check_text_only(parts: list[_Part], where: str) -> None:
    for number, part in enumerate(parts):
        if part.type != "text":
            raise Unsupported(f"{where}[{number}] is of type '{part.type[:50]}': this model reads text only.", param=where)
