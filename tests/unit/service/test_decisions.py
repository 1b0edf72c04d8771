"""What the watcher decides, over histories of events: no process, no clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

import compat.service.decisions as do
from compat.service.decisions import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    STABLE_S,
    Action,
    Become,
    Check,
    Decision,
    Exit,
    History,
    Kill,
    Launch,
    Pause,
    Retire,
    Stop,
    Tell,
    decide,
    growing_delay_s,
)


class Event:
    """Something that happens: `function` of the decisions with `facts`; some are told the time."""

    def __init__(self, function: Callable[..., Decision], *facts: object) -> None:
        self.function, self.facts = function, facts

    def at(self, now_s: float) -> Callable[[History], Decision]:
        more = {"now_s": now_s} if self.function in {do.serves, do.ended} else {}
        return lambda history: self.function(history, *self.facts, **more)


Asked, Passed, Refused, Serves = (partial(Event, function) for function in (do.asked, do.passed, do.refused, do.serves))
Ended, Overdue, Rested, StopAsked = (partial(Event, function) for function in (do.ended, do.overdue, do.rested, do.stop_asked))

UP: list[Event] = [Asked("start"), Passed(1), Serves(1)]
"""Generation 1 serves."""


def run(*events: Event | float) -> tuple[History, list[tuple[Action, ...]]]:
    """The history after the events, and the actions of each; a number is the time from then on."""
    history, now_s, taken = History(), 0.0, []
    for event in events:
        if isinstance(event, float):
            now_s = event
            continue
        history, actions = decide(history, do.all_gone if event.function is do.all_gone else event.at(now_s))
        taken.append(actions)
    return history, taken


def last(*events: Event | float) -> tuple[Action, ...]:
    return run(*events)[1][-1]


@pytest.mark.parametrize(
    ("events", "actions"),
    [
        ([Asked("start")], (Check(1),)),
        ([Asked("start"), Passed(1)], (Launch(1, 1),)),
        (UP, (Tell(),)),
        ([Asked("start"), Refused("no key")], (Tell("no key"), Exit(1))),
        ([Asked("start"), Passed(1), Ended(1, "it fell")], (Tell("it fell"), Exit(1))),
        ([Asked("start"), Passed(1), Overdue(1)], (Kill(1),)),
        # A reload: the next one serves before the one before retires.
        ([*UP, Asked("reload")], (Check(2),)),
        ([*UP, Asked("reload"), Passed(2)], (Launch(2, 2),)),
        ([*UP, Asked("reload"), Passed(2), Serves(2)], (Tell(), Retire(1))),
        ([*UP, Asked("reload"), Passed(2), Serves(2), Ended(1, "done")], ()),
        ([*UP, Asked("restart")], (Become(),)),
        # What was asked for fails: the one before goes on.
        ([*UP, Asked("reload"), Refused("no key")], (Tell("no key"),)),
        ([*UP, Asked("reload"), Passed(2), Ended(2, "it fell")], (Tell("it fell"),)),
        # Asked again meanwhile: once more, with the configuration as it is then; a restart counts for more than a reload.
        ([*UP, Asked("reload"), Asked("reload")], ()),
        ([*UP, Asked("reload"), Asked("reload"), Refused("no key")], (Tell("no key"), Check(2))),
        ([*UP, Asked("reload"), Asked("reload"), Passed(2), Serves(2)], (Tell(), Retire(1), Check(3))),
        ([*UP, Asked("reload"), Asked("restart"), Asked("reload"), Passed(2), Serves(2)], (Tell(), Retire(1), Become())),
        # It ends unasked: at once the first time, with the configuration it ran with.
        ([*UP, Ended(1, "killed")], (Launch(2, 1),)),
        ([*UP, Ended(1, "killed"), Serves(2)], ()),
        ([*UP, Ended(1, "killed"), Serves(2), Ended(2, "killed")], (Pause(FIRST_DELAY_S),)),
        ([*UP, Ended(1, "killed"), Ended(2, "killed")], (Pause(FIRST_DELAY_S),)),
        ([*UP, Ended(1, "killed"), Ended(2, "killed"), Rested()], (Launch(3, 1),)),
        ([*UP, Ended(1, "killed"), Serves(2), STABLE_S, Ended(2, "killed")], (Launch(3, 1),)),
        # It ends while a reload is under way: that one takes its place, or if it fails, the configuration that was good.
        ([*UP, Asked("reload"), Ended(1, "killed")], ()),
        ([*UP, Asked("reload"), Passed(2), Ended(1, "killed"), Serves(2)], (Tell(),)),
        ([*UP, Asked("reload"), Ended(1, "killed"), Refused("no key")], (Tell("no key"), Launch(2, 1))),
        ([*UP, Asked("reload"), Passed(2), Ended(1, "killed"), Ended(2, "it fell")], (Tell("it fell"), Launch(3, 1))),
        # A pause is cut short by somebody who asks.
        ([*UP, Ended(1, "killed"), Ended(2, "killed"), Asked("reload"), Rested()], ()),
        # Stopping.
        ([*UP, StopAsked()], (Stop(),)),
        ([*UP, StopAsked(), StopAsked()], ()),
        ([*UP, StopAsked(), Ended(1, "done")], ()),
        ([*UP, StopAsked(), Ended(1, "done"), Event(do.all_gone)], (Exit(0),)),
        ([*UP, Asked("reload"), StopAsked(), Passed(2)], ()),
        # News that came too late.
        ([*UP, Serves(7)], ()),
        ([*UP, Overdue(1)], ()),
        ([*UP, Rested()], ()),
    ],
)
def test_a_history_leads_to_its_action(events: list[Event | float], actions: tuple[Action, ...]) -> None:
    assert last(*events) == actions


def test_pauses_grow_to_their_bound_and_a_good_reload_ends_them() -> None:
    assert [growing_delay_s(faults) for faults in (0, 1, 2, 3, 4, 20)] == [0, 0, FIRST_DELAY_S, 1.0, 2.0, MAX_DELAY_S]
    history, _ = run(*UP, Ended(1, "killed"), Ended(2, "killed"), Asked("reload"), Passed(3), Serves(3))
    assert history.faults == 0
    assert history.good == 3


def test_a_configuration_is_good_once_a_generation_has_served_with_it() -> None:
    history, _ = run(*UP, Asked("reload"), Passed(2), Ended(2, "it fell"))
    assert (history.current, history.good) == (1, 1)
    assert last(*UP, Asked("reload"), Passed(2), Ended(2, "it fell"), Ended(1, "killed")) == (Launch(3, 1),)
