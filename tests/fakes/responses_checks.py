"""Checks of a request's fields. A check takes a value and its path and yields what's wrong with it, as OpenAI's API says it: words, `param`
and `code` ("Unknown parameter: 'input[0].name'.", `input[0].name`, `unknown_parameter`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """A reason to refuse a request."""

    words: str
    param: str | None = None
    code: str | None = None
    status: int = 400


Check = Callable[[Any, str], Iterator[Problem]]

KINDS = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string", list: "an array", dict: "an object"}


def _kind(value: Any) -> str:
    return "null" if value is None else KINDS[type(value)]


def wrong_type(expected: str, value: Any, path: str) -> Problem:
    return Problem(f"Invalid type for '{path}': expected {expected}, but got {_kind(value)} instead.", path, "invalid_type")


def of_type(expected: str, *types: type) -> Check:
    def check(value: Any, path: str) -> Iterator[Problem]:
        if type(value) not in types:
            yield wrong_type(expected, value, path)

    return check


def anything(value: Any, path: str) -> Iterator[Problem]:
    yield from ()


string = of_type("a string", str)
boolean = of_type("a boolean", bool)
table = of_type("an object", dict)


def integer(low: int, high: int | None = None) -> Check:
    def check(value: Any, path: str) -> Iterator[Problem]:
        if type(value) is not int:
            yield wrong_type("an integer", value, path)
        elif value < low:
            yield Problem(
                f"Invalid '{path}': integer below minimum value. Expected a value >= {low}, but got {value} instead.",
                path,
                "integer_below_min_value",
            )
        elif high is not None and value > high:
            yield Problem(
                f"Invalid '{path}': integer above maximum value. Expected a value <= {high}, but got {value} instead.",
                path,
                "integer_above_max_value",
            )

    return check


def decimal(low: float, high: float) -> Check:
    def check(value: Any, path: str) -> Iterator[Problem]:
        if type(value) not in {int, float}:
            yield wrong_type("a decimal", value, path)
        elif value < low:
            yield Problem(
                f"Invalid '{path}': decimal below minimum value. Expected a value >= {low:g}, but got {value} instead.",
                path,
                "decimal_below_min_value",
            )
        elif value > high:
            yield Problem(
                f"Invalid '{path}': decimal above maximum value. Expected a value <= {high:g}, but got {value} instead.",
                path,
                "decimal_above_max_value",
            )

    return check


def one_of(*values: str) -> Check:
    def check(value: Any, path: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield wrong_type("one of " + either(values), value, path)
        elif value not in values:
            yield Problem(f"Invalid value: '{value}'. Supported values are: {either(values)}.", path, "invalid_value")

    return check


def either(values: tuple[str, ...]) -> str:
    quoted = [f"'{value}'" for value in values]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"


def text_of(longest: int, pattern: str = "") -> Check:
    def check(value: Any, path: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield wrong_type("a string", value, path)
        elif not value:
            yield Problem(
                f"Invalid '{path}': empty string. Expected a string with minimum length 1, but got an empty string instead.",
                path,
                "empty_string",
            )
        elif len(value) > longest:
            yield Problem(
                f"Invalid '{path}': string too long. Expected a string with maximum length {longest}, but got a string with length"
                f" {len(value)} instead.",
                path,
                "string_above_max_length",
            )
        elif pattern and not re.fullmatch(pattern.strip("^$"), value):
            yield Problem(
                f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern '{pattern}'.",
                path,
                "invalid_value",
            )

    return check


def id_of(prefix: str) -> Check:
    """An id that the API itself has given."""

    def check(value: Any, path: str) -> Iterator[Problem]:
        yield from text_of(64)(value, path)
        if isinstance(value, str) and not value.startswith(prefix):
            yield Problem(f"Invalid '{path}': '{value}'. Expected an ID that begins with '{prefix}'.", path, "invalid_value")

    return check


def nullable(check: Check) -> Check:
    return lambda value, path: iter(()) if value is None else check(value, path)


def array(check: Check) -> Check:
    def check_all(value: Any, path: str) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield wrong_type("an array", value, path)
            return
        for number, item in enumerate(value):
            yield from check(item, f"{path}[{number}]")

    return check_all


def string_or(check: Check, expected: str) -> Check:
    def check_either(value: Any, path: str) -> Iterator[Problem]:
        if isinstance(value, list | dict):
            yield from check(value, path)
        elif not isinstance(value, str):
            yield wrong_type(f"one of {expected} or string", value, path)

    return check_either


@dataclass(frozen=True)
class Shape:
    """An object with known fields. `moved` are fields that another API has: what it's to be told."""

    required: Mapping[str, Check] = field(default_factory=dict)
    optional: Mapping[str, Check] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: Any, path: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield wrong_type("an object", value, path)
            return
        prefix = f"{path}." if path else ""
        for name, check in self.required.items():
            if name in value:
                yield from check(value[name], prefix + name)
            else:
                yield Problem(f"Missing required parameter: '{prefix}{name}'.", prefix + name, "missing_required_parameter")
        for name in value:
            if name in self.optional:
                yield from self.optional[name](value[name], prefix + name)
            elif name in self.moved:
                yield Problem(
                    f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to '{self.moved[name]}'."
                    " Try again with the new parameter.",
                    name,
                    "unsupported_parameter",
                )
            elif name not in self.required:
                yield Problem(f"Unknown parameter: '{prefix}{name}'.", prefix + name, "unknown_parameter")


@dataclass(frozen=True)
class Tagged:
    """An object whose `type` tells its shape; `default` is the type of one that doesn't say."""

    shapes: Mapping[str, Check]
    default: str | None = None

    def __call__(self, value: Any, path: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield wrong_type("an object", value, path)
            return
        tag = value.get("type", self.default)
        if tag is None:
            yield Problem(f"Missing required parameter: '{path}.type'.", f"{path}.type", "missing_required_parameter")
        elif not isinstance(tag, str) or tag not in self.shapes:
            yield Problem(f"Invalid value: '{tag}'. Supported values are: {either(tuple(self.shapes))}.", f"{path}.type", "invalid_value")
        else:
            yield from self.shapes[tag]({name: item for name, item in value.items() if name != "type"}, path)
