"""Steps of a call, and the heartbeat of its client between them."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[bytes, None, T]
"""Work that hands out frames while it goes on, and returns a `T`."""


@dataclass(slots=True)
class Pulse:
    """When the client last got something, in the clock's seconds; `heartbeat` is due `heartbeat_s` later. Mutable: `last_frame_s`."""

    last_frame_s: float
    heartbeat_s: float
    heartbeat: bytes

    def left_s(self, now_s: float, deadline_s: float = math.inf) -> float:
        """Seconds until a heartbeat is due, or the deadline; at least a moment."""
        return max(min(self.last_frame_s + self.heartbeat_s, deadline_s) - now_s, 0.001)

    def beat(self, now_s: float) -> Iterator[bytes]:
        """What says nothing, if it is due."""
        if now_s - self.last_frame_s >= self.heartbeat_s:
            self.last_frame_s = now_s
            yield self.heartbeat


def result_of(steps: Steps[T]) -> T:
    """Run steps to their end, dropping their heartbeats."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
