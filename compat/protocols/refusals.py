"""Which optional parameter an upstream refused, read from its words (docs/translation.md, rule 11).

    "`temperature` is deprecated for this model"                                    -> temperature
    "output_config.effort: Extra inputs are not permitted"                          -> output_config.effort
    "Unsupported parameter: 'max_tokens' ... Use 'max_completion_tokens' instead."  -> max_tokens
    "messages.1.content.0: Invalid `signature` in `thinking` block"                 -> messages.thinking
    "This model does not support effort level 'xhigh'. Supported levels: ..."       -> output_config.effort.xhigh

A name may stand for one value of a parameter: then what the model takes is another one, as if the catalog had said so (`as_learnt`). Only
what a call can do without is looked for: everything else is reported to the client.
"""

from __future__ import annotations

import re

import msgspec

from compat.config.catalog import MessagesFacts
from compat.errors import ContextTooLong, GatewayError, UpstreamRefusal

REASONING_ITEMS = "input.reasoning"
"""Sealed reasoning in the history of a call."""
PASSING = frozenset({"messages.thinking", "messages.prefill", "output_config.format.schema", "tool_choice.thinking", REASONING_ITEMS})
"""Refused for what one request holds: never remembered for a deployment."""

_OTHER_API = re.compile(r"\bv1/responses\b|\bresponses api\b", re.IGNORECASE)
"""What OpenAI says of models that do not everything on Chat Completions."""

SEARCH_MARK = "tools.web_search"
"""How it is remembered that a deployment runs no search of the web."""
NESTED = frozenset({"cache_control", "reasoning_content"})
"""Fields of messages and tools, which a call can do without wherever they stand."""

SEALED_REASONING = r"encrypted.content.{0,200}(?:could not be|not issued|did not match|decrypted)"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (SEALED_REASONING, REASONING_ITEMS),
        (r"messages\.\d+\.content\.\d+.*(?:signature|thinking)|(?:signature|expected).{0,40}`?thinking`? block", "messages.thinking"),
        (r"does not support (?:assistant message )?prefill|must end with a user message", "messages.prefill"),
        (r"role.{0,20}system|system.{0,10}role|unexpected role|'system' message", "messages.role"),
        (r"block_binding|thinking-binding-controls", "thinking.block_binding"),
        (r"thinking\.(?:adaptive\.|enabled\.)?display", "thinking.display"),
        (r"thinking\.type\.(enabled|disabled|adaptive)[^\w.]{0,3}is not|thinking: Input tag '(\w+)' found", "thinking."),
        (r"\b(adaptive) thinking is not", "thinking."),
        (r"thinking\.type\b", "thinking"),
        (r"\beffort level '(\w+)'", "output_config.effort."),
        (r"\boutput_config\.effort\b|\beffort\b.{0,60}(?:not supported|extra inputs|invalid|unsupported)", "output_config.effort"),
        (r"not support (?:the )?effort\b", "output_config.effort"),
        (r"\boutput_config\.format\.schema\b", "output_config.format.schema"),
        (r"\boutput_config\.format\b|\boutput_format\b", "output_config.format"),
        (r"\boutput_config\b", "output_config"),
        (r"thinking.{0,30}\btool_choice\b|\btool_choice\b.{0,60}\bthinking\b", "tool_choice.thinking"),
        (r"\btool_choice\b.{0,60}(?:\bany\b|\btool\b|forc|required)", "tool_choice.forced"),
        (r"\btool_choice\b", "tool_choice"),
        (r"\bcache_control\b", "cache_control"),
        (r"\breasoning_content\b.{0,40}(?:extra|not (?:permitted|supported|allowed))|unknown.{0,60}reasoning_content", "reasoning_content"),
        (r"\bservice_tier\b", "service_tier"),
        (r"\bmetadata\b", "metadata"),
        (r"\btop_k\b", "top_k"),
        (r"\btemperature\b.{0,60}\btop_p\b", "top_p"),
        (r"\btemperature\b", "temperature"),
        (r"\btop_p\b", "top_p"),
        (r"\bthinking\b", "thinking"),
        (r"\breasoning_effort\b", "reasoning_effort"),
        (r"\bmax_tokens\b.{0,120}\bmax_completion_tokens\b", "max_tokens"),
        (r"\bmax_completion_tokens\b", "max_completion_tokens"),
        (r"\bstream_options\b", "stream_options"),
        (r"\bparallel_tool_calls\b", "parallel_tool_calls"),
        (r"\b(prompt_cache_key|frequency_penalty|presence_penalty|logit_bias|logprobs|top_logprobs|seed|verbosity|store)\b", ""),
    )
)
_REFUSED = re.compile(
    r"not support|unsupported|deprecated|not permitted|not allowed|not available|unexpected|unknown|unrecognized|extra|invalid|cannot|can't"
    r"|could not be verified|may not|may only|must (?:be(?! passed)|not|end|follow)|incompatible|removed|expected|bound to",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(?:^|:\s)(?:tools|messages|system)\.\d")
"""The path of one block: what is said of it is said of no parameter, whatever words the block holds."""


def refused_parameter(error: GatewayError) -> str | None:
    """The parameter that a refusal names, or `None`. Statuses other than 400 and 422 refuse the call, not a parameter of it."""
    if not isinstance(error, UpstreamRefusal) or isinstance(error, ContextTooLong):
        return None
    if error.status in {400, 404} and _OTHER_API.search(error.message) is not None:
        return endpoint_mark("openai.chat")
    if error.status not in {400, 422}:
        return None
    if _REFUSED.search(error.message) is None and error.code not in {"unsupported_parameter", "unsupported_value", "unknown_parameter"}:
        return None
    words = f"{error.param}: {error.message}" if error.param else error.message
    is_of_block = _PLACE.search(words) is not None
    for pattern, name in _PATTERNS:
        match = pattern.search(words)
        if match is not None and (not is_of_block or name in NESTED or name.startswith("messages.")):
            return name + str(match[match.lastindex or 0]).lower() if not name or name.endswith(".") else name
    return None


def endpoint_mark(endpoint: str) -> str:
    """How the lack of an endpoint is remembered, among the parameters that a deployment refuses."""
    return f"endpoint {endpoint}"


def is_endpoint(name: str) -> bool:
    """Whether a name stands for an endpoint."""
    return name.startswith(endpoint_mark(""))


def as_learnt(facts: MessagesFacts, refused: frozenset[str]) -> MessagesFacts:
    """What a model takes by the catalog, corrected by the values that it was seen to refuse."""
    changes: dict[str, object] = {}
    known = ("adaptive", "enabled") if facts.thinking == "both" else (facts.thinking,)
    if any(f"thinking.{kind}" in refused for kind in known):
        changes["thinking"] = next((kind for kind in ("adaptive", "enabled") if f"thinking.{kind}" not in refused), "none")
    if "thinking.disabled" in refused:
        changes["thinking_default"] = "always"
    if refused & {"tool_choice.forced", "tool_choice.thinking"}:
        changes["forced_tools"] = "never"
    changes["efforts"] = tuple(level for level in facts.efforts if f"output_config.effort.{level}" not in refused)
    return msgspec.structs.replace(facts, **changes)
