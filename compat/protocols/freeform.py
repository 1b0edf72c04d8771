"""Freeform tools for upstreams that know functions only: a function whose `input` is the raw text, and the same of their calls.

What the model writes there is the client's protocol's to unwrap (`Request.shapes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.protocols.request import Freeform, Function, ToolCall

_INPUT: Mapping[str, Any] = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}


def as_function(tool: Freeform) -> Function:
    """The function in place of a freeform tool; its grammar is advice."""
    words = f"{tool.description}\nPass the raw text in `input`.{_grammar(tool.format)}".strip()
    return Function(tool.where, tool.name, words, _INPUT, is_deferred=tool.is_deferred, cache=tool.cache)


def wrapped(call: ToolCall) -> Mapping[str, Any]:
    """The arguments in place of a freeform call's text."""
    return {"input": str(call.arguments or "")}


def _grammar(form: Any) -> str:
    """The grammar that the text must follow, where there is one, as Chat or the Responses API have it."""
    match form:
        case {"grammar": {"syntax": str(syntax), "definition": str(definition)}} | {"syntax": str(syntax), "definition": str(definition)}:
            return f" It must follow this grammar ({syntax}):\n{definition}"
    return ""
