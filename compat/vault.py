"""The thinking vault: signed thinking blocks, kept for clients that don't send them back.

A client of the OpenAI wire API returns tool results without the thinking that led to the calls, but Anthropic wants those blocks,
signed and verbatim. They are kept under (client, model, tool-call id): nobody finds what another client or model has thought.
A record that is lost, expired or damaged is missing, never an error: the translator goes on without it.

    MemoryVault                      this process, until it ends; with no room at all it is the vault that is switched off
    BufferedVault                    memory in front of a `Store`, written in the background
        compat.vault_sqlite          a file, shared by the workers of one machine
        compat.vault_redis           a Redis server, shared by several machines

The text of thoughts is private: it is in no log line, event or fault. Names of clients and models are only part of hashes.
"""

from __future__ import annotations

import collections
import hashlib
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from gevent import monkey

from compat.translate.base import ThinkingRecord

MAX_IDS = 4096
MEMORY_BYTES = 32 * 1024 * 1024
MAX_PENDING_BYTES = 16 * 1024 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024
IDLE_S = 0.5
RETRY_S = 5.0
TIDY_S = 60.0
_ENTRY_BYTES = 1024  # what an entry weighs besides its texts
_REFRESH_PART = 20  # a store learns of a hit after a twentieth of the time to live: not every read is a write
_new_lock: Callable[[], AbstractContextManager[Any]] = monkey.get_original("_thread", "allocate_lock")

OnEvent = Callable[[str, Mapping[str, Any]], None]


class ThinkingVault(Protocol):
    """Keeps the thinking of assistant turns. Nothing here raises, and only `find` and `close` may wait for a disk or a server."""

    @property
    def fault(self) -> str:
        """What is wrong just now, in words for a person; empty when all is well."""
        ...

    @property
    def entries(self) -> int:
        """How many records there are, as far as is known."""
        ...

    @property
    def size_bytes(self) -> int:
        """How much room they take."""
        ...

    def start(self) -> None:
        """Begin to write in the background; in the process that serves, after any fork."""
        ...

    def keep(self, client: str, model: str, record: ThinkingRecord) -> None:
        """Keep `record`; it can be found at once."""
        ...

    def find(self, client: str, model: str, tool_call_ids: Iterable[str]) -> dict[str, ThinkingRecord]:
        """The records of those tool calls that have one, in the order of the ids; each is good for another time to live.

        Of more than `MAX_IDS` ids the last ones count. Records are shared: don't change them.
        """
        ...

    def close(self) -> None:
        """Write what is left and let go of everything; more calls do no harm."""
        ...


def call_keys(client: str, model: str, tool_call_ids: Iterable[str]) -> dict[str, str]:
    """The last `MAX_IDS` ids, each with the 64 hexadecimal digits it is kept under. What is not a string is left out."""
    ids = list(dict.fromkeys(call_id for call_id in tool_call_ids if isinstance(call_id, str)))[-MAX_IDS:]
    if not ids:
        return {}
    scope = hashlib.blake2b(f"{len(client)}:{client}{len(model)}:{model}".encode("utf-8", "surrogatepass"), digest_size=32)
    keys = {}
    for call_id in ids:
        digest = scope.copy()
        digest.update(call_id.encode("utf-8", "surrogatepass"))
        keys[call_id] = digest.hexdigest()
    return keys


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[tuple[str, ...], tuple[dict[str, Any], ...]]).decode


def pack(record: ThinkingRecord) -> bytes | None:
    """A checksum and JSON; `None` for what JSON can't hold. One wrong bit would make the upstream refuse a signature."""
    try:
        body = _encode((record.tool_call_ids, [dict(block) for block in record.blocks]))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None
    return zlib.crc32(body).to_bytes(4, "big") + body


def unpack(packed: object) -> ThinkingRecord | None:
    """The record in `packed`, `None` if it is damaged."""
    if not isinstance(packed, bytes) or zlib.crc32(memoryview(packed)[4:]).to_bytes(4, "big") != packed[:4]:
        return None
    try:
        return ThinkingRecord(*_decode(memoryview(packed)[4:]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


@dataclass(slots=True, eq=False)
class Entry:
    """A record in memory. Mutable: `used_s`, when it was kept or found last, and `told_s`, the latest use that the store knows of."""

    keys: tuple[str, ...]
    record: ThinkingRecord
    used_s: float
    told_s: float


class Memory:
    """Records by key, bounded in bytes, the least recently used go first. Mutable; its owner guards it with a lock."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._by_key: dict[str, Entry] = {}
        self._sizes: collections.OrderedDict[Entry, int] = collections.OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        """The number of records."""
        return len(self._sizes)

    def put(self, entry: Entry) -> None:
        """Add an entry in the place of those that have one of its keys, and make room for it."""
        for key in entry.keys:
            if key in self._by_key:
                self._drop(self._by_key[key])
            self._by_key[key] = entry
        size = _ENTRY_BYTES + sum(sys.getsizeof(value) for block in entry.record.blocks for value in block.values())
        self._sizes[entry] = size
        self.size_bytes += size
        while self._sizes and (self.size_bytes > self._max_bytes or self._is_expired(next(iter(self._sizes)), entry.used_s)):
            self._drop(next(iter(self._sizes)))

    def get(self, key: str, now_s: float) -> Entry | None:
        """The entry of `key`, which counts as a use."""
        entry = self._by_key.get(key)
        if entry is None:
            return None
        if self._is_expired(entry, now_s):
            self._drop(entry)
            return None
        entry.used_s = now_s
        self._sizes.move_to_end(entry)
        return entry

    def _is_expired(self, entry: Entry, now_s: float) -> bool:
        return now_s - entry.used_s >= self._ttl_s

    def _drop(self, entry: Entry) -> None:
        self.size_bytes -= self._sizes.pop(entry)
        for key in entry.keys:
            if self._by_key.get(key) is entry:
                del self._by_key[key]


class MemoryVault:
    """Keeps records in this process only: for tests, and with `max_bytes=0` for a vault that is switched off."""

    fault = ""

    def __init__(self, *, max_bytes: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self._memory = Memory(max_bytes, ttl_s)
        self._clock = clock
        self._lock = _new_lock()

    @property
    def entries(self) -> int:
        """How many records there are."""
        return len(self._memory)

    @property
    def size_bytes(self) -> int:
        """How much memory they take."""
        return self._memory.size_bytes

    def start(self) -> None:
        """Nothing to do."""

    def keep(self, client: str, model: str, record: ThinkingRecord) -> None:
        """See `ThinkingVault`."""
        keys = tuple(call_keys(client, model, record.tool_call_ids).values())
        if keys:
            now_s = self._clock()
            with self._lock:
                self._memory.put(Entry(keys, record, now_s, now_s))

    def find(self, client: str, model: str, tool_call_ids: Iterable[str]) -> dict[str, ThinkingRecord]:
        """See `ThinkingVault`."""
        keys = call_keys(client, model, tool_call_ids)
        now_s = self._clock()
        with self._lock:
            return {call_id: entry.record for call_id, key in keys.items() if (entry := self._memory.get(key, now_s)) is not None}

    def close(self) -> None:
        """Nothing to do."""


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
        self._lock = _new_lock()
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
        packed = pack(record)
        if not keys or packed is None or len(packed) > self._max_record_bytes:
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
        if len(entries) < len(keys) and self._can_read:
            entries |= self._read([key for key in keys.values() if key not in entries], now_s)
        self._tell_uses(entries.values(), now_s)
        return {call_id: entries[key].record for call_id, key in keys.items() if key in entries}

    def flush(self) -> None:
        """Write what is queued, in the caller's own time: for the background, for the end of the process and for tests."""
        with self._background.lock:
            was_mended = False
            while True:
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
        self._is_closed = True
        self._background.wake()
        self.flush()
        with self._background.lock:
            self._store.close()

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
        used_s = {}
        for row in rows:
            keys_of.setdefault(row.packed, []).append(row.key)
            used_s[row.packed] = row.used_s
        found = {}
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
