"""Tools and the choice among them, for the Responses API.

`strict` is always said: where it is not, the API makes schemas strict, and so other ones (rule 32 of docs/translation.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compat.errors import BadRequest
from compat.protocols.names import fit_name
from compat.protocols.notes import Notes
from compat.protocols.refusals import SEARCH_MARK
from compat.protocols.request import Choice, Freeform, Function, Hosted, Request, Tool
from compat.protocols.responses.content import Part
from compat.protocols.responses.searches import hosted_search

_HOSTED = frozenset({"web_search", "web_search_preview", "file_search", "code_interpreter", "image_generation", "mcp"})
"""Tools of the service itself."""
_NO_PROPERTIES: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools for the upstream, its choice among them, and upstream name -> client's name where they differ."""

    tools: list[Part] = field(default_factory=list)
    choice: str | Part | None = None
    client_names: Mapping[str, str] = field(default_factory=dict)


def toolbox_of(request: Request, notes: Notes, refused: frozenset[str]) -> Toolbox:
    """The toolbox of a request, less what was `refused`. Errors: `BadRequest`."""
    tools: dict[str, Part] = {}
    client_names: dict[str, str] = {}
    for tool in request.tools:
        written = _search(tool, request, refused) or _WRITERS[type(tool)](tool)
        if written is None or (not isinstance(tool, Hosted) and tool.is_deferred):
            notes.add("dropped", f"tool({tool.name or 'unnamed'})")
            continue
        if isinstance(tool, Hosted):
            name = tool.name or tool.what
            tools[name if name not in tools else f"{name} {tool.where}"] = written
            continue
        name = written["name"]
        if name in tools:
            notes.add("dropped", f"duplicate_tool({tool.name})")
            continue
        tools[name] = written
        if name != tool.name:
            client_names[name] = tool.name
    choice = request.choice
    if not tools:
        if choice is not None and choice.kind in ("any", "one"):
            notes.add("dropped", request.name("choice"))
        return Toolbox()
    return Toolbox(list(tools.values()), None if choice is None else _choice(choice, request.name("choice"), tools), client_names)


def _choice(choice: Choice, name: str, tools: Mapping[str, Part]) -> str | Part:
    if choice.allowed is not None:
        allowed = [_named(tool) for key, tool in tools.items() if key in {fit_name(allowed) for allowed in choice.allowed}]
        if not allowed:
            raise BadRequest(f"'{name}' allows none of the tools.", param=name)
        return {"type": "allowed_tools", "mode": "required" if choice.kind == "any" else "auto", "tools": allowed}
    if choice.kind == "one":
        tool = tools.get(fit_name(choice.name))
        if tool is None:
            raise BadRequest(f"'{name}' names a function that is not among the tools.", param=name)
        return _named(tool)
    return "required" if choice.kind == "any" else choice.kind


def _named(tool: Part) -> Part:
    return {"type": tool["type"], "name": tool["name"]} if "name" in tool else {"type": tool["type"]}


def _described(tool: Function | Freeform, kind: str) -> Part:
    described = {"description": tool.description} if tool.description else {}
    return {"type": kind, "name": fit_name(tool.name), **described}


def _function(tool: Function) -> Part:
    schema = tool.schema or _NO_PROPERTIES
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    return {**_described(tool, "function"), "parameters": schema, "strict": bool(tool.strict)}


def _freeform(tool: Freeform) -> Part:
    written = _described(tool, "custom")
    form = tool.format
    if isinstance(form, dict) and isinstance(form.get("grammar"), dict):  # as chat has it, one level deeper
        form = {"type": "grammar", **form["grammar"]}
    return {**written, "format": form} if isinstance(form, dict) else written


def _search(tool: Tool, request: Request, refused: frozenset[str]) -> Part | None:
    """The client's search, as one that the service runs."""
    search = request.search
    if search is None or not isinstance(tool, Hosted) or tool.name != search.name or SEARCH_MARK in refused:
        return None
    return hosted_search(search, tool.value)


def _hosted(tool: Hosted) -> Part | None:
    return {**tool.value} if tool.what in _HOSTED and isinstance(tool.value, dict) else None


_WRITERS: Mapping[type[Tool], Any] = {Function: _function, Freeform: _freeform, Hosted: _hosted}
