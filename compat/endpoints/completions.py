"""`POST /v1/completions` with `prompt` and `suffix`, whole and streamed, for editors that complete in the middle.

A call like any other: `compat/protocols/chat/completions.py` says whether an upstream is asked for a completion, or for a chat.
"""

from __future__ import annotations

from functools import partial

import flask

from compat.calls.call import completion_call
from compat.calls.gateway import Gateway
from compat.calls.run import CallRun
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import read_origin, streamed_answer, whole_answer
from compat.endpoints.hangup import ClientWatch
from compat.protocols.chat.infill import read_completion


def completions_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("completions", __name__)

    @blueprint.post("/v1/completions")
    def completions() -> flask.Response:
        environ = flask.request.environ
        origin = read_origin(gateway, environ)
        envelope = read_envelope(environ, gateway.settings.server, gateway.offload)
        call = completion_call(envelope, gateway.offload.run(envelope.body, partial(read_completion, envelope)), **origin)
        run = CallRun(gateway, call, environ.get("compat.outlet"))
        answer = streamed_answer if call.is_stream else whole_answer
        return answer(run, ClientWatch(environ)).response()

    return blueprint
