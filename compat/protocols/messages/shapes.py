"""The shapes of Anthropic's answers, as far as they are decoded, and a content block while it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from compat.errors import UpstreamBroken
from compat.protocols.raw_text import OpenText

API: Literal["anthropic.messages"] = "anthropic.messages"


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


class _ToolInput(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw(b"{}")


@dataclass(slots=True, kw_only=True)
class OpenBlock(OpenText):
    """An open content block: as it began, and what came since."""

    opening: dict[str, Any]
    signature: list[str] = field(default_factory=list)
    citations: list[Any] = field(default_factory=list)
    is_answer: bool = False

    @property
    def kind(self) -> str:
        """The block's type."""
        return str(self.opening.get("type"))


decode_event = msgspec.json.Decoder(MessageEvent).decode
_decode_answer = msgspec.json.Decoder(Message).decode
_decode_input = msgspec.json.Decoder(_ToolInput).decode


def read_answer(body: bytes) -> Message:
    """A whole message. Errors: `UpstreamBroken`."""
    try:
        return _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"The upstream's answer is not a message: {error}.") from error


def read_input(block: bytes | msgspec.Raw) -> str:
    """The input of a tool call, as the model wrote it."""
    return str(bytes(_decode_input(block).input), "utf-8")
