"""OpenAI's `tools` and `tool_choice` as neutral ones: the client's half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.errors import BadRequest
from compat.protocols.marks import mark_of
from compat.protocols.request import Choice, Freeform, Function, Hosted, Tool

MAX_TOOLS = 10_000
"""Of a request: the most that Anthropic takes, with a search over them; OpenAI takes 128."""

_ONE_OF = "'tool_choice' must be 'auto', 'none', 'required' or a function of the tools."
_SIMPLE: Mapping[str, Choice] = {
    "auto": Choice("auto"),
    "none": Choice("none"),
    "required": Choice("any"),
    "any": Choice("any"),
}


def read_tools(tools: Any) -> tuple[Tool, ...]:
    """The tools. Errors: `BadRequest`."""
    if not isinstance(tools, list):
        raise BadRequest("'tools' must be a list.", param="tools")
    if len(tools) > MAX_TOOLS:
        raise BadRequest(f"'tools' has more than {MAX_TOOLS} tools.", param="tools")
    return tuple(_tool(tool, f"tools[{position}]") for position, tool in enumerate(tools))


def _tool(tool: Any, place: str) -> Tool:
    if not isinstance(tool, dict):
        raise BadRequest(f"{place} must be an object.", param=place)
    kind, function, custom = tool.get("type", "function"), tool.get("function"), tool.get("custom")
    cache = mark_of(tool)
    if kind == "custom" and isinstance(custom, dict):
        name, description = _described(custom, f"{place}.custom")
        return Freeform(place, name, description, custom.get("format"), cache=cache)
    if kind != "function":
        own_name = tool.get("name")
        rest = {key: value for key, value in tool.items() if key != "cache_control"}
        return Hosted(place, str(kind), own_name if isinstance(own_name, str) else "", rest, cache)
    if not isinstance(function, dict):
        raise BadRequest(f"{place}.function must be an object.", param=place)
    name, description = _described(function, f"{place}.function")
    parameters, strict = function.get("parameters"), function.get("strict")
    if parameters is not None and not isinstance(parameters, dict):
        raise BadRequest(f"{place}.function.parameters must be an object.", param=place)
    return Function(place, name, description, parameters, None if strict is None else bool(strict), cache=cache or mark_of(function))


def _described(function: Mapping[str, Any], where: str) -> tuple[str, str]:
    name, description = function.get("name"), function.get("description")
    place = where.partition(".")[0]
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{where}.name must be a string.", param=place)
    if description is not None and not isinstance(description, str):
        raise BadRequest(f"{where}.description must be a string.", param=place)
    return name, description or ""


def read_choice(choice: Any) -> Choice:
    """The choice among them. Errors: `BadRequest`."""
    if isinstance(choice, str):
        simple = _SIMPLE.get(choice)
        if simple is not None:
            return simple
    elif isinstance(choice, dict):
        kind = choice.get("type")
        name = as_object(choice.get("function")).get("name") or choice.get("name")
        if kind in ("function", "tool") and isinstance(name, str) and name:
            return Choice("one", name)
        if kind in ("auto", "none", "any", "required"):
            return read_choice(kind)
        if kind == "allowed_tools":
            allowed = as_object(choice.get("allowed_tools"))
            mode = read_choice(allowed.get("mode") or "auto")
            return Choice(mode.kind, mode.name, _names_in(allowed.get("tools")))
    raise BadRequest(_ONE_OF, param="tool_choice")


def _names_in(rows: Any) -> frozenset[str]:
    """The names that a choice of kind `allowed_tools` leaves."""
    if not isinstance(rows, list):
        return frozenset()
    return frozenset(str(as_object(as_object(row).get("function")).get("name") or as_object(row).get("name")) for row in rows)


def as_object(value: Any) -> Mapping[str, Any]:
    """`value`, or an empty object in place of anything else."""
    return value if isinstance(value, dict) else {}
