"""What tests of vaults are made from: one clock, one list of events, one file and one server for all of them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from compat.protocols.base import ThinkingRecord
from compat.vault.buffered import ThinkingVault
from compat.vault.memory import MemoryVault
from compat.vault.redis import RedisVault
from compat.vault.sqlite import SqliteVault

DAY_S = 86_400.0
TTL_S = 14 * DAY_S
TOLD_AGAIN_S = TTL_S / 20
KEPT_S = TTL_S + TOLD_AGAIN_S
"""How long a store keeps a record after the last use that it was told of: others may have been just before the next."""
MIB = 1024 * 1024


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Events(list[tuple[str, dict[str, Any]]]):
    def note(self, name: str, fields: Mapping[str, Any]) -> None:
        self.append((name, dict(fields)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self]


class FakeRedis:
    """A server with a clock; everything fails while it is `gone`."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[str, tuple[Any, float]] = {}
        self.clock, self.gone, self.calls = clock, False, 0

    def ping(self) -> None:
        self.calls += 1
        if self.gone:
            raise ConnectionRefusedError("redis://user:secret@host")

    def mget(self, keys: list[str]) -> list[Any]:
        self.ping()
        return [value if self.clock() < until_s else None for value, until_s in (self.rows.get(key, (None, 0.0)) for key in keys)]

    def set(self, name: str, value: bytes, *, ex: int) -> None:
        self.ping()
        self.rows[name] = value, self.clock() + ex

    def expire(self, name: str, time: int) -> None:
        self.ping()
        value, until_s = self.rows.get(name, (None, 0.0))
        if self.clock() < until_s:
            self.rows[name] = value, self.clock() + time


def turn(*ids: str, text: str = "Hm.", size: int = 0) -> ThinkingRecord:
    """A record with thoughts and with a block that has none to show; `size` makes the signature long."""
    blocks = (
        {"type": "thinking", "thinking": text, "signature": f"c2ln{ids}" + "x" * size},
        {"type": "redacted_thinking", "data": "\u2028é😀"},
    )
    return ThinkingRecord(ids, blocks)


class Bench:
    """Makes vaults over one clock, one list of events, one file and one server."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.events = Clock(), Events()
        self.path = folder / "data" / "thinking #1?.sqlite"
        self.redis = FakeRedis(self.clock)
        self._made: list[ThinkingVault] = []

    def memory(self, max_bytes: int = MIB) -> MemoryVault:
        return MemoryVault(max_bytes=max_bytes, ttl_s=TTL_S, clock=self.clock)

    def sqlite(self, path: Path | None = None, *, max_bytes: int = 64 * MIB, busy_s: float = 0.0) -> SqliteVault:
        vault = SqliteVault(path or self.path, max_bytes=max_bytes, ttl_s=TTL_S, clock=self.clock, on_event=self.events.note, busy_s=busy_s)
        self._made.append(vault)
        return vault

    def over_redis(self) -> RedisVault:
        vault = RedisVault(self.redis, ttl_s=TTL_S, clock=self.clock, errors=(OSError,), on_event=self.events.note)
        self._made.append(vault)
        return vault

    def close(self) -> None:
        for vault in self._made:
            vault.close()

    def query(self, statement: str) -> list[Any]:
        """Ask the file directly."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()


Make = Callable[[Bench], Any]
LASTING: dict[str, Make] = {"sqlite": Bench.sqlite, "redis": Bench.over_redis}
EVERY: dict[str, Make] = {"memory": Bench.memory, **LASTING}
every_vault = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
lasting_vault = pytest.mark.parametrize("make", LASTING.values(), ids=LASTING)


def found(vault: ThinkingVault, *ids: str, client: str = "ada", model: str = "claude-x") -> list[str]:
    return list(vault.find(client, model, ids))
