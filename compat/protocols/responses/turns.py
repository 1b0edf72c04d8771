"""Turns as items of the Responses API's `input`.

Instructions are `developer` messages and stay where they are (rule 30). Calls of a turn stand together, preceded by the reasoning that led
to them, which is kept for clients that don't send it back (rule 31); their outputs follow at once, and after these whatever else the client
says. Every call gets its output and every output has its call (rule 4). An item is written by what precedes it only (rule 27). Rules are
those of docs/translation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from compat.errors import BadRequest
from compat.protocols.arguments import arguments_text
from compat.protocols.base import ThinkingRecord
from compat.protocols.names import digest_of, fit_id, fit_name
from compat.protocols.notes import Notes
from compat.protocols.pairing import MISSING, STRAY, Pairing
from compat.protocols.request import CONTINUE, Block, CacheMark, CallKind, Role, Text, Thinking, ToolCall, ToolResult, Turn
from compat.protocols.responses.content import Part, input_part, input_text
from compat.protocols.responses.input_items import OPENING
from compat.protocols.responses.parts import API
from compat.protocols.served import as_call

Item: TypeAlias = dict[str, Any]

_MAX_ID = 56
"""Of 64 characters: equal ids get a number behind them."""
_CALLS: Mapping[CallKind, tuple[str, str, str]] = {
    "function": ("function_call", "arguments", "function_call_output"),
    "freeform": ("custom_tool_call", "input", "custom_tool_call_output"),
}
"""Kind of a call -> its item's type, what it is called with, and its output's type."""


@dataclass(frozen=True, slots=True)
class History:
    """The items, the parts that are worth a breakpoint (the client's marks, in their order), and the last part of the instructions that
    the conversation begins with."""

    items: list[Item]
    marked: list[Part]
    opening: Part | None


def tool_call_ids(turns: Sequence[Turn]) -> list[str]:
    """The ids of all tool calls of a history, as the client wrote them."""
    return [block.call_id for turn in turns if turn.role == "assistant" for block in turn.blocks if isinstance(block, ToolCall)]


def write_turns(turns: Sequence[Turn], records: Mapping[str, ThinkingRecord], notes: Notes) -> History:
    """The history. `records` is kept reasoning by tool-call id. Errors: `Unsupported`."""
    written = _Items(notes, records)
    for turn in turns:
        _HANDLERS[turn.role](written, turn)
    written.finish()
    return History(written.items, written.marked, written.opening)


def fitted_id(call_id: str) -> str:
    """A call's id as the API takes it: 64 characters at most; distinct ids stay distinct."""
    fit = fit_id(call_id)
    if len(fit) <= _MAX_ID:
        return fit
    digest = digest_of(call_id, 8)
    return f"{fit[: _MAX_ID - len(digest) - 1]}-{digest}"


@dataclass(slots=True)
class _Items:
    """The items so far. Mutable: all but the first two fields.

    `outputs` and `rest` gather what lies between two of the model's turns, `kinds` those of the calls that wait for an output.
    `restored_by` is which call each record was put back with, by the record's calls.
    """

    notes: Notes
    records: Mapping[str, ThinkingRecord]
    items: list[Item] = field(default_factory=list)
    marked: list[Part] = field(default_factory=list)
    opening: Part | None = None
    calls: Pairing = field(default_factory=lambda: Pairing(fitted_id))
    kinds: dict[str, CallKind] = field(default_factory=dict)
    outputs: list[Item] = field(default_factory=list)
    rest: list[Item] = field(default_factory=list)
    restored_by: dict[tuple[str, ...], str] = field(default_factory=dict)
    is_opening: bool = True

    def user(self, turn: Turn) -> None:
        """A user's message, or outputs of tools."""
        self.is_opening = False
        parts: list[Part] = []
        is_empty = True
        for block in turn.blocks:
            if isinstance(block, ToolResult):
                self._output(block, turn.position)
                is_empty = False
            elif (part := self._part(block)) is not None:
                parts.append(part)
        self._message("user", parts, turn, is_empty=is_empty)

    def system(self, turn: Turn) -> None:
        """Instructions, which stay where they are."""
        parts = []
        for block in turn.blocks:
            if isinstance(block, Text):
                if (part := self._part(block)) is not None:
                    parts.append(part)
            else:
                self.notes.add("dropped", block.where)
        self._message("developer", parts, turn)
        if self.is_opening and parts:
            self.opening = parts[-1]

    def assistant(self, turn: Turn) -> None:
        """The model's own turn: reasoning, text, tool calls."""
        self.is_opening = False
        blocks = [
            block for block in map(as_call, turn.blocks) if not isinstance(block, Text) or block.is_refusal or not block.text.isspace()
        ]
        if not any(isinstance(block, Text | ToolCall) for block in blocks):
            self.notes.add("dropped", f"empty@{turn.position}")
            return
        self._flush()
        if turn.name:
            self.notes.add("dropped", "name")
        record = self._record(block for block in blocks if isinstance(block, ToolCall))
        has_own = False
        items: list[Item] = []
        for block in blocks:
            if isinstance(block, ToolCall):
                items.append(self._call(block))
            elif isinstance(block, ToolResult):
                self._output(block, turn.position)
                items += self.outputs
                self.outputs = []
            elif isinstance(block, Text):
                items.append(_said(block, turn.more))
            elif isinstance(block, Thinking) and block.origin == API and isinstance(block.value, dict):
                has_own = True
                items.append({**block.value})
            elif not isinstance(block, Thinking):
                self.notes.add("dropped", block.where)
        if record is not None and not has_own:
            items = restored(record, items)
            self.notes.add("thinking", "restored")
        elif not has_own and any(isinstance(block, Thinking) for block in blocks):
            self.notes.add("thinking", "omitted")
        while items[-1]["type"] == "reasoning":  # something of its turn has to follow it
            items.pop()
        self.items += items

    def finish(self) -> None:
        """The end of the history, which is the client's."""
        self._flush()
        if not self.items or self.items[-1].get("role") == "assistant":
            if self.items:
                self.notes.add("prefill", "continue")
            else:
                self.notes.add("added", "user@0")
            words = CONTINUE if self.items else OPENING
            self.items.append({"type": "message", "role": "user", "content": [input_text(words)]})

    def _flush(self) -> None:
        """End the client's part of a round: outputs, then outputs that are missing, then the rest in its order."""
        for ours in self.calls.given_up():
            self.notes.add("added", "tool_result")
            self.outputs.append({"type": _CALLS[self.kinds[ours]][2], "call_id": ours, "output": MISSING})
        self.items += self.outputs
        self.items += self.rest
        self.outputs, self.rest = [], []

    def _message(self, role: str, parts: list[Part], turn: Turn, *, is_empty: bool = True) -> None:
        if turn.name:
            self.notes.add("dropped", "name")
        if parts:
            self.rest.append({"type": "message", "role": role, "content": parts})
            self._mark(parts[-1], turn.cache)
        elif is_empty:
            self.notes.add("dropped", f"empty@{turn.position}")

    def _part(self, block: Block) -> Part | None:
        """A part of the client's words, marked where the client marks it."""
        part = input_part(block, self.notes)
        if part is not None:
            self._mark(part, block.cache)  # type: ignore[union-attr]  # those that are here have one
        return part

    def _mark(self, part: Part, mark: CacheMark | None) -> None:
        if mark is not None and not (self.marked and self.marked[-1] is part):
            self.marked.append(part)

    def _output(self, result: ToolResult, position: int) -> None:
        """Take the output of a tool call; one without a call becomes the user's words."""
        parts = self._output_parts(result)
        ours = self.calls.taken(result.call_id)
        if ours is None:
            self.notes.add("moved", f"stray_result@{position}")
            self.rest.append({"type": "message", "role": "user", "content": [input_text(STRAY), *parts]})
            return
        if result.is_error:
            parts.insert(0, input_text("[error]"))
        is_text = all(part["type"] == "input_text" for part in parts)
        output = "\n".join(part["text"] for part in parts) if is_text else parts
        self.outputs.append({"type": _CALLS[self.kinds[ours]][2], "call_id": ours, "output": output})

    def _output_parts(self, result: ToolResult) -> list[Part]:
        try:
            return [part for block in result.blocks if (part := input_part(block, self.notes)) is not None]
        except BadRequest:
            if not result.written:
                raise
            return [input_text(result.written)]  # it is what a tool printed, then

    def _call(self, call: ToolCall) -> Item:
        ours = self.calls.opened(call.call_id)
        kind, key, _ = _CALLS[call.kind]
        self.kinds[ours] = call.kind
        arguments = str(call.arguments or "") if call.kind == "freeform" else arguments_text(call)
        item = {"type": kind, "call_id": ours, "name": fit_name(call.name), key: arguments}
        return {**item, "namespace": call.namespace} if call.namespace else item

    def _record(self, calls: Iterator[ToolCall]) -> ThinkingRecord | None:
        """The reasoning that led to the calls of this message; once only where a client made several messages of one turn."""
        for call in calls:
            record = self.records.get(call.call_id)
            if record is not None:
                is_first = self.restored_by.setdefault(record.tool_call_ids, call.call_id) == call.call_id
                return record if is_first else None
        return None


def _said(text: Text, more: Mapping[str, Any]) -> Item:
    """What the model said, as one message. Its phase is the API's own word, which some clients keep."""
    part = {"type": "refusal", "refusal": text.text} if text.is_refusal else {"type": "output_text", "text": text.text}
    phase = more.get("phase")
    item = {"type": "message", "role": "assistant", "content": [part]}
    return {**item, "phase": phase} if isinstance(phase, str) else item


def restored(record: ThinkingRecord, items: Sequence[Item]) -> list[Item]:
    """The turn as the model wrote it: reasoning between the very messages and calls that it stood between.

    Clients make one text of several messages, trim it and leave it out. Where the client's turn fits the record no longer, the reasoning
    comes first.
    """
    texts = [item for item in items if item["type"] == "message"]
    calls = [item for item in items if item["type"] != "message"]
    marks = [block for block in record.blocks if block["type"] == "text"]
    whole = "".join(item["content"][0].get("text", "") for item in texts)
    chars = [mark["chars"] for mark in marks]
    if len(marks) == 1:
        chars = [len(whole)]
    count = sum(block["type"] == "tool_use" for block in record.blocks)
    if count != len(calls) or (whole and len(whole) != sum(chars)) or len(texts) > len(marks):
        return [*(dict(block) for block in record.blocks if block["type"] == "reasoning"), *items]
    return list(_laid_out(record, whole, chars, calls))


def _laid_out(record: ThinkingRecord, whole: str, chars: Sequence[int], calls: Sequence[Item]) -> Iterator[Item]:
    start = 0
    sizes, ahead = iter(chars), iter(calls)
    for block in record.blocks:
        if block["type"] == "text":
            end = start + next(sizes)
            text, start = whole[start:end], end
            if text and not text.isspace():
                yield _said(Text("", text), block)
        elif block["type"] == "tool_use":
            yield next(ahead)
        else:
            yield dict(block)


_HANDLERS: Mapping[Role, Callable[[_Items, Turn], None]] = {
    "user": _Items.user,
    "system": _Items.system,
    "assistant": _Items.assistant,
}
