"""A SQLite file that belongs to the gateway and may fail at any time: shared by processes, private to its owner, set aside when broken.

    file.write(work)     work(connection) in one transaction
    file.shrink(bytes)   gives free pages back to the disk
    file.read(work)      work(connection) on a connection of its own, beside the writer; None while there is no file

Rules for the file, which other processes have open as well (https://www.sqlite.org/howtocorrupt.html):
    - it is created empty with mode 0600 before SQLite opens it; SQLite gives the log beside it the same mode;
    - it is never opened here but by SQLite: closing a second descriptor would drop this process's locks;
    - it is created and set aside under a lock, and set aside only while the path still leads to the file that was found
      broken: another process may have put a good one there. Whoever finds that the path leads elsewhere opens it again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from compat.storage.background import StoreFailed

BUSY_S = 5.0
READ_BUSY_S = 0.05
LOG_BYTES = 4 * 1024 * 1024
_CACHE_KB = 256
"""How much of a file SQLite keeps in memory for each connection. Its own 2 MB would fill up with pages that are written once."""

_OPEN = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    f"PRAGMA journal_size_limit = {LOG_BYTES}",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA cache_size = -{_CACHE_KB}",
)
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOT_READY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_ERROR})  # ERROR: tables that are just being made

Connect = Callable[..., sqlite3.Connection]
Identity = tuple[int, int]
T = TypeVar("T")


class _Foreign(sqlite3.DatabaseError):
    """A good file that is not ours."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB


class SqliteFile:
    """Mutable: both connections, each with the identity of the file it has open. One thread writes, one reads.

    `create` are the statements that make the tables of `version`; a file of another one, or of another program, is set aside like a
    broken one, as `<name>.broken`, in place of one that is there already. `absent` are the errors by which there is no file, rather than
    a fault. `extend` brings a file of the same version up to date that was made by earlier code, and a new one. `connect` is
    `sqlite3.connect`.
    """

    def __init__(
        self,
        path: Path,
        create: Sequence[str],
        version: int,
        *,
        busy_s: float,
        absent: tuple[type[OSError], ...] = (FileNotFoundError, NotADirectoryError),
        extend: Callable[[sqlite3.Connection], None] = lambda _: None,
        connect: Connect = sqlite3.connect,
    ) -> None:
        self.path = path
        self._create = create
        self._version = version
        self._busy_s = busy_s
        self._absent = absent
        self._extend = extend
        self._connect_to = connect
        self._reader: sqlite3.Connection | None = None
        self._reader_file: Identity | None = None
        self._writer: sqlite3.Connection | None = None
        self._writer_file: Identity | None = None
        self._suspect: Identity | None = None

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` reads; `None` where there is no file, or it is locked for longer than a moment. Errors: `StoreFailed`."""
        try:
            reader = self._open_reader()
            return work(reader) if reader is not None else None
        except (sqlite3.Error, OSError) as error:
            code = _code(error)
            self._close_reader()
            if code in _NOT_READY:
                return None
            if code not in _BROKEN:
                raise StoreFailed(self._words(error)) from error
            self._suspect = self._reader_file
            raise StoreFailed(f"{self._words(error)}; it is set aside", is_mended=True) from error

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once all that it wrote is in the file. Errors: `StoreFailed`, when nothing of it is."""

        def transaction(writer: sqlite3.Connection) -> T:
            writer.execute("BEGIN IMMEDIATE")
            result = work(writer)
            writer.execute("COMMIT")
            return result

        return self._use_writer(transaction)

    def shrink(self, max_bytes: int) -> None:
        """Give the free pages of a file that is larger than that back to the disk. Errors: `StoreFailed`."""

        def work(writer: sqlite3.Connection) -> None:
            if pragma(writer, "page_count") * pragma(writer, "page_size") > max_bytes:
                writer.executescript("PRAGMA incremental_vacuum")  # execute() would free a single page

        self._use_writer(work)

    def close(self) -> None:
        """Close both connections; the last one in all processes folds the log into the file."""
        self._close_reader()
        self._close_writer()

    def _use_writer(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            try:
                if self._suspect is not None:
                    self._set_aside(self._suspect)
                return work(self._open_writer())
            except sqlite3.Error as error:
                if _code(error) not in {*_BROKEN, sqlite3.SQLITE_ERROR} or self._writer_file is None:
                    raise
                self._set_aside(self._writer_file)
                raise StoreFailed(f"{self._words(error)}; it has been set aside", is_mended=True) from error
        except (sqlite3.Error, OSError) as error:
            self._close_writer()
            raise StoreFailed(self._words(error)) from error

    def _open_writer(self) -> sqlite3.Connection:
        """The connection to the file that is at the path now, which is created if there is none."""
        if self._writer is not None and self._identity() == self._writer_file:
            return self._writer
        self._close_writer()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path_lock():
            self._writer_file = _private_file(self.path)
            self._writer = writer = self._connect(self.path, self._busy_s)
            is_empty = pragma(writer, "schema_version") == 0
            version = pragma(writer, "user_version")
            if not is_empty and version != self._version:
                raise _Foreign(f"is of version {version}, not {self._version}" if version else "belongs to another program")
            create = ("BEGIN IMMEDIATE", *self._create, f"PRAGMA user_version = {self._version}", "COMMIT") if is_empty else ()
            for statement in (*_OPEN, *create):
                writer.execute(statement).fetchall()
            self._extend(writer)
        return writer

    def _open_reader(self) -> sqlite3.Connection | None:
        """The connection to the file that is at the path now, if there is one."""
        identity = self._identity()
        if self._reader is not None and identity == self._reader_file:
            return self._reader
        self._close_reader()
        self._reader_file = identity
        if identity is None:
            return None
        self._reader = self._connect(self.path, READ_BUSY_S)
        self._reader.execute("PRAGMA query_only = ON")
        self._reader.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        return self._reader

    def _identity(self) -> Identity | None:
        """That of the file at the path now, if there is one."""
        try:
            status = self.path.stat()
        except self._absent:
            return None
        return status.st_dev, status.st_ino

    def _connect(self, path: Path, busy_s: float) -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        return self._connect_to(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)

    @contextlib.contextmanager
    def _path_lock(self) -> Iterator[None]:
        """Nobody else creates or renames the file meanwhile. The lock is one of SQLite on an empty file; it ends with its process."""
        path = Path(f"{self.path}.lock")
        _private_file(path)
        with contextlib.closing(self._connect(path, self._busy_s)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            yield

    def _set_aside(self, broken: Identity) -> None:
        """Rename the file and its log, unless another process has done so. The file first: SQLite deletes a log without a file."""
        with self._path_lock():
            if self._identity() == broken:
                for suffix in ("", "-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        Path(f"{self.path}{suffix}").replace(f"{self.path}.broken{suffix}")
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
        return f"{self.path.name}: {error.strerror if isinstance(error, OSError) else error}"


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The value of a PRAGMA that is a number."""
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def used_bytes(connection: sqlite3.Connection) -> int:
    """How much room is in use in the file, free pages left out."""
    return (pragma(connection, "page_count") - pragma(connection, "freelist_count")) * pragma(connection, "page_size")


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


def _code(error: Exception) -> int:
    """SQLite's primary result code; -1 for other errors."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else code
