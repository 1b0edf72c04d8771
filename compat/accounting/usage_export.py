"""Calls as files: CSV for tables, JSON for programs. Streamed: a page of the store at a time, so that no export is too large.

export(usage, "csv", CallFilter(model="sonnet"))     pieces of a UTF-8 file
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Literal

import msgspec

from compat.accounting.usage_queries import MAX_PAGE, calls
from compat.accounting.usage_store import Usage
from compat.accounting.usage_views import CallFilter, CallRow

ExportFormat = Literal["csv", "json"]
_COLUMNS = tuple(field.name for field in fields(CallRow))
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
    yield _lines([_COLUMNS])
    for rows in pages:
        yield _lines([[_cell(value) for value in asdict(row).values()] for row in rows])


def _json(pages: Iterator[Sequence[CallRow]]) -> Iterator[bytes]:
    join = b"["
    for rows in pages:
        for row in rows:
            yield join + msgspec.json.encode(row)
            join = b",\n"
    yield b"]\n" if join != b"[" else b"[]\n"


def _lines(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """A text that could be taken for a formula is quoted; a float is written so that nothing of it is lost."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


_FORMS: Mapping[ExportFormat, Callable[[Iterator[Sequence[CallRow]]], Iterator[bytes]]] = {"csv": _csv, "json": _json}
