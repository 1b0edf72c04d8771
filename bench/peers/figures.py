"""From loads to figures: one for each scenario and target, the median of its rounds.

Strategy: a load with a wrong answer tells nothing about cost, so it counts as wrong and goes into no figure. What a chunk costs is what a
stream costs besides a whole answer, as in `bench.report`; the Kilo call's figures have everything in them. A figure that there is not is
`None`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.scenarios import PEER_SCENARIOS, Scenario

US, MS = 1e6, 1e3


@dataclass(frozen=True, slots=True)
class Loaded:
    """One load: what the load generator told (see `bench.load`), and the CPU that the target's process tree used meanwhile."""

    scenario: str
    target: str
    round: int
    load: Mapping[str, Any]
    cpu_s: float

    @property
    def is_right(self) -> bool:
        """Whether every answer was."""
        return not self.load["failures"]

    def value(self, spread: str, name: str) -> float | None:
        """A figure of the load, for example `latency_ms`, `median`."""
        row = self.load[spread]
        return None if row is None else float(row[name])


@dataclass(frozen=True, slots=True)
class Process:
    """What is known of a target beside its loads."""

    version: str
    start_s: float
    idle_mb: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One scenario with one target; CPU in microseconds of its process tree, times in milliseconds."""

    cpu_us_request: float | None = None
    cpu_us_chunk: float | None = None
    cpu_ms_mb: float | None = None
    per_s: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    first_ms: float | None = None
    late_p99_ms: float | None = None
    late_max_ms: float | None = None
    wrong: int = 0


Table = Mapping[tuple[str, str], Figures]


def figures_of(loads: Sequence[Loaded]) -> dict[tuple[str, str], Figures]:
    """(scenario, target) -> figures."""
    rows = {row.name: row for row in PEER_SCENARIOS}
    cells: dict[tuple[str, str], list[Loaded]] = {}
    for load in loads:
        cells.setdefault((load.scenario, load.target), []).append(load)
    costs = {cell: median(cost_us(load) for load in found if load.is_right) for cell, found in cells.items()}
    return {cell: _figures(rows[cell[0]], cells[cell], costs[cell], costs.get((rows[cell[0]].baseline, cell[1]))) for cell in cells}


def cost_us(load: Loaded) -> float:
    """CPU per request."""
    return load.cpu_s * US / float(load.load["requests"])


def _figures(row: Scenario, loads: Sequence[Loaded], cost: float | None, base: float | None) -> Figures:
    right = [load for load in loads if load.is_right]

    def middle(read: Callable[[Loaded], float | None]) -> float | None:
        return median(read(load) for load in right)

    megabytes = row.answer_mb or (row.body_bytes / 1e6 if row.body_bytes >= 1e6 else 0.0)
    is_direct = loads[0].target == "direct"
    return Figures(
        cpu_us_request=None if is_direct else cost,
        cpu_us_chunk=None if is_direct else _per_chunk(row, cost, base),
        cpu_ms_mb=cost / MS / megabytes if megabytes and cost is not None and not is_direct else None,
        per_s=middle(lambda load: float(load.load["requests"]) / float(load.load["wall_s"])),
        p50_ms=middle(lambda load: load.value("latency_ms", "median")),
        p90_ms=middle(lambda load: load.value("latency_ms", "p90")),
        first_ms=middle(lambda load: load.value("first_byte_ms", "median")),
        late_p99_ms=middle(lambda load: load.value("late_ms", "p99")),
        late_max_ms=middle(lambda load: load.value("late_ms", "max")),
        wrong=sum(int(load.load["failures"]) for load in loads),
    )


def _per_chunk(row: Scenario, cost: float | None, base: float | None) -> float | None:
    if not row.chunks or cost is None:
        return None
    if row.baseline:
        return None if base is None else (cost - base) / row.chunks
    return cost / row.chunks if row.is_slow else None


def median(values: Iterable[float | None]) -> float | None:
    """The median of those that there are."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
