"""Files that are replaced whole, so that nobody ever reads half of one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, data: bytes, prepare: Callable[[int], None] = lambda _: None, *, is_synced: bool = False) -> None:
    """Let `path` hold `data`, whole or not at all: a new file of mode 0600 takes the old one's place. Errors: `OSError`.

    `prepare` gets the new file's descriptor before anything is in it. With `is_synced` it is on the disk before it is seen.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            prepare(descriptor)
            file.write(data)
            if is_synced:
                file.flush()
                os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def keep_mode(path: Path) -> Callable[[int], None]:
    """Gives a new file the mode that the one at `path` has (`replace_file`); Windows has no modes of this kind."""

    def prepare(descriptor: int) -> None:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))

    return prepare


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """What changes with the file; `None` where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
