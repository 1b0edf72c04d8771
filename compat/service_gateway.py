"""The gateway of one worker among several."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from compat.accounting.shared_counts import SharedCounts, shared_counts_url
from compat.calls.gateway import Gateway
from compat.check import exposed_keys
from compat.config.sections import EmbeddedSettings
from compat.config.settings import Settings
from compat.dot_env import env_warnings
from compat.engine.base import Engine
from compat.engine.shared import SharedEngine, keeper_starter
from compat.factory import build_gateway
from compat.follow import Live, Place
from compat.service.configuration import find_sources, read_configuration
from compat.service.launch import outer_environment
from compat.service.state import FileLock, RunFolder, run_folder
from compat.telemetry.calllog import CallLog

COUNTS = "limits-1.counts"
"""In the run folder; a table of another shape has another number."""


def start_gateway(base_dir: Path) -> Live:
    """A gateway that shares its embedded engine with the other workers, its background begun. Raises `SettingsError`."""
    run = run_folder(base_dir, os.environ)
    counts_file = counts_file_in(run)
    place = place_of(base_dir)

    def build(settings: Settings, environment: Mapping[str, str], before: Gateway | None = None) -> Gateway:
        def make_engine(embedded: EmbeddedSettings, log: CallLog) -> Engine:
            return SharedEngine(embedded, log.event, run, keeper_starter(embedded, settings.log, run, base_dir))

        return build_gateway(settings, environment, base_dir, make_engine=make_engine, counts_file=counts_file, before=before)

    settings, environment = read_configuration(base_dir, place.overrides)
    if place.copies:
        settings = msgspec.structs.replace(settings, source=str(place.config_file() or Settings().source))
    gateway = build(settings, environment)
    gateway.doctor.may_tell = teller(run)
    live = Live(gateway, place, build)
    live.start()
    for warning in env_warnings(find_sources(base_dir), base_dir / ".env" if place.copies else None):
        gateway.log.write("env.ignored", {"detail": warning}, "warning")
    if counts_file is None:
        gateway.log.event("limits.failed", {"reason": f"{run.root} can't be written: each worker counts limits alone"})
    for warning in exposed_keys(gateway, base_dir, environment):
        gateway.log.write("keys.exposed", {"detail": warning}, "warning")
    return live


def counts_file_in(run: RunFolder) -> Path | None:
    """Where the workers of this machine count limits together; `None` where there can be no such file, and each counts alone."""
    path = run.root / COUNTS
    with contextlib.suppress(OSError):
        run.make()
    return path if SharedCounts(shared_counts_url(path)).check() else None


def place_of(base_dir: Path) -> Place:
    """Where the configuration is that this worker follows: under the watcher, which gave it copies, the files that a person writes.

    There no line goes to the terminal, which is a file: the call log has them all.
    """
    if not os.environ.get("OPENAI_COMPAT_LISTEN_FD"):
        return Place(base_dir)
    copies = (Path(os.environ["OPENAI_COMPAT_CONFIG"]), Path(os.environ["OPENAI_COMPAT_ENV_FILE"]))
    return Place(base_dir, {"log": {"terminal": False}}, outer=outer_environment(os.environ), copies=copies)


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
