"""The terminal's view of a fetch: a bar where somebody looks at it, else a line at every tenth."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm


class FetchProgress:
    """Shows bytes done of a total. Mutable: the bar, and the last tenth that was told."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self._name = name
        self._stream = stream or sys.stderr
        self._bar: tqdm[None] | None = None
        self._told = -1

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes are there."""
        if not self._stream.isatty():
            tenth = done * 10 // max(total, 1)
            if tenth > self._told:
                self._told = tenth
                self._stream.write(f"Fetching the embedded model {self._name}: {done // 1_000_000} of {total // 1_000_000} MB\n")
                self._stream.flush()
            return
        if self._bar is None:
            label = f"Fetching the embedded model {self._name}"
            self._bar = tqdm(total=total, unit="B", unit_scale=True, desc=label, file=self._stream, leave=False)
        self._bar.update(max(done - self._bar.n, 0))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
