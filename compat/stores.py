"""The collaborators that keep state: thinking, limits, answers, usage, and what gateways share of circuits, calls in flight and
metrics. In memory and in files, or in the Redis that workers share.

A Redis that is gone never stops a call: each of them says so once, goes on without, and comes back by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gevent

from compat.accounting.keys import ClientKeys
from compat.accounting.limits import Limits
from compat.accounting.shared_counts import shared_counts_url
from compat.accounting.usage_store import NoUsage, Usage, UsageStore
from compat.clock import Clock
from compat.cluster.circuits import CircuitBoard
from compat.cluster.flights import SharedFlights
from compat.cluster.metrics import SharedMetrics
from compat.cluster.peers import Commons, NoCommons, RedisCommons
from compat.cluster.usage import SharedUsage
from compat.config.settings import Settings, SettingsError
from compat.endpoints.limiter import MEMORY, LazyLimiter
from compat.reuse.answer_cache import AnswerCache, MemoryShelf, RedisShelf
from compat.reuse.single_flight import Flights, SingleFlight
from compat.routing.circuit import Circuits
from compat.routing.token_scale import TokenScales
from compat.storage.background import NativeThread, StoreFailed
from compat.storage.redis_link import KEY_PREFIX, LIMITER_ERRORS, Link, redis_client, redis_errors
from compat.storage.secret_file import secrets_in, shared_secrets
from compat.stored.base import ResponseStore
from compat.stored.redis import RedisResponses
from compat.stored.sqlite import SqliteResponses
from compat.telemetry.calllog import CallLog
from compat.telemetry.metrics import Metrics
from compat.vault.buffered import ThinkingVault
from compat.vault.memory import MemoryVault
from compat.vault.redis import RedisVault
from compat.vault.sqlite import SqliteVault

SCALES = "token_scales.json"


class Stores:
    """Makes them, all over the same storage. `SettingsError` for an invalid URL.

    Without Redis, `counts_file` is where the workers of this machine count together; `None`: the process counts alone.
    """

    def __init__(self, settings: Settings, base_dir: Path, clock: Clock, log: CallLog, counts_file: Path | None) -> None:
        self._counts_file = counts_file
        self._settings = settings
        self._base_dir = base_dir
        self._clock = clock
        self._log = log
        self._url = settings.storage.redis_url
        try:
            self._redis = redis_client(self._url) if self._url else None
        except ValueError as error:
            raise SettingsError(f"key 'storage.redis_url': {error}") from error
        self._gateway_id = clock.new_id()
        self._link = self._link_of("commons")  # one for all that gateways exchange

    def vault(self) -> ThinkingVault:
        """Where thinking is kept; in memory with no room where it is switched off."""
        settings, clock = self._settings.vault, self._clock
        ttl_s = float(settings.ttl_days * 86_400)
        max_bytes = settings.max_mb * 2**20 if settings.enabled else 0
        if settings.enabled and self._redis is not None:
            return RedisVault(self._redis, ttl_s=ttl_s, clock=clock.now, errors=redis_errors(), on_event=self._log.event)
        if not settings.enabled or not settings.path:
            return MemoryVault(max_bytes=max_bytes, ttl_s=ttl_s, clock=clock.now)
        path = self._base_dir / Path(settings.path).expanduser()
        return SqliteVault(path, max_bytes=max_bytes, ttl_s=ttl_s, clock=clock.now, on_event=self._log.event)

    def responses(self) -> ResponseStore:
        """Where answers of the Responses API are stored."""
        settings, clock = self._settings.responses, self._clock
        ttl_s = float(settings.ttl_days * 86_400)
        if not settings.store:
            return ResponseStore(self._link_of("responses"))
        if self._redis is not None:
            return ResponseStore(self._link_of("responses"), RedisResponses(self._redis, ttl_s=ttl_s))
        path = self._base_dir / Path(settings.path).expanduser()
        link = Link("responses", clock.monotonic, self._log.event, (StoreFailed,), path.name)
        return ResponseStore(link, SqliteResponses(path, clock.now, max_bytes=settings.max_mb * 2**20, ttl_s=ttl_s))

    def secrets(self) -> Sequence[bytes]:
        """What the gateway signs with, each purpose by a key derived for it; the newest first. None at all is reported."""
        settings = self._settings.sealing
        if settings.secrets:
            return [secret.encode() for secret in settings.secrets]
        if self._redis is not None:
            found = self._link_of("sealing").ask(lambda: shared_secrets(self._redis, f"{KEY_PREFIX}:sealing"))
            if found is not None:
                return found
        try:
            return secrets_in(self._base_dir / Path(settings.path).expanduser())
        except (OSError, ValueError) as error:
            self._log.event("sealing.failed", {"reason": f"thoughts of other models can't be given back to them: {error}"})
            return []

    def usage(self) -> Usage:
        """Usage and cost of calls, for budgets and reports."""
        settings = self._settings.usage
        if not (settings.enabled and settings.path):
            return NoUsage()
        return UsageStore(settings, self._base_dir, NativeThread(), clock=self._clock.now, on_event=self._log.event)

    def scales(self) -> TokenScales:
        """What estimates of prompts are multiplied by, kept beside the usage that teaches it."""
        settings = self._settings.usage
        is_kept = settings.enabled and settings.path
        return TokenScales(path=(self._base_dir / Path(settings.path).expanduser()).with_name(SCALES) if is_kept else None)

    def limits(self, usage: Usage, keys: ClientKeys, before: Limits | None) -> Limits:
        """What clients and models may use; counted where `before` has counted."""
        server = "Redis" if self._url or self._counts_file is None else self._counts_file.name
        link = Link("limits", self._clock.monotonic, self._log.event, LIMITER_ERRORS, server)
        limiter = LazyLimiter(self._url or (shared_counts_url(self._counts_file) if self._counts_file is not None else MEMORY))
        limits = Limits(
            self._settings.limits,
            limiter,
            self._clock,
            link,
            terms_of=keys.terms_of,
            spent=usage.spent,
            later=gevent.spawn,
            groups=self._settings.groups,
            members_of=keys.members_of,
        )
        if before is not None:
            limits.carry_on(before)
        return limits

    def answers(self) -> AnswerCache:
        """Whole answers that may be given again."""
        settings, clock = self._settings.cache, self._clock
        if self._redis is None:
            return AnswerCache(settings, MemoryShelf(settings, clock.monotonic))
        return AnswerCache(settings, RedisShelf(settings, self._redis, self._link_of("cache"), gevent.spawn))

    def flights(self) -> Flights:
        """Where identical calls meet."""
        local: SingleFlight = SingleFlight(self._settings.single_flight)
        return local if self._redis is None else SharedFlights(local, self._redis, self._link, self._clock.new_id)

    def board(self) -> CircuitBoard | None:
        """Where circuits are published; none without a Redis."""
        return None if self._redis is None else CircuitBoard(self._redis, self._link, self._clock.now, self._gateway_id)

    def commons(self, board: CircuitBoard | None, circuits: Circuits, metrics: Metrics, usage: Usage) -> Commons:
        """What keeps up with other gateways."""
        if board is None:
            return NoCommons()
        shared = SharedMetrics(metrics, self._redis, self._link, self._gateway_id)
        calls = SharedUsage(usage, self._redis, self._link, self._clock.new_id)
        return RedisCommons(self._link, board, circuits, shared, calls)

    def _link_of(self, name: str) -> Link:
        return Link(name, self._clock.monotonic, self._log.event, redis_errors() if self._redis is not None else ())
