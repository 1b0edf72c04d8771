"""Crush's configuration: our provider in `~/.config/crush/crush.json`, and the two models that it works with.

Its source: schema.json of charmbracelet/crush (`ProviderConfig`, `SelectedModel`) and its README. Prices are dollars per million tokens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.setup.offers import PROVIDER, Offer, Offers, main_model, small_model

OURS = (("providers", PROVIDER), ("models", "large"), ("models", "small"))
"""Where in the file what is ours stands."""


def crush_config(offers: Offers, base_url: str, key: str) -> dict[str, Any]:
    """The whole file. `base_url` ends with `/v1`."""
    main = main_model(offers)
    provider = {
        "name": PROVIDER,
        "type": "openai-compat",
        "base_url": base_url,
        "api_key": key,
        "discover_models": False,
        "models": [_model(offer) for offer in offers],
    }
    return {
        "$schema": "https://charm.land/crush.json",
        "providers": {PROVIDER: provider},
        "models": {
            "large": {"provider": PROVIDER, "model": main},
            "small": {"provider": PROVIDER, "model": small_model(offers, main)},
        },
    }


def config_path(environment: Mapping[str, str], home: Path, system: str = os.name) -> Path:
    """The user's configuration: in the folder CRUSH_GLOBAL_CONFIG, else below XDG_CONFIG_HOME, else where the system has it."""
    if folder := environment.get("CRUSH_GLOBAL_CONFIG"):
        return Path(folder) / "crush.json"
    if base := environment.get("XDG_CONFIG_HOME"):
        return Path(base) / "crush/crush.json"
    if system == "nt":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData/Local") / "crush/crush.json"
    return home / ".config/crush/crush.json"


def _model(offer: Offer) -> dict[str, Any]:
    return {
        "id": offer.id,
        "name": offer.name,
        "context_window": offer.context,
        "default_max_tokens": offer.output,
        "can_reason": offer.reasoning,
        "supports_attachments": offer.images,
        "cost_per_1m_in": offer.input_price,
        "cost_per_1m_out": offer.output_price,
        "cost_per_1m_in_cached": offer.cache_write_price,
        "cost_per_1m_out_cached": offer.cache_read_price,
    }
