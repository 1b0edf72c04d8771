"""Whether the files that the gateway writes can be written, tried before anything is lost. Nothing is left behind, no folder is made."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from compat.config.settings import Settings
from compat.service.state import run_folder

_RUN_FOLDER = "run folder"
_PROBE = b"\0" * 4096


def written_places(settings: Settings, base_dir: Path, environment: Mapping[str, str]) -> dict[str, Path]:
    """What is written -> where, with these settings; the last is the folder in which the services' processes know of each other."""
    found = {"log": base_dir / settings.log.file}
    if settings.usage.enabled and settings.usage.path:
        found["usage"] = base_dir / Path(settings.usage.path).expanduser()
    if settings.vault.enabled and settings.vault.path and not settings.storage.redis_url:
        found["vault"] = base_dir / Path(settings.vault.path).expanduser()
    if settings.responses.store and not settings.storage.redis_url:
        found["responses"] = base_dir / Path(settings.responses.path).expanduser()
    return {**found, _RUN_FOLDER: run_folder(base_dir, environment).root}


def write_faults(places: Mapping[str, Path]) -> dict[str, str]:
    """What of `written_places` can't be written -> why."""
    return {name: fault for name, path in places.items() if (fault := write_fault(path, is_file=name != _RUN_FOLDER))}


def write_fault(path: Path, *, is_file: bool = False) -> str:
    """Why a file, or files in a folder, can't be written there, in the system's words; empty when they can. `is_file`: not a folder."""
    if is_file and path.is_dir():
        return os.strerror(errno.EISDIR)
    try:
        if not path.is_dir():
            with contextlib.suppress(FileNotFoundError):
                os.close(os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)))
        path = path.resolve()
        folder = path if path.is_dir() else next(parent for parent in path.parents if parent.exists())
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".openai-compat-") as probe:
            probe.write(_PROBE)
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""
