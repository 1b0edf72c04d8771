"""The parameters of a request: limits, sampling, thinking, structure, and the rest.

What a model takes is data (`catalog.MessagesFacts`), and what a deployment was seen to refuse comes with the context. Every change
is noted (docs/translation.md, rules 10, 11, 21, 23, 24 and 26).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compat import jsonio
from compat.config.catalog import MessagesFacts
from compat.errors import Unsupported
from compat.protocols.base import TranslationContext
from compat.protocols.messages.content import Block
from compat.protocols.messages.schema import clean_schema
from compat.protocols.messages.thinking import BINDING_BETA, Thinking, thinking_of, with_room, without_thinking
from compat.protocols.messages.tools import input_schema
from compat.protocols.names import digest_of
from compat.protocols.notes import Notes
from compat.protocols.request import Request

ANSWER_TOOL = "answer_as_json"

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


def parameters_of(request: Request, ctx: TranslationContext, notes: Notes, *, may_think: bool = True) -> Parameters:
    """The parameters for this model. Without `may_think` thinking is off where it can be. Errors: `Unsupported`."""
    refused, facts = ctx.refused_parameters, ctx.model.messages
    if request.answers != 1:
        name = request.name("answers")
        raise Unsupported(f"'{name}' must be 1: this model gives one answer per call.", param=name)
    notes.add_all("dropped", request.extras)
    limit = _limit(request, ctx, notes)
    thinking = thinking_of(request, ctx, notes) if may_think else without_thinking(facts)
    if thinking.is_enabled:
        limit, thinking = with_room(limit, thinking, request, ctx, notes)
    structure = _structure(request, ctx, notes, thinking=thinking)
    fields: Block = {"max_tokens": limit}
    fields |= _sampling(request, facts, refused, notes, is_thinking=thinking.is_on)
    fields |= _stop(request, notes)
    output: Block = {}
    if thinking.effort is not None:
        output["effort"] = thinking.effort
    if structure.format is not None:
        output["format"] = structure.format
    if output:
        fields["output_config"] = output
    if thinking.config is not None:
        fields["thinking"] = thinking.config
    fields |= _identity(request, refused, notes)
    headers = {"anthropic-beta": BINDING_BETA} if "block_binding" in (thinking.config or {}) else {}
    return Parameters(fields, thinking, structure, headers)


def _limit(request: Request, ctx: TranslationContext, notes: Notes) -> int:
    """The limit of the answer: the model's own where the client names none, or a higher one."""
    most = ctx.model.max_output
    if request.limit is None:
        return most
    if request.limit > most:
        notes.add("clamped", request.name("limit"))
    return min(request.limit, most)


# Sampling, stop sequences, structure, identity.


def _sampling(request: Request, facts: MessagesFacts, refused: frozenset[str], notes: Notes, *, is_thinking: bool) -> Block:
    temperature, top_p, top_k = request.sampling.temperature, request.sampling.top_p, request.sampling.top_k
    chosen: Block = {}
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


def _stop(request: Request, notes: Notes) -> Block:
    kept = [sequence for sequence in request.stop if sequence.strip()]
    if len(kept) < len(request.stop):
        notes.add("dropped", f"{request.name('stop')}(whitespace)")
    return {"stop_sequences": kept} if kept else {}


def _structure(request: Request, ctx: TranslationContext, notes: Notes, *, thinking: Thinking) -> Structure:
    wanted = request.format
    if wanted is None:
        return Structure()
    name = request.name("format")
    if wanted.kind == "json":
        return Structure(instruction="Answer with one JSON object and nothing else: no prose around it and no code fence.")
    facts, schema = ctx.model.messages, wanted.schema
    cleaned = clean_schema(schema)
    is_native = facts.structured_output and not _REFUSED_FORMATS & ctx.refused_parameters
    if is_native and cleaned is not None:
        return Structure(format={"type": "json_schema", "schema": cleaned})
    is_forcible = facts.forced_tools == "always" or (facts.forced_tools == "unless_enabled" and not thinking.is_enabled)
    if is_forcible and not request.tools and schema.get("type") == "object" and "tool_choice" not in ctx.refused_parameters:
        fitted = input_schema(schema, name, notes)
        notes.add(name, "tool")
        return Structure(tool={"name": ANSWER_TOOL, "description": "Gives the final answer.", "input_schema": fitted})
    notes.add(name, "instruction")
    words = str(jsonio.encode(schema), "utf-8")
    return Structure(instruction=f"Answer with JSON that fits this schema and nothing else, without a code fence:\n{words}")


def _identity(request: Request, refused: frozenset[str], notes: Notes) -> Block:
    """The user and the service tier."""
    fields: Block = {}
    user_id = _user_id(request, notes)
    if user_id and "metadata" in refused:
        notes.add("dropped", "metadata")
    elif user_id:
        fields["metadata"] = {"user_id": user_id}
    if request.service_tier:
        known = _SERVICE_TIERS.get(request.service_tier)
        if known is not None and "service_tier" not in refused:
            fields["service_tier"] = known
        else:
            notes.add("dropped", request.name("service_tier"))
    return fields


def _user_id(request: Request, notes: Notes) -> str:
    """The id of the client's user; a digest of what the API would refuse: addresses of people, and texts of more than 256 characters."""
    notes.add_all("dropped", (f"{request.name('metadata')}.{key}" for key in request.metadata))
    notes.add_all("dropped", request.unread)
    user_id = request.user_id
    if len(user_id) <= _MAX_USER_ID and "@" not in user_id:
        return user_id
    notes.add("hashed", request.name("user_id"))
    return f"user-{digest_of(user_id, 8)}"
