"""JSON with comments: read it, and change one value of it while every other byte stays.

    parse(text)                     -> the tree, with the place of every value
    with_value(text, path, value)   -> the text with `value` at `path`, everything else as it was

Comments (`//`, `/* */`), trailing commas and a byte order mark are taken, as Kilo Code and opencode take them. Of a key that occurs twice
the last counts. Positions are characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 200
_SPACE = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])|(?:true|false|null)(?!\w)")


class JsoncError(ValueError):
    """A text that is not JSON with comments, or does not have the shape that a change needs; the message names line and column."""

    def __init__(self, text: str, position: int, what: str) -> None:
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        super().__init__(f"line {line}, column {column}: {what}")


@dataclass(frozen=True, slots=True)
class Node:
    """A value, and where it stands: `text[start:end]`. `members` are those of an object; `has_last_comma`: it has a trailing comma."""

    value: Any
    start: int
    end: int
    members: tuple[Member, ...] = ()
    has_last_comma: bool = False

    @property
    def is_object(self) -> bool:
        """Whether it is `{...}`."""
        return isinstance(self.value, dict)

    def member(self, key: str) -> Member | None:
        """The member that counts under `key`."""
        return next((member for member in reversed(self.members) if member.key == key), None)


@dataclass(frozen=True, slots=True)
class Member:
    """A key of an object, where it begins, and its value."""

    key: str
    start: int
    node: Node


def parse(text: str) -> Node | None:
    """The document of `text`; `None` where there is nothing but space and comments. Errors: `JsoncError`."""
    reader = _Reader(text)
    position = reader.space(0)
    if position == len(text):
        return None
    node = reader.value(position, 0)
    if (end := reader.space(node.end)) != len(text):
        raise JsoncError(text, end, "there is something after the end of the document")
    return node


def with_value(text: str, path: Sequence[str], value: Any) -> str:
    """`text` with `value` at `path` (keys of nested objects); a value that is there already, in whatever layout, stays as it is.

    Errors: `JsoncError`, also where something on the way is not an object.
    """
    root = parse(text)
    style = _Style.of(text, root)
    if root is None:
        gap = "" if not text.strip("\ufeff") or text.endswith("\n") else style.line_end
        return f"{text}{gap}{style.write(_nested(path, value), '')}{style.line_end}"
    node = root
    for depth, key in enumerate(path):
        if not node.is_object:
            raise JsoncError(text, node.start, f"{'.'.join(path[:depth]) or 'the document'} is not an object")
        member = node.member(key)
        if member is None:
            return _inserted(text, node, style, key, _nested(path[depth + 1 :], value))
        node = member.node
    if json.dumps(node.value) == json.dumps(value):
        return text
    return text[: node.start] + style.write(value, _indent_at(text, node.start)) + text[node.end :]


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _inserted(text: str, node: Node, style: _Style, key: str, value: Any) -> str:
    """A new last member. It comes after the comments that stand at the object's end; the comma before it follows the last value."""
    closing = node.end - 1
    outer = _indent_at(text, closing)
    indent = outer + style.unit
    if node.members and _begins_line(text, node.members[0].start):
        indent = _indent_at(text, node.members[0].start)
    last = len(text[:closing].rstrip(" \t\r\n"))
    member = f"{style.line_end}{indent}{json.dumps(key, ensure_ascii=False)}: {style.write(value, indent)}{',' * node.has_last_comma}"
    if "\n" not in text[last:closing]:
        member += style.line_end + outer
    if not node.members or node.has_last_comma:
        return text[:last] + member + text[last:]
    comma = node.members[-1].node.end
    return f"{text[:comma]},{text[comma:last]}{member}{text[last:]}"


def _begins_line(text: str, position: int) -> bool:
    return not text[text.rfind("\n", 0, position) + 1 : position].strip(" \t")


def _indent_at(text: str, position: int) -> str:
    """The space that the line of `position` begins with."""
    start = text.rfind("\n", 0, position) + 1
    line = text[start:position]
    return line[: len(line) - len(line.lstrip(" \t"))]


@dataclass(frozen=True, slots=True)
class _Style:
    """How the document is laid out: its unit of indentation and its line end."""

    unit: str
    line_end: str

    @classmethod
    def of(cls, text: str, root: Node | None) -> _Style:
        line_end = "\r\n" if "\r\n" in text else "\n"
        unit = ""
        if root is not None and root.members and _begins_line(text, root.members[0].start):
            unit = _indent_at(text, root.members[0].start)
        return cls(unit or "  ", line_end)

    def write(self, value: Any, indent: str) -> str:
        """`value` as it stands after a key whose line is indented by `indent`."""
        lines = json.dumps(value, ensure_ascii=False, indent=self.unit).split("\n")
        return (self.line_end + indent).join(lines)


class _Reader:
    """A parser by descent. Every method takes a position and returns what stands there, or a position behind it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def space(self, position: int) -> int:
        """The position behind space and comments."""
        match = _SPACE.match(self._text, position)
        assert match is not None
        if self._text.startswith("/*", match.end()):
            raise self._error(match.end(), "a comment that does not end")
        return match.end()

    def value(self, position: int, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(position, "the document is nested too deeply")
        opening = self._text[position : position + 1]
        if opening == "{":
            return self._object(position, depth)
        if opening == "[":
            return self._array(position, depth)
        if opening == '"':
            text, end = self._string(position)
            return Node(text, position, end)
        match = _SCALAR.match(self._text, position)
        if match is None:
            raise self._error(position, "a value is expected")
        return Node(json.loads(match[0]), position, match.end())

    def _object(self, start: int, depth: int) -> Node:
        members: list[Member] = []
        position, has_comma = self.space(start + 1), False
        while not self._text.startswith("}", position):
            if members and not has_comma:
                raise self._error(position, "',' or '}' is expected")
            if not self._text.startswith('"', position):
                raise self._error(position, "a key is expected")
            key, end = self._string(position)
            colon = self.space(end)
            if not self._text.startswith(":", colon):
                raise self._error(colon, "':' is expected")
            node = self.value(self.space(colon + 1), depth + 1)
            members.append(Member(key, position, node))
            position, has_comma = self._after(node.end)
        value = {member.key: member.node.value for member in members}
        return Node(value, start, position + 1, tuple(members), has_comma)

    def _array(self, start: int, depth: int) -> Node:
        values: list[Any] = []
        position, has_comma = self.space(start + 1), False
        while not self._text.startswith("]", position):
            if values and not has_comma:
                raise self._error(position, "',' or ']' is expected")
            node = self.value(position, depth + 1)
            values.append(node.value)
            position, has_comma = self._after(node.end)
        return Node(values, start, position + 1)

    def _after(self, end: int) -> tuple[int, bool]:
        """The position behind a member, and behind its comma if it has one."""
        position = self.space(end)
        if self._text.startswith(",", position):
            return self.space(position + 1), True
        return position, False

    def _string(self, position: int) -> tuple[str, int]:
        match = _STRING.match(self._text, position)
        if match is None:
            raise self._error(position, "a string that does not end on its line")
        try:
            text: str = json.loads(match[0])
        except ValueError:
            raise self._error(position, "a string with a wrong escape") from None
        return text, match.end()

    def _error(self, position: int, what: str) -> JsoncError:
        return JsoncError(self._text, position, what)
