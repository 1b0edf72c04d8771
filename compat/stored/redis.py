"""Answers in Redis, shared by the workers of several machines; how much is kept in all is for Redis's `maxmemory` to say."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from compat.storage.redis_link import KEY_PREFIX
from compat.stored.base import LEASE_S

MAX_RECORD_BYTES = 8 * 1024 * 1024
_CANCELLED = b"cancelled"


class RedisResponses:
    """Keeps each answer for `ttl_s` after it was written last. `client` answers in bytes, and belongs to the one who made it."""

    def __init__(self, client: Any, *, ttl_s: float) -> None:
        self.max_record_bytes = MAX_RECORD_BYTES
        self._redis = client
        self._ttl_s = math.ceil(ttl_s)

    def read(self, client: str, answer_id: str) -> tuple[bytes, float] | None:
        """See `Backend`."""
        key = _key(client, answer_id)
        packed, beat = self._redis.mget([key, f"{key}:beat"])
        try:
            return None if packed is None else (packed, float(beat or 0))
        except ValueError:
            return packed, 0.0

    def write(self, client: str, answer_id: str, packed: bytes) -> None:
        """See `Backend`."""
        self._redis.set(_key(client, answer_id), packed, ex=self._ttl_s)

    def remove(self, client: str, answer_id: str) -> bool:
        """See `Backend`."""
        key = _key(client, answer_id)
        self._redis.delete(f"{key}:beat", f"{key}:frames", f"{key}:end")
        return bool(self._redis.delete(key))

    def append(self, client: str, answer_id: str, number: int, frames: bytes) -> None:
        """See `Backend`."""
        key = f"{_key(client, answer_id)}:frames"
        pipeline = self._redis.pipeline()
        pipeline.zadd(key, {b"%d:%s" % (number, frames): number})
        pipeline.expire(key, self._ttl_s)
        pipeline.execute()

    def parts(self, client: str, answer_id: str, since: int) -> Sequence[bytes]:
        """See `Backend`."""
        found = self._redis.zrangebyscore(f"{_key(client, answer_id)}:frames", since, "+inf")
        return [one.partition(b":")[2] for one in found]

    def beat(self, client: str, answer_id: str, now_s: float) -> bool:
        """See `Backend`."""
        key = _key(client, answer_id)
        pipeline = self._redis.pipeline()
        pipeline.set(f"{key}:beat", now_s, ex=math.ceil(LEASE_S))
        pipeline.get(f"{key}:end")
        pipeline.exists(key)
        _, end, is_there = pipeline.execute()
        return end != _CANCELLED and bool(is_there)

    def cancel(self, client: str, answer_id: str) -> None:
        """See `Backend`."""
        self._redis.set(f"{_key(client, answer_id)}:end", _CANCELLED, ex=self._ttl_s)

    def close(self) -> None:
        """See `Backend`: the client is not ours."""


def _key(client: str, answer_id: str) -> str:
    """A name that nobody can make up so that it is another client's."""
    named = hashlib.blake2b(f"{len(client)}:{client}:{answer_id}".encode(), digest_size=20).hexdigest()
    return f"{KEY_PREFIX}:responses:{named}"
