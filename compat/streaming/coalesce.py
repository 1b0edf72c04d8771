"""Pieces of many streams that arrive at about the same time are handled in one wake-up.

Waking up costs more than the handling of a piece: the event loop asks the kernel, and code and data come back into the processor's
caches. While many streams flow and the loop has little to do, it waits for a moment before it asks for what has arrived, so that one
wake-up finds several pieces. A loop that has much to do finds several anyway, and does not wait; with a few streams nobody waits.

    gathering.begin()       # a stream flows through the event loop
    gathering.note()        # a piece of one was handled
    gathering.end()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import get_hub, monkey

LEAST_STREAMS = 24
MOST_PIECES = 16
"""A wake-up that handled so many gathered enough by itself."""

_sleep = monkey.get_original("time", "sleep")


class Gathering:
    """Mutable: how many streams flow, the pieces since the loop last asked, and the watcher, which runs just before the loop asks.

    `wait_s` is the moment, 0 for none. `sleep` blocks the thread: nothing else runs meanwhile, which is what is wanted.
    """

    def __init__(self, wait_s: float, sleep: Callable[[float], None] = _sleep) -> None:
        self._wait_s = wait_s
        self._sleep = sleep
        self._streams = 0
        self._pieces = 0
        self._watcher: Any = None

    def begin(self) -> None:
        """One stream more."""
        self._streams += 1
        if self._streams >= LEAST_STREAMS and self._watcher is None and self._wait_s > 0:
            self._watcher = get_hub().loop.prepare()
            self._watcher.start(self.wait)

    def end(self) -> None:
        """One stream less."""
        self._streams -= 1
        if self._streams < LEAST_STREAMS and self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def note(self) -> None:
        """A piece was handled."""
        self._pieces += 1

    def wait(self) -> None:
        """Wait, if pieces were handled since the last time, but not many."""
        pieces, self._pieces = self._pieces, 0
        if 0 < pieces < MOST_PIECES:
            self._sleep(self._wait_s)
