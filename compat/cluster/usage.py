"""Calls of all gateways that share a Redis, in the usage store of each machine: its views, its report and its budgets are those of all.

    shared = SharedUsage(usage, client, link, new_id)
    shared.sync()             # every few seconds: give away what is new here, take what is new there

Calls go through one stream, bounded in length: a store that was away for longer lacks the oldest. Workers of one machine may all do this:
what they give or take twice counts once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gevent
import msgspec

from compat.accounting.usage_sharing import BATCH, SharedCall, begin, mark_sent, place_of, take, unsent
from compat.accounting.usage_store import Usage
from compat.storage.redis_link import KEY_PREFIX, Link

STREAM = f"{KEY_PREFIX}:usage"
MAX_LENGTH = 50_000
TTL_S = 30 * 86_400
_ROUNDS = 10
"""Of batches each time: the rest has to wait."""

_FIELD = b"call"
T = TypeVar("T")


def in_thread(run: Callable[[], T]) -> T:
    """Run in a thread of the system, for SQLite writes to disk, while other greenlets go on."""
    result: T = gevent.get_hub().threadpool.apply(run)
    return result


class SharedUsage:
    """This machine's part. `new_id` makes 32 random hexadecimal digits, `apart` runs what writes to disk."""

    def __init__(
        self, usage: Usage, client: Any, link: Link, new_id: Callable[[], str], apart: Callable[[Callable[[], object]], object] = in_thread
    ) -> None:
        self._usage = usage
        self._client = client
        self._link = link
        self._new_id = new_id
        self._apart = apart

    def sync(self) -> None:
        """Give and take what is new. A Redis or a disk that fails is reported, and tried again the next time."""
        for step in (self._give, self._take):
            for _ in range(_ROUNDS):
                if not step():
                    break

    def _give(self) -> bool:
        """Give a batch away; whether there may be more."""
        given = self._usage.read(unsent)
        if given is None:
            return False
        if not given.store:
            store = self._new_id()
            self._write(lambda writer: begin(writer, store))
            given = self._usage.read(unsent)
        if given is None or not given.calls or self._link.ask(lambda: self._send(given.calls)) is None:
            return False
        self._write(lambda writer: mark_sent(writer, given))
        return len(given.calls) == BATCH

    def _send(self, calls: Sequence[SharedCall]) -> bool:
        with self._client.pipeline() as pipe:
            for call in calls:
                pipe.xadd(STREAM, {_FIELD: msgspec.json.encode(call)}, maxlen=MAX_LENGTH, approximate=True)
            pipe.expire(STREAM, TTL_S)
            pipe.execute()
        return True

    def _take(self) -> bool:
        """Take a batch; whether there may be more."""
        before = self._usage.read(place_of)
        if before is None:
            return False
        found = self._link.ask(lambda: self._client.xread({STREAM: before or "0"}, count=BATCH))
        entries = found[0][1] if found else ()
        if not entries:
            return False
        calls = [call for _, fields in entries if (call := self._read(fields)) is not None]
        after = entries[-1][0].decode()
        self._write(lambda writer: take(writer, calls, before, after))
        return len(entries) == BATCH

    def _read(self, fields: dict[bytes, bytes]) -> SharedCall | None:
        """A call; `None` for what no gateway wrote."""
        try:
            return msgspec.json.decode(fields[_FIELD], type=SharedCall)
        except (KeyError, ValueError, RecursionError):
            self._link.distrust("calls of a usage store")
            return None

    def _write(self, work: Callable[[sqlite3.Connection], None]) -> None:
        self._apart(lambda: self._usage.change(work))
