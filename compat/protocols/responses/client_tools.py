"""Tools in the words of the Responses API as neutral ones, and under which names a model knows them: the client's half.

Tools of a namespace are flattened: a model's calls have one name. The first tool of a name has it alone, any other one its namespace before
it, and where that is a name as well, a digest behind it. So a name depends on what precedes it only, and is the same in any process and at
the next turn. `Toolbox.shapes` leads back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from compat.errors import BadRequest
from compat.protocols.base import SearchTool, ShapeKind, ToolShape
from compat.protocols.names import digest_of
from compat.protocols.notes import Notes
from compat.protocols.request import Choice, Freeform, Function, Hosted, Tool

MAX_TOOLS = 10_000
SEARCH = "tool_search"
_ALL: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}
_SIMPLE: Mapping[str, Choice] = {"auto": Choice("auto"), "none": Choice("none"), "required": Choice("any")}
WEB_SEARCH = "web_search"
_SEARCHES = frozenset({WEB_SEARCH, "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"})
_NAMED = frozenset({"function", "custom"})


class Toolbox:
    """The tools of a request, wherever it names them, the search of the web among them, and notes on what was left out. Mutable: all of
    it."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.shapes: dict[str, ToolShape] = {}
        self.search: SearchTool | None = None
        self._tools: dict[str, Tool] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()
        self._count = 0

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All tools, in the order in which they were named."""
        return tuple(self._tools.values())

    def name(self, name: str, namespace: str = "") -> str:
        """What the model knows a tool by, whether the request still has it or not."""
        known = self._names.get((namespace, name))
        if known is None:
            known = self._names[namespace, name] = self._free(name, namespace)
            self._taken.add(known)
        return known

    def _free(self, name: str, namespace: str) -> str:
        flat = f"{namespace}__{name}" if namespace else name
        for wanted in (name, flat):
            if wanted not in self._taken:
                return wanted
        digest = digest_of(f"{namespace}\n{name}", 4)
        return f"{flat}_{digest}"

    def called(self, name: str, namespace: str, shape: ShapeKind) -> str:
        """The same of a tool that was called, which keeps its shape even where the request has it no longer."""
        known = self.name(name, namespace)
        if shape != "function" or known != name or namespace:
            self.shapes.setdefault(known, ToolShape(shape, name, namespace))
        return known

    def add(self, tools: Any, where: str) -> None:
        """Take a list of tools. Errors: `BadRequest`."""
        if not isinstance(tools, list):
            raise BadRequest(f"'{where}' must be a list of tools.", param=where)
        for place, tool, namespace in self._rows(tools, where):
            self._take(tool, place, namespace)

    def found(self, tools: Any, where: str) -> list[str]:
        """Take tools that a search found, which are deferred no longer; their names. Errors: `BadRequest`."""
        rows = self._rows(tools, where)
        return [name for place, tool, namespace in rows if (name := self._take(tool, place, namespace, is_found=True))]

    def _rows(self, tools: Any, where: str) -> list[_Row]:
        """The tools of a list, those without a namespace first: a name is theirs before it is another one's."""
        rows = list(_flat(tools, where))
        self._count += len(rows)
        if self._count > MAX_TOOLS:
            raise BadRequest(f"'tools' has more than {MAX_TOOLS} tools.", param="tools")
        return sorted(rows, key=lambda row: row.namespace != "")

    def _take(self, tool: Mapping[str, Any], place: str, namespace: str, *, is_found: bool = False) -> str:
        """Take a tool; its name, which is empty for one that the client does not run."""
        kind = tool.get("type", "function")
        name = SEARCH if kind == SEARCH else tool.get("name")
        found = _READERS.get(kind) if isinstance(kind, str) else None
        if found is None or (kind == SEARCH and tool.get("execution") != "client"):
            words = f"{kind} {name}" if isinstance(name, str) else str(kind)
            if str(kind) in _SEARCHES and tool.get("external_web_access") is not False and WEB_SEARCH not in self._taken:
                name, self.search = self.name(WEB_SEARCH), search_of(tool)
            self._tools.setdefault(f" {words}", Hosted(place, str(kind), name if isinstance(name, str) else "", tool, is_optional=True))
            return ""
        if not isinstance(name, str) or not name:
            raise BadRequest(f"Missing required parameter: '{place}.name'.", param=f"{place}.name", code="missing_required_parameter")
        known = self.name(name, namespace)
        if known in self._tools and not is_found:
            self.notes.add("dropped", f"duplicate_tool({known})")
            return known
        reader, shape = found
        self._tools[known] = reader({**tool, "defer_loading": False} if is_found else tool, place, known)
        if shape != "function" or known != name or namespace:
            self.shapes[known] = ToolShape(shape, name, namespace)
        return known

    def choice(self, choice: Any) -> Choice | None:
        """The choice among the tools. Errors: `BadRequest`."""
        if choice is None:
            return None
        if isinstance(choice, str) and choice in _SIMPLE:
            return _SIMPLE[choice]
        kind = choice.get("type") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(kind, str):
            raise BadRequest("'tool_choice' must be 'none', 'auto', 'required' or an object with a type.", param="tool_choice")
        if kind == "allowed_tools":
            rows = choice.get("tools")
            rows = rows if isinstance(rows, list) else []
            names = frozenset(self._chosen(row) for row in rows if isinstance(row, dict))
            return Choice("any" if choice.get("mode") == "required" else "auto", allowed=names)
        if kind in _NAMED or (kind == SEARCH and SEARCH in self._tools):
            return Choice("one", self._chosen(choice))
        self.notes.add("dropped", "tool_choice")
        return None

    def _chosen(self, row: Mapping[str, Any]) -> str:
        name, namespace = row.get("name"), row.get("namespace")
        if not isinstance(name, str):
            return str(row.get("type"))  # of a tool that has no other name
        return self._names.get((namespace if isinstance(namespace, str) else "", name), name)


def search_of(tool: Mapping[str, Any]) -> SearchTool:
    """A search of the web that the client leaves to the server."""
    filters = tool.get("filters")
    allowed = filters.get("allowed_domains") if isinstance(filters, dict) else None
    return SearchTool(WEB_SEARCH, allowed=tuple(one for one in allowed if isinstance(one, str)) if isinstance(allowed, list) else ())


class _Row(NamedTuple):
    place: str
    tool: Mapping[str, Any]
    namespace: str


def _flat(tools: list[Any], where: str) -> Iterator[_Row]:
    for number, tool in enumerate(tools):
        place = f"{where}[{number}]"
        if not isinstance(tool, dict):
            raise BadRequest(f"{place} must be an object.", param=place)
        if tool.get("type") != "namespace":
            yield _Row(place, tool, "")
            continue
        inner, name = tool.get("tools"), tool.get("name")
        for position, row in enumerate(inner if isinstance(inner, list) else ()):
            if isinstance(row, dict):
                yield _Row(f"{place}.tools[{position}]", row, name if isinstance(name, str) else "")


def _words(tool: Mapping[str, Any]) -> str:
    words = tool.get("description")
    return words if isinstance(words, str) else ""


def _function(tool: Mapping[str, Any], place: str, name: str) -> Tool:
    schema, strict = tool.get("parameters"), tool.get("strict")
    if schema is not None and not isinstance(schema, dict):
        raise BadRequest(f"{place}.parameters must be an object.", param=f"{place}.parameters")
    return Function(place, name, _words(tool), schema, None if strict is None else bool(strict), tool.get("defer_loading") is True)


def _custom(tool: Mapping[str, Any], place: str, name: str) -> Tool:
    return Freeform(place, name, _words(tool), tool.get("format"), tool.get("defer_loading") is True)


def _search(tool: Mapping[str, Any], place: str, name: str) -> Tool:
    schema = tool.get("parameters")
    return Function(place, name, _words(tool), schema if isinstance(schema, dict) else _ALL)


_READERS: Mapping[str, tuple[Callable[[Mapping[str, Any], str, str], Tool], ShapeKind]] = {
    "function": (_function, "function"),
    "custom": (_custom, "freeform"),
    SEARCH: (_search, "search"),
}
"""Type of a tool that the client runs -> its reader, and the shape of its calls."""
