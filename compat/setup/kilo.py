"""Kilo Code's configuration, and opencode's, which has the same shape.

The schema is the client's own (Kilo CLI 7.7.9, `ProviderConfig`; https://kilo.ai/docs/code-with-ai/agents/custom-models). Models that
Kilo only finds in a model list have no limits, no images and no prices there, so the whole block is written: `provider.openai-compat`
(`provider.openai-compat-anthropic` by Anthropic's protocol), and the top-level `model` and `small_model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from compat.setup.offers import PROVIDER, Offer, Offers, main_model, small_model


@dataclass(frozen=True, slots=True)
class Flavour:
    """A client with this configuration: whose file it is, the provider's name there, and the package that speaks its protocol."""

    program: str
    provider: str = PROVIDER
    package: str = "@ai-sdk/openai-compatible"


FLAVOURS: Mapping[str, Flavour] = MappingProxyType(
    {
        "kilo": Flavour("kilo"),
        "opencode": Flavour("opencode"),
        "kilo-anthropic": Flavour("kilo", f"{PROVIDER}-anthropic", "@ai-sdk/anthropic"),
    }
)
REQUEST_TIMEOUT_MS = 3_600_000
"""As long as the gateway itself lets a call take (`timeouts.total_s`)."""
CHUNK_TIMEOUT_MS = 120_000
"""The gateway sends a comment every few seconds: silence for so long means that it is gone."""
_SCHEMAS = {"kilo": "https://app.kilo.ai/config.json", "opencode": "https://opencode.ai/config.json"}
_HEADER = """\
// Written by openai-compat: setup {client}
// Another run renews provider.{provider}, model and small_model; everything else in this file is yours.
"""


def kilo_config(offers: Offers, base_url: str, key: str, client: str) -> dict[str, Any]:
    """The whole configuration. `base_url` ends with `/v1`; `key` is what the client sends."""
    main, flavour = main_model(offers), FLAVOURS[client]
    return {
        "$schema": _SCHEMAS[flavour.program],
        "model": f"{flavour.provider}/{main}",
        "small_model": f"{flavour.provider}/{small_model(offers, main)}",
        "provider": {
            flavour.provider: {
                "npm": flavour.package,
                "name": flavour.provider,
                "options": {"baseURL": base_url, "apiKey": key, "timeout": REQUEST_TIMEOUT_MS, "chunkTimeout": CHUNK_TIMEOUT_MS},
                "models": {offer.id: _model(offer) for offer in offers},
            }
        },
    }


def header(client: str) -> str:
    """The comment that a new file begins with."""
    return _HEADER.format(client=client, provider=FLAVOURS[client].provider)


def ours(client: str) -> tuple[tuple[str, ...], ...]:
    """Where in the file what is ours stands."""
    return ("provider", FLAVOURS[client].provider), ("model",), ("small_model",)


def config_path(environment: Mapping[str, str], home: Path, client: str) -> Path:
    """The client's global file, below XDG_CONFIG_HOME, or `~/.config` on every system; one that exists with the plain ending counts."""
    base = Path(environment["XDG_CONFIG_HOME"]) if environment.get("XDG_CONFIG_HOME") else home / ".config"
    program = FLAVOURS[client].program
    path = base / program / f"{program}.jsonc"
    plain = path.with_suffix(".json")
    return plain if plain.exists() and not path.exists() else path


def _model(offer: Offer) -> dict[str, Any]:
    inputs = ["text", *(["image"] if offer.images else []), *(["pdf"] if offer.files else [])]
    return {
        "name": offer.name,
        "tool_call": offer.tools,
        "attachment": offer.images or offer.files,
        "reasoning": offer.reasoning,
        "temperature": True,
        "limit": {"context": offer.context, "output": offer.output},
        "cost": {
            "input": offer.input_price,
            "output": offer.output_price,
            "cache_read": offer.cache_read_price,
            "cache_write": offer.cache_write_price,
        },
        "modalities": {"input": inputs, "output": ["text"]},
    }
