"""Items of the Responses API's `input` as turns: the client's half.

    message                                     a turn of the client's, in its place; words of the model's own turn
    reasoning                                   a thought with what seals it
    function_call, custom_tool_call             calls of the model's turn, by the names that the model knows the tools by
    tool_search_call                            a call of the tool that searches
    function_call_output, ...                   results
    additional_tools, tool_search_output        tools, which join those of the request
    compaction                                  a summary of what was before

What the model made without a break is one turn, with all of its calls. A call that follows while results of earlier ones are still to come
belongs to the turn of those, and whatever the client says before these results comes after them.
Items that are not known are left out with a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.base import ShapeKind
from compat.protocols.request import Block, Role, Summary, Text, Thinking, ToolCall, ToolResult, Turn
from compat.protocols.responses.client_content import blocks_of, thought_of
from compat.protocols.responses.client_tools import SEARCH, Toolbox
from compat.protocols.responses.compaction import ITEM, TRIGGER
from compat.protocols.responses.parts import API

MAX_PIECES = 100_000
"""Of items and their parts: as many as of messages and blocks in Anthropic's protocol."""
_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_CALLS = frozenset({"function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call", "tool_search_call"})
_SHAPES: Mapping[str, tuple[ShapeKind, str]] = {
    "function_call": ("function", "arguments"),
    "custom_tool_call": ("freeform", "input"),
    "tool_search_call": ("search", "arguments"),
}
"""The shape of a call, and what it is called with."""
_OUTPUTS = frozenset({"tool_search_output", *(f"{kind}_output" for kind in _CALLS)})
_OF_PARTS = frozenset({"function_call_output", "custom_tool_call_output"})


def read_turns(items: Any, toolbox: Toolbox) -> tuple[Turn, ...]:
    """The turns of `input`; tools in them join the toolbox, and so do notes. Errors: `BadRequest`, `Unsupported`."""
    if isinstance(items, str):
        return (Turn("user", (Text("input", items),) if items else (), "input", 0),)
    if not isinstance(items, list):
        raise BadRequest("'input' must be a string or a list of items.", param="input")
    _check_size(items)
    turns = _Turns(toolbox, _balance(items))
    for position, item in enumerate(items):
        turns.take(item, position)
    return tuple(turns.finished())


def _check_size(items: Sequence[Any]) -> None:
    size = len(items)
    for item in items[:MAX_PIECES]:
        parts = (item.get("content"), item.get("output")) if isinstance(item, dict) else ()
        size += sum(len(part) for part in parts if isinstance(part, list))
    if size > MAX_PIECES:
        raise BadRequest(f"'input' has more than {MAX_PIECES} items and parts.", param="input")


def _balance(items: Sequence[Any]) -> Counter[str]:
    """Id of a call -> how many more results than calls there are of it."""
    balance: Counter[str] = Counter()
    for item in items:
        kind, call_id = (item.get("type"), item.get("call_id")) if isinstance(item, dict) else (None, None)
        if isinstance(kind, str) and isinstance(call_id, str):
            balance[call_id] += (kind in _OUTPUTS) - (kind in _CALLS)
    return balance


@dataclass(slots=True)
class _Draft:
    """A turn that is gathered. Mutable: its blocks."""

    role: Role
    position: int
    blocks: list[Block] = field(default_factory=list)


@dataclass(slots=True)
class _Turns:
    """The turns so far. Mutable: all of it.

    `balance` is how many more results than calls of an id are still to come, `last` the model's turn that more of its items join,
    `open_calls` are those of its calls whose results will follow.
    """

    toolbox: Toolbox
    balance: Counter[str]
    drafts: list[_Draft] = field(default_factory=list)
    last: _Draft | None = None
    open_calls: set[str] = field(default_factory=set)

    def take(self, item: Any, position: int) -> None:
        """The next item."""
        where = f"input[{position}]"
        if not isinstance(item, dict):
            raise BadRequest(f"{where} must be an object.", param=where)
        kind = item.get("type", "message")
        if not isinstance(kind, str):
            raise BadRequest(f"{where}.type must be a string.", param=f"{where}.type")
        if kind in _CALLS:
            self._call(item, kind, position)
        elif kind in _OUTPUTS:
            self._output(item, kind, position)
        elif kind in _READERS:
            _READERS[kind](self, item, position)
        else:
            self.toolbox.notes.add("dropped", f"item({kind})")

    def finished(self) -> list[Turn]:
        """All turns."""
        return [Turn(one.role, tuple(one.blocks), f"input[{one.position}]", one.position) for one in self.drafts]

    def _models(self, position: int) -> _Draft:
        """The model's turn that an item at this place belongs to."""
        if self.last is None or not (self.drafts[-1] is self.last or self.open_calls):
            self.last = _Draft("assistant", position)
            self.drafts.append(self.last)
        return self.last

    def _message(self, item: Mapping[str, Any], position: int) -> None:
        where = f"input[{position}]"
        role = _ROLES.get(_text(item, "role"))
        if role is None:
            raise BadRequest(f"{where}.role must be one of {', '.join(_ROLES)}.", param=f"{where}.role")
        blocks = list(blocks_of(item.get("content"), f"{where}.content"))
        if role == "assistant":
            self._models(position).blocks += blocks
        else:
            self.drafts.append(_Draft(role, position, blocks))

    def _reasoning(self, item: Mapping[str, Any], position: int) -> None:
        seal = item.get("encrypted_content")
        thought = Thinking(f"input[{position}]", thought_of(item), seal if isinstance(seal, str) else "", origin=API, value=item)
        self._models(position).blocks.append(thought)

    def _call(self, item: Mapping[str, Any], kind: str, position: int) -> None:
        where, call_id = f"input[{position}]", _text(item, "call_id") or _text(item, "id")
        name, namespace = _text(item, "name"), _text(item, "namespace")
        shape, key = _SHAPES.get(kind, ("function", "action"))
        if shape == "search":
            if item.get("execution") == "server":  # what it found is in its output
                return
            name, namespace = SEARCH, ""
        elif kind not in _SHAPES:
            name = kind.removesuffix("_call")
            key = key if key in item else "operation"
        if not name:
            raise BadRequest(f"Missing required parameter: '{where}.name'.", param=f"{where}.name", code="missing_required_parameter")
        known, arguments = self.toolbox.called(name, namespace, shape), item.get(key)
        if shape == "freeform":
            arguments = "" if arguments is None else arguments if isinstance(arguments, str) else str(jsonio.encode(arguments), "utf-8")
        call = ToolCall(where, call_id, known, arguments, "freeform" if shape == "freeform" else "function")
        self._models(position).blocks.append(call)
        if self.balance[call_id] >= 0:
            self.open_calls.add(call_id)
        self.balance[call_id] += 1

    def _output(self, item: Mapping[str, Any], kind: str, position: int) -> None:
        where, call_id = f"input[{position}]", _text(item, "call_id")
        self.balance[call_id] -= 1
        self.open_calls.discard(call_id)
        if kind == "tool_search_output":
            tools = item.get("tools")
            names = self.toolbox.found(tools if isinstance(tools, list) else [], f"{where}.tools")
            if item.get("execution") == "server":
                return
            blocks: tuple[Block, ...] = (Text(where, f"Tools loaded: {', '.join(names) or 'none'}."),)
        else:
            output = item.get("output")
            if kind not in _OF_PARTS and isinstance(output, list):  # of commands: what each of them printed
                output = str(jsonio.encode(output), "utf-8")
            blocks = tuple(blocks_of(output, f"{where}.output"))
        is_freeform = kind == "custom_tool_call_output"
        result = ToolResult(where, call_id, blocks, kind="freeform" if is_freeform else "function")
        self.drafts.append(_Draft("user", position, [result]))

    def _more_tools(self, item: Mapping[str, Any], position: int) -> None:
        self.toolbox.add(item.get("tools"), f"input[{position}].tools")

    def _summary(self, item: Mapping[str, Any], position: int) -> None:
        self.drafts.append(_Draft("user", position, [Summary(f"input[{position}]", _text(item, "encrypted_content"))]))

    def _reference(self, item: Mapping[str, Any], position: int) -> None:
        raise BadRequest(
            f"Item with id '{_text(item, 'id')[:100]}' not found. Items are not persisted when `store` is set to false. Try again with"
            " `store` set to true, or remove this item from your input.",
            status=404,
            param=f"input[{position}]",
        )


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


_READERS: Mapping[str, Callable[[_Turns, Mapping[str, Any], int], None]] = {
    "message": _Turns._message,
    "reasoning": _Turns._reasoning,
    "additional_tools": _Turns._more_tools,
    "item_reference": _Turns._reference,
    ITEM: _Turns._summary,
    TRIGGER: lambda *_: None,
}
