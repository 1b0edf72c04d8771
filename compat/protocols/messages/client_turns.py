"""A history in Anthropic's messages as turns: the client's half. Errors are in this protocol's words, and name the place.

system, messages[].role = system      turns of their own, in their place
tool_use, tool_result                 calls and results, under the ids that the upstream gave them
thinking, redacted_thinking           thoughts with what seals them
everything else                       `Unknown`, verbatim
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from compat.errors import BadRequest
from compat.protocols.marks import mark_of
from compat.protocols.media import block_with_source
from compat.protocols.messages.shapes import API
from compat.protocols.messages.writer import call_id_of
from compat.protocols.request import NOTHING, Block, Role, Text, Thinking, ToolCall, ToolResult, Turn, Unknown

MAX_PIECES = 100_000
"""Anthropic's own bound of the messages in a request; here blocks count as well."""
BILLING = "x-anthropic-billing-header:"
"""How the first system block of Claude Code begins. Its hash changes with each release and session, and with it a prompt cache's whole
prefix is lost (tickets claude-code#68900, claude-code-router#1372, ollama#14918)."""

_OF_MESSAGE = frozenset({"role", "content"})


def read_system(system: Any) -> tuple[tuple[Turn, ...], bool]:
    """The instructions outside of the messages as a turn, if there are any; and whether a billing block was among them."""
    if system is None:
        return (), False
    blocks = [*_blocks(system, "system", _TEXT_ONLY)]
    kept = tuple(block for block in blocks if not (isinstance(block, Text) and block.text.startswith(BILLING)))
    return ((Turn("system", kept, "system", 0),) if kept else ()), len(kept) < len(blocks)


def read_turns(messages: Any) -> tuple[Turn, ...]:
    """The turns. Errors: `BadRequest`."""
    if not isinstance(messages, list):
        raise BadRequest("messages: Input should be a valid list", param="messages")
    _check_size(messages)
    return tuple(_turn(message, position) for position, message in enumerate(messages))


def found_tools(turns: Sequence[Turn]) -> frozenset[str]:
    """The names of deferred tools that were found so far: those that a `tool_reference` names."""
    blocks = (block for turn in turns for block in turn.blocks)
    within = (inner for block in blocks for inner in (block.blocks if isinstance(block, ToolResult) else (block,)))
    values = (block.value for block in within if isinstance(block, Unknown))
    return frozenset(name for value in values for name in _references(value))


def _references(value: Any) -> Iterator[str]:
    match value:
        case {"type": "tool_reference", "tool_name": str(name)}:
            yield name
        case {"type": "tool_search_tool_result", "content": {"tool_references": list(rows)}}:
            for row in rows:
                yield from _references(row)


def _check_size(messages: Sequence[Any]) -> None:
    size = len(messages)
    for message in messages[:MAX_PIECES]:
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            inner = block.get("content") if isinstance(block, dict) else None
            size += 1 + (len(inner) if isinstance(inner, list) else 0)
    if size > MAX_PIECES:
        raise BadRequest(f"messages: there are more than {MAX_PIECES} messages and blocks", param="messages")


def _turn(message: Any, position: int) -> Turn:
    where = f"messages[{position}]"
    if not isinstance(message, dict):
        raise BadRequest(f"messages.{position}: Input should be an object", param=where)
    role = message.get("role")
    readers = _READERS.get(role) if isinstance(role, str) else None
    if readers is None or not isinstance(role, str):
        raise BadRequest(f"messages.{position}.role: Input should be 'user', 'assistant' or 'system'", param=f"{where}.role")
    blocks = tuple(_blocks(message.get("content"), f"{where}.content", readers))
    more = {key: value for key, value in message.items() if key not in _OF_MESSAGE and value is not None}
    return Turn(_ROLES[role], blocks, where, position, more=more or NOTHING)


def _blocks(content: Any, where: str, readers: Mapping[str, Reader]) -> Iterator[Block]:
    """The blocks of a content: a string, or a list. Empty text is left out."""
    if isinstance(content, str):
        if content:
            yield Text(where, content)
        return
    if not isinstance(content, list):
        raise BadRequest(f"{_path(where)}: Input should be a valid string or list", param=where)
    for number, block in enumerate(content):
        place = f"{where}[{number}]"
        if not isinstance(block, dict) or not isinstance(kind := block.get("type"), str):
            raise BadRequest(f"{_path(place)}: Input should be an object with a type", param=place)
        if kind != "text" or _words(block, "text", place):
            yield readers.get(kind, _unknown)(block, place)


def _path(where: str) -> str:
    """A place as this protocol's errors write it: `messages.0.content.1`."""
    return where.replace("[", ".").replace("]", "")


def _words(block: Mapping[str, Any], key: str, place: str) -> str:
    words = block.get(key)
    if not isinstance(words, str):
        raise BadRequest(f"{_path(place)}.{block['type']}.{key}: Input should be a valid string", param=place)
    return words


def _text(block: Mapping[str, Any], place: str) -> Block:
    return Text(place, _words(block, "text", place), mark_of(block))


def _media(block: Mapping[str, Any], place: str) -> Block:
    if not isinstance(source := block.get("source"), dict):
        raise BadRequest(f"{_path(place)}.{block['type']}.source: Field required", param=place)
    if source.get("type") == "content":  # a document of blocks
        return _unknown(block, place)
    return block_with_source(block, place, mark_of(block))


def _thinking(block: Mapping[str, Any], place: str) -> Block:
    return Thinking(place, _words(block, "thinking", place), str(block.get("signature") or ""), origin=API, value=block)


def _redacted(block: Mapping[str, Any], place: str) -> Block:
    return Thinking(place, seal=_words(block, "data", place), origin=API, value=block)


def _call(block: Mapping[str, Any], place: str) -> Block:
    call_id, name, arguments = _words(block, "id", place), _words(block, "name", place), block.get("input")
    match arguments:  # Claude Code's way to replay arguments that were not JSON
        case {"__unparsedToolInput": {"raw": str(raw)}}:
            arguments = raw
    return ToolCall(place, call_id_of(call_id), name, arguments, cache=mark_of(block))


def _result(block: Mapping[str, Any], place: str) -> Block:
    call_id, content = _words(block, "tool_use_id", place), block.get("content")
    blocks = () if content is None else tuple(_blocks(content, f"{place}.content", _OF_RESULT))
    return ToolResult(place, call_id_of(call_id), blocks, is_error=block.get("is_error") is True, cache=mark_of(block))


def _unknown(block: Mapping[str, Any], place: str) -> Block:
    return Unknown(place, API, block["type"], block, mark_of(block))


Reader = Callable[[Mapping[str, Any], str], Block]
_TEXT_ONLY: Mapping[str, Reader] = {"text": _text}
_OF_RESULT: Mapping[str, Reader] = {**_TEXT_ONLY, "image": _media, "document": _media}
_OF_USER: Mapping[str, Reader] = {**_OF_RESULT, "tool_result": _result}
_OF_ASSISTANT: Mapping[str, Reader] = {**_TEXT_ONLY, "thinking": _thinking, "redacted_thinking": _redacted, "tool_use": _call}
_READERS: Mapping[str, Mapping[str, Reader]] = {"user": _OF_USER, "assistant": _OF_ASSISTANT, "system": _TEXT_ONLY}
_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
