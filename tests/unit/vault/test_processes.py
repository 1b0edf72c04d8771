"""Several processes with a vault on one file."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

import compat
from tests.unit.upstream.proxy import wait_until
from tests.unit.vault.bench import Bench, found, turn

PROGRAM = """
import sys, time
from gevent import monkey
monkey.patch_all()
from pathlib import Path
from compat.protocols.base import ThinkingRecord
from compat.vault.sqlite import SqliteVault
vault = SqliteVault(Path(sys.argv[1]), max_bytes=2**26, ttl_s=86_400.0, clock=lambda: 1_700_000_000.0)
vault.start()
for line in sys.stdin:
    verb, name = line.split()
    if verb == "keep":
        vault.keep("ada", "claude-x", ThinkingRecord((name,), ({"type": "thinking", "thinking": name * 1000},)))
        print("kept", flush=True)
    else:
        print(len(vault.find("ada", "claude-x", [name])), flush=True)
vault.close()
"""


class Worker:
    """Another process with a vault on the same file."""

    def __init__(self, path: Path) -> None:
        root = Path(compat.__file__).parent.parent
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, verb: str, name: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{verb} {name}\n")
        self.process.stdin.flush()
        return cast("str", self.process.stdout.readline().strip())

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.leave()

    def leave(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


@pytest.fixture
def start_worker(bench: Bench) -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(bench.path))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.returncode is None:
            worker.end()


@pytest.mark.slow
def test_processes_find_what_others_have_kept(bench: Bench, start_worker: Callable[[], Worker]) -> None:
    workers = [start_worker(), start_worker()]
    vault = bench.sqlite(busy_s=30.0)
    for number in range(20):
        for worker, name in zip(workers, "xy", strict=True):
            assert worker.ask("keep", f"{name}{number}") == "kept"
        vault.keep("ada", "claude-x", turn(f"z{number}"))
        vault.flush()
    names = [f"{name}{number}" for name in "xyz" for number in range(20)]
    wait_until(lambda: found(vault, *names) == names)
    assert [worker.ask("find", name) for worker, name in zip(workers, ("y3", "x3"), strict=True)] == ["1", "1"]
    assert [worker.ask("find", "z19") for worker in workers] == ["1", "1"]
    assert [worker.leave() for worker in workers] == [0, 0]
    assert vault.fault == ""
    assert bench.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
def test_a_killed_process_loses_only_what_it_kept_last(bench: Bench, start_worker: Callable[[], Worker]) -> None:
    worker = start_worker()
    names = [f"n{number}" for number in range(50)]
    for name in names:
        worker.ask("keep", name)
    vault = bench.sqlite(busy_s=30.0)
    wait_until(lambda: found(vault, *names) == names)
    for number in range(50):
        worker.ask("keep", f"late{number}")
    assert worker.end() == -signal.SIGKILL
    after = bench.sqlite()
    after.keep("ada", "claude-x", turn("a"))
    after.flush()
    assert found(after, *names, "a") == [*names, "a"]
    assert (after.fault, bench.events) == ("", [])
    assert bench.query("PRAGMA integrity_check") == [("ok",)]
