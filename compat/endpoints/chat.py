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
from compat.endpoints.answers import Answer, error_body, json_body
from compat.endpoints.body import read_json_body
from compat.endpoints.boundary import fault_of
from compat.endpoints.front import REQUEST_ID
from compat.endpoints.hangup import ClientWatch, WatchedFrames
from compat.errors import ClientGone, GatewayError, ShuttingDown
from compat.gateway import Gateway
from compat.pipeline import CallRun
from compat.routing.single_flight import Reader, Told, flight_key
from compat.wire.envelope import Envelope
from compat.wire.hops import HOPS_VARIABLE, hops_of

CHAT_PATH = "/v1/chat/completions"
_SSE_HEADERS = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
_GONE = Answer(b"", [], 499)
"""For a client that left; nobody reads it."""


class ChatEndpoint:
    """The endpoint over `gateway`: a request's environ in, its answer out."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Answer one request. Errors: any `GatewayError`, before a call was made of it."""
        gateway = self._gateway
        if gateway.gauges.is_draining:
            raise ShuttingDown("The gateway is shutting down.", retry_after_s=2, headers=(("connection", "close"),))
        call = _call(gateway, environ)
        key = _flight_key(gateway, call, environ)
        run = CallRun(gateway, call, environ.get("compat.outlet") if key is None else None)
        watch = ClientWatch(environ)
        reader = gateway.flights.join(key, run, run.frames() if call.is_stream else _once(run)) if key is not None else None
        answer = _streamed if call.is_stream else _whole
        return answer(run, watch, reader)


def chat_blueprint(endpoint: ChatEndpoint) -> flask.Blueprint:
    """The endpoint's place among those of Flask."""
    blueprint = flask.Blueprint("chat", __name__)

    @blueprint.post(CHAT_PATH)
    def chat() -> flask.Response:
        return endpoint(flask.request.environ).response()

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
        hops=hops_of(environ.get(HOPS_VARIABLE, "")),
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


def _whole(run: CallRun, watch: ClientWatch, reader: Reader[Told] | None) -> Answer:
    leader: Told = run if reader is None else reader.leader
    try:
        with watch:
            body = run.whole() if reader is None else next(reader)
    except GatewayError as error:
        return error_body(error, _headers(run, leader))
    except ClientGone:
        return _GONE
    finally:
        watch.close()
        if reader is not None:
            reader.close()
    return json_body(body, headers=_headers(run, leader))


def _streamed(run: CallRun, watch: ClientWatch, reader: Reader[Told] | None) -> Answer:
    """The status is decided by the first frame: until then an error is an HTTP error, afterwards an event."""
    frames = run.frames() if reader is None else reader
    leader: Told = run if reader is None else reader.leader
    with contextlib.ExitStack() as unless_begun:
        unless_begun.callback(frames.close)
        unless_begun.callback(watch.close)
        try:
            with watch:
                first = next(frames)
        except GatewayError as error:
            return error_body(error, _headers(run, leader))
        except ClientGone:
            return _GONE
        unless_begun.pop_all()
    body = WatchedFrames(first, frames, watch, partial(fault_of, run.gateway, run.call.request_id))
    return Answer(body, [*_SSE_HEADERS, *_headers(run, leader)])


def _headers(run: CallRun, leader: Told) -> list[tuple[str, str]]:
    """What the client is told of its call; a call that shares an answer names the call whose answer it is."""
    headers = leader.headers()
    if leader.request_id != run.request_id:
        headers.append(("x-compat-shared-with", leader.request_id))
        run.note_shared(leader.request_id)
    return headers
