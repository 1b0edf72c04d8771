"""The thinking vault in a file, shared by the workers of one machine.

Two connections: one that writes, used in the background by a thread of the system, and one that reads, used by the calls. The
journal is a write-ahead log, so neither waits for the other, and a process that is killed loses only what is still in its queue.
The rules for the file are those of `sqlite_file`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from compat.storage.background import NativeThread, OnEvent
from compat.storage.sqlite_file import BUSY_S, SqliteFile, used_bytes
from compat.vault.buffered import BufferedVault, Change, Row

_VERSION = 1
_CREATE = (
    "CREATE TABLE turns (id INTEGER PRIMARY KEY, used_s REAL NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX turns_by_use ON turns (used_s)",
    "CREATE TABLE calls (key TEXT PRIMARY KEY, turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE) WITHOUT ROWID",
    "CREATE INDEX calls_by_turn ON calls (turn)",
)
_READ = """
    SELECT calls.key, CAST(turns.body AS BLOB), CAST(turns.used_s AS REAL) FROM calls JOIN turns ON turns.id = calls.turn
    WHERE calls.key IN (SELECT value FROM json_each(?)) AND turns.used_s > ?"""
_USE = "UPDATE turns SET used_s = max(used_s, ?) WHERE id IN (SELECT turn FROM calls WHERE key IN (SELECT value FROM json_each(?)))"
_DROP_OLDEST = "DELETE FROM turns WHERE id IN (SELECT id FROM turns ORDER BY used_s, id LIMIT ?)"


class SqliteVault(BufferedVault):
    """Keeps records in the file at `path`, which holds at most `max_bytes`; each for at least `ttl_s` after its last use.

    Nothing is opened before `start`, `flush` or `find`.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float],
        on_event: OnEvent = lambda _name, _fields: None,
        busy_s: float = BUSY_S,
    ) -> None:
        super().__init__(NativeThread(), ttl_s=ttl_s, clock=clock, on_event=on_event, max_record_bytes=max_bytes // 4)
        self._file = SqliteFile(path, _CREATE, _VERSION, busy_s=busy_s, absent=(FileNotFoundError,))
        self._max_bytes = max_bytes
        self._in_store = (0, 0)

    def _read_rows(self, keys: Sequence[str], since_s: float) -> list[Row]:
        """One query. No rows when there is no file, or when it is locked for longer than a moment."""
        rows = self._file.read(lambda reader: reader.execute(_READ, (json.dumps(keys), since_s)).fetchall())
        return [Row(*row) for row in rows or ()]

    def _write_changes(self, changes: Sequence[Change], now_s: float) -> None:
        """One transaction."""

        def work(writer: sqlite3.Connection) -> tuple[int, int]:
            for change in changes:
                _apply(writer, change)
            writer.execute("DELETE FROM turns WHERE used_s <= ?", (now_s - self._kept_s,))
            count, size = _gauge(writer)
            while count and size > self._max_bytes:
                writer.execute(_DROP_OLDEST, (1 + count // 100,))
                count, size = _gauge(writer)
            return count, size

        self._in_store = self._file.write(work)

    def _shrink(self) -> None:
        self._file.shrink(self._max_bytes)

    def _close_store(self) -> None:
        self._file.close()


def _apply(writer: sqlite3.Connection, change: Change) -> None:
    if change.packed:
        turn = writer.execute("INSERT INTO turns (used_s, body) VALUES (?, ?)", (change.used_s, change.packed)).lastrowid
        writer.executemany("INSERT OR REPLACE INTO calls (key, turn) VALUES (?, ?)", [(key, turn) for key in change.keys])
    else:
        writer.execute(_USE, (change.used_s, json.dumps(change.keys)))


def _gauge(connection: sqlite3.Connection) -> tuple[int, int]:
    count: int = connection.execute("SELECT count(*) FROM turns").fetchone()[0]
    return count, used_bytes(connection)
