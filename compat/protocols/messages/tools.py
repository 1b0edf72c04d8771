"""Tools, tool choice, and the names and ids that both sides must agree on.

Anthropic takes ids of `[A-Za-z0-9_-]+` and names of up to 64 of these characters. What does not fit is rewritten in a way that depends on
the name alone, so that turns stay byte-stable; answers get the client's own name back (docs/translation.md, rules 5 and 6).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compat.config.catalog import MessagesFacts
from compat.errors import BadRequest, Unsupported
from compat.protocols.messages.content import Block, marker_of
from compat.protocols.messages.schema import COMBINATORS, as_object, folded
from compat.protocols.notes import Notes

MAX_NAME = 64
MAX_TOOLS = 10_000
"""Of a request: the most that Anthropic takes, with a search over them; OpenAI takes 128."""
_KEPT_OF_NAME = MAX_NAME - 7
_KEPT_OF_ID = 48
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_SERVER_TOOL = re.compile(r"[a-z_]+_\d{8}")


def fit_name(name: str) -> str:
    """`name` as the upstream takes it; one that fits stays as it is, any other gets a suffix of its digest."""
    if name and len(name) <= MAX_NAME and _UNFIT.search(name) is None:
        return name
    digest = hashlib.blake2s(name.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    return f"{_UNFIT.sub('_', name[:_KEPT_OF_NAME])}_{digest}"


def fit_id(call_id: str) -> str:
    """A tool call's id as the upstream takes it; distinct ids stay distinct."""
    if call_id and _UNFIT.search(call_id) is None:
        return call_id
    digest = hashlib.blake2s(call_id.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{_UNFIT.sub('_', call_id[:_KEPT_OF_ID])}-{digest}"


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools for the upstream, its choice among them, and upstream name -> client's name where they differ."""

    tools: list[Block] = field(default_factory=list)
    choice: Block | None = None
    client_names: Mapping[str, str] = field(default_factory=dict)


def read_tools(
    tools: Any, choice: Any, parallel: Any, facts: MessagesFacts, notes: Notes, *, is_thinking_enabled: bool, used_names: Iterable[str]
) -> Toolbox:
    """The toolbox of a request. `used_names` are tools of its history, which the upstream wants to know.

    Errors: `BadRequest`, `Unsupported`.
    """
    if tools is not None and not isinstance(tools, list):
        raise BadRequest("'tools' must be a list.", param="tools")
    if len(tools or ()) > MAX_TOOLS:
        raise BadRequest(f"'tools' has more than {MAX_TOOLS} tools.", param="tools")
    blocks: dict[str, Block] = {}
    client_names: dict[str, str] = {}
    allowed = _allowed(choice)
    for position, tool in enumerate(tools or ()):
        name, block = _tool(tool, f"tools[{position}]", notes)
        if allowed is not None and name not in allowed:
            notes.add("dropped", f"tool({name})")
            continue
        if block["name"] in blocks:
            notes.add("dropped", f"duplicate_tool({name})")
            continue
        blocks[block["name"]] = block
        if block["name"] != name:
            client_names[block["name"]] = name
    if not blocks:
        if tools and allowed is not None:
            raise BadRequest("'tool_choice' allows none of the tools.", param="tool_choice")
        if _picked(choice).get("type") in ("any", "tool"):
            notes.add("dropped", "tool_choice")
        return _stand_ins(used_names, notes)
    picked = _choice(choice, parallel, facts, notes, is_thinking_enabled=is_thinking_enabled, names=blocks)
    return Toolbox(list(blocks.values()), picked, client_names)


def _stand_ins(used_names: Iterable[str], notes: Notes) -> Toolbox:
    """Tools that the history used and the request no longer offers: the upstream refuses a history with unknown ones."""
    names = sorted({fit_name(name) for name in used_names})
    if not names:
        return Toolbox()
    notes.add("added", f"tools({len(names)})")
    return Toolbox([{"name": name, "input_schema": {"type": "object"}} for name in names], {"type": "none"})


def _tool(tool: Any, place: str, notes: Notes) -> tuple[str, Block]:
    """The client's name of a tool, and its block."""
    if not isinstance(tool, dict):
        raise BadRequest(f"{place} must be an object.", param=place)
    kind = tool.get("type", "function")
    marker = marker_of(tool)
    function = tool.get("function")
    if kind != "function" or not isinstance(function, dict):
        if isinstance(kind, str) and _SERVER_TOOL.fullmatch(kind) and isinstance(tool.get("name"), str):  # a tool of the upstream's own
            return tool["name"], {key: value for key, value in tool.items() if key != "cache_control"} | _marked(marker)
        if kind == "function":
            raise BadRequest(f"{place}.function must be an object.", param=place)
        raise Unsupported(f"{place}: tools of type '{str(kind)[:50]}' are not supported by this model.", param=place)
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{place}.function.name must be a string.", param=place)
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise BadRequest(f"{place}.function.description must be a string.", param=place)
    if function.get("strict"):
        notes.add("dropped", "strict")
    block: Block = {"name": fit_name(name)}
    if description:
        block["description"] = description
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise BadRequest(f"{place}.function.parameters must be an object.", param=place)
    block["input_schema"] = input_schema(parameters or {"properties": {}}, f"{place}.parameters", notes)
    return name, block | _marked(marker or marker_of(function))


def _marked(marker: Block | None) -> Block:
    return {} if marker is None else {"cache_control": marker}


def input_schema(parameters: Mapping[str, Any], what: str, notes: Notes) -> Block:
    """The schema of a tool's input: an object at its top, alternatives there folded into one (the API refuses them)."""
    if any(key in parameters for key in COMBINATORS):
        notes.add("simplified", what)
        parameters = folded(parameters)
    return {"type": "object", **parameters, **({"type": "object"} if parameters.get("type") != "object" else {})}


def _allowed(choice: Any) -> set[str] | None:
    """The names that a choice of kind `allowed_tools` leaves; `None` where all are."""
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return None
    rows = as_object(choice.get("allowed_tools")).get("tools")
    if not isinstance(rows, list):
        return set()
    return {str(as_object(as_object(row).get("function")).get("name") or as_object(row).get("name")) for row in rows}


def _choice(
    choice: Any, parallel: Any, facts: MessagesFacts, notes: Notes, *, is_thinking_enabled: bool, names: Mapping[str, Block]
) -> Block | None:
    picked = _picked(choice)
    if picked.get("type") == "tool" and picked["name"] not in names:
        raise BadRequest("'tool_choice' names a function that is not among the tools.", param="tool_choice")
    is_refused = facts.forced_tools == "never" or (facts.forced_tools == "unless_enabled" and is_thinking_enabled)
    if picked.get("type") in {"any", "tool"} and is_refused:
        notes.add("tool_choice", "auto")
        picked = {"type": "auto"}
    if parallel is False and picked.get("type") != "none":
        return {"type": "auto", **picked, "disable_parallel_tool_use": True}
    return picked or None


def _picked(choice: Any) -> Block:
    if choice is None:
        return {}
    if isinstance(choice, str):
        simple = {"auto": "auto", "none": "none", "required": "any", "any": "any"}.get(choice)
        if simple is not None:
            return {"type": simple}
    elif isinstance(choice, dict):
        kind = choice.get("type")
        name = as_object(choice.get("function")).get("name") or choice.get("name")
        if kind in ("function", "tool") and isinstance(name, str) and name:
            return {"type": "tool", "name": fit_name(name)}
        if kind in ("auto", "none", "any", "required"):
            return _picked(kind)
        if kind == "allowed_tools":
            return _picked(as_object(choice.get("allowed_tools")).get("mode", "auto"))
    raise BadRequest("'tool_choice' must be 'auto', 'none', 'required' or a function of the tools.", param="tool_choice")
