"""Questions to the usage store: pure reading functions, each with one view as its answer (`usage_views`).

    overview(usage, now_s)                       the day so far
    calls(usage, CallFilter(model="sonnet"))     a page of the log of calls; one_call(usage, call_id): all of one
    sessions(usage, now_s), session_tree(usage, key, session)
    cost(usage, ("day", "model"), since_s), forecast(usage, now_s), key_totals(usage)
    known_names(usage, now_s)                    what can be filtered by

With `key` only that client's own calls are seen, whatever else is asked for. Where usage is not kept, or can't be read just now
(`usage.fault`), everything is empty. What waits to be written (half a second of calls) is not seen.
"""

# ruff: noqa: S608  # what is written into queries are names of our own tables and columns; values are bound
from __future__ import annotations

import datetime
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from compat.accounting.usage_rows import DAY_S, NANO, clean, day_of, read_detail
from compat.accounting.usage_schema import COUNTS
from compat.accounting.usage_store import Usage
from compat.accounting.usage_views import (
    CallDetail,
    CallFilter,
    CallPage,
    CallRow,
    CostColumn,
    CostRow,
    Forecast,
    KeyTotals,
    KnownNames,
    Minute,
    Overview,
    SessionPage,
    SessionRow,
    SessionTree,
    Sums,
    total_of,
)

PAGE = 50
MAX_PAGE = 1000
MAX_AGENTS = 1000
"""Of a session that are looked at."""

MAX_DEPTH = 20
_LAST_S = 253_402_300_799.0
"""The last second that has a day."""
_MINUTES = 60
_WEEK = 7
_MONTH = 30
_ROW = """
    SELECT id, time_s, client, model, deployment, outcome, status, duration_ms, prompt_tokens, completion_tokens, cache_read_tokens,
        cache_write_tokens, cost_nano, saved_nano, request_id, api, upstream_api, session, attempts, ttft_ms, error FROM calls"""
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in (*COUNTS, "saved_nano"))
_BY_MODEL = """
    (SELECT days.*, substr(deployment, 1, instr(deployment || '/', '/') - 1) AS upstream, coalesce(saved_nano, 0) AS saved_nano
     FROM days LEFT JOIN day_savings USING (client, day, model, deployment))"""
_BY_SESSION = f"""
    (SELECT client, day, session, {", ".join(COUNTS)}, saved_nano FROM session_days
     UNION ALL SELECT client, day, '' AS session, {_SUMS} FROM (
        SELECT client, day, {", ".join(f"sum({name}) AS {name}" for name in COUNTS)}, 0 AS saved_nano FROM days GROUP BY client, day
        UNION ALL SELECT client, day, 0, 0, 0, 0, 0, 0, 0, sum(saved_nano) FROM day_savings GROUP BY client, day
        UNION ALL SELECT client, day, {", ".join(f"-sum({name})" for name in (*COUNTS, "saved_nano"))} FROM session_days
        GROUP BY client, day)
     GROUP BY client, day HAVING sum(calls))"""
"""What is in no session is what is left of the days: so both come to the same sums. Each table is summed by itself first,
mostly in the order of its key: that takes a third of sorting all of them together."""

_SESSION = f"SELECT client, session, max(parent), min(first_s), max(last_s), sum(busy_ms), {_SUMS} FROM session_days"
_KIN = f"""
    WITH RECURSIVE family (session) AS (
        VALUES (:session) UNION SELECT child.session FROM session_days AS child
            JOIN family ON child.client = :client AND child.parent = family.session AND child.parent != '' LIMIT {MAX_AGENTS})"""
_FAMILY = f"""{_KIN}
    {_SESSION} WHERE client = :client AND session IN family GROUP BY session ORDER BY min(first_s), session"""
_TOOLS = f"""{_KIN}
    SELECT session, tool, sum(calls) FROM session_tools WHERE client = :client AND session IN family GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2"""
_CONDITIONS: Mapping[str, str] = {
    "since_s": "time_s >= ?",
    "until_s": "time_s < ?",
    "outcome": "outcome = ?",
    "status": "status = ?",
    "model": "model = ?",
    "upstream": "instr(deployment, ? || '/') = 1",
    "key": "client = ?",
    "session": "session = ?",
    "api": "api = ?",
    "request_id": "request_id = ?",
}


def overview(usage: Usage, now_s: float, *, key: str | None = None) -> Overview:
    """The day so far, and the last hour by minute."""
    day = day_of(now_s)
    today = cost(usage, ("day",), now_s, now_s, key=key)
    begin_s = now_s // DAY_S * DAY_S
    hour_s = now_s // 60 * 60 - (_MINUTES - 1) * 60
    only, names = _only(key)

    def work(reader: sqlite3.Connection) -> tuple[list[float], float | None, dict[int, Minute]]:
        since = f"FROM calls WHERE time_s >= ?{only}"
        first = reader.execute(f"SELECT ttft_ms {since} AND ttft_ms IS NOT NULL", (begin_s, *names))
        ttft = sorted(row[0] for row in first)
        written = f"SELECT sum(completion_tokens) * 1000 / sum(duration_ms - ttft_ms) {since} AND ttft_ms < duration_ms"
        (speed,) = reader.execute(f"{written} AND completion_tokens > 0", (begin_s, *names)).fetchone()
        counts = "count(*), sum(outcome = 'error'), sum(prompt_tokens + completion_tokens), sum(cost_nano)"
        by_minute = f"SELECT CAST(time_s / 60 AS INTEGER), {counts} {since} GROUP BY 1"
        rows = reader.execute(by_minute, (hour_s, *names)).fetchall()
        return ttft, speed, {row[0]: Minute(row[0] * 60.0, row[1], row[2], row[3], row[4] / NANO) for row in rows}

    ttft, speed, minutes = usage.read(work) or ([], None, {})
    numbers = range(int(hour_s // 60), int(hour_s // 60) + _MINUTES)
    return Overview(
        day,
        total_of(row.sums for row in today),
        _percentile(ttft, 0.5),
        _percentile(ttft, 0.95),
        speed,
        tuple(minutes.get(number, Minute(number * 60.0)) for number in numbers),
    )


def calls(usage: Usage, wanted: CallFilter, *, before: int | None = None, limit: int = PAGE, key: str | None = None) -> CallPage:
    """The newest calls that are wanted, `MAX_PAGE` at most; `before` is that of the page before."""
    conditions, values = _conditions(wanted, key)
    if before is not None:
        conditions.append("id < ?")
        values.append(_number(before))
    limit = min(max(limit, 1), MAX_PAGE)
    query = f"{_ROW} WHERE {' AND '.join(conditions) or '1'} ORDER BY id DESC LIMIT ?"
    rows = usage.read(lambda reader: reader.execute(query, (*values, limit + 1)).fetchall()) or []
    page = tuple(_call(row) for row in rows[:limit])
    return CallPage(page, page[-1].call_id if len(rows) > limit else None)


def one_call(usage: Usage, call_id: int, *, key: str | None = None) -> tuple[CallRow, CallDetail] | None:
    """All that is kept of a call."""
    only, names = _only(key)
    query = f"SELECT own.*, document FROM ({_ROW} WHERE id = ?{only}) AS own LEFT JOIN call_details USING (id)"
    found = usage.read(lambda reader: reader.execute(query, (_number(call_id), *names)).fetchone())
    if found is None:
        return None
    *row, document = found
    return _call(row), read_detail(document or b"{}")


def sessions(
    usage: Usage, now_s: float, *, days: int = 30, before: str | None = None, limit: int = PAGE, key: str | None = None
) -> SessionPage:
    """The sessions of the last days, the sub-agents of another one not among them; `before` is that of the page before.

    Errors: `ValueError`, where `before` is not what a page had.
    """
    only, names = _only(key)
    place, values = "", []
    if before is not None:
        place, values = "HAVING (max(last_s), client, session) < (?, ?, ?)", list(_cursor(before))
    limit = min(max(limit, 1), MAX_PAGE)
    query = f"""{_SESSION} AS own WHERE day >= ?{only} AND NOT EXISTS (
            SELECT 1 FROM session_days AS began WHERE own.parent != '' AND began.client = own.client AND began.session = own.parent)
        GROUP BY client, session {place} ORDER BY 5 DESC, client DESC, session DESC LIMIT ?"""
    since = day_of(now_s - (days - 1) * DAY_S)

    def work(reader: sqlite3.Connection) -> list[SessionRow]:
        found = reader.execute(query, (since, *names, *values, limit + 1)).fetchall()
        return [_with_agents(_session(row), _family(reader, row[0], row[1])) for row in found]

    rows = usage.read(work) or []
    page = tuple(rows[:limit])
    return SessionPage(page, msgspec.json.encode((page[-1].last_s, page[-1].key, page[-1].session)).decode() if len(rows) > limit else None)


def session_tree(usage: Usage, client: str, session: str, *, key: str | None = None) -> SessionTree | None:
    """A session of a client, its tools, and its sub-agents, down to `MAX_DEPTH` levels; what is below counts."""
    name, session = clean(client), clean(session)
    if key is not None and clean(key) != name:
        return None

    def work(reader: sqlite3.Connection) -> SessionTree | None:
        family = _family(reader, name, session)
        found = reader.execute(_TOOLS, {"client": name, "session": session}).fetchall()
        tools: dict[str, dict[str, int]] = {}
        for member, tool, count in found:
            tools.setdefault(member, {})[tool] = count
        return _tree(session, {row.session: row for row in family}, tools) if family else None

    return usage.read(work)


def cost(
    usage: Usage, by: Sequence[CostColumn], since_s: float = 0.0, until_s: float | None = None, *, key: str | None = None
) -> list[CostRow]:
    """Sums by some columns, in their order, from the day of `since_s` to that of `until_s`. Sessions go with days and keys only."""
    columns = ", ".join("client" if name == "key" else name for name in by)
    days = (day_of(_time(since_s)), day_of(_LAST_S if until_s is None else _time(until_s)))
    only, names = _only(key)
    query = f"""
        SELECT {columns}, {_SUMS} FROM {_BY_SESSION if "session" in by else _BY_MODEL}
        WHERE day >= ? AND day <= ?{only} GROUP BY {columns} ORDER BY {columns}"""
    rows = usage.read(lambda reader: reader.execute(query, (*days, *names)).fetchall()) or []
    return [CostRow(row[: len(by)], _sums(row[len(by) :])) for row in rows]


def forecast(usage: Usage, now_s: float, *, key: str | None = None) -> Forecast:
    """What this month (of UTC) comes to: what was spent, and for the days that are left what the last week cost per day.

    Of a week in which nothing was at first only the rest counts, a day at least.
    """
    today = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    month = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    left_days = ((month + datetime.timedelta(days=32)).replace(day=1).timestamp() - now_s) / DAY_S
    week_s = (now_s // DAY_S - (_WEEK - 1)) * DAY_S
    days = {row.group[0]: row.sums.cost_usd for row in cost(usage, ("day",), min(week_s, month.timestamp()), key=key)}
    spent_usd = sum(usd for day, usd in days.items() if day >= day_of(month.timestamp()))
    week = {day: usd for day, usd in days.items() if day >= day_of(week_s)}
    began_s = datetime.datetime.fromisoformat(f"{min(week)}T00:00:00+00:00").timestamp() if week else now_s
    per_day = sum(week.values()) / max((now_s - began_s) / DAY_S, 1.0)
    return Forecast(day_of(now_s)[:7], spent_usd, spent_usd + per_day * left_days)


def key_totals(usage: Usage, *, key: str | None = None) -> list[KeyTotals]:
    """What each key used, of all that is kept."""
    only, names = _only(key)
    query = f"SELECT client, max(time_s) FROM calls WHERE 1{only} GROUP BY client"
    last = dict(usage.read(lambda reader: reader.execute(query, names).fetchall()) or ())
    return [KeyTotals(row.group[0], row.sums, last.get(row.group[0])) for row in cost(usage, ("key",), key=key)]


def known_names(usage: Usage, now_s: float, *, key: str | None = None) -> KnownNames:
    """The names that calls of the last month can be filtered by."""
    groups = [row.group for row in cost(usage, ("model", "upstream", "key"), now_s - (_MONTH - 1) * DAY_S, key=key)]
    return KnownNames(*(tuple(sorted({group[place] for group in groups} - {""})) for place in range(3)))


def _only(key: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition that calls are a client's own, and its value."""
    return ("", ()) if key is None else (" AND client = ?", (clean(key),))


def _conditions(wanted: CallFilter, key: str | None) -> tuple[list[str], list[Any]]:
    values = {name: getattr(wanted, name) for name in _CONDITIONS}
    found = [(_CONDITIONS[name], _value(value)) for name, value in values.items() if value not in (None, "")]
    found += [] if key is None else [("client = ?", clean(key))]
    return [condition for condition, _ in found], [value for _, value in found]


def _value(value: Any) -> Any:
    """A value as SQLite takes it, whatever somebody wrote into a link."""
    return clean(value) if isinstance(value, str) else _number(value) if isinstance(value, int) else value


def _number(value: int) -> int:
    return max(min(value, 2**63 - 1), -1)


def _time(value: float) -> float:
    """A time of which there is a day."""
    return min(max(value, 0.0), _LAST_S)


def _cursor(before: str) -> tuple[float, str, str]:
    try:
        last_s, client, session = msgspec.json.decode(before, type=tuple[float, str, str])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise ValueError("not where a page of sessions ends") from error
    return last_s, clean(client), clean(session)


def _call(row: Sequence[Any]) -> CallRow:
    return CallRow(*[*row[:12], row[12] / NANO, row[13] / NANO, *row[14:]])


def _session(row: Sequence[Any]) -> SessionRow:
    sums = _sums(row[6:])
    return SessionRow(*[*row[:6], sums, sums])


def _family(reader: sqlite3.Connection, client: str, session: str) -> list[SessionRow]:
    """A session and all that came from it; nothing where there is no such session."""
    rows = [_session(row) for row in reader.execute(_FAMILY, {"client": client, "session": session}).fetchall()]
    return rows if any(row.session == session for row in rows) else []


def _with_agents(row: SessionRow, family: Sequence[SessionRow]) -> SessionRow:
    return replace(row, total=total_of(one.sums for one in family), agents=len(family) - 1)


def _tree(name: str, family: Mapping[str, SessionRow], tools: Mapping[str, Mapping[str, int]], depth: int = 0) -> SessionTree:
    """The tree below a session. No session is below itself, whatever clients say: each level takes its own out of the family."""
    row = family[name]
    rest = {session: other for session, other in family.items() if session != name}
    below = _below(name, rest)
    begun = [session for session, other in below.items() if other.parent == name] if depth < MAX_DEPTH else []
    children = tuple(_tree(session, below, tools, depth + 1) for session in begun)
    return SessionTree(_with_agents(row, [row, *below.values()]), tools.get(name, {}), children)


def _below(name: str, rest: Mapping[str, SessionRow]) -> dict[str, SessionRow]:
    """Those of the family that came from a session, at any distance."""
    by_parent: dict[str, list[str]] = {}
    for session, row in rest.items():
        by_parent.setdefault(row.parent, []).append(session)
    found: dict[str, SessionRow] = {}
    waiting = [name]
    while waiting:
        for session in by_parent.get(waiting.pop(), ()):
            if session not in found:
                found[session] = rest[session]
                waiting.append(session)
    return found


def _sums(row: Sequence[Any]) -> Sums:
    *counts, cost_nano, saved_nano = row
    return Sums(*[*counts, cost_nano / NANO, saved_nano / NANO])


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The least value that so much of them is not above."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None
