"""Which part of a request the Responses API refused, where the call can do without (docs/translation.md, rule 11).

"The encrypted content for item rs_1 could not be verified. ..."                     -> input.reasoning
"Unsupported value: 'max' is not supported with the 'gpt-5.4' model. ..."            -> reasoning.effort.max
"Your organization must be verified to generate reasoning summaries. ..."            -> reasoning.summary
"""

from __future__ import annotations

import re

from compat.errors import ContextTooLong, GatewayError, UpstreamRefusal
from compat.protocols.refusals import REASONING_ITEMS, SEALED_REASONING, SEARCH_MARK, endpoint_mark, refused_parameter
from compat.protocols.responses.parts import API

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), name)
    for pattern, name in (
        (SEALED_REASONING, REASONING_ITEMS),
        (r"item with id '?rs_|'reasoning' was provided without|without its required 'reasoning' item", REASONING_ITEMS),
        (r"\bweb_search\b|\btools\[\d+\]\.type\b", SEARCH_MARK),
        (r"\bmax_tool_calls\b", "max_tool_calls"),
        (r"encrypted content is not supported|\binclude\b", "include"),
        (r"reasoning\.effort\b.{0,40}'(\w+)' is not supported with", "reasoning.effort."),
        (r"reasoning summar|reasoning\.summary", "reasoning.summary"),
        (r"reasoning\.effort", "reasoning.effort"),
        (r"prompt_cache_breakpoint", "prompt_cache_breakpoint"),
        (r"\b(prompt_cache_(?:key|options|retention)|user)\b", ""),
    )
)
_OF_REQUEST = re.compile(r"\bmodel\b|\bdeployment\b|\bitem\b|\bresponse with id\b", re.IGNORECASE)
"""What is not found is in the request; else it is this API that the server has not."""
_REFUSED = re.compile(
    r"not support|unsupported|unknown|unrecognized|not permitted|must be verified|invalid|could not be|not found|without its|not issued",
    re.I,
)


def refused_part(error: GatewayError) -> str | None:
    """What a refusal is about, or `None` (see `Translator.refused`)."""
    if not isinstance(error, UpstreamRefusal) or isinstance(error, ContextTooLong) or error.status not in {400, 404, 405, 422}:
        return None
    words = f"{error.param}: {error.message}" if error.param else error.message
    if error.status in {404, 405} and _OF_REQUEST.search(words) is None:
        return endpoint_mark(API)
    if _REFUSED.search(words) is None:
        return None
    for pattern, name in _PATTERNS:
        match = pattern.search(words)
        if match is not None:
            return name + match[1].lower() if not name or name.endswith(".") else name
    return refused_parameter(error)
