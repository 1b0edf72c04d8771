"""A log file that several processes write, and that is rotated by whoever finds it full.

Lines are neither lost nor mixed: what a process has to say is appended by one write under a lock of the system, which a process that is
killed releases as well. The lock is that of the file itself. Once it is held, a writer looks whether the file is still the one at the
path: another process may have rotated it meanwhile, a person may have removed it, or the folder with it; then it begins again with the
file that is there now. Rotating ends with the renaming of the locked file, so that nobody meets half a rotation.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

if sys.platform != "win32":
    import fcntl

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Windows lacks the first of the last two, and without the second would change line ends."""


class SharedLogFile:
    """The file at `path`, kept below `max_bytes`, with `backups` older ones (`.1` is the latest) beside it. Mutable: the descriptor.

    Where `path` is a symbolic link, all of them are where it leads, and it stays.

    For one thread of a process at a time.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._descriptor: int | None = None

    def write(self, lines: Sequence[bytes]) -> int:
        """Append lines, each with its end; how many. Errors: `OSError`, when not even one more could be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        done = 0
        try:
            while done < len(lines):
                descriptor = self._locked()
                done += self._append(descriptor, lines[done:])
                self._unlock()
        except OSError:
            self.close()
            if not done:
                raise
        return done

    def close(self) -> None:
        """Close the file; the next `write` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _locked(self) -> int:
        """The descriptor of what is at the path now, locked."""
        while True:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, _FLAGS, 0o600)
            if sys.platform != "win32":
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if self._is_at_path(self._descriptor):
                return self._descriptor
            self.close()

    def _unlock(self) -> None:
        if self._descriptor is not None and sys.platform != "win32":
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _append(self, descriptor: int, lines: Sequence[bytes]) -> int:
        """Write as many lines as the file has room for; if there is no room, rotate. A longer line has a file of its own."""
        before = size = os.fstat(descriptor).st_size
        count = 0
        while count < len(lines) and (size == 0 or size + len(lines[count]) <= self._max_bytes):
            size += len(lines[count])
            count += 1
        if not count:
            self._rotate()
            return 0
        left = memoryview(b"".join(lines[:count]))
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            with contextlib.suppress(OSError):  # a full disk took a part: lines stay whole
                os.ftruncate(descriptor, before)
            raise
        return count

    def _rotate(self) -> None:
        if sys.platform == "win32":  # where a file that is open has to stay where it is
            self.close()
        file = self._path.resolve()
        backups = [file.with_name(f"{file.name}.{number}") for number in range(1, self._backups + 1)]
        for newer, older in reversed(list(itertools.pairwise(backups))):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)
        if backups:
            file.replace(backups[0])
        else:
            file.unlink()
        self.close()


def give_up(stream: TextIO) -> None:
    """For a pipe whose reader has left: what is still to be written goes nowhere, also when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


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
