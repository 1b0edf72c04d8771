"""The words of the pages, in English and Chinese: data (`compat/data/pages.toml`)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Literal

import msgspec

from compat.setup.clients import Language


def page_texts(page: Literal["setup", "start"]) -> Mapping[Language, Mapping[str, str]]:
    """The words of `/setup`, or of `/`, by language."""
    data = resources.files("compat").joinpath("data/pages.toml").read_bytes()
    return msgspec.toml.decode(data, type=dict[str, dict[Language, dict[str, str]]])[page]
