"""A conversation in OpenAI's messages as Anthropic's `system` and `messages`.

Turns alternate; all that lies between two assistant messages becomes one user message, tool results first (rule 3). Every tool call gets
its result and every result has its call (rule 4). Leading system messages become `system`, later ones stay where they are (rule 13). Kept
thinking goes back to where it was (rule 7). A message is translated by what precedes it only, so that a longer history begins with the same
bytes (rule 27).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import BadRequest, Unsupported
from compat.translate.anthropic_content import Block, content_blocks, holds_images, mark_last, marker_of, text_block, text_blocks
from compat.translate.anthropic_tools import fit_id, fit_name
from compat.translate.base import ThinkingRecord
from compat.translate.notes import Notes
from compat.wire.envelope import repaired

_OPENING = "(The conversation begins here.)"
CONTINUE = "Continue exactly where your last message ends."
_MISSING = "The result of this call is not known: the call was interrupted."
_decode_arguments = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Conversation:
    """`system` blocks, `messages`, the client's names of the tools in it, and whether the last tool round has its thinking."""

    system: list[Block]
    messages: list[Block]
    tool_names: tuple[str, ...]
    lacks_thinking: bool


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


def read_messages(
    messages: Any, records: Mapping[str, ThinkingRecord], notes: Notes, *, system_in_middle: bool, prefill: bool
) -> Conversation:
    """The conversation. `records` is kept thinking by tool-call id. Errors: `BadRequest`, `Unsupported`."""
    if not isinstance(messages, list):
        raise BadRequest("'messages' must be a list.", param="messages")
    system: list[Block] = []
    turns = _Turns(notes, records, system_in_middle)
    is_leading = True
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            raise BadRequest(f"{where} must be an object.", param=where)
        role = message.get("role")
        if is_leading and role in {"system", "developer"}:
            blocks = text_blocks(message.get("content"), f"{where}.content", notes)
            mark_last(blocks, message)
            system += blocks
            continue
        is_leading = False
        handler = _HANDLERS.get(role) if isinstance(role, str) else None
        if handler is None:
            raise BadRequest(f"{where}.role must be system, developer, user, assistant or tool.", param=f"{where}.role")
        handler(turns, message, where, position)
    return Conversation(system, turns.finish(prefill=prefill), tuple(turns.tool_names), turns.lacks_thinking)


@dataclass(slots=True)
class _Turns:
    """The turns so far. Mutable: all but the first three fields.

    `pending` are the calls of the last assistant message that have no result yet (client's id -> ours). `results` and `rest` gather what
    lies between two assistant messages.
    """

    notes: Notes
    records: Mapping[str, ThinkingRecord]
    system_in_middle: bool
    messages: list[Block] = field(default_factory=list)
    tool_names: dict[str, None] = field(default_factory=dict)
    lacks_thinking: bool = False
    pending: dict[str, str] = field(default_factory=dict)
    used_ids: set[str] = field(default_factory=set)
    results: list[Block] = field(default_factory=list)
    rest: list[Block | list[Block]] = field(default_factory=list)

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
        """A system message in the middle: in place natively where the model takes it, else as the user's words in a tag."""
        blocks = text_blocks(message.get("content"), f"{where}.content", self.notes)
        if not blocks:
            self.notes.add("dropped", f"empty@{position}")
            return
        mark_last(blocks, message)
        follows_user = bool(self.results or self.pending or self.rest)
        if self.system_in_middle and follows_user:
            self.rest.append(blocks)
            return
        self.notes.add("moved", f"system@{position}")
        for block in blocks:
            block["text"] = f"<system>\n{block['text']}\n</system>"
        self.rest += blocks

    def tool(self, message: Mapping[str, Any], where: str, position: int) -> None:
        """The result of a tool call; one without a call becomes the user's words."""
        content = message.get("content")
        if isinstance(content, str) and content.startswith("["):
            content = _parts_in(content)
        blocks = content_blocks(content, f"{where}.content", self.notes)
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str) or not call_id:  # some clients leave it out: then results come in the order of their calls
            call_id = next(iter(self.pending), "")
        ours = self.pending.pop(call_id, None)
        if ours is None:
            self.notes.add("moved", f"stray_result@{position}")
            self.rest += [text_block("The result of an earlier tool call:"), *blocks]
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
        self._flush_user()
        texts = text_blocks(message.get("content"), f"{where}.content", self.notes)
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal.strip():
            texts.append(text_block(refusal))
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise BadRequest(f"{where}.tool_calls must be a list.", param=where)
        tools = [self._tool_use(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
        record = next((self.records[call_id] for call_id in self.pending if call_id in self.records), None)
        blocks = [*texts, *tools]
        if record is not None:
            blocks = _with_thinking(record, texts, tools)
            self.notes.add("thinking", "restored")
        elif message.get("reasoning_content") or message.get("reasoning"):
            self.notes.add("thinking", "omitted")
        self.lacks_thinking = bool(tools) and record is None
        if not blocks:
            self.notes.add("dropped", f"empty@{position}")
            return
        if not tools and (marker := marker_of(message)) is not None:
            blocks[-1]["cache_control"] = marker
        if not self.messages:
            self.notes.add("added", "user@0")
            self.messages.append({"role": "user", "content": [text_block(_OPENING)]})
        if self.messages[-1]["role"] == "assistant":
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": "assistant", "content": blocks})

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
        """End the user's turn: results, then results that are missing, then the rest in its order."""
        for ours in self.pending.values():
            self.notes.add("added", "tool_result")
            self.results.append({"type": "tool_result", "tool_use_id": ours, "is_error": True, "content": _MISSING})
        blocks: list[Block] = [*self.results]
        for item in self.rest:
            if isinstance(item, list):
                self._append("user", blocks)
                self._append("system", item)
                blocks = []
            else:
                blocks.append(item)
        self._append("user", blocks)
        self.pending, self.results, self.rest = {}, [], []

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
        number = 1
        while ours in self.used_ids:  # some servers number the calls of each turn from 0
            number += 1
            ours = f"{base}-{number}"
        self.used_ids.add(ours)
        self.pending[client_id] = ours
        block: Block = {"type": "tool_use", "id": ours, "name": fit_name(name), "input": self._input(arguments)}
        mark_last([block], call)
        return block

    def _input(self, arguments: Any) -> Any:
        """The arguments with the bytes that the model wrote; whatever is not a JSON object is wrapped into one."""
        if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
            return {}
        if isinstance(arguments, dict):
            return arguments
        if not isinstance(arguments, str):
            self.notes.add("wrapped", "arguments")
            return {"value": arguments}
        text = repaired(arguments.strip().encode("utf-8", "surrogatepass"))
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


def _parts_in(text: str) -> Any:
    """Content parts that a client wrote as a JSON string, when an image is among them; else the string itself."""
    if '"image' not in text:
        return text
    try:
        value = jsonio.decode(text)
    except BadRequest:
        return text
    return value if holds_images(value) else text


def _with_thinking(record: ThinkingRecord, texts: list[Block], tools: list[Block]) -> list[Block]:
    """The turn as the model wrote it: thinking blocks between the very texts and calls that they stood between.

    Where the client's turn no longer fits the record, thinking comes first.
    """
    thinking = [dict(block) for block in record.blocks if block["type"] in {"thinking", "redacted_thinking"}]
    whole = "".join(block["text"] for block in texts)
    chars = sum(block["chars"] for block in record.blocks if block["type"] == "text")
    calls = [block["id"] for block in record.blocks if block["type"] == "tool_use"]
    if len(whole) != chars or len(calls) != len(tools):
        return [*thinking, *texts, *tools]
    return list(_laid_out(record, whole, tools))


def _laid_out(record: ThinkingRecord, whole: str, tools: list[Block]) -> Iterator[Block]:
    start = 0
    ahead = iter(tools)
    for block in record.blocks:
        if block["type"] == "text":
            text = whole[start : start + block["chars"]]
            start += block["chars"]
            if text.strip():
                yield text_block(text)
        elif block["type"] == "tool_use":
            yield next(ahead)
        else:
            yield dict(block)
