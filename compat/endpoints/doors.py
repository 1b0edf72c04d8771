"""`POST` to the URLs of the client protocols: one door for each, and behind every door the same house.

A call is either this client's alone, or, with an idempotency key or a retry marker, one that shares the answer of an identical call in
flight (`compat/reuse/single_flight.py`); `x-compat-single-flight: off` switches that off for a call.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

import flask

from compat.calls.call import Call, Origin, call_from
from compat.calls.gateway import Gateway
from compat.calls.kept import Kept, KeptAnswer
from compat.calls.run import CallRun
from compat.endpoints.answers import Answer
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import HeadersOf, read_origin, streamed_answer, whole_answer
from compat.endpoints.hangup import ClientWatch
from compat.protocols import CLIENT_PROTOCOLS
from compat.protocols.client_protocol import ClientProtocol
from compat.reuse.single_flight import Reader, Told, flight_key
from compat.wire.envelope import Envelope


class Door:
    """Where clients of one protocol come in: a request's environ in, its answer out."""

    def __init__(self, gateway: Gateway, protocol: ClientProtocol) -> None:
        self.protocol = protocol
        self._gateway = gateway
        self._headers = HeadersOf(protocol)

    def __call__(self, environ: dict[str, Any], client: str | None = None) -> Answer:
        """Answer one request; see `read_origin`. Errors: any `GatewayError`, before a call was made of it."""
        gateway = self._gateway
        origin = read_origin(gateway, environ, self._headers, client)
        return self.answer(read_envelope(environ, gateway.settings.server, gateway.offload), origin, environ)

    def answer(self, envelope: Envelope, origin: Origin, environ: dict[str, Any], kept: Kept | None = None) -> Answer:
        """Answer one call; `kept` is what becomes of the answer besides. Errors: as above."""
        gateway = self._gateway
        call = self.call(envelope, origin)
        key = self._flight_key(call, environ)
        run = CallRun(gateway, call, environ.get("compat.outlet") if key is None and kept is None else None)
        watch = ClientWatch(environ)
        reader: Reader | None = None
        if key is not None:
            reader = gateway.flights.join(key, run, run.frames() if call.is_stream else _once(run))
        shown: Reader | KeptAnswer | None = reader
        if kept is not None:
            leader: Told = reader.leader if reader is not None else run
            frames = reader or (run.frames() if call.is_stream else _once(run))
            shown = KeptAnswer(frames, leader, kept.frames if call.is_stream else kept.whole)
        return (streamed_answer if call.is_stream else whole_answer)(run, watch, shown)

    def call(self, envelope: Envelope, origin: Origin) -> Call:
        """The call that an envelope stands for. Errors: `BadRequest`."""
        if not self.protocol.reads_all:
            return call_from(self.protocol, envelope, **origin)
        return self._gateway.offload.run(envelope.body, lambda: call_from(self.protocol, envelope, **origin))

    def _flight_key(self, call: Call, environ: dict[str, Any]) -> str | None:
        """What the call may share its answer by; `None` where it stands alone."""
        is_off = environ.get("HTTP_X_COMPAT_SINGLE_FLIGHT", "").lower() == "off"
        if is_off or not (self.protocol.shares and self._gateway.settings.single_flight.enabled):
            return None
        return flight_key(
            call.client,
            self.protocol.api,
            call.envelope.body,
            idempotency_key=environ.get("HTTP_IDEMPOTENCY_KEY", ""),
            retry_count=environ.get("HTTP_X_STAINLESS_RETRY_COUNT", ""),
        )


def doors_of(gateway: Gateway) -> Mapping[str, Door]:
    """Path -> the door there."""
    return {path: Door(gateway, one) for one in CLIENT_PROTOCOLS.values() if one.is_served for path in one.paths}


def doors_blueprint(doors: Mapping[str, Door]) -> flask.Blueprint:
    """The doors' place among the endpoints of Flask."""
    blueprint = flask.Blueprint("doors", __name__)
    for path, door in doors.items():
        blueprint.add_url_rule(path, path.removeprefix("/").replace("/", "_"), partial(_answered, door), methods=["POST"])
    return blueprint


def _answered(door: Door) -> flask.Response:
    return door(flask.request.environ).response()


def _once(run: CallRun) -> Generator[bytes, None, None]:
    """A whole answer as its only frame."""
    yield run.whole()
