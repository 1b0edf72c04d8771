"""Counts in a file that processes share: sums, their end, what gives way, and what happens when the file can't be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from limits.errors import StorageError
from limits.storage import storage_from_string

from compat.accounting import shared_counts
from compat.accounting.shared_counts import WAYS, SharedCounts, shared_counts_url

if sys.platform == "win32":
    pytest.skip("several workers are gunicorn's, which Windows lacks", allow_module_level=True)
else:
    import fcntl

COUNTING = """
import sys
from compat.accounting.shared_counts import SharedCounts
counts = SharedCounts(sys.argv[1])
for _ in range(2000):
    counts.incr("shared", 1000)
"""


class Clock:
    """A clock that is moved. Mutable: its time."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counts(tmp_path: Path, clock: Clock) -> SharedCounts:
    return SharedCounts(shared_counts_url(tmp_path / "a file"), clock=clock)


def test_of_any_number_of_processes_no_count_is_lost(tmp_path: Path) -> None:
    url = shared_counts_url(tmp_path / "counts")
    processes = [subprocess.Popen([sys.executable, "-c", COUNTING, url]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert SharedCounts(url).get("shared") == 6000
    assert (tmp_path / "counts").stat().st_mode & 0o777 == 0o600


def test_a_sum_counts_until_its_end_and_then_begins_again(counts: SharedCounts, clock: Clock) -> None:
    assert [counts.incr("x", 60), counts.incr("x", 5, 4), counts.incr("x", 60, -2)] == [1, 5, 3]
    assert (counts.get("x"), counts.get("y"), counts.get_expiry("x"), counts.get_expiry("y")) == (3, 0, 1060.0, 1000.0)
    clock.now_s = 1060.0
    assert (counts.get("x"), counts.get_expiry("x")) == (0, 1060.0)
    assert counts.incr("x", 60) == 1


def test_sums_can_be_forgotten(counts: SharedCounts) -> None:
    counts.incr("x", 60)
    counts.incr("y", 60)
    counts.clear("x")
    counts.clear("nobody")
    assert (counts.get("x"), counts.get("y")) == (0, 1)
    counts.reset()
    assert counts.get("y") == 0
    assert counts.check()


def test_a_sum_stays_within_what_the_file_can_hold(counts: SharedCounts) -> None:
    assert counts.incr("x", 60, 2**63 - 1) == 2**63 - 1
    assert counts.incr("x", 60, 5) == 2**63 - 1


def test_where_all_slots_are_taken_the_one_whose_time_ends_first_gives_way(counts: SharedCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "BUCKETS", 1)
    for number in range(WAYS):
        counts.incr(f"k{number}", 100 + (number - 3) ** 2)
    assert counts.incr("new", 500) == 1
    assert [counts.get(f"k{number}") for number in range(WAYS)] == [int(number != 3) for number in range(WAYS)]


def test_a_file_that_is_cut_or_holds_anything_is_a_table_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    path.write_bytes(b"no table of ours")
    assert SharedCounts(shared_counts_url(path)).incr("x", 60) == 1


def test_what_the_file_can_not_do_is_an_error_of_the_storage(tmp_path: Path) -> None:
    broken = storage_from_string(shared_counts_url(tmp_path / "no folder" / "counts"), wrap_exceptions=True)
    with pytest.raises(StorageError):
        broken.incr("x", 60)
    assert not broken.check()


def test_a_process_that_stopped_with_the_lock_holds_nobody_up_for_long(counts: SharedCounts, tmp_path: Path) -> None:
    counts.incr("x", 60)
    with (tmp_path / "a file").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            counts.incr("x", 60)
    assert counts.incr("x", 60) == 2
