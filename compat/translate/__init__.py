"""Translators: one file per pair of wire APIs, found in `TRANSLATORS`. Pure: no I/O, no clock, no randomness."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from compat.translate.base import Translator, WireApi
from compat.translate.openai_openai import OPENAI_OPENAI

TRANSLATORS: Mapping[tuple[WireApi, WireApi], Translator] = MappingProxyType(
    {
        ("openai.chat", "openai.chat"): OPENAI_OPENAI,
    }
)
"""(the client's wire API, the upstream's wire API) -> translator."""
