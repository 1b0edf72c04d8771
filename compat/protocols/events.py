"""What an answer is made of, in no protocol's words: an upstream's half reads these events, a client's half writes them.

    Start  (BlockStart  TextDelta | ThinkingDelta | Signature | RefusalDelta | ArgumentsDelta | Cited ...  BlockStop)*  Stop  Used

Blocks are numbered by the reader; one may be open beside another. A whole answer is the same events, all at once: whole and streamed ones
go through the same reader and the same writer, so that they can't differ. What no event can say is `Unknown`, with where it came from.

    text         words for the user
    thinking     the model's reasoning, as far as it may be read
    tool_call    a call of a client's tool; its arguments are JSON text, in pieces
    refusal      words in place of an answer
    search       a search of the web that was run for the model; `BlockStart.more` is its query
    found        what came of it: `BlockStart.more` is a `Found`, `call_id` that of its search

Events are immutable, and hold nothing that the collector must follow but what a protocol handed over as it was.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from compat.wire.usage import Usage

BlockKind = Literal["text", "thinking", "tool_call", "refusal", "search", "found"]
StopReason = Literal["end", "tool_calls", "length", "refusal"]


SearchError = Literal["unavailable", "max_uses_exceeded", "invalid_tool_input"]
"""Why a search gave nothing, in the words of Anthropic's web search tool."""


class Result(msgspec.Struct, frozen=True, gc=False):
    """A page that a search found; `text` is what is known of what it says, and may be empty."""

    url: str
    title: str
    text: str = ""


class Found(msgspec.Struct, frozen=True):
    """What a search gave: pages, or an error."""

    results: tuple[Result, ...] = ()
    error: SearchError | None = None


class Start(msgspec.Struct, frozen=True, gc=False):
    """The answer has begun; nothing of it was said yet. `answer_id` and `created_s` are its identity, where its protocol has one."""

    answer_id: str = ""
    created_s: int = 0


class BlockStart(msgspec.Struct, frozen=True):
    """A block begins. `call_id` and `name` are those of a tool call, as the client knows them; `choice` is the answer that it is a part of,
    where the client asked for several, `more` is what else the upstream's protocol says of a call. A call of a `is_freeform` tool has raw
    text for its arguments."""

    index: int
    kind: BlockKind
    call_id: str = ""
    name: str = ""
    choice: int = 0
    more: Any = None
    is_freeform: bool = False


class _Delta(msgspec.Struct, frozen=True, gc=False):
    index: int
    text: str


class TextDelta(_Delta, frozen=True, gc=False):
    """More of a text."""


class ThinkingDelta(_Delta, frozen=True, gc=False):
    """More of a thought."""


class RefusalDelta(_Delta, frozen=True, gc=False):
    """More of a refusal."""


class ArgumentsDelta(_Delta, frozen=True, gc=False):
    """More of a tool call's arguments."""


class Signature(msgspec.Struct, frozen=True):
    """What the upstream wants back with the thought of this block, as the wire API `origin` has it: a signature, an encrypted content, or
    the whole of what can't be read."""

    index: int
    origin: str
    value: Any


class Cited(msgspec.Struct, frozen=True):
    """The sources of a text, in the words of the upstream's protocol."""

    index: int
    citations: tuple[Any, ...]


class BlockStop(msgspec.Struct, frozen=True, gc=False):
    """A block is complete."""

    index: int


class Unknown(msgspec.Struct, frozen=True):
    """Something that no other event can say: `what` of the wire API `origin`, whose client can be given its `value`."""

    origin: str
    what: str
    choice: int = 0
    value: Any = None


class Stop(msgspec.Struct, frozen=True):
    """The answer's end. `refusal` is the client's text on a refusal, `details` what the upstream said of it; `sequence` is the stop
    sequence that ended it, where that is known."""

    reason: StopReason
    refusal: str = ""
    details: Any = None
    choice: int = 0
    sequence: str = ""


class Used(msgspec.Struct, frozen=True):
    """What the whole answer took; `told` is what the upstream said of it, in the words of its own protocol."""

    usage: Usage
    told: Any = None


Event = (
    Start | BlockStart | TextDelta | ThinkingDelta | Signature | RefusalDelta | ArgumentsDelta | Cited | BlockStop | Unknown | Stop | Used
)
