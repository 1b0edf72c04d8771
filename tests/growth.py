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
    """Fail when `work` grows worse than in line with `make(size)`. Other load can only slow a run down: the quickest one counts.

    Where an input leaves the caches that a smaller one fits into, the step is steep once; work that is worse than linear is so at the next
    step as well.
    """
    with _without_collector():
        if (first := _growth(work, make(size), make(size * FACTOR))) <= MOST:
            return
        second = _growth(work, make(size * FACTOR), make(size * FACTOR**2))
    if second > MOST:
        raise AssertionError(f"{FACTOR} times the input is {first:.1f} times the work, and {second:.1f} times at the next step")


def _growth(work: Callable[[T], object], small: T, large: T) -> float:
    """How many times the work on `small` that on `large` is."""
    least_small = least_large = float("inf")
    for _ in range(_ROUNDS):
        least_small = min(least_small, _cpu_s(work, small))
        least_large = min(least_large, _cpu_s(work, large))
        if least_large <= MOST * least_small:
            break
    return least_large / least_small


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
