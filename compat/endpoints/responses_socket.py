"""`GET /v1/responses`: where Codex asks for a WebSocket, which is refused in the way that makes it use HTTP at once.

A 426 ends the search; a 404 or a 405 costs it five attempts and seconds.
"""

from __future__ import annotations

import flask

from compat.calls.gateway import Gateway
from compat.endpoints.answers import error_answer
from compat.errors import BadRequest, MethodNotAllowed


def responses_socket_blueprint(gateway: Gateway) -> flask.Blueprint:  # noqa: ARG001  # as all blueprints are made
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("responses_socket", __name__)

    @blueprint.get("/v1/responses")
    def open_socket() -> flask.Response:
        if "websocket" not in flask.request.headers.get("upgrade", "").lower():
            raise MethodNotAllowed("GET is not allowed on /v1/responses; allowed: POST.", headers=(("allow", "POST"),))
        return error_answer(
            BadRequest("WebSockets are not served here: send POST /v1/responses.", status=426, headers=(("upgrade", "HTTP/1.1"),))
        )

    return blueprint
