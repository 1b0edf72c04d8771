"""Every client that can be set up: its files, and what a person does with them, each as its own documentation wants it.

    client_setup(name, offers, base_url, key) -> ClientSetup

What is the same for everybody is data (`compat/data/clients.toml`); here are the files, which depend on what the gateway offers.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from compat.protocols.base import ClientApi
from compat.setup.claude import claude_config, claude_text
from compat.setup.codex import codex_config, codex_text
from compat.setup.kilo import kilo_config, kilo_text
from compat.setup.offers import Offer, main_model

Language = Literal["en", "zh"]
Offers = Sequence[Offer]


class ClientRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client in the data. `api` is what it speaks, and what its set-up is proved by."""

    title: str
    steps: dict[Language, tuple[str, ...]]
    api: ClientApi = "openai.chat"
    files: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A file of a client. `path` begins with `~` or is relative to where the command runs; `document` is set where it is merged."""

    path: str
    text: str
    document: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """All that one client needs. `commands` can be pasted into a shell; `steps` are for people, by language."""

    client: str
    title: str
    files: tuple[ClientFile, ...]
    commands: tuple[str, ...]
    steps: Mapping[Language, tuple[str, ...]]


@functools.cache
def clients() -> Mapping[str, ClientRow]:
    """Every client, in the order in which they are shown."""
    data = resources.files("compat").joinpath("data/clients.toml").read_bytes()
    return MappingProxyType(msgspec.toml.decode(data, type=dict[str, ClientRow]))


def client_setup(client: str, offers: Offers, base_url: str, key: str) -> ClientSetup:
    """What `client` (a key of `clients()`) needs to use the gateway at `base_url`, which ends with `/v1`, under `key`."""
    row = clients()[client]
    values = {"base_url": base_url, "root_url": base_url.removesuffix("/v1"), "key": key, "model": main_model(offers)}

    def filled(lines: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(line.format_map(values) for line in lines)

    contents = _CONTENTS[client](offers, base_url, key) if row.files else ()
    files = tuple(ClientFile(path, *content) for path, content in zip(row.files, contents, strict=True))
    return ClientSetup(client, row.title, files, filled(row.commands), {language: filled(steps) for language, steps in row.steps.items()})


def _kilo(client: str, offers: Offers, base_url: str, key: str) -> Sequence[tuple[Any, ...]]:
    document = kilo_config(offers, base_url, key, client)
    return [(kilo_text(document, client), document)]


def _claude(offers: Offers, base_url: str, key: str) -> Sequence[tuple[Any, ...]]:
    document = claude_config(offers, base_url, key)
    return [(claude_text(document), document)]


def _codex(offers: Offers, base_url: str, key: str) -> Sequence[tuple[Any, ...]]:
    document = codex_config(offers, base_url, key)
    return [(codex_text(document), document)]


def _roo(offers: Offers, base_url: str, key: str) -> Sequence[tuple[Any, ...]]:
    main = main_model(offers)
    offer = next((offer for offer in offers if offer.id == main), Offer(main, main))
    profile = {
        "id": "openaicompat",
        "apiProvider": "openai",
        "openAiBaseUrl": base_url,
        "openAiApiKey": key,
        "openAiModelId": main,
        "openAiStreamingEnabled": True,
        "includeMaxTokens": True,
        "openAiCustomModelInfo": {
            "maxTokens": offer.output,
            "contextWindow": offer.context,
            "supportsImages": offer.images,
            "supportsPromptCache": offer.cache_read_price > 0,
            "inputPrice": offer.input_price,
            "outputPrice": offer.output_price,
            "cacheReadsPrice": offer.cache_read_price,
            "cacheWritesPrice": offer.cache_write_price,
        },
    }
    profiles = {"currentApiConfigName": "openai-compat", "apiConfigs": {"openai-compat": profile}}
    return [(json.dumps({"providerProfiles": profiles, "globalSettings": {}}, indent=2) + "\n",)]


def _continue(offers: Offers, base_url: str, key: str) -> Sequence[tuple[Any, ...]]:
    lines = ["name: openai-compat", "version: 1.0.0", "schema: v1", "models:"]
    for offer in offers:
        abilities = [*(["tool_use"] if offer.tools else []), *(["image_input"] if offer.images else [])]
        lines += [
            f"  - name: {json.dumps(offer.name, ensure_ascii=False)}",
            "    provider: openai",
            f"    model: {json.dumps(offer.id, ensure_ascii=False)}",
            f"    apiBase: {json.dumps(base_url)}",
            f"    apiKey: {json.dumps(key)}",
            "    roles: [chat, edit, apply]",
            f"    capabilities: [{', '.join(abilities)}]",
            "    defaultCompletionOptions:",
            f"      contextLength: {offer.context}",
            f"      maxTokens: {offer.output}",
        ]
    return [("\n".join(lines) + "\n",)]


def _aider(offers: Offers, base_url: str, key: str) -> Sequence[tuple[Any, ...]]:
    settings = {"openai-api-base": base_url, "openai-api-key": key, "model": f"openai/{main_model(offers)}"}
    metadata = {
        f"openai/{offer.id}": {
            "max_tokens": offer.output,
            "max_input_tokens": offer.context,
            "max_output_tokens": offer.output,
            "input_cost_per_token": per_token(offer.input_price),
            "output_cost_per_token": per_token(offer.output_price),
            "supports_vision": offer.images,
            "litellm_provider": "openai",
            "mode": "chat",
        }
        for offer in offers
    }
    written = "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())
    return [(written,), (json.dumps(metadata, ensure_ascii=False, indent=2) + "\n",)]


def per_token(dollars_per_million: float) -> float:
    """Dollars per token, without the noise of binary fractions."""
    return float(f"{dollars_per_million / 1_000_000:.12g}")


_CONTENTS: Mapping[str, Callable[[Offers, str, str], Sequence[tuple[Any, ...]]]] = MappingProxyType(
    {
        "kilo": functools.partial(_kilo, "kilo"),
        "opencode": functools.partial(_kilo, "opencode"),
        "kilo-anthropic": functools.partial(_kilo, "kilo-anthropic"),
        "claude": _claude,
        "codex": _codex,
        "roo": _roo,
        "continue": _continue,
        "aider": _aider,
    }
)
"""Client -> what makes the texts of its files, each with the document where it is merged."""
