"""Parameters of a call in OpenAI's chat protocol, and of what its clients have come to send besides: the client's half.

Each is checked in this protocol's words. A field that not every protocol has is an extra, unless it holds its default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compat.errors import BadRequest, Unsupported
from compat.protocols.request import EFFORTS, Field, Format, Reasoning, Sampling
from compat.wire.envelope import Envelope

NAMES: Mapping[Field, str] = {
    "limit": "max_tokens",
    "answers": "n",
    "choice": "tool_choice",
    "parallel": "parallel_tool_calls",
    "effort": "reasoning_effort",
    "budget": "reasoning",
    "format": "response_format",
    "user_id": "user",
    "cache_key": "prompt_cache_key",
}
NEWER_NAMES: Mapping[Field, str] = {**NAMES, "limit": "max_completion_tokens"}

REPLACED = ("functions", "function_call")
"""By `tools` and `tool_choice`."""
_OF_THE_GATEWAY = frozenset({"model", "stream", "stream_options"})
_READ = _OF_THE_GATEWAY | frozenset(
    {"messages", "tools", "tool_choice", "parallel_tool_calls", "cache_control", "n"}
    | {"max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "response_format", "reasoning_effort", "reasoning"}
    | {"thinking", "user", "metadata", "service_tier", "functions", "function_call"}
    | {"store", "promptCacheKey", "prompt_cache_key", "safety_identifier"}  # hints to a service, with no effect on the answer
)
_DEFAULTS: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "modalities": ["text"],
    "verbosity": "medium",
    "include_reasoning": True,
}
_LONGEST_DEFAULT = 64
"""Bytes, blanks among them; what is longer is not decoded."""
_DEFAULT_EFFORT = "medium"


class Extras(Mapping[str, bytes]):
    """Some of an envelope's fields, which are not copied before somebody asks."""

    __slots__ = ("_envelope", "_names")

    def __init__(self, envelope: Envelope, names: Mapping[str, None]) -> None:
        self._envelope = envelope
        self._names = names

    def __getitem__(self, key: str) -> bytes:
        if key not in self._names:
            raise KeyError(key)
        return self._envelope[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_fields(envelope: Envelope) -> dict[str, Any]:
    """The fields that have a neutral place, decoded, each once. Errors: `Unsupported` for those that were replaced, unless the client says
    itself that they are not to be used."""
    fields = {key: envelope.value(key) for key in envelope if key in _READ and key not in _OF_THE_GATEWAY}
    if fields.get("function_call") == "none":
        return fields
    for key in REPLACED:
        if fields.get(key) is not None:
            raise Unsupported(f"'{key}' was replaced by 'tools' and 'tool_choice'.", param=key)
    return fields


def read_extras(envelope: Envelope) -> Extras:
    """The fields that have no neutral place."""
    return Extras(envelope, {key: None for key in envelope if key not in _READ and not _is_default(envelope, key)})


def _is_default(envelope: Envelope, key: str) -> bool:
    if envelope.is_null(key):
        return True
    return envelope.size_bytes(key) <= _LONGEST_DEFAULT and bool(envelope.value(key) == _DEFAULTS.get(key))


def read_answers(fields: Mapping[str, Any]) -> int:
    """How many answers are wanted. Errors: `BadRequest`."""
    count = fields.get("n")
    if count is None:
        return 1
    if not isinstance(count, int | float) or count < 1 or count != int(count):
        raise BadRequest("'n' must be a whole number: 1 for one answer per call.", param="n")
    return int(count)


def read_limit(fields: Mapping[str, Any]) -> tuple[int | None, Mapping[Field, str]]:
    """The limit of the answer, and the client's names of fields: this one has two. Errors: `BadRequest`."""
    for name, names in (("max_completion_tokens", NEWER_NAMES), ("max_tokens", NAMES)):
        value = _number(fields, name)
        if value is None:
            continue
        if value == 0 and names is NEWER_NAMES:  # as OpenAI's own SDK sends it beside everything else
            return 1, names
        if value < 1 or value != int(value):
            raise BadRequest(f"'{name}' must be a whole number of at least 1.", param=name)
        return int(value), names
    return None, NAMES


def _number(fields: Mapping[str, Any], name: str) -> float | int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"'{name}' must be a number.", param=name)
    return value


def changes_in(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes on what was read otherwise than it was sent."""
    dropped = tuple(f"dropped={name}" for name in REPLACED if name in fields and fields[name] is not None)
    return (*dropped, "raised=max_completion_tokens") if fields.get("max_completion_tokens") == 0 else dropped


def read_sampling(fields: Mapping[str, Any]) -> Sampling:
    """Sampling. Errors: `BadRequest`."""
    temperature, top_p, top_k = _number(fields, "temperature"), _number(fields, "top_p"), _number(fields, "top_k")
    if temperature is not None and (temperature < 0 or temperature > 2):
        raise BadRequest("'temperature' must be between 0 and 2.", param="temperature")
    if top_p is not None and (top_p < 0 or top_p > 1):
        raise BadRequest("'top_p' must be between 0 and 1.", param="top_p")
    return Sampling(temperature, top_p, top_k)


def read_stop(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Stop sequences. Errors: `BadRequest`."""
    stop = fields.get("stop")
    if stop is None:
        return ()
    sequences = [stop] if isinstance(stop, str) else stop
    if not isinstance(sequences, list) or not all(isinstance(sequence, str) for sequence in sequences):
        raise BadRequest("'stop' must be a string or a list of strings.", param="stop")
    return tuple(sequences)


def read_format(fields: Mapping[str, Any]) -> Format | None:
    """The structure of the answer. Errors: `BadRequest`."""
    wanted = fields.get("response_format")
    if wanted is None:
        return None
    form = wanted if isinstance(wanted, dict) else {}
    kind, described = form.get("type"), form.get("json_schema")
    if kind == "text":
        return None
    if kind == "json_object":
        return Format("json")
    if kind != "json_schema" or not isinstance(described, dict):
        raise BadRequest("'response_format' must be of type text, json_object or json_schema.", param="response_format")
    schema = described.get("schema")
    if not isinstance(schema, dict):
        raise BadRequest("'response_format.json_schema.schema' must be an object.", param="response_format")
    return Format.described(schema, described)


def read_reasoning(fields: Mapping[str, Any]) -> Reasoning:
    """By `reasoning_effort`, `reasoning` (OpenRouter's), or `thinking` in Anthropic's words. Errors: `BadRequest`."""
    effort, budget = fields.get("reasoning_effort"), None
    reasoning, thinking = fields.get("reasoning"), fields.get("thinking")
    extras: list[str] = []
    if isinstance(reasoning, dict):
        extras += [f"reasoning.{key}" for key in reasoning if key not in {"effort", "max_tokens", "enabled"}]
        budget = reasoning.get("max_tokens")
        effort = reasoning.get("effort") or effort
        if reasoning.get("enabled") is False:
            effort = "none"
        elif reasoning.get("enabled") is True and effort is None and budget is None:
            effort = _DEFAULT_EFFORT
    elif reasoning is not None:
        extras.append("reasoning")
    if isinstance(thinking, dict) and effort is None:
        effort, budget = _asked_type(thinking, budget, extras)
    elif thinking is not None and not isinstance(thinking, dict):
        extras.append("thinking")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or budget < 0):
        raise BadRequest("The budget for thinking must be a whole number of tokens.", param="reasoning")
    if effort == "none" or (effort is None and budget == 0):
        return Reasoning("none", extras=tuple(extras))
    if effort is None:
        return Reasoning(budget=budget, extras=tuple(extras))
    known = next((level for level in EFFORTS if level == effort), None)
    if known is None:
        raise BadRequest(f"'reasoning_effort' must be one of {', '.join(EFFORTS)}.", param="reasoning_effort")
    return Reasoning(known, extras=tuple(extras))


def _asked_type(thinking: Mapping[str, Any], budget: Any, extras: list[str]) -> tuple[str | None, Any]:
    """Effort and budget of a `thinking` object in Anthropic's words."""
    match thinking.get("type"):
        case "disabled":
            return "none", None
        case "adaptive":
            return "high", None
        case "enabled":
            budget = thinking.get("budget_tokens", budget)
            return (_DEFAULT_EFFORT, None) if budget is None else (None, budget)
    extras.append("thinking")
    return None, budget


def read_verbosity(envelope: Envelope) -> str:
    """How much the answer is to say, where the client says so in a word."""
    value = envelope.value("verbosity") if envelope.size_bytes("verbosity") <= _LONGEST_DEFAULT else None
    return value if isinstance(value, str) else ""


def read_user(fields: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], list[str]]:
    """The user's id, metadata, and the names of those fields that hold something else than they should."""
    metadata, user = fields.get("metadata"), fields.get("user")
    unread: list[str] = []
    if metadata is not None and not isinstance(metadata, dict):
        unread.append("metadata")
    told = dict(metadata) if isinstance(metadata, dict) else {}
    named = told.pop("user_id", None)
    user_id = user if named is None else named
    if user_id is not None and not isinstance(user_id, str):
        unread.append("user")
    return user_id if isinstance(user_id, str) else "", told, unread
