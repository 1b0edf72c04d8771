"""The files that several workers count in, with room on the disk for every byte before it is mapped into memory.

Prometheus' client makes them with holes. Where a full disk has no room for a hole as a count is written into it, the system ends the
process with SIGBUS; here that is an `OSError`, which comes before anything is written.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

FIRST_BYTES = 64 * 1024
_ENTRY_BYTES = 64
"""More than an entry takes besides its key."""


class SolidFile(MmapedDict):
    """A file of counts without holes. Errors: `OSError`, when the disk has no room for one count more."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # the base class's
        if not read_mode:
            _fill(filename, FIRST_BYTES)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]  # prometheus-client has no types there

    def _init_value(self, key: str) -> None:
        this: Any = self
        if this._used + len(key.encode()) + _ENTRY_BYTES > this._capacity:
            _fill(this._fname, 2 * this._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]  # prometheus-client has no types there


def use_solid_files() -> None:
    """Let Prometheus' client count in files of this kind, in this process."""
    values.MmapedDict = SolidFile  # type: ignore[attr-defined]  # where it takes the class from, each time it makes a file


def _fill(path: str, size_bytes: int) -> None:
    """Make a file at least that long with zeros that are written, not with a hole; or leave it as it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        left = memoryview(bytes(max(size_bytes - before, 0)))
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
                if not before:  # whoever adds all files up can't read an empty one
                    Path(path).unlink()
            raise
    finally:
        os.close(descriptor)
