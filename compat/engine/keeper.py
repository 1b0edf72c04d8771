"""The program that keeps the embedded engine for all workers: `python -m compat.engine.keeper`, started by a worker.

It reads its parameters as one JSON line, and ends when another keeper is there already, at SIGTERM, or when no worker has wanted the
engine for `LINGER_S`. See `compat/engine/shared.py` for the files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import msgspec

from compat.engine.base import Engine
from compat.engine.embedded import EmbeddedEngine
from compat.engine.ladder import engine_of
from compat.engine.program import name_process
from compat.engine.shared import EnginePlace, KeeperParameters
from compat.errors import GatewayError
from compat.service.state import FileLock, Keeper, identity_of, write_json
from compat.telemetry.calllog import CallLog

LINGER_S = 15.0
_LOCK_TRIES = 5
_LOCK_S = 0.02
_POLL_S = 0.1


class Silent:
    """Shows no progress: nobody looks at a keeper's terminal; the engine's status has the progress of a fetch."""

    def __init__(self, name: str) -> None: ...
    def update(self, done: int, total: int) -> None: ...
    def close(self) -> None: ...


def main() -> int:
    """Keep the engine until nobody wants it."""
    parameters = msgspec.json.decode(sys.stdin.readline(), type=KeeperParameters)
    place = EnginePlace(Path(parameters.run_dir), parameters.settings)
    lock = FileLock(place.lock)
    if not _acquire(lock):
        return 0
    name_process("openai_compat: engine keeper")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = CallLog(msgspec.structs.replace(parameters.log, terminal=False), Path(parameters.base_dir), time.time)
    log.start()
    engine = engine_of(parameters.settings, log.event, partial(EmbeddedEngine, show_progress=Silent))
    engine.start()
    try:
        _keep(engine, place, stopping)
    finally:
        engine.stop()
        place.file.unlink(missing_ok=True)
        log.close()
        lock.release()
    return 0


def _acquire(lock: FileLock) -> bool:
    """Others look at the lock for a moment, to see whether it is free; that must not end us."""
    for _ in range(_LOCK_TRIES):
        if lock.acquire():
            return True
        time.sleep(_LOCK_S)
    return False


def _keep(engine: Engine, place: EnginePlace, stopping: threading.Event) -> None:
    """Publish the engine's status whenever it changes, until a signal to stop or until nobody needs it."""
    told: Keeper | None = None
    users = FileLock(place.users)
    used_s = time.monotonic()
    while not stopping.is_set() and time.monotonic() - used_s < LINGER_S:
        row = _row(engine)
        if row != told or not place.file.exists():
            with contextlib.suppress(OSError):  # a folder that is gone, a full disk: tried again
                write_json(place.file, row)
                told = row
        if not users.is_free():
            used_s = time.monotonic()
        stopping.wait(_POLL_S)


def _row(engine: Engine) -> Keeper:
    status = engine.status()
    try:
        endpoint = engine.endpoint(0)
    except GatewayError:
        endpoint = None
    row = Keeper(identity_of(os.getpid()), **dataclasses.asdict(status))
    if endpoint is None:
        return row
    where = {"base_url": endpoint.base_url, "api_key": endpoint.api_key, "answers": endpoint.model}
    return msgspec.structs.replace(row, **where, prompt_tokens_s=endpoint.prompt_tokens_s)


if __name__ == "__main__":
    sys.exit(main())
