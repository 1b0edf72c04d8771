"""The proof that a client set up for this gateway will work: one agent step, made as Kilo Code makes it.

    prove(send, model, api) -> Proof

A streamed request with a tool goes through the gateway; the call that the model makes is checked for all that the client can't do without;
the tool's result goes back, and the model answers in words. What failed is said in words, with what to do about it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from compat.errors import GatewayError, UpstreamBroken
from compat.protocols.base import ClientApi
from compat.protocols.chat.client import CHAT
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.events import BlockStart
from compat.protocols.joined import FrameReader
from compat.protocols.messages.client import MESSAGES
from compat.protocols.responses.client import RESPONSES
from compat.protocols.transcript import ToolCall, Transcript
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage

Send = Callable[[Mapping[str, Any]], Iterator[bytes]]
"""Posts a body to the protocol's path (`Dialect.path`) and yields the bytes of the answer; raises `ProofError` for anything but a 200."""

_WORD = "lighthouse"
_DESCRIPTION = "Writes a word down. Call it whenever you are asked to note something."
_SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "description": "The word to write down."}},
    "required": ["word"],
    "additionalProperties": False,
}
_RESULT = "Noted. Now say in one short sentence what you noted."
_SPEAKER = "the upstream: "
"""Whose words an error of a stream is; here they are the gateway's own."""
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


def _said_to_chat(text: str, call: ToolCall) -> list[dict[str, Any]]:
    replayed = {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return [
        {"role": "assistant", "content": text or None, "tool_calls": [replayed]},
        {"role": "tool", "tool_call_id": call.call_id, "content": _RESULT},
    ]


def _said_to_messages(text: str, call: ToolCall) -> list[dict[str, Any]]:
    called = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": json.loads(call.arguments)}
    return [
        {"role": "assistant", "content": [*([{"type": "text", "text": text}] if text else []), called]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.call_id, "content": _RESULT}]},
    ]


def _said_to_responses(text: str, call: ToolCall) -> list[dict[str, Any]]:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    called = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    return [*([said] if text else []), called, {"type": "function_call_output", "call_id": call.call_id, "output": _RESULT}]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a step is made in one protocol: where to, a request's other fields, and the turn with a call and its result.

    `conversation` and `limit` are its words for the messages and for the limit of the answer.
    """

    protocol: ClientProtocol
    fields: Mapping[str, Any]
    turn: Callable[[str, ToolCall], list[dict[str, Any]]]
    conversation: str = "messages"
    limit: str = "max_tokens"

    @property
    def path(self) -> str:
        """Below the base URL."""
        return self.protocol.paths[0].removeprefix("/v1")


_FUNCTION: Mapping[str, Any] = {"type": "function", "function": {"name": "note", "description": _DESCRIPTION, "parameters": _SCHEMA}}
DIALECTS: Mapping[ClientApi, Dialect] = MappingProxyType(
    {
        "openai.chat": Dialect(
            CHAT, {"tools": [_FUNCTION], "tool_choice": "auto", "stream_options": {"include_usage": True}}, _said_to_chat
        ),
        "anthropic.messages": Dialect(
            MESSAGES,
            {"tools": [{"name": "note", "description": _DESCRIPTION, "input_schema": _SCHEMA}], "tool_choice": {"type": "auto"}},
            _said_to_messages,
        ),
        "openai.responses": Dialect(
            RESPONSES,
            {"tools": [{"type": "function", **_FUNCTION["function"], "strict": False}], "tool_choice": "auto", "store": False},
            _said_to_responses,
            conversation="input",
            limit="max_output_tokens",
        ),
    }
)


def prove(send: Send, model: str, api: ClientApi = "openai.chat") -> Proof:
    """Make one agent step with `model` in the protocol `api`. Never raises for what the gateway or the model does."""
    dialect = DIALECTS[api]
    passed: list[str] = []
    messages: list[dict[str, Any]] = [{"role": "user", "content": _TASK}]
    try:
        answer = _ask(send, model, messages, dialect)
        passed.append("the answer streams, and ends correctly")
        call = _only_call(answer)
        passed.append(f"'{model}' called the tool: {call.name}({call.arguments})")
        passed.append(_usage_words(answer))
        messages += dialect.turn(answer.turn().text, call)
        last = _ask(send, model, messages, dialect)
        words = last.turn().text
        if not words.strip():
            raise ProofError("after the tool's result the model said nothing", "Try again, or choose another model.")
        passed.append(f"the tool's result went back, and it answered: {_short(words)}")
    except ProofError as error:
        return Proof(tuple(passed), str(error), error.hint)
    return Proof(tuple(passed))


def _ask(send: Send, model: str, messages: Sequence[Mapping[str, Any]], dialect: Dialect) -> Transcript:
    """A streamed answer, put together as the client does."""
    protocol = dialect.protocol
    body = {"model": model, dialect.limit: 2000, dialect.conversation: messages, "stream": True, **dialect.fields}
    answer, reader, splitter = Transcript(), protocol.reader(), EventSplitter()
    for data in send(body):
        for block in splitter.feed(data):
            _take(answer, reader, block)
    for block in splitter.finish():
        _take(answer, reader, block)
    if answer.turn().reason is None:
        raise ProofError(f"the stream ended without a {protocol.stream_end[0]}: it was cut off", "See the gateway's log.")
    if not reader.is_done:
        raise ProofError(f"the stream ended without {protocol.stream_end[1]}", "See the gateway's log.")
    return answer


def _take(answer: Transcript, reader: FrameReader, block: bytes) -> None:
    """One event of the stream."""
    try:
        for event in reader.read(block):
            if isinstance(event, BlockStart) and event.kind == "tool_call" and not (event.call_id and event.name):
                raise ProofError("the first piece of a tool call has no id or no name, which ends a turn in Kilo Code")
            answer.add(event)
    except UpstreamBroken as error:
        raise ProofError(f"an event of the stream is not a chunk: {block[:80]!r}") from error
    except GatewayError as error:
        raise ProofError(f"the stream ended with an error: {error.message.removeprefix(_SPEAKER)}", "See the gateway's log.") from error


def _only_call(answer: Transcript) -> ToolCall:
    """The call that was asked for, with sound arguments."""
    turn = answer.turn()
    if not turn.calls:
        words = f"the model answered in text instead of calling the tool: {_short(turn.text)}"
        raise ProofError(words, "Such a model can chat, but not work as an agent: set a key for a better one (see .env.example).")
    call = turn.calls[0]
    try:
        arguments = json.loads(call.arguments)
    except ValueError as error:
        raise ProofError(f"the call's arguments are not JSON: {_short(call.arguments)}") from error
    if call.name != "note" or not isinstance(arguments, dict) or "word" not in arguments:
        raise ProofError(f"the model called something else: {call.name}({_short(call.arguments)})")
    if turn.reason != "tool_calls":
        raise ProofError(f"the answer with a tool call ended for another reason: '{turn.reason}', not 'tool_calls'")
    return call


def _usage_words(answer: Transcript) -> str:
    usage = answer.usage or Usage()
    if not usage.prompt_tokens:
        raise ProofError("the answer has no usage: Kilo Code would never compact a long conversation")
    cost = ((answer.told or {}).get("cost_details") or {}).get("upstream_inference_cost")
    price = f", ${cost:.6f}" if isinstance(cost, int | float) else ""
    return f"usage is reported: {usage.prompt_tokens} tokens in, {usage.completion_tokens} out{price}"


def _short(text: str) -> str:
    """Untrusted words on one line of a terminal."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return repr(line if len(line) <= 100 else line[:97] + "...")
