"""Schemas in the dialect of Anthropic's structured outputs, and of its tools (docs/translation.md, rule 23)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from compat.protocols.messages.schema import clean_schema, folded
from tests.fakes.anthropic_schemas import schema_violations
from tests.growth import check_growth

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
CLOSED = {"additionalProperties": False}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **CLOSED}


def opened(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


CLEANED = {
    "closed already": (closed(a=TEXT), closed(a=TEXT)),
    "open": (opened(a=TEXT), closed(a=TEXT)),
    "open in words": ({**opened(a=TEXT), "additionalProperties": True}, closed(a=TEXT)),
    "without a type": ({"properties": {"a": TEXT}}, {"properties": {"a": TEXT}, **CLOSED}),
    "within": (opened(a={"type": "array", "items": opened(b=TEXT)}), closed(a={"type": "array", "items": closed(b=TEXT)})),
    "an object of nothing": ({"type": "object", **CLOSED}, {"type": "object", **CLOSED}),
    "words and choices": (
        {**TEXT, "enum": ["a"], "const": "a", "title": "T", "description": "D", "default": "a", "format": "date"},
        {**TEXT, "enum": ["a"], "const": "a", "title": "T", "description": "D", "default": "a", "format": "date"},
    ),
    "limits of text": ({**TEXT, "minLength": 1, "pattern": "a+"}, {**TEXT, "description": '{"minLength":1,"pattern":"a+"}'}),
    "limits of numbers": ({**NUMBER, "minimum": 1, "description": "D"}, {**NUMBER, "description": 'D {"minimum":1}'}),
    "limits of lists": (
        {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 3},
        {"type": "array", "items": TEXT, "description": '{"minItems":2,"maxItems":3}'},
    ),
    "lists with something": ({"type": "array", "items": TEXT, "minItems": 1}, {"type": "array", "items": TEXT, "minItems": 1}),
    "tuples": ({"type": "array", "items": [TEXT]}, {"type": "array", "description": '{"items":[{"type":"string"}]}'}),
    "odd values": ({**TEXT, "format": ["x"], "minItems": []}, {**TEXT, "description": '{"format":["x"],"minItems":[]}'}),
    "unknown formats": ({**TEXT, "format": "phone"}, {**TEXT, "description": '{"format":"phone"}'}),
    "alternatives": ({"oneOf": [TEXT, opened(a=TEXT)]}, {"anyOf": [TEXT, closed(a=TEXT)]}),
    "any of them": ({"anyOf": [TEXT, True]}, {"anyOf": [TEXT, {}]}),
    "what alternatives name": ({"type": "object", "anyOf": [opened(a=TEXT)]}, {"type": "object", "anyOf": [closed(a=TEXT)], **CLOSED}),
    "several types": (
        {"type": ["object", "null"], "properties": {"a": {}}},
        {"type": ["object", "null"], "properties": {"a": {}}, **CLOSED},
    ),
    "references": (
        {**opened(a={"$ref": "#/$defs/A", "description": "lost"}), "$defs": {"A": opened(b=TEXT)}},
        {**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": closed(b=TEXT)}},
    ),
    "a reference at the top": (
        {"$ref": "#/definitions/A", "definitions": {"A": opened(b=TEXT)}, "$schema": "x"},
        {"$ref": "#/definitions/A", "definitions": {"A": closed(b=TEXT)}},
    ),
    "a reference as the only part": (
        {**opened(a={"allOf": [{"$ref": "#/$defs/A"}], "description": "D", "default": 1}), "$defs": {"A": TEXT}},
        {**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": TEXT}},
    ),
    "references that meet": (
        {
            "anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
            "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/C"}]}, "B": {"anyOf": [{"$ref": "#/$defs/C"}]}, "C": TEXT},
        },
        {
            "anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
            "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/C"}]}, "B": {"anyOf": [{"$ref": "#/$defs/C"}]}, "C": TEXT},
        },
    ),
    "one part": ({"allOf": [opened(a=TEXT)], "title": "T"}, {**closed(a=TEXT), "title": "T"}),
    "what is not a schema where one may be": (
        {**opened(a=5), "$id": "x", "required": "a"},
        {**closed(a={}), "description": '{"required":"a"}'},
    ),
}

DEEP: dict[str, Any] = {"type": "string"}
for _ in range(70):
    DEEP = {"type": "array", "items": DEEP}

INEXPRESSIBLE = {
    "itself": {"type": "object", "properties": {"a": {"$ref": "#"}}},
    "a circle": {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/C"}]}, "C": {}},
    },
    "elsewhere": opened(a={"$ref": "https://example.com/a.json"}),
    "nowhere": opened(a={"$ref": "#/$defs/A"}),
    "keys of any name": {"type": "object"},
    "keys of any name within": opened(a={"type": ["null", "object"]}),
    "a map": {"type": "object", "properties": {"a": TEXT}, "additionalProperties": TEXT},
    "keys of a pattern": {**closed(a=TEXT), "patternProperties": {"^x": TEXT}},
    "several parts": {"allOf": [opened(a=TEXT), opened(b=TEXT)]},
    "a part beside others": {**opened(a=TEXT), "allOf": [opened(b=TEXT)]},
    "without end": DEEP,
}


@pytest.mark.parametrize(("schema", "expected"), CLEANED.values(), ids=CLEANED)
def test_a_schema_is_said_in_the_apis_dialect(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    cleaned = clean_schema(schema)
    assert cleaned == expected
    assert schema == before, "the input is unchanged"
    assert list(schema_violations(cleaned, "schema")) == []


@pytest.mark.parametrize("schema", INEXPRESSIBLE.values(), ids=INEXPRESSIBLE)
def test_what_the_dialect_can_not_say_is_none(schema: dict[str, Any]) -> None:
    assert clean_schema(schema) is None


FOLDED = {
    "nothing to fold": (closed(a=TEXT), closed(a=TEXT)),
    "keys of each": ({"anyOf": [opened(a=TEXT), opened(b=TEXT)]}, {"properties": {"a": TEXT, "b": TEXT}}),
    "a key that differs": ({"oneOf": [opened(a=TEXT), opened(a=NUMBER), opened(a=TEXT)]}, {"properties": {"a": {"anyOf": [TEXT, NUMBER]}}}),
    "its own go first": ({**opened(a=NUMBER), "anyOf": [opened(a=TEXT)]}, opened(a=NUMBER)),
    "required by all": (
        {"anyOf": [{"required": ["a", "b"]}, {"required": ["b", 5]}], "required": ["c", None]},
        {"properties": {}, "required": ["c", "b"]},
    ),
    "required twice": (
        {"allOf": [{"required": ["a"]}, {"required": ["a", "b"]}], "required": ["a"]},
        {"properties": {}, "required": ["a", "b"]},
    ),
    "definitions": (
        {"oneOf": [{"$ref": "#/definitions/A"}, {"$ref": "#/definitions/B"}], "definitions": {"A": opened(a=TEXT), "B": 5}},
        {"properties": {"a": TEXT}, "definitions": {"A": opened(a=TEXT), "B": 5}},
    ),
    "what is none": ({"anyOf": {"a": 1}, "allOf": [5, {"properties": [1]}], "properties": []}, {"properties": {}}),
}


@pytest.mark.parametrize(("schema", "expected"), FOLDED.values(), ids=FOLDED)
def test_alternatives_at_the_top_are_folded_into_one_object(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    assert {"properties": {}, **folded(schema)} == {"properties": {}, **expected}
    assert schema == before, "the input is unchanged"


def chain(count: int) -> dict[str, Any]:
    links = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{count}": TEXT}}


def fan(count: int) -> dict[str, Any]:
    """Half of the definitions lead to all of the other half's first, which lead to one."""
    ends = {f"e{number}": {"$ref": "#/$defs/e0"} if number else TEXT for number in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {"d0": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in ends]}, **ends}}


CLEANED_LARGE: dict[str, Callable[[int], dict[str, Any]]] = {"a chain of definitions": chain, "a fan of definitions": fan}
FOLDED_LARGE: dict[str, Callable[[int], dict[str, Any]]] = {
    "references and definitions": lambda n: {
        "anyOf": [{"$ref": f"#/$defs/d{number}"} for number in range(n)],
        "$defs": {f"d{number}": opened(**{f"a{number}": TEXT}) for number in range(n)},
    },
    "references to one": lambda n: {
        "anyOf": [{"$ref": "#/$defs/d"}] * n,
        "$defs": {"d": {**opened(**{f"a{number}": TEXT for number in range(n)}), "required": [f"a{number}" for number in range(n)]}},
    },
    "required names": lambda n: {"allOf": [{"required": [f"a{number}"]} for number in range(n)]},
    "required names of one": lambda n: {"anyOf": [{"required": [f"a{number}" for number in range(n)]}] * 2, "required": ["b"] * n},
    "ways of one property": lambda n: {"anyOf": [opened(a={"const": number}) for number in range(n)]},
}


@pytest.mark.parametrize("make", CLEANED_LARGE.values(), ids=CLEANED_LARGE)
def test_cleaning_a_schema_grows_in_line_with_it(make: Callable[[int], dict[str, Any]]) -> None:
    check_growth(clean_schema, make, 300)


@pytest.mark.parametrize("make", FOLDED_LARGE.values(), ids=FOLDED_LARGE)
def test_folding_a_schema_grows_in_line_with_it(make: Callable[[int], dict[str, Any]]) -> None:
    check_growth(folded, make, 2000)


def test_alternatives_that_are_equal_but_for_the_order_of_their_keys_are_one() -> None:
    schema = {"anyOf": [opened(a={"type": "string", "title": "T"}), opened(a={"title": "T", "type": "string"})]}
    assert folded(schema)["properties"] == {"a": {"type": "string", "title": "T"}}
