"""`POST /v1/chat/completions`."""

from __future__ import annotations

import flask

from compat.call import call_from
from compat.endpoints.answers import error_answer, json_answer
from compat.endpoints.body import read_json_body
from compat.endpoints.front import REQUEST_ID
from compat.endpoints.hangup import ClientWatch, WatchedFrames
from compat.errors import ClientGone, GatewayError, ShuttingDown
from compat.gateway import Gateway
from compat.pipeline import CallRun
from compat.wire.envelope import Envelope

_SSE_HEADERS = [("cache-control", "no-cache"), ("x-accel-buffering", "no")]


def chat_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("chat", __name__)

    @blueprint.post("/v1/chat/completions")
    def chat() -> flask.Response:
        environ = flask.request.environ
        if gateway.gauges.is_draining:
            raise ShuttingDown("The gateway is shutting down.", retry_after_s=2, headers=(("connection", "close"),))
        received_s = gateway.clock.monotonic()
        client = gateway.keys.client_of(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))
        envelope = Envelope(read_json_body(environ, gateway.settings.server))
        session_id = environ.get("HTTP_X_SESSION_ID", "") or environ.get("HTTP_X_SESSION_AFFINITY", "")
        call = call_from(envelope, request_id=environ[REQUEST_ID], client=client, received_s=received_s, session_id=session_id)
        run = CallRun(gateway, call)
        watch = ClientWatch(environ)
        return _streamed(run, watch) if call.is_stream else _whole(run, watch)

    return blueprint


def _whole(run: CallRun, watch: ClientWatch) -> flask.Response:
    try:
        with watch:
            body = run.whole()
    except GatewayError as error:
        return error_answer(error, run.headers())
    except ClientGone:
        return flask.Response(status=499)
    finally:
        watch.close()
    return json_answer(body, headers=run.headers())


def _streamed(run: CallRun, watch: ClientWatch) -> flask.Response:
    """The status is decided by the first frame: until then an error is an HTTP error, afterwards an event."""
    frames = run.frames()
    try:
        with watch:
            first = next(frames)
    except GatewayError as error:
        watch.close()
        return error_answer(error, run.headers())
    except ClientGone:
        watch.close()
        return flask.Response(status=499)
    response = flask.Response(WatchedFrames(first, frames, watch), content_type="text/event-stream; charset=utf-8")
    response.headers.extend([*_SSE_HEADERS, *run.headers()])
    return response
