"""What `python app.py --usage` shows: what was used and what it cost, by day, model and key, as a table or as JSON."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from compat import jsonio
from compat.accounting.usage_queries import cost
from compat.accounting.usage_rows import DAY_S, day_of
from compat.accounting.usage_store import Usage
from compat.accounting.usage_views import CostColumn, CostRow, Sums, total_of
from compat.storage.shared_log_file import printable

DAYS = "30d"
_BY: tuple[CostColumn, ...] = ("day", "model", "key")
_HASHED = re.compile(r"key-[0-9a-f]{64}")
_MOST_DAYS = 10_000
_SHOWN_CHARS = len("key-") + 12
_NUMBERS = ("calls", "errors", "prompt", "of it cached", "completion", "USD")


def print_usage(usage: Usage, show: Callable[[str], object], *, since_s: float, client: str = "", is_json: bool = False) -> None:
    """Show the sums since the day of `since_s`, one of UTC, through `show`, line by line; with `client` only its own."""
    rows = cost(usage, _BY, since_s, key=client or None)
    if is_json:
        objects = [dict(zip(_BY, row.group, strict=True)) | asdict(row.sums) for row in rows]
        show(jsonio.encode({"since": day_of(since_s), "fault": usage.fault, "rows": objects}).decode())
        return
    if not rows:
        show(f"No calls since {day_of(since_s)}." if not usage.fault else f"Nothing can be shown: {usage.fault}.")
        return
    for line in _table(rows):
        show(line)


def since_of(text: str, now_s: float) -> float:
    """`7d` (that many days, today among them) or a date (`2026-11-01`, UTC) in seconds since 1970. `ValueError` for anything else."""
    number = text.removesuffix("d")
    if number != text and number.isascii() and number.isdigit() and 0 < int(number) < _MOST_DAYS:
        return now_s - (int(number) - 1) * DAY_S
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"'{text[:50]}' is neither a number of days (7d) nor a date (2026-11-01).") from error
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()


def _table(rows: Sequence[CostRow]) -> Iterable[str]:
    """A line per row under the names of all columns, and one for the total: names to the left, numbers to the right."""
    lines = [(*map(_shown, row.group), *_numbers(row.sums)) for row in rows]  # the groups are those of whole names
    last = ("total", *[""] * (len(_BY) - 1), *_numbers(total_of(row.sums for row in rows)))
    table = [(*_BY, *_NUMBERS), *lines, last]
    widths = [max(len(row[position]) for row in table) for position in range(len(last))]
    rule = "  ".join("-" * width for width in widths)
    written = [
        "  ".join(
            cell.ljust(width) if position < len(_BY) else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return [written[0], rule, *written[1:-1], rule, written[-1]]


def _numbers(sums: Sums) -> tuple[str, ...]:
    counts = (sums.calls, sums.errors, sums.prompt_tokens, sums.cache_read_tokens, sums.completion_tokens)
    return (*(f"{count:,}" for count in counts), f"{sums.cost_usd:,.4f}")


def _shown(name: str) -> str:
    """A name as a terminal can show it; what is empty led nowhere. Of a hash that stands for a key the beginning is enough."""
    if _HASHED.fullmatch(name):
        name = name[:_SHOWN_CHARS]
    return printable(name) or "-"
