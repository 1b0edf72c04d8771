"""How the work of a function grows with its input, by the processor's time and not by the clock on the wall.

check_growth(work, make, size)   -> fails when four times the input is much more than four times the work
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

FACTOR = 4
MOST = 9.0
"""Times the work that `FACTOR` times the input may be: linear work is about 4, with caches that overflow up to 7; quadratic work is 16."""
_ROUNDS = 6
_LEAST_S = 0.001
"""What a measurement must last to mean anything: shorter work is done several times."""


def check_growth(work: Callable[[T], object], make: Callable[[int], T], size: int) -> None:
    """Fail when `work` grows worse than in line with `make(size)`. Other load can only slow a run down: the quickest one counts."""
    small, large = make(size), make(size * FACTOR)
    least_small = least_large = float("inf")
    with _without_collector():
        for _ in range(_ROUNDS):
            least_small = min(least_small, _cpu_s(work, small))
            least_large = min(least_large, _cpu_s(work, large))
            if least_large <= MOST * least_small:
                return
    raise AssertionError(f"{FACTOR} times the input is {least_large / least_small:.1f} times the work ({least_large * 1000:.1f} ms)")


def _cpu_s(work: Callable[[T], object], value: T) -> float:
    times = 0
    begun_s = time.thread_time()
    while (spent_s := time.thread_time() - begun_s) < _LEAST_S:
        work(value)
        times += 1
    return spent_s / times


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Its walks over everything that lives come at moments of their own."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
