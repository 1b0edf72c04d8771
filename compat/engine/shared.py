"""One embedded engine for all workers of a machine.

The engine belongs to a keeper, a process of its own (`compat/engine/keeper.py`), which outlives workers and restarts: a reload
does not load the model again, and answers that it is giving go on. Whoever needs the engine and finds no keeper starts one; of several
keepers the one that gets the lock stays. The keeper writes where its engine answers to a file that only this user can read. It ends when
nobody has held the users' lock for a while.

    engine-DIGEST.json     who the keeper is, what the engine does, where it answers and with which key
    engine-DIGEST.lock     held by the keeper
    engine-DIGEST.users    shared by the workers that want it

DIGEST stands for the settings of the engine: workers with other settings have another engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import msgspec

from compat.config.sections import EmbeddedSettings, LogSettings
from compat.engine.base import Endpoint, Engine, EngineStatus, Patience
from compat.engine.child import child_environment
from compat.engine.ladder import engine_of
from compat.engine.presets import Preset
from compat.engine.supervisor import State
from compat.errors import NoUpstream
from compat.service.state import FileLock, Keeper, RunFolder, is_alive, read_json

_POLL_S = 0.1
_RESPAWN_S = 5.0


class KeeperParameters(msgspec.Struct, frozen=True):
    """What a keeper is started with, as one JSON line."""

    settings: EmbeddedSettings
    log: LogSettings
    run_dir: str
    base_dir: str


class EnginePlace:
    """The names of one engine's files."""

    def __init__(self, root: Path, settings: EmbeddedSettings) -> None:
        digest = hashlib.sha256(msgspec.json.encode(settings)).hexdigest()[:8]
        self.file = root / f"engine-{digest}.json"
        self.lock = root / f"engine-{digest}.lock"
        self.users = root / f"engine-{digest}.users"

    def read(self) -> Keeper | None:
        """What the keeper wrote last, if it lives."""
        row = read_json(self.file, Keeper)
        return row if row is not None and is_alive(row.keeper) else None


class SharedEngine(Engine):
    """The engine as a worker uses it. Mutable: whether it is wanted here, and when a keeper was started last."""

    def __init__(
        self,
        settings: EmbeddedSettings,
        on_event: Callable[[str, Mapping[str, object]], None],
        run: RunFolder,
        start_keeper: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.patience = Patience(settings.max_prompt_s)
        self._settings = settings
        self._clock = clock
        self._like = engine_of(settings, on_event)  # never started: for what is known without
        self._stopping = threading.Event()
        self._run_folder = run
        self._place = EnginePlace(run.root, settings)
        self._users = FileLock(self._place.users)
        self._keeper_lock = FileLock(self._place.lock)
        self._start_keeper = start_keeper
        self._is_wanted = False
        self._started_s = -_RESPAWN_S

    @property
    def presets(self) -> Sequence[Preset]:
        """See `Engine`."""
        return self._like.presets

    def start(self) -> None:
        """See `Engine`: see to it that there is a keeper."""
        if not self._settings.enabled or self._stopping.is_set():
            return
        self._is_wanted = True
        with contextlib.suppress(OSError):
            self._run_folder.make()
            self._users.acquire(is_shared=True, waits=True)
            if self._clock() - self._started_s >= _RESPAWN_S and self._keeper_lock.is_free():
                self._started_s = self._clock()
                self._start_keeper()

    def tend(self) -> None:
        """Called once a second: a keeper that was killed is replaced."""
        if self._is_wanted:
            self.start()

    def status(self) -> EngineStatus:
        """See `Engine`."""
        row = self._place.read()
        if row is None:
            state: State = "starting" if self._is_wanted else "stopped"
            detail = "starting its keeper" if self._is_wanted else "not started"
            return replace(self._like.status(), state=state, detail=detail)
        return EngineStatus(**{field.name: getattr(row, field.name) for field in fields(EngineStatus)})

    def endpoint(self, timeout_s: float) -> Endpoint | None:
        """See `Engine`."""
        if not self._settings.enabled:
            return self._like.endpoint(timeout_s)
        deadline_s = self._clock() + timeout_s
        while True:
            self.start()
            row = self._place.read()
            if row is not None and row.base_url:
                return Endpoint(row.base_url, row.api_key, row.answers or row.model, row.prompt_tokens_s)
            if self._stopping.is_set() or (row is not None and row.state == "failed"):
                raise NoUpstream(f"The embedded model can't answer: {row.detail if row else 'stopped'}.")
            left_s = deadline_s - self._clock()
            if left_s <= 0:
                return None
            time.sleep(min(_POLL_S, left_s))

    def fault(self) -> str:
        """See `Engine`."""
        return self._like.fault()

    def stop(self) -> None:
        """This worker needs it no more; the last one that says so ends it."""
        self._stopping.set()
        self._is_wanted = False
        self._users.release()


def keeper_starter(settings: EmbeddedSettings, log: LogSettings, run: RunFolder, base_dir: Path) -> Callable[[], None]:
    """A function that starts a keeper and does not wait for it."""
    parameters = KeeperParameters(settings, log, str(run.root.resolve()), str(base_dir))

    def start() -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "compat.engine.keeper"],
            cwd=Path(__file__).parents[2],
            env=child_environment(os.environ, with_network=True),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None
        with contextlib.suppress(OSError), process.stdin:
            process.stdin.write(msgspec.json.encode(parameters) + b"\n")

    return start
