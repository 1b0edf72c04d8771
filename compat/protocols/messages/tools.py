"""Tools and the choice among them, for this upstream (docs/translation.md, rules 5 and 6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compat.config.catalog import MessagesFacts
from compat.errors import BadRequest, Unsupported
from compat.protocols.freeform import as_function
from compat.protocols.marks import marker
from compat.protocols.messages.content import Block
from compat.protocols.messages.schema import COMBINATORS, folded
from compat.protocols.names import fit_name
from compat.protocols.notes import Notes
from compat.protocols.request import Choice, Freeform, Function, Hosted, Request, Tool

_SERVER_TOOL = re.compile(r"[a-z_]+_\d{8}")
_NO_PROPERTIES: Mapping[str, Any] = {"properties": {}}


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools for the upstream, its choice among them, and upstream name -> client's name where they differ."""

    tools: list[Block] = field(default_factory=list)
    choice: Block | None = None
    client_names: Mapping[str, str] = field(default_factory=dict)


def toolbox_of(request: Request, facts: MessagesFacts, notes: Notes, *, is_thinking_enabled: bool, used_names: Iterable[str]) -> Toolbox:
    """The toolbox of a request. `used_names` are tools of its history, which the upstream wants to know.

    Errors: `BadRequest`, `Unsupported`.
    """
    blocks: dict[str, Block] = {}
    client_names: dict[str, str] = {}
    choice, name = request.choice, request.name("choice")
    allowed = None if choice is None else choice.allowed
    for tool in request.tools:
        if _is_left_out(tool):
            if isinstance(tool, Hosted):
                notes.add("dropped", f"tool({tool.name or tool.what})")
            continue
        if isinstance(tool, Freeform) and tool.name in request.shapes:
            tool = as_function(tool)  # noqa: PLW2901  # the client's half makes its calls what they were
        block = _tool(tool, notes)
        if allowed is not None and tool.name not in allowed:
            notes.add("dropped", f"tool({tool.name})")
            continue
        if block["name"] in blocks:
            notes.add("dropped", f"duplicate_tool({tool.name})")
            continue
        blocks[block["name"]] = block
        if block["name"] != tool.name:
            client_names[block["name"]] = tool.name
    if not blocks:
        if request.tools and allowed is not None:
            raise BadRequest(f"'{name}' allows none of the tools.", param=name)
        if choice is not None and choice.kind in ("any", "one"):
            notes.add("dropped", name)
        return _stand_ins(used_names, notes)
    picked = _picked(choice, name, facts, notes, is_thinking_enabled=is_thinking_enabled, names=blocks)
    if request.parallel is False and picked.get("type") != "none":
        picked = {"type": "auto", **picked, "disable_parallel_tool_use": True}
    return Toolbox(list(blocks.values()), picked or None, client_names)


def _is_left_out(tool: Tool) -> bool:
    """Whether the call does without a tool: another service's own, or one that no search has found so far."""
    return (tool.is_optional and not _is_own(tool)) if isinstance(tool, Hosted) else tool.is_deferred


def _is_own(tool: Hosted) -> bool:
    return bool(tool.name) and _SERVER_TOOL.fullmatch(tool.what) is not None


def _stand_ins(used_names: Iterable[str], notes: Notes) -> Toolbox:
    """Tools that the history used and the request no longer offers: the upstream refuses a history with unknown ones."""
    names = sorted({fit_name(name) for name in used_names})
    if not names:
        return Toolbox()
    notes.add("added", f"tools({len(names)})")
    return Toolbox([{"name": name, "input_schema": {"type": "object"}} for name in names], {"type": "none"})


def _tool(tool: Tool, notes: Notes) -> Block:
    block = _function(tool, notes) if isinstance(tool, Function) else _hosted(tool)
    if tool.cache is not None:
        block["cache_control"] = marker(tool.cache)
    return block


def _function(tool: Function, notes: Notes) -> Block:
    if tool.strict:
        notes.add("dropped", "strict")
    block: Block = {"name": fit_name(tool.name)}
    if tool.description:
        block["description"] = tool.description
    block["input_schema"] = input_schema(tool.schema or _NO_PROPERTIES, f"{tool.where}.parameters", notes)
    return block


def _hosted(tool: Freeform | Hosted) -> Block:
    """A tool of the upstream's own, in its words."""
    what = "custom" if isinstance(tool, Freeform) else tool.what
    if isinstance(tool, Freeform) or not _is_own(tool):
        raise Unsupported(f"{tool.where}: tools of type '{what[:50]}' are not supported by this model.", param=tool.where)
    return {**tool.value}


def input_schema(parameters: Mapping[str, Any], what: str, notes: Notes) -> Block:
    """The schema of a tool's input: an object at its top, alternatives there folded into one (the API refuses them)."""
    if any(key in parameters for key in COMBINATORS):
        notes.add("simplified", what)
        parameters = folded(parameters)
    return {"type": "object", **parameters, **({"type": "object"} if parameters.get("type") != "object" else {})}


def _picked(
    choice: Choice | None, name: str, facts: MessagesFacts, notes: Notes, *, is_thinking_enabled: bool, names: Mapping[str, Block]
) -> Block:
    if choice is None:
        return {}
    if choice.kind == "one" and fit_name(choice.name) not in names:
        raise BadRequest(f"'{name}' names a function that is not among the tools.", param=name)
    is_refused = facts.forced_tools == "never" or (facts.forced_tools == "unless_enabled" and is_thinking_enabled)
    if choice.kind in {"any", "one"} and is_refused:
        notes.add(name, "auto")
        return {"type": "auto"}
    return {"type": "tool", "name": fit_name(choice.name)} if choice.kind == "one" else {"type": choice.kind}
