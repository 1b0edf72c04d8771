"""What the endpoints for calls have in common: whose call a request is, and its answer, whole or streamed."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from compat.calls.call import Origin
from compat.calls.gateway import Gateway
from compat.calls.kept import KeptAnswer
from compat.calls.run import CallRun
from compat.endpoints.answers import Answer, error_body, json_body
from compat.endpoints.boundary import fault_of
from compat.endpoints.front import REQUEST_ID
from compat.endpoints.hangup import ClientWatch, WatchedFrames
from compat.errors import ClientGone, GatewayError, ShuttingDown
from compat.reuse.single_flight import Reader, Told
from compat.wire.hops import HOPS_VARIABLE, hops_of

SSE_HEADERS = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
GONE = Answer(b"", [], 499)
"""For a client that left; nobody reads it."""


def read_origin(gateway: Gateway, environ: dict[str, Any], client: str | None = None) -> Origin:
    """Whose call it is: by its key, where the `client` is not known by other means. Errors: `ShuttingDown`, `InvalidKey`, `BadRequest`."""
    if gateway.gauges.is_draining:
        raise ShuttingDown("The gateway is shutting down.", retry_after_s=2, headers=(("connection", "close"),))
    return Origin(
        received_s=gateway.clock.monotonic(),
        client=client or gateway.keys.client_of(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", "")),
        request_id=environ[REQUEST_ID],
        session_id=environ.get("HTTP_X_SESSION_ID", "") or environ.get("HTTP_X_SESSION_AFFINITY", ""),
        cache_wish=environ.get("HTTP_X_COMPAT_CACHE", ""),
        trace_parent=environ.get("HTTP_TRACEPARENT", ""),
        query=environ.get("QUERY_STRING", ""),
        hops=hops_of(environ.get(HOPS_VARIABLE, "")),
    )


def whole_answer(run: CallRun, watch: ClientWatch, reader: Reader[Told] | KeptAnswer | None = None) -> Answer:
    """The answer of a call, its own or the one that it shares."""
    leader: Told = run if reader is None else reader.leader
    try:
        with watch:
            body = run.whole() if reader is None else next(reader)
    except GatewayError as error:
        error.forget_frames()
        error.request_id = leader.request_id
        return error_body(error, _headers(run, leader), run.call.protocol)
    except ClientGone:
        return GONE
    finally:
        watch.close()
        if reader is not None:
            reader.close()
    return json_body(body, headers=_headers(run, leader))


def streamed_answer(run: CallRun, watch: ClientWatch, reader: Reader[Told] | KeptAnswer | None = None) -> Answer:
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
            error.forget_frames()
            error.request_id = leader.request_id
            return error_body(error, _headers(run, leader), run.call.protocol)
        except ClientGone:
            return GONE
        unless_begun.pop_all()
    body = WatchedFrames(first, frames, watch, partial(_last_frame, run))
    return Answer(body, [*SSE_HEADERS, *_headers(run, leader)])


def _last_frame(run: CallRun, fault: Exception) -> bytes:
    """What ends an answer after a fault of ours."""
    return run.error_frame(fault_of(run.gateway, run.call.request_id, fault))


def _headers(run: CallRun, leader: Told) -> list[tuple[str, str]]:
    """The headers on how a call was made; a call that shares an answer names the call whose answer it is."""
    headers = leader.headers()
    if leader is not run and leader.request_id != run.request_id:
        headers.append(("x-compat-shared-with", leader.request_id))
        run.note_shared(leader.request_id)
    return headers
