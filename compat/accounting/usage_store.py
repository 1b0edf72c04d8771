"""What calls used and cost, kept in a SQLite file for budgets, reports and the console.

    usage.add(record, facts)                 # the record of a call, as the log gets it; never waits, never raises
    usage.spent(client, since_s)             # dollars, for budgets
    usage.read(work)                         # what `usage_queries` asks

Single calls are bounded in age, number and size, the oldest go first; sums by day (UTC), client, model and deployment outlive them (see
`usage_schema`). A thread of the system writes what was added, at once; while it can't (a full disk, a folder that may not be
written, a broken file, which is set aside), calls go on, that is said once, what was added waits in a bounded queue, and another try is
made every `RETRY_S`.

No prompt, no answer and no key is here: records are built from named fields.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from compat.accounting.usage_rows import DAY_S, NANO, NO_FACTS, CallFacts, NewCall, clean, day_of, row_of
from compat.accounting.usage_schema import CREATE, VERSION, extend, is_extended, put_calls, tidy
from compat.config.sections import UsageSettings
from compat.storage.background import Background, BackgroundWriter, OnEvent, StoreFailed
from compat.storage.sqlite_file import BUSY_S, Connect, SqliteFile

MAX_QUEUED = 10_000
MAX_BATCH = 1000

T = TypeVar("T")


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

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:  # noqa: ARG002  # as `UsageStore` has it
        """There is no file."""
        return None

    def change(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """There is no file."""

    def close(self) -> None:
        """Nothing to do."""


class UsageStore(BackgroundWriter[NewCall]):
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
        call = NewCall(record, self._clock(), facts)
        with self._lock:
            self._enqueue(call)

    def spent(self, client: str, since_s: float) -> float:
        """The dollars that a client's calls cost since the beginning of the day (UTC) of `since_s`, what waits to be written included."""
        day, name = day_of(since_s), clean(client)
        query = "SELECT total(cost_nano) FROM days WHERE client = ? AND day >= ?"
        with self._lock:
            waiting = (*self._queue, *self._batch)  # what is being written may count twice, not never
        queued = sum(call.cost_nano for call in waiting if call.client == name and call.day >= day)
        written = self._read(lambda reader: reader.execute(query, (name, day)).fetchone()) or (0.0,)
        return (int(written[0]) + queued) / NANO

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

    def _write(self, batch: Sequence[NewCall], now_s: float, *, tidies: bool) -> None:
        calls = [(*row_of(call), "") for call in batch]

        def work(writer: sqlite3.Connection) -> None:
            put_calls(writer, calls)
            if tidies:
                tidy(writer, now_s - self._keep_s, self._max_bytes)

        self._file.write(work)

    def _shrink(self) -> None:
        self._file.shrink(self._max_bytes)

    def _close_store(self) -> None:
        self._file.close()


Usage = NoUsage | UsageStore
"""What calls used. Nothing of it raises."""
