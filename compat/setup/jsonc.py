"""JSON with comments: read it, and change one value of it while every other byte stays.

    parse(text)                          -> the value, and where it stands
    with_value(text, path, value)        -> the text with `value` at `path`, everything else as it was
    with_values(text, document, paths)   -> the same for what `document` has at each of `paths`

Comments (`//`, `/* */`), trailing commas and a byte order mark are taken, as Kilo Code and opencode take them: they become spaces, and what
is left, as long as it was, is read by `json`. Of a key that occurs twice the last counts. Positions are characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_STRING = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'  # one that does not end is read once, too
_COMMENT = re.compile(rf"{_STRING}|(?P<gap>//[^\r\n]*|/\*.*?\*/|\ufeff)|(?P<fault>/\*|\b(?:NaN|Infinity)\b)", re.DOTALL)
_COMMA = re.compile(rf"(?P<before>(?:{_STRING}|[\]}}\w])\s*)(?P<comma>,(?=\s*[\]}}]))?", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class JsoncError(ValueError):
    """A text that is not JSON with comments, or does not have the shape that a change needs; the message names line and column."""

    def __init__(self, text: str, position: int, what: str) -> None:
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        super().__init__(f"line {line}, column {column}: {what}")


class Node(NamedTuple):
    """A value, and where it stands: `text[start:end]`."""

    value: Any
    start: int
    end: int


class Member(NamedTuple):
    """A key of an object, where it begins, and its value."""

    key: str
    start: int
    node: Node


def parse(text: str) -> Node | None:
    """The document of `text`; `None` where there is nothing but space and comments. Errors: `JsoncError`."""
    plain = plain_json(text)
    start = _after_space(plain, 0)
    if start == len(text):
        return None
    try:
        node = _node(plain, start)
    except RecursionError:
        raise JsoncError(text, start, "the document is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise JsoncError(text, error.pos, error.msg) from error
    except ValueError as error:  # a number of more digits than Python reads
        raise JsoncError(text, start, str(error)) from error
    if (end := _after_space(plain, node.end)) != len(text):
        raise JsoncError(text, end, "there is something after the end of the document")
    return node


def with_values(text: str, document: Mapping[str, Any], paths: Iterable[Sequence[str]]) -> str:
    """`text` with what `document` has at each of `paths`; `JsoncError` for a text that is not JSON with comments, or not an object."""
    for path in paths:
        text = with_value(text, path, value_at(document, *path))
    return text


def json_text(document: Mapping[str, Any]) -> str:
    """A file that holds `document` alone."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def is_empty(text: str) -> bool:
    """Whether there is nothing but space."""
    return not text.strip("\ufeff \t\r\n")


def with_value(text: str, path: Sequence[str], value: Any) -> str:
    """`text` with `value` at `path` (keys of nested objects); a value that is there already, in whatever layout, stays as it is.

    Errors: `JsoncError`, also where something on the way is not an object.
    """
    node, plain = parse(text), plain_json(text)
    style = _Style.of(text, members_of(plain, node))
    if node is None:
        gap = "" if not text.strip("\ufeff") or text.endswith("\n") else style.line_end
        return f"{text}{gap}{style.write(_nested(path, value), '')}{style.line_end}"
    for depth, key in enumerate(path):
        if not isinstance(node.value, dict):
            raise JsoncError(text, node.start, f"{'.'.join(path[:depth]) or 'the document'} is not an object")
        members = members_of(plain, node)
        found = next((member for member in reversed(members) if member.key == key), None)
        if found is None:
            return _inserted(text, node, members, style, key, _nested(path[depth + 1 :], value))
        node = found.node
    if json.dumps(node.value) == json.dumps(value):
        return text
    return text[: node.start] + style.write(value, _indent_at(text, node.start)) + text[node.end :]


def value_at(value: Any, *path: str, default: Any = None) -> Any:
    """What stands at `path` in nested objects, or `default`."""
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value


def without_value(text: str, path: Sequence[str]) -> str:
    """`text` without the member at `path`, and without the objects that held nothing else. Errors: `JsoncError`."""
    node, plain = parse(text), plain_json(text)
    above: list[tuple[Sequence[Member], int]] = []
    for key in path:
        members = members_of(plain, node)
        at = max((place for place, member in enumerate(members) if member.key == key), default=None)
        if at is None:
            return text
        above.append((members, at))
        node = members[at].node
    while len(above) > 1 and len(above[-1][0]) == 1:
        above.pop()
    return _removed(text, *above[-1])


def _removed(text: str, members: Sequence[Member], at: int) -> str:
    """`text` without one of the members of an object, its comma, and its lines where nothing else stands on them."""
    bare = _without_comments(text)
    start, end = members[at].start, members[at].node.end
    after = _after_space(bare, end)
    before = None
    if bare[after] == ",":
        end = after + 1
    elif at:
        before = bare.index(",", members[at - 1].node.end)
    line_end = text.find("\n", end)
    if not _line_before(text, start).strip(" \t") and line_end >= 0 and not text[end:line_end].strip(" \t\r"):
        start, end = text.rfind("\n", 0, start) + 1, line_end + 1
    head = text[:start] if before is None else text[:before] + text[before + 1 : start]
    return head + text[end:]


def plain_json(text: str) -> str:
    """A text of the same length, with spaces for what only JSON with comments has. Errors: `JsoncError`."""
    return _COMMA.sub(lambda match: match["before"] + " " * len(match["comma"] or ""), _without_comments(text))


def members_of(plain: str, node: Node | None) -> list[Member]:
    """The members of `node` in its document, which is sound; none where it is not an object."""
    members: list[Member] = []
    if node is None or not isinstance(node.value, dict):
        return members
    position = _after_space(plain, node.start + 1)
    while plain[position] != "}":
        key = _node(plain, position)
        value = _node(plain, _after_space(plain, _after_space(plain, key.end) + 1))
        members.append(Member(key.value, position, value))
        position = _after_space(plain, value.end)
        if plain[position] == ",":
            position = _after_space(plain, position + 1)
    return members


def _without_comments(text: str) -> str:
    def spaces(match: re.Match[str]) -> str:
        if match["fault"]:  # the words are numbers to `json`, and to nobody else
            raise JsoncError(text, match.start(), "a comment that does not end" if match["fault"] == "/*" else "Expecting value")
        return " " * len(match[0]) if match["gap"] else match[0]

    return _COMMENT.sub(spaces, text)


def _node(plain: str, start: int) -> Node:
    value, end = _DECODER.raw_decode(plain, start)
    return Node(value, start, end)


def _after_space(plain: str, position: int) -> int:
    match = _SPACE.match(plain, position)
    assert match is not None
    return match.end()


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _inserted(text: str, node: Node, members: Sequence[Member], style: _Style, key: str, value: Any) -> str:
    """A new last member. It comes after the comments that stand at the object's end; the comma before it follows the last value."""
    closing = node.end - 1
    outer = _indent_at(text, closing)
    indent = _indent_of(text, members)
    indent = outer + style.unit if indent is None else indent
    last = len(text[:closing].rstrip(" \t\r\n"))
    has_comma = bool(members) and "," in _without_comments(text)[members[-1].node.end : closing]
    member = f"{style.line_end}{indent}{json.dumps(key, ensure_ascii=False)}: {style.write(value, indent)}{',' * has_comma}"
    if "\n" not in text[last:closing]:
        member += style.line_end + outer
    if not members or has_comma:
        return text[:last] + member + text[last:]
    comma = members[-1].node.end
    return f"{text[:comma]},{text[comma:last]}{member}{text[last:]}"


def _indent_of(text: str, members: Sequence[Member]) -> str | None:
    """The space before the first member; `None` where it does not begin its line."""
    line = _line_before(text, members[0].start) if members else "-"
    return None if line.strip(" \t") else line


def _indent_at(text: str, position: int) -> str:
    """The space that the line of `position` begins with."""
    line = _line_before(text, position)
    return line[: len(line) - len(line.lstrip(" \t"))]


def _line_before(text: str, position: int) -> str:
    return text[text.rfind("\n", 0, position) + 1 : position]


class _Style(NamedTuple):
    """How the document is laid out: its unit of indentation and its line end."""

    unit: str
    line_end: str

    @classmethod
    def of(cls, text: str, members: Sequence[Member]) -> _Style:
        return cls(_indent_of(text, members) or "  ", "\r\n" if "\r\n" in text else "\n")

    def write(self, value: Any, indent: str) -> str:
        """`value` as it stands after a key whose line is indented by `indent`."""
        lines = json.dumps(value, ensure_ascii=False, indent=self.unit).split("\n")
        return (self.line_end + indent).join(lines)
