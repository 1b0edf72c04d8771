"""Calls go past Flask's dispatch: a fifth of the work of a small call, for a few URLs whose answers are no Flask responses.

Everything else is Flask's, also for these URLs: other methods, and the compression of a whole answer. What Flask's error handlers do for
views is done here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import flask

from compat.endpoints.answers import Answer, error_body
from compat.endpoints.compression import MIN_SIZE_BYTES
from compat.endpoints.doors import Door
from compat.endpoints.front import REQUEST_ID, Environ, StartResponse
from compat.endpoints.responses_socket import SocketDoor
from compat.errors import GatewayError, InternalError

_UNCOMPRESSED = frozenset({"", "identity"})


class HotPath:
    """A WSGI application over that of `app` and the doors, by their paths: `sockets` are those that WebSockets are asked for at.

    `on_fault` gets a request's id and a fault of ours.
    """

    def __init__(
        self,
        app: flask.Flask,
        doors: Mapping[str, Door],
        sockets: Mapping[str, SocketDoor],
        on_fault: Callable[[str, Exception], InternalError],
    ) -> None:
        self._app = app
        self._dispatch = app.wsgi_app
        self._doors = doors
        self._sockets = sockets
        self._on_fault = on_fault

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        door = self._door(environ)
        if door is None:
            return self._dispatch(environ, start_response)
        try:
            answer = door(environ)
        except GatewayError as error:
            error.request_id = environ.get(REQUEST_ID, "")
            answer = error_body(error, protocol=door.protocol)
        except Exception as error:  # noqa: BLE001  # the error boundary, as in `attach_boundary`
            answer = error_body(self._on_fault(environ.get(REQUEST_ID, ""), error), protocol=door.protocol)
        if isinstance(answer.body, bytes) and len(answer.body) >= MIN_SIZE_BYTES:
            if environ.get("HTTP_ACCEPT_ENCODING", "") not in _UNCOMPRESSED:
                return self._processed(environ, answer)(environ, start_response)
            answer.headers.append(("vary", "Accept-Encoding"))  # as Flask-Compress has it, for caches on the way
        return answer.send(start_response)

    def _door(self, environ: Environ) -> Door | SocketDoor | None:
        if environ["REQUEST_METHOD"] == "POST":
            return self._doors.get(environ["PATH_INFO"])
        is_socket = environ.get("HTTP_UPGRADE", "").lower() == "websocket" or "HTTP_SEC_WEBSOCKET_KEY" in environ  # a proxy may drop one
        return self._sockets.get(environ["PATH_INFO"]) if is_socket else None

    def _processed(self, environ: Environ, answer: Answer) -> flask.Response:
        """The answer after all that `app` does with a response: Flask-Compress is there."""
        with self._app.request_context(environ):
            return self._app.process_response(answer.response())
