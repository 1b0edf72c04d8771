"""Answers that can be given again: what of a completion is kept, read from a whole answer or put together from a stream.

    kept_of(body)                       -> what is kept of a whole answer
    assembly.feed(frames); .kept()      -> the same of a stream, whose frames may come in any pieces
    answer_of(kept, ...)                -> the answer again, under another id, with no usage

An answer is worth keeping when all of it came, it came to its own end, and there is nothing in it but text: `None` for any other.
"""

from __future__ import annotations

from typing import Any

import msgspec

from compat import jsonio
from compat.errors import GatewayError
from compat.protocols.base import ClientApi
from compat.protocols.chat.reader import ChunkReader, whole_events
from compat.protocols.events import BlockStart, Event, Stop, Unknown
from compat.protocols.transcript import Transcript
from compat.wire.sse import EventSplitter

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
_MAX_INDEX = 10_000
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_decode = msgspec.json.Decoder().decode


class _Choice(msgspec.Struct, frozen=True):
    index: int
    message: dict[str, str]


class Kept(msgspec.Struct, frozen=True):
    """What is kept: the texts of each choice. All of them ended with `stop`."""

    choices: tuple[_Choice, ...]


_read_kept = msgspec.json.Decoder(Kept).decode


def pack(kept: Kept) -> bytes:
    """`kept` as bytes."""
    return msgspec.json.encode(kept)


def unpack(packed: object) -> Kept | None:
    """What `pack` made of it; `None` for anything else."""
    try:
        kept = _read_kept(packed) if isinstance(packed, bytes) else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return kept if kept is not None and kept.choices and all(map(_is_choice, kept.choices)) else None


def _is_choice(choice: _Choice) -> bool:
    return 0 <= choice.index <= _MAX_INDEX and bool(choice.message) and choice.message.keys() <= set(_TEXTS)


def kept_of(body: bytes) -> Kept | None:
    """What is kept of a whole answer in the client's words."""
    transcript = Transcript()
    try:
        for event in whole_events(body):
            transcript.add(event)
    except GatewayError:
        return None
    return _kept(transcript)


class Assembly:
    """A stream's frames in, what is kept of it out. Mutable: all of it; once the stream holds anything unknown, nothing is kept.

    `size_bytes` is how much text there is so far.
    """

    def __init__(self) -> None:
        self._splitter = EventSplitter()
        self._reader = ChunkReader()
        self._transcript: Transcript | None = Transcript()

    @property
    def size_bytes(self) -> int:
        """How much text there is so far."""
        return self._transcript.chars if self._transcript is not None else 0

    def feed(self, frames: bytes) -> None:
        """Take frames as they go to the client."""
        transcript = self._transcript
        if transcript is None:
            return
        try:
            for block in self._splitter.feed(frames):
                for event in self._reader.read(block):
                    if self._reader.is_done or not _is_known(event):
                        self.spoil()
                        return
                    transcript.add(event)
        except GatewayError:
            self.spoil()

    def spoil(self) -> None:
        """Keep nothing of this stream."""
        self._transcript = None

    def kept(self) -> Kept | None:
        """What is kept, now that the stream is over."""
        return _kept(self._transcript) if self._transcript is not None and self._reader.is_done else None


def _is_known(event: Event) -> bool:
    """Whether an answer with this event may be kept."""
    match event:
        case Unknown() | BlockStart(kind="tool_call" | "refusal"):
            return False
        case Stop():
            return event.reason == "end"
    return True


def _kept(transcript: Transcript) -> Kept | None:
    choices = []
    for index, turn in transcript.turns.items():
        if turn.reason != "end" or not turn.is_plain or not turn.text:
            return None
        thinking = {"reasoning_content": turn.thinking} if turn.thinking else {}
        choices.append(_Choice(index, {"content": turn.text, **thinking}))
    return Kept(tuple(choices)) if choices else None


def answer_of(kept: Kept, api: ClientApi = "openai.chat", *, completion_id: str, created_s: int, model: str) -> bytes:
    """The body of a whole answer, which cost nothing."""
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost_details": {"upstream_inference_cost": 0}}
    if api == "openai.completions":
        rows = [
            {"index": choice.index, "text": choice.message["content"], "logprobs": None, "finish_reason": "stop"} for choice in kept.choices
        ]
        identity = completion_id.replace("chatcmpl-", "cmpl-", 1)
        head = {"id": identity, "object": "text_completion", "created": created_s, "model": model}
        return jsonio.encode({**head, "choices": rows, "usage": usage})
    return jsonio.encode(
        {
            "id": completion_id,
            "object": "chat.completion",
            "created": created_s,
            "model": model,
            "choices": [
                {"index": choice.index, "message": {"role": "assistant", "content": None, **choice.message}, "finish_reason": "stop"}
                for choice in kept.choices
            ],
            "usage": usage,
        }
    )
