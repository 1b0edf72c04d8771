"""The terminal's view of a fetch: a bar where somebody looks at it, else a line at every tenth."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    _Tqdm = tqdm[Any]  # generic in its type information only
else:
    _Tqdm = tqdm


class _Bar(_Tqdm):
    # tqdm's own watcher thread is of no use here, and its default lock takes a semaphore of the system.
    monitor_interval = 0
    _lock = threading.RLock()


class FetchProgress:
    """Shows bytes done of a total. Mutable: the bar, and the last tenth that was shown."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self._label = f"Fetching the embedded model {name}"
        self._stream = stream or sys.stderr
        self._bar: _Bar | None = None
        self._told = -1

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes are there; it never goes back. A terminal that is gone is no error."""
        with contextlib.suppress(OSError, ValueError):
            self._show(done, total)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.close()
            self._bar = None

    def _show(self, done: int, total: int) -> None:
        if self._stream.isatty():
            if self._bar is None:
                self._bar = _Bar(total=total, unit="B", unit_scale=True, desc=self._label, file=self._stream, leave=False)
            self._bar.update(max(done - self._bar.n, 0))
            return
        tenth = done * 10 // max(total, 1)
        if tenth > self._told:
            self._told = tenth
            self._stream.write(f"{self._label}: {done // 1_000_000} of {total // 1_000_000} MB\n")
            self._stream.flush()
