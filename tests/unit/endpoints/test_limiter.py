"""The one limiter: made when it is needed, and once."""

from __future__ import annotations

import gevent.pool

from compat.endpoints.limiter import LazyLimiter


def test_calls_that_come_at_once_count_in_one_storage() -> None:
    """The first calls of a gateway that just began: its storage starts a timer, which lets the others run meanwhile."""
    limiter = LazyLimiter()

    def count(_: int) -> int:
        return int(limiter.limiter.storage.incr("key", 60, 1))

    totals = gevent.pool.Pool(50).map(count, range(50))
    assert sorted(totals) == list(range(1, 51))
