"""A neutral request as one for OpenAI's chat protocol: the upstream's half.

    upstream_turns      the messages
    here                tools, the choice among them, parameters

What an upstream or a model does not take is learnt from its refusals (`protocols/refusals`), and said in another way or left out with a
note. The same items give the same bytes, whatever follows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat import jsonio
from compat.errors import BadRequest, Unsupported
from compat.protocols.base import AnswerMemory, TranslatedRequest, TranslationContext
from compat.protocols.chat.upstream_turns import write_messages
from compat.protocols.freeform import as_function
from compat.protocols.names import fit_name
from compat.protocols.notes import Notes
from compat.protocols.request import Choice, Effort, Field, Freeform, Function, Hosted, Reasoning, Request

MAX_STOP = 4
_LONG_BYTES = 4 * 1024 * 1024
_LOWER: Mapping[Effort, Effort] = {"max": "xhigh", "xhigh": "high"}
"""Levels that not every model with levels has, and the next one below."""
_BUDGETS: tuple[tuple[int, Effort], ...] = ((4096, "low"), (16_384, "medium"))
"""Up to so many tokens of thinking are so much effort."""
_SAMPLING = ("temperature", "top_p")
_NEVER: tuple[Field, ...] = ("user_id", "service_tier", "top_k")


def write_request(request: Request, ctx: TranslationContext) -> TranslatedRequest:
    """The call for this upstream (see `UpstreamProtocol.request`). Errors: `BadRequest`, `Unsupported`."""
    notes = Notes()
    if request.answers != 1:
        raise Unsupported(f"'{request.name('answers')}' must be 1: one answer per call.", param=request.name("answers"))
    tools, names = _tools(request, notes)
    body: dict[str, Any] = {"model": ctx.target, "messages": write_messages(request.turns, ctx, notes, request.cache)}
    if tools:
        body["tools"] = tools
        body |= _choice(request, {tool["function"]["name"] for tool in tools}, ctx, notes)
    elif request.choice is not None and request.choice.kind in ("any", "one"):
        notes.add("dropped", request.name("choice"))
    body |= _parameters(request, ctx, notes)
    if ctx.is_stream:
        body["stream"] = True
        if ctx.sends_usage_option and "stream_options" not in ctx.refused_parameters:
            body["stream_options"] = {"include_usage": True}
    notes.add_all("dropped", (*request.unread, *request.reasoning.extras, *request.extras))
    if request.was_repaired:
        notes.add("repaired", "surrogates")
    encode = jsonio.encode_in_steps if request.size_bytes > _LONG_BYTES else jsonio.encode
    return TranslatedRequest(encode(body), notes=notes.told(), memory=AnswerMemory(names))


# Tools.


def _tools(request: Request, notes: Notes) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The tools, and upstream name -> client's name where they differ."""
    allowed = request.choice.allowed if request.choice is not None else None
    tools: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    for tool in request.tools:
        if isinstance(tool, Hosted):
            notes.add("dropped", f"tool({tool.name or tool.what})")
            continue
        if tool.is_deferred or (allowed is not None and tool.name not in allowed):
            continue
        name = fit_name(tool.name)
        if name in tools:
            notes.add("dropped", f"duplicate_tool({tool.name})")
            continue
        tools[name] = {"type": "function", "function": {"name": name, **_described(tool)}}
        if name != tool.name:
            names[name] = tool.name
    return list(tools.values()), names


def _described(tool: Function | Freeform) -> dict[str, Any]:
    if isinstance(tool, Freeform):
        tool = as_function(tool)
    described: dict[str, Any] = {"description": tool.description} if tool.description else {}
    schema = {key: value for key, value in (tool.schema or {"type": "object", "properties": {}}).items() if key != "$schema"}
    strict = {"strict": True} if tool.strict else {}
    return {**described, "parameters": schema, **strict}


def _choice(request: Request, names: set[str], ctx: TranslationContext, notes: Notes) -> dict[str, Any]:
    refused, choice = ctx.refused_parameters, request.choice or Choice()
    chosen: dict[str, Any] = {}
    if choice.kind in ("any", "one") and refused & {"tool_choice.forced", "tool_choice", "tool_choice.thinking"}:
        notes.add("tool_choice", "auto")
    elif choice.kind == "one":
        if fit_name(choice.name) not in names:
            raise BadRequest(f"'{request.name('choice')}' names a tool that is not among the tools.", param=request.name("choice"))
        chosen["tool_choice"] = {"type": "function", "function": {"name": fit_name(choice.name)}}
    elif choice.kind != "auto" and "tool_choice" not in refused:
        chosen["tool_choice"] = "required" if choice.kind == "any" else "none"
    if request.parallel is False:
        if "parallel_tool_calls" in refused:
            notes.add("dropped", request.name("parallel"))
        else:
            chosen["parallel_tool_calls"] = False
    return chosen


# Parameters.


def _parameters(request: Request, ctx: TranslationContext, notes: Notes) -> dict[str, Any]:
    refused = ctx.refused_parameters
    fields: dict[str, Any] = {}
    if request.limit is not None:
        limit = min(request.limit, ctx.model.max_output)
        if limit < request.limit:
            notes.add("clamped", request.name("limit"))
        fields["max_completion_tokens" if "max_tokens" in refused else "max_tokens"] = limit
    for name in _SAMPLING:
        value = getattr(request.sampling, name)
        if value is not None and name in refused:
            notes.add("dropped", name)
        elif value is not None:
            fields[name] = value
    if request.stop:
        fields["stop"] = list(request.stop[:MAX_STOP])
        if len(request.stop) > MAX_STOP:
            notes.add("dropped", f"{request.name('stop')}({len(request.stop) - MAX_STOP})")
    if ctx.session and "prompt_cache_key" not in refused:
        fields["prompt_cache_key"] = ctx.session
    fields |= _effort(request, ctx, notes)
    fields |= _format(request)
    unsent = (request.user_id, request.service_tier, request.sampling.top_k)
    notes.add_all("dropped", (request.name(name) for name, value in zip(_NEVER, unsent, strict=True) if value not in ("", None)))
    notes.add_all("dropped", (f"metadata.{key}" for key in request.metadata))
    return fields


def _effort(request: Request, ctx: TranslationContext, notes: Notes) -> dict[str, Any]:
    """How much the model is to think. Where it does not say how much, that is for the model."""
    asked = request.reasoning
    effort, name = _asked(asked), request.name("effort" if asked.budget is None else "budget")
    if effort is None:
        return {}
    if not ctx.model.reasoning or "reasoning_effort" in ctx.refused_parameters:
        if effort != "none":
            notes.add("dropped", name)
        return {}
    level = effort
    while level in _LOWER and level not in ctx.model.responses.efforts:
        level = _LOWER[level]
    if level != effort:
        notes.add("clamped", name)
    return {"reasoning_effort": level}


def _asked(reasoning: Reasoning) -> Effort | None:
    if reasoning.budget is None:
        return reasoning.effort
    return next((effort for most, effort in _BUDGETS if reasoning.budget <= most), "high")


def _format(request: Request) -> dict[str, Any]:
    wanted = request.format
    if wanted is None:
        return {}
    if wanted.kind == "json":
        return {"response_format": {"type": "json_object"}}
    described: dict[str, Any] = {"name": wanted.name or "answer", "schema": wanted.schema}
    if wanted.description:
        described["description"] = wanted.description
    if wanted.strict is not None:
        described["strict"] = wanted.strict
    return {"response_format": {"type": "json_schema", "json_schema": described}}
