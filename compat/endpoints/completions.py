"""`POST /v1/completions` with `prompt` and `suffix`, whole and streamed, for editors that complete in the middle.

An upstream that fills in the middle itself gets the request as it is. Any other model is asked by a chat prompt (`compat/wire/infill.py`):
the call then is a chat call like any other, with all that belongs to one, and its answer is written as a completion.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import flask

from compat import jsonio
from compat.call import call_from
from compat.endpoints.answers import error_answer, json_answer
from compat.endpoints.body import read_json_body
from compat.endpoints.boundary import fault_of
from compat.endpoints.front import REQUEST_ID
from compat.endpoints.hangup import ClientWatch, WatchedFrames
from compat.errors import ClientGone, GatewayError, GatewayLoop, ShuttingDown, UpstreamRefusal
from compat.gateway import Gateway
from compat.pipeline import CallRun
from compat.plain_call import PlainCall
from compat.routing.router import Deployment, Group, Route
from compat.wire.envelope import Envelope
from compat.wire.hops import HOPS_VARIABLE, hops_of
from compat.wire.infill import Completion, CompletionStream, chat_body, completion_document, read_completion, whole_as_stream

ENDPOINT = "completions"
_INFILL = "infill"
_SSE_HEADERS = [("cache-control", "no-cache"), ("x-accel-buffering", "no")]
_NOT_THERE = frozenset({400, 404, 405, 422, 501})
"""What an upstream says that has no such endpoint, or none for this model."""


def completions_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("completions", __name__)

    @blueprint.post("/v1/completions")
    def completions() -> flask.Response:
        environ = flask.request.environ
        if gateway.gauges.is_draining:
            raise ShuttingDown("The gateway is shutting down.", retry_after_s=2, headers=(("connection", "close"),))
        received_s = gateway.clock.monotonic()
        client = gateway.keys.client_of(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))
        envelope = Envelope(read_json_body(environ, gateway.settings.server))
        ask = read_completion(envelope)
        watch = ClientWatch(environ)
        try:
            with watch:
                passed_on = _passed_on(gateway, envelope, ask, environ, client, received_s)
        except (GatewayError, ClientGone) as error:
            watch.close()
            return error_answer(error) if isinstance(error, GatewayError) else flask.Response(status=499)
        if passed_on is not None:
            watch.close()
            document, headers = passed_on
            return _whole_answer(ask, {**document, "model": ask.model}, headers)
        body = chat_body(envelope, ask, reasons=gateway.router.resolve(ask.model).model.reasoning)
        parent = environ.get("HTTP_TRACEPARENT", "")
        hops = hops_of(environ.get(HOPS_VARIABLE, ""))
        call = call_from(
            Envelope(body), request_id=environ[REQUEST_ID], client=client, received_s=received_s, trace_parent=parent, hops=hops
        )
        run = CallRun(gateway, call)
        return _streamed(run, watch, ask) if ask.is_stream else _whole(run, watch, ask)

    return blueprint


def _passed_on(
    gateway: Gateway, envelope: Envelope, ask: Completion, environ: dict[str, Any], client: str, received_s: float
) -> tuple[dict[str, Any], list[tuple[str, str]]] | None:
    """The answer of an upstream that completes by itself, and its headers; `None` where there is none, or it does not for this model.

    It is asked for a whole answer: what completes in the middle is short.
    """
    endpoint = _INFILL if ask.suffix else ENDPOINT
    deployments = gateway.router.resolve(ask.model).deployments
    able = [deployment for deployment in deployments if _completes(gateway, deployment, endpoint)]
    if len(able) < len(deployments):
        return None
    route = Route(ask.model, tuple(Group((deployment,), (1,)) for deployment in able))
    call = PlainCall(
        gateway,
        endpoint,
        route,
        partial(_body, envelope),
        environ[REQUEST_ID],
        client,
        received_s,
        len(envelope.body),
        envelope.value("max_tokens") or route.model.max_output,
        environ.get("HTTP_TRACEPARENT", ""),
        hops_of(environ.get(HOPS_VARIABLE, "")),
    )
    try:
        document = call.answer()
    except UpstreamRefusal as error:
        if error.status not in _NOT_THERE or error.code == GatewayLoop.code:
            raise
        if call.deployment is not None:
            gateway.refusals.learn(call.deployment.name, _mark(endpoint))
        return None
    choices = document.get("choices")
    is_sound = (
        isinstance(choices, list)
        and choices
        and all(isinstance(choice, dict) and isinstance(choice.get("text"), str) for choice in choices)
    )
    return (document, call.headers()) if is_sound else None


def _completes(gateway: Gateway, deployment: Deployment, endpoint: str) -> bool:
    """Whether a deployment has the endpoint, as far as is known."""
    is_there = endpoint in deployment.upstream.kind.paths and not deployment.is_embedded
    return is_there and _mark(endpoint) not in gateway.refusals.of(deployment.name)


def _mark(endpoint: str) -> str:
    """How the lack of an endpoint is remembered, among the parameters that a deployment refuses."""
    return f"endpoint {endpoint}"


def _body(envelope: Envelope, deployment: Deployment) -> bytes:
    return envelope.without({"stream", "stream_options"}).replaced({"model": jsonio.encode(deployment.target)})


def _whole_answer(ask: Completion, document: dict[str, Any], headers: list[tuple[str, str]]) -> flask.Response:
    if not ask.is_stream:
        return json_answer(jsonio.encode(document), headers=headers)
    response = flask.Response(whole_as_stream(document, wants_usage=ask.wants_usage), content_type="text/event-stream; charset=utf-8")
    response.headers.extend([*_SSE_HEADERS, *headers])
    return response


def _whole(run: CallRun, watch: ClientWatch, ask: Completion) -> flask.Response:
    try:
        with watch:
            body = run.whole()
    except GatewayError as error:
        return error_answer(error, run.headers())
    except ClientGone:
        return flask.Response(status=499)
    finally:
        watch.close()
    return json_answer(jsonio.encode(completion_document(jsonio.decode(body), ask)), headers=run.headers())


def _streamed(run: CallRun, watch: ClientWatch, ask: Completion) -> flask.Response:
    frames = _completion_frames(run, ask)
    try:
        with watch:
            first = next(frames)
    except GatewayError as error:
        watch.close()
        return error_answer(error, run.headers())
    except ClientGone:
        watch.close()
        return flask.Response(status=499)
    body = WatchedFrames(first, frames, watch, partial(fault_of, run.gateway, run.call.request_id))
    response = flask.Response(body, content_type="text/event-stream; charset=utf-8")
    response.headers.extend([*_SSE_HEADERS, *run.headers()])
    return response


def _completion_frames(run: CallRun, ask: Completion) -> Iterator[bytes]:
    """The frames of the chat answer as those of a completion."""
    stream = CompletionStream(ask)
    frames = run.frames()
    try:
        for frame in frames:
            written = stream.feed(frame)
            if written:
                yield written
    finally:
        frames.close()
