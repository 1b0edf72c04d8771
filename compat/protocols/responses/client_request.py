"""The client's half of OpenAI's Responses API: a call as a neutral request.

    client_turns      items of `input`
    client_content    parts of messages and outputs
    client_tools      tools, from wherever they come, and the choice among them
    here              everything else

What only the service itself could do (its stored answers, conversations and prompts) is refused in its own words. Hints to a service, which
change no answer, are taken and forgotten; whatever else has no neutral place is in `extras`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from compat.errors import BadRequest, Unsupported
from compat.protocols.request import EFFORTS, Field, Format, Reasoning, Request, Sampling, Text, Turn
from compat.protocols.responses.client_tools import Toolbox
from compat.protocols.responses.client_turns import read_turns
from compat.protocols.responses.compaction import PROMPT, is_trigger
from compat.protocols.responses.input_items import OPENING
from compat.protocols.responses.parts import API, SEALED
from compat.wire.envelope import Envelope

NAMES: Mapping[Field, str] = {
    "limit": "max_output_tokens",
    "choice": "tool_choice",
    "parallel": "parallel_tool_calls",
    "effort": "reasoning.effort",
    "format": "text.format",
    "verbosity": "text.verbosity",
    "user_id": "user",
    "cache_key": "prompt_cache_key",
}
_READ = frozenset(
    {"model", "input", "instructions", "stream", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "temperature", "top_p"}
    | {"reasoning", "text", "user", "metadata", "service_tier", "prompt_cache_key", "store", "include"}
    | {"stream_options", "client_metadata", "safety_identifier", "prompt_cache_retention", "prompt_cache_options"}
)
_DEFAULTS: Mapping[str, Any] = {"truncation": "disabled", "top_logprobs": 0, "background": False, "generate": True}
_LONGEST_DEFAULT = 64
_STORED = {
    "background": "Background responses need an upstream that stores answers: leave 'background' out.",
    "conversation": "Conversations are not stored here: send the items of the conversation as 'input'.",
    "prompt": "Prompts are not stored here: send their text as 'instructions' and 'input'.",
}
_TIERS = frozenset({"auto", "default"})
ECHOED = (
    *("background", "frequency_penalty", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls"),
    *("presence_penalty", "previous_response_id", "prompt_cache_key", "prompt_cache_retention", "reasoning", "safety_identifier"),
    *("service_tier", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"),
)
"""Fields of a request that its answer gives back."""


def read_request(envelope: Envelope) -> Request:
    """The client's call. Errors: `BadRequest`, `Unsupported`, in this protocol's words."""
    _check_stored(envelope)
    toolbox = Toolbox()
    if (tools := envelope.value("tools")) is not None:
        toolbox.add(tools, "tools")
    for name in ("model", "input"):
        if envelope.is_missing(name):
            toolbox.notes.add("default", name)
    items = OPENING if envelope.is_missing("input") else envelope.value("input")
    turns = (*_instructions(envelope), *read_turns(items, toolbox))
    choice = toolbox.choice(envelope.value("tool_choice"))
    summarises = isinstance(items, list) and bool(items) and is_trigger(items[-1])
    if summarises:
        where = f"input[{len(items) - 1}]"
        turns += (Turn("user", (Text(where, PROMPT),), where, len(items) - 1),)
        choice = None if choice is not None and choice.kind in ("any", "one") else choice
    metadata, parallel, tier = _object(envelope, "metadata"), envelope.value("parallel_tool_calls"), _string(envelope, "service_tier")
    text = _object(envelope, "text")
    verbosity = text.get("verbosity") or ""
    extras = {name: envelope[name] for name in envelope if name not in _READ and not _is_default(envelope, name)}
    if verbosity not in ("", "medium"):
        extras[NAMES["verbosity"]] = msgspec.json.encode(verbosity)
    include = envelope.value("include")
    for name in include if isinstance(include, list) else ():
        if name != SEALED:
            toolbox.notes.add("dropped", f"include.{name}")
    return Request(
        api=API,
        turns=turns,
        tools=toolbox.tools,
        choice=choice,
        parallel=parallel if isinstance(parallel, bool) else None,
        limit=_limit(envelope),
        sampling=Sampling(_number(envelope, "temperature", 2), _number(envelope, "top_p", 1)),
        reasoning=_reasoning(envelope),
        format=None if summarises else _format(text.get("format")),
        verbosity=verbosity if isinstance(verbosity, str) else "",
        user_id=_string(envelope, "user"),
        metadata=metadata,
        cache_key=_string(envelope, "prompt_cache_key"),
        service_tier="" if tier in _TIERS else tier,
        extras=extras,
        changes=toolbox.notes.told(),
        names=NAMES,
        size_bytes=len(envelope.body),
        was_repaired=envelope.was_repaired,
        has_marks=False,
        shapes=toolbox.shapes,
        search=toolbox.search,
        echoed=echoed_of(envelope),
        summarises=summarises,
        has_summaries=b'"compaction"' in envelope.get("input", b""),
    )


def previous_not_found(answer_id: str) -> BadRequest:
    """Nobody can go on from that answer, in the words that clients know."""
    words = f"Previous response with id '{answer_id[:100]}' not found."
    return BadRequest(words, param="previous_response_id", code="previous_response_not_found")


def echoed_of(envelope: Envelope) -> dict[str, Any]:
    """The fields of a request that its answer gives back; lists of tools keep their bytes."""
    present = (name for name in ECHOED if name in envelope and not envelope.is_null(name))
    return {name: msgspec.Raw(envelope[name]) if name == "tools" else envelope.value(name) for name in present}


def _check_stored(envelope: Envelope) -> None:
    """`BadRequest` for what needs answers that were stored."""
    if previous := envelope.value("previous_response_id"):
        raise previous_not_found(str(previous))
    for name, words in _STORED.items():
        if envelope.value(name):
            raise Unsupported(words, param=name)


def _is_default(envelope: Envelope, name: str) -> bool:
    if envelope.is_null(name):
        return True
    return envelope.size_bytes(name) <= _LONGEST_DEFAULT and bool(envelope.value(name) == _DEFAULTS.get(name))


def _instructions(envelope: Envelope) -> tuple[Turn, ...]:
    words = envelope.value("instructions")
    if words is None or words == "":
        return ()
    if not isinstance(words, str):
        raise BadRequest("'instructions' must be a string.", param="instructions")
    return (Turn("system", (Text("instructions", words),), "instructions", 0),)


def _object(envelope: Envelope, name: str) -> Mapping[str, Any]:
    value = envelope.value(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"'{name}' must be an object.", param=name)
    return value


def _string(envelope: Envelope, name: str) -> str:
    value = envelope.value(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"'{name}' must be a string.", param=name)
    return value


def _limit(envelope: Envelope) -> int | None:
    value = envelope.value("max_output_tokens")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadRequest("'max_output_tokens' must be a whole number of at least 1.", param="max_output_tokens")
    return value


def _number(envelope: Envelope, name: str, most: int) -> float | int | None:
    value = envelope.value(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BadRequest(f"'{name}' must be a number between 0 and {most}.", param=name)
    return value


def _reasoning(envelope: Envelope) -> Reasoning:
    """How much the model is to reason. What an answer shows of it is the writer's, by what the request's echo says."""
    asked = _object(envelope, "reasoning")
    level = asked.get("effort")
    extras = tuple(f"reasoning.{name}" for name, value in asked.items() if name not in _OF_REASONING and value is not None)
    if level is None:
        return Reasoning(extras=extras)
    effort = next((known for known in EFFORTS if known == level), None)
    if effort is None:
        words = ", ".join(f"'{known}'" for known in EFFORTS)
        raise BadRequest(
            f"Invalid value: '{str(level)[:50]}'. Supported values are: {words}.", param="reasoning.effort", code="invalid_value"
        )
    return Reasoning(effort, extras=extras)


_OF_REASONING = frozenset({"effort", "summary", "generate_summary"})


def _format(wanted: Any) -> Format | None:
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Format("json")
    schema = wanted.get("schema") if isinstance(wanted, dict) and kind == "json_schema" else None
    if not isinstance(wanted, dict) or not isinstance(schema, dict):
        raise BadRequest("'text.format' must be of type text, json_object or json_schema with a schema.", param="text.format")
    return Format.described(schema, wanted)
