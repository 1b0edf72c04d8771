"""The thinking vault in Redis, shared by the workers of several machines.

Each tool-call id is a key of its own that Redis lets expire; how much is kept in all is for Redis's `maxmemory` to say.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compat.storage.background import Greenlet, OnEvent, StoreFailed
from compat.vault.buffered import BufferedVault, Change, Row

KEY_PREFIX = "openai-compat:thinking:"
MAX_RECORD_BYTES = 8 * 1024 * 1024


class RedisVault(BufferedVault):
    """Keeps records in Redis for at least `ttl_s` after their last use.

    `client` is a `redis.Redis` that answers in bytes, has a short `socket_timeout`, and belongs to the one who made it. `errors` are what
    it raises: `(redis.RedisError, OSError)`.
    """

    def __init__(
        self,
        client: Any,
        *,
        ttl_s: float,
        clock: Callable[[], float],
        errors: tuple[type[Exception], ...],
        on_event: OnEvent = lambda _name, _fields: None,
    ) -> None:
        super().__init__(Greenlet(), ttl_s=ttl_s, clock=clock, on_event=on_event, max_record_bytes=MAX_RECORD_BYTES)
        self._client = client
        self._expire_s = math.ceil(self._kept_s)
        self._errors = errors

    def _read_rows(self, keys: Sequence[str], since_s: float) -> list[Row]:  # noqa: ARG002  # Redis drops what is too old
        """One round trip."""
        with self._mapped():
            values = self._client.mget([KEY_PREFIX + key for key in keys])
        rows = zip(keys, values, strict=True)
        return [Row(key, value, 0.0) for key, value in rows if isinstance(value, bytes) and len(value) <= MAX_RECORD_BYTES]

    def _write_changes(self, changes: Sequence[Change], now_s: float) -> None:  # noqa: ARG002  # Redis has its own clock
        """Writing a change twice does no harm, so there is no transaction."""
        with self._mapped():
            if not changes:
                self._client.ping()
            for change in changes:
                for key in change.keys:
                    if change.packed:
                        self._client.set(KEY_PREFIX + key, change.packed, ex=self._expire_s)
                    else:
                        self._client.expire(KEY_PREFIX + key, self._expire_s)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """Errors of the client as `StoreFailed`, with the kind only: their text may name the server's address with a password."""
        try:
            yield
        except self._errors as error:
            raise StoreFailed(f"Redis can't be used: {type(error).__name__}") from error

    def _close_store(self) -> None:
        """The client is not ours."""
