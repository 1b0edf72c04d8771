"""`POST /v1/messages/count_tokens` and `/v1/responses/input_tokens`: by the upstream where it counts, else by an estimate that follows what
it reports for calls.

A count is never a reason for a client to stop: whatever keeps an upstream from giving one, there is the estimate. Only what is wrong with
the request itself is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import flask

from compat.calls.call import Call, call_from
from compat.calls.gateway import Gateway
from compat.calls.run import CallRun
from compat.endpoints.answers import Answer, error_body, json_body
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import GONE, HeadersOf, read_origin
from compat.endpoints.hangup import ClientWatch
from compat.errors import ClientGone, GatewayError, UpstreamRefusal
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.messages import counting, estimate
from compat.protocols.messages.counting import COUNT
from compat.protocols.responses import counting as input_counting
from compat.protocols.responses.counting import INPUT_COUNT
from compat.routing.router import Deployment, Route, route_over
from compat.wire.envelope import Envelope

_CLIENTS_OWN = frozenset({400, 413, 422})
_NOT_THERE = frozenset({404, 405, 501})
NOTE = ("x-compat-notes", "input_tokens=estimate")


@dataclass(frozen=True, slots=True)
class Counter:
    """How tokens are counted in one protocol: the body of an answer, and the estimate."""

    protocol: ClientProtocol
    written: Callable[[int], bytes]
    tokens_of: Callable[[Envelope], int]


_COUNTERS: Mapping[str, Counter] = {
    "/v1/messages/count_tokens": Counter(COUNT, counting.written, estimate.tokens_of),
    "/v1/responses/input_tokens": Counter(INPUT_COUNT, input_counting.written, input_counting.tokens_of),
}


def count_tokens_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoints over `gateway`."""
    blueprint = flask.Blueprint("count_tokens", __name__)
    for path, counter in _COUNTERS.items():
        view = partial(_counted, gateway, counter, HeadersOf(counter.protocol))
        blueprint.add_url_rule(path, counter.protocol.endpoint, view, methods=["POST"])
    return blueprint


def _counted(gateway: Gateway, counter: Counter, headers_of: HeadersOf) -> flask.Response:
    environ = flask.request.environ
    origin = read_origin(gateway, environ, headers_of)
    call = call_from(counter.protocol, read_envelope(environ, gateway.settings.server, gateway.offload), **origin)
    route = gateway.router.resolve(call.model)
    gateway.keys.check_model(call.client, route.name)
    answer = _asked(gateway, call, route, ClientWatch(environ)) if counts(gateway, route.deployments[0], call.protocol.api) else None
    return (answer or _estimated(gateway, call, route, counter)).response()


def counts(gateway: Gateway, deployment: Deployment, endpoint: str) -> bool:
    """Whether the upstream counts tokens for this protocol, as far as is known."""
    is_refused = endpoint in gateway.refusals.of(deployment.name)
    return endpoint in deployment.upstream.kind.paths and not is_refused


def _asked(gateway: Gateway, call: Call, route: Route, watch: ClientWatch) -> Answer | None:
    """The upstream's answer; `None` where there is no count in it."""
    able = [deployment for deployment in route.deployments if counts(gateway, deployment, call.protocol.api)]
    run = CallRun(gateway, call, route=route_over(route.name, able))
    try:
        with watch:
            body = run.whole()
    except UpstreamRefusal as error:
        if error.status in _NOT_THERE and run.attempt is not None:
            gateway.refusals.learn(run.attempt.deployment.name, call.protocol.api)
        return error_body(error, run.headers(), call.protocol) if error.status in _CLIENTS_OWN else None
    except ClientGone:
        return GONE
    except GatewayError:
        return None
    finally:
        watch.close()
    return json_body(body, headers=run.headers())


def _estimated(gateway: Gateway, call: Call, route: Route, counter: Counter) -> Answer:
    tokens = gateway.offload.run(call.envelope.body, lambda: counter.tokens_of(call.envelope))
    scaled = math.ceil(tokens * gateway.scales.of(route.deployments[0].name))
    return json_body(counter.written(scaled), headers=[NOTE])
