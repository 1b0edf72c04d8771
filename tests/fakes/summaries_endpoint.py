"""An endpoint that nobody needs: the whole file that a new one takes (see `tests/integration/test_proofs.py`).

`POST /v1/summaries` with `{"model": ..., "text": ..., "stream": true}` asks a chat for a summary, by the core that serves every call.
"""

from __future__ import annotations

import flask

from compat import jsonio
from compat.calls.call import call_from
from compat.calls.gateway import Gateway
from compat.calls.run import CallRun
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import HeadersOf, read_origin, streamed_answer, whole_answer
from compat.endpoints.hangup import ClientWatch
from compat.protocols.chat.client import CHAT
from compat.wire.envelope import Envelope


def summaries_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("summaries", __name__)
    headers_of = HeadersOf(CHAT)

    @blueprint.post("/v1/summaries")
    def summaries() -> flask.Response:
        environ = flask.request.environ
        origin = read_origin(gateway, environ, headers_of)
        asked = read_envelope(environ, gateway.settings.server, gateway.offload)
        words = f"Sum up: {asked.value('text')}"
        chat = {"model": asked.value("model"), "stream": asked.value("stream"), "messages": [{"role": "user", "content": words}]}
        call = call_from(CHAT, Envelope(jsonio.encode(chat)), **origin)
        run = CallRun(gateway, call, environ.get("compat.outlet"))
        answer = streamed_answer if call.is_stream else whole_answer
        return answer(run, ClientWatch(environ)).response()

    return blueprint
