"""JSON schemas as Anthropic's structured outputs take them.

Objects are closed, limits of numbers, strings and lists are told in the description instead (the API refuses them, the model reads them),
`oneOf` becomes `anyOf`. A recursive schema can't be compiled there: `None` (translation rule 23).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat import jsonio
from compat.errors import BadRequest

_KEPT = frozenset({"type", "enum", "const", "title", "description", "default", "$ref"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_DEFINITIONS = ("$defs", "definitions")
_IGNORED = frozenset({"$schema", "$id", "additionalProperties", "unevaluatedProperties", "strict"})
_MAX_DEPTH = 60


def clean_schema(schema: Any) -> dict[str, Any] | None:
    """`schema` in the API's dialect; `None` where it is recursive. `BadRequest` where it is not a schema of an object."""
    if not isinstance(schema, dict):
        raise BadRequest("'response_format.json_schema.schema' must be an object.", param="response_format")
    if _is_recursive(schema):
        return None
    return _clean(schema, 0)


def _clean(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, dict):  # `true`: anything goes
        return {}
    if depth > _MAX_DEPTH:
        raise BadRequest("'response_format' is nested too deeply.", param="response_format")
    cleaned: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _KEPT:
            cleaned[key] = value
        elif key in {"properties", *_DEFINITIONS} and isinstance(value, dict):
            cleaned[key] = {name: _clean(child, depth + 1) for name, child in value.items()}
        elif key == "items" and not isinstance(value, list):
            cleaned[key] = _clean(value, depth + 1)
        elif key in {"anyOf", "oneOf", "allOf"} and isinstance(value, list):
            cleaned["allOf" if key == "allOf" else "anyOf"] = [_clean(child, depth + 1) for child in value]
        elif (
            (key == "required" and isinstance(value, list))
            or (key == "format" and value in _FORMATS)
            or (key == "minItems" and value in {0, 1})
        ):
            cleaned[key] = value
        elif key not in _IGNORED:
            told[key] = value
    if "properties" in cleaned or cleaned.get("type") == "object":
        cleaned["additionalProperties"] = False
    if told:
        words = str(jsonio.encode(told), "utf-8")
        cleaned["description"] = f"{cleaned['description']} {words}" if cleaned.get("description") else words
    return cleaned


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition leads to itself by references."""
    definitions = {f"#/{key}/{name}": child for key in _DEFINITIONS for name, child in _items(schema.get(key))}
    definitions["#"] = schema
    leads_to = {name: _references(child, skips_definitions=name == "#") for name, child in definitions.items()}
    for start in leads_to:
        seen: set[str] = set()
        ahead = list(leads_to[start])
        while ahead:
            name = ahead.pop()
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                ahead += leads_to.get(name, ())
    return False


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _references(schema: Any, *, skips_definitions: bool = False) -> set[str]:
    found: set[str] = set()
    ahead = [schema]
    while ahead:
        node = ahead.pop()
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                found.add(node["$ref"])
            ahead += [child for key, child in node.items() if not (skips_definitions and node is schema and key in _DEFINITIONS)]
        elif isinstance(node, list):
            ahead += node
    return found
