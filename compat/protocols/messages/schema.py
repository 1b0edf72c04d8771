"""JSON schemas as Anthropic's structured outputs take them.

Objects are closed, limits of numbers, strings and lists move to the description (the API refuses them, the model reads them there),
`oneOf` becomes `anyOf`; what can't be said there is `None` (docs/translation.md, rule 23). Schemas of tools are taken as they are, but for
alternatives at their top, which are folded into one object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio

_KEPT = frozenset({"type", "enum", "const", "title", "description", "default"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_DEFINITIONS = ("$defs", "definitions")
_BESIDE_REFERENCES = frozenset({"$ref", *_DEFINITIONS})
COMBINATORS = ("anyOf", "oneOf", "allOf")
_IGNORED = frozenset({"$schema", "$id", "additionalProperties", "unevaluatedProperties", "strict"})
_MAX_DEPTH = 60
_sorted = msgspec.json.Encoder(order="deterministic").encode
"""JSON text that is the same for equal values, whatever the order of their keys."""


class _Inexpressible(Exception):
    """The dialect has no words for this schema."""


def clean_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """`schema` in the API's dialect; `None` where that can't say it.

    It can't say recursion, references to elsewhere, objects with keys of any name, and more than one part of `allOf`.
    """
    if _is_tangled(schema):
        return None
    try:
        return _clean(schema, 0)
    except _Inexpressible:
        return None


def _clean(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, dict):  # `true`: anything goes
        return {}
    if depth > _MAX_DEPTH or _has_free_keys(schema):
        raise _Inexpressible
    if "$ref" in schema:
        return {
            key: _children(value, depth) if key in _DEFINITIONS else value for key, value in schema.items() if key in _BESIDE_REFERENCES
        }
    cleaned: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for key, value in schema.items():
        entries = _entries(key, value, schema, depth)
        if entries is not None:
            cleaned |= entries
        elif key not in _IGNORED:
            told[key] = value
    if "properties" in cleaned or "object" in _types(cleaned):
        cleaned["additionalProperties"] = False
    if "$ref" in cleaned:
        return {key: value for key, value in cleaned.items() if key in _BESIDE_REFERENCES}
    if told:
        words = str(jsonio.encode(told), "utf-8")
        cleaned["description"] = f"{cleaned['description']} {words}" if cleaned.get("description") else words
    return cleaned


def _entries(key: str, value: Any, schema: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
    """What a keyword becomes; `None` where the dialect does not have it."""
    if key in _KEPT or _is_kept(key, value):
        return {key: value}
    if key in ("properties", *_DEFINITIONS) and isinstance(value, dict):
        return {key: _children(value, depth)}
    if key == "items" and not isinstance(value, list):
        return {key: _clean(value, depth + 1)}
    if key in ("anyOf", "oneOf") and isinstance(value, list):
        return {"anyOf": [_clean(child, depth + 1) for child in value]}
    if key == "allOf" and isinstance(value, list):
        return _only(value, schema, depth)
    return None


def _children(value: Any, depth: int) -> dict[str, Any]:
    return {name: _clean(child, depth + 1) for name, child in _items(value)}


def _only(parts: list[Any], schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The one part of an `allOf`. Closed objects can't be joined: what one names, the other refuses."""
    if len(parts) != 1 or not schema.keys() <= {"allOf", "title", "description", "default", *_DEFINITIONS, *_IGNORED}:
        raise _Inexpressible
    return _clean(parts[0], depth + 1)


def _is_kept(key: str, value: Any) -> bool:
    return (
        (key == "required" and isinstance(value, list))
        or (key == "format" and isinstance(value, str) and value in _FORMATS)
        or (key == "minItems" and value in (0, 1))
    )


def _types(schema: Mapping[str, Any]) -> list[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]


def _has_free_keys(schema: Mapping[str, Any]) -> bool:
    """Whether this is an object whose keys the schema does not name: it can't be closed without losing them."""
    rest = schema.get("additionalProperties")
    if schema.get("patternProperties") or (isinstance(rest, dict) and rest):
        return True
    names_keys = rest is False or isinstance(schema.get("properties"), dict) or any(key in schema for key in ("$ref", *COMBINATORS))
    return "object" in _types(schema) and not names_keys


def folded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """One object that takes what `schema` takes whatever alternatives it has at its top, where the API refuses them.

    However many alternatives there are, and whatever they repeat, each of their fields is read once.
    """
    own = as_object(schema.get("properties"))
    found: dict[str, dict[bytes, Any]] = {}
    required = dict.fromkeys(_names(schema.get("required")))
    definitions = _definitions(schema)
    for key in COMBINATORS:
        variants = _targets(_list(schema.get(key)), definitions)
        for name, child in ((name, child) for variant in variants for name, child in _items(variant.get("properties"))):
            found.setdefault(name, {}).setdefault(_sorted(child), child)
        names = Counter(name for variant in variants for name in dict.fromkeys(_names(variant.get("required"))))
        required |= {name: None for name, count in names.items() if key == "allOf" or count == len(variants)}
    properties = {name: next(iter(ways.values())) if len(ways) == 1 else {"anyOf": list(ways.values())} for name, ways in found.items()}
    rest = {key: value for key, value in schema.items() if key not in {*COMBINATORS, "required"}}
    return {**rest, "properties": properties | own, **({"required": list(required)} if required else {})}


def _targets(variants: Sequence[Any], definitions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The variants, each definition that they refer to once: a thousand references to a long one are not a thousand long ones."""
    targets: list[dict[str, Any]] = []
    seen: set[str] = set()
    for variant in variants:
        fields = as_object(variant)
        reference = fields.get("$ref")
        if not isinstance(reference, str):
            targets.append(fields)
        elif reference not in seen:
            seen.add(reference)
            targets.append(as_object(definitions.get(reference)))
    return targets


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What references at the top of `schema` may lead to, by the reference."""
    return {f"#/{key}/{name}": child for key in _DEFINITIONS for name, child in _items(schema.get(key))}


def _names(value: Any) -> list[str]:
    return [name for name in _list(value) if isinstance(name, str)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_object(value: Any) -> dict[str, Any]:
    """`value`, or an empty object in place of anything else."""
    return value if isinstance(value, dict) else {}


def _is_tangled(schema: Mapping[str, Any]) -> bool:
    """Whether a definition leads to itself by references, or one leads nowhere.

    Those that nothing leads to are taken away, again and again (Kahn's algorithm): what is left goes in a circle.
    """
    definitions: dict[str, Any] = {**_definitions(schema), "#": schema}
    leads_to = {name: _references(child, skips_definitions=name == "#") for name, child in definitions.items()}
    pointed_at = Counter(name for names in leads_to.values() for name in names)
    if not pointed_at.keys() <= leads_to.keys():
        return True
    free = [name for name in leads_to if name not in pointed_at]
    for name in free:  # which grows on the way
        for target in leads_to[name]:
            pointed_at[target] -= 1
            if not pointed_at[target]:
                free.append(target)
    return len(free) < len(leads_to)


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
