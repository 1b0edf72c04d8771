"""`restart_services.py logs`: the end of the logs, and what is added to them."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TextIO

from compat.service.launch import service_log
from compat.service.state import RunFolder
from compat.storage.shared_log_file import last_lines, printable

_POLL_S = 0.25


def log_files(base_dir: Path, run: RunFolder) -> list[Path]:
    """The service log and the call log, which is where the running configuration puts it."""
    named = [row.facts.log_file for row in run.read_service().generations if row.facts.log_file]
    return [service_log(base_dir), Path(named[-1]) if named else base_dir / "logs" / "openai_compat.log"]


def show_logs(base_dir: Path, run: RunFolder, count: int, follows: bool, out: TextIO) -> int:
    """Write the last `count` lines of each log; with `follows`, go on until Ctrl-C. The exit code."""
    paths = log_files(base_dir, run)
    for path in paths:
        out.write(f"==> {path}\n")
        out.writelines(line + "\n" for line in last_lines(path, count) or ["(nothing)"])
    out.flush()
    endings = [Ending(path) for path in paths]
    with contextlib.suppress(KeyboardInterrupt):
        while follows:
            for ending in endings:
                out.writelines(line + "\n" for line in ending.read())
            out.flush()
            time.sleep(_POLL_S)
    return 0


class Ending:
    """What is added to a file from now on, also after it was rotated. Mutable: how far it was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._offset = self._look()
        self._rest = b""

    def read(self) -> list[str]:
        """The lines that are complete since the last time."""
        inode, size = self._look()
        if inode != self._inode or size < self._offset:
            self._inode, self._offset, self._rest = inode, 0, b""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [printable(line.decode("utf-8", "replace")) for line in lines]

    def _look(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return 0, 0
        return stat.st_ino, stat.st_size
