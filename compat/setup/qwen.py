"""Qwen Code's settings: our provider in `~/.qwen/settings.json`, with the model that it starts with.

Its source: docs/users/configuration/model-providers.md and auth.md of QwenLM/qwen-code. A key stands in `env`, under the name that the
models give; a provider of another name than a protocol's needs `providerProtocol`, while `selectedType` takes a protocol's name alone
(0.24.4 ends at once otherwise). What is not said of a model is not taken from anywhere else, so window and images are said.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.setup.offers import PROVIDER, Offer, Offers, main_model

_PROTOCOL = "openai"
VARIABLE = "OPENAI_COMPAT_API_KEY"
_FORM = 4  # of a new file, so that the client leaves it as it is
_REQUEST_TIMEOUT_MS = 3_600_000
OURS = (
    ("modelProviders", PROVIDER),
    ("providerProtocol", PROVIDER),
    ("env", VARIABLE),
    ("security", "auth", "selectedType"),
    ("model", "name"),
)
"""Where in the file what is ours stands."""


def qwen_config(offers: Offers, base_url: str, key: str) -> dict[str, Any]:
    """The whole file. `base_url` ends with `/v1`."""
    return {
        "modelProviders": {PROVIDER: [_model(offer, base_url) for offer in offers]},
        "providerProtocol": {PROVIDER: _PROTOCOL},
        "env": {VARIABLE: key},
        "security": {"auth": {"selectedType": _PROTOCOL}},
        "model": {"name": main_model(offers)},
        "$version": _FORM,
    }


def config_path(environment: Mapping[str, str], home: Path) -> Path:
    """The user's settings, below QWEN_HOME or `~/.qwen`."""
    folder = environment.get("QWEN_HOME")
    return (Path(folder) if folder else home / ".qwen") / "settings.json"


def _model(offer: Offer, base_url: str) -> dict[str, Any]:
    return {
        "id": offer.id,
        "name": offer.name,
        "envKey": VARIABLE,
        "baseUrl": base_url,
        "generationConfig": {
            "timeout": _REQUEST_TIMEOUT_MS,
            "contextWindowSize": offer.context,
            "modalities": {"image": offer.images, "pdf": offer.files},
            "samplingParams": {"max_tokens": offer.output},
        },
    }
