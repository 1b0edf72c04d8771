"""Usage and cost in a file: what is kept, how it is summed, and that nothing that happens to the file is felt by a call."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from compat.accounting.usage_queries import cost
from compat.accounting.usage_report import DAYS, print_usage, since_of
from compat.accounting.usage_rows import CallColumns, NewCall, day_of, row_of
from compat.accounting.usage_store import MAX_BATCH, MAX_QUEUED, NoUsage, UsageStore
from compat.accounting.usage_views import CallDetail, CostRow, Sums
from compat.config.sections import UsageSettings
from compat.storage.background import RETRY_S, TIDY_S, NativeThread, StoreFailed

NOON_S = 1_699_963_200.0  # 2023-11-14 12:00:00 UTC
DAY_S = 86_400
RECORD = {
    "client": "laptop",
    "model": "sonnet",
    "deployment": "up/m",
    "outcome": "ok",
    "status": 200,
    "duration_ms": 12.5,
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "cache_read_tokens": 60,
    "cache_write_tokens": 30,
    "cost_usd": 0.25,
    "error": "never kept",
}


class Inline:
    """A background that does nothing by itself."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.run: Callable[[], None] | None = None
        self.woken = 0
        self.waits = 0

    def start(self, run: Callable[[], None]) -> None:
        self.run = run

    def wake(self) -> None:
        self.woken += 1

    def wait(self, timeout_s: float) -> None:
        self.waits += 1


class Bench:
    def __init__(self, folder: Path, connect: Any = sqlite3.connect, background: Any = None, **settings: Any) -> None:
        self.now_s = NOON_S
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.background = background or Inline()
        self.path = folder / "data/usage.sqlite"
        self.usage = UsageStore(
            UsageSettings(**settings),
            folder,
            self.background,
            clock=lambda: self.now_s,
            on_event=lambda name, fields: self.events.append((name, dict(fields))),
            busy_s=0.05,
            connect=connect,
        )

    def add(self, **changes: Any) -> None:
        self.usage.add({**RECORD, **changes})

    def flush(self) -> None:
        self.usage.flush()

    def rows(self, query: str = "SELECT count(*) FROM calls") -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made: list[Bench] = []

    def make(**rest: Any) -> Bench:
        made.append(Bench(tmp_path, **rest))
        return made[-1]

    yield make
    for each in made:
        each.usage.close()


def limited(pages: list[int]) -> Any:
    """`sqlite3.connect` for a disk that has room for `pages[0]` pages."""

    def connect(*arguments: Any, **rest: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(*arguments, **rest)
        connection.execute(f"PRAGMA max_page_count = {pages[0]}").fetchall()
        return connection

    return connect


def test_a_call_is_a_row_and_part_of_its_days_sum(bench: Any) -> None:
    at = bench()
    at.add()
    at.add(outcome="error", status=502, deployment=None)
    at.flush()
    assert at.rows(f"SELECT id, {', '.join(CallColumns._fields[:12])} FROM calls ORDER BY id") == [
        (1, NOON_S, "laptop", "sonnet", "up/m", "ok", 200, 12.5, 100, 20, 60, 30, 250_000_000),
        (2, NOON_S, "laptop", "", "", "error", 502, 12.5, 100, 20, 60, 30, 250_000_000),
    ]
    assert at.rows("SELECT * FROM days ORDER BY model") == [
        ("laptop", "2023-11-14", "", "", 1, 1, 100, 20, 60, 30, 250_000_000),
        ("laptop", "2023-11-14", "sonnet", "up/m", 1, 0, 100, 20, 60, 30, 250_000_000),
    ]


@pytest.mark.parametrize(
    "record", [{}, dict.fromkeys(RECORD), {name: [1] for name in RECORD if name != "error"}], ids=["empty", "none", "wrong types"]
)
def test_a_record_may_lack_anything(record: dict[str, Any]) -> None:
    assert row_of(NewCall(record, 5.0)) == ((5.0, "", "", "", "", 0, 0.0, 0, 0, 0, 0, 0, "", "", "", "", 0, None, "", 0), CallDetail())


def test_names_are_bounded() -> None:
    call, _ = row_of(NewCall({**RECORD, "client": "c" * 999, "model": "m" * 999}, 5.0))
    assert (len(call.client), len(call.model)) == (200, 200)


def test_adding_touches_no_file_and_wakes_nobody(bench: Any) -> None:
    at = bench()
    at.add()
    assert not at.path.parent.exists()
    assert at.background.woken == 0


def test_the_file_and_its_folder_are_their_owners_alone(bench: Any) -> None:
    at = bench()
    at.add()
    at.flush()
    files = [path for path in at.path.parent.iterdir() if path.is_file()]
    assert at.path in files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(at.path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(bench: Any) -> None:
    at = bench()
    at.path.parent.mkdir()
    at.path.touch(mode=0o644)
    at.add()
    at.flush()
    assert stat.S_IMODE(at.path.stat().st_mode) == 0o600


def test_spent_sums_a_clients_days_with_what_waits(bench: Any) -> None:
    at = bench()
    assert at.usage.spent("laptop", NOON_S) == 0
    at.add(cost_usd=0.1)
    at.now_s += DAY_S
    at.add(cost_usd=0.2)
    at.flush()
    at.add(cost_usd=0.4)
    at.add(cost_usd=5, client="other")
    assert at.usage.spent("laptop", NOON_S) == pytest.approx(0.7)
    assert at.usage.spent("laptop", NOON_S + DAY_S) == pytest.approx(0.6)
    assert at.usage.spent("laptop", NOON_S + 2 * DAY_S) == 0
    assert at.usage.spent("nobody", 0) == 0


def test_costs_add_up_exactly(bench: Any) -> None:
    at = bench()
    for _ in range(1000):
        at.add(cost_usd=0.000_000_1)
    at.flush()
    assert at.usage.spent("laptop", NOON_S) == 0.0001


def test_a_day_is_one_of_utc() -> None:
    assert [day_of(NOON_S + hours * 3600) for hours in (-12.001, -12, 11.99, 12)] == [
        "2023-11-13",
        "2023-11-14",
        "2023-11-14",
        "2023-11-15",
    ]


def test_sums_by_any_columns(bench: Any) -> None:
    at = bench()
    for client, model in (("a", "x"), ("b", "x"), ("b", "y")):
        at.add(client=client, model=model, cost_usd=1.0)
    at.now_s += DAY_S
    at.add(client="a", model="x", outcome="error")
    assert cost(at.usage, ("day",)) == []
    at.flush()
    assert cost(at.usage, ("model", "key")) == [
        CostRow(("x", "a"), Sums(2, 1, 200, 40, 120, 60, 1.25)),
        CostRow(("x", "b"), Sums(1, 0, 100, 20, 60, 30, 1.0)),
        CostRow(("y", "b"), Sums(1, 0, 100, 20, 60, 30, 1.0)),
    ]
    assert [(one.group, one.sums.calls) for one in cost(at.usage, ("day",))] == [(("2023-11-14",), 3), (("2023-11-15",), 1)]
    assert [one.sums.calls for one in cost(at.usage, ("deployment",), NOON_S + DAY_S)] == [1]


def test_two_workers_share_the_file(bench: Any) -> None:
    first, second = bench(), bench()
    first.add()
    first.flush()
    second.add()
    second.flush()
    assert first.usage.spent("laptop", NOON_S) == second.usage.spent("laptop", NOON_S) == 0.5


def test_many_calls_are_written_in_batches(bench: Any) -> None:
    at = bench()
    for _ in range(2 * MAX_BATCH + 1):
        at.add()
    at.flush()
    assert at.rows() == [(2 * MAX_BATCH + 1,)]


def test_old_calls_go_and_their_days_stay(bench: Any) -> None:
    at = bench(keep_days=2)
    at.add()
    at.flush()
    at.now_s += 2 * DAY_S + 1
    at.flush()
    assert (at.rows(), at.rows("SELECT count(*) FROM days")) == ([(0,)], [(1,)])


def test_the_file_is_bounded_the_oldest_calls_go_first(bench: Any) -> None:
    at = bench(max_mb=1)
    for number in range(9000):
        at.add(client=f"{number % 10} {'c' * 150}")
    at.flush()
    at.now_s += TIDY_S
    at.add(client="last")
    at.flush()
    ((count, oldest),) = at.rows("SELECT count(*), min(id) FROM calls")
    assert 1000 < count < 9000
    assert oldest > 1
    assert at.rows("SELECT count(*) FROM call_details") == [(count,)]
    assert sum(one.sums.calls for one in cost(at.usage, ("day",))) == 9001
    at.usage.close()  # which brings what SQLite has in its log into the file
    assert at.path.stat().st_size < 2 * 1024 * 1024


@pytest.mark.slow
def test_when_only_days_are_left_the_oldest_of_them_go(bench: Any) -> None:
    at = bench(max_mb=1)
    for number in range(9000):
        at.now_s = NOON_S + number // 1000 * DAY_S
        at.add(client=f"{number} {'c' * 150}")
    at.flush()
    at.now_s += TIDY_S
    at.flush()
    assert at.rows() == [(0,)]
    days = [one.group[0] for one in cost(at.usage, ("day",))]
    assert 0 < len(days) < 9
    assert days[-1] == "2023-11-22"


def test_a_bound_that_nothing_fits_into_ends(bench: Any) -> None:
    at = bench()
    at.usage._max_bytes = 1
    at.add()
    at.flush()
    assert at.rows("SELECT count(*) FROM days") == [(0,)]
    assert at.usage.fault == ""


# Faults.


def test_a_folder_that_cant_be_made_is_told_once_and_calls_go_on(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    at = bench()
    for _ in range(5):
        at.add()
        at.flush()
        at.now_s += RETRY_S
        assert at.usage.spent("laptop", NOON_S) > 0
    assert at.names() == ["usage.failed"]
    assert at.usage.fault == "usage.sqlite: File exists"
    (tmp_path / "data").unlink()
    at.flush()
    assert (at.names(), at.usage.fault, at.usage.dropped) == (["usage.failed", "usage.recovered"], "", 0)
    assert at.usage.spent("laptop", NOON_S) == 1.25


def test_between_two_tries_the_disk_is_left_alone(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    at = bench()
    at.flush()
    (tmp_path / "data").unlink()
    at.now_s += RETRY_S - 0.1
    at.flush()
    assert at.usage.fault != ""
    at.now_s += 0.1
    at.flush()
    assert at.usage.fault == ""


def test_a_full_disk_keeps_what_was_added_for_later(bench: Any) -> None:
    pages = [1_000_000]
    at = bench(connect=limited(pages))
    at.add()
    at.flush()
    at.usage._file.close()
    pages[0] = 1
    for _ in range(2 * MAX_BATCH):
        at.add()
    at.flush()
    assert at.names() == ["usage.failed"]
    assert "full" in at.usage.fault
    assert at.usage.spent("laptop", NOON_S) == (2 * MAX_BATCH + 1) * 0.25
    pages[0] = 1_000_000
    at.now_s += RETRY_S
    at.flush()
    assert at.names() == ["usage.failed", "usage.recovered"]
    assert at.rows() == [(2 * MAX_BATCH + 1,)]


def test_what_waits_is_bounded_and_what_is_lost_is_counted(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    at = bench()
    for _ in range(MAX_QUEUED + 7):
        at.add()
    assert at.usage.dropped == 7
    at.flush()
    (tmp_path / "data").unlink()
    at.now_s += RETRY_S
    at.flush()
    assert at.events[-1] == ("usage.recovered", {"dropped": 7})
    assert at.rows() == [(MAX_QUEUED,)]


@pytest.mark.parametrize("garbage", [b"not a database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000], ids=["no database", "a broken one"])
@pytest.mark.parametrize("looks_first", [True, False])
def test_a_broken_file_is_set_aside_and_a_new_one_begun(bench: Any, garbage: bytes, looks_first: bool) -> None:
    at = bench()
    at.path.parent.mkdir()
    at.path.write_bytes(garbage)
    if looks_first:
        assert at.usage.spent("laptop", NOON_S) == 0
        assert cost(at.usage, ("day",)) == []
    at.add()
    at.flush()
    assert at.names() == ["usage.failed", "usage.recovered"]
    assert at.usage.spent("laptop", NOON_S) == 0.25
    assert at.path.with_name("usage.sqlite.broken").read_bytes() == garbage


def test_of_two_workers_that_find_it_broken_one_sets_it_aside(bench: Any) -> None:
    first, second = bench(), bench()
    first.path.parent.mkdir()
    first.path.write_bytes(b"garbage" * 1000)
    for each in (first, second):
        assert each.usage.spent("laptop", NOON_S) == 0
    for each in (first, second):
        each.add()
        each.flush()
    assert first.rows() == [(2,)]
    assert first.path.with_name("usage.sqlite.broken").read_bytes() == b"garbage" * 1000


def test_a_file_of_another_version_is_set_aside(bench: Any) -> None:
    at = bench()
    at.add()
    at.flush()
    at.usage._file.close()
    with contextlib.closing(sqlite3.connect(at.path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    at.add()
    at.flush()
    assert at.events[0][1]["reason"] == "usage.sqlite: is of version 99, not 1; it has been set aside"
    assert at.rows() == [(1,)]
    assert at.path.with_name("usage.sqlite.broken").exists()


def test_a_file_of_another_program_is_set_aside_as_it_is(bench: Any) -> None:
    at = bench()
    at.path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(at.path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    theirs = at.path.read_bytes()
    at.add()
    at.flush()
    assert at.events[0][1]["reason"] == "usage.sqlite: belongs to another program; it has been set aside"
    assert at.rows() == [(1,)]
    assert at.path.with_name("usage.sqlite.broken").read_bytes() == theirs


def test_a_file_that_was_removed_is_made_again(bench: Any) -> None:
    at = bench()
    at.add()
    at.flush()
    assert at.usage.spent("laptop", NOON_S) == 0.25
    for path in list(at.path.parent.iterdir()):
        path.unlink()
    assert at.usage.spent("laptop", NOON_S) == 0
    at.add()
    at.flush()
    assert at.usage.spent("laptop", NOON_S) == 0.25
    assert at.events == []


def test_a_locked_file_is_written_later_and_read_meanwhile(bench: Any) -> None:
    at = bench()
    at.add()
    at.flush()
    with contextlib.closing(sqlite3.connect(at.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        at.add()
        at.flush()
        assert at.usage.fault == "usage.sqlite: database is locked"
        assert at.usage.spent("laptop", NOON_S) == 0.5
        other.execute("ROLLBACK")
    at.now_s += RETRY_S
    at.flush()
    assert (at.usage.fault, at.rows()) == ("", [(2,)])


def test_tables_that_are_just_being_made_are_empty(bench: Any) -> None:
    at = bench()
    at.path.parent.mkdir()
    sqlite3.connect(at.path).close()
    at.path.touch()
    assert cost(at.usage, ("day",)) == []
    assert at.events == []


def test_a_file_that_cant_be_read_is_told_of(bench: Any, tmp_path: Path) -> None:
    at = bench()
    at.path.mkdir(parents=True)
    assert at.usage.spent("laptop", NOON_S) == 0
    assert at.names() == ["usage.failed"]
    at.add()
    at.flush()
    assert at.usage.fault == "usage.sqlite: is not a file"


def test_what_is_written_is_not_written_again_when_the_file_cant_be_made_smaller(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at = bench()

    def fails(_: int) -> None:
        raise StoreFailed("usage.sqlite: disk I/O error")

    monkeypatch.setattr(at.usage._file, "shrink", fails)
    at.add()
    at.flush()
    assert (at.usage.fault, at.usage.queued) == ("usage.sqlite: disk I/O error", 0)
    monkeypatch.undo()
    at.now_s += RETRY_S
    at.flush()
    assert (at.rows(), at.usage.fault) == ([(1,)], "")


def test_a_file_that_breaks_again_and_again_is_left_alone_for_a_while(bench: Any) -> None:
    tries = 0

    def connect(*arguments: Any, **rest: Any) -> sqlite3.Connection:
        nonlocal tries
        if "lock" not in arguments[0]:
            tries += 1
            at.path.write_bytes(b"garbage" * 1000)
        return sqlite3.connect(*arguments, **rest)

    at = bench(connect=connect)
    at.add()
    at.flush()
    at.flush()
    assert tries == 2
    assert at.names() == ["usage.failed"]


# Begin and end.


def test_after_the_end_everything_is_in_the_file_and_nothing_more_happens(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    at = bench()
    at.flush()
    (tmp_path / "data").unlink()
    at.add()
    at.usage.close()
    at.usage.close()
    assert at.rows() == [(1,)]
    at.add()
    at.flush()
    assert (at.rows(), at.usage.spent("laptop", NOON_S), cost(at.usage, ("day",))) == ([(1,)], 0.25, [])
    at.usage.start()
    assert at.background.run is not None
    at.background.run()
    assert at.background.waits == 0


def test_the_background_writes_until_the_end(bench: Any) -> None:
    at = bench()
    at.usage.start()
    at.background.wait = lambda _: at.add() if at.usage.spent("laptop", 0) < 0.75 else at.usage.close()
    at.add()
    at.background.run()
    assert at.rows() == [(3,)]


def test_a_thread_of_the_system_writes_while_nobody_asks(bench: Any) -> None:
    at = bench(background=NativeThread())
    at.usage.start()
    at.add()
    with gevent.Timeout(10):
        while not at.path.exists() or not cost(at.usage, ("day",)):  # written by a real thread, which can't wake a greenlet
            gevent.idle()
    assert at.usage.spent("laptop", NOON_S) == 0.25


def test_switched_off_it_keeps_nothing() -> None:
    usage = NoUsage()
    usage.start()
    usage.add(RECORD)
    usage.close()
    assert (usage.spent("laptop", 0.0), cost(usage, ("day",)), usage.fault, usage.dropped) == (0.0, [], "", 0)


# The report.


def report(at: Bench, since: str = DAYS, **rest: Any) -> list[str]:
    lines: list[str] = []
    print_usage(at.usage, lines.append, since_s=since_of(since, at.now_s), **rest)
    return lines


def test_the_report_is_a_table_by_day_model_and_key(bench: Any) -> None:
    at = bench()
    at.add(cost_usd=1234.5, prompt_tokens=1_000_000)
    at.now_s += DAY_S
    at.add(client="a\x1b[31m", model="gpt", outcome="error", deployment=None, cost_usd=0.00006)
    at.flush()
    assert report(at) == [
        "day         model   key        calls  errors     prompt  of it cached  completion         USD",
        "----------  ------  ---------  -----  ------  ---------  ------------  ----------  ----------",
        "2023-11-14  sonnet  laptop         1       0  1,000,000            60          20  1,234.5000",
        r"2023-11-15  -       a\x1b[31m      1       1        100            60          20      0.0001",
        "----------  ------  ---------  -----  ------  ---------  ------------  ----------  ----------",
        "total                              2       1  1,000,100           120          40  1,234.5001",
    ]


def test_the_report_shows_of_a_hash_what_is_enough_to_tell_keys_apart(bench: Any) -> None:
    """Without client keys each key that is sent has the name of its hash."""
    at = bench()
    for digit in "ab":
        at.add(client="key-" + digit * 64)
    at.flush()
    lines = report(at)
    assert [line.split()[2] for line in lines[2:4]] == ["key-" + "a" * 12, "key-" + "b" * 12]
    assert max(map(len, lines)) < 110


def test_the_report_goes_back_so_many_days(bench: Any) -> None:
    at = bench()
    at.add()
    at.now_s += DAY_S
    at.add(client="desk")
    at.flush()
    assert [line.split()[2] for line in report(at, "2d")[2:4]] == ["laptop", "desk"]
    lines = report(at, "1d")
    assert [line.split()[:4] for line in (lines[2], lines[-1])] == [["2023-11-15", "sonnet", "desk", "1"], ["total", "1", "0", "100"]]
    assert len(lines) == 5


def test_the_report_says_why_there_is_nothing(bench: Any) -> None:
    at = bench()
    assert report(at) == ["No calls since 2023-10-16."]
    at.path.mkdir(parents=True)
    (line,) = report(at)
    assert line.startswith("Nothing can be shown: usage.sqlite: ")


def test_the_report_is_json_for_programs_and_of_one_key(bench: Any) -> None:
    at = bench()
    at.add()
    at.add(client="desk", model="gpt")
    at.flush()
    (line,) = report(at, "2023-11-01", client="desk", is_json=True)
    row = {"day": "2023-11-14", "model": "gpt", "key": "desk", "calls": 1, "errors": 0, "prompt_tokens": 100, "completion_tokens": 20}
    more = {"cache_read_tokens": 60, "cache_write_tokens": 30, "cost_usd": 0.25, "saved_usd": 0.0}
    found = json.loads(line)
    assert found == {"since": "2023-11-01", "fault": "", "rows": [found["rows"][0]]}
    assert found["rows"][0].items() >= row.items()
    assert found["rows"][0].keys() == {**row, **more}.keys()
    assert report(at, client="nobody") == ["No calls since 2023-10-16."]


@pytest.mark.parametrize(("text", "begin_s"), [("1d", NOON_S), ("3d", NOON_S - 2 * DAY_S), ("2023-11-14", NOON_S - DAY_S / 2)])
def test_a_report_begins_so_many_days_ago_or_on_a_date(text: str, begin_s: float) -> None:
    assert since_of(text, NOON_S) == begin_s


@pytest.mark.parametrize("text", ["", "d", "0d", "-1d", "yesterday", "99999d", "2023-13-01", "²d"])
def test_another_begin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number of days"):
        since_of(text, NOON_S)
