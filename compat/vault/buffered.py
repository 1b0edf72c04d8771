"""A thinking vault with memory in front of a store that is slow or can fail; the store is written in the background.

    keep    memory and a bounded queue: no disk, no network
    find    memory, then one read of the store for all that is not there
    flush   the queue to the store, called by the background

While the store fails, the vault goes on with memory alone, says so once, and tries again every `RETRY_S`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from compat.protocols.base import ThinkingRecord
from compat.storage.background import Background, BackgroundWriter, OnEvent, StoreFailed
from compat.vault.memory import Entry, Memory, MemoryVault, call_keys, pack, unpack

MEMORY_BYTES = 32 * 1024 * 1024
MAX_PENDING_BYTES = 16 * 1024 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024
# A store learns of a hit after a twentieth of the time to live, for not every read is to be a write, and keeps for that much longer.
_REFRESH_PART = 20


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


class BufferedVault(BackgroundWriter[Change]):
    """Memory in front of a store. Mutable: the memory (under `_lock`, as the queue), whether the store can be read.

    A record is in memory and in the queue when `keep` returns. `_in_store` are the number of records and their bytes at the store's last
    write, where it knows them. The store keeps for `_kept_s`, a little longer than memory, for it doesn't learn of every use.
    """

    def __init__(
        self, background: Background, *, ttl_s: float, clock: Callable[[], float], on_event: OnEvent, max_record_bytes: int
    ) -> None:
        super().__init__(
            "vault",
            background,
            clock=clock,
            on_event=on_event,
            max_queued=MAX_PENDING_BYTES,
            max_batch=MAX_BATCH_BYTES,
            size_of=lambda change: change.size_bytes,
        )
        self._refresh_s = ttl_s / _REFRESH_PART
        self._kept_s = ttl_s + self._refresh_s
        self._max_record_bytes = max_record_bytes
        self._memory = Memory(MEMORY_BYTES, ttl_s)
        self._in_store: tuple[int, int] | None = None
        self._can_read = True

    @abc.abstractmethod
    def _read_rows(self, keys: Sequence[str], since_s: float) -> list[Row]:
        """The rows of `keys` that were used after `since_s`, quickly. Errors: `StoreFailed`."""

    @abc.abstractmethod
    def _write_changes(self, changes: Sequence[Change], now_s: float) -> None:
        """Write all changes or none, drop what is expired or too much; without changes, see that all is well. Errors: `StoreFailed`."""

    @property
    def entries(self) -> int:
        """The store's records, or those in memory where it can't say."""
        return len(self._memory) if self._in_store is None else self._in_store[0]

    @property
    def size_bytes(self) -> int:
        """The room they take there."""
        return self._memory.size_bytes if self._in_store is None else self._in_store[1]

    def keep(self, client: str, model: str, record: ThinkingRecord) -> None:
        """See `MemoryVault`."""
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
        """See `MemoryVault`. Memory first; one read of the store for all that is not there."""
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
            rows = self._read_rows(keys, now_s - self._kept_s)
        except StoreFailed as error:
            self._can_read = False
            self._failed_s = None if error.is_mended else now_s
            self._note_fault(error)
            self._background.wake()
            return {}
        rows_of: dict[bytes, list[Row]] = {}
        for row in rows:
            rows_of.setdefault(row.packed, []).append(row)
        found: dict[str, Entry] = {}
        for packed, its_rows in rows_of.items():
            record = unpack(packed)
            if record is not None:
                entry = Entry(tuple(row.key for row in its_rows), record, now_s, its_rows[-1].used_s)
                found |= dict.fromkeys(entry.keys, entry)
                with self._lock:
                    self._memory.put(entry)
        return found

    def _tell_uses(self, entries: Iterable[Entry], now_s: float) -> None:
        """Queue the uses that the store should record."""
        with self._lock:
            for entry in entries:
                if now_s - entry.told_s >= self._refresh_s:
                    entry.told_s = now_s
                    self._enqueue(Change(entry.keys, b"", now_s))

    def _write(self, batch: Sequence[Change], now_s: float, *, tidies: bool) -> None:  # noqa: ARG002  # each write drops what is too much
        self._write_changes(batch, now_s)
        self._can_read = True


ThinkingVault = MemoryVault | BufferedVault
