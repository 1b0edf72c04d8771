"""The supervisor's decisions, as histories of events with their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from compat.engine.presets import PRESETS
from compat.engine.supervisor import (
    FIRST_DELAY_S,
    FIRST_FETCH_DELAY_S,
    MAX_DELAY_S,
    MAX_REFUSALS,
    PATIENCE,
    STABLE_S,
    Action,
    Begun,
    Ended,
    Event,
    Fetch,
    FileFault,
    GiveUp,
    History,
    Launch,
    Located,
    Look,
    Missing,
    Pause,
    Ready,
    Refused,
    Rested,
    State,
    Watch,
    decide,
    fetch_detail,
    growing_delay_s,
)

PRESET = PRESETS["smollm2-135m-instruct"]
FILE = Path("a.gguf")
LOST = FileFault("no network", is_permanent=False)
UNREADABLE = Refused("not a model", is_permanent=True)
NO_MEMORY = Refused("no memory", is_permanent=False)
DIED = Ended("died")

Step = tuple[float, Event, Action, State]


@dataclass(frozen=True)
class Case:
    """A history: at a time, an event; the action that must follow, and the state in which it leaves the engine."""

    name: str
    steps: Sequence[Step]
    faults: int = 0
    unready: int = 0
    refusals: int = 0
    restarts: int = 0
    detail: str = "ready"


def up_at(now_s: float) -> list[Step]:
    """Looked, found, launched, ready."""
    return [(now_s, Located(FILE), Launch(FILE), "starting"), (now_s, Ready(), Watch(), "ready")]


def again_at(now_s: float, state: State = "starting") -> list[Step]:
    """Rested, found, launched."""
    return [(now_s, Rested(), Look(), state), (now_s, Located(FILE), Launch(FILE), "starting")]


BEGIN: Step = (0, Begun(), Look(), "starting")

CASES = [
    Case("the file is there", [BEGIN, *up_at(1)]),
    Case(
        "the file is fetched first",
        [BEGIN, (0, Missing(PRESET), Fetch(PRESET), "fetching"), *up_at(90)],
    ),
    Case(
        "the network is down for a while",
        [
            BEGIN,
            (0, Missing(PRESET), Fetch(PRESET), "fetching"),
            (1, LOST, Pause(5), "failed"),
            (6, Rested(), Look(), "failed"),
            (6, Missing(PRESET), Fetch(PRESET), "fetching"),
            (7, LOST, Pause(10), "failed"),
            (17, Rested(), Look(), "failed"),
            (17, Missing(PRESET), Fetch(PRESET), "fetching"),
            (18, LOST, Pause(20), "failed"),
            (38, Rested(), Look(), "failed"),
            (38, Missing(PRESET), Fetch(PRESET), "fetching"),
            (39, LOST, Pause(30), "failed"),
            (69, Rested(), Look(), "failed"),
            *up_at(80),
        ],
        faults=4,
    ),
    Case(
        "the file can never be had",
        [BEGIN, (0, FileFault("unknown model", is_permanent=True), GiveUp("unknown model"), "failed")],
        detail="unknown model",
    ),
    Case(
        "the child refuses the file for good",
        [BEGIN, *up_at(0)[:1], (1, UNREADABLE, GiveUp("not a model"), "failed")],
        refusals=1,
        detail="not a model",
    ),
    Case(
        "the child has no memory three times",
        [
            BEGIN,
            *up_at(0)[:1],
            (1, NO_MEMORY, Pause(0.5), "starting"),
            *again_at(2),
            (3, NO_MEMORY, Pause(1), "starting"),
            *again_at(4),
            (5, NO_MEMORY, GiveUp("no memory"), "failed"),
        ],
        faults=2,
        unready=2,
        refusals=3,
        restarts=2,
        detail="no memory",
    ),
    Case(
        "refusals count in a row: readiness forgives them",
        [
            BEGIN,
            *up_at(0)[:1],
            (1, NO_MEMORY, Pause(0.5), "starting"),
            *again_at(2),
            (3, NO_MEMORY, Pause(1), "starting"),
            *again_at(4),
            (5, Ready(), Watch(), "ready"),
            (6, DIED, Pause(2), "starting"),
            *again_at(8),
            (9, NO_MEMORY, Pause(4), "starting"),
        ],
        faults=4,
        unready=1,
        refusals=1,
        restarts=4,
        detail="no memory; next try in 4 s",
    ),
    Case(
        "the child dies at once, again and again",
        [
            BEGIN,
            *up_at(0)[:1],
            (1, DIED, Pause(0.5), "starting"),
            *again_at(2),
            (3, DIED, Pause(1), "starting"),
            *again_at(4),
            (5, DIED, Pause(2), "failed"),
            *again_at(7, "failed"),
            (8, DIED, Pause(4), "failed"),
            *again_at(12, "failed"),
            (13, DIED, Pause(8), "failed"),
            *again_at(21, "failed"),
            (22, DIED, Pause(16), "failed"),
            *again_at(38, "failed"),
            (39, DIED, Pause(30), "failed"),
            *again_at(69, "failed"),
            (70, DIED, Pause(30), "failed"),
        ],
        faults=8,
        unready=8,
        restarts=8,
        detail="died; next try in 30 s",
    ),
    Case(
        "the child dies soon after it was ready, again and again",
        [
            BEGIN,
            *up_at(0),
            (10, DIED, Pause(0.5), "starting"),
            *again_at(11),
            (12, Ready(), Watch(), "ready"),
            (22, DIED, Pause(1), "starting"),
            *again_at(23),
            (24, Ready(), Watch(), "ready"),
            (34, DIED, Pause(2), "starting"),
        ],
        faults=3,
        restarts=3,
        detail="died; next try in 2 s",
    ),
    Case(
        "a run of a minute clears the record",
        [
            BEGIN,
            *up_at(0),
            (1, DIED, Pause(0.5), "starting"),
            *again_at(2),
            (3, Ready(), Watch(), "ready"),
            (4, DIED, Pause(1), "starting"),
            *again_at(5),
            (6, Ready(), Watch(), "ready"),
            (6 + STABLE_S, DIED, Pause(0.5), "starting"),
        ],
        faults=1,
        restarts=3,
        detail="died; next try in 0.5 s",
    ),
    Case(
        "a run of almost a minute does not",
        [
            BEGIN,
            *up_at(0),
            (1, DIED, Pause(0.5), "starting"),
            *again_at(2),
            (3, Ready(), Watch(), "ready"),
            (2.9 + STABLE_S, DIED, Pause(1), "starting"),
        ],
        faults=2,
        restarts=2,
        detail="died; next try in 1 s",
    ),
    Case(
        "patience begins anew once it was ready",
        [
            BEGIN,
            *up_at(0)[:1],
            (1, DIED, Pause(0.5), "starting"),
            *again_at(2),
            (3, DIED, Pause(1), "starting"),
            *again_at(4),
            (5, Ready(), Watch(), "ready"),
            (6, DIED, Pause(2), "starting"),
            *again_at(8),
            (9, DIED, Pause(4), "starting"),
        ],
        faults=4,
        unready=1,
        restarts=4,
        detail="died; next try in 4 s",
    ),
    Case(
        "the file goes bad while it is used, and is fetched again",
        [
            BEGIN,
            *up_at(0)[:1],
            (1, NO_MEMORY, Pause(0.5), "starting"),
            (2, Rested(), Look(), "starting"),
            (2, Missing(PRESET), Fetch(PRESET), "fetching"),
            *up_at(60),
        ],
        faults=1,
        restarts=1,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_done_follows_from_what_happened(case: Case) -> None:
    history = History()
    for number, (now_s, event, action, state) in enumerate(case.steps):
        history, done = decide(history, event, now_s)
        assert (done, history.state) == (action, state), f"step {number}"
    counts = (history.faults, history.unready, history.refusals, history.restarts, history.detail)
    assert counts == (case.faults, case.unready, case.refusals, case.restarts, case.detail)
    assert (history.ready_since_s is not None) == (history.state == "ready")


def test_only_the_time_since_readiness_matters_and_not_the_clocks_zero() -> None:
    ends = []
    for zero_s in (0.0, 1e9):
        history, _ = decide(History(), Ready(), zero_s)
        ends.append(decide(replace(history, faults=5), DIED, zero_s + STABLE_S))
    assert ends[0] == ends[1]
    assert ends[0][1] == Pause(FIRST_DELAY_S)


@pytest.mark.parametrize("first_s", [FIRST_DELAY_S, FIRST_FETCH_DELAY_S])
def test_delays_grow_to_their_bound_and_no_further(first_s: float) -> None:
    delays = [growing_delay_s(faults, first_s) for faults in (*range(1, 20), 10_000)]
    assert delays[0] == first_s
    assert delays[1] == 2 * first_s
    assert delays == sorted(delays)
    assert delays[-1] == MAX_DELAY_S


def test_a_long_outage_of_the_network_never_gives_up() -> None:
    history, action = decide(History(), Begun(), 0)
    for number in range(1000):
        history, action = decide(history, LOST, number)
        assert isinstance(action, Pause)
    assert (history.state, history.restarts) == ("failed", 0)


def test_the_bounds_are_those_that_the_cases_assume() -> None:
    assert (MAX_REFUSALS, PATIENCE) == (3, 3)


@pytest.mark.parametrize(
    ("done", "total", "words"),
    [(0, 92_871_040, "fetching 0 of 92 MB"), (46_999_999, 92_871_040, "fetching 46 of 92 MB"), (5, 5, "fetching 0 of 0 MB")],
)
def test_how_far_a_fetch_is_is_said_in_megabytes(done: int, total: int, words: str) -> None:
    assert fetch_detail(done, total) == words
