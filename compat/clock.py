"""Time and chance, which are injected so that tests own them."""

from __future__ import annotations

import os
import random
import time
from typing import Protocol


class Clock(Protocol):
    """Both kinds of time, and ids."""

    def monotonic(self) -> float:
        """Seconds for measuring."""
        ...

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def new_id(self) -> str:
        """32 hexadecimal digits that never come twice."""
        ...


class SystemClock:
    """The real clock, and random ids. Mutable: the generator's state, seeded by the system once per gateway.

    The ids name things and protect nothing, so that no call has to ask the system for randomness.
    """

    def __init__(self) -> None:
        self._random = random.Random(os.urandom(32))  # noqa: S311  # see above

    monotonic = staticmethod(time.monotonic)
    """Seconds for measuring."""

    now = staticmethod(time.time)
    """Seconds since 1970."""

    def new_id(self) -> str:
        """32 random hexadecimal digits."""
        return f"{self._random.getrandbits(128):032x}"
