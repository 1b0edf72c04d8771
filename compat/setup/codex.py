"""Codex' configuration: our provider in `~/.codex/config.toml`, with what else the file has as it is.

Codex speaks the Responses API alone. It has sizes, efforts and tools of its models from the gateway (`model_catalog_url`), for it knows no
names but OpenAI's. Its source: codex-rs/model-provider-info of openai/codex.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.setup.offers import PROVIDER, Offers, main_model

_TABLE = re.compile(r"^\s*\[", re.MULTILINE)
_OURS = re.compile(rf"^\s*\[\s*model_providers\s*\.\s*[\"']?{PROVIDER}[\"']?\s*[\].]")


class TomlError(ValueError):
    """A file that can't be changed."""


def codex_config(offers: Offers, base_url: str, key: str) -> dict[str, Any]:
    """The whole file. `base_url` ends with `/v1`."""
    provider = {
        "name": PROVIDER,
        "base_url": base_url,
        "experimental_bearer_token": key,
        "wire_api": "responses",
        "supports_websockets": True,
        "model_catalog_url": f"{base_url}/models",
    }
    return {"model": main_model(offers), "model_provider": PROVIDER, "model_providers": {PROVIDER: provider}}


def codex_text(document: Mapping[str, Any]) -> str:
    """A file that holds `document` alone."""
    return f"{_top(document)}\n{_provider(document)}"


def merged(text: str, document: Mapping[str, Any]) -> str:
    """`text` with ours in place: the model and its provider at the top, the provider's table at the end.

    Errors: `TomlError` for a file that is not TOML, or is written in a way that can't be followed without loss.
    """
    text = text.removeprefix("\ufeff")
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"the file is not TOML: {error}") from error
    if before == _merged(before, document):
        return text
    first = _TABLE.search(text)
    top, tables = (text[: first.start()], text[first.start() :]) if first is not None else (text, "")
    kept = [line for line in top.splitlines(keepends=True) if not re.match(r"""\s*["']?(model|model_provider)["']?\s*=""", line)]
    rest = "".join((*kept, *_others(tables)))
    whole = f"{_top(document)}{rest}{'' if not rest or rest.endswith(chr(10)) else chr(10)}\n{_provider(document)}"
    try:
        is_sound = tomllib.loads(whole) == _merged(before, document)
    except tomllib.TOMLDecodeError:
        is_sound = False
    if not is_sound:
        raise TomlError("the file is written in a way that can't be changed without loss")
    return whole


def config_path(environment: Mapping[str, str], home: Path) -> Path:
    """The user's configuration, below CODEX_HOME or `~/.codex`."""
    folder = environment.get("CODEX_HOME")
    return (Path(folder) if folder else home / ".codex") / "config.toml"


def _top(document: Mapping[str, Any]) -> str:
    return "".join(_line(name, document[name]) for name in ("model", "model_provider"))


def _provider(document: Mapping[str, Any]) -> str:
    provider = document["model_providers"][PROVIDER]
    return f"[model_providers.{PROVIDER}]\n" + "".join(_line(name, value) for name, value in provider.items())


def _line(name: str, value: str | bool) -> str:
    return f"{name} = {json.dumps(value)}\n"  # a basic string and a boolean of TOML are written as JSON's


def _others(tables: str) -> list[str]:
    """The lines of all tables but ours."""
    is_ours = False
    lines = []
    for line in tables.splitlines(keepends=True):
        if _TABLE.match(line):
            is_ours = _OURS.match(line) is not None
        if not is_ours:
            lines.append(line)
    return lines


def _merged(before: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    providers = before.get("model_providers")
    return {**before, **document, "model_providers": {**(providers if isinstance(providers, dict) else {}), **document["model_providers"]}}
