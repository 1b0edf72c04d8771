"""A thinking vault with memory in front of a store that is slow or can fail; the store is written in the background.

    keep    memory and a bounded queue: no disk, no network
    find    memory, then one read of the store for all that is not there
    flush   the queue to the store, called by the background whenever something was kept

While the store fails, the vault goes on with memory alone, says so once, and tries again every `RETRY_S`.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from compat.protocols.base import ThinkingRecord
from compat.storage.background import Background, BackgroundWriter, OnEvent, StoreFailed, new_lock
from compat.vault.memory import Entry, Memory, call_keys, pack, unpack

MEMORY_BYTES = 32 * 1024 * 1024
MAX_PENDING_BYTES = 16 * 1024 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024
_REFRESH_PART = 20  # a store learns of a hit after a twentieth of the time to live: not every read is a write


@dataclass(frozen=True, slots=True)
class Row:
    """What a store knows of a key: the packed record and when it was used last (0 where the store doesn't know)."""

    key: str
    packed: bytes
    used_s: float


@dataclass(frozen=True, slots=True)
class Change:
    """Something for a store to write: a record under `keys`, or, with nothing in `packed`, that these were used."""

    keys: tuple[str, ...]
    packed: bytes
    used_s: float

    @property
    def size_bytes(self) -> int:
        """How much room it takes in the queue."""
        return len(self.packed) + 64 * len(self.keys)


class Store(Protocol):
    """Where a `BufferedVault` keeps records for good."""

    def read(self, keys: Sequence[str], since_s: float) -> list[Row]:
        """The rows of `keys` that were used after `since_s`, quickly. Errors: `StoreFailed`."""
        ...

    def write(self, changes: Sequence[Change], now_s: float) -> None:
        """Write all changes or none, drop what is expired or too much; without changes, see that all is well. Errors: `StoreFailed`."""
        ...

    def gauges(self) -> tuple[int, int] | None:
        """The number of records and their bytes at the last write, where that is known."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


class BufferedVault(BackgroundWriter):
    """Memory in front of a store. Mutable: the memory and the queue (under `_lock`, never held during I/O), and the store's state.

    A record is in memory and in the queue when `keep` returns; the background writes the queue at once, or, while the store fails,
    whenever `RETRY_S` have passed. A queue that is full loses its oldest changes (`dropped`).
    """

    def __init__(
        self, store: Store, background: Background, *, ttl_s: float, clock: Callable[[], float], on_event: OnEvent, max_record_bytes: int
    ) -> None:
        super().__init__("vault", background, clock=clock, on_event=on_event)
        self._store = store
        self._ttl_s = ttl_s
        self._max_record_bytes = max_record_bytes
        self._memory = Memory(MEMORY_BYTES, ttl_s)
        self._queue: collections.deque[Change] = collections.deque()
        self._queued_bytes = 0
        self._lock = new_lock()
        self._can_read = True

    @property
    def entries(self) -> int:
        """The store's records, or those in memory where the store fails."""
        return (self._store.gauges() or (len(self._memory), 0))[0]

    @property
    def size_bytes(self) -> int:
        """The room they take there."""
        return (self._store.gauges() or (0, self._memory.size_bytes))[1]

    @property
    def queued(self) -> int:
        """See `ThinkingVault`."""
        return len(self._queue)

    def keep(self, client: str, model: str, record: ThinkingRecord) -> None:
        """See `ThinkingVault`."""
        keys = tuple(call_keys(client, model, record.tool_call_ids).values())
        if not keys:
            return
        packed = pack(record)
        if packed is None or len(packed) > self._max_record_bytes:
            self.dropped += 1
            return
        now_s = self._clock()
        with self._lock:
            self._memory.put(Entry(keys, record, now_s, now_s))
            self._enqueue(Change(keys, packed, now_s))

    def find(self, client: str, model: str, tool_call_ids: Iterable[str]) -> dict[str, ThinkingRecord]:
        """See `ThinkingVault`. Memory first; one read of the store for all that is not there."""
        keys = call_keys(client, model, tool_call_ids)
        if not keys:
            return {}
        now_s = self._clock()
        with self._lock:
            entries = {key: entry for key in keys.values() if (entry := self._memory.get(key, now_s)) is not None}
        if len(entries) < len(keys) and self._can_read and not self._is_closed:
            entries |= self._read([key for key in keys.values() if key not in entries], now_s)
        self._tell_uses(entries.values(), now_s)
        return {call_id: entries[key].record for call_id, key in keys.items() if key in entries}

    def _read(self, keys: list[str], now_s: float) -> dict[str, Entry]:
        """Entries from the store, which are in memory from now on."""
        try:
            rows = self._store.read(keys, now_s - self._ttl_s)
        except StoreFailed as error:
            self._can_read = False
            self._failed_s = None if error.is_mended else now_s
            self._note_fault(error)
            self._background.wake()
            return {}
        keys_of: dict[bytes, list[str]] = {}
        used_s: dict[bytes, float] = {}
        for row in rows:
            keys_of.setdefault(row.packed, []).append(row.key)
            used_s[row.packed] = row.used_s
        found: dict[str, Entry] = {}
        for packed, its_keys in keys_of.items():
            record = unpack(packed)
            if record is not None:
                entry = Entry(tuple(its_keys), record, now_s, used_s[packed])
                found |= dict.fromkeys(its_keys, entry)
                with self._lock:
                    self._memory.put(entry)
        return found

    def _tell_uses(self, entries: Iterable[Entry], now_s: float) -> None:
        """Queue the uses that the store should record."""
        with self._lock:
            for entry in entries:
                if now_s - entry.told_s >= self._ttl_s / _REFRESH_PART:
                    entry.told_s = now_s
                    self._enqueue(Change(entry.keys, b"", now_s))

    def _enqueue(self, change: Change) -> None:
        self._queue.append(change)
        self._queued_bytes += change.size_bytes
        while self._queued_bytes > MAX_PENDING_BYTES:
            self._queued_bytes -= self._queue.popleft().size_bytes
            self.dropped += 1

    def _write_batch(self, now_s: float, *, is_tidy: bool) -> bool:
        batch: list[Change] = []
        size = 0
        with self._lock:
            while self._queue and size < MAX_BATCH_BYTES:
                batch.append(self._queue.popleft())
                size += batch[-1].size_bytes
            self._queued_bytes -= size
        if not batch and is_tidy:
            return False
        try:
            self._store.write(batch, now_s)
        except StoreFailed:
            with self._lock:
                newer = list(self._queue)
                self._queue.clear()
                self._queued_bytes = 0
                for change in [*batch, *newer]:
                    self._enqueue(change)
            raise
        self._tidied_s = now_s
        self._can_read = True
        return True

    def _close_store(self) -> None:
        self._store.close()
