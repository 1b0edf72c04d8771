"""Answers in a file, shared by the workers of one machine. The rules for the file are those of `sqlite_file`.

One thread of the system does all the work, so that no call waits for the disk of another one; a commit is a write to the log and no more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gevent.threadpool import ThreadPool

from compat.storage.background import StoreFailed
from compat.storage.sqlite_file import SqliteFile, used_bytes

_VERSION = 1
_CREATE = (
    """CREATE TABLE answers (
        id INTEGER PRIMARY KEY, client TEXT NOT NULL, name TEXT NOT NULL, made_s REAL NOT NULL, beat_s REAL NOT NULL DEFAULT 0,
        is_cancelled INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL, UNIQUE (client, name))""",
    "CREATE INDEX answers_by_age ON answers (made_s)",
    """CREATE TABLE frames (
        answer INTEGER NOT NULL REFERENCES answers ON DELETE CASCADE, number INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (answer, number)) WITHOUT ROWID""",
)
_WRITE = """
    INSERT INTO answers (client, name, made_s, body) VALUES (?, ?, ?, ?)
    ON CONFLICT (client, name) DO UPDATE SET body = excluded.body"""
_APPEND = "INSERT OR REPLACE INTO frames SELECT id, ?, ? FROM answers WHERE client = ? AND name = ?"
_PARTS = """
    SELECT frames.body FROM frames JOIN answers ON answers.id = frames.answer
    WHERE client = ? AND name = ? AND number >= ? ORDER BY number"""
_READ = "SELECT body, beat_s FROM answers WHERE client = ? AND name = ? AND made_s > ?"
_DROP_OLDEST = "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY id LIMIT 16)"
MAX_ROWS = 100_000
_BUSY_S = 2.0
T = TypeVar("T")


class SqliteResponses:
    """Keeps answers in the file at `path`, which holds at most `max_bytes` and `max_rows`; none longer than `ttl_s` after it was begun, by
    `clock` (seconds since 1970). Errors: `StoreFailed`. Mutable: the thread, made in the process that serves."""

    def __init__(self, path: Path, clock: Callable[[], float], *, max_bytes: int, ttl_s: float, max_rows: int = MAX_ROWS) -> None:
        self.max_record_bytes = max_bytes // 4
        self._file = SqliteFile(path, _CREATE, _VERSION, busy_s=_BUSY_S, absent=(FileNotFoundError,))
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._ttl_s = ttl_s
        self._pool: Any = None

    def close(self) -> None:
        """See `Backend`. The thread ends as well, which gevent leaves behind otherwise."""
        if self._pool is not None:
            self._in_thread(self._file.close)
            self._pool.kill()
            self._pool = None

    def read(self, client: str, answer_id: str) -> tuple[bytes, float] | None:
        """See `Backend`."""
        rows = self._select(_READ, (client, answer_id, self._clock() - self._ttl_s))
        return rows[0] if rows else None

    def parts(self, client: str, answer_id: str, since: int) -> Sequence[bytes]:
        """See `Backend`."""
        return [body for (body,) in self._select(_PARTS, (client, answer_id, since))]

    def write(self, client: str, answer_id: str, packed: bytes) -> None:
        """See `Backend`."""
        now_s = self._clock()

        def work(writer: sqlite3.Connection) -> None:
            writer.execute(_WRITE, (client, answer_id, now_s, packed))
            writer.execute("DELETE FROM answers WHERE made_s <= ?", (now_s - self._ttl_s,))
            self._bound(writer)

        self._change(work)

    def append(self, client: str, answer_id: str, number: int, frames: bytes) -> None:
        """See `Backend`."""

        def work(writer: sqlite3.Connection) -> None:
            writer.execute(_APPEND, (number, frames, client, answer_id))
            self._bound(writer)

        self._change(work)

    def _bound(self, writer: sqlite3.Connection) -> None:
        """Drop the oldest answers where there is no room."""
        writer.execute("DELETE FROM answers WHERE id <= (SELECT max(id) FROM answers) - ?", (self._max_rows,))
        while used_bytes(writer) > self._max_bytes and writer.execute(_DROP_OLDEST).rowcount:
            pass

    def remove(self, client: str, answer_id: str) -> bool:
        """See `Backend`."""
        return self._execute("DELETE FROM answers WHERE client = ? AND name = ?", (client, answer_id)) > 0

    def beat(self, client: str, answer_id: str, now_s: float) -> bool:
        """See `Backend`."""
        query = "UPDATE answers SET beat_s = ? WHERE client = ? AND name = ? AND NOT is_cancelled"
        return self._execute(query, (now_s, client, answer_id)) > 0

    def cancel(self, client: str, answer_id: str) -> None:
        """See `Backend`."""
        self._execute("UPDATE answers SET is_cancelled = 1 WHERE client = ? AND name = ?", (client, answer_id))

    def _execute(self, statement: str, values: tuple[Any, ...]) -> int:
        """How many rows a statement changed."""
        return self._change(lambda writer: writer.execute(statement, values).rowcount)

    def _select(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._in_thread(lambda: self._file.read(lambda reader: reader.execute(query, values).fetchall())) or []

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def change() -> T:
            try:
                return self._file.write(work)
            except StoreFailed as error:
                if not error.is_mended:
                    raise
                return self._file.write(work)

        return self._in_thread(change)

    def _in_thread(self, work: Callable[[], T]) -> T:
        """What `work` returns. Errors: `StoreFailed`."""
        if self._pool is None:
            self._pool = ThreadPool(1)
        value, error = self._pool.apply(_outcome, (work,))
        if error is not None:
            raise error
        result: T = value
        return result


def _outcome(work: Callable[[], T]) -> tuple[T | None, StoreFailed | None]:
    """The result, or the error that the caller expects; gevent would print one that leaves a thread."""
    try:
        return work(), None
    except StoreFailed as error:
        return None, error
