"""The gateway: every collaborator of a call, made once in the factory, handed down as one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gevent

from compat.accounting.keys import ClientKeys
from compat.accounting.limits import Limits
from compat.accounting.usage_store import Usage
from compat.clock import Clock
from compat.cluster.peers import Commons, NoCommons
from compat.config.catalog import Catalog
from compat.config.sections import SingleFlightSettings
from compat.config.settings import Settings
from compat.engine.base import Engine
from compat.protocols.events import Result
from compat.protocols.sealed import Sealer
from compat.reuse.answer_cache import AnswerCache
from compat.reuse.single_flight import Flights, SingleFlight
from compat.routing.discovery import Discovery
from compat.routing.doctor import Doctor
from compat.routing.learned_refusals import LearntRefusals
from compat.routing.plan import Policies
from compat.routing.prompt_cache import PromptCacheWatch
from compat.routing.router import Router
from compat.routing.token_scale import TokenScales
from compat.stored.base import ResponseStore
from compat.streaming.coalesce import Gathering
from compat.streaming.offload import Offload
from compat.telemetry.calllog import CallLog
from compat.telemetry.feed import Feed
from compat.telemetry.metrics import Metrics
from compat.telemetry.traces import NoTraces, Traces
from compat.upstream.client import Transport
from compat.vault.buffered import ThinkingVault


@dataclass(slots=True)
class Gauges:
    """What is going on just now. Mutable: every field. `serving` are the greenlets that serve calls, `background` is how many
    of these calls no client waits for."""

    in_flight: int = 0
    calls: int = 0
    background: int = 0
    is_draining: bool = False
    serving: set[Any] = field(default_factory=set)

    def enter(self) -> None:
        """A call begins, in the running greenlet."""
        self.in_flight += 1
        self.calls += 1
        self.serving.add(gevent.getcurrent())

    def leave(self) -> None:
        """A call is over."""
        self.in_flight -= 1
        self.serving.discard(gevent.getcurrent())


@dataclass(slots=True)
class Following:
    """How the gateway follows its configuration's files. Mutable: every field.

    `fault` is why the files as they are now don't count, empty when they do; `changes` is how often they took effect since the start, the
    last time at `changed_s` (seconds since 1970).
    """

    fault: str = ""
    changes: int = 0
    changed_s: float | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """All collaborators. `engine` is `None` where the embedded model is switched off; `secrets` are what the gateway signs with, the newest
    first, asked for once, `sealer` makes what signs thoughts; `search` asks the search endpoint, where one is configured. Its errors: any
    `GatewayError`."""

    settings: Settings
    catalog: Catalog
    router: Router
    discovery: Discovery
    doctor: Doctor
    transport: Transport
    engine: Engine | None
    log: CallLog
    feed: Feed
    keys: ClientKeys
    vault: ThinkingVault
    responses: ResponseStore
    usage: Usage
    limits: Limits
    answers: AnswerCache
    metrics: Metrics
    policies: Policies
    clock: Clock
    started_s: float
    commons: Commons = field(default_factory=NoCommons)
    flights: Flights = field(default_factory=lambda: SingleFlight(SingleFlightSettings()))
    scales: TokenScales = field(default_factory=TokenScales)
    refusals: LearntRefusals = field(default_factory=LearntRefusals)
    cache_watch: PromptCacheWatch = field(default_factory=PromptCacheWatch)
    gauges: Gauges = field(default_factory=Gauges)
    following: Following = field(default_factory=Following)
    gathering: Gathering = field(default_factory=lambda: Gathering(0.0))
    traces: Traces = field(default_factory=NoTraces)
    offload: Offload = field(default_factory=Offload)
    secrets: Callable[[], Sequence[bytes]] = tuple
    sealer: Callable[[], Sealer | None] = lambda: None
    search: Callable[[str], Sequence[Result]] | None = None
