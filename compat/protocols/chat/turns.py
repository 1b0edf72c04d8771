"""A history in OpenAI's messages as turns: the client's half. Errors are in this protocol's words, and name the place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compat.errors import BadRequest, Unsupported
from compat.protocols.chat.chunks import API
from compat.protocols.chat.parts import content_blocks, parts_in, text_blocks
from compat.protocols.marks import mark_of
from compat.protocols.request import Block, CacheMark, CallKind, Text, Thinking, ToolCall, ToolResult, Turn
from compat.wire.extent import MAX_VALUES, check_values

MAX_PIECES = 100_000
"""Anthropic's own bound of the messages in a request; here parts and calls count as well."""

_REASONING = dict.fromkeys(("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"))
_FUNCTION: CallKind = "function"
_FREEFORM: CallKind = "freeform"


def read_turns(messages: Any) -> tuple[Turn, ...]:
    """The turns. Errors: `BadRequest`, `Unsupported`."""
    if not isinstance(messages, list):
        raise BadRequest("'messages' must be a list.", param="messages")
    _check_size(messages)
    turns = []
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            raise BadRequest(f"{where} must be an object.", param=where)
        role = message.get("role")
        handler = _HANDLERS.get(role) if isinstance(role, str) else None
        if handler is None:
            raise BadRequest(f"{where}.role must be system, developer, user, assistant or tool.", param=f"{where}.role")
        turns.append(handler(message, where, position))
    return tuple(turns)


def _check_size(messages: Sequence[Any]) -> None:
    """`BadRequest` for more messages than Anthropic takes, or as many parts: nobody else is served while they are translated."""
    size = len(messages)
    for message in messages[:MAX_PIECES]:
        content = message.get("content") if isinstance(message, dict) else None
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        size += sum(len(piece) for piece in (content, calls) if isinstance(piece, list))
    if size > MAX_PIECES:
        raise BadRequest(f"'messages' has more than {MAX_PIECES} messages and parts.", param="messages")


def _system(message: Mapping[str, Any], where: str, position: int) -> Turn:
    return Turn("system", tuple(_blocks(message, where, text_blocks)), where, position, *_head_of(message))


def _user(message: Mapping[str, Any], where: str, position: int) -> Turn:
    return Turn("user", tuple(_blocks(message, where, content_blocks)), where, position, *_head_of(message))


def _tool(message: Mapping[str, Any], where: str, position: int) -> Turn:
    content, call_id, place = message.get("content"), message.get("tool_call_id"), f"{where}.content"
    blocks, written = _written_blocks(content, place) if isinstance(content, str) else (None, "")
    if blocks is None:
        blocks = content_blocks(content, place)
    result = ToolResult(where, call_id if isinstance(call_id, str) else "", tuple(blocks), written=written)
    return Turn("user", (result,), where, position, cache=mark_of(message))


def _written_blocks(content: str, where: str) -> tuple[list[Block] | None, str]:
    """The blocks that a client wrote as a JSON string, and that string; none where it is what a tool printed."""
    parts = parts_in(content)
    if parts is not None:
        with contextlib.suppress(BadRequest):
            return content_blocks(parts, where), content
    return None, ""


def _assistant(message: Mapping[str, Any], where: str, position: int) -> Turn:
    if message.get("function_call") is not None:
        raise Unsupported(f"{where}.function_call was replaced by tool_calls.", param=where)
    blocks = _blocks(message, where, text_blocks)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        blocks.append(Text(f"{where}.refusal", refusal, is_refusal=True))
    calls = message.get("tool_calls")
    if calls:
        if not isinstance(calls, list):
            raise BadRequest(f"{where}.tool_calls must be a list.", param=f"{where}.tool_calls")
        blocks += [_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
    if not _REASONING.keys().isdisjoint(message):
        thoughts = {key: message[key] for key in _REASONING if message.get(key)}
        if thoughts:
            words = next((value for value in thoughts.values() if isinstance(value, str)), "")
            blocks.insert(0, Thinking(where, words, is_beside=True, origin=API, value=thoughts))
    return Turn("assistant", tuple(blocks), where, position, *_head_of(message))


def _call(call: Any, where: str) -> ToolCall:
    fields = call if isinstance(call, dict) else {}
    function, kind, call_id = fields.get("function"), _FUNCTION, fields.get("id")
    if not isinstance(function, dict):
        function, kind = fields.get("custom"), _FREEFORM
        if not isinstance(function, dict):
            raise Unsupported(f"{where} must be a call of a function.", param=where)
    name, arguments = function.get("name"), function.get("arguments" if kind is _FUNCTION else "input")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{where}.function.name must be a string.", param=where)
    if isinstance(arguments, str) and len(arguments) > MAX_VALUES:  # a shorter one can't hold as many
        check_values(arguments.encode("utf-8", "surrogatepass"), f"{where}.function.arguments", param=where)
    call_id = call_id if isinstance(call_id, str) else ""
    return ToolCall(where, call_id, name, arguments, kind, cache=mark_of(fields))


def _blocks(message: Mapping[str, Any], where: str, read: Callable[[Any, str], list[Block]]) -> list[Block]:
    """The blocks of a message's content, which mostly is a string."""
    content = message.get("content")
    if isinstance(content, str):
        return [Text(f"{where}.content", content)] if content else []
    return read(content, f"{where}.content")


def _head_of(message: Mapping[str, Any]) -> tuple[str, CacheMark | None]:
    """The speaker's name, and the mark of the message as a whole."""
    name = message.get("name")
    return str(name) if name else "", mark_of(message) if "cache_control" in message else None


_HANDLERS: Mapping[str, Callable[[Mapping[str, Any], str, int], Turn]] = {
    "system": _system,
    "developer": _system,
    "user": _user,
    "tool": _tool,
    "assistant": _assistant,
}
