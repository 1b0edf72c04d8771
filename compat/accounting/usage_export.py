"""Calls as files: CSV for tables, JSON for programs. Streamed: a page of the store at a time, so that no export is too large.

export(usage, "csv", CallFilter(model="sonnet"))     pieces of a UTF-8 file
"""

from __future__ import annotations

import csv
import io
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Literal

import msgspec

from compat.accounting.usage_queries import MAX_PAGE, calls
from compat.accounting.usage_store import Usage
from compat.accounting.usage_views import CallFilter, CallRow

ExportFormat = Literal["csv", "json"]
_COLUMNS = tuple(field.name for field in fields(CallRow))
_values_of = operator.attrgetter(*_COLUMNS)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a program for tables takes for the beginning of a formula."""


def export(usage: Usage, form: ExportFormat, wanted: CallFilter, *, key: str | None = None) -> Iterator[bytes]:
    """The calls that are wanted, the newest first, as CSV with a head, or as one JSON array. `key`: only that client's own."""
    return _FORMS[form](_pages(usage, wanted, key))


def _pages(usage: Usage, wanted: CallFilter, key: str | None) -> Iterator[Sequence[CallRow]]:
    before: int | None = None
    while True:
        page = calls(usage, wanted, before=before, limit=MAX_PAGE, key=key)
        yield page.rows
        if (before := page.before) is None:
            return


def _csv(pages: Iterator[Sequence[CallRow]]) -> Iterator[bytes]:
    yield csv_lines([_COLUMNS])
    for rows in pages:
        yield csv_lines(map(_values_of, rows))


def _json(pages: Iterator[Sequence[CallRow]]) -> Iterator[bytes]:
    join = b"["
    for rows in pages:
        for row in rows:
            yield join + msgspec.json.encode(row)
            join = b",\n"
    yield b"]\n" if join != b"[" else b"[]\n"


def csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    """Lines of CSV (RFC 4180); a text that could be taken for a formula is quoted, and nothing of a float is lost."""
    text = io.StringIO()
    csv.writer(text).writerows(map(_cell, row) for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


_FORMS: Mapping[ExportFormat, Callable[[Iterator[Sequence[CallRow]]], Iterator[bytes]]] = {"csv": _csv, "json": _json}
