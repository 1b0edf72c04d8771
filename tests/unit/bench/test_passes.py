"""A warm streamed call passes no more of the house than it did: counted, so that it is the same on every machine."""

from __future__ import annotations

import pytest

from bench.passes import Passes, all_passes

BOUNDS = {"openai": (45, 405, 195), "anthropic": (57, 534, 275)}
"""Kind -> modules, calls and switches at most. When the core was written for one protocol these were 50, 431 and 193,
and 57, 574 and 258."""


@pytest.fixture(scope="module")
def found() -> dict[str, Passes]:
    return all_passes()


@pytest.mark.parametrize("kind", BOUNDS)
def test_a_warm_streamed_call_stays_within_its_bounds(found: dict[str, Passes], kind: str) -> None:
    modules, calls, switches = BOUNDS[kind]
    passes = found[kind]
    assert len(passes.modules) <= modules, passes.modules
    assert (passes.calls <= calls, passes.switches <= switches) == (True, True), str(passes)


def test_what_is_counted_is_the_same_every_time(found: dict[str, Passes]) -> None:
    assert all_passes() == found
    assert all("calls/run.py" in passes.modules for passes in found.values())
