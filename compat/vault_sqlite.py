"""The thinking vault in a file, shared by the workers of one machine.

Two connections: one that writes, used in the background by a thread of the system, and one that reads, used by the calls. The
journal is a write-ahead log, so neither waits for the other, and a process that is killed loses only what is still in its queue.

Rules for the file, which other processes have open as well (https://www.sqlite.org/howtocorrupt.html):
    - it is created empty with mode 0600 before SQLite opens it; SQLite gives the log beside it the same mode;
    - it is never opened here but by SQLite: closing a second descriptor would drop this process's locks;
    - it is created and set aside under a lock, and set aside only while the path still leads to the file that was found
      broken: another process may have put a good one there. Whoever finds that the path leads elsewhere opens it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gevent import monkey

from compat.vault import new_lock
from compat.vault_buffer import BufferedVault, Change, OnEvent, Row, StoreFailed

BUSY_S = 5.0
_READ_BUSY_S = 0.05
_LOG_BYTES = 4 * 1024 * 1024
_VERSION = 1
_start_thread = monkey.get_original("_thread", "start_new_thread")

_OPEN = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    f"PRAGMA journal_size_limit = {_LOG_BYTES}",
    "PRAGMA foreign_keys = ON",
)
_CREATE = (
    "BEGIN IMMEDIATE",
    "CREATE TABLE turns (id INTEGER PRIMARY KEY, used_s REAL NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX turns_by_use ON turns (used_s)",
    "CREATE TABLE calls (key TEXT PRIMARY KEY, turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE) WITHOUT ROWID",
    "CREATE INDEX calls_by_turn ON calls (turn)",
    f"PRAGMA user_version = {_VERSION}",
    "COMMIT",
)
_READ = """
    SELECT calls.key, CAST(turns.body AS BLOB), CAST(turns.used_s AS REAL) FROM calls JOIN turns ON turns.id = calls.turn
    WHERE calls.key IN (SELECT value FROM json_each(?)) AND turns.used_s > ?"""
_USE = "UPDATE turns SET used_s = max(used_s, ?) WHERE id IN (SELECT turn FROM calls WHERE key IN (SELECT value FROM json_each(?)))"
_DROP_OLDEST = "DELETE FROM turns WHERE id IN (SELECT id FROM turns ORDER BY used_s, id LIMIT ?)"

_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOT_READY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_ERROR})  # ERROR: tables that are just being made

Identity = tuple[int, int]


class _Foreign(sqlite3.DatabaseError):
    """A good file that is not ours."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB


class SqliteVault(BufferedVault):
    """Keeps records in the file at `path`, which holds at most `max_bytes`; each for `ttl_s` after its last use.

    `clock` is in seconds since 1970. `on_event` is told `vault.failed` and `vault.recovered`, also from the writing thread.
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
        store = SqliteStore(path, max_bytes, ttl_s, busy_s)
        super().__init__(store, NativeThread(), ttl_s=ttl_s, clock=clock, on_event=on_event, max_record_bytes=max_bytes // 4)


class NativeThread:
    """A thread of the system, also under gevent, whose own threads would stand still while SQLite writes."""

    def __init__(self) -> None:
        self.lock: AbstractContextManager[Any] = new_lock()
        self._bell = new_lock()
        self._bell.acquire()

    def start(self, run: Callable[[], None]) -> None:
        """Let `run` begin; it ends with the process at the latest."""
        _start_thread(run, ())

    def wake(self) -> None:
        """End the present or the next `wait`."""
        with contextlib.suppress(RuntimeError):  # has been called already
            self._bell.release()

    def wait(self, timeout_s: float) -> None:
        """Wait, in `run`."""
        self._bell.acquire(timeout=timeout_s)


class SqliteStore:
    """Records in a file. Mutable: both connections, each with the identity of the file it has open; the writer's last gauges."""

    def __init__(self, path: Path, max_bytes: int, ttl_s: float, busy_s: float) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._busy_s = busy_s
        self._reader: sqlite3.Connection | None = None
        self._reader_file: Identity | None = None
        self._writer: sqlite3.Connection | None = None
        self._writer_file: Identity | None = None
        self._suspect: Identity | None = None
        self._gauges = (0, 0)

    def gauges(self) -> tuple[int, int]:
        """Records, and bytes in use in the file, after the last write."""
        return self._gauges

    def read(self, keys: Sequence[str], since_s: float) -> list[Row]:
        """See `Store`: one query. No rows when there is no file, or when it is locked for longer than a moment."""
        try:
            reader = self._open_reader()
            return [] if reader is None else [Row(*row) for row in reader.execute(_READ, (json.dumps(keys), since_s)).fetchall()]
        except (sqlite3.Error, OSError) as error:
            code = _code(error)
            self._close_reader()
            if code in _NOT_READY:
                return []
            if code not in _BROKEN:
                raise StoreFailed(self._words(error)) from error
            self._suspect = self._reader_file
            raise StoreFailed(f"{self._words(error)}; it is set aside", is_mended=True) from error

    def write(self, changes: Sequence[Change], now_s: float) -> None:
        """See `Store`: one transaction. A broken file is set aside as `<name>.broken`, in place of one that is there already."""
        try:
            try:
                if self._suspect is not None:
                    self._set_aside(self._suspect)
                self._write(self._open_writer(), changes, now_s)
            except sqlite3.Error as error:
                if _code(error) not in {*_BROKEN, sqlite3.SQLITE_ERROR} or self._writer_file is None:
                    raise
                self._set_aside(self._writer_file)
                raise StoreFailed(f"{self._words(error)}; it has been set aside", is_mended=True) from error
        except (sqlite3.Error, OSError) as error:
            self._close_writer()
            raise StoreFailed(self._words(error)) from error

    def close(self) -> None:
        """Close both connections; the last one in all processes folds the log into the file."""
        self._close_reader()
        self._close_writer()

    def _write(self, writer: sqlite3.Connection, changes: Sequence[Change], now_s: float) -> None:
        writer.execute("BEGIN IMMEDIATE")
        for change in changes:
            if change.packed:
                turn = writer.execute("INSERT INTO turns (used_s, body) VALUES (?, ?)", (change.used_s, change.packed)).lastrowid
                writer.executemany("INSERT OR REPLACE INTO calls (key, turn) VALUES (?, ?)", [(key, turn) for key in change.keys])
            else:
                writer.execute(_USE, (change.used_s, json.dumps(change.keys)))
        writer.execute("DELETE FROM turns WHERE used_s <= ?", (now_s - self._ttl_s,))
        count, used_bytes = _gauge(writer)
        while count and used_bytes > self._max_bytes:
            writer.execute(_DROP_OLDEST, (1 + count // 100,))
            count, used_bytes = _gauge(writer)
        writer.execute("COMMIT")
        self._gauges = (count, used_bytes)
        if not changes and _pragma(writer, "page_count") * _pragma(writer, "page_size") > self._max_bytes:
            writer.executescript("PRAGMA incremental_vacuum")  # execute() would free a single page

    def _open_writer(self) -> sqlite3.Connection:
        """The connection to the file that is at the path now, which is created if there is none."""
        if self._writer is not None and _identity(self._path) == self._writer_file:
            return self._writer
        self._close_writer()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path_lock():
            self._writer_file = _private_file(self._path)
            self._writer = writer = self._connect(self._path, self._busy_s)
            is_empty = _pragma(writer, "schema_version") == 0
            if not is_empty and _pragma(writer, "user_version") != _VERSION:
                raise _Foreign("belongs to another program or version")
            for statement in (*_OPEN, *_CREATE) if is_empty else _OPEN:
                writer.execute(statement).fetchall()
        return writer

    def _open_reader(self) -> sqlite3.Connection | None:
        """The connection to the file that is at the path now, if there is one."""
        identity = _identity(self._path)
        if self._reader is not None and identity == self._reader_file:
            return self._reader
        self._close_reader()
        self._reader_file = identity
        if identity is None:
            return None
        self._reader = self._connect(self._path, _READ_BUSY_S)
        self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def _connect(self, path: Path, busy_s: float) -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        return sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)

    @contextlib.contextmanager
    def _path_lock(self) -> Iterator[None]:
        """Nobody else creates or renames the file meanwhile. The lock is one of SQLite on an empty file; it ends with its process."""
        path = Path(f"{self._path}.lock")
        _private_file(path)
        with contextlib.closing(self._connect(path, self._busy_s)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            yield

    def _set_aside(self, broken: Identity) -> None:
        """Rename the file and its log, unless another process has done so. The file first: SQLite deletes a log without a file."""
        with self._path_lock():
            if _identity(self._path) == broken:
                for suffix in ("", "-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        Path(f"{self._path}{suffix}").replace(f"{self._path}.broken{suffix}")
        self._suspect = None
        self._close_writer()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _close_writer(self) -> None:
        """Closing also takes back a transaction that was not ended."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _words(self, error: Exception) -> str:
        return f"{self._path.name}: {error.strerror if isinstance(error, OSError) else error}"


def _private_file(path: Path) -> Identity:
    """The identity of the file at `path`, which only its owner can use from its first moment; created if there is none."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileExistsError(0, "is not a file")
    if stat.S_IMODE(status.st_mode) != 0o600:
        path.chmod(0o600)
    return status.st_dev, status.st_ino


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _code(error: Exception) -> int:
    """SQLite's primary result code; -1 for other errors."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else code


def _gauge(connection: sqlite3.Connection) -> tuple[int, int]:
    count: int = connection.execute("SELECT count(*) FROM turns").fetchone()[0]
    return count, (_pragma(connection, "page_count") - _pragma(connection, "freelist_count")) * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
