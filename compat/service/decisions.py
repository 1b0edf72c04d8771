"""What the watcher does next about the gateway's generations: a pure decision over its history.

    decide(history, event) -> (history, actions)

An event is one of the functions below that are about something that happened: `asked`, `passed`, `refused`, `serves`, `ended`, `overdue`,
`rested`, `stop_asked`, `all_gone`; those with arguments as `functools.partial`. `compat/service/watcher.py` carries the actions out, and
what comes of each is the next event. No clock, no process here.

A generation is one gunicorn with its workers. Whatever is asked for, the one that serves goes on until the next one serves as well:

    asked -> Check -> passed -> Launch -> serves -> Retire the one before
                   \\-> refused              \\-> ended: what was asked for has failed, the one before never noticed

A generation that ends unasked is replaced from the configuration it ran with, at once the first time, then after growing pauses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

STABLE_S = 60.0
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0

EXIT_STOPPED = 0
EXIT_FAILED = 1

Kind = Literal["start", "reload", "restart"]


class Check(msgspec.Struct, frozen=True):
    """Copy the configuration to the place of generation `number`, and check the copy: `passed` or `refused`."""

    number: int


class Become(msgspec.Struct, frozen=True):
    """Become the watcher of the present code, which will be asked to reload."""


class Launch(msgspec.Struct, frozen=True):
    """Start generation `number` with the configuration that is kept under `configuration`: `serves`, `ended` or `overdue`."""

    number: int
    configuration: int


class Retire(msgspec.Struct, frozen=True):
    """Let a generation finish its last answers: `ended` when it has."""

    number: int


class Kill(msgspec.Struct, frozen=True):
    """End a generation at once: `ended`."""

    number: int


class Tell(msgspec.Struct, frozen=True):
    """The outcome of what was asked for; `fault` is empty when it was done."""

    fault: str = ""


class Pause(msgspec.Struct, frozen=True):
    """Wait: `rested`."""

    delay_s: float


class Stop(msgspec.Struct, frozen=True):
    """End all generations: `all_gone`."""


class Exit(msgspec.Struct, frozen=True):
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
    again: Kind | None = None
    faults: int = 0
    serves_since_s: float | None = None
    is_stopping: bool = False

    @property
    def is_busy(self) -> bool:
        """Whether something that was asked for is under way, or a generation is about to serve."""
        return self.is_checking or self.incoming is not None


Decision = tuple[History, tuple[Action, ...]]
Event = Callable[[History], Decision]


def decide(history: History, event: Event) -> Decision:
    """The history with `event`, and what to do next: nothing any more while the service ends."""
    return (history, ()) if history.is_stopping and event is not all_gone else event(history)


def asked(history: History, kind: Kind) -> Decision:
    """Somebody wants new workers with the configuration as it is now; at a restart, a new watcher as well."""
    if history.is_busy:
        return replace(history, again="restart" if "restart" in {kind, history.again} else kind), ()
    if kind == "restart":
        return history, (Become(),)
    return replace(history, is_checking=True, is_asked_for=True), (Check(history.latest + 1),)


def passed(history: History, number: int) -> Decision:
    """The configuration was checked and is good; its copy is kept under `number`."""
    return _launch(replace(history, is_checking=False), number, number)


def refused(history: History, reason: str) -> Decision:
    """The configuration can't be used."""
    return _failed(replace(history, is_checking=False), reason)


def serves(history: History, number: int, now_s: float) -> Decision:
    """All workers of a generation serve."""
    if number != history.incoming:
        return history, ()
    before, was_asked_for = history.current, history.is_asked_for
    good, faults = history.incoming_configuration, 0 if was_asked_for else history.faults
    history = replace(history, current=number, good=good, is_asked_for=False, faults=faults, serves_since_s=now_s)
    told: tuple[Action, ...] = (Tell(),) if was_asked_for else ()
    return _next(_without_incoming(history), (*told, Retire(before)) if before is not None else told)


def overdue(history: History, number: int) -> Decision:
    """A generation does not serve within its time."""
    return history, (Kill(number),) if number == history.incoming else ()


def ended(history: History, number: int, reason: str, now_s: float) -> Decision:
    """A generation is gone."""
    if number == history.incoming:
        history = _without_incoming(history)
        return _failed(history, reason) if history.is_asked_for else _pause(replace(history, faults=history.faults + 1))
    if number != history.current:
        return history, ()
    ran_well = history.serves_since_s is not None and now_s - history.serves_since_s >= STABLE_S
    history = replace(history, current=None, serves_since_s=None, faults=1 if ran_well else history.faults + 1)
    return (history, ()) if history.is_busy else _pause(history)


def rested(history: History) -> Decision:
    """A pause is over."""
    is_wanted = history.current is None and not history.is_busy and history.good is not None
    return _relaunch(history) if is_wanted else (history, ())


def stop_asked(history: History) -> Decision:
    """The service is to end."""
    return replace(history, is_stopping=True), (Stop(),)


def all_gone(history: History) -> Decision:
    """No generation is left."""
    return history, (Exit(EXIT_STOPPED),) if history.is_stopping else ()


def growing_delay_s(faults: int) -> float:
    """The pause before the next try after so many ends in a row: none after the first."""
    return 0.0 if faults <= 1 else min(FIRST_DELAY_S * 2.0 ** min(faults - 2, 16), MAX_DELAY_S)


def _failed(history: History, reason: str) -> Decision:
    """What was asked for came to nothing. Without a generation that ever served, there is nothing to go on with."""
    history = replace(history, is_asked_for=False)
    if history.good is None:
        return history, (Tell(reason), Exit(EXIT_FAILED))
    if history.current is None:
        history, actions = _relaunch(history)
        return history, (Tell(reason), *actions)
    return _next(history, (Tell(reason),))


def _pause(history: History) -> Decision:
    if history.current is not None:
        return _next(history, ())
    delay_s = growing_delay_s(history.faults)
    return (history, (Pause(delay_s),)) if delay_s else _relaunch(history)


def _relaunch(history: History) -> Decision:
    assert history.good is not None
    return _launch(history, history.latest + 1, history.good)


def _launch(history: History, number: int, configuration: int) -> Decision:
    changed = replace(history, latest=number, incoming=number, incoming_configuration=configuration)
    return changed, (Launch(number, configuration),)


def _without_incoming(history: History) -> History:
    return replace(history, incoming=None, incoming_configuration=None)


def _next(history: History, actions: tuple[Action, ...]) -> Decision:
    """Go on with what was asked for meanwhile."""
    if history.again is None:
        return history, actions
    history, more = asked(replace(history, again=None), history.again)
    return history, (*actions, *more)
