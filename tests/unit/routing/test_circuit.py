"""Circuits: what opens them, what closes them, who may probe, and why pybreaker only keeps the books."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gevent
import pybreaker
import pytest

from compat.config.sections import CircuitSettings
from compat.errors import (
    BadRequest,
    GatewayError,
    NoUpstream,
    UpstreamBroken,
    UpstreamFailure,
    UpstreamKeyRefused,
    UpstreamOverloaded,
    UpstreamRateLimit,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from compat.routing.circuit import Circuit, CircuitChange, CircuitKey, Circuits, Permit, fingerprint_of
from tests.unit.builders import StillClock

KEY = CircuitKey("ada", fingerprint_of("sk-canary-0123456789"), "big")
SETTINGS = CircuitSettings(failures=3, cooldown_s=15.0)
FAULT = UpstreamFailure("ada: it is on fire.")


class Setting:
    """Circuits over a clock that stands, and what was heard of them."""

    def __init__(self, settings: CircuitSettings = SETTINGS, **more: Any) -> None:
        self.clock = StillClock()
        self.changes: list[CircuitChange] = []
        self.circuits = Circuits(settings, self.clock, self.changes.append, **more)
        self.circuit: Circuit = self.circuits.of(KEY)

    def pass_s(self, seconds: float) -> None:
        self.clock.monotonic_s += seconds
        self.clock.now_s += seconds

    def fail(self, times: int, error: GatewayError = FAULT) -> None:
        for _ in range(times):
            self.circuit.admit().failed(error)

    def open(self) -> None:
        self.fail(3)
        assert self.circuit.state == "open"

    def probe(self) -> Permit:
        """A circuit that opened and whose cooldown is over: the probe's permit."""
        self.open()
        self.pass_s(15)
        return self.circuit.admit()

    def refusal(self) -> NoUpstream:
        assert not self.circuit.is_admitting
        with pytest.raises(NoUpstream) as caught:
            self.circuit.admit()
        return caught.value


@pytest.fixture
def setting() -> Setting:
    return Setting()


# Histories: a letter per event, and the state at the end.


def run_history(setting: Setting, history: str) -> None:
    """`s`, `f`, `r`: a call that succeeds, fails, is released; `w`: the cooldown passes; `x`: a call is refused."""
    for event in history:
        if event == "w":
            setting.pass_s(15)
        elif event == "x":
            setting.refusal()
        else:
            permit = setting.circuit.admit()
            if event == "s":
                permit.succeeded()
            elif event == "f":
                permit.failed(FAULT)
            permit.release()


@pytest.mark.parametrize(
    ("history", "state"),
    [
        ("", "closed"),
        ("ff", "closed"),
        ("fff", "open"),
        ("ffsff", "closed"),
        ("ffsfff", "open"),
        ("ffrf", "open"),
        ("rrrrr", "closed"),
        ("fffxx", "open"),
        ("fffw", "open"),
        ("fffws", "closed"),
        ("fffwsff", "closed"),
        ("fffwsfff", "open"),
        ("fffwf", "open"),
        ("fffwfx", "open"),
        ("fffwfwfwfws", "closed"),
        ("fffwr", "half-open"),
        ("fffwrs", "closed"),
        ("fffwrf", "open"),
    ],
)
def test_a_history_ends_in_its_state(setting: Setting, history: str, state: str) -> None:
    run_history(setting, history)
    assert setting.circuit.state == state


@pytest.mark.parametrize(("history", "state"), [("fffws", "half-open"), ("fffwss", "closed"), ("fffwsf", "open"), ("fffwsfwss", "closed")])
def test_more_than_one_success_can_be_asked_for(history: str, state: str) -> None:
    setting = Setting(CircuitSettings(failures=3, successes=2))
    run_history(setting, history)
    assert setting.circuit.state == state


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UpstreamFailure("500"), "open"),
        (UpstreamOverloaded("529"), "open"),
        (UpstreamUnreachable("refused"), "open"),
        (UpstreamTimeout("stalled"), "open"),
        (UpstreamBroken("cut"), "open"),
        (UpstreamRateLimit("429"), "closed"),
        (UpstreamKeyRefused("401"), "closed"),
        (BadRequest("400"), "closed"),
    ],
)
def test_only_faults_of_the_upstream_count(setting: Setting, error: GatewayError, state: str) -> None:
    setting.fail(3, error)
    assert setting.circuit.state == state


# Refusals.


def test_an_open_circuit_names_the_upstream_the_cause_and_the_next_probe(setting: Setting) -> None:
    setting.open()
    setting.pass_s(2.5)
    error = setting.refusal()
    assert error.message == (
        "The circuit of ada for big is open: 3 faults in a row; the last one: ada: it is on fire. The next probe is in 13 s."
    )
    assert (error.status, error.code, error.retry_after_s) == (503, "circuit_open", 13)


def test_a_client_is_never_told_to_wait_longer_than_thirty_seconds() -> None:
    setting = Setting(CircuitSettings(failures=3, cooldown_s=300))
    setting.open()
    assert setting.refusal().retry_after_s == 30


def test_while_the_probe_is_under_way_others_are_refused_shortly(setting: Setting) -> None:
    setting.probe()
    error = setting.refusal()
    assert error.message.endswith("A probe is under way.")
    assert error.retry_after_s == 2


def test_an_open_circuit_answers_in_under_five_milliseconds(setting: Setting) -> None:
    setting.open()
    times = []
    for _ in range(20):
        start_s = time.perf_counter()
        setting.refusal()
        times.append(time.perf_counter() - start_s)
    assert sorted(times)[10] < 0.005


# The probe.


def test_exactly_one_of_many_calls_probes(setting: Setting) -> None:
    setting.open()
    setting.pass_s(15)
    admitted, refused = [], []

    def call() -> None:
        try:
            permit = setting.circuit.admit()
        except NoUpstream as error:
            refused.append(error)
            return
        admitted.append(permit)
        gevent.sleep(0)
        permit.succeeded()

    gevent.joinall([gevent.spawn(call) for _ in range(10)], raise_error=True)
    assert (len(admitted), len(refused)) == (1, 9)
    assert setting.circuit.state == "closed"


def test_a_probe_whose_client_left_makes_way_for_another(setting: Setting) -> None:
    first = setting.probe()
    first.release()
    second = setting.circuit.admit()
    first.succeeded()
    assert setting.circuit.state == "half-open"
    second.succeeded()
    assert setting.circuit.state == "closed"


def test_a_probe_that_fails_begins_another_cooldown(setting: Setting) -> None:
    setting.probe().failed(UpstreamTimeout("ada was silent."))
    assert setting.refusal().message.endswith("4 faults in a row; the last one: ada was silent. The next probe is in 15 s.")
    setting.pass_s(15)
    assert setting.circuit.is_admitting


def test_a_probe_closes_the_circuit_with_its_first_content_and_counts_as_any_call_afterwards(setting: Setting) -> None:
    probe = setting.probe()
    probe.committed()
    assert setting.circuit.state == "closed"
    setting.circuit.admit().succeeded()
    probe.failed(FAULT)
    assert (setting.circuit.state, setting.circuit.failures) == ("closed", 1)


def test_a_probe_counts_once_where_more_than_one_success_is_asked_for() -> None:
    setting = Setting(CircuitSettings(failures=3, successes=2))
    probe = setting.probe()
    probe.committed()
    probe.succeeded()
    assert setting.circuit.state == "half-open"
    setting.circuit.admit().committed()
    assert setting.circuit.state == "closed"


def test_the_first_content_of_an_ordinary_call_says_nothing_yet(setting: Setting) -> None:
    for _ in range(3):
        permit = setting.circuit.admit()
        permit.committed()
        permit.failed(UpstreamBroken("cut"))
    assert setting.circuit.state == "open"


# Ailing: open, though not every call fails.


@pytest.fixture
def ailing() -> Setting:
    """A circuit that opened after one good call and nine faults."""
    setting = Setting(CircuitSettings(failures=20, unreachable=20, min_calls=10))
    setting.circuit.admit().succeeded()
    setting.fail(9)
    assert setting.circuit.state == "open"
    return setting


def test_an_ailing_circuit_refuses_and_lets_through_who_has_nobody_else(ailing: Setting) -> None:
    assert ailing.refusal().message.startswith("The circuit of ada for big is open: 9 of 10 calls failed; the last one")
    assert ailing.circuit.is_ailing
    ailing.circuit.admit(despite=True).succeeded()
    assert ailing.circuit.state == "open", "the probe's word closes it"


def test_a_dead_circuit_lets_nobody_through(setting: Setting) -> None:
    setting.open()
    assert not setting.circuit.is_ailing
    with pytest.raises(NoUpstream):
        setting.circuit.admit(despite=True)


def test_an_ailing_circuit_that_has_no_good_end_any_more_is_dead(ailing: Setting) -> None:
    ailing.circuit.admit(despite=True).failed(FAULT)
    assert not ailing.circuit.is_ailing
    assert ailing.refusal().message.startswith("The circuit of ada for big is open: 10 faults in a row")


def test_while_an_ailing_one_is_probed_others_are_let_through_if_need_be(ailing: Setting) -> None:
    ailing.pass_s(15)
    assert not ailing.circuit.is_ailing, "its next call is the probe"
    probe = ailing.circuit.admit(despite=True)
    assert ailing.circuit.state == "half-open"
    ailing.circuit.admit(despite=True).failed(FAULT)
    assert ailing.circuit.state == "half-open", "only the probe's word counts"
    probe.succeeded()
    assert ailing.circuit.state == "closed"


def test_after_it_closed_the_count_begins_anew(ailing: Setting) -> None:
    ailing.pass_s(15)
    ailing.circuit.admit().succeeded()
    ailing.fail(9)
    assert ailing.circuit.state == "closed"
    ailing.fail(1)
    assert ailing.circuit.state == "open"


# Late words.


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_call_from_before_the_opening_is_not_heard_while_the_circuit_is_half_open(setting: Setting, ends_well: bool) -> None:
    late = setting.circuit.admit()
    probe = setting.probe()
    late.succeeded() if ends_well else late.failed(FAULT)
    assert setting.circuit.state == "half-open"
    setting.refusal()
    probe.succeeded()
    assert setting.circuit.state == "closed"


def test_calls_that_failed_late_do_not_open_a_circuit_that_closed_since(setting: Setting) -> None:
    late = [setting.circuit.admit() for _ in range(5)]
    setting.probe().succeeded()
    for permit in late:
        permit.failed(FAULT)
    assert (setting.circuit.state, setting.circuit.failures) == ("closed", 0)


def test_calls_that_fail_together_open_the_circuit_once(setting: Setting) -> None:
    for permit in [setting.circuit.admit() for _ in range(20)]:
        permit.failed(FAULT)
    assert [change.state for change in setting.changes] == ["open"]
    assert setting.circuit.failures == 16, "as long as those that are under way may do better, three in a row say little"


def test_only_the_first_word_of_a_permit_counts(setting: Setting) -> None:
    permit = setting.circuit.admit()
    permit.failed(FAULT)
    permit.failed(FAULT)
    permit.succeeded()
    permit.release()
    assert setting.circuit.failures == 1


# Clocks.


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_putting_the_wall_clock_right_does_not_change_the_cooldown(setting: Setting, jump_s: float) -> None:
    setting.open()
    setting.clock.now_s += jump_s
    setting.clock.monotonic_s += 14
    assert setting.refusal().retry_after_s == 1
    setting.clock.monotonic_s += 1
    assert setting.circuit.is_admitting


def test_a_wall_clock_that_stands_still_does_not_hide_an_opening(setting: Setting) -> None:
    setting.open()
    setting.clock.monotonic_s += 15
    setting.circuit.admit().failed(FAULT)
    assert setting.refusal().retry_after_s == 15


@pytest.mark.parametrize("opened_ago_s", [-3600, 0, 3600])
def test_an_opening_at_an_unlikely_time_is_bounded_by_the_cooldown(opened_ago_s: float) -> None:
    setting = Setting()
    setting.circuits.hear(CircuitChange(KEY, "open", 3, "dead", is_dead=True), setting.clock.now_s - opened_ago_s)
    if opened_ago_s > 0:
        assert setting.circuit.is_admitting
    else:
        assert setting.refusal().retry_after_s == 15


# Keys, reports, bounds.


def test_a_circuit_is_for_an_upstream_a_credential_and_a_model(setting: Setting) -> None:
    setting.open()
    others = [
        CircuitKey("eve", KEY.credential, "big"),
        CircuitKey("ada", fingerprint_of("another"), "big"),
        CircuitKey("ada", KEY.credential, "small"),
    ]
    assert all(setting.circuits.of(key).is_admitting for key in others)
    assert setting.circuits.of(KEY) is setting.circuit


def test_a_key_is_shown_by_four_digits_of_its_fingerprint() -> None:
    assert str(KEY) == f"ada/big (key {KEY.credential[:4]})"
    assert str(CircuitKey("ada", fingerprint_of(""), "big")) == "ada/big"
    assert "canary" not in repr(KEY)


def test_every_change_is_told_once(setting: Setting) -> None:
    setting.probe().succeeded()
    assert setting.changes == [
        CircuitChange(KEY, "open", 3, "ada: it is on fire.", is_dead=True),
        CircuitChange(KEY, "half-open", 3, "ada: it is on fire.", is_dead=True),
        CircuitChange(KEY, "closed", 0, "ada: it is on fire."),
    ]


def test_the_report_tells_of_circuits_that_are_not_simply_closed(setting: Setting) -> None:
    setting.circuits.of(CircuitKey("eve", "", "big")).admit().succeeded()
    assert setting.circuits.report() == []
    setting.fail(1)
    row = {"upstream": "ada", "model": "big", "key": KEY.credential[:4], "state": "closed", "failures": 1, "cause": "ada: it is on fire."}
    assert setting.circuits.report() == [row]
    setting.fail(2)
    setting.pass_s(5)
    assert setting.circuits.report() == [{**row, "state": "open", "failures": 3, "next_probe_s": 10.0}]
    setting.pass_s(50)
    assert setting.circuits.report() == [{**row, "state": "open", "failures": 3, "next_probe_s": 0.0}]


def test_a_long_cause_is_cut(setting: Setting) -> None:
    setting.fail(3, UpstreamFailure("x" * 10_000))
    assert len(setting.refusal().message) < 1000


def test_the_least_used_closed_circuit_is_forgotten_beyond_the_bound() -> None:
    setting = Setting(CircuitSettings(failures=3, max_circuits=3))
    setting.open()
    second, third, fourth = (CircuitKey("ada", "", model) for model in ("2", "3", "4"))
    circuits = {key: setting.circuits.of(key) for key in (second, third)}
    setting.circuits.of(second)
    setting.circuits.of(fourth)
    assert setting.circuits.of(KEY) is setting.circuit
    assert setting.circuits.of(second) is circuits[second]
    assert setting.circuits.of(third) is not circuits[third]


def test_where_all_are_open_the_least_used_one_is_forgotten() -> None:
    setting = Setting(CircuitSettings(failures=3, max_circuits=1))
    setting.open()
    setting.circuits.of(CircuitKey("eve", "", "big"))
    assert setting.circuits.of(KEY).is_admitting


# pybreaker's traps: the reasons why no call runs inside it. When one of these fails, a release has changed; read `circuit.py` again.


def test_pybreakers_call_makes_calls_stand_in_line() -> None:
    breaker = pybreaker.CircuitBreaker()
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        gevent.sleep(0)
        running -= 1

    gevent.joinall([gevent.spawn(breaker.call, work) for _ in range(5)], raise_error=True)
    assert most == 1


def test_pybreakers_calling_lets_every_probe_in() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=0)
    breaker.open()
    breaker.half_open()
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with breaker.calling():
            inside += 1
            most = max(most, inside)
            gevent.sleep(0)
            inside -= 1

    gevent.joinall([gevent.spawn(work) for _ in range(10)], raise_error=True)
    assert most == 10


def test_pybreaker_counts_a_hang_up_as_a_failure() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=3, throw_new_error_on_trip=False)

    def frames() -> Iterator[bytes]:
        yield b"one"
        yield b"two"

    for _ in range(3):
        stream = breaker.call(frames)
        next(stream)
        stream.close()
    assert breaker.current_state == "open"


def test_here_calls_run_side_by_side_and_a_hang_up_is_no_failure(setting: Setting) -> None:
    running, most = 0, 0

    def frames() -> Iterator[bytes]:
        permit = setting.circuit.admit()
        try:
            yield b"one"
            permit.succeeded()
        finally:
            permit.release()

    def work() -> None:
        nonlocal running, most
        stream = frames()
        next(stream)
        running += 1
        most = max(most, running)
        gevent.sleep(0)
        running -= 1
        stream.close()

    gevent.joinall([gevent.spawn(work) for _ in range(5)], raise_error=True)
    assert (most, setting.circuit.failures, setting.circuit.state) == (5, 0, "closed")
