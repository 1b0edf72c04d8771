"""`/v1/responses/{id}` and what is below it: answers that a service stored. Nothing is stored here, so none is found, in OpenAI's words."""

from __future__ import annotations

from typing import Never

import flask

from compat.calls.gateway import Gateway
from compat.endpoints.calls import read_origin
from compat.errors import NotFound


def stored_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoints over `gateway`."""
    blueprint = flask.Blueprint("stored", __name__)

    def not_found(response_id: str) -> Never:
        read_origin(gateway, flask.request.environ)
        raise NotFound(f"Response with id '{response_id[:100]}' not found.", code="response_not_found")

    for path, methods in (
        ("/v1/responses/<response_id>", ["GET", "DELETE"]),
        ("/v1/responses/<response_id>/input_items", ["GET"]),
        ("/v1/responses/<response_id>/cancel", ["POST"]),
    ):
        blueprint.add_url_rule(path, path.rpartition("/")[2].strip("<>"), not_found, methods=methods)
    return blueprint
