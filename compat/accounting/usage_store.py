"""What calls used and cost, kept in a SQLite file for budgets, reports and the console.

    usage.add(record, facts)                 # the record of a call, as the log gets it; never waits, never raises
    usage.spent(client, since_s)             # dollars, for budgets
    usage.table(("day", "model", "client"))  # sums, for reports and all views of cost
    usage.read(work)                         # what `usage_queries` asks besides

Single calls are bounded in age, number and size, the oldest go first; sums by day (UTC), client, model and deployment outlive them (see
`usage_schema`). A thread of the system writes what was added, at once; while it can't (a full disk, a folder that may not be
written, a broken file, which is set aside), calls go on, that is said once, what was added waits in a bounded queue, and another try is
made every `RETRY_S`.

No prompt, no answer and no key is here: records are built from named fields.
"""

# ruff: noqa: S608  # what is written into queries are names of our own tables and columns; values are bound
from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from compat.accounting.usage_rows import NANO, NO_FACTS, CallFacts, call_of, clean, day_of
from compat.accounting.usage_schema import COUNTS, CREATE, VERSION, add_calls, extend, is_extended, tidy
from compat.config.sections import UsageSettings
from compat.storage.background import Background, BackgroundWriter, OnEvent, StoreFailed
from compat.storage.sqlite_file import BUSY_S, Connect, SqliteFile

MAX_QUEUED = 10_000
MAX_BATCH = 1000
DAY_S = 86_400

T = TypeVar("T")
Column = Literal["day", "client", "model", "deployment", "upstream", "session"]

_UPSTREAM = "substr(deployment, 1, instr(deployment || '/', '/') - 1)"
_SUMS = ", ".join(f"sum({name})" for name in (*COUNTS, "saved_nano"))
_BY_MODEL = f"""
    (SELECT days.*, {_UPSTREAM} AS upstream, '' AS session, coalesce(saved_nano, 0) AS saved_nano
     FROM days LEFT JOIN day_savings USING (client, day, model, deployment))"""
_LESS = ", ".join(f"sum({name}) AS {name}" for name in (*COUNTS, "saved_nano"))
_BY_SESSION = f"""
    (SELECT client, day, session, {", ".join(COUNTS)}, saved_nano FROM session_days
     UNION ALL SELECT client, day, '' AS session, {_LESS} FROM (
        SELECT client, day, {", ".join(COUNTS)}, 0 AS saved_nano FROM days
        UNION ALL SELECT client, day, 0, 0, 0, 0, 0, 0, 0, saved_nano FROM day_savings
        UNION ALL SELECT client, day, {", ".join(f"-{name}" for name in (*COUNTS, "saved_nano"))} FROM session_days)
     GROUP BY client, day HAVING sum(calls))"""
"""What is in no session is what is left of the days: so both come to the same sums."""


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
    saved_usd: float = 0.0


class NoUsage:
    """Keeps nothing: where it is switched off."""

    fault = ""
    dropped = 0
    queued = 0

    def start(self) -> None:
        """Nothing to do."""

    def add(self, record: Mapping[str, object], facts: CallFacts = NO_FACTS) -> None:
        """Nothing to do."""

    def spent(self, client: str, since_s: float) -> float:  # noqa: ARG002  # as `UsageStore` has it
        """Not known."""
        return 0.0

    def table(self, by: Sequence[Column], since_s: float = 0.0, until_s: float | None = None, client: str | None = None) -> list[UsageSum]:  # noqa: ARG002  # as `UsageStore` has it
        """Not known."""
        return []

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:  # noqa: ARG002  # as `UsageStore` has it
        """There is no file."""
        return None

    def change(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """There is no file."""

    def close(self) -> None:
        """Nothing to do."""


class Waiting(NamedTuple):
    """A call that is not written yet: what `call_of` makes of it is left to the background."""

    record: Mapping[str, object]
    time_s: float
    facts: CallFacts


class UsageStore(BackgroundWriter[Waiting]):
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
        super().__init__(
            "usage",
            background,
            clock=clock,
            on_event=on_event,
            max_queued=MAX_QUEUED,
            max_batch=MAX_BATCH,
            size_of=lambda call: call.facts.weight,
        )
        self._file = SqliteFile(base_dir / settings.path, CREATE, VERSION, busy_s=busy_s, extend=extend, connect=connect)
        self._keep_s = settings.keep_days * DAY_S
        self._max_bytes = settings.max_mb * 1024 * 1024

    def add(self, record: Mapping[str, object], facts: CallFacts = NO_FACTS) -> None:
        """Keep what `record` says of a call, which is not changed any more, and `facts`."""
        call = Waiting(record, self._clock(), facts)
        with self._lock:
            self._enqueue(call)

    def spent(self, client: str, since_s: float) -> float:
        """The dollars that a client's calls cost since the beginning of the day (UTC) of `since_s`, what waits to be written included."""
        day, name = day_of(since_s), clean(client)

        def work(reader: sqlite3.Connection) -> int:
            return int(reader.execute("SELECT total(cost_nano) FROM days WHERE client = ? AND day >= ?", (name, day)).fetchone()[0])

        with self._lock:
            waiting = [call_of(*one) for one in (*self._queue, *self._batch)]  # what is being written may count twice, not never
        queued = sum(call.cost_nano for call in waiting if call.client == name and day_of(call.time_s) >= day)
        return ((self._read(work) or 0) + queued) / NANO

    def table(self, by: Sequence[Column], since_s: float = 0.0, until_s: float | None = None, client: str | None = None) -> list[UsageSum]:
        """Sums by some columns, in their order, from the beginning of the day of `since_s` to the end of that of `until_s`.

        What waits to be written does not count. Sums by session know of no model, deployment and upstream.
        """
        columns = ", ".join(by)
        until = day_of(until_s) if until_s is not None else "~"
        only, names = ("", ()) if client is None else (" AND client = ?", (clean(client),))
        query = f"""
            SELECT {columns}, {_SUMS} FROM {_BY_SESSION if "session" in by else _BY_MODEL}
            WHERE day >= ? AND day <= ?{only} GROUP BY {columns} ORDER BY {columns}"""
        size = len(by)

        def work(reader: sqlite3.Connection) -> list[UsageSum]:
            rows = reader.execute(query, (day_of(since_s), until, *names)).fetchall()
            return [UsageSum._make((tuple(row[:size]), *row[size:-2], row[-2] / NANO, row[-1] / NANO)) for row in rows]

        return self.read(work) or []

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` reads, of a file with all tables; `None` where there is none, or it can't be read just now (`fault`)."""
        if self._read(is_extended) is False:
            self.change(lambda _: None)  # which brings a file of before up to date
        return self._read(work)

    def change(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Let `work` write, all or nothing; where that fails, it is reported. It waits for the disk."""
        with self._background.lock:
            if self._is_closed:
                return
            try:
                self._file.write(work)
            except StoreFailed as error:
                self._note_fault(error)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        if self._is_closed:
            return None
        try:
            return self._file.read(work)
        except StoreFailed as error:
            self._note_fault(error)
            return None

    def _write(self, batch: Sequence[Waiting], now_s: float, *, tidies: bool) -> None:
        calls = [call_of(*one) for one in batch]

        def work(writer: sqlite3.Connection) -> None:
            add_calls(writer, calls)
            if tidies:
                tidy(writer, now_s - self._keep_s, self._max_bytes)

        self._file.write(work)

    def _shrink(self) -> None:
        self._file.shrink(self._max_bytes)

    def _close_store(self) -> None:
        self._file.close()


Usage = NoUsage | UsageStore
"""What calls used. Nothing of it raises."""
