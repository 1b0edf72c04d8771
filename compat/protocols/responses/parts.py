"""The parts of output items: which event is about which of them, and all of them in the order in which they are said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from compat.errors import UpstreamBroken
from compat.protocols.events import ArgumentsDelta, BlockKind, RefusalDelta, TextDelta, ThinkingDelta

API: Final = "openai.responses"
SEALED = "reasoning.encrypted_content"
"""What a request includes to be given reasoning that goes back."""
CALLS = frozenset({"function_call", "custom_tool_call"})
PARAGRAPH = "\n\n"
"""Between the parts of a thought."""

PartKey = tuple[str, int]
"""Which list of an item a part is in (`content`, `summary`), and its place there."""
CALL_PART: PartKey = ("call", 0)
"""What a tool is called with."""
LISTS: Mapping[str, tuple[str, ...]] = {"message": ("content",), "reasoning": ("summary", "content")}
"""Type of an item -> its lists of parts."""
DELTAS: Mapping[BlockKind, type[TextDelta | ThinkingDelta | RefusalDelta | ArgumentsDelta]] = {
    "text": TextDelta,
    "thinking": ThinkingDelta,
    "refusal": RefusalDelta,
    "tool_call": ArgumentsDelta,
}
"""Kind of a block -> more of it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of what has text in pieces: the `kind` of its block, `key` is the field with its words, `words` the name of the events with them. A
    part of an item lies in its list `within`, and has an `index` and the events `part` of its own; `more` is what its words come with."""

    kind: BlockKind
    key: str
    words: str
    within: str = ""
    index: str = ""
    part: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


_CONTENT = ("content", "content_index", "response.content_part")
_SUMMARY = ("summary", "summary_index", "response.reasoning_summary_part")
SHAPES: Mapping[str, Shape] = {
    "output_text": Shape("text", "text", "response.output_text", *_CONTENT, {"logprobs": []}),
    "refusal": Shape("refusal", "refusal", "response.refusal", *_CONTENT),
    "reasoning_text": Shape("thinking", "text", "response.reasoning_text", *_CONTENT),
    "summary_text": Shape("thinking", "text", "response.reasoning_summary_text", *_SUMMARY),
    "function_call": Shape("tool_call", "arguments", "response.function_call_arguments"),
    "custom_tool_call": Shape("tool_call", "input", "response.custom_tool_call_input"),
}
"""By the type of the part, or of the call."""


class Words(NamedTuple):
    """What an event of text is about: which list its part is in, the kind of its block, and the field with the words."""

    place: str
    kind: BlockKind
    field: str


WORDS: Mapping[str, Words] = {
    f"{shape.words}.{end}": Words(shape.within or CALL_PART[0], shape.kind, "delta" if end == "delta" else shape.key)
    for shape in SHAPES.values()
    for end in ("delta", "done")
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
    if kind in CALLS:
        yield WholePart(CALL_PART, kind, "tool_call", _words(item, SHAPES[kind].key) or ("{}" if kind == "function_call" else ""))
    for name in LISTS.get(kind, ()):
        parts = item.get(name) or ()
        for place, part in enumerate(parts if isinstance(parts, list) else ()):
            yield part_of((name, place), part)


def part_of(key: PartKey, part: Any) -> WholePart:
    """A part of a message or of a thought. Errors: `UpstreamBroken`."""
    name = part.get("type") if isinstance(part, dict) else None
    if not isinstance(name, str):
        raise UpstreamBroken("The upstream's answer holds something that is not a part of an item.")
    shape = SHAPES.get("output_text" if name == "text" else name)  # as some servers have it
    if shape is None or not shape.within:
        return WholePart(key, name, None)
    citations = part.get("annotations")
    return WholePart(key, name, shape.kind, _words(part, shape.key), citations if isinstance(citations, list) else ())


def _words(table: Mapping[str, Any], key: str) -> str:
    words = table.get(key)
    if words is not None and not isinstance(words, str):
        raise UpstreamBroken("The upstream's answer holds something else where a text should be.")
    return words or ""
