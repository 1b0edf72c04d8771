"""The proof that a client set up for this gateway will work: one agent step, made as Kilo Code makes it.

    prove(send, model) -> Proof

A streamed request with a tool goes through the gateway; the call that the model makes is checked for all that the client can't do without;
the tool's result goes back, and the model answers in words. What failed is said in words, with what to do about it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compat.wire.sse import EventSplitter, parse_event

Send = Callable[[Mapping[str, Any]], Iterator[bytes]]
"""Posts a body to `/chat/completions` and yields the bytes of the answer; raises `ProofError` for anything but a 200."""

_WORD = "lighthouse"
_TOOL = {
    "type": "function",
    "function": {
        "name": "note",
        "description": "Writes a word down. Call it whenever you are asked to note something.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "description": "The word to write down."}},
            "required": ["word"],
            "additionalProperties": False,
        },
    },
}
_TASK = f"Call the tool `note` with the word '{_WORD}'. Don't write anything before the call."


class ProofError(Exception):
    """A step that failed; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen: the steps that passed, in words, and what failed, if anything did."""

    passed: tuple[str, ...]
    failure: str = ""
    hint: str = ""

    @property
    def is_good(self) -> bool:
        """Whether every step passed."""
        return not self.failure

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [f"  ok    {step}" for step in self.passed]
        if self.failure:
            lines.append(f"  FAIL  {self.failure}")
            lines += [f"        {self.hint}"] if self.hint else []
        return lines


@dataclass(slots=True)
class _Answer:
    """A streamed answer, put together as the client does."""

    text: str = ""
    calls: list[dict[str, str]] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    is_ended: bool = False


def prove(send: Send, model: str) -> Proof:
    """Make one agent step with `model`. Never raises for what the gateway or the model does."""
    passed: list[str] = []
    messages: list[dict[str, Any]] = [{"role": "user", "content": _TASK}]
    try:
        answer = _ask(send, model, messages)
        passed.append("the answer streams, and ends correctly")
        call = _only_call(answer)
        passed.append(f"'{model}' called the tool: {call['name']}({call['arguments']})")
        passed.append(_usage_words(answer))
        replayed = {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        messages += [
            {"role": "assistant", "content": answer.text or None, "tool_calls": [replayed]},
            {"role": "tool", "tool_call_id": call["id"], "content": "Noted. Now say in one short sentence what you noted."},
        ]
        last = _ask(send, model, messages)
        if not last.text.strip():
            raise ProofError("after the tool's result the model said nothing", "Try again, or choose another model.")
        passed.append(f"the tool's result went back, and it answered: {_short(last.text)}")
    except ProofError as error:
        return Proof(tuple(passed), str(error), error.hint)
    return Proof(tuple(passed))


def _ask(send: Send, model: str, messages: Sequence[Mapping[str, Any]]) -> _Answer:
    body = {
        "model": model,
        "max_tokens": 2000,
        "messages": messages,
        "tools": [_TOOL],
        "tool_choice": "auto",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    answer, splitter = _Answer(), EventSplitter()
    for data in send(body):
        for block in splitter.feed(data):
            _take(answer, parse_event(block)[1])
    for block in splitter.finish():
        _take(answer, parse_event(block)[1])
    if answer.finish_reason is None:
        raise ProofError("the stream ended without a finish_reason: it was cut off", "See the gateway's log.")
    if not answer.is_ended:
        raise ProofError("the stream ended without [DONE]", "See the gateway's log.")
    return answer


def _take(answer: _Answer, data: bytes) -> None:
    """One event. A comment has no data."""
    if not data:
        return
    if data == b"[DONE]":
        answer.is_ended = True
        return
    try:
        chunk = json.loads(data)
    except ValueError as error:
        raise ProofError(f"an event of the stream is not JSON: {data[:80]!r}") from error
    if "error" in chunk:
        raise ProofError(f"the stream ended with an error: {chunk['error'].get('message')}", "See the gateway's log.")
    answer.usage = chunk.get("usage") or answer.usage
    for choice in chunk.get("choices", ()):
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        delta = choice.get("delta") or {}
        answer.text += delta.get("content") or ""
        for piece in delta.get("tool_calls") or ():
            _take_call(answer, piece)


def _take_call(answer: _Answer, piece: Mapping[str, Any]) -> None:
    function = piece.get("function") or {}
    if piece.get("index", 0) >= len(answer.calls):
        if not piece.get("id") or not function.get("name"):
            raise ProofError("the first chunk of a tool call has no id or no name, which ends a turn in Kilo Code")
        answer.calls.append({"id": str(piece["id"]), "name": str(function["name"]), "arguments": ""})
    answer.calls[piece.get("index", 0)]["arguments"] += function.get("arguments") or ""


def _only_call(answer: _Answer) -> dict[str, str]:
    """The call that was asked for, with sound arguments."""
    if not answer.calls:
        words = f"the model answered in text instead of calling the tool: {_short(answer.text)}"
        raise ProofError(words, "Such a model can chat, but not work as an agent: set a key for a better one (see .env.example).")
    call = answer.calls[0]
    try:
        arguments = json.loads(call["arguments"])
    except ValueError as error:
        raise ProofError(f"the call's arguments are not JSON: {_short(call['arguments'])}") from error
    if call["name"] != "note" or not isinstance(arguments, dict) or "word" not in arguments:
        raise ProofError(f"the model called something else: {call['name']}({_short(call['arguments'])})")
    if answer.finish_reason != "tool_calls":
        raise ProofError(f"the finish_reason of a tool call is '{answer.finish_reason}', not 'tool_calls'")
    return call


def _usage_words(answer: _Answer) -> str:
    usage = answer.usage or {}
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    if not prompt:
        raise ProofError("the answer has no usage: Kilo Code would never compact a long conversation")
    cost = (usage.get("cost_details") or {}).get("upstream_inference_cost")
    price = f", ${cost:.6f}" if isinstance(cost, int | float) else ""
    return f"usage is reported: {prompt} tokens in, {completion} out{price}"


def _short(text: str) -> str:
    """Untrusted words on one line of a terminal."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return repr(line if len(line) <= 100 else line[:97] + "...")
