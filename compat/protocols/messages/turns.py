"""Turns as Anthropic's `system` and `messages`.

Turns alternate; all that lies between two assistant messages becomes one user message, tool results first (rule 3). Every tool call gets
its result and every result has its call (rule 4). Leading system messages become `system`, later ones stay where they are (rule 13). Kept
thinking goes back to where it was (rule 7). A turn is translated by what precedes it only, so that a longer history begins with the same
bytes (rule 27). Rules are those of docs/translation.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from compat.errors import BadRequest, Unsupported
from compat.protocols.arguments import arguments_object
from compat.protocols.base import ThinkingRecord
from compat.protocols.freeform import wrapped
from compat.protocols.marks import marker
from compat.protocols.messages.content import Block, content_block, mark_last, text_block
from compat.protocols.messages.thinking import restored
from compat.protocols.names import fit_id, fit_name
from compat.protocols.notes import Notes
from compat.protocols.pairing import MISSING, STRAY, Pairing
from compat.protocols.request import CONTINUE, OPENING, Role, Text, Thinking, ToolCall, ToolResult, Turn

Unsealed = Callable[[Thinking], Block | None]
"""The block behind a thought that a client kept for this very model."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """`system` blocks, `messages`, and the client's names of the tools in them."""

    system: list[Block]
    messages: list[Block]
    tool_names: tuple[str, ...]


def tool_call_ids(turns: Sequence[Turn]) -> list[str]:
    """The ids of all tool calls of a history, as the client wrote them."""
    return [block.call_id for turn in turns if turn.role == "assistant" for block in turn.blocks if isinstance(block, ToolCall)]


def write_turns(
    history: Sequence[Turn],
    records: Mapping[str, ThinkingRecord],
    notes: Notes,
    *,
    system_in_middle: bool,
    prefill: bool,
    restores: Collection[str] = (),
    unsealed: Unsealed | None = None,
) -> Conversation:
    """The conversation. `records` is kept thinking by tool-call id, `restores` are freeform tools that may be functions, `unsealed` opens
    thoughts that the client kept. Errors: `Unsupported`."""
    system: list[Block] = []
    turns = _Turns(notes, records, system_in_middle, restores, unsealed)
    is_leading = True
    for turn in history:
        is_leading = is_leading and turn.role == "system"
        if is_leading:
            system += turns.words(turn)
        else:
            _HANDLERS[turn.role](turns, turn)
    return Conversation(system, turns.finish(prefill=prefill), tuple(turns.tool_names))


@dataclass(frozen=True, slots=True)
class _SystemWords:
    """A system message in the middle, as blocks, and where the client has it."""

    blocks: list[Block]
    position: int


@dataclass(slots=True)
class _Turns:
    """The turns so far. Mutable: all but the first five fields.

    `calls` are those of the last assistant message that have no result yet. `results` and `rest` gather what lies between two assistant
    messages. `restored_by` is which call each record was put back with, by the record's calls.
    """

    notes: Notes
    records: Mapping[str, ThinkingRecord]
    system_in_middle: bool
    restores: Collection[str]
    unsealed: Unsealed | None
    messages: list[Block] = field(default_factory=list)
    tool_names: dict[str, None] = field(default_factory=dict)
    calls: Pairing | None = None
    results: list[Block] = field(default_factory=list)
    rest: list[Block | _SystemWords] = field(default_factory=list)
    restored_by: dict[tuple[str, ...], str] = field(default_factory=dict)

    def user(self, turn: Turn) -> None:
        """A user's message, or results of tools."""
        if turn.name:
            self.notes.add("dropped", "name")
        last: Block | None = None
        for block in turn.blocks:
            if isinstance(block, ToolResult):
                last = self._result(block, turn.position)
            elif (written := content_block(block, self.notes)) is not None:
                last = written
                self.rest.append(written)
        if last is None:
            self.notes.add("dropped", f"empty@{turn.position}")
        elif turn.cache is not None:
            last["cache_control"] = marker(turn.cache)

    def system(self, turn: Turn) -> None:
        """A system message in the middle, which stays where it is."""
        blocks = self.words(turn)
        if blocks:
            self.rest.append(_SystemWords(blocks, turn.position))

    def words(self, turn: Turn) -> list[Block]:
        """The blocks of a system message."""
        blocks, _, _, _ = self._said(turn)
        if not blocks:
            self.notes.add("dropped", f"empty@{turn.position}")
        mark_last(blocks, turn.cache)
        return blocks

    def assistant(self, turn: Turn) -> None:
        """The model's own turn: thinking, text, tool calls."""
        texts, calls, has_reasoning, own = self._said(turn)
        if not texts and not calls:
            self.notes.add("dropped", f"empty@{turn.position}")
            return
        self._flush_user()
        tools = [self._tool_use(call) for call in calls]
        record = own or self._record()
        blocks = [*texts, *tools]
        if record is not None:
            blocks = restored(record, texts, tools)
            self.notes.add("thinking", "restored")
        elif has_reasoning:
            self.notes.add("thinking", "omitted")
        mark_last(blocks, turn.cache)
        if not self.messages:
            self.notes.add("added", "user@0")
            self.messages.append({"role": "user", "content": [text_block(OPENING)]})
        self._append("assistant", blocks)

    def finish(self, *, prefill: bool) -> list[Block]:
        """All messages; the last one is the user's, unless the model takes a prefill."""
        self._flush_user()
        if not self.messages:
            self.notes.add("added", "user@0")
            self.messages.append({"role": "user", "content": [text_block(OPENING)]})
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
        for ours in self.calls.given_up() if self.calls is not None else ():
            self.notes.add("added", "tool_result")
            self.results.append({"type": "tool_result", "tool_use_id": ours, "is_error": True, "content": MISSING})
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
        self.results, self.rest = [], []

    def _said(self, turn: Turn) -> tuple[list[Block], list[ToolCall], bool, ThinkingRecord | None]:
        """The texts and the calls of a turn that has no other content, whether there was thinking beside them, and where thoughts stood
        among them that the upstream takes back."""
        texts: list[Block] = []
        calls: list[ToolCall] = []
        order: list[Block] = []
        has_own = False
        has_reasoning = False
        for block in turn.blocks:
            if isinstance(block, ToolCall):
                calls.append(block)
                order.append({"type": "tool_use", "id": block.call_id})
            elif isinstance(block, Text):
                written = content_block(block, self.notes)
                if written is not None:
                    texts.append(written)
                    order.append({"type": "text", "chars": len(block.text)})
            elif not isinstance(block, Thinking):
                self.notes.add("dropped", block.where)
            elif self.unsealed is not None and (thought := self.unsealed(block)) is not None:
                order.append(thought)
                has_own = True
            elif block.is_beside:
                has_reasoning = True
            else:
                self.notes.add("thinking", "omitted")
        return texts, calls, has_reasoning, ThinkingRecord((), tuple(order)) if has_own else None

    def _result(self, result: ToolResult, position: int) -> Block:
        """Take the result of a tool call; one without a call becomes the user's words. The last block of what it became."""
        blocks = self._result_blocks(result)
        ours = self.calls.taken(result.call_id) if self.calls is not None else None
        if ours is None:
            self.notes.add("moved", f"stray_result@{position}")
            blocks.insert(0, text_block(STRAY))
            mark_last(blocks, result.cache)
            self.rest += blocks
            return blocks[-1]
        written: Block = {"type": "tool_result", "tool_use_id": ours}
        if result.is_error:
            written["is_error"] = True
        marks = [block.pop("cache_control") for block in blocks if "cache_control" in block]
        if blocks:
            written["content"] = blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks
        if result.cache is not None:
            written["cache_control"] = marker(result.cache)
        elif marks:
            written["cache_control"] = marks[0]
        self.results.append(written)
        return written

    def _result_blocks(self, result: ToolResult) -> list[Block]:
        if result.written:
            with contextlib.suppress(BadRequest):  # it is what a tool printed, then
                return [written for block in result.blocks if (written := content_block(block, self.notes)) is not None]
            return [text_block(result.written)]
        return [written for block in result.blocks if (written := content_block(block, self.notes)) is not None]

    def _append(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def _tool_use(self, call: ToolCall) -> Block:
        if call.kind == "freeform" and call.name in self.restores:
            call = msgspec.structs.replace(call, kind="function", arguments=wrapped(call))
        if call.kind != "function":
            raise Unsupported(f"{call.where} must be a call of a function.", param=call.where)
        self.tool_names[call.name] = None
        if self.calls is None:
            self.calls = Pairing(fit_id)
        ours = self.calls.opened(call.call_id)
        block: Block = {"type": "tool_use", "id": ours, "name": fit_name(call.name), "input": arguments_object(call, self.notes)}
        if call.cache is not None:
            block["cache_control"] = marker(call.cache)
        return block

    def _record(self) -> ThinkingRecord | None:
        """The thinking that led to the calls of this message; once only where a client made several messages of one turn."""
        for client_id in self.calls.waiting.values() if self.calls is not None else ():
            record = self.records.get(client_id)
            if record is not None:
                is_first = self.restored_by.setdefault(record.tool_call_ids, client_id) == client_id
                return record if is_first else None
        return None


_HANDLERS: Mapping[Role, Callable[[_Turns, Turn], None]] = {
    "user": _Turns.user,
    "system": _Turns.system,
    "assistant": _Turns.assistant,
}
