"""The tables of the usage store, and what is written into them.

    calls           a row for each call, with what calls are found by        days            sums by day, client, model and deployment
    call_details    the document of a call, gone with it                     day_savings     what prompt caches saved of those
    session_tools   how often a session called each tool                     session_days    sums by day, client and session
    sharing         what was given to other machines, and taken from them

Files begin with `calls` and `days` as they always were. What came later is added to them by `extend`: tables, and columns that have
defaults. So a gateway of before goes on with an extended file, as while a new one takes its place, or after an update that was taken back;
what it writes counts in `calls` and `days`, from which all sums are made.
"""

# ruff: noqa: S608  # what is written into queries are names of our own tables and columns; values are bound
from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterable

import msgspec

from compat.accounting.usage_rows import CallColumns, day_of
from compat.accounting.usage_views import CallDetail
from compat.storage.sqlite_file import used_bytes

VERSION = 1
MAX_CALLS = 500_000

CREATE = (
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
_EXTEND = (
    *(
        f"ALTER TABLE calls ADD COLUMN {column}"
        for column in (
            "request_id TEXT NOT NULL DEFAULT ''",
            "api TEXT NOT NULL DEFAULT ''",
            "upstream_api TEXT NOT NULL DEFAULT ''",
            "session TEXT NOT NULL DEFAULT ''",
            "attempts INTEGER NOT NULL DEFAULT 0",
            "ttft_ms REAL",
            "error TEXT NOT NULL DEFAULT ''",
            "saved_nano INTEGER NOT NULL DEFAULT 0",
        )
    ),
    "CREATE TABLE call_details (id INTEGER PRIMARY KEY, document BLOB NOT NULL)",
    "CREATE TRIGGER call_details_go AFTER DELETE ON calls BEGIN DELETE FROM call_details WHERE id = old.id; END",
    """
    CREATE TABLE day_savings (
        client TEXT, day TEXT, model TEXT, deployment TEXT, saved_nano INTEGER NOT NULL,
        PRIMARY KEY (client, day, model, deployment)) WITHOUT ROWID
    """,
    """
    CREATE TABLE session_days (
        client TEXT, session TEXT, day TEXT, parent TEXT NOT NULL, first_s REAL NOT NULL, last_s REAL NOT NULL, busy_ms REAL NOT NULL,
        calls INTEGER NOT NULL, errors INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL, cost_nano INTEGER NOT NULL, saved_nano INTEGER NOT NULL,
        PRIMARY KEY (client, session, day)) WITHOUT ROWID
    """,
    "CREATE INDEX session_days_by_day ON session_days (day)",
    "CREATE INDEX session_days_by_parent ON session_days (client, parent) WHERE parent != ''",
    """
    CREATE TABLE session_tools (
        client TEXT, session TEXT, day TEXT, tool TEXT, calls INTEGER NOT NULL, PRIMARY KEY (client, session, day, tool)) WITHOUT ROWID
    """,
)
_SHARE = (
    "ALTER TABLE calls ADD COLUMN store TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE sharing (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
_STEPS = (("session_tools", _EXTEND), ("sharing", _SHARE))
"""The last table that each step makes, and the step."""

StoredCall = tuple[CallColumns, CallDetail, str]
"""A call, and the other machine's store that it comes from, if it does."""

COUNTS = ("calls", "errors", "prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens", "cost_nano")
_counts_of = operator.attrgetter(*COUNTS[2:])
"""Those that a call's own columns say."""
_ADD_UP = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
_ADD_CALL = f"INSERT INTO calls (id, {', '.join(CallColumns._fields)}, store) VALUES ({', '.join('?' * (len(CallColumns._fields) + 2))})"
_ADD_DETAILS = "INSERT INTO call_details VALUES (?, ?)"
_ADD_TO_DAY = f"INSERT INTO days VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET {_ADD_UP}"
_ADD_SAVED = "INSERT INTO day_savings VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET saved_nano = saved_nano + excluded.saved_nano"
_ADD_TO_SESSION = f"""
    INSERT INTO session_days VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET parent = CASE excluded.parent WHEN '' THEN parent ELSE excluded.parent END,
        first_s = min(first_s, excluded.first_s),
        last_s = max(last_s, excluded.last_s), busy_ms = busy_ms + excluded.busy_ms, saved_nano = saved_nano + excluded.saved_nano,
        {_ADD_UP}"""
_ADD_TOOL = "INSERT INTO session_tools VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls"
_DROP_CALLS = "DELETE FROM calls WHERE id IN (SELECT id FROM calls ORDER BY time_s, id LIMIT ?)"
_OF_SESSIONS = ("session_days", "session_tools")
_OF_DAYS = ("days", "day_savings")


def is_extended(connection: sqlite3.Connection) -> bool:
    """Whether the file has all of the tables."""
    return _has(connection, _STEPS[-1][0])


def extend(writer: sqlite3.Connection) -> None:
    """Add what a file of before lacks, all or nothing. Its rows stay."""
    if is_extended(writer):
        return
    writer.execute("BEGIN IMMEDIATE")
    for last, statements in _STEPS:
        for statement in () if _has(writer, last) else statements:
            writer.execute(statement)
    writer.execute("COMMIT")


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


def put_calls(writer: sqlite3.Connection, calls: Iterable[StoredCall]) -> None:
    """Write calls, and add them to all sums."""
    last: int = writer.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()[0]
    numbered = list(enumerate(calls, last + 1))
    writer.executemany(_ADD_CALL, [(number, *columns, store) for number, (columns, _, store) in numbered])
    writer.executemany(_ADD_DETAILS, [(number, msgspec.json.encode(detail)) for number, (_, detail, _) in numbered])
    for _, (columns, detail, _) in numbered:
        day, counts = day_of(columns.time_s), (1, int(columns.outcome == "error"), *_counts_of(columns))
        place = (columns.client, day, columns.model, columns.deployment)
        writer.execute(_ADD_TO_DAY, (*place, *counts))
        if columns.saved_nano:
            writer.execute(_ADD_SAVED, (*place, columns.saved_nano))
        if columns.session:
            session = (columns.client, columns.session, day)
            times = (columns.time_s - columns.duration_ms / 1000, columns.time_s, columns.duration_ms)
            writer.execute(_ADD_TO_SESSION, (*session, detail.parent, *times, *counts, columns.saved_nano))
            writer.executemany(_ADD_TOOL, [(*session, name, count) for name, count in detail.tools.items()])


def tidy(writer: sqlite3.Connection, oldest_s: float, max_bytes: int) -> None:
    """Drop calls and sessions from before `oldest_s`, and the oldest of all while there is more than `MAX_CALLS` or `max_bytes`: single
    calls first, then sessions, then days."""
    writer.execute("DELETE FROM calls WHERE time_s < ?", (oldest_s,))
    writer.execute("DELETE FROM calls WHERE id <= (SELECT max(id) FROM calls) - ?", (MAX_CALLS,))
    for table in _OF_SESSIONS:
        writer.execute(f"DELETE FROM {table} WHERE day < ?", (day_of(oldest_s),))
    while used_bytes(writer) > max_bytes and _drop_oldest(writer):
        """More than one round, for what a row takes is not known."""


def _drop_oldest(writer: sqlite3.Connection) -> bool:
    """Drop some of what is oldest; whether there was anything."""
    if count := writer.execute("SELECT count(*) FROM calls").fetchone()[0]:
        writer.execute(_DROP_CALLS, (1 + count // 50,))
        return True
    for tables in (_OF_SESSIONS, _OF_DAYS):
        day = writer.execute(f"SELECT min(day) FROM {tables[0]}").fetchone()[0]
        if day is not None:
            for table in tables:
                writer.execute(f"DELETE FROM {table} WHERE day <= ?", (day,))
            return True
    return False
