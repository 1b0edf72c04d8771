"""A thinking vault with memory in front of a store that is slow or can fail; the store is written in the background.

    keep    memory and a bounded queue: no disk, no network
    find    memory, then one read of the store for all that is not there
    flush   the queue to the store, called by the background whenever something was kept

While the store fails, the vault goes on with memory alone, says so once, and tries again every `RETRY_S`.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from compat.translate.base import ThinkingRecord
from compat.vault import Entry, Memory, call_keys, new_lock, pack, unpack

MEMORY_BYTES = 32 * 1024 * 1024
MAX_PENDING_BYTES = 16 * 1024 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024
IDLE_S = 0.5
RETRY_S = 5.0
TIDY_S = 60.0
_REFRESH_PART = 20  # a store learns of a hit after a twentieth of the time to live: not every read is a write

OnEvent = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Row:
    """What a store knows of a key: the packed record and when it was used last (0 where the store can't tell)."""

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


class StoreFailed(Exception):
    """A store can't be used; the message is for a person. `is_mended`: the cause is removed already, so try again at once."""

    def __init__(self, message: str, *, is_mended: bool = False) -> None:
        super().__init__(message)
        self.is_mended = is_mended


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
        """Let go of files and connections."""
        ...


class Background(Protocol):
    """How writing is done beside the calls. `lock` lets one writer in at a time."""

    lock: AbstractContextManager[Any]

    def start(self, run: Callable[[], None]) -> None:
        """Let `run` begin."""
        ...

    def wake(self) -> None:
        """End the present or the next `wait`."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Wait, in `run`."""
        ...


class BufferedVault:
    """Memory in front of a store. Mutable: the memory and the queue (under `_lock`, never held during I/O), and how the store does.

    A record is in memory and in the queue when `keep` returns; the background writes the queue at once, or, while the store fails,
    whenever `RETRY_S` have passed. A queue that is full loses its oldest changes (`dropped`).
    """

    def __init__(
        self, store: Store, background: Background, *, ttl_s: float, clock: Callable[[], float], on_event: OnEvent, max_record_bytes: int
    ) -> None:
        self._store = store
        self._background = background
        self._ttl_s = ttl_s
        self._clock = clock
        self._on_event = on_event
        self._max_record_bytes = max_record_bytes
        self._memory = Memory(MEMORY_BYTES, ttl_s)
        self._queue: collections.deque[Change] = collections.deque()
        self._queued_bytes = 0
        self._lock = new_lock()
        self._can_read = True
        self._failed_s: float | None = None
        self._tidied_s: float | None = None
        self._is_closed = False
        self.dropped = 0
        self.fault = ""

    @property
    def entries(self) -> int:
        """The store's records, or those in memory where the store can't tell."""
        return (self._store.gauges() or (len(self._memory), 0))[0]

    @property
    def size_bytes(self) -> int:
        """The room they take there."""
        return (self._store.gauges() or (0, self._memory.size_bytes))[1]

    def start(self) -> None:
        """Begin to write in the background; a store that can't be used is told of right away."""
        self._background.start(self._run)

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
        self._background.wake()

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

    def flush(self) -> None:
        """Write what is queued, in the caller's own time: for the background, for the end of the process and for tests."""
        with self._background.lock:
            was_mended = False
            while not self._is_closed:
                try:
                    if not self._write_some():
                        return
                except StoreFailed as error:
                    if was_mended or not error.is_mended:
                        self._failed_s = self._clock()
                        return
                    was_mended = True

    def close(self) -> None:
        """Write what is left and close the store."""
        self.flush()
        with self._background.lock:
            self._is_closed = True
            self._store.close()
        self._background.wake()

    def _run(self) -> None:
        while not self._is_closed:
            self.flush()
            self._background.wait(IDLE_S)

    def _read(self, keys: list[str], now_s: float) -> dict[str, Entry]:
        """Entries from the store, which are in memory from now on."""
        try:
            rows = self._store.read(keys, now_s - self._ttl_s)
        except StoreFailed as error:
            self._can_read = False
            self._failed_s = None if error.is_mended else now_s
            self._note_fault(str(error))
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
        """Queue the uses that the store should hear of."""
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

    def _write_some(self) -> bool:
        """Write one batch; whether there may be more. Errors: `StoreFailed`, with the batch in the queue again."""
        now_s = self._clock()
        if self._failed_s is not None and abs(now_s - self._failed_s) < RETRY_S:  # abs: the clock of the wall may be set back
            return False
        batch: list[Change] = []
        size = 0
        with self._lock:
            while self._queue and size < MAX_BATCH_BYTES:
                batch.append(self._queue.popleft())
                size += batch[-1].size_bytes
            self._queued_bytes -= size
        if not batch and self._tidied_s is not None and abs(now_s - self._tidied_s) < TIDY_S:
            return False
        try:
            self._store.write(batch, now_s)
        except StoreFailed as error:
            with self._lock:
                newer = list(self._queue)
                self._queue.clear()
                self._queued_bytes = 0
                for change in [*batch, *newer]:
                    self._enqueue(change)
            self._note_fault(str(error))
            raise
        self._tidied_s = now_s
        self._failed_s = None
        self._can_read = True
        if self.fault:
            self.fault = ""
            self._on_event("vault.recovered", {})
        return True

    def _note_fault(self, words: str) -> None:
        """Say it, once until the store is well again; see to it that the store is tried without anything to write, too."""
        self._tidied_s = None
        was_well = not self.fault
        self.fault = words
        if was_well:
            self._on_event("vault.failed", {"reason": words})
