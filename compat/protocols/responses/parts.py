"""The parts of output items: which event is about which of them, and all of them in the order in which they are said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from compat.errors import UpstreamBroken
from compat.protocols.events import BlockKind

API = "openai.responses"
CALLS = frozenset({"function_call", "custom_tool_call"})

PartKey = tuple[str, int]
"""Which list of an item a part is in (`content`, `summary`), and its place there."""
CALL_PART: PartKey = ("call", 0)
"""What a tool is called with."""

_KINDS: Mapping[str, tuple[BlockKind, str]] = {
    "output_text": ("text", "text"),
    "text": ("text", "text"),
    "refusal": ("refusal", "refusal"),
    "summary_text": ("thinking", "text"),
    "reasoning_text": ("thinking", "text"),
}
"""Type of a part -> kind of its block, and where its words are."""
_LISTS: Mapping[str, tuple[str, ...]] = {"message": ("content",), "reasoning": ("summary", "content")}


class Words(NamedTuple):
    """What an event of text is about: which list its part is in, the kind of its block, and the field with the words."""

    place: str
    kind: BlockKind
    field: str


WORDS: Mapping[str, Words] = {
    "response.output_text.delta": Words("content", "text", "delta"),
    "response.output_text.done": Words("content", "text", "text"),
    "response.refusal.delta": Words("content", "refusal", "delta"),
    "response.refusal.done": Words("content", "refusal", "refusal"),
    "response.reasoning_summary_text.delta": Words("summary", "thinking", "delta"),
    "response.reasoning_summary_text.done": Words("summary", "thinking", "text"),
    "response.reasoning_text.delta": Words("content", "thinking", "delta"),
    "response.reasoning_text.done": Words("content", "thinking", "text"),
    "response.function_call_arguments.delta": Words("call", "tool_call", "delta"),
    "response.function_call_arguments.done": Words("call", "tool_call", "arguments"),
    "response.custom_tool_call_input.delta": Words("call", "tool_call", "delta"),
    "response.custom_tool_call_input.done": Words("call", "tool_call", "input"),
}
"""Type of an event -> what it is about."""


class WholePart(NamedTuple):
    """A part that is complete. `name` is its type; `kind` is `None` for what no block can say."""

    key: PartKey
    name: str
    kind: BlockKind | None
    words: str = ""
    citations: Sequence[Any] = ()


def parts_of(item: Mapping[str, Any]) -> Iterator[WholePart]:
    """The parts of a complete item; none of an item that is not known. `UpstreamBroken` where one is not a part."""
    kind = item.get("type", "message")
    if kind == "function_call":
        yield WholePart(CALL_PART, kind, "tool_call", _words(item, "arguments") or "{}")
    elif kind == "custom_tool_call":
        yield WholePart(CALL_PART, kind, "tool_call", _words(item, "input"))
    for name in _LISTS.get(kind, ()):
        parts = item.get(name) or ()
        for place, part in enumerate(parts if isinstance(parts, list) else ()):
            yield part_of((name, place), part)


def part_of(key: PartKey, part: Any) -> WholePart:
    """A part of a message or of a thought. Errors: `UpstreamBroken`."""
    name = part.get("type") if isinstance(part, dict) else None
    if not isinstance(name, str):
        raise UpstreamBroken("The upstream's answer holds something that is not a part of an item.")
    known = _KINDS.get(name)
    if known is None:
        return WholePart(key, name, None)
    citations = part.get("annotations")
    return WholePart(key, name, known[0], _words(part, known[1]), citations if isinstance(citations, list) else ())


def _words(table: Mapping[str, Any], key: str) -> str:
    words = table.get(key)
    if words is not None and not isinstance(words, str):
        raise UpstreamBroken("The upstream's answer holds something else where a text should be.")
    return words or ""
