"""`POST /v1/chat/completions`.

A call is either this client's alone, or, with an idempotency key or a retry marker, one that shares the answer of an identical call in
flight (`compat/reuse/single_flight.py`); `x-compat-single-flight: off` switches that off for a call.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import flask

from compat.calls.call import Call, call_from
from compat.calls.gateway import Gateway
from compat.calls.run import CallRun
from compat.endpoints.answers import Answer
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import read_origin, streamed_answer, whole_answer
from compat.endpoints.hangup import ClientWatch
from compat.reuse.single_flight import flight_key

CHAT_PATH = "/v1/chat/completions"


class ChatEndpoint:
    """The endpoint over `gateway`: a request's environ in, its answer out."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Answer one request. Errors: any `GatewayError`, before a call was made of it."""
        gateway = self._gateway
        origin = read_origin(gateway, environ)
        call = call_from(read_envelope(environ, gateway.settings.server, gateway.offload), **origin)
        key = _flight_key(gateway, call, environ)
        run = CallRun(gateway, call, environ.get("compat.outlet") if key is None else None)
        watch = ClientWatch(environ)
        reader = gateway.flights.join(key, run, run.frames() if call.is_stream else _once(run)) if key is not None else None
        answer = streamed_answer if call.is_stream else whole_answer
        return answer(run, watch, reader)


def chat_blueprint(endpoint: ChatEndpoint) -> flask.Blueprint:
    """The endpoint's place among those of Flask."""
    blueprint = flask.Blueprint("chat", __name__)

    @blueprint.post(CHAT_PATH)
    def chat() -> flask.Response:
        return endpoint(flask.request.environ).response()

    return blueprint


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
