"""`POST /v1/messages/count_tokens`: by the upstream where it counts, else by an estimate that follows what it reports for calls.

A count is never a reason for a client to stop: whatever keeps an upstream from giving one, there is the estimate. Only what is wrong with
the request itself is an error.
"""

from __future__ import annotations

import math

import flask

from compat.calls.call import Call, call_from
from compat.calls.gateway import Gateway
from compat.calls.run import CallRun
from compat.endpoints.answers import Answer, error_body, json_body
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import GONE, read_origin
from compat.endpoints.doors import HeadersOf
from compat.endpoints.hangup import ClientWatch
from compat.errors import ClientGone, GatewayError, UpstreamRefusal
from compat.protocols.messages.counting import COUNT, ENDPOINT, written
from compat.protocols.messages.estimate import tokens_of
from compat.routing.router import Deployment, Group, Route

_CLIENTS_OWN = frozenset({400, 413, 422})
_NOT_THERE = frozenset({404, 405, 501})
NOTE = ("x-compat-notes", "input_tokens=estimate")


def count_tokens_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("count_tokens", __name__)
    headers_of = HeadersOf(COUNT)

    @blueprint.post("/v1/messages/count_tokens")
    def count_tokens() -> flask.Response:
        environ = flask.request.environ
        origin = read_origin(gateway, environ)
        origin["headers"] = headers_of(environ)
        call = call_from(COUNT, read_envelope(environ, gateway.settings.server, gateway.offload), **origin)
        route = gateway.router.resolve(call.model)
        gateway.keys.check_model(call.client, route.name)
        answer = _asked(gateway, call, route, ClientWatch(environ)) if counts(gateway, route.deployments[0]) else None
        return (answer or _estimated(gateway, call, route)).response()

    return blueprint


def counts(gateway: Gateway, deployment: Deployment) -> bool:
    """Whether the upstream counts tokens, as far as is known."""
    is_refused = ENDPOINT in gateway.refusals.of(deployment.name)
    return ENDPOINT in deployment.upstream.kind.paths and not is_refused


def _asked(gateway: Gateway, call: Call, route: Route, watch: ClientWatch) -> Answer | None:
    """The upstream's answer; `None` where there is no count in it."""
    able = [deployment for deployment in route.deployments if counts(gateway, deployment)]
    run = CallRun(gateway, call, route=Route(route.name, tuple(Group((deployment,), (1,)) for deployment in able)))
    try:
        with watch:
            body = run.whole()
    except UpstreamRefusal as error:
        if error.status in _NOT_THERE and run.attempt is not None:
            gateway.refusals.learn(run.attempt.deployment.name, ENDPOINT)
        return error_body(error, run.headers(), COUNT) if error.status in _CLIENTS_OWN else None
    except ClientGone:
        return GONE
    except GatewayError:
        return None
    finally:
        watch.close()
    return json_body(body, headers=run.headers())


def _estimated(gateway: Gateway, call: Call, route: Route) -> Answer:
    tokens = gateway.offload.run(call.envelope.body, lambda: tokens_of(call.envelope))
    scaled = math.ceil(tokens * gateway.scales.of(route.deployments[0].name))
    return json_body(written(scaled), headers=[NOTE])
