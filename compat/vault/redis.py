"""The thinking vault in Redis, shared by the workers of several machines.

Each tool-call id is a key of its own that Redis lets expire; how much is kept in all is for Redis's `maxmemory` to say. A
redis-py client works on gevent's sockets, which belong to one thread, so writing is done by a greenlet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import gevent
import gevent.event
import gevent.lock

from compat.storage.background import OnEvent, StoreFailed
from compat.vault.buffered import BufferedVault, Change, Row

KEY_PREFIX = "openai-compat:thinking:"
MAX_RECORD_BYTES = 8 * 1024 * 1024


class RedisClient(Protocol):
    """The part of `redis.Redis` that is used. It answers in bytes (no `decode_responses`) and has a short `socket_timeout`."""

    def mget(self, keys: Any, /) -> Any:
        """The values of `keys`, `None` where there is none."""
        ...

    def set(self, name: Any, value: Any, /, *, ex: Any) -> Any:
        """Set a value that expires after `ex` seconds."""
        ...

    def expire(self, name: Any, time: Any, /) -> Any:
        """Let a value expire `time` seconds from now."""
        ...

    def ping(self) -> Any:
        """Fail if the server does not answer."""
        ...


class RedisVault(BufferedVault):
    """Keeps records in Redis for `ttl_s` after their last use. `errors` are what `client` raises: `(redis.RedisError, OSError)`."""

    def __init__(
        self,
        client: RedisClient,
        *,
        ttl_s: float,
        clock: Callable[[], float],
        errors: tuple[type[Exception], ...],
        on_event: OnEvent = lambda _name, _fields: None,
    ) -> None:
        store = RedisStore(client, ttl_s, errors)
        super().__init__(store, Greenlet(), ttl_s=ttl_s, clock=clock, on_event=on_event, max_record_bytes=MAX_RECORD_BYTES)


class Greenlet:
    """Writing in a greenlet."""

    def __init__(self) -> None:
        self.lock: AbstractContextManager[Any] = gevent.lock.BoundedSemaphore(1)
        self._bell = gevent.event.Event()

    def start(self, run: Callable[[], None]) -> None:
        """Let `run` begin."""
        gevent.spawn(run)

    def wake(self) -> None:
        """End the present or the next `wait`."""
        self._bell.set()

    def wait(self, timeout_s: float) -> None:
        """Wait, in `run`."""
        self._bell.wait(timeout_s)
        self._bell.clear()


class RedisStore:
    """Records in Redis."""

    def __init__(self, client: RedisClient, ttl_s: float, errors: tuple[type[Exception], ...]) -> None:
        self._client = client
        self._expire_s = max(1, round(ttl_s))
        self._errors = errors

    def gauges(self) -> None:
        """Not known: Redis keeps them."""

    def read(self, keys: Sequence[str], since_s: float) -> list[Row]:  # noqa: ARG002  # Redis drops what is too old
        """See `Store`: one round trip."""
        try:
            values = self._client.mget([KEY_PREFIX + key for key in keys])
        except self._errors as error:
            raise StoreFailed(_words(error)) from error
        rows = zip(keys, values, strict=True)
        return [Row(key, value, 0.0) for key, value in rows if isinstance(value, bytes) and len(value) <= MAX_RECORD_BYTES]

    def write(self, changes: Sequence[Change], now_s: float) -> None:  # noqa: ARG002  # Redis has its own clock
        """See `Store`; writing a change twice does no harm, so there is no transaction."""
        try:
            if not changes:
                self._client.ping()
            for change in changes:
                for key in change.keys:
                    if change.packed:
                        self._client.set(KEY_PREFIX + key, change.packed, ex=self._expire_s)
                    else:
                        self._client.expire(KEY_PREFIX + key, self._expire_s)
        except self._errors as error:
            raise StoreFailed(_words(error)) from error

    def close(self) -> None:
        """The client belongs to the one who made it."""


def _words(error: Exception) -> str:
    """The kind of error only: its text may name the server's address with a password."""
    return f"Redis can't be used: {type(error).__name__}"
