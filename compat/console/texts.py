"""The words of the console, in English and Chinese: data (`compat/data/pages.toml`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

import msgspec

from compat.setup.clients import Language

Texts = Mapping[str, str]
COMMON = "common"
"""The table of words that every page has."""


@functools.cache
def all_texts() -> Mapping[str, Mapping[Language, Texts]]:
    """The words of every page, by language."""
    data = resources.files("compat").joinpath("data/pages.toml").read_bytes()
    return MappingProxyType(msgspec.toml.decode(data, type=dict[str, dict[Language, dict[str, str]]]))


@functools.cache
def page_texts(page: str) -> Mapping[Language, Texts]:
    """The words of a page, those of all pages among them, by language."""
    texts = all_texts()
    return {language: MappingProxyType({**common, **texts.get(page, {}).get(language, {})}) for language, common in texts[COMMON].items()}
