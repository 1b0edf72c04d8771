"""Metrics for Prometheus, named by OpenTelemetry's conventions for generative AI where these have a name.

    metrics.began()                          # a call begins
    metrics.observe(record)                  # it is over: the record that goes to the log
    metrics.sample(readings)                 # what can't be counted call by call
    content_type, body = metrics.render(accept)

OpenTelemetry's names in Prometheus' spelling: `gen_ai.server.request.duration` in seconds is `gen_ai_server_request_duration_seconds`, the
attribute `gen_ai.request.model` the label `gen_ai_request_model`; the buckets are the conventions' own. What they don't name begins with
`openai_compat_`.

With `PROMETHEUS_MULTIPROC_DIR` in the environment when the process starts, each worker counts in files of its own there, and whichever is
asked adds them all up. Labels come from names that users and upstreams choose, so their number is bounded: beyond it, calls count as
`other`. A prompt, an answer or a key is never part of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from compat.storage.background import OnEvent, new_lock
from compat.telemetry.fields import USUAL_ENDPOINT
from compat.telemetry.metrics_files import use_solid_files

MAX_ROUTES = 200
MAX_CLIENTS = 200
MAX_OUTCOMES = 2000
OTHER = "other"
_MAX_LABEL_CHARS = 100

DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OUTPUT_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

OPERATIONS: Mapping[str, str] = {"completions": "text_completion", "infill": "text_completion"}
"""Endpoints that the conventions call otherwise."""

_ROUTE = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
_LIMIT_CODES = frozenset({"rate_limit_exceeded", "budget_spent"})

K = TypeVar("K", bound=tuple[str, ...])
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Readings:
    """What is going on just now, in this process.

    `gates` has by upstream its `limit` of calls at once, those `in_flight` and those `waiting`; `stores` the entries and bytes of what is
    kept, by store; `circuits` counts circuits that are not closed, by upstream and state; `dropped` what was lost since the start;
    `counts` has the entries of queues, and of what takes little room.
    """

    gates: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    stores: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    circuits: Mapping[tuple[str, str], int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Series:
    """The children of one route's metrics, looked up once; `duration_of` has those of the kinds of error that occurred."""

    route: tuple[str, ...]
    duration_of: dict[str, Histogram]
    first_token: Histogram
    output_token: Histogram
    tokens_in: Histogram
    tokens_out: Histogram
    cache_read: Counter
    cache_write: Counter
    retries: Counter


class _Value(values.MutexValue):
    """A count under a lock of the system: nothing waits within, and gevent's would take as long as all else that counting does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # prometheus-client has no types there
        self._lock = new_lock()


class Metrics:
    """All metrics, in a registry of their own. Mutable: the metrics, the children that are known, what was read last, what was reported.

    `fault`: why counting failed last time (a full disk, with several workers); calls go on. `is_shared`: counts are in files.
    """

    def __init__(self, *, is_shared: bool = values.ValueClass._multiprocess) -> None:
        self.fault = ""
        self._failure = ""
        self._is_told = False
        self._registry = CollectorRegistry()
        self._is_shared = is_shared
        self._is_made = False
        self._routes: dict[tuple[str, str, str], _Series] = {}
        self._outcomes: dict[tuple[str, str, str], Counter] = {}
        self._costs: dict[tuple[str, str], Counter] = {}
        self._read_before: set[tuple[Gauge, tuple[str, ...]]] = set()
        self._dropped: dict[str, int] = {}
        if self._is_shared:
            use_solid_files()
        else:
            values.ValueClass = _Value
        self._count(lambda: None)

    def began(self) -> None:
        """A call begins; `observe` follows."""
        self._count(lambda: self._in_flight.inc())  # noqa: PLW0108  # it may not be made yet

    def observe(self, record: Mapping[str, Any]) -> None:
        """Count a call that is over. Never raises."""
        self._count(lambda: self._observe(record))

    def sample(self, readings: Readings) -> None:
        """Record what is going on in this process. Never raises."""
        self._count(lambda: self._sample(readings))

    def tell(self, on_event: OnEvent) -> None:
        """Report `metrics.failed`, once, when a count failed since the last time, and of `metrics.recovered` when none did any more."""
        if self._failure and not self._is_told:
            on_event("metrics.failed", {"reason": self._failure})
        elif self._is_told and not self._failure:
            on_event("metrics.recovered", {})
        self._is_told, self._failure = bool(self._failure), ""

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """The content type that a client with the header `Accept: accept` understands, and the metrics in it."""
        encode, content_type = choose_encoder(accept)
        registry: Any = self._registry
        if self._is_shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus-client has no types there
        return content_type, encode(registry)

    def families(self) -> list[Metric]:
        """What this process has counted, and no other; nothing about the process itself."""
        return [family for family in self._registry.collect() if not family.name.startswith("process_")]

    def _make(self) -> None:
        """Make the metrics. Errors: `OSError`, and nothing is made: the next count makes another try."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the times at which counters were made, which nobody asks for
        self._registry = CollectorRegistry()
        if not self._is_shared:
            ProcessCollector(registry=self._registry)
        self._make_conventional()
        self._make_own()
        self._is_made = True

    def _make_conventional(self) -> None:
        self._duration = self._histogram(
            "gen_ai_server_request_duration_seconds", "Time until the end of an answer.", (*_ROUTE, "error_type"), DURATION_BUCKETS
        )
        self._first_token = self._histogram(
            "gen_ai_server_time_to_first_token_seconds", "Time until the first content of an answer.", _ROUTE, FIRST_TOKEN_BUCKETS
        )
        self._output_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds", "Time per token after the first one.", _ROUTE, OUTPUT_TOKEN_BUCKETS
        )
        self._tokens = self._histogram(
            "gen_ai_client_token_usage", "Tokens of prompts (input) and answers (output).", (*_ROUTE, "gen_ai_token_type"), TOKEN_BUCKETS
        )

    def _make_own(self) -> None:
        self._calls = self._counter("calls", "Calls, by how they ended.", ("upstream", "outcome", "status"))
        self._retries = self._counter("retries", "Attempts after the first one.", ("upstream", "model"))
        self._cached_tokens = self._counter(
            "prompt_cache_tokens", "Prompt tokens read from or written to an upstream's cache.", ("upstream", "model", "operation")
        )
        self._cost = self._counter("cost_usd", "What calls cost, in US dollars.", ("client", "upstream"))
        self._cache = self._counter("answer_cache", "Calls, by result of the answer cache.", ("verdict",))
        self._refusals = self._counter("limit_refusals", "Calls that a limit of this gateway refused.", ("limit",))
        self._dropped_total = self._counter("dropped", "What was lost because a queue was full or a file could not be written.", ("what",))
        self._in_flight = self._gauge("in_flight", "Calls that are running.")
        self._gates = {
            "limit": self._gauge("concurrency_limit", "How many calls an upstream gets at once.", ("upstream",)),
            "in_flight": self._gauge("upstream_in_flight", "Calls that an upstream is working on.", ("upstream",)),
            "waiting": self._gauge("queued", "Calls that wait for an upstream.", ("upstream",)),
        }
        self._entries = self._gauge("store_entries", "Entries of each store and queue.", ("store",))
        self._bytes = self._gauge("store_bytes", "Size of each store and queue.", ("store",))
        self._circuits = self._gauge("circuits", "Circuits that are not closed.", ("upstream", "state"))

    def _histogram(self, name: str, words: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(name, words, labels, registry=self._registry, buckets=buckets)

    def _counter(self, name: str, words: str, labels: Sequence[str]) -> Counter:
        return Counter(f"openai_compat_{name}", words, labels, registry=self._registry)

    def _gauge(self, name: str, words: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"openai_compat_{name}", words, labels, registry=self._registry, multiprocess_mode="livesum")

    def _count(self, count: Callable[[], object]) -> None:
        """Shared counts are in files, which can fail."""
        try:
            if not self._is_made:
                self._make()
            count()
        except (OSError, ValueError) as error:
            self.fault = self._failure = f"metrics can't be counted: {error}"
        else:
            self.fault = ""

    def _observe(self, record: Mapping[str, Any]) -> None:
        self._in_flight.dec()
        deployment, outcome, status = record.get("deployment") or "", record["outcome"], str(record["status"])
        upstream = deployment.partition("/")[0]
        _known(self._outcomes, (upstream, outcome, status), MAX_OUTCOMES, self._calls.labels).inc()
        verdict = record.get("cache")
        if verdict:
            self._cache.labels(verdict.partition(";")[0]).inc()
        if not deployment:
            if record.get("code") in _LIMIT_CODES:
                self._refusals.labels(record["code"]).inc()
            return
        route = (record["model"], deployment, record.get("endpoint", USUAL_ENDPOINT))
        series = self._routes.get(route)
        if series is None:
            series = _known(self._routes, route, MAX_ROUTES, self._series_of)
        self._observe_answer(series, record, "" if outcome == "ok" else status)
        cost_usd = record.get("cost_usd")
        if cost_usd:
            _known(self._costs, (record["client"], upstream), MAX_CLIENTS, self._cost.labels).inc(cost_usd)

    def _observe_answer(self, series: _Series, record: Mapping[str, Any], error_type: str) -> None:
        duration_s = record["duration_ms"] / 1000
        durations = series.duration_of.get(error_type) or self._duration_of(series, error_type)
        durations.observe(duration_s)
        if record["attempts"] > 1:
            series.retries.inc(record["attempts"] - 1)
        first_ms = record.get("ttft_ms")
        if first_ms is not None:
            series.first_token.observe(first_ms / 1000)
        prompt_tokens = record.get("prompt_tokens")
        if prompt_tokens is None:
            return
        completion_tokens = record["completion_tokens"]
        series.tokens_in.observe(prompt_tokens)
        series.tokens_out.observe(completion_tokens)
        if record.get("cache_read_tokens"):
            series.cache_read.inc(record["cache_read_tokens"])
        if record.get("cache_write_tokens"):
            series.cache_write.inc(record["cache_write_tokens"])
        if first_ms is not None and completion_tokens > 1 and not error_type:
            series.output_token.observe((duration_s - first_ms / 1000) / (completion_tokens - 1))

    def _series_of(self, model: str, deployment: str, endpoint: str) -> _Series:
        """The metrics of one public name at one deployment."""
        upstream, _, target = deployment.partition("/")
        route, place = (OPERATIONS.get(endpoint, endpoint), upstream, model, target), (upstream, target)
        return _Series(
            route,
            {"": self._duration.labels(*route, "")},
            self._first_token.labels(*route),
            self._output_token.labels(*route),
            self._tokens.labels(*route, "input"),
            self._tokens.labels(*route, "output"),
            self._cached_tokens.labels(*place, "read"),
            self._cached_tokens.labels(*place, "write"),
            self._retries.labels(*place),
        )

    def _duration_of(self, series: _Series, error_type: str) -> Histogram:
        made = series.duration_of[error_type] = self._duration.labels(*series.route, error_type)
        return made

    def _sample(self, readings: Readings) -> None:
        now: dict[tuple[Gauge, tuple[str, ...]], float] = {}
        for upstream, gate in readings.gates.items():
            now |= {(self._gates[name], (_label(upstream),)): count for name, count in gate.items()}
        for store, (entries, size_bytes) in readings.stores.items():
            now[self._entries, (store,)] = entries
            now[self._bytes, (store,)] = size_bytes
        now |= {(self._entries, (store,)): count for store, count in readings.counts.items()}
        for (upstream, state), count in readings.circuits.items():
            now[self._circuits, (_label(upstream), state)] = count
        for gauge, labels in self._read_before - now.keys():
            gauge.labels(*labels).set(0)
        for (gauge, labels), value in now.items():
            gauge.labels(*labels).set(value)
        self._read_before |= now.keys()
        for what, total in readings.dropped.items():
            self._dropped_total.labels(what).inc(max(total - self._dropped.get(what, 0), 0))
            self._dropped[what] = total


def _known(known: dict[K, V], key: K, bound: int, make: Callable[..., V]) -> V:
    """The value of `key`, made by `make(*key)` where there is none yet; beyond `bound` that of `other`."""
    value = known.get(key)
    if value is not None:
        return value
    rest: Any = (OTHER,) * len(key)
    wanted = key if len(known) < bound else rest
    value = known.get(wanted)
    if value is None:
        value = known[wanted] = make(*(_label(part) for part in wanted))
    return value


def _label(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name[:_MAX_LABEL_CHARS])
