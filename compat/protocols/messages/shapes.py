"""The shapes of Anthropic's answers, as far as they are decoded."""

from __future__ import annotations

from typing import Any

import msgspec


class Delta(msgspec.Struct):
    """Whatever a delta may hold."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: Any = None
    stop_reason: str | None = None
    stop_details: Any = None
    stop_sequence: str | None = None


class MessageEvent(msgspec.Struct):
    """Whatever an event of a stream may hold."""

    type: str = ""
    index: int = 0
    delta: Delta | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: Any = None
    error: Any = None


class Message(msgspec.Struct):
    """A whole message as the upstream writes it; blocks stay raw until each is read."""

    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    stop_details: Any = None
    stop_sequence: str | None = None
    usage: Any = None
    type: str = "message"
    error: Any = None


class ToolInput(msgspec.Struct):
    """Of a tool call: its input, as the model wrote it."""

    input: msgspec.Raw = msgspec.Raw(b"{}")


decode_event = msgspec.json.Decoder(MessageEvent).decode
decode_answer = msgspec.json.Decoder(Message).decode
decode_input = msgspec.json.Decoder(ToolInput).decode
