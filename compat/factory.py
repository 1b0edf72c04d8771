"""Puts the gateway together: collaborators from settings, the Flask application over them. Nothing is made anywhere else.

build_gateway(settings, ...) -> Gateway      also from one that runs with other settings
create_app(gateway)          -> a WSGI application
start_background(gateway), change_background(before, after), stop_background(gateway)
"""

from __future__ import annotations

import functools
import operator
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import flask
import gevent
import werkzeug.routing

from compat.accounting.key_store import KeyStore, keys_path
from compat.accounting.keys import ClientKeys
from compat.accounting.limits import check_terms
from compat.calls.gateway import Gateway
from compat.clock import Clock, SystemClock
from compat.cluster.circuits import CircuitBoard
from compat.config.catalog import Catalog, Model, load_catalog
from compat.config.sections import EmbeddedSettings
from compat.config.settings import Settings
from compat.console.blueprint import console_blueprint
from compat.endpoints.boundary import attach_boundary, fault_of
from compat.endpoints.compact import compact_blueprint
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
from compat.endpoints.quiet import quiet_blueprint
from compat.endpoints.responses_socket import PATH, SocketDoor
from compat.endpoints.stored import stored_blueprint, storing_doors
from compat.engine.base import Engine
from compat.engine.ladder import calls_tools, engine_of, name_of, settled
from compat.protocols import protocol_at
from compat.protocols.sealed import Sealer
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
from compat.telemetry.feed import LOOK_S, Feed
from compat.telemetry.metrics import Metrics
from compat.telemetry.traces import traces_from
from compat.upstream.client import Transport, Upstream, UpstreamClient
from compat.upstream.models_list import list_models
from compat.upstream.search import SearchEndpoint

FEED = "data/live.log"
_SAMPLE_S = 5.0
_DRAIN_LOOK_S = 0.2
_LAST_WORDS_S = 1.0

T = TypeVar("T")


def build_gateway(
    settings: Settings,
    environment: Mapping[str, str],
    base_dir: Path,
    *,
    clock: Clock | None = None,
    transport: Transport | None = None,
    make_engine: Callable[[EmbeddedSettings, CallLog], Engine] = lambda embedded, log: engine_of(embedded, log.event),
    counts_file: Path | None = None,
    before: Gateway | None = None,
) -> Gateway:
    """All collaborators of the gateway; nothing is started yet. `base_dir` is where relative paths of the settings begin.

    `counts_file`: see `Stores`. `before` is a gateway that runs with other settings: a collaborator whose own settings are the same is
    taken over, with all its state.
    Raises `SettingsError`, and `msgspec.ValidationError` for facts of a model that don't fit.
    """
    old = _Heritage(before, settings)
    clock = old.take("clock", lambda: clock or SystemClock())
    feed = old.take("feed", lambda: Feed(base_dir / FEED, clock.now, clock.new_id))
    log = old.take("log", lambda: CallLog(settings.log, base_dir, clock.now, feed=feed))
    catalog = load_catalog({name: row.facts for name, row in settings.models.items() if row.facts})
    upstreams = configured_upstreams(settings, environment)
    embedded = settled(settings.embedded, environment)
    router = Router(catalog, upstreams, settings.models, _embedded_deployment(settings, embedded, catalog))
    discovery = Discovery(settings.discovery, router, local_candidates(settings, environment, upstreams), list_models, log.event)
    doctor = Doctor(catalog, router, clock.now, log.write)
    stores = Stores(settings, base_dir, clock, log, counts_file)
    usage, board, metrics = old.take("usage", stores.usage), stores.board(), old.take("metrics", Metrics)
    policies = _policies(settings, clock, log, board, old)
    key_store = old.take("keys.store", lambda: KeyStore(keys_path(base_dir, environment), clock.monotonic, log.event, check_terms))
    keys = old.take("keys", lambda: ClientKeys(settings.keys, key_store, clock.now, settings.groups), "keys", "groups")
    traces = old.take("traces", lambda: traces_from(environment, clock.now, log.event, router.kind_of))
    make = functools.partial(make_engine, embedded, log) if embedded.enabled else lambda: None
    is_unneeded = before is not None and bool(upstreams) and not before.discovery.configured  # the one that runs ends, and frees its memory
    if before is not None:
        discovery.carry_on(before.discovery)
        doctor.carry_on(before.doctor)
    return Gateway(
        settings=settings,
        catalog=catalog,
        router=router,
        discovery=discovery,
        doctor=doctor,
        transport=old.take("transport", lambda: transport or UpstreamClient()),
        engine=make() if is_unneeded else old.take("engine", make, "embedded"),
        log=log,
        feed=feed,
        keys=keys,
        vault=old.take("vault", stores.vault),
        responses=old.take("responses", stores.responses),
        secrets=(secrets := old.take("secrets", lambda: functools.cache(stores.secrets), "sealing")),
        sealer=old.take("sealer", lambda: functools.cache(lambda: Sealer(found) if (found := secrets()) else None), "sealing"),
        search=SearchEndpoint(settings.search) if settings.search.url else None,
        usage=usage,
        limits=old.take(
            "limits", lambda: stores.limits(usage, keys, before.limits if before is not None else None), "limits", "keys", "groups"
        ),
        answers=old.take("answers", stores.answers, "cache"),
        metrics=metrics,
        policies=policies,
        commons=old.take("commons", lambda: stores.commons(board, policies.circuits, metrics, usage), "circuit"),
        flights=old.take("flights", stores.flights, "single_flight"),
        gathering=old.take("gathering", lambda: Gathering(settings.server.gather_ms / 1000), "server"),
        clock=clock,
        started_s=old.take("started_s", clock.monotonic),
        traces=traces,
        scales=old.take("scales", stores.scales),
        **old.all_of("refusals", "cache_watch", "gauges", "following", "offload"),
    )


@dataclass(frozen=True, slots=True)
class _Heritage:
    """What a gateway with `settings` takes over from the one before it, if there is one."""

    before: Gateway | None
    settings: Settings

    def take(self, name: str, make: Callable[[], T], *sections: str) -> T:
        """The collaborator of that name, where there is one and the sections it is made of have not changed; else what `make` makes."""
        if self.before is None or any(getattr(self.before.settings, one) != getattr(self.settings, one) for one in sections):
            return make()
        return cast("T", operator.attrgetter(name)(self.before))

    def all_of(self, *names: str) -> dict[str, Any]:
        """The collaborators of those names; none where there is no gateway before."""
        return {name: getattr(self.before, name) for name in names} if self.before is not None else {}


class LazyRule(werkzeug.routing.Rule):
    """The rule of a URL, which compiles what builds that URL when it is first wanted.

    Compiling is most of the time that making an application takes, other calls wait for it when the configuration changes, and next to no
    URL is ever built.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compiled = functools.cache(functools.partial(super()._compile_builder, append_unknown))

        def build(rule: LazyRule, **values: object) -> tuple[str, str]:
            return compiled()(rule, **values)

        return build


class _Application(flask.Flask):
    url_rule_class = LazyRule


def create_app(gateway: Gateway) -> Front:
    """The WSGI application over `gateway`."""
    app = _Application("compat")
    app.url_map.merge_slashes = False
    attach_boundary(app, gateway)
    attach_compression(app)
    doors = {**doors_of(gateway), **storing_doors(gateway)}
    app.register_blueprint(doors_blueprint(doors))
    sockets = {PATH: SocketDoor(gateway, protocol_at(PATH))}
    app.wsgi_app = HotPath(app, doors, sockets, functools.partial(fault_of, gateway))  # type: ignore[method-assign]  # as Flask's documentation has it
    for make_blueprint in (
        embeddings_blueprint,
        compact_blueprint,
        count_tokens_blueprint,
        models_blueprint,
        model_info_blueprint,
        health_blueprint,
        metrics_blueprint,
        openapi_blueprint,
        quiet_blueprint,
        stored_blueprint,
    ):
        app.register_blueprint(make_blueprint(gateway))
    app.register_blueprint(console_blueprint(gateway, doors))
    return Front(app, gateway.settings.server, gateway.clock.new_id, lambda: gateway.keys.are_required, gateway.settings.command)


def _policies(settings: Settings, clock: Clock, log: CallLog, board: CircuitBoard | None, old: _Heritage) -> Policies:
    """What calls share: circuits, retries, affinity, admission. `board` is where other gateways learn of circuits."""

    def on_change(change: CircuitChange) -> None:
        fields = {"circuit": str(change.key), "state": change.state, "failures": change.failures, "cause": change.cause}
        log.event(f"circuit.{change.state}", fields)
        if board is not None:
            board.note(change)

    return Policies(
        old.take("policies.circuits", lambda: Circuits(settings.circuit, clock, on_change), "circuit"),
        old.take("policies.retries", lambda: Retries(settings.retry, clock.monotonic, random.random), "retry"),
        old.take("policies.affinity", lambda: Affinity(settings.affinity, clock.monotonic), "affinity"),
        old.take("policies.gates", lambda: Gates(settings.concurrency, clock.monotonic), "concurrency"),
        old.take("policies.pacing", lambda: Pacing(settings.pacing, clock), "pacing"),
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
    gateway.commons.start()
    _begin_routing(gateway)


def change_background(before: Gateway, after: Gateway) -> None:
    """Start what `after` has not taken over from `before`, and end what has no use any more: an embedded model after its last answer."""
    changed = {name for name, one in after.discovery.configured.items() if before.discovery.configured.get(name) != one}
    gone = set(before.discovery.configured) - set(after.discovery.configured)
    after.policies.circuits.forget(changed | gone)
    after.refusals.forget(changed | gone)
    after.traces.carry_on(after.router.kind_of)
    before.doctor.stop()
    before.discovery.stop()
    if after.commons is not before.commons:
        before.commons.stop()
        after.commons.start()
    _begin_routing(after)
    if before.engine is not None and before.engine is not after.engine:
        gevent.spawn(_end_engine, before.engine, before)


def _begin_routing(gateway: Gateway) -> None:
    if gateway.settings.discovery.enabled:
        gateway.discovery.refresh_local()
    gateway.discovery.start()
    gateway.doctor.examine()
    gateway.doctor.start()
    if gateway.engine is not None and not gateway.router.upstreams:
        gateway.engine.start()


def _end_engine(engine: Engine, gateway: Gateway) -> None:
    """Stop an engine when every call that may use it is over: the calls of now, for at most as long as the server's end may take."""
    serving = set(gateway.gauges.serving)
    deadline_s = gateway.clock.monotonic() + gateway.settings.server.drain_s
    while serving and gateway.clock.monotonic() < deadline_s:
        gevent.sleep(_DRAIN_LOOK_S)
        serving &= gateway.gauges.serving
    engine.stop()


def look_for_pages(current: Callable[[], Gateway]) -> None:
    """See every second, as long as the process lives, whether anybody watches calls as they happen: at any worker."""
    while True:
        current().feed.look()
        gevent.sleep(LOOK_S)


def sample_metrics(current: Callable[[], Gateway]) -> None:
    """Take note, every few seconds and as long as the process lives, of what goes on in it: another worker may be asked for the metrics."""
    while True:
        gateway = current()
        gateway.metrics.sample(readings_of(gateway))
        gateway.metrics.tell(gateway.log.event)
        gateway.scales.save()
        gevent.sleep(_SAMPLE_S)


def _end_background(gateway: Gateway) -> None:
    """Let answers that no client waits for, and that end with the gateway, say so to their store."""
    deadline_s = gateway.clock.monotonic() + _LAST_WORDS_S
    while gateway.gauges.background and gateway.clock.monotonic() < deadline_s:
        gevent.sleep(_DRAIN_LOOK_S / 4)


def stop_background(gateway: Gateway) -> None:
    """End everything that `start_background` began, the log last."""
    gateway.doctor.stop()
    gateway.discovery.stop()
    gateway.commons.stop()
    if gateway.engine is not None:
        gateway.engine.stop()
    gateway.scales.save()
    _end_background(gateway)
    gateway.vault.close()
    gateway.responses.close()
    gateway.usage.close()
    gateway.traces.close()
    gateway.feed.close()
    gateway.log.close()
