"""What to do next about the embedded engine: a pure decision over its history.

    decide(history, event, now_s) -> (history, action)

`compat/engine/embedded.py` carries the actions out, and what comes of each is the next event. No clock, no process, no thread here.

    Begun, Rested ──> Look ──> Missing ──> Fetch ──> Located ──> Launch ──> Ready ──> Watch ──> Ended ──> Pause ──> Rested
                        └────────────────> Located                                     any fault ──> Pause or GiveUp

A fault that another try may cure is answered with a pause that grows to `MAX_DELAY_S`; one that only a person can cure ends it. An
engine that ran well for `STABLE_S` has a clean record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from compat.engine.presets import Preset

STABLE_S = 60.0
FIRST_DELAY_S = 0.5
FIRST_FETCH_DELAY_S = 5.0
MAX_DELAY_S = 30.0
MAX_REFUSALS = 3
"""So often in a row may the engine say in good order that it can't load the file: a lack of memory passes, a bad file does not."""
PATIENCE = 3
"""Ends in a row without ever being ready, after which waiting calls are refused, while the tries go on."""

State = Literal["stopped", "fetching", "starting", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class Begun:
    """The engine is wanted."""


@dataclass(frozen=True, slots=True)
class Rested:
    """A pause is over."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The model's file has to be fetched."""

    preset: Preset


@dataclass(frozen=True, slots=True)
class Located:
    """The model's file is there."""

    path: Path


@dataclass(frozen=True, slots=True)
class Ready:
    """The child answers."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The child is gone without a word, or could not be started."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The child said that it can't serve the file, and ended."""

    reason: str
    is_permanent: bool


@dataclass(frozen=True, slots=True)
class FileFault:
    """The model's file can't be had."""

    reason: str
    is_permanent: bool


Event = Begun | Rested | Missing | Located | Ready | Ended | Refused | FileFault


@dataclass(frozen=True, slots=True)
class Look:
    """Find the model's file: `Located`, `Missing` or `FileFault`."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch it: `Located` or `FileFault`."""

    preset: Preset


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the child: `Ready`, `Refused` or `Ended`."""

    path: Path


@dataclass(frozen=True, slots=True)
class Watch:
    """Wait for the child's end: `Ended`."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait: `Rested`."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """There is nothing more to do."""

    reason: str


Step = Look | Fetch | Launch | Watch | Pause
Action = Step | GiveUp


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered. `faults`, `unready` and `refusals` count in a row, `restarts` in all; `ready_since_s` is set while it answers."""

    state: State = "stopped"
    detail: str = "not started"
    faults: int = 0
    unready: int = 0
    refusals: int = 0
    restarts: int = 0
    ready_since_s: float | None = None


def decide(history: History, event: Event, now_s: float) -> tuple[History, Action]:
    """The history with `event`, which happened at `now_s`, and what to do next."""
    match event:
        case Begun():
            return replace(history, state="starting", detail="looking for the model's file"), Look()
        case Rested():
            return history, Look()
        case Missing(preset):
            return replace(history, state="fetching", detail=fetch_detail(0, preset.size_bytes)), Fetch(preset)
        case Located(path):
            return replace(history, state="starting", detail="loading the model"), Launch(path)
        case Ready():
            return replace(history, state="ready", detail="ready", unready=0, refusals=0, ready_since_s=now_s), Watch()
        case Ended(reason):
            return _after_end(history, reason, now_s)
        case Refused(reason, is_permanent):
            history = replace(history, refusals=history.refusals + 1)
            if is_permanent or history.refusals >= MAX_REFUSALS:
                return _give_up(history, reason)
            return _after_end(history, reason, now_s)
        case FileFault(reason, is_permanent):
            if is_permanent:
                return _give_up(history, reason)
            faults = history.faults + 1
            delay_s = growing_delay_s(faults, FIRST_FETCH_DELAY_S)
            return replace(history, state="failed", detail=_again(reason, delay_s), faults=faults), Pause(delay_s)


def growing_delay_s(faults: int, first_s: float) -> float:
    """The pause after so many faults in a row: doubling, at most `MAX_DELAY_S`."""
    return min(first_s * 2.0 ** min(faults - 1, 16), MAX_DELAY_S)


def fetch_detail(done_bytes: int, total_bytes: int) -> str:
    """How far a fetch is, in words."""
    return f"fetching {done_bytes // 1_000_000} of {total_bytes // 1_000_000} MB"


def _after_end(history: History, reason: str, now_s: float) -> tuple[History, Action]:
    ran_well = history.ready_since_s is not None and now_s - history.ready_since_s >= STABLE_S
    faults = 1 if ran_well else history.faults + 1
    unready = 0 if history.ready_since_s is not None else history.unready + 1
    delay_s = growing_delay_s(faults, FIRST_DELAY_S)
    changed = replace(
        history,
        state="failed" if unready >= PATIENCE else "starting",
        detail=_again(reason, delay_s),
        faults=faults,
        unready=unready,
        restarts=history.restarts + 1,
        ready_since_s=None,
    )
    return changed, Pause(delay_s)


def _give_up(history: History, reason: str) -> tuple[History, Action]:
    return replace(history, state="failed", detail=reason, ready_since_s=None), GiveUp(reason)


def _again(reason: str, delay_s: float) -> str:
    return f"{reason}; next try in {delay_s:g} s"
