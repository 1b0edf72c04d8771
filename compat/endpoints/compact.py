"""`POST /v1/responses/compact`: a conversation made short, as older versions of Codex ask; a call of the Responses API in all else."""

from __future__ import annotations

import flask

from compat.calls.call import call_from
from compat.calls.gateway import Gateway
from compat.calls.kept import going_on
from compat.calls.run import CallRun
from compat.endpoints.answers import Answer
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import HeadersOf, read_origin, whole_answer
from compat.endpoints.hangup import ClientWatch
from compat.protocols.responses.client import RESPONSES
from compat.protocols.responses.compaction import compacted, triggered
from compat.protocols.responses.state import wish_of
from compat.wire.envelope import Envelope


def compact_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("compact", __name__)
    headers_of = HeadersOf(RESPONSES)

    @blueprint.post("/v1/responses/compact")
    def compact() -> flask.Response:
        environ = flask.request.environ
        origin = read_origin(gateway, environ, headers_of)
        envelope = read_envelope(environ, gateway.settings.server, gateway.offload)
        if gateway.responses.is_on:
            wish = gateway.offload.run(envelope.body, lambda: wish_of(envelope))
            envelope = going_on(gateway, origin["client"], wish, envelope)
        asked = gateway.offload.run(envelope.body, lambda: triggered(envelope))
        run = CallRun(gateway, call_from(RESPONSES, asked, **origin))
        return _compacted(envelope if envelope.is_missing("input") else asked, whole_answer(run, ClientWatch(environ))).response()

    return blueprint


def _compacted(asked: Envelope, answer: Answer) -> Answer:
    if answer.status != 200 or not isinstance(answer.body, bytes):
        return answer
    return Answer(compacted(asked, answer.body), answer.headers)
