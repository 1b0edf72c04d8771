"""The parameters of a request for the Responses API: limits, sampling, reasoning, structure, and the rest.

What a model takes is data (`catalog.ResponsesFacts`), and what a deployment was seen to refuse comes with the context. Every change is
noted (docs/translation.md, rules 33 and 34).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from compat.errors import Unsupported
from compat.protocols.base import TranslationContext
from compat.protocols.names import fit_name
from compat.protocols.notes import Notes
from compat.protocols.request import EFFORTS, Effort, Request
from compat.protocols.responses.content import Part
from compat.protocols.responses.parts import SEALED
from compat.protocols.stop_sequences import MAX_CHARS, MAX_SEQUENCES

MIN_OUTPUT = 16
_BUDGETS: Mapping[Effort, int] = {"low": 4096, "medium": 10_000, "high": 20_000, "xhigh": 32_000, "max": 60_000}
_TIERS = frozenset({"auto", "default", "flex", "priority", "fast", "ultrafast"})
_VERBOSITIES = frozenset({"low", "medium", "high"})
_SAME = frozenset({"prompt_cache_retention", "prompt_cache_options"})
"""Fields that Chat has as well, in the same words."""
_MAX_KEY = 64
_MAX_METADATA = 16
_OPENAI = "openai."


def parameters_of(request: Request, ctx: TranslationContext, notes: Notes) -> Part:
    """The top level of the request, less model, input and tools. Errors: `Unsupported`."""
    if request.answers != 1:
        name = request.name("answers")
        raise Unsupported(f"'{name}' must be 1: this model gives one answer per call.", param=name)
    reasoning = _reasoning(request, ctx, notes)
    fields: Part = {"store": False}
    if request.store:
        notes.add("dropped", request.name("store"))
    fields |= reasoning
    fields |= _limit(request, ctx, notes)
    fields |= _sampling(request, ctx, notes, effort=_effort_of(reasoning, ctx))
    fields |= _text(request, ctx, notes)
    fields |= _identity(request, ctx, notes)
    fields |= _extras(request, ctx, notes)
    return fields


def stop_of(request: Request, notes: Notes) -> tuple[str, ...]:
    """The stop sequences, which the API has not: the answer's reader ends its text there."""
    fit = [sequence for sequence in request.stop if 0 < len(sequence) <= MAX_CHARS]
    kept, name = tuple(fit[:MAX_SEQUENCES]), request.name("stop")
    if kept:
        notes.add("emulated", name)
    if len(kept) < len(request.stop):
        notes.add("dropped", f"{name}({len(request.stop) - len(kept)})")
    return kept


def _limit(request: Request, ctx: TranslationContext, notes: Notes) -> Part:
    """The limit of the answer, where the client names one."""
    if request.limit is None:
        return {}
    limit = min(max(request.limit, MIN_OUTPUT), ctx.model.max_output)
    if limit != request.limit:
        notes.add("clamped" if limit < request.limit else "raised", request.name("limit"))
    return {"max_output_tokens": limit}


def _reasoning(request: Request, ctx: TranslationContext, notes: Notes) -> Part:
    """How much the model is to reason, a summary of it for people, and its seal for the turns that follow."""
    asked, refused, name = request.reasoning, ctx.refused_parameters, request.name("effort")
    notes.add_all("dropped", asked.extras)
    is_known = bool(ctx.model.apis)
    if (is_known and not ctx.model.reasoning) or "reasoning" in refused:
        if not asked.is_silent and asked.effort != "none":
            notes.add("dropped", name)
        return {}
    wanted: Part = {}
    level = _level(request, ctx, notes)
    if level is not None:
        wanted["effort"] = level
    is_on = (level or ctx.model.responses.default_effort) != "none"
    if is_on and ctx.model.reasoning and asked.display not in {"omitted", "dropped"} and "reasoning.summary" not in refused:
        wanted["summary"] = "auto"
    sealed: Part = {"include": [SEALED]} if is_on and "include" not in refused else {}
    return {**({"reasoning": wanted} if wanted else {}), **sealed}


def _level(request: Request, ctx: TranslationContext, notes: Notes) -> Effort | None:
    """The effort; where the model lacks it the next one above, or the highest there is. `None` leaves it to the model."""
    asked, facts, refused, name = request.reasoning, ctx.model.responses, ctx.refused_parameters, request.name("effort")
    if asked.is_silent:
        return None
    if "reasoning.effort" in refused:
        notes.add("dropped", name)
        return None
    level = asked.effort or ("high" if asked.is_adaptive else "low")
    if asked.budget is not None:
        level = next(effort for effort, budget in _BUDGETS.items() if asked.budget <= budget or effort == "max")
        notes.add("thinking", f"effort({level})")
    efforts = [effort for effort in facts.efforts if f"reasoning.effort.{effort}" not in refused]
    if level in efforts:
        return level
    notes.add("clamped", name)
    rank = EFFORTS.index(level)
    return next((known for known in efforts if EFFORTS.index(known) > rank), efforts[-1] if efforts else None)


def _effort_of(reasoning: Part, ctx: TranslationContext) -> str:
    """The effort that the answer will have; `none` where there is no reasoning."""
    if not ctx.model.reasoning:
        return "none"
    return str(reasoning.get("reasoning", {}).get("effort") or ctx.model.responses.default_effort)


def _sampling(request: Request, ctx: TranslationContext, notes: Notes, *, effort: str) -> Part:
    """Temperature and top_p, which no model takes while it reasons."""
    chosen: Part = {}
    for name, value in (("temperature", request.sampling.temperature), ("top_p", request.sampling.top_p)):
        if value is None or value == 1:
            continue
        if effort == "none" and name not in ctx.refused_parameters:
            chosen[name] = value
        else:
            notes.add("dropped", name)
    if request.sampling.top_k is not None:
        notes.add("dropped", "top_k")
    return chosen


def _text(request: Request, ctx: TranslationContext, notes: Notes) -> Part:
    """How the answer is to be structured, and how much it is to say."""
    text: Part = {}
    wanted = request.format
    if wanted is not None and wanted.kind == "json":
        text["format"] = {"type": "json_object"}
    elif wanted is not None:
        described = {"description": wanted.description} if wanted.description else {}
        strict = {} if wanted.strict is None else {"strict": wanted.strict}
        name = fit_name(wanted.name) if wanted.name else "answer"
        text["format"] = {"type": "json_schema", "name": name, **described, "schema": wanted.schema, **strict}
    verbosity = request.name("verbosity")
    if request.verbosity in _VERBOSITIES and "verbosity" not in ctx.refused_parameters:
        if request.verbosity != "medium":
            text["verbosity"] = request.verbosity
    elif verbosity in request.extras:
        notes.add("dropped", verbosity)
    return {"text": text} if text else {}


def _identity(request: Request, ctx: TranslationContext, notes: Notes) -> Part:
    """Who asks: the session for the prompt cache, and the user that a client of OpenAI's names; others name theirs for themselves."""
    refused = ctx.refused_parameters
    fields: Part = {}
    key = request.cache_key or ctx.session
    if key and "prompt_cache_key" not in refused:
        fields["prompt_cache_key"] = key if len(key) <= _MAX_KEY else hashlib.blake2s(key.encode("utf-8", "surrogatepass")).hexdigest()
    notes.add_all("dropped", request.unread)
    if request.user_id:
        if request.api.startswith(_OPENAI) and "user" not in refused:
            fields["user"] = request.user_id
        else:
            notes.add("dropped", request.name("user_id"))
    metadata = request.metadata
    if metadata:
        is_possible = len(metadata) <= _MAX_METADATA and all(isinstance(value, str) for value in metadata.values())
        if is_possible and request.api.startswith(_OPENAI) and "metadata" not in refused:
            fields["metadata"] = {**metadata}
        else:
            notes.add("dropped", request.name("metadata"))
    tier = request.service_tier
    if tier in _TIERS and "service_tier" not in refused:
        fields["service_tier"] = tier
    elif tier:
        notes.add("dropped", request.name("service_tier"))
    return fields


def _extras(request: Request, ctx: TranslationContext, notes: Notes) -> Part:
    """The client's own fields: those that this API has too, in the same words."""
    fields: dict[str, Any] = {}
    for name in request.extras:
        if name in _SAME and name not in ctx.refused_parameters and request.api.startswith(_OPENAI):
            fields[name] = msgspec.Raw(request.extras[name])
        elif name != request.name("verbosity"):
            notes.add("dropped", name)
    return fields
