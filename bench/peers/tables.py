"""A run as Markdown: the figures of all targets, the ratios, the budgets.

A figure that there is not is a dash. "x" is the ratio to nginx, the practical limit; "of rolter" that to the leanest rival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.peers.budgets import Judged
from bench.peers.figures import Figures, Process, Table
from bench.report import markdown
from bench.scenarios import PEER_SCENARIOS

NAMES = {
    "cpu_us_request": "CPU us/request",
    "cpu_us_chunk": "CPU us/chunk",
    "cpu_ms_mb": "CPU ms/MB",
    "p50_ms": "p50 ms",
    "p90_ms": "p90 ms",
    "first_ms": "first byte ms",
    "late_p99_ms": "p99 late ms",
    "late_max_ms": "latest ms",
    "idle_mb": "idle MB",
    "start_s": "healthy after s",
}
_NGINX, _ROLTER = "nginx", "rolter"
_Column = tuple[str, Callable[[str, Figures], str]]


def scenario_tables(table: Table, targets: Sequence[str]) -> str:
    """A table for each scenario, a row for each target."""
    parts = []
    for scenario in [row.name for row in PEER_SCENARIOS if any(name == row.name for name, _ in table)]:
        rows = [(target, table[scenario, target]) for target in targets if (scenario, target) in table]
        columns = [column for column in _columns(table, scenario) if any(column[1](*row) != "-" for row in rows)]
        cells = [
            [scenario, *(title for title, _ in columns)],
            *([target, *(show(target, row) for _, show in columns)] for target, row in rows),
        ]
        parts.append(markdown(cells))
    return "\n\n".join(parts)


def _columns(table: Table, scenario: str) -> Sequence[_Column]:
    def ratio(target: str, figures: Figures, other: str) -> str:
        base = table.get((scenario, other))
        for name in ("cpu_us_chunk", "cpu_us_request"):
            mine, theirs = getattr(figures, name), getattr(base, name, None)
            if mine is not None and theirs and theirs > 0 and target != other:
                return f"{mine / theirs:.1f}x" if mine / theirs >= 1 else f"{mine / theirs:.2f}x"
        return "-"

    def number(name: str, digits: int) -> Callable[[str, Figures], str]:
        return lambda _target, figures: shown(getattr(figures, name), digits)

    return (
        ("CPU us/request", number("cpu_us_request", 0)),
        ("CPU us/chunk", number("cpu_us_chunk", 1)),
        ("CPU ms/MB", number("cpu_ms_mb", 1)),
        ("x nginx", lambda target, figures: ratio(target, figures, _NGINX)),
        ("x rolter", lambda target, figures: ratio(target, figures, _ROLTER)),
        ("a second", number("per_s", 0)),
        ("p50 ms", number("p50_ms", 2)),
        ("p90 ms", number("p90_ms", 2)),
        ("first byte ms", number("first_ms", 2)),
        ("p99 late ms", number("late_p99_ms", 1)),
        ("wrong", lambda _target, figures: str(figures.wrong)),
    )


def process_table(processes: Mapping[str, Process]) -> str:
    """Version, start, memory."""
    head = ["process", "version", "healthy after s", "idle MB", "peak MB"]
    rows = [[name, one.version, shown(one.start_s, 2), shown(one.idle_mb, 0), shown(one.peak_mb, 0)] for name, one in processes.items()]
    return markdown([head, *rows])


def budget_table(judged: Sequence[Judged]) -> str:
    """A row for each bound of ours: what was measured, what is allowed, whether it is met."""
    head = ["budget", "target", "figure", "measured", "at most", "that is", "met"]
    return markdown([head, *(_budget_row(one) for one in judged)])


def _budget_row(one: Judged) -> list[str]:
    verdict = {"met": "yes", "missed": "**no**", "unknown": "not measured"}[one.verdict]
    name = NAMES[one.figure]
    return [one.scenario or "the process", one.target, name, shown(one.value, 2), one.bound.words, shown(one.limit, 2), verdict]


def shown(value: float | None, digits: int) -> str:
    """The number with so many digits, or a dash."""
    return "-" if value is None else f"{value:,.{digits}f}"
