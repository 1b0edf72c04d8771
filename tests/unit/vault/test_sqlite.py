"""The file of a vault: who can read it, and how large it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from compat.storage.background import TIDY_S, NativeThread
from compat.vault.buffered import MAX_BATCH_BYTES
from tests.unit.vault.bench import KEPT_S, MIB, Bench, found, turn


def test_a_record_that_is_too_large_is_not_kept(bench: Bench) -> None:
    vault = bench.sqlite(max_bytes=MIB)
    vault.keep("ada", "claude-x", turn("a", size=MIB // 4))
    vault.keep("ada", "claude-x", turn("b", size=MIB // 5))
    assert (found(vault, "a", "b"), vault.dropped) == (["b"], 1)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_only_the_owner_can_read_the_file(bench: Bench, umask: int) -> None:
    before = os.umask(umask)
    try:
        vault = bench.sqlite()
        vault.keep("ada", "claude-x", turn("a"))
        vault.flush()
    finally:
        os.umask(before)
    assert {f"{bench.path.name}{suffix}" for suffix in ("", "-wal", "-shm", ".lock")} == set(modes(bench.path.parent))
    assert set(modes(bench.path.parent).values()) == {0o600}
    assert stat.S_IMODE(bench.path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_can_read_is_made_private(bench: Bench) -> None:
    bench.path.parent.mkdir()
    bench.path.touch(0o644)
    bench.sqlite().flush()
    assert set(modes(bench.path.parent).values()) == {0o600}


def test_the_file_stays_within_its_bound_and_the_oldest_go_first(bench: Bench) -> None:
    vault = bench.sqlite(max_bytes=MIB)
    names = [str(number) for number in range(100)]
    for name in names:
        vault.keep("ada", "claude-x", turn(name, size=30_000))
        bench.clock.now_s += 1
        vault.flush()
        assert vault.size_bytes <= MIB
    kept = found(bench.sqlite(), *names)
    assert kept == names[-len(kept) :]
    assert len(kept) == vault.entries > 20
    assert bench.query("SELECT count(*) FROM calls") == [(len(kept),)]
    assert bench.path.stat().st_size <= MIB + 100_000


def test_a_smaller_bound_makes_the_file_smaller(bench: Bench) -> None:
    vault = bench.sqlite()
    for number in range(100):
        vault.keep("ada", "claude-x", turn(str(number), size=30_000))
    vault.close()
    assert bench.path.stat().st_size > 2 * MIB
    smaller = bench.sqlite(max_bytes=MIB)
    smaller.flush()
    smaller.close()
    assert bench.path.stat().st_size <= MIB


def test_a_bound_below_the_size_of_an_empty_file_keeps_nothing(bench: Bench) -> None:
    vault = bench.sqlite(max_bytes=4096)
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    assert (vault.entries, vault.fault) == (0, "")


def test_what_is_expired_leaves_the_file(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("a", "b"))
    vault.flush()
    assert (vault.entries, vault.size_bytes > 0) == (1, True)
    bench.clock.now_s += KEPT_S - TIDY_S
    vault.flush()
    assert vault.entries == 1
    bench.clock.now_s += TIDY_S
    vault.flush()
    assert vault.entries == 0
    assert bench.query("SELECT * FROM calls") == []


def test_more_than_a_batch_is_written_at_once(bench: Bench) -> None:
    vault = bench.sqlite()
    for name in "abcdef":
        vault.keep("ada", "claude-x", turn(name, size=MAX_BATCH_BYTES // 2))
    vault.flush()
    assert vault.entries == 6


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("body = CAST('x' || body AS BLOB)", ["b"]),
        ("body = x'00'", ["b"]),
        ("body = CAST(x'ff00' AS TEXT)", ["b"]),
        ("body = 5", ["b"]),
        ("used_s = 'x'", ["a", "b"]),
        ("used_s = x'ff'", ["a", "b"]),
    ],
)
def test_a_damaged_record_is_missing_and_its_neighbour_is_not(bench: Bench, change: str, left: list[str]) -> None:
    vault = bench.sqlite()
    for name in "ab":
        vault.keep("ada", "claude-x", turn(name))
    vault.close()
    bench.query(f"UPDATE turns SET {change} WHERE id = 1")
    vault = bench.sqlite()
    assert found(vault, "a", "b") == left
    vault.flush()
    assert bench.events == []


def test_the_background_of_a_file_is_woken_once_however_often_it_is_called() -> None:
    thread = NativeThread()
    for _ in range(3):
        thread.wake()
    thread.wait(60.0)
    thread.wait(0.0)
