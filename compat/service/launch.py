"""Starting the watcher, and a generation of workers: the commands, and what each may know of its environment."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from compat.service.configuration import CONFIG, ENV_FILE
from compat.service.state import FileLock, Identity, RunFolder, identity_of, is_alive

MAX_LOG_BYTES = 5 * 1024 * 1024
_PINNED = ("OPENAI_COMPAT_CONFIG", "OPENAI_COMPAT_ENV_FILE", "OPENAI_COMPAT_WORKERS")
_OUTER = "OPENAI_COMPAT_OUTER"
_METRICS = ("PROMETHEUS_MULTIPROC_DIR", "OPENAI_COMPAT_METRICS_MASTER")
_REVIVE_S = 10.0


def service_log(base_dir: Path) -> Path:
    """What the watcher, gunicorn and its workers have to say for themselves; calls are in the call log."""
    return base_dir / "logs" / "service.log"


def open_service_log(base_dir: Path) -> IO[bytes]:
    """The file to append to, nobody else's to read; a large one is set aside first. Errors: `OSError`."""
    path = service_log(base_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    file = open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115  # a path's has no opener
    if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:  # made by somebody else, who rotates it for instance
        with contextlib.suppress(OSError):
            os.fchmod(file.fileno(), 0o600)
    return file


def spawn_watcher(base_dir: Path, arguments: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int] = ()) -> int:
    """Start a watcher in the background; its process id. Errors: `OSError`."""
    command = [sys.executable, str(base_dir / "restart_services.py"), "run", "--background", *arguments]
    with open_service_log(base_dir) as log:
        return _spawn(command, base_dir, environment, log, descriptors).pid


def spawn_generation(base_dir: Path, environment: Mapping[str, str], listener: int, *, is_background: bool) -> tuple[Identity, int]:
    """Start gunicorn on the socket `listener`; the process, and where its words begin in the service log. Errors: `OSError`."""
    command = [sys.executable, "-m", "gunicorn", "-c", str(base_dir / "gunicorn.conf.py"), "app:app"]
    with open_service_log(base_dir) if is_background else contextlib.nullcontext() as log:
        since = log.seek(0, os.SEEK_END) if log else 0
        process = _spawn(command, base_dir, environment, log, [listener])
    process.returncode = 0  # so that it is not waited for by the object: the watcher learns of all ends
    started = identity_of(process.pid)
    return Identity(process.pid, started.started if started else "", " ".join(command)), since


def _spawn(
    command: Sequence[str], base_dir: Path, environment: Mapping[str, str], log: IO[bytes] | None, descriptors: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Start one of our programs, in a session of its own: Ctrl-C in a terminal is the watcher's to handle."""
    return subprocess.Popen(  # noqa: S603  # our own program, or gunicorn
        command,
        cwd=base_dir,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=descriptors,
        start_new_session=True,
    )


def generation_environment(environment: Mapping[str, str], folder: Path, number: int, listener: int, workers: int) -> dict[str, str]:
    """The environment of a generation: the configuration in `folder` is its own for as long as it lives."""
    kept = {name: value for name, value in environment.items() if name not in {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}}
    return {
        **kept,
        _OUTER: json.dumps({name: environment.get(name) for name in _PINNED}),
        "OPENAI_COMPAT_CONFIG": str(folder / CONFIG),
        "OPENAI_COMPAT_ENV_FILE": str(folder / ENV_FILE),
        "OPENAI_COMPAT_GENERATION": str(number),
        "OPENAI_COMPAT_LISTEN_FD": str(listener),
        "OPENAI_COMPAT_WORKERS": str(workers),
    }


def outer_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the watcher that started the generation which has `environment`."""
    ours = {_OUTER, *_PINNED, "OPENAI_COMPAT_GENERATION", "OPENAI_COMPAT_LISTEN_FD", "SERVER_SOFTWARE", *_METRICS}
    outer = {name: value for name, value in environment.items() if name not in ours}
    pinned = json.loads(environment.get(_OUTER, "{}"))
    return {**outer, **{name: value for name, value in pinned.items() if value is not None}}


def revive_watcher(run: RunFolder, base_dir: Path, listener: int) -> bool:
    """Start a watcher on this worker's socket where the one that there was is gone unasked; whether it was. Called by watched workers.

    Not for a watcher in the foreground: who started it (systemd, a container) starts it again.
    """
    service = run.read_service()
    if service.mode != "background" or service.state != "running" or is_alive(service.watcher):
        return False
    guard = FileLock(run.root / "guard.lock")
    try:
        if not guard.acquire():
            return False
        revived = run.root / "revived"
        if was_touched_lately(revived, time.time()) or not FileLock(run.watcher_lock).is_free():
            return False
        revived.touch()
        spawn_watcher(base_dir, ["--adopt", str(listener)], outer_environment(os.environ), [listener])
    except OSError:
        return False
    finally:
        guard.release()
    return True


def was_touched_lately(path: Path, now_s: float) -> bool:
    """Whether another worker is starting a watcher just now. A file of the future means a clock that was put back since."""
    try:
        return 0 <= now_s - path.stat().st_mtime < _REVIVE_S
    except FileNotFoundError:
        return False
