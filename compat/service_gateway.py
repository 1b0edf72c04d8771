"""The gateway of one worker among several."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from compat.calls.gateway import Gateway
from compat.cli import exposed_keys
from compat.dot_env import env_warnings
from compat.engine.ladder import settled
from compat.engine.shared import SharedEngine, keeper_starter
from compat.factory import build_gateway, start_background
from compat.service.configuration import find_sources, read_configuration
from compat.service.state import FileLock, RunFolder, run_folder


def start_gateway(base_dir: Path) -> Gateway:
    """A gateway that shares its embedded engine with the other workers, its background begun. Raises `SettingsError`.

    Under the watcher no line goes to the terminal, which is a file: the call log has them all.
    """
    is_watched = bool(os.environ.get("OPENAI_COMPAT_LISTEN_FD"))
    settings, environment = read_configuration(base_dir, {"log": {"terminal": False}} if is_watched else {})
    gateway = build_gateway(settings, environment, base_dir)
    gateway.doctor.may_tell = teller(run_folder(base_dir, os.environ))
    if gateway.engine is not None:
        run = run_folder(base_dir, os.environ)
        embedded = settled(settings.embedded, environment)
        start_keeper = keeper_starter(embedded, settings.log, run, base_dir)
        gateway = dataclasses.replace(gateway, engine=SharedEngine(embedded, gateway.log.event, run, start_keeper))
    start_background(gateway)
    written = base_dir / ".env" if is_watched else None  # it reads a copy
    for warning in env_warnings(find_sources(base_dir), written):
        gateway.log.write("env.ignored", {"detail": warning}, "warning")
    for warning in exposed_keys(gateway, base_dir, environment):
        gateway.log.write("keys.exposed", {"detail": warning}, "warning")
    return gateway


def teller(run: RunFolder) -> Callable[[], bool]:
    """Whether this worker is the one that reports what concerns them all: it holds a lock while it lives.

    Where the lock can't be had for anybody, each of them is.
    """
    lock = FileLock(run.root / "doctor.lock")

    def may_tell() -> bool:
        try:
            return lock.acquire()
        except OSError:
            return True

    return may_tell
