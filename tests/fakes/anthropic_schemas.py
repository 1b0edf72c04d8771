"""Which JSON schemas the Messages API takes for structured outputs and strict tools.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs lists what's left out: recursion, references to elsewhere,
limits of numbers, strings and arrays, and objects that allow more than they name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

REFUSED = {
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
}
REFUSED_ANYWHERE = {name for names in REFUSED.values() for name in names}
STRING_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
NAMED_SCHEMAS = ("properties", "$defs", "definitions")
LISTED_SCHEMAS = ("anyOf", "allOf")


def schema_violations(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Everything in `schema` that the API refuses; `path` opens each sentence."""
    yield from _node(schema, path)
    for problem in _references(schema):
        yield f"{path}: {problem}"


def _node(node: Any, path: str) -> Iterator[str]:
    if not isinstance(node, dict):
        return
    yield from (f"{path}: {problem}" for problem in _limits(node))
    for name in ("oneOf", "not", "if", "dependentSchemas", "prefixItems"):
        if name in node:
            yield f"{path}: Schema type '{name}' is not supported"
    if any("$ref" in item for item in node.get("allOf", ())):
        yield f"{path}: 'allOf' with '$ref' is not supported"
    for child in _children(node):
        yield from _node(child, path)


def _limits(node: dict[str, Any]) -> Iterator[str]:
    kinds = _kinds(node)
    if "object" in kinds and node.get("additionalProperties") is not False:
        yield "For 'object' type, 'additionalProperties' must be explicitly set to false"
    for kind in sorted(kinds & REFUSED.keys()):
        yield from (f"For '{kind}' type, property '{name}' is not supported" for name in REFUSED[kind] if name in node)
    if not kinds:
        yield from (f"property '{name}' is not supported" for name in sorted(REFUSED_ANYWHERE & node.keys()))
    if node.get("minItems", 0) not in (0, 1):
        yield "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    if "string" in kinds and node.get("format", "uuid") not in STRING_FORMATS:
        yield f"For 'string' type, format '{node['format']}' is not supported"


def _kinds(node: dict[str, Any]) -> set[str]:
    kind = node.get("type", "object" if "properties" in node else [])
    return set(kind) if isinstance(kind, list) else {kind}


def _children(node: dict[str, Any]) -> Iterator[Any]:
    for name in NAMED_SCHEMAS:
        yield from node.get(name, {}).values()
    for name in LISTED_SCHEMAS:
        yield from node.get(name, ())
    if "items" in node:
        yield node["items"]


def _references(schema: dict[str, Any]) -> Iterator[str]:
    """References that lead elsewhere, nowhere, or around in a circle."""
    definitions = {f"#/{place}/{name}": item for place in ("$defs", "definitions") for name, item in schema.get(place, {}).items()}
    definitions["#"] = {name: item for name, item in schema.items() if name not in {"$defs", "definitions"}}
    uses = {name: set(_targets(item)) for name, item in definitions.items()}
    for target in sorted(set().union(*uses.values()) - definitions.keys()):
        yield f"Invalid reference: {target}" if target.startswith("#") else f"External reference '{target}' is not supported"
    for name in definitions:
        reached, open_names = set[str](), [name]
        while open_names:
            new = uses.get(open_names.pop(), set()) - reached
            reached |= new
            open_names += new
        if name in reached:
            yield f"Circular reference detected in schema definitions: {name}. Recursive schemas are not supported"


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in _children(node):
            yield from _targets(child)
