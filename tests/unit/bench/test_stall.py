"""The longest gap of a heartbeat, and what a row of the measurement says of it."""

from __future__ import annotations

import itertools

import pytest

from bench.stall import TICK_S, Figure, Heartbeat, table


def test_a_gap_is_what_a_tick_came_late() -> None:
    times_s = itertools.accumulate([100.0, TICK_S, TICK_S + 0.25, TICK_S, TICK_S, TICK_S])
    heartbeat = Heartbeat(lambda: next(times_s))
    for _ in range(3):
        heartbeat.tick()
    assert heartbeat.take_ms() == pytest.approx(250)
    assert heartbeat.take_ms() == 0


def test_a_gap_that_is_not_over_counts() -> None:
    times_s = iter([0.0, 0.305, 0.31])
    heartbeat = Heartbeat(lambda: next(times_s))
    assert heartbeat.take_ms() == pytest.approx(300)
    assert heartbeat.take_ms() == 0


@pytest.mark.parametrize(("gap_ms", "memory_mb", "expected"), [(100, 304, True), (101, 0, False), (0, 305, False)])
def test_a_figure_is_within_its_bounds_by_gap_and_memory(gap_ms: float, memory_mb: float, expected: bool) -> None:
    figure = Figure("a", 30, gap_ms, memory_mb, 200, 1.5)
    assert figure.is_within is expected
    assert table([figure]).splitlines()[-1] == f"| a | 30 | {gap_ms:,.0f} | {memory_mb:,.0f} | {memory_mb / 30:.1f} | 200 | 1.5 |"
