"""Puts the gateway together: collaborators from settings, the Flask application over them. Nothing is made anywhere else.

build_gateway(settings, ...) -> Gateway
create_app(gateway)          -> a WSGI application
start_background(gateway), stop_background(gateway)
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from pathlib import Path

import flask
import gevent

from compat.accounting.key_store import KeyStore, keys_path
from compat.accounting.keys import ClientKeys
from compat.accounting.limits import check_terms
from compat.calls.gateway import Gateway
from compat.clock import Clock, SystemClock
from compat.cluster.circuits import CircuitBoard
from compat.config.catalog import Catalog, Model, load_catalog
from compat.config.sections import EmbeddedSettings
from compat.config.settings import Settings
from compat.endpoints.boundary import attach_boundary, fault_of
from compat.endpoints.compression import attach_compression
from compat.endpoints.count_tokens import count_tokens_blueprint
from compat.endpoints.doors import doors_blueprint, doors_of
from compat.endpoints.embeddings import embeddings_blueprint
from compat.endpoints.front import Front
from compat.endpoints.health import health_blueprint
from compat.endpoints.hot_path import HotPath
from compat.endpoints.metrics import metrics_blueprint, readings_of
from compat.endpoints.model_info import model_info_blueprint
from compat.endpoints.models import models_blueprint
from compat.endpoints.openapi import openapi_blueprint
from compat.endpoints.pages import pages_blueprint
from compat.endpoints.quiet import quiet_blueprint
from compat.endpoints.responses_socket import responses_socket_blueprint
from compat.endpoints.setup import setup_blueprint
from compat.engine.ladder import calls_tools, engine_of, name_of, settled
from compat.routing.admission import Gates
from compat.routing.affinity import Affinity
from compat.routing.circuit import CircuitChange, Circuits
from compat.routing.discovery import Discovery
from compat.routing.doctor import Doctor
from compat.routing.pacing import Pacing
from compat.routing.plan import Policies
from compat.routing.retry import Retries
from compat.routing.router import Deployment, Router
from compat.routing.upstreams import EMBEDDED_KIND, configured_upstreams, local_candidates
from compat.stores import Stores
from compat.streaming.coalesce import Gathering
from compat.telemetry.calllog import CallLog
from compat.telemetry.metrics import Metrics
from compat.telemetry.traces import traces_from
from compat.upstream.client import Transport, Upstream, UpstreamClient
from compat.upstream.models_list import list_models

_SAMPLE_S = 5.0


def build_gateway(
    settings: Settings,
    environment: Mapping[str, str],
    base_dir: Path,
    *,
    clock: Clock | None = None,
    transport: Transport | None = None,
) -> Gateway:
    """All collaborators of the gateway; nothing is started yet. `base_dir` is where relative paths of the settings begin.

    Raises `SettingsError`, and `msgspec.ValidationError` for facts of a model that don't fit.
    """
    clock = clock or SystemClock()
    log = CallLog(settings.log, base_dir, clock.now)
    catalog = load_catalog({name: row.facts for name, row in settings.models.items() if row.facts})
    upstreams = configured_upstreams(settings, environment)
    embedded = settled(settings.embedded, environment)
    engine = engine_of(embedded, log.event) if embedded.enabled else None
    router = Router(catalog, upstreams, settings.models, _embedded_deployment(settings, embedded, catalog))
    local = local_candidates(settings, environment, upstreams)
    discovery = Discovery(settings.discovery, router, local, list_models, log.event)
    client = transport or UpstreamClient()
    stores = Stores(settings, base_dir, clock, log)
    usage, board, metrics = stores.usage(), stores.board(), Metrics()
    policies = _policies(settings, clock, log, board)
    keys = ClientKeys(settings.keys, KeyStore(keys_path(base_dir, environment), clock.monotonic, log.event, check_terms), clock.now)
    return Gateway(
        settings=settings,
        catalog=catalog,
        router=router,
        discovery=discovery,
        doctor=Doctor(catalog, router, clock.now, log.write),
        transport=client,
        engine=engine,
        log=log,
        keys=keys,
        vault=stores.vault(),
        sealer=functools.cache(stores.sealer),
        usage=usage,
        limits=stores.limits(usage, keys),
        answers=stores.answers(),
        metrics=metrics,
        policies=policies,
        commons=stores.commons(board, policies.circuits, metrics),
        flights=stores.flights(),
        gathering=Gathering(settings.server.gather_ms / 1000),
        clock=clock,
        started_s=clock.monotonic(),
        traces=traces_from(environment, clock.now, log.event, router.kind_of),
    )


def create_app(gateway: Gateway) -> Front:
    """The WSGI application over `gateway`."""
    app = flask.Flask("compat")
    app.url_map.merge_slashes = False
    attach_boundary(app, gateway)
    attach_compression(app)
    doors = doors_of(gateway)
    app.register_blueprint(doors_blueprint(doors))
    app.wsgi_app = HotPath(app, doors, functools.partial(fault_of, gateway))  # type: ignore[method-assign]  # as Flask's documentation has it
    for make_blueprint in (
        embeddings_blueprint,
        count_tokens_blueprint,
        models_blueprint,
        model_info_blueprint,
        health_blueprint,
        metrics_blueprint,
        openapi_blueprint,
        pages_blueprint,
        quiet_blueprint,
        responses_socket_blueprint,
        setup_blueprint,
    ):
        app.register_blueprint(make_blueprint(gateway))
    return Front(app, gateway.settings.server, gateway.clock.new_id, lambda: gateway.keys.are_required)


def _policies(settings: Settings, clock: Clock, log: CallLog, board: CircuitBoard | None) -> Policies:
    """What calls share: circuits, retries, affinity, admission. `board` is where other gateways learn of circuits."""

    def on_change(change: CircuitChange) -> None:
        fields = {"circuit": str(change.key), "state": change.state, "failures": change.failures, "cause": change.cause}
        log.event(f"circuit.{change.state}", fields)
        if board is not None:
            board.note(change)

    return Policies(
        Circuits(settings.circuit, clock, on_change),
        Retries(settings.retry, clock.monotonic, random.random),
        Affinity(settings.affinity, clock.monotonic),
        Gates(settings.concurrency, clock.monotonic),
        Pacing(settings.pacing, clock),
    )


def _embedded_deployment(settings: Settings, embedded: EmbeddedSettings, catalog: Catalog) -> Deployment | None:
    """The embedded model as a deployment; its name is the preset's, or that of its file."""
    if not embedded.enabled:
        return None
    name = name_of(embedded)
    known = catalog.models.get(name)
    model = known or Model(
        id=name,
        display_name=f"{name} (embedded)",
        owned_by="embedded",
        context=embedded.context_tokens,
        tools=calls_tools(embedded),
    )
    return Deployment(Upstream("embedded", EMBEDDED_KIND, EMBEDDED_KIND.base_url, timeouts=settings.timeouts), name, model)


def start_background(gateway: Gateway) -> None:
    """Start the log, the stores, discovery, and, where no upstream is available, the embedded model."""
    gateway.log.start()
    gateway.vault.start()
    gateway.usage.start()
    gateway.traces.start()
    gevent.spawn(sample_metrics, gateway)
    gateway.commons.start()
    if gateway.settings.discovery.enabled:
        gateway.discovery.refresh_local()
    gateway.discovery.start()
    gateway.doctor.examine()
    gateway.doctor.start()
    if gateway.engine is not None and not gateway.router.upstreams:
        gateway.engine.start()


def sample_metrics(gateway: Gateway) -> None:
    """Take note, every few seconds and as long as the process lives, of what goes on in it: another worker may be asked for the metrics."""
    while True:
        gateway.metrics.sample(readings_of(gateway))
        gateway.metrics.tell(gateway.log.event)
        gevent.sleep(_SAMPLE_S)


def stop_background(gateway: Gateway) -> None:
    """End everything that `start_background` began, the log last."""
    gateway.doctor.stop()
    gateway.discovery.stop()
    gateway.commons.stop()
    if gateway.engine is not None:
        gateway.engine.stop()
    gateway.vault.close()
    gateway.usage.close()
    gateway.traces.close()
    gateway.log.close()
