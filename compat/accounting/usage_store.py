"""What calls used and cost, kept in a SQLite file for budgets and reports.

    usage.add(record)                        # the record of a call, as the log gets it; never waits, never raises
    usage.spent(client, since_s)             # dollars, for budgets
    usage.table(("day", "model", "client"))  # sums, for reports

Two tables: `calls` has a row for each call, bounded in age and size, the oldest go first; `days` has sums by day (UTC), client, model and
deployment, which outlive them. A thread of the system writes what was added, at once; while it can't (a full disk, a folder that may not be
written, a broken file, which is set aside), calls go on, that is said once, what was added waits in a bounded queue, and another try is
made every `RETRY_S`.

No prompt, no answer and no key is here: records are built from named fields.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from compat.config.sections import UsageSettings
from compat.storage.background import Background, BackgroundWriter, OnEvent, StoreFailed
from compat.storage.sqlite_file import BUSY_S, Connect, SqliteFile, used_bytes

MAX_QUEUED = 10_000
MAX_BATCH = 1000
DAY_S = 86_400
_NANO = 1_000_000_000
_MAX_NAME_CHARS = 200
_VERSION = 1

T = TypeVar("T")
Column = Literal["day", "client", "model", "deployment"]

_SUMS = ("calls", "errors", "prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens", "cost_nano")
_CREATE = (
    """
    CREATE TABLE calls (
        id INTEGER PRIMARY KEY, time_s REAL NOT NULL, client TEXT NOT NULL, model TEXT NOT NULL, deployment TEXT NOT NULL,
        outcome TEXT NOT NULL, status INTEGER NOT NULL, duration_ms REAL NOT NULL, prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL,
        cost_nano INTEGER NOT NULL)
    """,
    "CREATE INDEX calls_by_time ON calls (time_s)",
    """
    CREATE TABLE days (
        client TEXT, day TEXT, model TEXT, deployment TEXT, calls INTEGER NOT NULL, errors INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL, cost_nano INTEGER NOT NULL, PRIMARY KEY (client, day, model, deployment)) WITHOUT ROWID
    """,
    "CREATE INDEX days_by_day ON days (day)",
)
_ADD_CALL = """
    INSERT INTO calls (time_s, client, model, deployment, outcome, status, duration_ms, prompt_tokens, completion_tokens,
        cache_read_tokens, cache_write_tokens, cost_nano)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD_TO_DAY = """
    INSERT INTO days VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET calls = calls + 1, errors = errors + excluded.errors, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens,
        cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens, cost_nano = cost_nano + excluded.cost_nano"""
_DROP_CALLS = "DELETE FROM calls WHERE id IN (SELECT id FROM calls ORDER BY time_s, id LIMIT ?)"
_DROP_DAY = "DELETE FROM days WHERE day = (SELECT min(day) FROM days)"


class UsageCall(NamedTuple):
    """One call; the order is that of the columns. Costs are whole billionths of a dollar."""

    time_s: float
    client: str
    model: str
    deployment: str
    outcome: str
    status: int
    duration_ms: float
    prompt_tokens: int
    completion_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_nano: int


class UsageSum(NamedTuple):
    """The sums of some calls; `group` are the values of the columns they have in common."""

    group: tuple[str, ...]
    calls: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float


class NoUsage:
    """Keeps nothing: where it is switched off."""

    fault = ""
    dropped = 0
    queued = 0

    def start(self) -> None:
        """Nothing to do."""

    def add(self, record: Mapping[str, object]) -> None:
        """Nothing to do."""

    def spent(self, client: str, since_s: float) -> float:  # noqa: ARG002  # as `UsageStore` has it
        """Not known."""
        return 0.0

    def table(self, by: Sequence[Column], since_s: float = 0.0) -> list[UsageSum]:  # noqa: ARG002  # as `UsageStore` has it
        """Not known."""
        return []

    def close(self) -> None:
        """Nothing to do."""


class UsageStore(BackgroundWriter[UsageCall]):
    """Usage in a file, which is not opened before `start`, `flush` or a question. `connect` is `sqlite3.connect`."""

    def __init__(
        self,
        settings: UsageSettings,
        base_dir: Path,
        background: Background,
        *,
        clock: Callable[[], float],
        on_event: OnEvent,
        busy_s: float = BUSY_S,
        connect: Connect = sqlite3.connect,
    ) -> None:
        super().__init__("usage", background, clock=clock, on_event=on_event, max_queued=MAX_QUEUED, max_batch=MAX_BATCH)
        self._file = SqliteFile(base_dir / settings.path, _CREATE, _VERSION, busy_s=busy_s, connect=connect)
        self._keep_s = settings.keep_days * DAY_S
        self._max_bytes = settings.max_mb * 1024 * 1024

    def add(self, record: Mapping[str, object]) -> None:
        """Keep what `record` says of a call."""
        call = call_of(record, self._clock())
        with self._lock:
            self._enqueue(call)

    def spent(self, client: str, since_s: float) -> float:
        """The dollars that a client's calls cost since the beginning of the day (UTC) of `since_s`, what waits to be written included."""
        day, name = day_of(since_s), client[:_MAX_NAME_CHARS]

        def work(reader: sqlite3.Connection) -> int:
            return int(reader.execute("SELECT total(cost_nano) FROM days WHERE client = ? AND day >= ?", (name, day)).fetchone()[0])

        with self._lock:
            waiting = [*self._queue, *self._batch]  # what is being written may count twice, not never
        queued = sum(call.cost_nano for call in waiting if call.client == name and day_of(call.time_s) >= day)
        return ((self._read(work) or 0) + queued) / _NANO

    def table(self, by: Sequence[Column], since_s: float = 0.0) -> list[UsageSum]:
        """Sums by some columns, in their order, since the beginning of the day of `since_s`. What waits to be written does not count."""
        columns = ", ".join(by)
        sums = ", ".join(f"sum({name})" for name in _SUMS)
        query = f"SELECT {columns}, {sums} FROM days WHERE day >= ? GROUP BY {columns} ORDER BY {columns}"  # noqa: S608  # names of columns
        size = len(by)

        def work(reader: sqlite3.Connection) -> list[UsageSum]:
            rows = reader.execute(query, (day_of(since_s),)).fetchall()
            return [UsageSum._make((tuple(row[:size]), *row[size:-1], row[-1] / _NANO)) for row in rows]

        return self._read(work) or []

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        if self._is_closed:
            return None
        try:
            return self._file.read(work)
        except StoreFailed as error:
            self._note_fault(error)
            return None

    def _write(self, batch: Sequence[UsageCall], now_s: float, *, tidies: bool) -> None:
        def work(writer: sqlite3.Connection) -> None:
            writer.executemany(_ADD_CALL, batch)
            writer.executemany(_ADD_TO_DAY, [_day_row(call) for call in batch])
            if tidies:
                self._tidy(writer, now_s)

        self._file.write(work)

    def _tidy(self, writer: sqlite3.Connection, now_s: float) -> None:
        writer.execute("DELETE FROM calls WHERE time_s < ?", (now_s - self._keep_s,))
        while used_bytes(writer) > self._max_bytes:
            count = writer.execute("SELECT count(*) FROM calls").fetchone()[0]
            dropped = writer.execute(_DROP_CALLS, (1 + count // 50,)) if count else writer.execute(_DROP_DAY)
            if not dropped.rowcount:
                break

    def _shrink(self) -> None:
        self._file.shrink(self._max_bytes)

    def _close_store(self) -> None:
        self._file.close()


Usage = NoUsage | UsageStore
"""What calls used. Nothing of it raises."""


def call_of(record: Mapping[str, object], time_s: float) -> UsageCall:
    """What a record of the log says of a call; a model counts by its name only where it led somewhere."""

    def count(name: str) -> int:
        value = record.get(name)
        return value if isinstance(value, int) else 0

    def number(name: str) -> float:
        value = record.get(name)
        return value if isinstance(value, int | float) else 0.0

    def text(name: str) -> str:
        value = record.get(name)
        return value[:_MAX_NAME_CHARS] if isinstance(value, str) else ""

    deployment = text("deployment")
    return UsageCall(
        time_s,
        text("client"),
        text("model") if deployment else "",
        deployment,
        text("outcome"),
        count("status"),
        number("duration_ms"),
        count("prompt_tokens"),
        count("completion_tokens"),
        count("cache_read_tokens"),
        count("cache_write_tokens"),
        round(number("cost_usd") * _NANO),
    )


def day_of(time_s: float) -> str:
    """The day in UTC, `2026-01-31`."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%d")


def _day_row(call: UsageCall) -> tuple[object, ...]:
    is_error = call.outcome == "error"
    return (call.client, day_of(call.time_s), call.model, call.deployment, int(is_error), *call[7:])
