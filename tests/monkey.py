"""Loaded first by pytest (`-p tests.monkey`): the tests run as the gateway does, on gevent's sockets, and in several processes."""

import gc
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import monkey

monkey.patch_all()

# Compiled modules are kept, whatever the environment says: else each of the processes compiles all of them, half the cost of a collection.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

WORKER = Path(__file__).with_name("worker.py")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[object]:
    """Collects without the garbage collector, and keeps what was collected from it: all of it stays to the end.

    Else each of its full passes looks at 17,000 tests and their modules, which takes a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish() -> Iterator[None]:
    """Lets descriptors be closed at once when pytest removes the folders of earlier runs.

    gevent leaves that to its event loop, which does not run by then: removing 20,000 folders took as many descriptors.
    """
    os.close = monkey.get_original("os", "close")
    return (yield)


@pytest.hookimpl(optionalhook=True, tryfirst=True)  # before its own answer
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes run the tests: none beside pytest's own for single files.

    Slow tests mostly wait: two processes per core, at least four. The others compute, and each process collects all of them: one more than
    there are cores.
    """
    if any(arg.partition("::")[0].endswith(".py") for arg in config.args):
        return 0
    cores = os.cpu_count() or 1
    return cores + 1 if config.option.markexpr == "not slow" else max(4, 2 * cores)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    for spec in specs:
        spec.python = shlex.join([sys.executable, str(WORKER), f"{spec.id}-worker"])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deals the modules with slow tests to the processes, each of which begins with its own: a long one started last would run alone.

    xdist's `worksteal` gives each process an equal part of the list, and moves tests from the ends of these parts. Slow tests of a module
    stay together, for their fixtures' sake.
    """
    count = getattr(config, "workerinput", {}).get("workercount", 1)
    if count == 1:
        return
    slow: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            slow.setdefault(item.nodeid.partition("::")[0], []).append(item)
    dealt = {item for tests in slow.values() for item in tests}
    rest = [item for item in items if item not in dealt]
    modules = list(slow.values())
    parts = [[item for tests in modules[number::count] for item in tests] for number in range(count)]
    ordered = []
    for number, part in enumerate(parts):
        missing = len(items) * (number + 1) // count - len(ordered) - len(part)
        ordered += part + rest[: max(0, missing)]
        del rest[: max(0, missing)]
    items[:] = ordered + rest
