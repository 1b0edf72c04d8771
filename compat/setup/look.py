"""What a client's own configuration says of the gateway: where it calls, with which key, and which models.

look_of(client, environment, home) -> (path, Look), or nothing where the client is not set up for this gateway
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from compat.setup import claude, codex, kilo
from compat.setup.jsonc import parse

_MAX_BYTES = 4 * 1024 * 1024


class Look(NamedTuple):
    """`base_url` as the client has it, `key` what it sends, `models` the names that it calls. Each is empty where it says nothing."""

    base_url: str
    key: str = ""
    models: tuple[str, ...] = ()


def look_of(client: str, environment: Mapping[str, str], home: Path) -> tuple[Path, Look] | None:
    """The client's file and what it says; `None` where there is no file, or nothing of ours in it. Errors: `OSError`, `ValueError`."""
    place, read = _CLIENTS[client]
    path = place(environment, home)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    look = read(text)
    return None if look is None else (path, look)


def _kilo(text: str) -> Look | None:
    node = parse(text)
    document = node.value if node is not None else {}
    provider = _at(document, "provider", kilo.PROVIDER)
    url = _at(provider, "options", "baseURL")
    models = _at(provider, "models")
    return _look(url, _at(provider, "options", "apiKey"), models if isinstance(models, dict) else ())


def _claude(text: str) -> Look | None:
    node = parse(text)
    env = _at(node.value if node is not None else {}, "env")
    names = [_at(env, name) for name in ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL")]
    return _look(_at(env, "ANTHROPIC_BASE_URL"), _at(env, "ANTHROPIC_AUTH_TOKEN"), names)


def _codex(text: str) -> Look | None:
    document = tomllib.loads(text)
    provider = _at(document, "model_providers", codex.PROVIDER)
    names = [document.get("model")] if document.get("model_provider") == codex.PROVIDER else []
    return _look(_at(provider, "base_url"), _at(provider, "experimental_bearer_token"), names)


def _look(url: Any, key: Any, models: Any) -> Look | None:
    if not isinstance(url, str):
        return None
    return Look(url, key if isinstance(key, str) else "", tuple(dict.fromkeys(one for one in models if isinstance(one, str))))


def _at(value: Any, *path: str) -> Any:
    """What is at `path` in nested objects; `None` where there is nothing."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


_CLIENTS: Mapping[str, tuple[Callable[[Mapping[str, str], Path], Path], Callable[[str], Look | None]]] = MappingProxyType(
    {
        "kilo": (kilo.config_path, _kilo),
        "opencode": (lambda environment, home: kilo.config_path(environment, home, "opencode"), _kilo),
        "claude": (claude.config_path, _claude),
        "codex": (codex.config_path, _codex),
    }
)
"""Client -> where its file is, and what reads it."""
LOOKED_AT = tuple(_CLIENTS)
"""The clients whose files are known well enough to be read."""
