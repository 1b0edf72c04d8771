"""Tools in Anthropic's words as neutral ones: the client's half.

A typed tool that the client runs (`bash_20250124`) is trained into Claude: its request names no schema. Any other model gets the one that
Anthropic documents, and calls it as any function. Tools that Anthropic's servers run stay what they are: `Hosted`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from compat.errors import BadRequest
from compat.protocols.base import SearchTool
from compat.protocols.marks import mark_of
from compat.protocols.request import Choice, Function, Hosted, Tool

MAX_TOOLS = 10_000
"""The most that Anthropic takes, with a search over them."""

SEARCH = "web_search_"
"""How the types of Anthropic's own search of the web begin."""
MAX_DOMAINS = 100

_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_PAIR = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}


def _object(properties: Mapping[str, Any], *required: str) -> Mapping[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def _one_of(*words: str) -> Mapping[str, Any]:
    return {"type": "string", "enum": list(words)}


_CHANGES = ("view", "create", "str_replace", "insert")
_EDITS: Mapping[str, Any] = {
    "command": _one_of(*_CHANGES),
    "path": _TEXT,
    "file_text": _TEXT,
    "old_str": _TEXT,
    "new_str": _TEXT,
    "insert_line": _NUMBER,
    "insert_text": _TEXT,
    "view_range": _PAIR,
}
_POINTER: Mapping[str, Any] = {
    "action": _one_of(
        *("key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click", "double_click", "triple_click"),
        *("left_mouse_down", "left_mouse_up", "screenshot", "cursor_position", "scroll", "hold_key", "wait", "zoom"),
    ),
    "coordinate": _PAIR,
    "start_coordinate": _PAIR,
    "text": _TEXT,
    "scroll_direction": _one_of("up", "down", "left", "right"),
    "scroll_amount": _NUMBER,
    "duration": {"type": "number"},
    "region": {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4},
}
_TYPED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bash": (
        "Run a command in a persistent bash session; restart the session with `restart`.",
        _object({"command": _TEXT, "restart": {"type": "boolean"}}),
    ),
    "text_editor": ("View, create and edit text files.", _object(_EDITS, "command", "path")),
    "memory": (
        "Keep notes in files below /memories, which outlive the conversation.",
        _object({**_EDITS, "command": _one_of(*_CHANGES, "delete", "rename"), "old_path": _TEXT, "new_path": _TEXT}, "command"),
    ),
    "computer": ("Use the computer's screen, mouse and keyboard. Coordinates are pixels.", _object(_POINTER, "action")),
}
"""By the type without its date (platform.claude.com, "Tool reference", November 2026)."""


def read_tools(tools: Any, found: Collection[str]) -> tuple[Tool, ...]:
    """The tools; `found` are deferred ones that are deferred no longer. Errors: `BadRequest`."""
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise BadRequest("tools: Input should be a valid list", param="tools")
    if len(tools) > MAX_TOOLS:
        raise BadRequest(f"tools: there are more than {MAX_TOOLS} tools", param="tools")
    return tuple(_tool(tool, position, found) for position, tool in enumerate(tools))


def _tool(tool: Any, position: int, found: Collection[str]) -> Tool:
    place = f"tools[{position}]"
    if not isinstance(tool, dict):
        raise BadRequest(f"tools.{position}: Input should be an object", param=place)
    name, kind = tool.get("name"), tool.get("type") or "custom"
    if not isinstance(kind, str) or not (isinstance(name, str) and name):
        raise BadRequest(f"tools.{position}.name: Input should be a valid string", param=place)
    is_deferred = tool.get("defer_loading") is True and name not in found
    if kind != "custom":
        known = _TYPED.get(kind.rpartition("_")[0])
        if known is None:
            rest = {key: value for key, value in tool.items() if key != "cache_control"}
            return Hosted(place, kind, name, rest, mark_of(tool))
        return Function(place, name, _sized(known[0], tool), known[1], is_deferred=is_deferred, cache=mark_of(tool))
    description, schema, strict = tool.get("description"), tool.get("input_schema"), tool.get("strict")
    if description is not None and not isinstance(description, str):
        raise BadRequest(f"tools.{position}.custom.description: Input should be a valid string", param=place)
    if not isinstance(schema, dict):
        raise BadRequest(f"tools.{position}.custom.input_schema: Input should be an object", param=place)
    return Function(place, name, description or "", schema, None if strict is None else bool(strict), is_deferred, cache=mark_of(tool))


def search_in(tools: Sequence[Tool]) -> SearchTool | None:
    """The search of the web among them, of whichever version. Errors: `BadRequest`."""
    tool = next((tool for tool in tools if isinstance(tool, Hosted) and tool.what.startswith(SEARCH)), None)
    if tool is None:
        return None
    uses = tool.value.get("max_uses")
    if uses is not None and (isinstance(uses, bool) or not isinstance(uses, int) or uses < 1):
        raise BadRequest(f"{tool.where}.max_uses: Input should be a whole number of at least 1", param=tool.where)
    allowed, blocked = (_domains(tool, f"{kind}_domains") for kind in ("allowed", "blocked"))
    if allowed and blocked:
        raise BadRequest(f"{tool.where}: allowed_domains and blocked_domains can't be used together", param=tool.where)
    return SearchTool(tool.name, uses, allowed, blocked)


def _domains(tool: Hosted, name: str) -> tuple[str, ...]:
    domains = tool.value.get(name) or ()
    if not isinstance(domains, list | tuple) or not all(isinstance(domain, str) for domain in domains):
        raise BadRequest(f"{tool.where}.{name}: Input should be a valid list of strings", param=tool.where)
    if len(domains) > MAX_DOMAINS:
        raise BadRequest(f"{tool.where}.{name}: there are more than {MAX_DOMAINS} domains", param=tool.where)
    return tuple(domains)


def _sized(description: str, tool: Mapping[str, Any]) -> str:
    """The description, with a screen's size where the tool has one."""
    width, height = tool.get("display_width_px"), tool.get("display_height_px")
    return f"{description} The screen has {width} x {height} pixels." if width and height else description


def read_choice(choice: Any) -> tuple[Choice | None, bool | None]:
    """The choice among them, and whether several may be called at once; `None` where the client says neither. Errors: `BadRequest`."""
    if choice is None:
        return None, None
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in ("auto", "any", "tool", "none"):
        raise BadRequest("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'", param="tool_choice")
    parallel = False if choice.get("disable_parallel_tool_use") is True else None
    if kind != "tool":
        return Choice(kind), parallel
    name = choice.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest("tool_choice.tool.name: Input should be a valid string", param="tool_choice")
    return Choice("one", name), parallel
