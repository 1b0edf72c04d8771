"""What OpenAI's models take, as far as requests are refused for it: reasoning, efforts, sampling, tools on Chat, cache breakpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """`default_effort` is empty where there is no reasoning. `chat_tools`: how Chat Completions takes function tools: `always`, only
    without an effort that is named (`unnamed`), only with the effort none (`none`), or `never`."""

    efforts: tuple[str, ...] = ()
    default_effort: str = ""
    chat_tools: str = "always"
    has_breakpoints: bool = False
    samples_without_effort: bool = False


_NEWEST = ("none", "low", "medium", "high", "xhigh", "max")
_OTHER = Facts(("low", "medium", "high"), "medium")
"""Models of other vendors, behind servers that speak this API too."""
ROWS = (
    (r"gpt-6-astra", Facts(("low", "medium", "high", "xhigh", "max"), "medium", "never", has_breakpoints=True)),
    (r"gpt-(5\.[6-9]|[6-9])", Facts(_NEWEST, "medium", "none", has_breakpoints=True, samples_without_effort=True)),
    (r"gpt-5\.[45]", Facts(_NEWEST[:-1], "none", "unnamed", samples_without_effort=True)),
    (r"gpt-5\.[1-3]", Facts(("none", "low", "medium", "high"), "none", samples_without_effort=True)),
    (r"gpt-5", Facts(("minimal", "low", "medium", "high"), "medium")),
    (r"o\d", Facts(("low", "medium", "high"), "medium")),
    (r"gpt-[34]", Facts()),
)


def facts_of(model_id: str) -> Facts:
    return next((facts for pattern, facts in ROWS if re.match(pattern, model_id)), _OTHER)


def family_of(model_id: str) -> str:
    """The generation, whose models can read each other's reasoning."""
    found = re.match(r"gpt-\d+(\.\d+)?|o\d", model_id)
    return found[0] if found else model_id
