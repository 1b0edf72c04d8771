"""The client's half of the Messages protocol: a call as a neutral request.

    client_turns      system, messages and their blocks
    client_tools      tools and the choice among them
    edits             what `context_management` asks for
    here              everything else

Nothing is left out but the billing block of Claude Code, which does not belong to the prompt: what has no neutral place is in `extras`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.marks import mark_in
from compat.protocols.messages.client_tools import read_choice, read_tools, search_in
from compat.protocols.messages.client_turns import found_tools, read_system, read_turns
from compat.protocols.messages.edits import edited
from compat.protocols.messages.shapes import API
from compat.protocols.request import Effort, Field, Format, Reasoning, Request, Sampling, Turn
from compat.wire.envelope import Envelope

NAMES: Mapping[Field, str] = {
    "limit": "max_tokens",
    "stop": "stop_sequences",
    "choice": "tool_choice",
    "parallel": "tool_choice.disable_parallel_tool_use",
    "effort": "output_config.effort",
    "budget": "thinking.budget_tokens",
    "format": "output_config.format",
    "user_id": "metadata.user_id",
}
_READ = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "max_tokens", "stream", "stop_sequences", "temperature", "top_p", "top_k"}
    | {"thinking", "output_config", "output_format", "metadata", "cache_control", "service_tier", "context_management"}
)
_SESSION = "_session_"
_EFFORTS: Mapping[str, Effort] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
Display = Literal["shown", "summarized", "omitted", "dropped"] | None


def read_request(envelope: Envelope) -> Request:
    """The client's call. Errors: `BadRequest`, in this protocol's words."""
    system, has_billing = read_system(envelope.value("system"))
    turns, notes = edited((*system, *read_turns(envelope.value("messages"))), envelope.value("context_management"), len(envelope.body))
    choice, parallel = read_choice(envelope.value("tool_choice"))
    metadata = _object(envelope, "metadata")
    user_id, tier = metadata.get("user_id"), envelope.value("service_tier")
    tools = read_tools(envelope.value("tools"), found_tools(turns))
    return Request(
        api=API,
        turns=turns,
        tools=tools,
        search=search_in(tools),
        choice=choice,
        parallel=parallel,
        limit=_limit(envelope),
        sampling=Sampling(_number(envelope, "temperature", 1), _number(envelope, "top_p", 1), _number(envelope, "top_k", None)),
        stop=_stop(envelope),
        reasoning=_reasoning(envelope, turns),
        format=_format(envelope),
        user_id=user_id if isinstance(user_id, str) else "",
        metadata={key: value for key, value in metadata.items() if key != "user_id"},
        cache_key=session_in(user_id),
        service_tier=tier if isinstance(tier, str) else "",
        cache=mark_in(envelope.value("cache_control")),
        extras={key: envelope[key] for key in envelope if key not in _READ and not envelope.is_null(key)},
        changes=(*(("dropped=billing_header",) if has_billing else ()), *notes),
        names=NAMES,
        size_bytes=len(envelope.body),
        was_repaired=envelope.was_repaired,
        has_marks=b"cache_control" in envelope.body,
    )


def session_in(user_id: Any) -> str:
    """The session that Claude Code writes into `metadata.user_id`: JSON, or by older versions `user_..._account_..._session_<id>`."""
    if not isinstance(user_id, str):
        return ""
    if not user_id.startswith("{"):
        return user_id.rpartition(_SESSION)[2] if _SESSION in user_id else ""
    try:
        fields = jsonio.decode(user_id.encode("utf-8", "surrogatepass"))
    except BadRequest:
        return ""
    session = fields.get("session_id")
    return session if isinstance(session, str) else ""


def _object(envelope: Envelope, name: str) -> Mapping[str, Any]:
    value = envelope.value(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"{name}: Input should be an object", param=name)
    return value


def _limit(envelope: Envelope) -> int | None:
    value = envelope.value("max_tokens")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadRequest("max_tokens: Input should be a whole number of at least 1", param="max_tokens")
    return value


def _number(envelope: Envelope, name: str, most: int | None) -> float | int | None:
    value = envelope.value(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{name}: Input should be a valid number", param=name)
    if most is not None and not 0 <= value <= most:
        raise BadRequest(f"{name}: range: 0..{most}", param=name)
    return value


def _stop(envelope: Envelope) -> tuple[str, ...]:
    sequences = envelope.value("stop_sequences") or ()
    if not isinstance(sequences, list | tuple) or not all(isinstance(sequence, str) for sequence in sequences):
        raise BadRequest("stop_sequences: Input should be a valid list of strings", param="stop_sequences")
    return tuple(sequences)


def _reasoning(envelope: Envelope, turns: Sequence[Turn]) -> Reasoning:
    """Thinking, and the effort of the last turn that names one: it holds from there on.

    Who asks for none gets none, but where tools are called: there a thought has to come back with the call that it led to.
    """
    thinking = _object(envelope, "thinking")
    kind, budget, display = thinking.get("type"), thinking.get("budget_tokens"), thinking.get("display")
    shown: Display = "omitted" if display == "omitted" else "summarized" if isinstance(display, str) else None
    if kind in (None, "disabled") and not envelope.value("tools"):
        shown = "dropped"
    if kind == "disabled":
        return Reasoning("none", display=shown)
    level = next((level for level in _efforts(envelope, turns) if level is not None), None)
    if kind == "enabled" and level is None:
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
            raise BadRequest("thinking.enabled.budget_tokens: Input should be a whole number of tokens", param="thinking")
        return Reasoning(budget=budget, display=shown)
    return Reasoning(level, is_adaptive=kind == "adaptive", display=shown)


def _efforts(envelope: Envelope, turns: Sequence[Turn]) -> Iterator[Effort | None]:
    """The last one first."""
    for turn in reversed(turns):
        yield _effort_in(turn.more.get("output_config"))
    yield _effort_in(_object(envelope, "output_config"))


def _effort_in(config: Any) -> Effort | None:
    level = config.get("effort") if isinstance(config, dict) else None
    if level is None:
        return None
    if not isinstance(level, str) or level not in _EFFORTS:
        raise BadRequest(f"output_config.effort: Input should be one of {', '.join(_EFFORTS)}", param="output_config.effort")
    return _EFFORTS[level]


def _format(envelope: Envelope) -> Format | None:
    wanted = _object(envelope, "output_config").get("format") or envelope.value("output_format")
    if wanted is None:
        return None
    schema = wanted.get("schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        raise BadRequest("output_config.format: Input should be a json_schema with a schema", param="output_config.format")
    return Format("schema", schema)
