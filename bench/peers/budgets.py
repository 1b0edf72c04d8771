"""What the gateway promises about its cost, as data, and whether a run kept it.

Strategy: a budget bounds one figure, by another target's in the same run (a factor, or an addition) or by a number. A bound that can't be
known, since the other target was not measured, is neither kept nor broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.peers.figures import Figures, Process, Table

Verdict = Literal["met", "missed", "unknown"]
RIVALS = "every LLM gateway"


@dataclass(frozen=True, slots=True)
class Bound:
    """At most `factor` times the same figure of `of`, and `plus`. Without `of` at most `plus`."""

    factor: float = 0.0
    of: str = ""
    plus: float = 0.0

    @property
    def words(self) -> str:
        """Such as "18x nginx", "1/6 of portkey", "direct + 1", "80"."""
        if not self.of:
            return f"{self.plus:g}"
        part = round(1 / self.factor, 6) if self.factor else 0
        share = "" if self.factor == 1 else f"1/{part:g} of " if part > 1 and part == int(part) else f"{self.factor:g}x "
        return f"{share}{self.of}" + (f" + {self.plus:g}" if self.plus else "")


@dataclass(frozen=True, slots=True)
class Budget:
    """A figure of a scenario, or of the process (no scenario), and its bounds, all of which must hold."""

    scenario: str
    figure: str
    bounds: Sequence[Bound]


@dataclass(frozen=True, slots=True)
class Judged:
    """A bound, with what was measured and what it allows."""

    scenario: str
    figure: str
    target: str
    value: float | None
    bound: Bound
    limit: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether the bound was kept."""
        if self.value is None or self.limit is None:
            return "unknown"
        return "met" if self.value <= self.limit else "missed"


def _times(factor: float, *names: str) -> list[Bound]:
    return [Bound(factor, name) for name in names]


BUDGETS = (
    Budget("whole, one at a time", "p50_ms", [Bound(1, "direct", 1.0)]),
    Budget("whole, one at a time", "p90_ms", [Bound(1, "direct", 40.0)]),  # a delayed acknowledgement is a step of 40 ms
    Budget(
        "whole, 32 at once",
        "cpu_us_request",
        [*_times(18, "nginx"), *_times(3.3, "rolter"), *_times(1 / 50, "litellm"), *_times(1 / 6, "portkey")],
    ),
    Budget("stream, 8 at once", "cpu_us_chunk", [*_times(4.5, "nginx"), *_times(1, RIVALS)]),
    Budget("100 slow streams", "cpu_us_chunk", [*_times(3.8, "nginx"), *_times(2, "rolter")]),
    Budget("100 slow streams", "late_p99_ms", [Bound(plus=10)]),
    Budget("500 slow streams", "cpu_us_chunk", _times(1.1, "rolter")),
    Budget("500 slow streams", "late_p99_ms", [Bound(plus=80)]),
    Budget("500 slow streams", "late_max_ms", [Bound(plus=1000)]),  # no stall
    Budget("200 kB request", "cpu_us_request", _times(0.35, "rolter")),
    Budget("Kilo call", "cpu_us_request", _times(1, RIVALS)),
    Budget("Kilo call, TLS", "cpu_us_request", _times(1, RIVALS)),
    Budget("translated stream", "cpu_us_chunk", _times(0.75, "rolter")),
    Budget("first token, 100 streams", "first_ms", [Bound(1, "direct", 2.0)]),
    Budget("1 MB event", "cpu_ms_mb", [Bound(plus=3)]),
    Budget("10 MB answer", "cpu_ms_mb", [Bound(plus=3)]),
    Budget("5 MB request", "cpu_ms_mb", [Bound(plus=3)]),
    Budget("", "idle_mb", [Bound(plus=80)]),
    Budget("", "start_s", [Bound(plus=2)]),
)


def judge(table: Table, processes: Mapping[str, Process], ours: Sequence[str], rivals: Sequence[str]) -> list[Judged]:
    """Every bound of every budget, for each target in `ours`; `rivals` are what "every LLM gateway" stands for."""
    judged: list[Judged] = []
    for budget in BUDGETS:
        measured = {target for scenario, target in table if scenario == budget.scenario} if budget.scenario else set(processes)
        for target in [name for name in ours if name in measured]:
            value = _value(table, processes, budget, target)
            for bound in budget.bounds:
                others = [_value(table, processes, budget, name) for name in (rivals if bound.of == RIVALS else [bound.of])]
                known = [other for other in others if other is not None]
                limit = bound.plus if not bound.of else bound.factor * min(known) + bound.plus if known else None
                judged.append(Judged(budget.scenario, budget.figure, target, value, bound, limit))
    return judged


def _value(table: Table, processes: Mapping[str, Process], budget: Budget, target: str) -> float | None:
    row: Figures | Process | None = table.get((budget.scenario, target)) if budget.scenario else processes.get(target)
    value: float | None = getattr(row, budget.figure, None)
    return value
