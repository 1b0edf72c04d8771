"""Answers that can be given again: what of a completion is kept, read from a whole answer or put together from a stream.

    kept_of(body)                       -> what is kept of a whole answer
    assembly.feed(frames); .kept()      -> the same of a stream, whose frames may come in any pieces
    answer_of(kept, ...)                -> the answer again, under another id, with no usage

An answer is worth keeping when all of it came, it came to its own end, and there is nothing in it but text: `None` for any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import GatewayError
from compat.protocols.base import ClientApi
from compat.wire.sse import EventSplitter, parse_event

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
    """What is kept of a whole answer in OpenAI's words."""
    try:
        document = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    rows = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows:
        return None
    choices: list[_Choice] = []
    for row in rows:
        if not isinstance(row, dict) or not _is_plain(row, "message") or row.get("finish_reason") != "stop":
            return None
        index, texts = row.get("index", len(choices)), _texts_of(_said(row, "message"))
        if not isinstance(index, int) or not texts or not _is_worth_it(texts):
            return None
        choices.append(_Choice(index, texts))
    return Kept(tuple(choices))


class Assembly:
    """A stream's frames in, what is kept of it out. Mutable: all of it; once the stream holds anything unknown, nothing is kept.

    `size_bytes` is how much text there is so far.
    """

    def __init__(self) -> None:
        self._splitter = EventSplitter()
        self._texts: dict[int, dict[str, list[str]]] = {}
        self._ended: set[int] = set()
        self._is_spoilt = False
        self._is_done = False
        self.size_bytes = 0

    def feed(self, frames: bytes) -> None:
        """Take frames as they go to the client."""
        if self._is_spoilt:
            return
        try:
            for block in self._splitter.feed(frames):
                data = parse_event(block).data
                if data == b"[DONE]":
                    self._is_done = True
                elif data:
                    self._take(_decode(data))
        except (GatewayError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, AttributeError):
            self.spoil()

    def spoil(self) -> None:
        """Keep nothing of this stream."""
        self._is_spoilt = True
        self._texts.clear()

    def kept(self) -> Kept | None:
        """What is kept, now that the stream is over."""
        if self._is_spoilt or not self._is_done or not self._texts or self._ended != self._texts.keys():
            return None
        choices = []
        for index, pieces in sorted(self._texts.items()):
            texts = {name: "".join(parts) for name, parts in pieces.items()}
            if not _is_worth_it(texts):
                return None
            choices.append(_Choice(index, texts))
        return Kept(tuple(choices))

    def _take(self, chunk: Any) -> None:
        """One chunk. `TypeError`, `AttributeError` for what is not one."""
        if "error" in chunk or self._is_done:
            raise TypeError("an error, or something after the end")
        for row in chunk.get("choices") or ():
            index = row.get("index", 0)
            reason = row.get("finish_reason")
            texts = _texts_of(_said(row, "delta") or {})
            if not isinstance(index, int) or reason not in (None, "stop") or texts is None or not _is_plain(row, "delta"):
                raise TypeError("a chunk with something unknown")
            pieces = self._texts.setdefault(index, {})
            for name, text in texts.items():
                pieces.setdefault(name, []).append(text)
                self.size_bytes += len(text)
            if reason is not None:
                self._ended.add(index)


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


def _said(row: Mapping[str, Any], place: str) -> Any:
    """What a choice says: its message or delta, or the text of a plain completion."""
    text = row.get("text")
    return {"content": text} if isinstance(text, str) else row.get(place)


def _texts_of(message: Any) -> dict[str, str] | None:
    """The texts of a message or a delta; `None` where there is anything else in it."""
    if not isinstance(message, Mapping):
        return None
    texts = {}
    for name, value in message.items():
        if name in _TEXTS and isinstance(value, str):
            texts[name] = value
        elif value not in _NOTHING and (name, value) != ("role", "assistant"):
            return None
    return texts


def _is_plain(row: Mapping[str, Any], content: str) -> bool:
    """Whether a choice has nothing but its content, its place and its end; servers add notes on the end of their own."""
    known = {content, "text", "index", "finish_reason", "native_finish_reason", "stop_reason"}
    return all(name in known or value in _NOTHING for name, value in row.items())


def _is_worth_it(texts: Mapping[str, str]) -> bool:
    return bool(texts.get("content")) and not texts.get("refusal")
