"""What the watcher does next about the gateway's generations: a pure decision over its history.

    decide(history, event, now_s) -> (history, actions)

`compat/service/watcher.py` carries the actions out, and what comes of each is the next event. No clock, no process here.

A generation is one gunicorn with its workers. Whatever is asked for, the one that serves goes on until the next one serves as well:

    Asked -> Check -> Passed -> Launch -> Serves -> Retire the one before
                   \\-> Refused              \\-> Ended: what was asked for has failed, the one before never noticed

A generation that ends unasked is replaced from the configuration it ran with, at once the first time, then after growing pauses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

STABLE_S = 60.0
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0

EXIT_STOPPED = 0
EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants new workers with the configuration as it is now; at a restart, a new watcher as well."""

    kind: Literal["start", "reload", "restart"]


@dataclass(frozen=True, slots=True)
class Passed:
    """The configuration was checked and is good; its copy is kept under `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The configuration can't be used."""

    reason: str


@dataclass(frozen=True, slots=True)
class Serves:
    """All workers of a generation serve."""

    number: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A generation is gone."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """A generation does not serve within its time."""

    number: int


@dataclass(frozen=True, slots=True)
class Rested:
    """A pause is over."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The service is to end."""


@dataclass(frozen=True, slots=True)
class AllGone:
    """No generation is left."""


Event = Asked | Passed | Refused | Serves | Ended | Overdue | Rested | StopAsked | AllGone


@dataclass(frozen=True, slots=True)
class Check:
    """Copy the configuration to the place of generation `number`, and check the copy: `Passed` or `Refused`."""

    number: int


@dataclass(frozen=True, slots=True)
class Become:
    """Become the watcher of the present code, which will be asked to reload."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Start generation `number` with the configuration that is kept under `configuration`: `Serves`, `Ended` or `Overdue`."""

    number: int
    configuration: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Let a generation finish its last answers: `Ended` when it has."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a generation at once: `Ended`."""

    number: int


@dataclass(frozen=True, slots=True)
class Tell:
    """The outcome of what was asked for; `fault` is empty when it was done."""

    fault: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait: `Rested`."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End all generations: `AllGone`."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The watcher has nothing more to do."""

    code: int


Action = Check | Become | Launch | Retire | Kill | Tell | Pause | Stop | Exit


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered.

    `latest` is the highest number that was used, `current` serves, `incoming` is about to, `good` is the configuration that served
    last. `again` is what was asked for meanwhile. `faults` are the ends in a row that nobody asked for.
    """

    latest: int = 0
    current: int | None = None
    incoming: int | None = None
    incoming_configuration: int | None = None
    good: int | None = None
    is_checking: bool = False
    is_asked_for: bool = False
    again: Literal["start", "reload", "restart"] | None = None
    faults: int = 0
    serves_since_s: float | None = None
    is_stopping: bool = False

    @property
    def is_busy(self) -> bool:
        """Whether something that was asked for is under way, or a generation is about to serve."""
        return self.is_checking or self.incoming is not None


def decide(history: History, event: Event, now_s: float) -> tuple[History, tuple[Action, ...]]:
    """The history with `event`, which happened at `now_s`, and what to do next."""
    if history.is_stopping:
        return history, (Exit(EXIT_STOPPED),) if isinstance(event, AllGone) else ()
    match event:
        case Asked(kind):
            return _asked(history, kind)
        case Passed(number):
            changed = replace(history, is_checking=False, latest=number, incoming=number, incoming_configuration=number)
            return changed, (Launch(number, number),)
        case Refused(reason):
            return _failed(replace(history, is_checking=False), reason)
        case Serves(number):
            return _serves(history, number, now_s)
        case Overdue(number):
            return history, (Kill(number),) if number == history.incoming else ()
        case Ended(number, reason):
            return _ended(history, number, reason, now_s)
        case Rested():
            is_wanted = history.current is None and not history.is_busy and history.good is not None
            return _relaunch(history) if is_wanted else (history, ())
        case StopAsked():
            return replace(history, is_stopping=True), (Stop(),)
        case AllGone():
            return history, ()


def growing_delay_s(faults: int) -> float:
    """The pause before the next try after so many ends in a row: none after the first."""
    return 0.0 if faults <= 1 else min(FIRST_DELAY_S * 2.0 ** min(faults - 2, 16), MAX_DELAY_S)


def _asked(history: History, kind: Literal["start", "reload", "restart"]) -> tuple[History, tuple[Action, ...]]:
    if history.is_busy:
        return replace(history, again="restart" if "restart" in {kind, history.again} else kind), ()
    if kind == "restart":
        return history, (Become(),)
    return replace(history, is_checking=True, is_asked_for=True), (Check(history.latest + 1),)


def _failed(history: History, reason: str) -> tuple[History, tuple[Action, ...]]:
    """What was asked for came to nothing. Without a generation that ever served, there is nothing to go on with."""
    history = replace(history, is_asked_for=False)
    if history.good is None:
        return history, (Tell(reason), Exit(EXIT_FAILED))
    if history.current is None:
        history, actions = _relaunch(history)
        return history, (Tell(reason), *actions)
    return _next(history, (Tell(reason),))


def _serves(history: History, number: int, now_s: float) -> tuple[History, tuple[Action, ...]]:
    if number != history.incoming:
        return history, ()
    before = history.current
    told: tuple[Action, ...] = (Tell(),) if history.is_asked_for else ()
    faults = 0 if history.is_asked_for else history.faults
    changed = replace(
        history,
        current=number,
        incoming=None,
        incoming_configuration=None,
        good=history.incoming_configuration,
        is_asked_for=False,
        faults=faults,
        serves_since_s=now_s,
    )
    return _next(changed, (*told, Retire(before)) if before is not None else told)


def _ended(history: History, number: int, reason: str, now_s: float) -> tuple[History, tuple[Action, ...]]:
    if number == history.incoming:
        history = replace(history, incoming=None, incoming_configuration=None)
        return _failed(history, reason) if history.is_asked_for else _pause(replace(history, faults=history.faults + 1))
    if number != history.current:
        return history, ()
    ran_well = history.serves_since_s is not None and now_s - history.serves_since_s >= STABLE_S
    history = replace(history, current=None, serves_since_s=None, faults=1 if ran_well else history.faults + 1)
    return (history, ()) if history.is_busy else _pause(history)


def _pause(history: History) -> tuple[History, tuple[Action, ...]]:
    if history.current is not None:
        return _next(history, ())
    delay_s = growing_delay_s(history.faults)
    return (history, (Pause(delay_s),)) if delay_s else _relaunch(history)


def _relaunch(history: History) -> tuple[History, tuple[Action, ...]]:
    assert history.good is not None
    number = history.latest + 1
    changed = replace(history, latest=number, incoming=number, incoming_configuration=history.good)
    return changed, (Launch(number, history.good),)


def _next(history: History, actions: tuple[Action, ...]) -> tuple[History, tuple[Action, ...]]:
    """Go on with what was asked for meanwhile."""
    if history.again is None:
        return history, actions
    history, more = _asked(replace(history, again=None), history.again)
    return history, (*actions, *more)
