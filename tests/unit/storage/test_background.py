"""What is written beside the calls: one batch after the other, and rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from compat.storage.background import BackgroundWriter, StoreFailed


class Never:
    """A background that does nothing by itself."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def start(self, run: Callable[[], None]) -> None:
        raise AssertionError("not in these tests")

    def wake(self) -> None:
        pass

    def wait(self, timeout_s: float) -> None:
        raise AssertionError("not in these tests")


class Letters(BackgroundWriter[str]):
    """Keeps its batches; `meanwhile` comes to the queue while each of the first ones is written, which `fails` can prevent."""

    def __init__(self, max_batch: int, meanwhile: Sequence[str] = ()) -> None:
        self.batches: list[list[str]] = []
        self.meanwhile = list(meanwhile)
        self.fails = False
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        note = lambda name, fields: self.events.append((name, fields))  # noqa: E731  # what the writer is given
        super().__init__("letters", Never(), clock=lambda: 1000.0, on_event=note, max_queued=100, max_batch=max_batch)  # a fake background

    def add(self, *items: str) -> None:
        with self._lock:
            for item in items:
                self._enqueue(item)

    def _write(self, batch: Sequence[str], now_s: float, *, tidies: bool) -> None:
        if self.fails:
            raise StoreFailed("full")
        if self.meanwhile:
            self.add(self.meanwhile.pop(0))
        if batch:
            self.batches.append(list(batch))

    def _close_store(self) -> None:
        pass


@pytest.mark.parametrize(
    ("max_batch", "batches"), [(1, [["a"], ["b"], ["c"]]), (2, [["a", "b"], ["c"]]), (3, [["a", "b", "c"]]), (9, [["a", "b", "c"]])]
)
def test_all_that_is_queued_is_written(max_batch: int, batches: list[list[str]]) -> None:
    letters = Letters(max_batch)
    letters.add("a", "b", "c")
    letters.flush()
    assert (letters.batches, letters.queued) == (batches, 0)


def test_what_comes_while_the_last_batch_is_written_waits_for_the_next_time() -> None:
    letters = Letters(2, meanwhile=["late", "later"])
    letters.add("a")
    letters.flush()
    assert (letters.batches, letters.queued) == ([["a"]], 1)
    letters.flush()
    assert (letters.batches, letters.queued) == ([["a"], ["late"]], 1)


def test_what_could_not_be_written_keeps_its_place() -> None:
    letters = Letters(9)
    letters.add("a", "b")
    letters.fails = True
    letters.flush()
    assert (letters.batches, letters.queued, letters.fault) == ([], 2, "full")
    letters.fails = False
    letters.add("c")
    letters.close()
    assert letters.batches == [["a", "b", "c"]]
    assert [name for name, _ in letters.events] == ["letters.failed", "letters.recovered"]


def test_nothing_is_left_behind_where_it_is_closed() -> None:
    letters = Letters(2, meanwhile=["late", "later"])
    letters.add("a")
    letters.close()
    assert (letters.batches, letters.queued) == ([["a"], ["late"], ["later"]], 0)
    letters.add("too late")
    letters.close()
    assert letters.queued == 1
