"""Zed's settings: our provider in `~/.config/zed/settings.json`, and the model that its agent starts with.

Its source: docs/src/ai/llm-providers.md ("OpenAI API Compatible") and docs/src/configuring-zed.md of zed-industries/zed. It keeps keys in
the system's keychain, or takes them from OPENAI_COMPAT_API_KEY, made of the provider's name: the file holds none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.setup.offers import PROVIDER, Offer, Offers, main_model

OURS = (("language_models", "openai_compatible", PROVIDER), ("agent", "default_model"))
"""Where in the file what is ours stands."""


def zed_config(offers: Offers, base_url: str, _key: str) -> dict[str, Any]:
    """The whole file. `base_url` ends with `/v1`."""
    provider = {"api_url": base_url, "available_models": [_model(offer) for offer in offers]}
    return {
        "language_models": {"openai_compatible": {PROVIDER: provider}},
        "agent": {"default_model": {"provider": PROVIDER, "model": main_model(offers)}},
    }


def config_path(environment: Mapping[str, str], home: Path, system: str = os.name) -> Path:
    """The user's settings: below XDG_CONFIG_HOME or `~/.config`, on Windows below APPDATA."""
    if system == "nt":
        return Path(environment.get("APPDATA") or home / "AppData/Roaming") / "Zed/settings.json"
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "zed/settings.json"


def _model(offer: Offer) -> dict[str, Any]:
    return {
        "name": offer.id,
        "display_name": offer.name,
        "max_tokens": offer.context,
        "max_output_tokens": offer.output,
        "capabilities": {"tools": offer.tools, "images": offer.images, "parallel_tool_calls": False, "prompt_cache_key": False},
    }
