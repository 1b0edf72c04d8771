"""`GET /metrics`: for Prometheus. Names of models and clients are in it, so it takes a client key where there are any."""

from __future__ import annotations

import collections

import flask

from compat.calls.gateway import Gateway
from compat.endpoints.models import client_of
from compat.telemetry.metrics import Readings


def metrics_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def metrics() -> flask.Response:
        environ = flask.request.environ
        client_of(gateway, environ)
        gateway.metrics.sample(readings_of(gateway))
        accept = environ.get("HTTP_ACCEPT", "")
        content_type, body = gateway.commons.render(accept) or gateway.metrics.render(accept)
        return flask.Response(body, content_type=content_type, headers={"cache-control": "no-store"})

    return blueprint


def readings_of(gateway: Gateway) -> Readings:
    """What is going on just now; with several workers each takes note of its own every few seconds, whoever is asked."""
    circuits = collections.Counter((str(row["upstream"]), str(row["state"])) for row in gateway.policies.circuits.report())
    return Readings(
        gates=gateway.policies.gates.report(),
        stores={
            "vault": (gateway.vault.entries, gateway.vault.size_bytes),
            "answers": (gateway.answers.shelf.entries, gateway.answers.shelf.size_bytes),
        },
        counts={
            "circuits": len(gateway.policies.circuits),
            "routes": len(gateway.router),
            "idle connections": gateway.transport.idle,
            "sessions": len(gateway.policies.affinity),
            "rate limits": len(gateway.policies.pacing),
            "shared answers": len(gateway.flights),
            "refused parameters": len(gateway.refusals),
            "prompt cache watch": len(gateway.cache_watch),
            "log queue": gateway.log.queued,
            "usage queue": gateway.usage.queued,
            "vault queue": gateway.vault.queued,
            **gateway.limits.entries,
        },
        circuits={key: count for key, count in circuits.items() if key[1] != "closed"},
        dropped={"log lines": gateway.log.dropped, "usage records": gateway.usage.dropped, "thinking": gateway.vault.dropped},
    )
