"""A conversation in OpenAI's messages as Anthropic's `system` and `messages`.

Turns alternate; all that lies between two assistant messages becomes one user message, tool results first (rule 3). Every tool call gets
its result and every result has its call (rule 4). Leading system messages become `system`, later ones stay where they are (rule 13). Kept
thinking goes back to where it was (rule 7). A message is translated by what precedes it only, so that a longer history begins with the same
bytes (rule 27). Rules are those of docs/translation.md.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from compat.errors import BadRequest, Unsupported
from compat.protocols.base import ThinkingRecord
from compat.protocols.messages.content import Block, content_blocks, is_blank, mark_last, marker_of, parts_in, text_block, text_blocks
from compat.protocols.messages.thinking import restored
from compat.protocols.messages.tools import fit_id, fit_name
from compat.protocols.notes import Notes
from compat.wire.envelope import repaired
from compat.wire.extent import check_values

MAX_PIECES = 100_000
"""Anthropic's own bound of the messages in a request; here parts and calls count as well."""

_OPENING = "(The conversation begins here.)"
CONTINUE = "Continue exactly where your last message ends."
_MISSING = "The result of this call is not known: the call was interrupted."
_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
_decode_arguments = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Conversation:
    """`system` blocks, `messages`, and the client's names of the tools in them."""

    system: list[Block]
    messages: list[Block]
    tool_names: tuple[str, ...]


def tool_call_ids(messages: Sequence[Any]) -> list[str]:
    """The ids of all tool calls of a history, as the client wrote them."""
    ids = []
    for message in messages:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for call in calls if isinstance(calls, list) else ():
            call_id = call.get("id") if isinstance(call, dict) else None
            if isinstance(call_id, str):
                ids.append(call_id)
    return ids


def _check_size(messages: Sequence[Any]) -> None:
    """`BadRequest` for more messages than Anthropic takes, or as many parts: nobody else is served while they are translated."""
    size = len(messages)
    for message in messages[:MAX_PIECES]:
        content = message.get("content") if isinstance(message, dict) else None
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        size += sum(len(piece) for piece in (content, calls) if isinstance(piece, list))
    if size > MAX_PIECES:
        raise BadRequest(f"'messages' has more than {MAX_PIECES} messages and parts.", param="messages")


def read_messages(
    messages: Any, records: Mapping[str, ThinkingRecord], notes: Notes, *, system_in_middle: bool, prefill: bool
) -> Conversation:
    """The conversation. `records` is kept thinking by tool-call id. Errors: `BadRequest`, `Unsupported`."""
    if not isinstance(messages, list):
        raise BadRequest("'messages' must be a list.", param="messages")
    _check_size(messages)
    system: list[Block] = []
    turns = _Turns(notes, records, system_in_middle)
    is_leading = True
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            raise BadRequest(f"{where} must be an object.", param=where)
        role = message.get("role")
        if is_leading and role in ("system", "developer"):
            blocks = text_blocks(message.get("content"), f"{where}.content", notes)
            if not blocks:
                notes.add("dropped", f"empty@{position}")
            mark_last(blocks, message)
            system += blocks
            continue
        is_leading = False
        handler = _HANDLERS.get(role) if isinstance(role, str) else None
        if handler is None:
            raise BadRequest(f"{where}.role must be system, developer, user, assistant or tool.", param=f"{where}.role")
        handler(turns, message, where, position)
    return Conversation(system, turns.finish(prefill=prefill), tuple(turns.tool_names))


@dataclass(frozen=True, slots=True)
class _SystemWords:
    """A system message in the middle, as blocks, and where the client has it."""

    blocks: list[Block]
    position: int


@dataclass(slots=True)
class _Turns:
    """The turns so far. Mutable: all but the first three fields.

    `pending` are the calls of the last assistant message that have no result yet, by our id the client's, and `awaited` the same by the
    client's id. `used_ids` are ours so far, `numbers` the last one that was given to a doubled id. `results` and `rest` gather what lies
    between two assistant messages. `restored_by` is which call each record was put back with, by the record's calls. However many calls
    there are, each is found in one step.
    """

    notes: Notes
    records: Mapping[str, ThinkingRecord]
    system_in_middle: bool
    messages: list[Block] = field(default_factory=list)
    tool_names: dict[str, None] = field(default_factory=dict)
    pending: OrderedDict[str, str] = field(default_factory=OrderedDict)
    awaited: dict[str, deque[str]] = field(default_factory=dict)
    used_ids: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)
    results: list[Block] = field(default_factory=list)
    rest: list[Block | _SystemWords] = field(default_factory=list)
    restored_by: dict[tuple[str, ...], str] = field(default_factory=dict)

    def user(self, message: Mapping[str, Any], where: str, position: int) -> None:
        """A user's message."""
        if message.get("name"):
            self.notes.add("dropped", "name")
        blocks = content_blocks(message.get("content"), f"{where}.content", self.notes)
        if not blocks:
            self.notes.add("dropped", f"empty@{position}")
        mark_last(blocks, message)
        self.rest += blocks

    def system(self, message: Mapping[str, Any], where: str, position: int) -> None:
        """A system message in the middle, which stays where it is."""
        blocks = text_blocks(message.get("content"), f"{where}.content", self.notes)
        mark_last(blocks, message)
        if blocks:
            self.rest.append(_SystemWords(blocks, position))
        else:
            self.notes.add("dropped", f"empty@{position}")

    def tool(self, message: Mapping[str, Any], where: str, position: int) -> None:
        """The result of a tool call; one without a call becomes the user's words."""
        blocks = self._result_blocks(message.get("content"), f"{where}.content")
        ours = self._take_pending(message.get("tool_call_id"))
        if ours is None:
            self.notes.add("moved", f"stray_result@{position}")
            blocks.insert(0, text_block("The result of an earlier tool call:"))
            mark_last(blocks, message)
            self.rest += blocks
            return
        result: Block = {"type": "tool_result", "tool_use_id": ours}
        marker = next((block.pop("cache_control") for block in blocks if "cache_control" in block), None)
        for block in blocks:
            block.pop("cache_control", None)
        if blocks:
            result["content"] = blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks
        marker = marker_of(message) or marker
        if marker is not None:
            result["cache_control"] = marker
        self.results.append(result)

    def assistant(self, message: Mapping[str, Any], where: str, position: int) -> None:
        """The model's own turn: thinking, text, tool calls."""
        if message.get("function_call") is not None:
            raise Unsupported(f"{where}.function_call was replaced by tool_calls.", param=where)
        texts = text_blocks(message.get("content"), f"{where}.content", self.notes)
        refusal = message.get("refusal")
        if isinstance(refusal, str) and not is_blank(refusal):
            texts.append(text_block(refusal))
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise BadRequest(f"{where}.tool_calls must be a list.", param=f"{where}.tool_calls")
        has_reasoning = any(message.get(key) for key in _REASONING)
        if not texts and not calls:
            self.notes.add("dropped", f"empty@{position}")
            return
        self._flush_user()
        tools = [self._tool_use(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
        record = self._record()
        blocks = [*texts, *tools]
        if record is not None:
            blocks = restored(record, texts, tools)
            self.notes.add("thinking", "restored")
        elif has_reasoning:
            self.notes.add("thinking", "omitted")
        mark_last(blocks, message)
        if not self.messages:
            self.notes.add("added", "user@0")
            self.messages.append({"role": "user", "content": [text_block(_OPENING)]})
        self._append("assistant", blocks)

    def finish(self, *, prefill: bool) -> list[Block]:
        """All messages; the last one is the user's, unless the model takes a prefill."""
        self._flush_user()
        if not self.messages:
            self.notes.add("added", "user@0")
            self.messages.append({"role": "user", "content": [text_block(_OPENING)]})
        last = self.messages[-1]
        if last["role"] == "assistant":
            text = last["content"][-1]
            if prefill and text["type"] == "text":
                text["text"] = text["text"].rstrip()
            else:
                self.notes.add("prefill", "continue")
                self.messages.append({"role": "user", "content": [text_block(CONTINUE)]})
        return self.messages

    def _flush_user(self) -> None:
        """End the user's turn: results, then results that are missing, then the rest in its order.

        System messages at its end are native where the model takes them, which is between the user and the assistant only; all others are
        the user's words in a tag.
        """
        for ours in self.pending:
            self.notes.add("added", "tool_result")
            self.results.append({"type": "tool_result", "tool_use_id": ours, "is_error": True, "content": _MISSING})
        blocks: list[Block] = [*self.results]
        last = max((number for number, item in enumerate(self.rest) if not isinstance(item, _SystemWords)), default=-1)
        native: list[Block] = []
        for number, item in enumerate(self.rest):
            if not isinstance(item, _SystemWords):
                blocks.append(item)
            elif self.system_in_middle and blocks and number > last:
                native += item.blocks
            else:
                self.notes.add("moved", f"system@{item.position}")
                blocks += [{**block, "text": f"<system>\n{block['text']}\n</system>"} for block in item.blocks]
        self._append("user", blocks)
        self._append("system", native)
        self.pending, self.awaited, self.results, self.rest = OrderedDict(), {}, [], []

    def _result_blocks(self, content: Any, where: str) -> list[Block]:
        parts = parts_in(content) if isinstance(content, str) else None
        if parts is not None:
            with contextlib.suppress(BadRequest):  # it is what a tool printed, then
                return content_blocks(parts, where, self.notes)
        return content_blocks(content, where, self.notes)

    def _take_pending(self, call_id: Any) -> str | None:
        """Our id of the call that a result belongs to. Some clients leave the id out: then results come in the order of their calls."""
        if not isinstance(call_id, str) or call_id == "":
            if not self.pending:
                return None
            ours, client_id = self.pending.popitem(last=False)
            self.awaited[client_id].popleft()
            return ours
        queue = self.awaited.get(call_id)
        if not queue:
            return None
        ours = queue.popleft()
        del self.pending[ours]
        return ours

    def _append(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def _tool_use(self, call: Any, where: str) -> Block:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise Unsupported(f"{where} must be a call of a function.", param=where)
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str) or not name:
            raise BadRequest(f"{where}.function.name must be a string.", param=where)
        self.tool_names[name] = None
        client_id = call.get("id")
        if not isinstance(client_id, str) or not client_id:
            client_id = f"call_{len(self.used_ids)}"
        ours = base = fit_id(client_id)
        number = self.numbers.get(base, 1)
        while ours in self.used_ids:  # some servers number the calls of each turn from 0
            number += 1
            ours = f"{base}-{number}"
        self.numbers[base] = number
        self.used_ids.add(ours)
        self.pending[ours] = client_id
        self.awaited.setdefault(client_id, deque()).append(ours)
        block: Block = {"type": "tool_use", "id": ours, "name": fit_name(name), "input": self._input(arguments, where)}
        mark_last([block], call)
        return block

    def _record(self) -> ThinkingRecord | None:
        """The thinking that led to the calls of this message; once only where a client made several messages of one turn."""
        for client_id in self.pending.values():
            record = self.records.get(client_id)
            if record is not None:
                is_first = self.restored_by.setdefault(record.tool_call_ids, client_id) == client_id
                return record if is_first else None
        return None

    def _input(self, arguments: Any, where: str) -> Any:
        """The arguments with the bytes that the model wrote; whatever is not a JSON object is wrapped into one."""
        if arguments is None or (isinstance(arguments, str) and is_blank(arguments)):
            return {}
        if isinstance(arguments, dict):
            return arguments
        if not isinstance(arguments, str):
            self.notes.add("wrapped", "arguments")
            return {"value": arguments}
        told = arguments.strip().encode("utf-8", "surrogatepass")
        text = repaired(told)
        if text != told:
            self.notes.add("repaired", "surrogates")
        check_values(text, f"{where}.function.arguments", param=where)
        try:
            _decode_arguments(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.notes.add("wrapped", "arguments")
            return {"arguments": arguments}
        return msgspec.Raw(text)


_HANDLERS: Mapping[str, Callable[[_Turns, Mapping[str, Any], str, int], None]] = {
    "user": _Turns.user,
    "system": _Turns.system,
    "developer": _Turns.system,
    "tool": _Turns.tool,
    "assistant": _Turns.assistant,
}
