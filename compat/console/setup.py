"""`GET /setup`: how each client is set up, with its configuration to copy; `GET /setup/kilo.jsonc` and its like: the files themselves.

They hold no key: where clients need one, the files name a variable of the environment, or a placeholder.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import flask
import markupsafe

from compat.console.page import Visit, data_answer
from compat.endpoints.models import model_rows
from compat.errors import NotFound
from compat.setup.clients import ClientSetup, client_setup, clients
from compat.setup.command import ANY_KEY
from compat.setup.kilo import FLAVOURS
from compat.setup.offers import Offer, main_model, read_offers

KEY_PLACEHOLDER = "YOUR-CLIENT-KEY"
"""Stands for the key where there are client keys; no page knows one."""
_ENVIRONMENT_KEY = "{env:OPENAI_COMPAT_KEY}"
"""Kilo Code and opencode read the variable themselves."""
_MEDIA_TYPES = {".json": "application/json", ".jsonc": "text/plain", ".yaml": "text/plain", ".yml": "text/plain"}
_CODE = re.compile(r"`([^`]+)`")


def show_setup(visit: Visit) -> Mapping[str, Any]:
    """All clients, and one call by hand."""
    key = KEY_PLACEHOLDER if visit.gateway.keys.are_required else ""
    return {
        "clients": [_made(visit, client) for client in clients()],
        "key": key,
        "by_hand": _by_hand(visit.base_url, key, main_model(_offers(visit))),
        "is_embedded": not visit.gateway.router.upstreams,
        "file_urls": file_urls,
        "with_code": with_code,
    }


def setup_file(visit: Visit) -> flask.Response:
    """A client's file. Errors: `NotFound`."""
    name = str((visit.request.view_args or {}).get("name", ""))
    for client in clients():
        setup = _made(visit, client)
        for item, url in zip(setup.files, file_urls(setup), strict=True):
            if url == f"/setup/{name}":
                media_type = _MEDIA_TYPES.get(PurePosixPath(name).suffix, "text/plain")
                return data_answer(item.text, f"{media_type}; charset=utf-8")
    known = ", ".join(url for client in clients() for url in file_urls(_made(visit, client)))
    raise NotFound(f"There is no file '{name[:100]}'; there are: {known}.")


def file_urls(setup: ClientSetup) -> list[str]:
    """Where the files of a client are served: under their names, after the client's where one above it has a file of that name."""
    before = itertools.takewhile(lambda client: client != setup.client, clients())
    taken = {_name(path) for client in before for path in clients()[client].files}
    names = [_name(file.path) for file in setup.files]
    return [f"/setup/{setup.client}-{name}" if name in taken else f"/setup/{name}" for name in names]


def _name(path: str) -> str:
    return PurePosixPath(path).name.lstrip(".")


def with_code(text: str) -> markupsafe.Markup:
    """A sentence with what stands in backticks set as code."""
    parts = _CODE.split(text)
    return markupsafe.Markup("").join(
        markupsafe.Markup("<code>{}</code>").format(part) if number % 2 else markupsafe.escape(part) for number, part in enumerate(parts)
    )


def _by_hand(base_url: str, key: str, model: str) -> str:
    """A call as a command, in lines that fit a narrow page."""
    authorization = f'  -H "Authorization: Bearer {key}" \\\n' if key else ""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": True})
    return f"curl -N {base_url}/chat/completions \\\n  -H \"Content-Type: application/json\" \\\n{authorization}  -d '{body}'"


def _offers(visit: Visit) -> tuple[Offer, ...]:
    """The models that the visitor's key may call."""
    return read_offers(model_rows(visit.gateway, visit.visitor.name))


def _made(visit: Visit, client: str) -> ClientSetup:
    key = ANY_KEY if not visit.gateway.keys.are_required else _ENVIRONMENT_KEY if client in FLAVOURS else KEY_PLACEHOLDER
    return client_setup(client, _offers(visit), visit.base_url, key, visit.gateway.settings.command)
