"""What the upstreams of the chaos run say: an answer that follows from the prompt alone, in both wire APIs, and what a client must get.

Strategy: each prompt has a number, and the text is made of words that hold the number and their place, so that a lost, doubled or foreign
word shows. An upstream that is asked to carry an answer on finds the part so far in the request, and checks it as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Wire = Literal["openai", "anthropic"]
PATHS: Mapping[Wire, str] = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
TOOL = "write_file"
_PROMPT = re.compile(r"answer number (\d+)\b")
_PIECE_CHARS = 7


class WrongPart(Exception):
    """A request to carry on a text that is not ours."""


def prompt_of(number: int) -> str:
    """The words of call `number`."""
    return f"Give me answer number {number}, please."


def text_of(number: int) -> str:
    """The text that it asks for: 20 to 60 words."""
    return " ".join(f"w{number}-{place}✓" for place in range(20 + number % 41))


def arguments_of(number: int) -> str:
    """The arguments of the tool call that it asks for where there is a tool."""
    return json.dumps({"path": f"src/file_{number}.py", "text": text_of(number)[:150]}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: the number, whether for a stream, for a tool call, and how much of the text is there already."""

    number: int
    is_stream: bool
    has_tools: bool
    done: str = ""

    @property
    def rest(self) -> str:
        """The part of the text that is to be said."""
        return text_of(self.number)[len(self.done) :]


def read_request(body: bytes, wire: Wire) -> Asked:
    """What is asked for. Errors: `WrongPart`."""
    document = json.loads(body)
    messages = document["messages"]
    found = _PROMPT.search(_words(messages[0]))
    if found is None:
        raise WrongPart(f"no prompt of ours: {_words(messages[0])[:100]!r}")
    number = int(found[1])
    parts = [_words(message) for message in messages if message["role"] == "assistant"]
    done = parts[0] if parts else ""
    if len(parts) > 1 or not text_of(number).startswith(done):
        raise WrongPart(f"answer {number} does not begin with {done[-60:]!r}")
    if done and wire == "openai" and done[-40:] not in _words(messages[-1]):
        raise WrongPart(f"the request to carry answer {number} on does not quote its end")
    return Asked(number, bool(document.get("stream")), bool(document.get("tools")), done)


def _words(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def pieces_of(text: str) -> list[str]:
    """The text in pieces."""
    return [text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS)]


@dataclass(frozen=True, slots=True)
class Events:
    """A streamed answer: what comes before its content, the content, what follows. `end` is the end mark of the protocol."""

    opening: Sequence[bytes]
    content: Sequence[bytes]
    closing: Sequence[bytes]
    end: bytes


def whole_answer(asked: Asked, wire: Wire) -> bytes:
    """The body of a whole answer."""
    text, arguments = asked.rest, arguments_of(asked.number)
    if wire == "openai":
        call = {"id": f"call_{asked.number}", "type": "function", "function": {"name": TOOL, "arguments": arguments}}
        message = (
            {"role": "assistant", "content": None, "tool_calls": [call]} if asked.has_tools else {"role": "assistant", "content": text}
        )
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if asked.has_tools else "stop"}
        return _json(
            {"id": "chatcmpl-theirs", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": _OPENAI}
        )
    block = {"type": "tool_use", "id": f"toolu_{asked.number}", "name": TOOL, "input": json.loads(arguments)}
    content = [block] if asked.has_tools else [{"type": "text", "text": text}]
    reason = "tool_use" if asked.has_tools else "end_turn"
    return _json({**_MESSAGE, "content": content, "stop_reason": reason, "usage": _ANTHROPIC})


def streamed_answer(asked: Asked, wire: Wire, said: str) -> Events:
    """The events of a streamed answer; `said` is its text, or the part of it that is to be said."""
    return (_openai_events if wire == "openai" else _anthropic_events)(asked, said)


def error_event(wire: Wire, kind: str) -> bytes:
    """An error within a stream."""
    document = {"type": "error", "error": {"type": kind, "message": "chaos"}}
    return _event(document, "error") if wire == "anthropic" else _event({"error": document["error"]})


_OPENAI = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
_ANTHROPIC = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 20}
_MESSAGE = {"id": "msg_theirs", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _event(document: Any, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + _json(document) + b"\n\n"


def _openai_events(asked: Asked, said: str) -> Events:
    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return _event({"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices})

    def calls() -> Iterator[bytes]:
        head = {"index": 0, "id": f"call_{asked.number}", "type": "function", "function": {"name": TOOL, "arguments": ""}}
        yield chunk({"tool_calls": [head]})
        for piece in pieces_of(arguments_of(asked.number)):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})

    content = list(calls()) if asked.has_tools else [chunk({"content": piece}) for piece in pieces_of(said)]
    usage = _event(
        {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": _OPENAI}
    )
    closing = [chunk({}, "tool_calls" if asked.has_tools else "stop"), usage]
    return Events([chunk({"role": "assistant", "content": ""})], content, closing, b"data: [DONE]\n\n")


def _anthropic_events(asked: Asked, said: str) -> Events:
    def event(kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, **fields}, kind)

    message = {**_MESSAGE, "content": [], "stop_reason": None, "usage": {**_ANTHROPIC, "output_tokens": 1}}
    block = (
        {"type": "tool_use", "id": f"toolu_{asked.number}", "name": TOOL, "input": {}} if asked.has_tools else {"type": "text", "text": ""}
    )
    opening = [event("message_start", message=message), event("ping")]
    begin = event("content_block_start", index=0, content_block=block)
    kind, field = ("input_json_delta", "partial_json") if asked.has_tools else ("text_delta", "text")
    pieces = pieces_of(arguments_of(asked.number) if asked.has_tools else said)
    content = [begin, *(event("content_block_delta", index=0, delta={"type": kind, field: piece}) for piece in pieces)]
    reason = {"stop_reason": "tool_use" if asked.has_tools else "end_turn", "stop_sequence": None}
    closing = [event("content_block_stop", index=0), event("message_delta", delta=reason, usage=_ANTHROPIC)]
    return Events(opening, content, closing, event("message_stop"))
