"""Counts that the workers of one machine share, without a server: a table in a file that each of them has mapped.

It is a storage for Flask-Limiter, as its memory and Redis are, found by its scheme (`shared-file:///path`). A step takes microseconds:
a lock of the file, at most eight slots looked at, the lock released. The lock ends with its process; what a worker had counted that was
killed stays counted, and windows go on over restarts.

The table has `BUCKETS` buckets of `WAYS` slots: a digest of the key, the sum, and until when it counts (seconds since 1970). A key has its
place in one bucket; where all are taken, the slot whose time ends first is given up. So the file never grows, and what a crowd of
clients can push out are the shortest windows.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

import gevent
from limits.storage import Storage

if sys.platform != "win32":
    import fcntl

SCHEME = "shared-file"
BUCKETS, WAYS = 8192, 8
LOCK_TRIES, LOCK_PAUSE_S = 400, 0.0005
_SLOT = struct.Struct("<16sqd")
_SIZE = BUCKETS * WAYS * _SLOT.size
_LEAST, _MOST = -(2**63), 2**63 - 1


class SharedCounts(Storage):
    """See the module. Mutable: the file's mapping. Its errors are `OSError`, which the base class wraps where that was asked for."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012  # the name by which it is found, as the base class has it

    def __init__(self, uri: str, wrap_exceptions: bool = False, clock: Callable[[], float] = time.time, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        self._path = unquote(urlparse(uri).path)
        self._clock = clock
        self._descriptor = -1
        self._table: mmap.mmap | None = None

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """See the base class."""
        return OSError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add `amount` in one step for all workers; the sum. A sum that is new counts for `expiry` seconds."""
        digest, now_s = _digest(key), self._clock()
        with self._locked() as table:
            place, total, end_s = _find(table, digest)
            if end_s <= now_s:
                total, end_s = 0, now_s + expiry
            total = min(max(total + amount, _LEAST), _MOST)
            _SLOT.pack_into(table, place, digest, total, end_s)
        return total

    def get(self, key: str) -> int:
        """The sum at `key`; 0 where there is none."""
        with self._locked() as table:
            _, total, end_s = _find(table, _digest(key))
        return total if end_s > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        """Until when the sum at `key` counts; now where there is none."""
        with self._locked() as table:
            _, _, end_s = _find(table, _digest(key))
        return max(end_s, self._clock())

    def clear(self, key: str) -> None:
        """Forget the sum at `key`."""
        digest = _digest(key)
        with self._locked() as table:
            place, _, end_s = _find(table, digest)
            if end_s:
                _SLOT.pack_into(table, place, bytes(16), 0, 0.0)

    def check(self) -> bool:
        """Whether the file can be used."""
        with contextlib.suppress(OSError), self._locked():
            return True
        return False

    def reset(self) -> int | None:
        """Forget all sums."""
        with self._locked() as table:
            table[:] = bytes(_SIZE)
        return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[mmap.mmap]:
        """The table, while no other process uses it. Nothing within may let other greenlets run. Errors: `OSError`.

        A process that was stopped in the middle (by a debugger) holds others up for a fifth of a second at each step, and no longer.
        """
        table = self._table or self._open()
        for tries in range(LOCK_TRIES + 1):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if tries == LOCK_TRIES:
                    raise
                gevent.sleep(0 if tries < 10 else LOCK_PAUSE_S)
        try:
            yield table
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open(self) -> mmap.mmap:
        """Map the file, which is made where there is none. A file of another size than ours is cut or filled with nothing."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.truncate(descriptor, _SIZE)
            self._table = mmap.mmap(descriptor, _SIZE)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self._table


def shared_counts_url(path: Path) -> str:
    """The storage's URL for a file, whose folder is there."""
    return f"{SCHEME}://{quote(str(path.absolute()))}"


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _find(table: mmap.mmap, digest: bytes) -> tuple[int, int, float]:
    """The place of `digest`, its sum and until when that counts; without one the place to take (the end that comes first), 0 and 0."""
    first = int.from_bytes(digest[:4], "little") % BUCKETS * WAYS * _SLOT.size
    best, best_end_s = first, float("inf")
    for place in range(first, first + WAYS * _SLOT.size, _SLOT.size):
        known, total, end_s = _SLOT.unpack_from(table, place)
        if known == digest:
            return place, total, end_s
        if end_s < best_end_s:
            best, best_end_s = place, end_s
    return best, 0, 0.0
