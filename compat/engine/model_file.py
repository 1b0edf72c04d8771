"""The file of the embedded model: where it is kept, and whether it was verified.

Only the SHA-256 of the whole file decides whether it is used: after it was fetched (`compat/engine/fetch.py`), and again by the engine
before it loads the file. The stamp beside it says no more than that nothing has to be fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import platformdirs

from compat.config.sections import EmbeddedSettings
from compat.engine.presets import PRESETS, Preset
from compat.storage.whole_file import replace_file

_MAX_STAMP = 500


class ModelFileError(Exception):
    """The model's file can't be had; the message says why and what helps. A permanent one does not get better by another try."""

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent


def cache_folder(settings: EmbeddedSettings) -> Path:
    """The folder of fetched models, absolute: the configured one, else `models` in the user's cache."""
    if settings.cache_dir:
        return Path(settings.cache_dir).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("openai_compat")) / "models"


def locate(settings: EmbeddedSettings) -> Path | Preset:
    """The configured model's file (an absolute path), or the preset that must be fetched first. Errors: a permanent `ModelFileError`."""
    if settings.model.endswith(".gguf"):
        path = Path(settings.model).expanduser().absolute()
        if not path.is_file():
            raise ModelFileError(f"the embedded model's file {path} does not exist: correct embedded.model", is_permanent=True)
        return path
    preset = PRESETS.get(settings.model)
    if preset is None:
        known = ", ".join(PRESETS)
        raise ModelFileError(
            f"the embedded model '{settings.model}' is unknown; use {known}, or the path of a .gguf file", is_permanent=True
        )
    path = cached_path(preset, cache_folder(settings))
    return path if is_verified(path, preset.sha256) else preset


def cached_path(preset: Preset, folder: Path) -> Path:
    """Where the preset's file is kept."""
    return folder / f"{preset.name}.gguf"


def is_verified(path: Path, sha256: str) -> bool:
    """Whether the file was verified since it last changed: its stamp names the hash, and the size and times that it had then.

    Good enough for not fetching it, not for using it: who can write the file can write a stamp. A stamp that is a link is ignored.
    """
    try:
        with open(_stamp_path(path), opener=open_itself) as file:
            return file.read(_MAX_STAMP) == _stamp(path, sha256)
    except (OSError, UnicodeDecodeError):
        return False


def distrust(path: Path) -> None:
    """Have the file at `path` (a preset's) verified in full before it is used again."""
    with contextlib.suppress(OSError):
        _stamp_path(path).unlink()


def write_stamp(path: Path, sha256: str) -> None:
    """Note that the file was verified, in a new file: a link that somebody put in the place of the stamp is replaced, and not followed."""
    replace_file(_stamp_path(path), _stamp(path, sha256).encode())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_itself(name: str, flags: int) -> int:
    """For `open`: a symbolic link is not followed, but an `OSError`."""
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)


def _stamp_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _stamp(path: Path, sha256: str) -> str:
    status = path.stat()
    return f"{sha256} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"
