"""A file that is damaged, taken away, locked or in the way: the vault goes on with memory, and comes back to it."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat.storage.background import RETRY_S, TIDY_S
from tests.unit.vault.bench import MIB, Bench, found, turn

NOBODY = 65_534


def damage_all(bench: Bench) -> None:
    bench.path.write_bytes(b"this is not a database" * 1000)


def damage_pages(bench: Bench) -> None:
    content = bench.path.read_bytes()
    bench.path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def cut_off(bench: Bench) -> None:
    os.truncate(bench.path, 4096 * 4)


def another_version(bench: Bench) -> None:
    bench.query("PRAGMA user_version = 99")


def another_program(bench: Bench) -> None:
    bench.path.unlink()
    bench.query("CREATE TABLE turns (theirs)")


def without_a_table(bench: Bench) -> None:
    bench.query("DROP TABLE calls")


@pytest.mark.parametrize("asks_first", [True, False], ids=["found by a read", "found by a write"])
@pytest.mark.parametrize("damage", [damage_all, damage_pages, cut_off, another_version, another_program, without_a_table])
def test_a_broken_file_is_set_aside_and_the_vault_goes_on(bench: Bench, damage: Callable[[Bench], None], asks_first: bool) -> None:
    before = bench.sqlite()
    for number in range(30):
        before.keep("ada", "claude-x", turn(str(number), size=8000))
    before.close()
    damage(bench)
    broken = bench.path.read_bytes()
    vault = bench.sqlite()
    if asks_first:
        found(vault, "7")
    vault.keep("ada", "claude-x", turn("new"))
    assert found(vault, "new") == ["new"]
    vault.flush()
    assert vault.fault == ""
    assert bench.events.names == ["vault.failed", "vault.recovered"]
    assert "set aside" in bench.events[0][1]["reason"]
    aside = Path(f"{bench.path}.broken")
    assert aside.read_bytes()[:4096] == broken[:4096]
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o600
    vault.close()
    assert found(bench.sqlite(), "7", "new") == ["new"]


def test_an_empty_file_is_taken_for_a_new_one(bench: Bench) -> None:
    bench.path.parent.mkdir()
    bench.path.touch()
    vault = bench.sqlite()
    assert found(vault, "a") == []
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    assert found(bench.sqlite(), "a") == ["a"]
    assert bench.events == []


def test_a_file_that_breaks_again_at_once_waits_for_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = bench.sqlite()
    bench.path.parent.mkdir()
    damage_all(bench)
    file = vault._file
    real = file._set_aside

    def and_break_again(broken: tuple[int, int]) -> None:
        real(broken)
        damage_all(bench)

    monkeypatch.setattr(file, "_set_aside", and_break_again)
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    assert "not a database" in vault.fault
    monkeypatch.undo()
    vault.flush()
    assert vault.fault
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert (vault.fault, found(bench.sqlite(), "a")) == ("", ["a"])


@pytest.mark.parametrize("seconds", [RETRY_S, -3600.0], ids=["time goes on", "the clock is set back"])
def test_a_path_that_is_no_file_leaves_memory_and_is_tried_again(bench: Bench, seconds: float) -> None:
    bench.path.mkdir(parents=True)
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("a"))
    for _ in range(3):
        vault.flush()
        assert found(vault, "a") == ["a"]
    assert vault.fault == f"{bench.path.name}: is not a file"
    assert bench.events == [("vault.failed", {"reason": vault.fault})]
    bench.path.rmdir()
    bench.clock.now_s += seconds
    vault.flush()
    assert (vault.fault, vault.entries) == ("", 1)
    assert bench.events.names == ["vault.failed", "vault.recovered"]


def test_a_folder_that_is_a_file_is_a_fault_found_by_reading(bench: Bench) -> None:
    bench.path.parent.write_text("in the way")
    vault = bench.sqlite()
    assert found(vault, "a") == []
    assert vault.fault == f"{bench.path.name}: Not a directory"
    bench.path.parent.unlink()
    assert found(vault, "a") == []
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert vault.fault == ""
    assert found(vault, "a") == []


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without the right to write everywhere, should the tests run with it."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that an unprivileged user can reach, and may write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


@pytest.mark.parametrize("has_file", [False, True])
def test_a_read_only_folder_leaves_memory(bench: Bench, open_folder: Path, has_file: bool) -> None:
    path = open_folder / "thinking.sqlite"
    with unprivileged():
        if has_file:
            before = bench.sqlite(path)
            before.keep("ada", "claude-x", turn("old"))
            before.close()
            Path(f"{path}.lock").unlink()
    open_folder.chmod(0o555)
    vault = bench.sqlite(path)
    with unprivileged():
        vault.keep("ada", "claude-x", turn("a"))
        vault.flush()
        assert found(vault, "a") == ["a"]
        assert vault.fault == "thinking.sqlite: Permission denied"
        found(vault, "old")
    open_folder.chmod(0o777)
    bench.clock.now_s += RETRY_S
    with unprivileged():
        vault.flush()
        assert vault.fault == ""
        assert found(bench.sqlite(path), "a") == ["a"]
        assert bench.events.names == ["vault.failed", "vault.recovered"]
        bench.close()


def test_a_full_disk_leaves_memory_and_loses_nothing(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("old"))
    vault.flush()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        for name in "abc":
            vault.keep("ada", "claude-x", turn(name, size=MIB))
        vault.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert vault.fault.startswith(bench.path.name)
    assert found(vault, *"abc", "old") == ["a", "b", "c", "old"]
    assert found(bench.sqlite(), *"abc", "old") == ["old"]
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert found(bench.sqlite(), *"abc", "old") == ["a", "b", "c", "old"]
    assert bench.events.names == ["vault.failed", "vault.recovered"]


def test_a_file_that_another_process_writes_to_is_waited_for_in_the_background_only(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("old"))
    vault.flush()
    with contextlib.closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        vault.keep("ada", "claude-x", turn("a"))
        assert found(bench.sqlite(), "old") == ["old"]
        assert found(vault, "a") == ["a"]
        vault.flush()
        assert "locked" in vault.fault
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert (vault.fault, vault.entries) == ("", 2)


def test_a_file_that_another_process_has_for_itself_is_as_good_as_none_to_a_reader(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("a"))
    vault.close()
    with contextlib.closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        again = bench.sqlite()
        assert (found(again, "a"), again.fault) == ([], "")
    assert found(again, "a") == ["a"]


@pytest.mark.parametrize("loses", [Path.unlink, lambda path: path.rename(f"{path}.moved")], ids=["deleted", "moved"])
def test_a_file_that_is_taken_away_is_made_anew(bench: Bench, loses: Callable[[Path], object]) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    other = bench.sqlite()
    assert found(other, "a") == ["a"]
    loses(bench.path)
    assert found(vault, "a", "b") == ["a"]
    vault.keep("ada", "claude-x", turn("b"))
    vault.flush()
    assert found(other, "a", "b") == ["a", "b"]
    assert bench.events == []


def test_of_two_that_find_the_file_broken_the_second_leaves_the_new_one_alone(bench: Bench) -> None:
    one, two = bench.sqlite(), bench.sqlite()
    for number in range(30):
        one.keep("ada", "claude-x", turn(str(number), size=8000))
    one.flush()
    bench.query("PRAGMA wal_checkpoint(TRUNCATE)")
    one.close()
    damage_pages(bench)
    one = bench.sqlite()
    assert (found(one, "1"), found(two, "1")) == ([], [])
    assert bench.events.names == ["vault.failed"] * 2
    one.keep("ada", "claude-x", turn("new"))
    one.flush()
    two.flush()
    assert (one.fault, two.fault) == ("", "")
    assert found(two, "new") == ["new"]
    two.keep("ada", "claude-x", turn("newer"))
    two.flush()
    assert found(one, "newer") == ["newer"]
    assert bench.query("PRAGMA integrity_check") == [("ok",)]


def test_a_quiet_file_is_looked_at_from_time_to_time(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.flush()
    bench.path.unlink()
    vault.flush()
    assert not bench.path.exists()
    bench.clock.now_s += TIDY_S
    vault.flush()
    assert bench.path.exists()
