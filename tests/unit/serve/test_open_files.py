"""Open files: what there is room for, and what is said of it."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from compat.check import files_text
from compat.serve.open_files import connection_bound

BOUNDS = [(10_000, 65_536, 10_000), (10_000, 1024, 448), (10_000, 100, 1), (5, 1024, 5), (10_000, 0, 10_000)]


@pytest.mark.parametrize(("wanted", "files", "room"), BOUNDS)
def test_there_is_room_for_as_many_connections_as_two_sockets_each_allow(wanted: int, files: int, room: int) -> None:
    assert connection_bound(wanted, lambda: files) == room


@pytest.mark.parametrize(
    ("soft", "hard", "words"),
    [
        (0, 0, "no limit on open files"),
        (65_536, 1_048_576, "65536 open files: room for 10000 connections at once"),
        (1024, 1_048_576, "65536 open files (raised from 1024 at the start): room for 10000 connections at once"),
        (1024, 0, "65536 open files (raised from 1024 at the start): room for 10000 connections at once"),
        (
            1024,
            1024,
            "1024 open files: room for 448 connections at once; for server.max_connections = 10000 raise the hard limit to 20128",
        ),
    ],
    ids=["no bound", "enough", "raised", "raised without end", "too few"],
)
def test_the_check_says_how_many_and_what_to_do(soft: int, hard: int, words: str) -> None:
    assert files_text(10_000, soft, hard).startswith(words)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    program = (
        "import resource; from compat.serve.open_files import raise_file_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); raise_file_limit(); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 300, "this test itself needs files"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "(300, 300)\n"
