"""From the loads of all rounds to one row per scenario, and from rows to a table in Markdown.

Strategy: every figure is a median over rounds, so that a round that was disturbed does not count; differences and ratios are taken
within a round, between the direct load and the one through the gateway that followed each other. A figure that a scenario has not is
`None`, and a dash in the table.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.scenarios import Scenario, Target


@dataclass(frozen=True, slots=True)
class Measured:
    """One load: what the load generator told (see `bench.load`), and the CPU that the gateway used meanwhile."""

    round: int
    target: Target
    load: Mapping[str, Any]
    gateway_cpu_s: float

    @property
    def cpu_us(self) -> float:
        """The gateway's CPU per request, in microseconds."""
        return self.gateway_cpu_s * 1e6 / float(self.load["requests"])

    def value(self, spread: str, name: str) -> float | None:
        """A figure of the load, for example `latency_ms`, `median`."""
        row = self.load[spread]
        return None if row is None else float(row[name])


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario: times in milliseconds, CPU of the gateway in microseconds."""

    scenario: str
    rounds: int
    failures: int
    direct_ms: float | None
    gateway_ms: float | None
    gateway_p90_ms: float | None
    added_ms: float | None
    ratio: float | None
    direct_first_byte_ms: float | None
    gateway_first_byte_ms: float | None
    cpu_us_request: float | None
    cpu_us_chunk: float | None
    direct_late_p99_ms: float | None
    gateway_late_p99_ms: float | None
    peak_open: int


def rows_of(scenarios: Sequence[Scenario], measured: Mapping[str, Sequence[Measured]]) -> list[Row]:
    """A row for each scenario that was measured, in order."""
    return [_row(scenario, measured) for scenario in scenarios if measured.get(scenario.name)]


def _row(scenario: Scenario, measured: Mapping[str, Sequence[Measured]]) -> Row:
    loads = measured[scenario.name]
    direct = [load for load in loads if load.target == "direct"]
    gateway = [load for load in loads if load.target == "gateway"]

    def both(combine: Callable[[float, float], float]) -> float | None:
        pairs = [(a.value("latency_ms", "median"), b.value("latency_ms", "median")) for a, b in zip(direct, gateway, strict=True)]
        return _median(combine(a, b) for a, b in pairs if a is not None and b is not None)

    def side(side_loads: Sequence[Measured], spread: str, name: str) -> float | None:
        return _median(load.value(spread, name) for load in side_loads)

    cpu_us = _median(load.cpu_us for load in gateway)
    base_us = _median(load.cpu_us for load in measured.get(scenario.baseline, ()) if load.target == "gateway")
    return Row(
        scenario=scenario.name,
        rounds=len(gateway),
        failures=sum(load.load["failures"] for load in loads),
        direct_ms=side(direct, "latency_ms", "median"),
        gateway_ms=side(gateway, "latency_ms", "median"),
        gateway_p90_ms=side(gateway, "latency_ms", "p90"),
        added_ms=both(lambda a, b: b - a),
        ratio=both(lambda a, b: b / a),
        direct_first_byte_ms=side(direct, "first_byte_ms", "median"),
        gateway_first_byte_ms=side(gateway, "first_byte_ms", "median"),
        cpu_us_request=cpu_us,
        cpu_us_chunk=None if cpu_us is None or base_us is None else (cpu_us - base_us) / scenario.chunks,
        direct_late_p99_ms=side(direct, "late_ms", "p99"),
        gateway_late_p99_ms=side(gateway, "late_ms", "p99"),
        peak_open=max(load.load["peak_open"] for load in loads),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


_COLUMNS: Sequence[tuple[str, Callable[[Row], str]]] = (
    ("scenario", lambda row: row.scenario),
    ("direct ms", lambda row: _number(row.direct_ms, 2)),
    ("gateway ms", lambda row: _number(row.gateway_ms, 2)),
    ("p90 ms", lambda row: _number(row.gateway_p90_ms, 2)),
    ("added ms", lambda row: _number(row.added_ms, 2)),
    ("ratio", lambda row: "-" if row.ratio is None else f"{row.ratio:.2f}x"),
    ("first byte, direct / gateway ms", lambda row: _pair(row.direct_first_byte_ms, row.gateway_first_byte_ms)),
    ("CPU us/request", lambda row: _number(row.cpu_us_request, 0)),
    ("CPU us/chunk", lambda row: _number(row.cpu_us_chunk, 1)),
    ("p99 late, direct / gateway ms", lambda row: _pair(row.direct_late_p99_ms, row.gateway_late_p99_ms)),
    ("wrong", lambda row: str(row.failures)),
)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, padded so that it is readable as it stands."""
    cells = [[title for title, _ in _COLUMNS], *([show(row) for _, show in _COLUMNS] for row in rows)]
    return markdown(cells)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Head and rows as a Markdown table; the first column is set to the left, the others to the right."""
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" if not at else f"{cell:>{width}}" for at, (cell, width) in pairs) + " |"
        for pairs in (list(enumerate(zip(line, widths, strict=True))) for line in cells)
    ]
    rule = "|" + "|".join("-" * (width + 2) if not at else "-" * (width + 1) + ":" for at, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def as_document(rows: Sequence[Row], measured: Mapping[str, Sequence[Measured]]) -> dict[str, Any]:
    """Rows and all single loads, for JSON."""
    return {"rows": [asdict(row) for row in rows], "loads": [asdict(load) for loads in measured.values() for load in loads]}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _pair(direct: float | None, gateway: float | None) -> str:
    return "-" if direct is None or gateway is None else f"{_number(direct, 1)} / {_number(gateway, 1)}"
