"""The two sentences by which clients of the Messages protocol know that a conversation is too long, made of whatever an upstream said.

Claude Code compacts the conversation on the first, and asks again with a smaller `max_tokens` on the second; any other wording ends the
session (tickets claude-code-router#1799, copilot-api#210).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_COUNT = r"(\d[\d,]{0,15})"


def _patterns(*texts: str) -> Sequence[re.Pattern[str]]:
    return tuple(re.compile(text.replace("#", _COUNT), re.IGNORECASE) for text in texts)


_LIMIT = _patterns(
    "tokens > # maximum",
    r"# \+ # > #",
    "maximum (?:context|prompt) length (?:is|of) #",
    "# maximum context length",
    r"context (?:size|window|length) (?:is |of )?\(?#",
    r"number of tokens allowed \(#",
    "> # -",
)
_PROMPT = _patterns(
    r"prompt is too long: # tokens",
    r"limit: # \+",
    r"# (?:tokens )?in (?:the|your) (?:messages|prompt)",
    "resulted in # tokens",
    "# input tokens",
    r"request \(# tokens",
    "request contains # tokens",
    r"token count \(#",
    "prompt contains # tokens",
)
_OUTPUT = _patterns(r"limit: # \+ #", r"# (?:tokens )?in the (?:completion|output)", "is too large: #")
_TOTAL = _patterns("requested (?:about )?# tokens")


def sentence(words: str) -> str:
    """The sentence for an upstream's words on an overflow. Where these name no numbers, they follow the words that clients look for."""
    limit, prompt, output, total = (_count(patterns, words) for patterns in (_LIMIT, _PROMPT, _OUTPUT, _TOTAL))
    prompt = prompt or max(total - output, 0)
    if not limit or not prompt:
        return words if "prompt is too long" in words else f"prompt is too long ({words})"
    if output and prompt <= limit:
        return (
            f"input length and `max_tokens` exceed context limit: {prompt} + {output} > {limit}, "
            "decrease input length or `max_tokens` and try again"
        )
    return f"prompt is too long: {max(prompt, limit + 1)} tokens > {limit} maximum"


def _count(patterns: Sequence[re.Pattern[str]], words: str) -> int:
    """The last number that the first fitting pattern names; 0 without one."""
    match = next((found for pattern in patterns if (found := pattern.search(words)) is not None), None)
    return int(match.groups()[-1].replace(",", "")) if match is not None else 0
