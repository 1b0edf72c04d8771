"""When a deployment's last calls make it one to be left alone."""

from __future__ import annotations

import pytest

from compat.config.sections import CircuitSettings
from compat.routing.outcomes import Outcomes

SETTINGS = CircuitSettings(failures=5, unreachable=3, failure_percent=80.0, min_calls=10, window_s=60.0)


class Book:
    """Outcomes over a clock that is moved by hand."""

    def __init__(self) -> None:
        self.outcomes = Outcomes(SETTINGS)
        self.now_s = 1000.0

    def note(self, history: str) -> None:
        """`s`: a call ends well; `f`: with a fault; `u`: unheard; a digit: so many tens of seconds pass."""
        for event in history:
            if event.isdigit():
                self.now_s += 10 * int(event)
            else:
                self.end(self.outcomes.begin(self.now_s), event)

    def end(self, number: int, event: str) -> None:
        if event == "s":
            self.outcomes.ended_well(number, self.now_s)
        else:
            self.outcomes.ended_badly(number, self.now_s, is_unheard=event == "u")

    @property
    def is_failing(self) -> bool:
        return self.outcomes.is_failing(self.now_s)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.mark.parametrize(
    ("history", "is_failing"),
    [
        ("", False),
        ("ffff", False),
        ("fffff", True),
        ("ffffsffff", False),
        ("uu", False),
        ("uuu", True),
        ("uufuu", True),
        ("uusuu", False),
        ("ffffsffff" + "f", True),
        ("fffsffffsf", True),
        ("fffsfffsff", True),
        ("ffssfffsff", False),
        ("ssssssssss6fffsffffsf", True),
        ("ssssssssss5fffsffffsf", False),
        ("f9f9f9f9f", True),
    ],
)
def test_a_history_is_or_is_not_one_of_failure(book: Book, history: str, is_failing: bool) -> None:
    book.note(history)
    assert book.is_failing is is_failing


@pytest.mark.parametrize(
    ("history", "is_dead"),
    [
        ("fffff", True),
        ("sfffff", False),
        ("sfffffsffff", False),
        ("s" + "f" * 9, False),
        ("s" + "f" * 10, True),
        ("s" * 50 + "f" * 10, True),
    ],
)
def test_dead_is_what_had_no_good_end_for_long(book: Book, history: str, is_dead: bool) -> None:
    book.note(history)
    assert book.outcomes.is_dead is is_dead


def test_quick_faults_say_little_while_slow_answers_are_under_way(book: Book) -> None:
    """Thirty calls leave together, and those that fail end first."""
    numbers = [book.outcomes.begin(book.now_s) for _ in range(30)]
    for number in numbers[:9]:
        book.end(number, "f")
        assert not book.is_failing
    for number in numbers[9:]:
        book.end(number, "s")
    assert not book.is_failing


def test_when_the_others_fail_as_well_it_is_one_of_failure(book: Book) -> None:
    numbers = [book.outcomes.begin(book.now_s) for _ in range(30)]
    for number in numbers[:24]:
        book.end(number, "f")
    assert book.is_failing


def test_a_call_that_is_silent_for_long_speaks_for_nobody(book: Book) -> None:
    silent, shown = (book.outcomes.begin(book.now_s) for _ in range(2))
    book.now_s += 5
    book.note("fffff")
    assert book.is_failing, "both left before the run began"
    for _ in range(4):
        book.outcomes.begin(book.now_s)
    book.note("f")
    assert not book.is_failing
    book.now_s += 11
    assert book.is_failing
    book.outcomes.forget(silent)
    book.outcomes.forget(shown)
    assert book.is_failing


def test_a_call_that_has_shown_content_speaks_well_however_long_it_takes(book: Book) -> None:
    book.note("f")
    for _ in range(3):
        book.outcomes.committed(book.outcomes.begin(book.now_s))
    book.now_s += 600
    book.note("ffff")
    assert not book.is_failing


def test_an_answer_from_before_a_run_does_not_end_it(book: Book) -> None:
    old = book.outcomes.begin(book.now_s)
    book.note("ffff")
    assert not book.outcomes.ended_well(old, book.now_s)
    assert book.outcomes.run == 4
    assert book.outcomes.ended_well(book.outcomes.begin(book.now_s), book.now_s)
    assert book.outcomes.run == 0


def test_what_left_the_window_is_forgotten_down_to_the_least(book: Book) -> None:
    book.note("s" * 30 + "7s")
    assert book.outcomes.calls == 31, "thirty calls of one second are kept or forgotten together: ten are needed"
    book.note("s" * 10)
    assert book.outcomes.calls == 11


def test_books_of_a_day_stay_small(book: Book) -> None:
    for _ in range(5000):
        book.now_s += 17
        book.note("sf")
        assert not book.is_failing
    assert book.outcomes.calls <= SETTINGS.min_calls + 2
    assert len(book.outcomes._seconds) <= SETTINGS.min_calls
    assert not book.outcomes._begun
