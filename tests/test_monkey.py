"""How the tests are dealt to the processes of a run, and how a run ends."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.monkey import pytest_collection_modifyitems, pytest_xdist_auto_num_workers


@dataclass(frozen=True)
class Item:
    nodeid: str
    is_slow: bool = field(default=False, compare=False)

    def get_closest_marker(self, _name: str) -> object | None:
        return pytest.mark.slow if self.is_slow else None


def module(name: str, count: int, *, is_slow: bool = False) -> list[Item]:
    return [Item(f"{name}.py::test_{number}", is_slow) for number in range(count)]


COLLECTED = [*module("a", 3, is_slow=True), *module("b", 10), *module("c", 1, is_slow=True), *module("d", 2, is_slow=True), *module("e", 4)]


def dealt(collected: list[Item], workers: int) -> list[Item]:
    items: list[Any] = list(collected)
    config: Any = SimpleNamespace(workerinput={"workercount": workers})
    pytest_collection_modifyitems(config, items)
    return items


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7, 40])
@pytest.mark.parametrize("collected", [COLLECTED, [], module("a", 5, is_slow=True), module("b", 5)], ids=["both", "none", "slow", "quick"])
def test_no_test_is_lost_or_run_twice(collected: list[Item], workers: int) -> None:
    assert sorted(item.nodeid for item in dealt(collected, workers)) == sorted(item.nodeid for item in collected)


def test_each_process_begins_with_slow_tests_of_its_own() -> None:
    items = dealt(COLLECTED, 2)
    assert [item.nodeid for item in (items[0], items[10])] == ["a.py::test_0", "c.py::test_0"]
    assert [item.nodeid for item in items[:5]] == [*(f"a.py::test_{number}" for number in range(3)), "d.py::test_0", "d.py::test_1"]


def test_one_process_keeps_the_order() -> None:
    items: list[Any] = list(COLLECTED)
    pytest_collection_modifyitems(SimpleNamespace(), items)
    assert items == COLLECTED


def processes_for(*named: str, marked: str = "") -> int:
    config: Any = SimpleNamespace(args=named, option=SimpleNamespace(markexpr=marked))
    return pytest_xdist_auto_num_workers(config)


@pytest.mark.parametrize(
    ("named", "is_parallel"), [(["tests"], True), (["tests/unit/wire", "tests/security"], True), (["tests/test_monkey.py::test_a"], False)]
)
def test_single_files_run_in_pytests_own_process(named: list[str], is_parallel: bool) -> None:
    assert (processes_for(*named) >= 4) is is_parallel
    assert is_parallel or processes_for(*named, marked="not slow") == 0


def test_the_short_loop_takes_a_process_more_than_there_are_cores() -> None:
    assert processes_for("tests", marked="not slow") == (os.cpu_count() or 1) + 1
    assert processes_for("tests", marked="not heavy") == processes_for("tests")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes have no such bound there")
def test_folders_of_earlier_runs_are_removed_with_few_files_open(tmp_path: Path) -> None:
    root = tmp_path / f"pytest-of-{getpass.getuser()}"
    for number in range(4):
        (root / f"pytest-{number}").mkdir(parents=True, mode=0o700)
    for number in range(300):
        (root / "pytest-0" / str(number)).mkdir()
    root.chmod(0o700)
    (tmp_path / "test_one.py").write_text("def test_one(tmp_path):\n    assert tmp_path.is_dir()\n")
    bound = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-c", "pyproject.toml", str(tmp_path / "test_one.py")]
    environment = os.environ | {"PYTEST_DEBUG_TEMPROOT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", bound, *command],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (root / "pytest-0").exists()
