"""`GET /metrics`: for Prometheus. Names of models and clients are in it, so it takes a client key where there are any."""

from __future__ import annotations

import collections
from collections.abc import Sized
from typing import Protocol

import flask

from compat.accounting.keys import ClientKeys
from compat.accounting.limits import Limits
from compat.accounting.usage_store import Usage
from compat.cluster.peers import Commons
from compat.reuse.answer_cache import AnswerCache
from compat.reuse.single_flight import Flights
from compat.routing.plan import Policies
from compat.telemetry.calllog import CallLog
from compat.telemetry.metrics import Metrics, Readings
from compat.upstream.client import Transport
from compat.vault.buffered import ThinkingVault


class Measured(Protocol):
    """The part of the gateway that is measured."""

    @property
    def keys(self) -> ClientKeys: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def commons(self) -> Commons: ...

    @property
    def policies(self) -> Policies: ...

    @property
    def log(self) -> CallLog: ...

    @property
    def router(self) -> Sized: ...

    @property
    def transport(self) -> Transport: ...

    @property
    def vault(self) -> ThinkingVault: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def answers(self) -> AnswerCache: ...

    @property
    def usage(self) -> Usage: ...

    @property
    def flights(self) -> Flights: ...

    @property
    def refusals(self) -> Sized: ...

    @property
    def cache_watch(self) -> Sized: ...


def metrics_blueprint(gateway: Measured) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def metrics() -> flask.Response:
        environ = flask.request.environ
        gateway.keys.client_of(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))
        gateway.metrics.sample(readings_of(gateway))
        accept = environ.get("HTTP_ACCEPT", "")
        content_type, body = gateway.commons.render(accept) or gateway.metrics.render(accept)
        return flask.Response(body, content_type=content_type, headers={"cache-control": "no-store"})

    return blueprint


def readings_of(gateway: Measured) -> Readings:
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
