"""What a client's own configuration says of the gateway: where it calls, with which key, and which models.

look_of(client, environment, home) -> (path, Look), or nothing where the client is not set up for this gateway
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from compat.setup import kilo, qwen
from compat.setup.files import PLACES
from compat.setup.jsonc import parse, value_at
from compat.setup.offers import PROVIDER

_MAX_BYTES = 4 * 1024 * 1024


class Look(NamedTuple):
    """`base_url` as the client has it, `key` what it sends (`None` where the file does not say), `models` the names that it calls."""

    base_url: str
    key: str | None = None
    models: tuple[str, ...] = ()


def look_of(client: str, environment: Mapping[str, str], home: Path) -> tuple[Path, Look] | None:
    """The client's file and what it says; `None` where there is no file, or nothing of ours in it. Errors: `OSError`, `ValueError`."""
    path = PLACES[client](environment, home)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    look = _CLIENTS[client](text)
    return None if look is None else (path, look)


def _kilo(client: str) -> Callable[[str], Look | None]:
    def read(text: str) -> Look | None:
        provider = value_at(_document(text), "provider", kilo.FLAVOURS[client].provider)
        models = value_at(provider, "models")
        return _look(
            value_at(provider, "options", "baseURL"), value_at(provider, "options", "apiKey"), models if isinstance(models, dict) else ()
        )

    return read


def _claude(text: str) -> Look | None:
    env = value_at(_document(text), "env")
    names = [value_at(env, name) for name in ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL")]
    return _look(value_at(env, "ANTHROPIC_BASE_URL"), value_at(env, "ANTHROPIC_AUTH_TOKEN"), names)


def _qwen(text: str) -> Look | None:
    document = _document(text)
    models = _rows(value_at(document, "modelProviders", PROVIDER))
    urls = [value_at(model, "baseUrl") for model in models]
    return _look(next(iter(urls), None), value_at(document, "env", qwen.VARIABLE), [value_at(model, "id") for model in models])


def _crush(text: str) -> Look | None:
    provider = value_at(_document(text), "providers", PROVIDER)
    return _look(
        value_at(provider, "base_url"),
        value_at(provider, "api_key"),
        [value_at(model, "id") for model in _rows(value_at(provider, "models"))],
    )


def _zed(text: str) -> Look | None:
    provider = value_at(_document(text), "language_models", "openai_compatible", PROVIDER)
    return _look(value_at(provider, "api_url"), None, [value_at(model, "name") for model in _rows(value_at(provider, "available_models"))])


def _codex(text: str) -> Look | None:
    document = tomllib.loads(text)
    provider = value_at(document, "model_providers", PROVIDER)
    names = [document.get("model")] if document.get("model_provider") == PROVIDER else []
    return _look(value_at(provider, "base_url"), value_at(provider, "experimental_bearer_token"), names)


def _look(url: Any, key: Any, models: Any) -> Look | None:
    if not isinstance(url, str):
        return None
    is_said = isinstance(key, str) and not key.startswith(("$", "{env:"))
    return Look(url, key if is_said else None, tuple(dict.fromkeys(one for one in models if isinstance(one, str))))


def _document(text: str) -> Any:
    node = parse(text)
    return node.value if node is not None else {}


def _rows(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_CLIENTS: Mapping[str, Callable[[str], Look | None]] = MappingProxyType(
    {
        **{client: _kilo(client) for client in kilo.FLAVOURS},
        "claude": _claude,
        "codex": _codex,
        "qwen": _qwen,
        "crush": _crush,
        "zed": _zed,
    }
)
"""Client -> what reads its file."""
LOOKED_AT = tuple(_CLIENTS)
"""The clients whose files are known well enough to be read."""
