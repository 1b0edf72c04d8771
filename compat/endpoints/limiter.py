"""Flask-Limiter, without its request hook.

The hook costs more than the rest of a request's dispatch, also where a route has no limit. So the extension is bound to an application
that serves nothing: its storage and strategy serve `accounting/limits.py`, and `limiter.limit("60/minute")` still guards a view that it
decorates, in whatever application that is.
"""

from __future__ import annotations

import flask
import flask_limiter
import flask_limiter.util
import gevent.lock
from limits.storage import MemoryStorage
from limits.strategies import RateLimiter

from compat.accounting import shared_counts  # noqa: F401  # it registers its scheme
from compat.storage.redis_link import limiter_options

MEMORY = "memory+bounded://"
MAX_COUNTS = 20_000


class BoundedMemory(MemoryStorage):
    """Flask-Limiter's storage in memory, of at most `MAX_COUNTS` counts: without client keys anybody is a client by sending another one.

    Beyond them the oldest go. What a budget has spent is in the usage store as well.
    """

    STORAGE_SCHEME = [MEMORY.partition(":")[0]]  # noqa: RUF012  # the name by which it is found, as the base class has it

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """See the base class."""
        while len(self.storage) >= MAX_COUNTS and key not in self.storage:
            self.clear(next(iter(self.storage)))
        return super().incr(key, expiry, amount)


def make_limiter(storage_url: str = MEMORY) -> flask_limiter.Limiter:
    """The one `Limiter`, which counts at `storage_url` (`redis://...`). `limits.errors.ConfigurationError` for what is not a storage."""
    limiter = flask_limiter.Limiter(
        flask_limiter.util.get_remote_address,
        strategy="fixed-window",
        storage_uri=storage_url,
        storage_options=limiter_options(storage_url),
    )
    limiter.init_app(flask.Flask("compat.limiter"))
    return limiter


class LazyLimiter:
    """`make_limiter`, put off until something is counted: the storage in memory starts a timer. Mutable: what was made.

    Starting it lets other calls run, so that the making is guarded: each of them would make a storage of its own, and count there.
    """

    def __init__(self, storage_url: str = MEMORY) -> None:
        self._storage_url = storage_url
        self._made: flask_limiter.Limiter | None = None
        self._making = gevent.lock.Semaphore()

    @property
    def limiter(self) -> RateLimiter:
        """The strategy, with its storage."""
        if self._made is None:
            with self._making:
                self._made = self._made or make_limiter(self._storage_url)
        return self._made.limiter
