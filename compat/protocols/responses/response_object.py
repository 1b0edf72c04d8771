"""The response object: all of its fields, in every event and body that has one.

Open Responses demands each of them (its schema, 2026-04-24). What the request said is given back (`AnswerMemory.echoed`), what it left out
has OpenAI's default. When it was complete is the caller's to know (`TranslationContext.now`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from compat import jsonio
from compat.wire.usage import Usage

REASONS: Mapping[str, str] = {"length": "max_output_tokens", "refusal": "content_filter"}
"""Why an answer is incomplete."""
_DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "frequency_penalty": 0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_FUNCTION: Mapping[str, Any] = {"description": None, "parameters": None, "strict": None}
_OF_ANSWER = frozenset({"id", "object", "created_at", "completed_at", "model", "status", "error", "incomplete_details", "output", "usage"})


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What an answer's object says from its first event to its last; `text` is that as JSON, open at its end."""

    text: bytes
    shows_summary: bool = False

    @classmethod
    def of(cls, answer_id: str, created_s: int, model: str, echoed: Mapping[str, Any]) -> ResponseHead:
        """The head of an answer to a request with these fields."""
        fields = given_back(echoed)
        identity = {"id": answer_id, "object": "response", "created_at": created_s, "model": model}
        return cls(jsonio.encode({**identity, **fields})[:-1], fields["reasoning"].get("summary") is not None)

    def encoded(
        self,
        status: str,
        output: Sequence[Any] = (),
        usage: Mapping[str, Any] | None = None,
        reason: str | None = None,
        error: Mapping[str, Any] | None = None,
        now_s: int | None = None,
    ) -> msgspec.Raw:
        """The object, as far as the answer has come; `reason` says why it is incomplete, `now_s` is the time, where it may be complete."""
        details = None if reason is None else {"reason": reason}
        done = {"completed_at": now_s if status == "completed" else None}
        rest = {**done, "status": status, "error": error, "incomplete_details": details, "output": list(output), "usage": usage}
        return msgspec.Raw(b"%s,%s" % (self.text, jsonio.encode(rest)[1:]))


def given_back(echoed: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the request, in the form that the object has them."""
    known = {key: _decoded(value) for key, value in echoed.items() if key not in _OF_ANSWER}
    fields = {**_DEFAULTS, **{key: value for key, value in known.items() if value is not None}}
    for key in ("reasoning", "text"):
        value = fields[key]
        fields[key] = {**_DEFAULTS[key], **(value if isinstance(value, dict) else {})}
    fields["text"]["format"] = fields["text"]["format"] or _DEFAULTS["text"]["format"]
    tools = fields["tools"]
    fields["tools"] = [_tool(tool) for tool in tools] if isinstance(tools, list | tuple) else []
    return fields


def _decoded(value: Any) -> Any:
    return jsonio.decode(value) if isinstance(value, msgspec.Raw) else value


def _tool(tool: Any) -> Any:
    return {**_FUNCTION, **tool} if isinstance(tool, dict) and tool.get("type") == "function" else tool


def usage_object(usage: Usage, cost_usd: float) -> dict[str, Any]:
    """Usage in this protocol's words, all of it integers, with the cost beside them."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "cost_details": {"upstream_inference_cost": cost_usd},
    }


def told_cost(told: Any) -> float | None:
    """The cost that a usage object names."""
    details = told.get("cost_details") if isinstance(told, Mapping) else None
    cost = details.get("upstream_inference_cost") if isinstance(details, Mapping) else None
    return cost if isinstance(cost, int | float) and not isinstance(cost, bool) else None
