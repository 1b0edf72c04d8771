"""The error boundary: whatever leaves a view becomes an answer in the shape of the protocol that is spoken at its URL."""

from __future__ import annotations

import traceback

import flask
import werkzeug.exceptions

from compat.calls.gateway import Gateway
from compat.endpoints.answers import error_body
from compat.endpoints.front import REQUEST_ID
from compat.errors import BadRequest, GatewayError, InternalError, MethodNotAllowed, NotFound
from compat.protocols import protocol_at


def attach_boundary(app: flask.Flask, gateway: Gateway) -> None:
    """Register the handlers: our own errors, the framework's, and everything that should not have happened."""

    def answer(error: GatewayError) -> flask.Response:
        error.request_id = flask.request.environ.get(REQUEST_ID, "")
        return error_body(error, protocol=protocol_at(flask.request.path, flask.request.environ)).response()

    @app.errorhandler(GatewayError)
    def ours(error: GatewayError) -> flask.Response:
        return answer(error)

    @app.errorhandler(werkzeug.exceptions.HTTPException)
    def frameworks(error: werkzeug.exceptions.HTTPException) -> flask.Response:
        request = flask.request
        if isinstance(error, werkzeug.exceptions.MethodNotAllowed):
            allowed = ", ".join(sorted(error.valid_methods or ()))
            words = f"{request.method} is not allowed on {request.path[:200]}; allowed: {allowed}."
            return answer(MethodNotAllowed(words, headers=(("allow", allowed),)))
        if isinstance(error, werkzeug.exceptions.NotFound):
            url = protocol_at(request.path).paths[0]
            return answer(NotFound(f"Unknown URL: {request.method} {request.path[:200]}. The API is at {url}."))
        return answer(BadRequest(error.description or error.name, status=error.code))

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> flask.Response:
        return answer(fault_of(gateway, flask.request.environ.get(REQUEST_ID, ""), error))


def fault_of(gateway: Gateway, request_id: str, error: Exception) -> InternalError:
    """The error that a client gets for a fault of ours. The log has its type and place; its words may hold anything, and are in neither."""
    where = "".join(traceback.format_tb(error.__traceback__)[-6:])
    gateway.log.write("error", {"request_id": request_id, "type": type(error).__name__, "where": where}, "error")
    return InternalError(f"The gateway failed on this request; its log has the details under {request_id}.")
