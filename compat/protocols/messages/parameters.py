"""The parameters of a request: limits, sampling, thinking, structure, and the rest.

What a model takes is data (`catalog.MessagesFacts`), and what a deployment was seen to refuse comes with the context. Every change
is noted (docs/translation.md, rules 10, 11, 21, 23, 24 and 26).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compat import jsonio
from compat.config.catalog import MessagesFacts
from compat.errors import BadRequest, Unsupported
from compat.protocols.base import TranslationContext
from compat.protocols.messages.content import Block
from compat.protocols.messages.schema import clean_schema
from compat.protocols.messages.thinking import BINDING_BETA, Thinking, read_thinking, with_room, without_thinking
from compat.protocols.messages.tools import input_schema
from compat.protocols.notes import Notes
from compat.wire.envelope import Envelope

ANSWER_TOOL = "answer_as_json"

_READ_ELSEWHERE = frozenset(
    {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "cache_control", "n"}
)
_READ_HERE = frozenset(
    {"max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "response_format", "reasoning_effort", "reasoning"}
    | {"thinking", "user", "metadata", "service_tier", "functions", "function_call"}
)
_WITHOUT_EFFECT = frozenset({"store", "promptCacheKey", "prompt_cache_key", "safety_identifier"})
"""Hints to another service, with no effect on the answer."""
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
_REFUSED_FORMATS = frozenset({"output_config", "output_config.format", "output_config.format.schema"})
_MAX_USER_ID = 256
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}


@dataclass(frozen=True, slots=True)
class Structure:
    """How the answer is to be structured: natively by a format, by a forced tool, or by words to the model."""

    format: Block | None = None
    tool: Block | None = None
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The top level of the request for the upstream, less model, messages, system and tools; and headers that go with it."""

    fields: Block
    thinking: Thinking
    structure: Structure
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def refuses_prefill(self) -> bool:
        """Whether no answer may be begun by the client, even where the model takes that: not with thinking, not with a format."""
        return self.thinking.is_on or self.structure.format is not None


def read_parameters(envelope: Envelope, ctx: TranslationContext, notes: Notes, *, has_tools: bool, may_think: bool = True) -> Parameters:
    """The parameters for this model. Without `may_think` thinking is off where it can be. Errors: `BadRequest`, `Unsupported`."""
    refused, facts = ctx.refused_parameters, ctx.model.messages
    _check_unknown(envelope, notes)
    limit, is_default_limit = _max_tokens(envelope, ctx, notes)
    thinking = read_thinking(envelope, ctx, notes) if may_think else without_thinking(facts)
    if thinking.is_enabled:
        limit, thinking = with_room(limit, thinking, ctx, notes, is_default_limit=is_default_limit)
    structure = _structure(envelope, ctx, notes, has_tools=has_tools, thinking=thinking)
    fields: Block = {"max_tokens": limit}
    fields |= _sampling(envelope, facts, refused, notes, is_thinking=thinking.is_on)
    fields |= _stop(envelope, notes)
    output: Block = {}
    if thinking.effort is not None:
        output["effort"] = thinking.effort
    if structure.format is not None:
        output["format"] = structure.format
    if output:
        fields["output_config"] = output
    if thinking.config is not None:
        fields["thinking"] = thinking.config
    fields |= _identity(envelope, refused, notes)
    headers = {"anthropic-beta": BINDING_BETA} if "block_binding" in (thinking.config or {}) else {}
    return Parameters(fields, thinking, structure, headers)


def _check_unknown(envelope: Envelope, notes: Notes) -> None:
    count = envelope.value("n")
    if count is not None and count != 1:
        raise Unsupported("'n' must be 1: this model gives one answer per call.", param="n")
    for key in ("functions", "function_call"):
        if envelope.value(key) is not None:
            raise Unsupported(f"'{key}' was replaced by 'tools' and 'tool_choice'.", param=key)
    for key in envelope:
        if key in _READ_ELSEWHERE or key in _READ_HERE or key in _WITHOUT_EFFECT:
            continue
        if not envelope.is_null(key) and (envelope.size_bytes(key) > _LONGEST_DEFAULT or envelope.value(key) != _DEFAULTS.get(key)):
            notes.add("dropped", key)


def _number(envelope: Envelope, name: str) -> float | int | None:
    value = envelope.value(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"'{name}' must be a number.", param=name)
    return value


def _max_tokens(envelope: Envelope, ctx: TranslationContext, notes: Notes) -> tuple[int, bool]:
    """The limit, and whether it is the model's own because the client named none."""
    named = [name for name in ("max_completion_tokens", "max_tokens") if envelope.value(name) is not None]
    if not named:
        return ctx.model.max_output, True
    value = _number(envelope, named[0])
    if value is None or value < 1 or value != int(value):
        raise BadRequest(f"'{named[0]}' must be a whole number of at least 1.", param=named[0])
    if value > ctx.model.max_output:
        notes.add("clamped", named[0])
        return ctx.model.max_output, False
    return int(value), False


# Sampling, stop sequences, structure, identity.


def _sampling(envelope: Envelope, facts: MessagesFacts, refused: frozenset[str], notes: Notes, *, is_thinking: bool) -> Block:
    temperature, top_p, top_k = (_number(envelope, name) for name in ("temperature", "top_p", "top_k"))
    chosen: Block = {}
    if temperature is not None and (temperature < 0 or temperature > 2):
        raise BadRequest("'temperature' must be between 0 and 2.", param="temperature")
    if top_p is not None and (top_p < 0 or top_p > 1):
        raise BadRequest("'top_p' must be between 0 and 1.", param="top_p")
    if temperature is not None and temperature > 1:
        notes.add("clamped", "temperature")
        temperature = 1
    dropped = []
    for name, value, default in (("temperature", temperature, 1), ("top_p", top_p, 1), ("top_k", top_k, None)):
        if value is None or value == default:
            continue
        is_possible = facts.sampling != "none" and name not in refused and not (facts.sampling == "one" and name == "top_p" and chosen)
        if is_thinking:
            is_possible = is_possible and name == "top_p" and value >= 0.95
        if name == "top_k":
            is_possible = is_possible and value >= 0  # -1 is how some servers say that it is off
        if is_possible:
            chosen[name] = int(value) if name == "top_k" else value
        else:
            dropped.append(name)
    notes.add_all("dropped", dropped)
    return chosen


def _stop(envelope: Envelope, notes: Notes) -> Block:
    stop = envelope.value("stop")
    sequences = [stop] if isinstance(stop, str) else stop
    if sequences is None:
        return {}
    if not isinstance(sequences, list) or not all(isinstance(sequence, str) for sequence in sequences):
        raise BadRequest("'stop' must be a string or a list of strings.", param="stop")
    kept = [sequence for sequence in sequences if sequence.strip()]
    if len(kept) < len(sequences):
        notes.add("dropped", "stop(whitespace)")
    return {"stop_sequences": kept} if kept else {}


def _structure(envelope: Envelope, ctx: TranslationContext, notes: Notes, *, has_tools: bool, thinking: Thinking) -> Structure:
    wanted = envelope.value("response_format")
    if wanted is None:
        return Structure()
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "text":
        return Structure()
    if kind == "json_object":
        return Structure(instruction="Answer with one JSON object and nothing else: no prose around it and no code fence.")
    if kind != "json_schema" or not isinstance(wanted.get("json_schema"), dict):
        raise BadRequest("'response_format' must be of type text, json_object or json_schema.", param="response_format")
    facts = ctx.model.messages
    schema = wanted["json_schema"].get("schema")
    cleaned = clean_schema(schema)
    is_native = facts.structured_output and not _REFUSED_FORMATS & ctx.refused_parameters
    if is_native and cleaned is not None:
        return Structure(format={"type": "json_schema", "schema": cleaned})
    is_forcible = facts.forced_tools == "always" or (facts.forced_tools == "unless_enabled" and not thinking.is_enabled)
    if is_forcible and not has_tools and schema.get("type") == "object" and "tool_choice" not in ctx.refused_parameters:
        fitted = input_schema(schema, "response_format", notes)
        notes.add("response_format", "tool")
        return Structure(tool={"name": ANSWER_TOOL, "description": "Gives the final answer.", "input_schema": fitted})
    notes.add("response_format", "instruction")
    words = str(jsonio.encode(schema), "utf-8")
    return Structure(instruction=f"Answer with JSON that fits this schema and nothing else, without a code fence:\n{words}")


def _identity(envelope: Envelope, refused: frozenset[str], notes: Notes) -> Block:
    """`user` and metadata, and the service tier."""
    fields: Block = {}
    user_id = _user_id(envelope, notes)
    if user_id and "metadata" in refused:
        notes.add("dropped", "metadata")
    elif user_id:
        fields["metadata"] = {"user_id": user_id}
    tier = envelope.value("service_tier")
    if tier is not None:
        known = _SERVICE_TIERS.get(tier) if isinstance(tier, str) else None
        if known is not None and "service_tier" not in refused:
            fields["service_tier"] = known
        else:
            notes.add("dropped", "service_tier")
    return fields


def _user_id(envelope: Envelope, notes: Notes) -> str:
    """The id of the client's user; a digest of what the API would refuse: addresses of people, and texts of more than 256 characters."""
    metadata, user = envelope.value("metadata"), envelope.value("user")
    named = None
    if isinstance(metadata, dict):
        named = metadata.get("user_id")
        notes.add_all("dropped", (f"metadata.{key}" for key in metadata if key != "user_id"))
    elif metadata is not None:
        notes.add("dropped", "metadata")
    user_id = user if named is None else named
    if user_id is None or user_id == "":
        return ""
    if not isinstance(user_id, str):
        notes.add("dropped", "user")
        return ""
    if len(user_id) <= _MAX_USER_ID and "@" not in user_id:
        return user_id
    notes.add("hashed", "user")
    return f"user-{hashlib.blake2s(user_id.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"
