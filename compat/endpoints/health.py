"""`GET /healthz`: whether the gateway works and where calls go; cheap, no tokens, no secrets. `GET /readyz`: whether to send calls here.

Where there are client keys, a request without one gets the status alone: names and addresses of upstreams are not public.

What is not healthy is looked at; what is not ready gets no calls. So `/readyz` is not about upstreams, which the gateways behind a load
balancer have in common: to take all of them out would only keep their clients from the reason.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import flask

from compat import __version__, jsonio
from compat.calls.gateway import Gateway
from compat.endpoints.answers import json_body
from compat.errors import GatewayError
from compat.routing.router import Deployment

FLEET = "compat.fleet"
"""Where the server of a worker puts the object that knows of all workers (`compat/service/fleet.py`)."""


def health_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> flask.Response:
        environ = flask.request.environ
        report, fleet = health_report(gateway), environ.get(FLEET)
        if fleet is not None:  # one worker among several: the figures above are its own
            report |= {"pid": os.getpid(), "generations": fleet.report()}
        if not is_admitted(gateway, environ) and not (fleet is not None and fleet.admits(environ.get("HTTP_AUTHORIZATION", ""))):
            report = {"status": report["status"]}
        return json_body(jsonio.encode(report), headers=[("cache-control", "no-store")]).response()

    @blueprint.get("/readyz")
    def readyz() -> flask.Response:
        reason = why_not_ready(gateway)
        body = {"status": "not ready" if reason else "ready"}
        if reason and is_admitted(gateway, flask.request.environ):  # it may name the model and where its file is
            body["reason"] = reason
        return json_body(jsonio.encode(body), 503 if reason else 200, headers=[("cache-control", "no-store")]).response()

    return blueprint


def is_admitted(gateway: Gateway, environ: Mapping[str, Any]) -> bool:
    """Whether whoever sent a request may see the names of models and upstreams."""
    return gateway.keys.admits(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))


def why_not_ready(gateway: Gateway) -> str:
    """Why no calls should be sent here just now; empty when they should."""
    if gateway.gauges.is_draining:
        return "the gateway is shutting down"
    if gateway.router.upstreams:
        return ""
    if gateway.engine is None:
        return "no upstream is configured, and the embedded model is switched off"
    status = gateway.engine.status()
    return "" if status.state == "ready" else f"the embedded model is not ready: {status.detail}"


def causes(gateway: Gateway) -> list[str]:
    """What does not work of that which was configured, and why, a sentence without a full stop each: upstreams, circuits, our own parts.

    With names of upstreams in it: not for requests without a key.
    """
    router, engine = gateway.router, gateway.engine
    states = gateway.discovery.states
    found = [f"{name}: {states[name].detail}" for name in router.upstreams if name in states and states[name].state == "failing"]
    for row in gateway.policies.circuits.report():
        if row["state"] == "open":
            found.append(f"the circuit of {row['upstream']} for {row['model']} is open: {str(row['cause']).rstrip('.')}")
    if not router.upstreams:
        if engine is None:
            found.append("no model can answer: no upstream is configured, and the embedded model is switched off")
        elif (status := engine.status()).state == "failed":
            found.append(f"no model can answer: no upstream is configured, and the embedded model can't: {status.detail}")
    return found + [f"{name}: {part.fault}" for name, part in _parts(gateway).items() if part.fault]


def configuration_report(gateway: Gateway) -> dict[str, Any]:
    """The file that counts, when a change of it took effect last, why it does not, and the keys that wait for the next start."""
    settings, following = gateway.settings, gateway.following
    since_s = None if following.changed_s is None else round(max(gateway.clock.now() - following.changed_s, 0.0), 1)
    return {
        "source": settings.source,
        "changes": following.changes,
        "changed_s_ago": since_s,
        "fault": following.fault,
        "postponed": list(settings.postponed),
    }


def _parts(gateway: Gateway) -> dict[str, Any]:
    """Our own parts that may fail while calls go on."""
    return {
        "configuration": gateway.following,
        "log": gateway.log,
        "vault": gateway.vault,
        "responses": gateway.responses,
        "limits": gateway.limits,
        "answers": gateway.answers.shelf,
        "usage": gateway.usage,
        "metrics": gateway.metrics,
        "traces": gateway.traces,
        "commons": gateway.commons,
    }


def health_report(gateway: Gateway) -> dict[str, Any]:
    """Status, version, uptime, upstreams and their state, calls in flight, where the aliases go.

    `status` is `ok`; `degraded` when something does not work that was configured, or no model can answer (`causes` says what, and why);
    `draining` while the gateway shuts down.
    """
    states = gateway.discovery.states
    upstreams = [
        {
            "name": upstream.name,
            "kind": upstream.kind.name,
            "wire_api": ", ".join(upstream.kind.apis),
            "base_url": upstream.base_url,
            "keys": len(upstream.keys),
            "state": states[upstream.name].state if upstream.name in states else "unknown",
            "detail": states[upstream.name].detail if upstream.name in states else "",
        }
        for upstream in gateway.router.upstreams.values()
    ]
    shelf, usage = gateway.answers.shelf, gateway.usage
    found = causes(gateway)
    report: dict[str, Any] = {
        "status": "draining" if gateway.gauges.is_draining else "degraded" if found else "ok",
        "causes": found,
        "version": __version__,
        "uptime_s": round(gateway.clock.monotonic() - gateway.started_s, 1),
        "in_flight": gateway.gauges.in_flight,
        "calls": gateway.gauges.calls,
        "configuration": configuration_report(gateway),
        "upstreams": upstreams,
        "routes": {name: route_text(gateway, name) for name in gateway.catalog.aliases},
        "models": gateway.doctor.report(),
        "embedded": embedded_report(gateway),
        "circuits": gateway.policies.circuits.report(),
        "concurrency": gateway.policies.gates.report(),
        "retries": gateway.policies.retries.budget.report(),
        "vault": {"entries": gateway.vault.entries, "bytes": gateway.vault.size_bytes, "fault": gateway.vault.fault},
        "responses": {"stored": gateway.responses.is_on, "fault": gateway.responses.fault},
        "limits": {"fault": gateway.limits.fault},
        "answers": {"entries": shelf.entries, "bytes": shelf.size_bytes, "fault": shelf.fault},
        "usage": {"dropped": usage.dropped, "fault": usage.fault},
        "metrics": {"fault": gateway.metrics.fault},
        "traces": {"state": gateway.traces.state, "fault": gateway.traces.fault},
        "commons": {"fault": gateway.commons.fault},
        "log": {"dropped": gateway.log.dropped, "fault": gateway.log.fault},
    }
    return report


def named_routes(gateway: Gateway) -> dict[str, str]:
    """Every name of the configuration and every alias, and where it goes (`route_text`)."""
    return {name: route_text(gateway, name) for name in (*gateway.settings.models, *gateway.catalog.aliases)}


def route_text(gateway: Gateway, name: str) -> str:
    """Where a name goes, in words: `upstream/model, then upstream/model`, or why it goes nowhere."""
    try:
        route = gateway.router.resolve(name)
    except GatewayError as error:
        return error.message
    return ", then ".join(_deployment_text(gateway, deployment) for deployment in route.deployments)


def _deployment_text(gateway: Gateway, deployment: Deployment) -> str:
    """Its name; that of the embedded model has the one in it that answers just now."""
    if gateway.engine is None or not deployment.is_embedded:
        return deployment.name
    return f"{deployment.upstream.name}/{gateway.engine.status().model}"


def embedded_report(gateway: Gateway) -> dict[str, Any]:
    """The state of the embedded model; it is a demonstration and a fallback, and says so."""
    if gateway.engine is None:
        return {"state": "disabled"}
    status = gateway.engine.status()
    better = {"model": status.better, "detail": status.better_detail} if status.better or status.better_detail else None
    return {
        "state": status.state,
        "detail": status.detail,
        "model": status.model,
        "better": better,
        "role": "demonstration and fallback",
    }
