"""A store that earlier code made goes on: nothing of it is lost, and gateways of before may go on with it as well."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.accounting import usage_schema
from compat.accounting.usage_queries import calls, cost, one_call, sessions
from compat.accounting.usage_rows import CallFacts
from compat.accounting.usage_views import CallFilter
from compat.storage.background import TIDY_S
from tests.unit.accounting.stored_calls import DAY_S, NOON_S, StoredCalls

WORDS_OF_BEFORE = (
    """INSERT INTO calls (time_s, client, model, deployment, outcome, status, duration_ms, prompt_tokens, completion_tokens,
    cache_read_tokens, cache_write_tokens, cost_nano) VALUES (?, 'old', 'm', 'up/m', 'ok', 200, 1.0, 10, 1, 0, 0, 1000000000)""",
    "INSERT INTO days VALUES ('old', '2023-11-14', 'm', 'up/m', 1, 0, 10, 1, 0, 0, 1000000000)",
)
"""How a gateway of before writes."""


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[StoredCalls]:
    stored = StoredCalls(tmp_path)
    yield stored
    stored.usage.close()


def rows(stored: StoredCalls, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(stored.path)) as connection:
        return connection.execute(query).fetchall()


OF_BEFORE = "SELECT id, time_s, client, model, deployment, outcome, status, duration_ms, prompt_tokens, cost_nano FROM calls ORDER BY id"


def test_nothing_of_a_store_of_before_is_lost(stored: StoredCalls) -> None:
    stored.put_file_of_before()
    before = rows(stored, OF_BEFORE), rows(stored, "SELECT * FROM days ORDER BY 1, 2, 3, 4")
    stored.usage.flush()
    assert (rows(stored, OF_BEFORE), rows(stored, "SELECT * FROM days ORDER BY 1, 2, 3, 4")) == before
    assert len(before[0]) == 60
    assert stored.events == []
    assert not stored.path.with_name("usage.sqlite.broken").exists()


def test_a_store_of_before_can_be_read_before_anything_is_written(stored: StoredCalls) -> None:
    stored.put_file_of_before()
    spent_usd = 0.001234567 * sum(range(60))
    assert sum(row.sums.cost_usd for row in cost(stored.usage, ("model",), 0.0)) == pytest.approx(spent_usd, abs=1e-9)
    assert sum(row.sums.cost_usd for row in cost(stored.usage, ("session",), 0.0)) == pytest.approx(spent_usd, abs=1e-9)
    page = calls(stored.usage, CallFilter(), limit=100)
    assert [row.call_id for row in page.rows] == list(range(60, 0, -1))
    found = one_call(stored.usage, 7)
    assert found is not None
    row, detail = found
    assert (row.cost_usd, row.session, detail.parts, row.ttft_ms) == (0.007407402, "", (), None)


def test_it_goes_on_with_new_calls(stored: StoredCalls) -> None:
    stored.put_file_of_before()
    stored.now_s += 5 * DAY_S
    stored.add(facts=CallFacts(session="s1"))
    stored.usage.flush()
    assert [row.session for row in sessions(stored.usage, stored.now_s).rows] == ["s1"]
    assert [one.group for one in cost(stored.usage, ("session",), stored.now_s)] == [("s1",)]
    assert calls(stored.usage, CallFilter()).rows[0].call_id == 61


def test_a_gateway_of_before_goes_on_beside_a_new_one(stored: StoredCalls) -> None:
    stored.put_file_of_before()
    with contextlib.closing(sqlite3.connect(stored.path, isolation_level=None)) as old:
        old.execute("SELECT count(*) FROM calls").fetchone()
        stored.usage.flush()
        old.execute(WORDS_OF_BEFORE[0], (NOON_S,))
        old.execute(WORDS_OF_BEFORE[1])
        assert old.execute("PRAGMA user_version").fetchone() == (1,), "it would set a file of another version aside"
        old.execute("DELETE FROM calls WHERE id IN (SELECT id FROM calls ORDER BY time_s, id LIMIT 3)")
    for by in ("key", "session", "upstream"):
        assert sum(row.sums.cost_usd for row in cost(stored.usage, (by,), 0.0)) == pytest.approx(1 + 0.001234567 * 1770, abs=1e-9)


def test_a_file_that_cant_be_extended_is_reported(stored: StoredCalls) -> None:
    stored.put_file_of_before()
    with contextlib.closing(sqlite3.connect(stored.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        stored.usage._file._busy_s = 0.05
        assert calls(stored.usage, CallFilter()).rows == ()
    assert stored.events == [("usage.failed", {"reason": "usage.sqlite: database is locked"})]
    assert len(calls(stored.usage, CallFilter(), limit=100).rows) == 60


def test_what_is_too_old_goes_with_all_that_belongs_to_it(stored: StoredCalls) -> None:
    facts = CallFacts(session="s1", tools=lambda: {"Read": 2})
    stored.add(facts=facts)
    stored.usage.flush()
    assert rows(stored, "SELECT tool, calls FROM session_tools") == [("Read", 2)]
    stored.now_s += 91 * DAY_S
    stored.usage.flush()
    counts = [rows(stored, f"SELECT count(*) FROM {table}")[0][0] for table in ("calls", "call_details", "session_days", "session_tools")]
    assert counts == [0, 0, 0, 0]
    assert [row.group for row in cost(stored.usage, ("session",), 0.0)] == [("",)], "what sessions cost is still in the days"


def test_there_are_never_more_calls_than_so_many(stored: StoredCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_schema, "MAX_CALLS", 3)
    for _ in range(5):
        stored.add()
    stored.usage.flush()
    stored.now_s += TIDY_S
    stored.usage.flush()
    assert [row.call_id for row in calls(stored.usage, CallFilter()).rows] == [5, 4, 3]


@pytest.mark.slow
def test_when_no_call_is_left_sessions_go_and_then_days(tmp_path: Path) -> None:
    stored = StoredCalls(tmp_path, max_mb=1)
    for number in range(6000):
        stored.now_s = NOON_S + number // 1000 * DAY_S
        stored.add(facts=CallFacts(session=f"{number} {'s' * 150}"))
    stored.usage.flush()
    stored.now_s += TIDY_S
    stored.usage.flush()
    assert rows(stored, "SELECT count(*) FROM calls") == [(0,)]
    days = [day for (day,) in rows(stored, "SELECT DISTINCT day FROM session_days ORDER BY day")]
    assert 0 < len(days) < 6
    assert days[-1] == "2023-11-19"
    assert rows(stored, "SELECT sum(calls) FROM days") == [(6000,)]
    stored.usage.close()
