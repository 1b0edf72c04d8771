"""Which JSON schemas the Responses API takes for tools and structured outputs.

Every schema must be an object whose arrays say what they hold; a strict one names all that an object may have, and requires it. Words as
recorded ("In context=('properties', 'a'), 'additionalProperties' is required to be supplied and to be false.").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NOT_STRICT = ("allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "patternProperties", "oneOf")
MAX_DEPTH = 10

Place = tuple[str, ...]


def schema_problem(schema: Any, *, is_strict: bool) -> str:
    """What is wrong with `schema`, empty when it's fine."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        kind = schema.get("type") if isinstance(schema, dict) else None
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    if is_strict and "anyOf" in schema:
        return "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
    return next(_problems(schema, (), is_strict), "")


def _problems(node: Any, place: Place, is_strict: bool) -> Iterator[str]:
    where = f"In context={place!r}, "
    if not isinstance(node, dict):
        if not isinstance(node, bool):
            yield f"{where}schema must be an object or a boolean."
        return
    kinds = node.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds and "items" not in node and "prefixItems" not in node:
        yield f"{where}array schema missing items."
    if is_strict:
        yield from (where + words for words in _strict(node, kinds, place))
    for step, child in _children(node):
        yield from _problems(child, (*place, *step), is_strict)


def _strict(node: dict[str, Any], kinds: list[str], place: Place) -> Iterator[str]:
    if len([step for step in place if step == "properties"]) > MAX_DEPTH:
        yield f"schema is nested deeper than {MAX_DEPTH} levels."
    for name in NOT_STRICT:
        if name in node:
            yield f"'{name}' is not permitted."
    if "object" in kinds:
        if node.get("additionalProperties") is not False:
            yield "'additionalProperties' is required to be supplied and to be false."
        missing = [name for name in node.get("properties", {}) if name not in node.get("required", ())]
        if missing:
            yield f"'required' is required to be supplied and to be an array including every key in properties. Missing '{missing[0]}'."
    if not kinds and not {"$ref", "anyOf", "enum", "const"} & node.keys():
        yield "schema must have a 'type' key."


def _children(node: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    for name in ("properties", "$defs", "definitions"):
        yield from (((name, key), child) for key, child in (node.get(name) or {}).items())
    for name in ("anyOf", "oneOf", "allOf"):
        yield from (((name, str(number)), child) for number, child in enumerate(node.get(name, ())))
    if "items" in node:
        yield ("items",), node["items"]
