"""A log file that several processes write, and that is rotated by whoever finds it full.

Lines are neither lost nor mixed: all that a process has to say is appended by one write, under a lock of the system that is let go
of even by a process that is killed. Under the same lock each writer looks whether its descriptor is still the file at the path: another
process may have rotated it, a person may have removed it, or the folder with it; then it opens the path anew.

The lock is a file of its own beside the log (`.NAME.lock`), since the log itself changes its name.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from compat.process.service_state import FileLock


class SharedLogFile:
    """The file at `path`, kept below `max_bytes`, with `backups` older ones (`.1` is the latest). Mutable: the descriptor.

    For one thread of a process at a time.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._descriptor: int | None = None
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))

    def write(self, lines: bytes) -> None:
        """Append whole lines. Errors: `OSError`; then nothing, or only a part (a full disk), is in the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire(waits=True)
        try:
            descriptor = self._current()
            size = os.fstat(descriptor).st_size
            if size and size + len(lines) > self._max_bytes:
                self._rotate()
                descriptor = self._current()
            self._append(descriptor, lines)
        except OSError:
            self.close()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Let go of the file; the next `write` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _current(self) -> int:
        """The descriptor of what is at the path now."""
        if self._descriptor is not None and not self._is_at_path(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _append(self, descriptor: int, lines: bytes) -> None:
        """Write everything; what was left half written by a full disk is cut off again, so that lines stay whole."""
        before = os.fstat(descriptor).st_size
        left = memoryview(lines)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
            raise

    def _rotate(self) -> None:
        self.close()
        for number in range(self._backups, 0, -1):
            older = self._backup(number)
            newer = self._backup(number - 1) if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)
        if not self._backups:
            self._path.unlink(missing_ok=True)

    def _backup(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def last_lines(path: Path, count: int, since: int = 0) -> list[str]:
    """The last lines of a text file, none from before the byte `since`; empty when it can't be read. Control characters are escaped."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - count * 2000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [printable(line) for line in text.splitlines()[-count:]]


def printable(line: str) -> str:
    """A line as a terminal may be given it."""
    return "".join(character if character.isprintable() or character == "\t" else repr(character)[1:-1] for character in line)
