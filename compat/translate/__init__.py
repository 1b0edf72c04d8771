"""Pure translations between wire APIs, one module (and its parts) per pair."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from compat.translate.base import Translator, WireApi
from compat.translate.openai_anthropic import OPENAI_ANTHROPIC
from compat.translate.openai_openai import OPENAI_OPENAI

TRANSLATORS: Mapping[tuple[WireApi, WireApi], Translator] = MappingProxyType(
    {
        ("openai.chat", "openai.chat"): OPENAI_OPENAI,
        ("openai.chat", "anthropic.messages"): OPENAI_ANTHROPIC,
    }
)
"""(client's wire API, upstream's wire API) -> how to get from one to the other."""
