"""Admission: how an upstream's limit moves, who is next in its queue, and that nobody who left stays in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import pytest
from gevent.event import Event

from compat.config.sections import AdmissionSettings
from compat.errors import ClientGone, GatewayError, NoUpstream, UpstreamFailure, UpstreamOverloaded, UpstreamRateLimit
from compat.routing.admission import AdaptiveLimit, Gate, Gates, MovingMinimum, Ticket, outcome_of
from tests.unit.builders import StillClock

KB = 1024
FAR_S = 1e9


class Setting:
    """A gate over a clock that stands."""

    def __init__(self, **settings: Any) -> None:
        self.clock = StillClock()
        self.gate = Gate("fake", AdmissionSettings(**{"first_limit": 2, **settings}), self.clock.monotonic)

    def enter(self, client: str = "ada", size_bytes: int = KB, is_stream: bool = True, deadline_s: float = FAR_S) -> Ticket:
        return self.gate.enter(client, size_bytes, is_stream, deadline_s)

    def acquire(self, client: str = "ada", is_stream: bool = True) -> Ticket:
        ticket = self.enter(client, is_stream=is_stream)
        while not ticket.wait(60):
            pass
        return ticket

    def fill(self, count: int = 2) -> list[Ticket]:
        tickets = [self.enter("first") for _ in range(count)]
        assert all(ticket.is_admitted for ticket in tickets)
        return tickets

    @property
    def state(self) -> tuple[int, int]:
        report = self.gate.report()
        return report["in_flight"], report["waiting"]


@pytest.fixture
def setting() -> Setting:
    return Setting()


# Slots and places.


def test_calls_within_the_limit_begin_at_once(setting: Setting) -> None:
    assert [ticket.wait(0) for ticket in setting.fill()] == [True, True]
    assert setting.state == (2, 0)


def test_a_call_beyond_the_limit_waits_until_another_ends(setting: Setting) -> None:
    first, _ = setting.fill()
    ticket = setting.enter()
    assert not ticket.wait(0)
    first.release("ok")
    assert ticket.wait(0)
    assert setting.state == (2, 0)


def test_a_ticket_is_given_back_once(setting: Setting) -> None:
    first, second = setting.fill()
    first.release("ok")
    first.release("ok")
    assert setting.state == (1, 0)
    second.release()
    assert setting.state == (0, 0)


def test_a_waiting_ticket_that_is_given_back_leaves_the_queue(setting: Setting) -> None:
    first, _ = setting.fill()
    setting.enter("eve").release()
    assert setting.state == (2, 0)
    first.release()
    assert setting.state == (1, 0)


def test_a_call_waits_until_there_is_room(setting: Setting) -> None:
    first, _ = setting.fill()
    waiting = gevent.spawn(setting.acquire)
    gevent.idle()
    assert setting.state == (2, 1)
    first.release("ok")
    assert waiting.get(timeout=5).is_admitted


def test_gates_are_kept_per_upstream() -> None:
    gates = Gates(AdmissionSettings(first_limit=3), StillClock().monotonic)
    gates.of("one").enter("ada", KB, True, FAR_S)
    assert gates.of("one") is gates.of("one")
    gates.of("two")
    assert gates.report() == {
        "one": {"limit": 3, "in_flight": 1, "waiting": 0},
        "two": {"limit": 3, "in_flight": 0, "waiting": 0},
    }


# Leaving.


@pytest.mark.parametrize("thrown", [gevent.GreenletExit(), ClientGone(), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_whoever_is_thrown_out_of_the_queue_leaves_it_clean(setting: Setting, thrown: BaseException) -> None:
    first, _ = setting.fill()
    caught: list[BaseException] = []

    def call() -> None:
        try:
            setting.enter().wait(60)
        except BaseException as error:  # noqa: BLE001  # what was thrown in is what shall come out
            caught.append(error)

    greenlet = gevent.spawn(call)
    gevent.idle()
    assert setting.state == (2, 1)
    greenlet.kill(thrown)
    assert caught == [thrown]
    assert setting.state == (2, 0)
    first.release("ok")
    assert setting.state == (1, 0)


def test_a_slot_given_to_someone_who_is_thrown_out_before_noticing_is_passed_on(setting: Setting) -> None:
    first, _ = setting.fill()
    leaving = gevent.spawn(setting.acquire)
    gevent.idle()
    staying = setting.enter("eve")
    leaving.kill(ClientGone(), block=False)
    first.release("ok")
    gevent.joinall([leaving])
    assert staying.wait(0)
    assert setting.state == (2, 0)


def test_hundreds_who_leave_at_any_moment_leave_nothing_behind() -> None:
    setting = Setting(first_limit=5, queue_length=500)
    pool = gevent.pool.Group()

    def call(number: int) -> None:
        ticket = setting.acquire(f"client {number % 7}", is_stream=number % 2 == 0)
        try:
            for _ in range(number % 5):
                gevent.sleep(0)
        finally:
            ticket.release("ok")

    greenlets = [pool.spawn(call, number) for number in range(300)]
    for number, greenlet in enumerate(greenlets):
        if number % 3 == 0:
            gevent.sleep(0)
            greenlet.kill(block=False)
    pool.join(timeout=30)
    assert not len(pool)
    assert setting.state == (0, 0)


# Bounds.


def test_a_full_queue_refuses_at_once_and_tells_when_to_come_back() -> None:
    setting = Setting(queue_length=2)
    setting.fill()
    setting.enter("ada")
    setting.enter("ada")
    with pytest.raises(NoUpstream) as caught:
        setting.enter("ada")
    error = caught.value
    assert error.message == "fake has too many calls waiting: 2 calls are running, 2 are in the queue."
    assert (error.status, error.code, error.retry_after_s) == (503, "upstream_busy", 2)
    assert setting.state == (2, 2)


@pytest.mark.parametrize(("held_s", "retry_after_s"), [(0.0, 1), (3.0, 3), (1000.0, 30)])
def test_the_time_to_come_back_follows_how_long_calls_take(held_s: float, retry_after_s: int) -> None:
    setting = Setting(queue_length=1)
    for ticket in setting.fill():
        setting.clock.monotonic_s += held_s
        ticket.release("ok")
    setting.fill()
    setting.enter()
    with pytest.raises(NoUpstream) as caught:
        setting.enter()
    assert caught.value.retry_after_s == retry_after_s


@pytest.mark.parametrize(("deadline_s", "waited_s"), [(FAR_S, 30.0), (105.0, 5.0)])
def test_a_wait_ends_with_the_queues_time_or_the_deadline(setting: Setting, deadline_s: float, waited_s: float) -> None:
    setting.fill()
    ticket = setting.enter(deadline_s=deadline_s)
    setting.clock.monotonic_s += waited_s - 0.1
    assert not ticket.wait(0)
    setting.clock.monotonic_s += 0.1
    with pytest.raises(NoUpstream, match="had no room for this call in time") as caught:
        ticket.wait(60)
    assert caught.value.retry_after_s == 1
    assert setting.state == (2, 0)


def test_a_call_that_was_admitted_in_time_is_not_refused_for_noticing_late(setting: Setting) -> None:
    first, _ = setting.fill()
    ticket = setting.enter()
    first.release("ok")
    setting.clock.monotonic_s += 60
    assert ticket.wait(0)


def test_a_deadline_that_is_over_still_takes_a_free_slot(setting: Setting) -> None:
    assert setting.enter(deadline_s=0.0).wait(0)


@pytest.mark.parametrize(("is_stream", "size_bytes"), [(True, KB), (False, KB)])
def test_in_a_full_queue_the_client_with_the_most_calls_gives_way(is_stream: bool, size_bytes: int) -> None:
    setting = Setting(queue_length=4)
    setting.fill()
    greedy = [setting.enter("greedy", size_bytes, is_stream) for _ in range(4)]
    modest = setting.enter("modest")
    assert setting.state == (2, 4)
    with pytest.raises(NoUpstream, match="too many calls waiting"):
        greedy[3].wait(60)
    assert [ticket.wait(0) for ticket in (*greedy[:3], modest)] == [False] * 4
    setting.enter("modest")
    with pytest.raises(NoUpstream):
        setting.enter("modest")
    assert setting.state == (2, 4)


# Turns.


def serve(setting: Setting, tickets: list[Ticket], running: list[Ticket]) -> list[Ticket]:
    """End one call after the other; the order in which the waiting ones were let in."""
    order: list[Ticket] = []
    running = list(running)
    while running:
        running.pop(0).release("cancelled")
        new = [ticket for ticket in tickets if ticket.is_admitted and ticket not in order]
        order += new
        running += new
    return order


def test_clients_take_turns_however_many_calls_they_have() -> None:
    setting = Setting(first_limit=1)
    running = setting.fill(1)
    tickets = [setting.enter("greedy") for _ in range(20)] + [setting.enter("modest") for _ in range(5)]
    order = serve(setting, tickets, running)
    assert [ticket.client for ticket in order[:10]] == ["greedy", "modest"] * 5
    assert len(order) == 25


def test_a_clients_own_calls_keep_their_order() -> None:
    setting = Setting(first_limit=1)
    running = setting.fill(1)
    tickets = [setting.enter() for _ in range(10)]
    assert serve(setting, tickets, running) == tickets


def test_two_clients_get_near_equal_shares() -> None:
    setting = Setting(first_limit=4, max_limit=4)
    done: Counter[str] = Counter()
    stop = Event()

    def client(name: str) -> None:
        while not stop.is_set():
            ticket = setting.acquire(name)
            try:
                gevent.sleep(0)
                done[name] += 1
                if done.total() >= 2000:
                    stop.set()
            finally:
                ticket.release("ok")

    gevent.joinall([gevent.spawn(client, name) for name in ["many"] * 30 + ["few"] * 5], raise_error=True, timeout=30)
    assert done["few"] == pytest.approx(1000, abs=100)


@pytest.mark.parametrize("bulk", [(KB, False), (500 * KB, True), (500 * KB, False)])
def test_small_streaming_calls_overtake_bulk(bulk: tuple[int, bool]) -> None:
    setting = Setting(first_limit=1)
    running = setting.fill(1)
    bulky = [setting.enter("ada", *bulk) for _ in range(10)]
    small = [setting.enter("ada"), setting.enter("eve"), setting.enter("eve")]
    assert serve(setting, bulky + small, running)[:3] == small


def test_bulk_is_not_kept_waiting_for_ever() -> None:
    setting = Setting(first_limit=1)
    running = setting.fill(1)
    bulky = [setting.enter(size_bytes=500 * KB) for _ in range(3)]
    small = [setting.enter() for _ in range(20)]
    order = serve(setting, bulky + small, running)
    assert [number for number, ticket in enumerate(order) if ticket in bulky] == [4, 9, 14]


# The limit.


class Limit:
    def __init__(self, **settings: Any) -> None:
        self.clock = StillClock()
        self.limit = AdaptiveLimit(AdmissionSettings(**{"slow_factor": 3.0, "min_limit_when_slow": 8, **settings}), self.clock.monotonic)

    def note(self, outcome: Any = "ok", latency_s: float | None = None, *, size_bytes: int = KB, in_flight: int = 0, era: int = -1) -> None:
        self.limit.note(outcome, latency_s, size_bytes, in_flight or self.limit.value, self.limit.era if era < 0 else era)

    def batch(self, latency_s: float, *, in_flight: int = 0, size_bytes: int = KB) -> int:
        for _ in range(8):
            self.note("ok", latency_s, in_flight=in_flight or 20, size_bytes=size_bytes)
        return self.limit.value


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (UpstreamRateLimit("429"), "overloaded"),
        (UpstreamOverloaded("529"), "overloaded"),
        (UpstreamFailure("500"), "failed"),
    ],
)
def test_what_an_error_says_about_the_load(error: GatewayError | None, outcome: str) -> None:
    assert outcome_of(error) == outcome


def test_the_limit_grows_by_one_per_round_of_good_answers() -> None:
    limit = Limit(first_limit=10)
    for expected in (11, 12, 13):
        for _ in range(expected):
            limit.note("ok")
        assert limit.limit.value == expected


def test_the_limit_does_not_grow_while_it_is_not_made_use_of() -> None:
    limit = Limit(first_limit=10)
    for _ in range(100):
        limit.note("ok", in_flight=4)
    assert limit.limit.value == 10


@pytest.mark.parametrize(("settings", "value"), [({"first_limit": 3, "max_limit": 4}, 4), ({"first_limit": 9, "max_limit": 4}, 4)])
def test_the_limit_stays_below_its_bound(settings: dict[str, int], value: int) -> None:
    limit = Limit(**settings)
    for _ in range(100):
        limit.note("ok")
    assert limit.limit.value == value


@pytest.mark.parametrize(("in_flight", "value"), [(100, 70), (30, 21), (1, 1), (500, 70)])
def test_an_overload_shrinks_the_limit_from_what_was_running(in_flight: int, value: int) -> None:
    limit = Limit(first_limit=100)
    limit.note("overloaded", in_flight=in_flight)
    assert limit.limit.value == value


def test_a_round_of_overloads_shrinks_the_limit_once() -> None:
    limit = Limit(first_limit=100)
    for _ in range(50):
        limit.note("overloaded", in_flight=100, era=0)
    assert limit.limit.value == 70
    limit.note("overloaded", in_flight=70, era=1)
    assert limit.limit.value == 49


def test_overloads_that_come_by_lot_leave_room() -> None:
    """One answer of twenty; what runs is as much as is let in."""
    limit = Limit(first_limit=32)
    least = 32
    for number in range(2000):
        limit.note("overloaded" if number % 20 == 10 else "ok")
        least = min(least, limit.limit.value) if number > 200 else least
    assert least >= 20


def test_where_many_answers_are_overloads_the_limit_shrinks_fast_however_well_it_went_before() -> None:
    limit = Limit(first_limit=100, max_limit=100)
    for _ in range(500):
        limit.note("ok")
    for _ in range(4):
        for number in range(20):
            limit.note("overloaded", in_flight=limit.limit.value, era=limit.limit.era if number == 0 else limit.limit.era - 1)
    assert limit.limit.value <= 50


def test_the_limit_never_shrinks_below_its_floor() -> None:
    limit = Limit(first_limit=100, min_limit=3)
    for _ in range(30):
        limit.note("overloaded")
    assert limit.limit.value == 3


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_other_ends_of_a_call_do_not_move_the_limit(outcome: str) -> None:
    limit = Limit(first_limit=2)
    for _ in range(100):
        limit.note(outcome, 5.0)
    assert limit.limit.value == 2


def test_late_answers_shrink_the_limit_by_how_late_they_are() -> None:
    limit = Limit(first_limit=100)
    assert limit.batch(1.0) == 100
    assert limit.batch(2.9) == 100
    assert limit.batch(3.3) == 18
    assert limit.batch(30.0) == 12


def test_one_quick_answer_among_late_ones_shows_that_nobody_stands_in_line() -> None:
    limit = Limit(first_limit=100)
    limit.batch(1.0)
    for latency_s in (50.0, 40.0, 60.0, 45.0, 1.5, 70.0, 60.0, 55.0):
        limit.note("ok", latency_s, in_flight=20)
    assert limit.limit.value == 100


def test_late_answers_alone_leave_some_room() -> None:
    limit = Limit(first_limit=100)
    limit.batch(1.0)
    for _ in range(20):
        limit.batch(50.0)
    assert limit.limit.value == 8


def test_few_calls_are_not_the_cause_of_late_answers() -> None:
    limit = Limit(first_limit=100)
    limit.batch(1.0)
    assert limit.batch(50.0, in_flight=8) == 100


def test_long_requests_are_compared_with_their_like() -> None:
    limit = Limit(first_limit=100)
    limit.batch(0.5)
    assert limit.batch(20.0, size_bytes=800 * KB) == 100
    assert limit.batch(70.0, size_bytes=800 * KB) == 17


def test_answers_without_a_known_beginning_are_not_weighed() -> None:
    limit = Limit(first_limit=100)
    limit.batch(1.0)
    for _ in range(8):
        limit.note("ok", None, in_flight=20)
        limit.note("ok", 50.0, in_flight=20, era=99)
    assert limit.limit.value == 100


def test_answers_that_take_no_time_can_be_compared() -> None:
    limit = Limit(first_limit=100)
    limit.batch(0.0)
    assert limit.batch(0.002) == 100


def test_a_limit_that_shrank_holds_new_calls_back_until_enough_have_ended() -> None:
    setting = Setting(first_limit=10)
    running = setting.fill(10)
    running.pop().release("overloaded")
    assert setting.gate.report() == {"limit": 7, "in_flight": 9, "waiting": 0}
    ticket = setting.enter()
    for _ in range(2):
        running.pop().release("cancelled")
        assert not ticket.is_admitted
    running.pop().release("cancelled")
    assert ticket.is_admitted
    assert setting.state == (7, 0)


# The moving minimum.


@pytest.mark.parametrize(
    ("steps", "least"),
    [
        ([(0, 5)], 5),
        ([(0, 5), (1, 9)], 5),
        ([(0, 5), (99, 9)], 5),
        ([(0, 5), (100, 9)], 5),
        ([(0, 5), (100, 9), (199, 9)], 5),
        ([(0, 5), (100, 9), (200, 9)], 9),
        ([(0, 5), (250, 9)], 9),
        ([(0, 5), (100, 3)], 3),
    ],
)
def test_a_minimum_is_forgotten_after_one_to_two_windows(steps: list[tuple[float, float]], least: float) -> None:
    minimum = MovingMinimum(100.0)
    note: Callable[[float, float], float] = minimum.note
    assert [note(value, at_s) for at_s, value in steps][-1] == least
