"""The thinking vault: signed thinking blocks, kept for clients that don't send them back.

A client of the OpenAI wire API returns tool results without the thinking that led to the calls, but Anthropic wants those blocks,
signed and verbatim. They are kept under (client, model, tool-call id): nobody finds what another client or model has thought.
A record that is lost, expired or damaged is missing, never an error: the translator goes on without it.

    MemoryVault                     this process, until it ends; with no room at all it is the vault that is switched off
    buffered.BufferedVault          memory in front of a store, which is written in the background:
        sqlite.SqliteVault          a file, shared by the workers of one machine
        redis.RedisVault            a Redis server, shared by several machines

The text of thoughts is private: it is in no log line, event or fault. Names of clients and models are only part of hashes.
"""

from __future__ import annotations

import collections
import hashlib
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from compat.protocols.base import ThinkingRecord
from compat.storage.background import new_lock

MAX_IDS = 4096
_KINDS = ("thinking", "redacted_thinking", "reasoning", "tool_use")
_ENTRY_BYTES = 1024  # what an entry weighs besides its texts


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
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None
    return zlib.crc32(body).to_bytes(4, "big") + body


def unpack(packed: object) -> ThinkingRecord | None:
    """The record in `packed`, `None` if it is damaged, or holds what no record does: its blocks go into a request."""
    if not isinstance(packed, bytes) or zlib.crc32(memoryview(packed)[4:]).to_bytes(4, "big") != packed[:4]:
        return None
    try:
        record = ThinkingRecord(*_decode(memoryview(packed)[4:]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return record if all(_is_block(block) for block in record.blocks) else None


def _is_block(block: Mapping[str, Any]) -> bool:
    """Thinking, or a mark for what stood between (`ThinkingRecord`)."""
    kind = block.get("type")
    return kind in _KINDS or (kind == "text" and type(block.get("chars")) is int and block["chars"] >= 0)


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
        """Add an entry, replacing those that have one of its keys, and make room for it."""
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
            del self._by_key[key]


class MemoryVault:
    """Keeps the thinking of assistant turns in this process only: for tests, and with `max_bytes=0` for a vault that is switched off.

    Nothing of any vault raises, and only `find` and `close` may wait for a disk or a server.
    """

    fault = ""
    queued = 0
    dropped = 0

    def __init__(self, *, max_bytes: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self._memory = Memory(max_bytes, ttl_s)
        self._clock = clock
        self._lock = new_lock()

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
        """Keep `record`; it can be found at once."""
        keys = tuple(call_keys(client, model, record.tool_call_ids).values())
        if keys:
            now_s = self._clock()
            with self._lock:
                self._memory.put(Entry(keys, record, now_s, now_s))

    def find(self, client: str, model: str, tool_call_ids: Iterable[str]) -> dict[str, ThinkingRecord]:
        """The records of those tool calls that have one, in the order of the ids; each is good for another time to live.

        Of more than `MAX_IDS` ids the last ones count. Records are shared: don't change them.
        """
        keys = call_keys(client, model, tool_call_ids)
        now_s = self._clock()
        with self._lock:
            return {call_id: entry.record for call_id, key in keys.items() if (entry := self._memory.get(key, now_s)) is not None}

    def close(self) -> None:
        """Nothing to do."""
