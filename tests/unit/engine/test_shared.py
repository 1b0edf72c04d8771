"""The engine that workers share, with a keeper that exists only as its file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.config.sections import EmbeddedSettings
from compat.engine.shared import EnginePlace, SharedEngine
from compat.errors import NoUpstream
from compat.service.state import FileLock, RunFolder, identity_of, write_json

SETTINGS = EmbeddedSettings()


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Setup:
    """An engine, what was started for it, and a keeper on request."""

    def __init__(self, folder: Path, settings: EmbeddedSettings = SETTINGS) -> None:
        self.run = RunFolder(folder)
        self.run.make()
        self.place = EnginePlace(self.run.root, settings)
        self.clock = Clock()
        self.started = 0
        self.lock = FileLock(self.place.lock)
        self.engine = SharedEngine(settings, lambda _name, _fields: None, self.run, self._start, clock=self.clock)

    def _start(self) -> None:
        self.started += 1

    def keep(self, **row: Any) -> None:
        """Be the keeper that tells this."""
        own = identity_of(os.getpid())
        assert own is not None
        told = {
            "state": "starting",
            "detail": "loading the model",
            "model": "m",
            "pid": 7,
            "context_tokens": 8,
            "restarts": 0,
            "base_url": "",
        }
        self.lock.acquire()
        write_json(self.place.file, {"keeper": own, **told, "api_key": "k", **row})


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path / "run")
    yield made
    made.engine.stop()
    made.lock.release()


def test_nobody_starts_a_keeper_unasked(setup: Setup) -> None:
    setup.engine.tend()
    assert (setup.started, setup.engine.status().state) == (0, "stopped")
    assert FileLock(setup.place.users).is_free()


def test_a_keeper_is_started_once_and_again_when_it_is_gone(setup: Setup) -> None:
    setup.engine.start()
    setup.engine.start()
    assert (setup.started, setup.engine.status().state) == (1, "starting")
    setup.keep()
    setup.clock.now_s = 60
    setup.engine.tend()
    assert setup.started == 1, "another one has it"
    assert setup.engine.status().detail == "loading the model"
    setup.lock.release()
    setup.engine.tend()
    assert setup.started == 2
    setup.engine.tend()
    assert setup.started == 2, "it has a moment to begin"


def test_the_endpoint_is_where_the_keeper_says(setup: Setup) -> None:
    assert setup.engine.endpoint(0) is None
    setup.keep()
    assert setup.engine.endpoint(0) is None
    setup.keep(state="ready", base_url="http://127.0.0.1:1")
    found = setup.engine.endpoint(0)
    assert found is not None
    assert (found.base_url, found.api_key, found.model, found.prompt_tokens_s) == ("http://127.0.0.1:1", "k", "m", 0.0)
    setup.keep(state="ready", base_url="http://127.0.0.1:2", answers="big", prompt_tokens_s=70.5, better="huge", better_detail="fetching")
    found = setup.engine.endpoint(0)
    assert found is not None
    assert (found.base_url, found.model, found.prompt_tokens_s) == ("http://127.0.0.1:2", "big", 70.5)
    status = setup.engine.status()
    assert (status.better, status.better_detail) == ("huge", "fetching")


def test_what_can_not_be_had_is_told(setup: Setup) -> None:
    setup.keep(state="failed", detail="the file is bad")
    with pytest.raises(NoUpstream, match="the file is bad"):
        setup.engine.endpoint(10)
    setup.engine.stop()
    setup.place.file.unlink()
    with pytest.raises(NoUpstream, match="stopped"):
        setup.engine.endpoint(10)
    assert setup.started <= 1


def test_a_worker_that_leaves_needs_it_no_more(setup: Setup) -> None:
    setup.engine.start()
    users = FileLock(setup.place.users)
    assert not users.is_free()
    setup.engine.stop()
    assert users.is_free()
    setup.engine.start()
    assert setup.started == 1


def test_other_settings_have_another_engine(tmp_path: Path) -> None:
    names = {EnginePlace(tmp_path, EmbeddedSettings(threads=number)).file.name for number in range(3)}
    assert len(names) == 3


def test_an_engine_that_is_switched_off_is_never_started(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "run", EmbeddedSettings(enabled=False))
    setup.engine.start()
    with pytest.raises(NoUpstream, match="switched off"):
        setup.engine.endpoint(0)
    assert setup.started == 0
