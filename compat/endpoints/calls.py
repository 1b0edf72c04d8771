"""What the endpoints for calls have in common: whose call a request is, and its answer, whole or streamed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
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
from compat.protocols.client_protocol import ClientProtocol
from compat.reuse.single_flight import Reader, Told
from compat.wire.hops import HOPS_VARIABLE, hops_of

SSE_HEADERS = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
GONE = Answer(b"", [], 499)
"""For a client that left; nobody reads it."""


class HeadersOf:
    """The header fields of a request that a protocol reads."""

    def __init__(self, protocol: ClientProtocol) -> None:
        self._variables = {name: _variable_of(name) for name in protocol.headers if not name.endswith("*")}
        self._beginnings = tuple(_variable_of(name[:-1]) for name in protocol.headers if name.endswith("*"))

    def __call__(self, environ: Mapping[str, Any]) -> Mapping[str, str]:
        """Those in `environ`, by their names in lower case."""
        found = {name: environ[variable] for name, variable in self._variables.items() if variable in environ}
        if self._beginnings:
            found |= {_header_of(variable): environ[variable] for variable in environ if variable.startswith(self._beginnings)}
        return found


def read_origin(gateway: Gateway, environ: dict[str, Any], headers_of: HeadersOf, client: str | None = None) -> Origin:
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
        headers=headers_of(environ),
        query=environ.get("QUERY_STRING", ""),
        hops=hops_of(environ.get(HOPS_VARIABLE, "")),
    )


def whole_answer(run: CallRun, watch: ClientWatch, reader: Reader | KeptAnswer | None = None) -> Answer:
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


def streamed_answer(run: CallRun, watch: ClientWatch, reader: Reader | KeptAnswer | None = None) -> Answer:
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


def _variable_of(header: str) -> str:
    """The variable of an environ that holds a header field."""
    return f"HTTP_{header.upper().replace('-', '_')}"


def _header_of(variable: str) -> str:
    """The header field that a variable of an environ holds."""
    return variable.removeprefix("HTTP_").replace("_", "-").lower()
