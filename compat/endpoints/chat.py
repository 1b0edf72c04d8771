"""`POST /v1/chat/completions`.

A call is either this client's alone, or, with an idempotency key or a retry marker, one that shares the answer of an identical call in
flight (`compat/routing/single_flight.py`); `x-compat-single-flight: off` switches that off for a call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from functools import partial
from typing import Any

import flask

from compat.call import Call, call_from
from compat.endpoints.answers import error_answer, json_answer
from compat.endpoints.body import read_json_body
from compat.endpoints.boundary import fault_of
from compat.endpoints.front import REQUEST_ID
from compat.endpoints.hangup import ClientWatch, WatchedFrames
from compat.errors import ClientGone, GatewayError, ShuttingDown
from compat.gateway import Gateway
from compat.pipeline import CallRun
from compat.routing.single_flight import Reader, flight_key
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
        call = _call(gateway, environ)
        key = _flight_key(gateway, call, environ)
        run = CallRun(gateway, call, environ.get("compat.outlet") if key is None else None)
        watch = ClientWatch(environ)
        reader = gateway.flights.join(key, run, run.frames() if call.is_stream else _once(run)) if key is not None else None
        answer = _streamed if call.is_stream else _whole
        return answer(run, watch, reader)

    return blueprint


def _call(gateway: Gateway, environ: dict[str, Any]) -> Call:
    received_s = gateway.clock.monotonic()
    client = gateway.keys.client_of(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))
    envelope = Envelope(read_json_body(environ, gateway.settings.server))
    session_id = environ.get("HTTP_X_SESSION_ID", "") or environ.get("HTTP_X_SESSION_AFFINITY", "")
    return call_from(
        envelope,
        request_id=environ[REQUEST_ID],
        client=client,
        received_s=received_s,
        session_id=session_id,
        cache_wish=environ.get("HTTP_X_COMPAT_CACHE", ""),
        trace_parent=environ.get("HTTP_TRACEPARENT", ""),
    )


def _flight_key(gateway: Gateway, call: Call, environ: dict[str, Any]) -> str | None:
    """What the call may share its answer by; `None` where it stands alone."""
    if not gateway.settings.single_flight.enabled or environ.get("HTTP_X_COMPAT_SINGLE_FLIGHT", "").lower() == "off":
        return None
    return flight_key(
        call.client,
        call.envelope.body,
        idempotency_key=environ.get("HTTP_IDEMPOTENCY_KEY", ""),
        retry_count=environ.get("HTTP_X_STAINLESS_RETRY_COUNT", ""),
    )


def _once(run: CallRun) -> Generator[bytes, None, None]:
    """A whole answer as its only frame."""
    yield run.whole()


def _whole(run: CallRun, watch: ClientWatch, reader: Reader[CallRun] | None) -> flask.Response:
    leader = run if reader is None else reader.leader
    try:
        with watch:
            body = run.whole() if reader is None else next(reader)
    except GatewayError as error:
        return error_answer(error, _headers(run, leader))
    except ClientGone:
        return flask.Response(status=499)
    finally:
        watch.close()
        if reader is not None:
            reader.close()
    return json_answer(body, headers=_headers(run, leader))


def _streamed(run: CallRun, watch: ClientWatch, reader: Reader[CallRun] | None) -> flask.Response:
    """The status is decided by the first frame: until then an error is an HTTP error, afterwards an event."""
    frames = run.frames() if reader is None else reader
    leader = run if reader is None else reader.leader
    with contextlib.ExitStack() as unless_begun:
        unless_begun.callback(frames.close)
        unless_begun.callback(watch.close)
        try:
            with watch:
                first = next(frames)
        except GatewayError as error:
            return error_answer(error, _headers(run, leader))
        except ClientGone:
            return flask.Response(status=499)
        unless_begun.pop_all()
    body = WatchedFrames(first, frames, watch, partial(fault_of, run.gateway, run.call.request_id))
    response = flask.Response(body, content_type="text/event-stream; charset=utf-8")
    response.headers.extend([*_SSE_HEADERS, *_headers(run, leader)])
    return response


def _headers(run: CallRun, leader: CallRun) -> list[tuple[str, str]]:
    """What the client is told of its call; a call that shares an answer names the call whose answer it is."""
    headers = leader.headers()
    if leader is not run:
        headers.append(("x-compat-shared-with", leader.call.request_id))
        run.note_shared(leader)
    return headers
