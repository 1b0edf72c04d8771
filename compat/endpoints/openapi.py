"""`GET /openapi.json`: what the gateway serves, for programs. It is public: it says nothing of this gateway but its version."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import flask

from compat import __version__, jsonio
from compat.endpoints.answers import json_body


def openapi_blueprint(_gateway: object) -> flask.Blueprint:
    """The endpoint; the document is the same for every gateway."""
    blueprint = flask.Blueprint("openapi", __name__)
    body = jsonio.encode(openapi_document())

    @blueprint.get("/openapi.json")
    def openapi() -> flask.Response:
        return json_body(body).response()

    return blueprint


def openapi_document() -> dict[str, Any]:
    """The document (OpenAPI 3.1) of `compat/data/openapi.json`, with the version of the program."""
    document: dict[str, Any] = jsonio.decode(files("compat").joinpath("data/openapi.json").read_bytes(), "compat/data/openapi.json")
    return {**document, "info": {**document["info"], "version": __version__}}
