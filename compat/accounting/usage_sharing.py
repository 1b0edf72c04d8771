"""Calls that stores of several machines exchange, so that each has those of all. Pure steps on a store's connection, see `cluster.usage`.

A store has a name of its own, numbers its calls, and gives them away in their order; who takes them remembers of each store the last
number, so that what is given twice, as by two workers of one machine, counts once. Calls that were taken are not given on.
"""

# ruff: noqa: S608  # what is written into queries are names of our own tables and columns; values are bound
from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

from compat.accounting.usage_rows import MAX_ERROR_CHARS, CallColumns, clean, taken_detail
from compat.accounting.usage_schema import StoredCall, put_calls

BATCH = 100
MAX_STORES = 1000
"""Of other stores that are known; calls of further ones are not taken."""

_STORE, _SENT, _PLACE = "store", "sent", "place"
_Name = Annotated[str, msgspec.Meta(max_length=1000)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Nano = Annotated[int, msgspec.Meta(ge=-(10**18), le=10**18)]
_Ms = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_COLUMNS = ", ".join(CallColumns._fields)


class SharedCall(msgspec.Struct, frozen=True, array_like=True):
    """A call on its way: which store's it is and its number there, the columns, and its document."""

    store: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    number: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    time_s: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    client: _Name
    model: _Name
    deployment: _Name
    outcome: _Name
    status: _Count
    duration_ms: _Ms
    prompt_tokens: _Count
    completion_tokens: _Count
    cache_read_tokens: _Count
    cache_write_tokens: _Count
    cost_nano: _Nano
    request_id: _Name
    api: _Name
    upstream_api: _Name
    session: _Name
    attempts: _Count
    ttft_ms: _Ms | None
    error: _Name
    saved_nano: _Nano
    document: Annotated[str, msgspec.Meta(max_length=256 * 1024)]


class Unsent(NamedTuple):
    """What a store has to give away: its name (empty before `begin`), the last number that was given, and the calls after that."""

    store: str
    sent: int
    calls: Sequence[SharedCall]


def unsent(reader: sqlite3.Connection) -> Unsent:
    """The next calls of the store's own. One whose numbers began again, since all calls were too old, needs a new name as well."""
    store, sent = _value(reader, _STORE), int(_value(reader, _SENT) or 0)
    top = reader.execute("SELECT max(id) FROM calls").fetchone()[0] or 0
    if not store or sent > top:
        return Unsent("", 0, ())
    rows = reader.execute(
        f"SELECT calls.id, {_COLUMNS}, coalesce(CAST(document AS TEXT), '{{}}') FROM calls LEFT JOIN call_details USING (id) "
        "WHERE calls.id > ? AND store = '' ORDER BY calls.id LIMIT ?",
        (sent, BATCH),
    ).fetchall()
    return Unsent(store, sent, [SharedCall(store, *row) for row in rows])


def begin(writer: sqlite3.Connection, store: str) -> None:
    """Give the store a name, and begin with its first call."""
    _set(writer, _STORE, store)
    _set(writer, _SENT, "0")


def mark_sent(writer: sqlite3.Connection, given: Unsent) -> None:
    """What was given is not given again, unless another worker was faster."""
    if given.calls and _value(writer, _STORE) == given.store and int(_value(writer, _SENT) or 0) == given.sent:
        _set(writer, _SENT, str(given.calls[-1].number))


def place_of(reader: sqlite3.Connection) -> str:
    """Up to where calls of others were taken; empty at the beginning."""
    return _value(reader, _PLACE)


def take(writer: sqlite3.Connection, calls: Sequence[SharedCall], before: str, after: str) -> None:
    """Take calls of others that stand between two places, unless another worker was faster."""
    if _value(writer, _PLACE) != before:
        return
    own = _value(writer, _STORE)
    known = {name: int(value) for name, value in writer.execute("SELECT name, value FROM sharing WHERE name LIKE 'of %'")}
    taken: list[StoredCall] = []
    for call in calls:
        name = f"of {call.store}"
        if call.store == own or call.number <= known.get(name, 0) or (name not in known and len(known) >= MAX_STORES):
            continue
        known[name] = call.number
        _set(writer, name, str(call.number))
        cells = msgspec.structs.astuple(call)[2:-1]
        columns = CallColumns._make(clean(cell, MAX_ERROR_CHARS) if isinstance(cell, str) else cell for cell in cells)
        taken.append((columns, taken_detail(call.document), call.store))
    put_calls(writer, taken)
    _set(writer, _PLACE, after)


def _value(reader: sqlite3.Connection, name: str) -> str:
    row = reader.execute("SELECT value FROM sharing WHERE name = ?", (name,)).fetchone()
    return row[0] if row else ""


def _set(writer: sqlite3.Connection, name: str, value: str) -> None:
    writer.execute("INSERT INTO sharing VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value))
