"""Metrics of all gateways that share a Redis: each of them gives the sum.

    shared = SharedMetrics(metrics, client, link, gateway_id)
    shared.push()             # every few seconds: what was counted since the last time, and what is going on just now
    shared.render(accept)     # None while Redis can't be used: only this gateway's own are known

Counts are added up in one hash, so they outlive the gateway that counted them, restarts included. What is going on just now is under a key
of each gateway's own, which is gone soon after it. A gateway that is killed takes with it what it counted since its last push.

Prometheus is to ask one address of them (the balancer's): each gives the sum, and a sum of sums is wrong.

What no gateway can have counted is left out, and taken away where it is in the way: names of labels go into the exposition as they are.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

import gevent.lock
import msgspec
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from compat.storage.redis_link import KEY_PREFIX, Link
from compat.telemetry.metrics import Metrics

COUNTS = f"{KEY_PREFIX}:metrics"
GATEWAYS = f"{KEY_PREFIX}:metrics:gateways"
NOW = f"{KEY_PREFIX}:metrics:now:"
COUNTS_TTL_S = 30 * 86_400
NOW_TTL_S = 20
_Place = tuple[str, tuple[tuple[str, str], ...], str, str]
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,99}")
_SUFFIXES = frozenset({"", "_total", "_sum", "_count", "_bucket", "_created"})
_NOT_COUNTS = ("WRONGTYPE", "not a float", "not a valid float", "NaN or Infinity")
"""What Redis says of a value that nothing can be added to."""


class SharedMetrics:
    """This gateway's part, and a view on all. Mutable: what was pushed, by one greenlet at a time: a change counts once."""

    def __init__(self, metrics: Metrics, client: Any, link: Link, gateway_id: str) -> None:
        self._metrics = metrics
        self._client = client
        self._link = link
        self._own = gateway_id
        self._pushed: dict[str, float] = {}
        self._turn = gevent.lock.BoundedSemaphore(1)

    def push(self) -> bool:
        """Add what is new; whether Redis has it."""
        with self._turn:
            return self._push()

    def render(self, accept: str = "") -> tuple[str, bytes] | None:
        """As `Metrics.render`, for all gateways."""
        if not self.push():
            return None
        told = self._link.ask(self._read)
        if told is None:
            return None
        encode, content_type = choose_encoder(accept)
        return content_type, encode(_Told(self._metrics.families(), told))

    def _push(self) -> bool:
        counted: dict[str, float] = {}
        now: dict[str, float] = {}
        for family in self._metrics.families():
            values = now if family.type == "gauge" else counted
            values.update({_field(family, sample.name, sample.labels): sample.value for sample in family.samples})
        return self._link.ask(lambda: self._write(counted, now)) is not None

    def _write(self, counted: dict[str, float], now: dict[str, float]) -> bool:
        """One transaction. A failure counts as not done."""
        changes = {field: change for field, value in counted.items() if (change := value - self._pushed.get(field, 0.0))}
        with self._client.pipeline() as pipe:
            for field, change in changes.items():
                pipe.hincrbyfloat(COUNTS, field, change)
            pipe.expire(COUNTS, COUNTS_TTL_S)
            pipe.sadd(GATEWAYS, self._own)
            pipe.expire(GATEWAYS, COUNTS_TTL_S)
            pipe.set(NOW + self._own, json.dumps(now), ex=NOW_TTL_S)
            results = pipe.execute(raise_on_error=False)
        damaged = [field for field, result in zip(changes, results, strict=False) if isinstance(result, Exception)]
        self._pushed = {field: value for field, value in counted.items() if field not in damaged}
        if any(isinstance(result, Exception) for result in results):
            self._mend(damaged, [result for result in results if isinstance(result, Exception)])
        return True

    def _mend(self, damaged: list[str], faults: list[Exception]) -> None:
        """Take away what could not be added to; the next push counts it again. Other faults leave."""
        for fault in faults:
            if not any(words in str(fault) for words in _NOT_COUNTS):
                raise fault
        self._link.distrust("counts of metrics")
        if damaged and "WRONGTYPE" in str(faults[0]):
            self._client.delete(COUNTS)
            self._pushed = {}
        elif damaged:
            self._client.hdel(COUNTS, *damaged)
        if len(faults) > len(damaged):
            self._client.delete(GATEWAYS)

    def _read(self) -> dict[str, float]:
        with self._client.pipeline() as pipe:
            pipe.hgetall(COUNTS)
            pipe.smembers(GATEWAYS)
            counts, gateways = pipe.execute()
        told = {field.decode("utf-8", "replace"): value for field, value in counts.items()}
        told = {field: number for field, value in told.items() if (number := self._number(value)) is not None}
        names = sorted(gateways)
        rows = self._client.mget([NOW.encode() + name for name in names]) if names else []
        for packed in filter(None, rows):
            for field, value in self._now_of(packed).items():
                told[field] = told.get(field, 0.0) + value
        gone = [name for name, row in zip(names, rows, strict=True) if row is None]
        if gone:
            self._client.srem(GATEWAYS, *gone)
        return told

    def _number(self, value: bytes) -> float | None:
        with contextlib.suppress(ValueError):
            if math.isfinite(number := float(value)):
                return number
        self._link.distrust("counts of metrics")
        return None

    def _now_of(self, packed: bytes) -> dict[str, float]:
        """A gateway's gauges; nothing where the value is invalid."""
        try:
            return msgspec.json.decode(packed, type=dict[str, float])
        except (ValueError, RecursionError):  # msgspec's errors, and bytes that are not UTF-8
            self._link.distrust("counts of metrics")
            return {}


class _Told:
    """A registry of those gauges. What a gateway of another version counted besides is left out."""

    def __init__(self, families: Iterable[Metric], told: dict[str, float]) -> None:
        self._families = {family.name: Metric(family.name, family.documentation, family.type) for family in families}
        self._told = told

    def collect(self) -> Iterable[Metric]:
        """The metrics, each with its samples in a steady order, buckets by their bound."""
        rows = [(place, value) for field, value in self._told.items() if (place := _place_of(field)) is not None]
        for (name, labels, bound, sample), value in sorted(rows, key=_order):
            if name in self._families and sample.startswith(name) and sample.removeprefix(name) in _SUFFIXES:
                self._families[name].add_sample(sample, dict(labels) | ({"le": bound} if bound else {}), value)
        return [family for family in self._families.values() if family.samples]


def _field(family: Metric, sample: str, labels: dict[str, str]) -> str:
    """Where a sample is counted. The bound of a bucket stands apart, for the order."""
    rest = sorted((name, value) for name, value in labels.items() if name != "le")
    return json.dumps([family.name, rest, labels.get("le", ""), sample])


def _place_of(field: str) -> _Place | None:
    """What `_field` put together; `None` for anything else."""
    try:
        place = msgspec.json.decode(field, type=_Place)
        float(place[2] or 0)
    except (ValueError, RecursionError):
        return None
    return place if all(_LABEL.fullmatch(label) for label, _ in place[1]) else None


def _order(row: tuple[tuple[Any, ...], float]) -> tuple[Any, ...]:
    (name, labels, bound, sample), _ = row
    return name, labels, sample, float(bound or 0)
