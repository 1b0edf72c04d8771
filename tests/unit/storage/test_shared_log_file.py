"""A log file that several processes write."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from compat.storage.shared_log_file import SharedLogFile, last_lines, printable

WRITER = """
import sys
from pathlib import Path
from compat.storage.shared_log_file import SharedLogFile
name, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
log = SharedLogFile(path, 20_000, 50)
sys.stdin.readline()
for number in range(0, count, 2):
    log.write([f"{name} {each} {'x' * 60}\\n".encode() for each in (number, number + 1)])
"""


def open_files() -> int:
    """How many this process has; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


def lines_of(path: Path) -> list[str]:
    files = sorted(path.parent.glob(path.name + "*"))
    return [line for file in files for line in file.read_text().splitlines()]


def test_processes_neither_lose_nor_mix_lines_while_the_file_is_rotated(tmp_path: Path) -> None:
    path, count = tmp_path / "logs" / "x.log", 400
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(path), str(count)], stdin=subprocess.PIPE)
        for name in ("one", "two", "three")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    lines = lines_of(path)
    assert Counter(lines) == Counter(f"{name} {number} {'x' * 60}" for name in ("one", "two", "three") for number in range(count))
    files = list(tmp_path.glob("logs/x.log*"))
    assert len(files) > 4, "it was rotated"
    assert all(file.stat().st_size <= 20_000 for file in files)


def test_the_oldest_goes_when_there_are_enough(tmp_path: Path) -> None:
    log = SharedLogFile(tmp_path / "x.log", 10, 2)
    for number in range(5):
        log.write([b"line %d...\n" % number])
    log.close()
    names = {path.name: path.read_text() for path in tmp_path.glob("x.log*")}
    assert names == {"x.log": "line 4...\n", "x.log.1": "line 3...\n", "x.log.2": "line 2...\n"}


def test_many_lines_at_once_are_shared_out_over_the_files(tmp_path: Path) -> None:
    log = SharedLogFile(tmp_path / "x.log", 30, 9)
    assert log.write([b"line %d...\n" % number for number in range(8)]) == 8
    log.close()
    assert [path.read_text().split("...\n") for path in sorted(tmp_path.glob("x.log*"))] == [
        ["line 6", "line 7", ""],
        ["line 3", "line 4", "line 5", ""],
        ["line 0", "line 1", "line 2", ""],
    ]
    assert log.write([]) == 0


def test_without_backups_a_full_file_begins_anew(tmp_path: Path) -> None:
    log = SharedLogFile(tmp_path / "x.log", 10, 0)
    log.write([b"line 1...\n"])
    log.write([b"line 2...\n"])
    log.close()
    assert lines_of(tmp_path / "x.log") == ["line 2..."]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("backups", [0, 2])
def test_a_link_stays_and_what_it_leads_to_is_rotated(tmp_path: Path, backups: int) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "x.log").symlink_to("disk/y.log")
    log = SharedLogFile(tmp_path / "x.log", 10, backups)
    for number in range(3):
        log.write([b"line %d...\n" % number])
    log.close()
    assert (tmp_path / "x.log").is_symlink()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["x.log"]
    files = [path.read_text() for path in sorted((tmp_path / "disk").iterdir())]
    assert files == [f"line {number}...\n" for number in range(2, 1 - backups, -1)]


def test_a_line_longer_than_the_file_may_be_is_written_all_the_same(tmp_path: Path) -> None:
    log = SharedLogFile(tmp_path / "x.log", 10, 1)
    log.write([b"x" * 100 + b"\n"])
    log.close()
    assert lines_of(tmp_path / "x.log") == ["x" * 100]


def test_a_file_or_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "x.log"
    log = SharedLogFile(path, 1000, 1)
    log.write([b"1\n"])
    path.unlink()
    log.write([b"2\n"])
    assert path.read_text() == "2\n"
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    log.write([b"3\n"])
    assert path.read_text() == "3\n"
    path.replace(path.with_name("moved"))
    log.write([b"4\n"])
    log.close()
    assert path.read_text() == "4\n"


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """The writer is a process whose files may not grow beyond a size; the second write does not fit."""
    path = tmp_path / "x.log"
    code = (
        "import resource, signal, sys, pathlib; from compat.storage.shared_log_file import SharedLogFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "log = SharedLogFile(pathlib.Path(sys.argv[1]), 1000, 1); log.write([b'a' * 59 + b'\\n'])\n"
        "try:\n    log.write([b'b' * 59 + b'\\n'])\nexcept OSError as error:\n    print(error.errno)\n"
        "log.write([b'c' * 19 + b'\\n'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == errno.EFBIG
    assert lines_of(path) == ["a" * 59, "c" * 19]


def test_a_folder_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file is in the way")
    with pytest.raises(OSError):
        SharedLogFile(tmp_path / "logs" / "x.log", 1000, 1).write([b"1\n"])


def test_descriptors_are_not_left_behind(tmp_path: Path) -> None:
    log = SharedLogFile(tmp_path / "x.log", 10, 1)
    log.write([b"1\n"])
    before = open_files()
    for _ in range(20):
        log.write([b"line......\n"])
    after = open_files()
    log.close()
    assert after == before


def test_the_last_lines_are_those_since_a_place_and_safe_for_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"one\ntwo\nthr\x1b[31mee\n\xff\n")
    assert last_lines(path, 2) == ["thr\\x1b[31mee", "\ufffd"]
    assert last_lines(path, 9, since=4) == ["two", "thr\\x1b[31mee", "\ufffd"]
    assert last_lines(path, 1, since=10_000) == ["\ufffd"], "it was rotated since"
    assert last_lines(tmp_path / "none", 3) == []
    assert printable("a\tb\r") == "a\tb\\r"
