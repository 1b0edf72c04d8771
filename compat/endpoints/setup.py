"""`GET /setup`: how each client is set up, with its configuration to copy; `GET /setup/kilo.jsonc` and its like: the files themselves.

They hold no key: where clients need one, the files name a variable of the environment, or a placeholder. They do name models, so that where
there are client keys, a request without one sees only how to ask.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import flask

from compat import __version__
from compat.calls.gateway import Gateway
from compat.endpoints.health import is_admitted
from compat.endpoints.models import model_rows
from compat.endpoints.pages import KEY_PLACEHOLDER, PAGE_HEADERS, asked_language, other_language
from compat.errors import NotFound
from compat.setup.clients import ClientSetup, client_setup, clients
from compat.setup.command import ANY_KEY
from compat.setup.offers import read_offers
from compat.setup.texts import page_texts

_ENVIRONMENT_KEY = "{env:OPENAI_COMPAT_KEY}"
"""Kilo Code and opencode read the variable themselves."""
_MEDIA_TYPES = {".json": "application/json", ".jsonc": "text/plain", ".yaml": "text/plain", ".yml": "text/plain"}


def setup_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The pages over `gateway`; Jinja escapes whatever they show."""
    blueprint = flask.Blueprint("setup", __name__)
    texts = page_texts("setup")

    def made(client: str) -> ClientSetup:
        base_url = f"{flask.request.scheme}://{flask.request.host}/v1"
        key = ANY_KEY if not gateway.keys.are_required else _ENVIRONMENT_KEY if client in {"kilo", "opencode"} else KEY_PLACEHOLDER
        return client_setup(client, read_offers(model_rows(gateway)), base_url, key)

    @blueprint.get("/setup")
    def setup() -> flask.Response:
        language = asked_language(flask.request)
        page = flask.render_template(
            "setup.html",
            clients=[made(client) for client in clients()] if is_admitted(gateway, flask.request.environ) else [],
            key=KEY_PLACEHOLDER if gateway.keys.are_required else "",
            language=language,
            other=other_language(language),
            text=texts[language],
            base_url=f"{flask.request.scheme}://{flask.request.host}/v1",
            root_url=f"{flask.request.scheme}://{flask.request.host}",
            is_embedded=not gateway.router.upstreams,
            file_urls=file_urls,
            version=__version__,
        )
        response = flask.Response(page)
        response.headers.update(PAGE_HEADERS)
        response.headers["vary"] = "accept-language"
        return response

    @blueprint.get("/setup/<name>")
    def file(name: str) -> flask.Response:
        environ = flask.request.environ
        gateway.keys.client_of(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))
        for client in clients():
            setup = made(client)
            for item, url in zip(setup.files, file_urls(setup), strict=True):
                if url == f"/setup/{name}":
                    media_type = _MEDIA_TYPES.get(PurePosixPath(name).suffix, "text/plain")
                    response = flask.Response(item.text, content_type=f"{media_type}; charset=utf-8")
                    response.headers.update(PAGE_HEADERS)
                    return response
        known = ", ".join(url for client in clients() for url in file_urls(made(client)))
        raise NotFound(f"There is no file '{name[:100]}'; there are: {known}.")

    return blueprint


def file_urls(setup: ClientSetup) -> list[str]:
    """Where the files of a client are served."""
    return [f"/setup/{PurePosixPath(file.path).name.lstrip('.')}" for file in setup.files]
