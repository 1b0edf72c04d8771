"""How many files a process may have open. A call holds two sockets, so that says how many calls there can be at once."""

from __future__ import annotations

from collections.abc import Callable

WANTED = 65_536
SPARE = 128
"""For the log, the stores, the listening socket and what else is open."""


def file_limits() -> tuple[int, int]:
    """How many files may be open now, and how many could be; 0 where there is no bound."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 0, 0
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (0 if limit == resource.RLIM_INFINITY else limit for limit in limits)
    return soft, hard


def raise_file_limit() -> None:
    """As many open files as the system lets us have, up to `WANTED`."""
    soft, hard = file_limits()
    wanted = min(hard or WANTED, WANTED)
    if 0 < soft < wanted:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard or resource.RLIM_INFINITY))


def connection_bound(wanted: int, limit: Callable[[], int] = lambda: file_limits()[0]) -> int:
    """How many connections a process takes at once, by the files it may open. What is beyond the bound waits, and does not fail."""
    files = limit()
    return max(1, min(wanted, (files - SPARE) // 2)) if files > 0 else wanted
