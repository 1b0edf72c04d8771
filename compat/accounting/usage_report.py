"""What `python app.py --usage` shows: what was used and what it cost, by day, model and key, as a table or as JSON."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Sequence

from compat import jsonio
from compat.accounting.usage_rows import day_of
from compat.accounting.usage_store import DAY_S, Column, Usage, UsageSum

DAYS = "30d"
_HEADS = {"day": "day", "client": "key", "model": "model", "deployment": "deployment"}
_HASHED = re.compile(r"key-[0-9a-f]{64}")
_MOST_DAYS = 10_000
_SHOWN_CHARS = len("key-") + 12
_NUMBERS = ("calls", "errors", "prompt", "of it cached", "completion", "USD")


def print_usage(
    usage: Usage,
    show: Callable[[str], object],
    *,
    since_s: float,
    by: Sequence[Column] = ("day", "model", "client"),
    client: str = "",
    is_json: bool = False,
) -> None:
    """Show the sums since the day of `since_s`, one of UTC, through `show`, line by line; with `client` only its own (it is in `by`)."""
    sums = [one for one in usage.table(by, since_s) if not client or one.group[by.index("client")] == client]
    if is_json:
        rows = [dict(zip([_HEADS[column] for column in by], one.group, strict=True)) | _fields(one) for one in sums]
        show(jsonio.encode({"since": day_of(since_s), "fault": usage.fault, "rows": rows}).decode())
        return
    if not sums:
        show(f"No calls since {day_of(since_s)}." if not usage.fault else f"Nothing can be shown: {usage.fault}.")
        return
    for line in table_lines(sums, [_HEADS[column] for column in by]):
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


def _fields(one: UsageSum) -> dict[str, float]:
    """The numbers by their names."""
    return {name: value for name, value in one._asdict().items() if name != "group"}


def table_lines(sums: Sequence[UsageSum], heads: Sequence[str]) -> Iterable[str]:
    """A row per sum under `heads` and the names of the numbers, and one for all: names to the left, numbers to the right."""
    rows = [(*(_shown(value) for value in one.group), *_numbers(one)) for one in sums]  # the groups are those of whole names
    total = UsageSum((), *(sum(column) for column in zip(*(one[1:] for one in sums), strict=True)))
    last = ("total", *[""] * (len(heads) - 1), *_numbers(total))
    table = [(*heads, *_NUMBERS), *rows, last]
    widths = [max(len(row[position]) for row in table) for position in range(len(last))]
    rule = "  ".join("-" * width for width in widths)
    lines = [
        "  ".join(
            cell.ljust(width) if position < len(heads) else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return [lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:-1]), rule, lines[-1].rstrip()]


def _numbers(one: UsageSum) -> tuple[str, ...]:
    counts = (one.calls, one.errors, one.prompt_tokens, one.cache_read_tokens, one.completion_tokens)
    return (*(f"{count:,}" for count in counts), f"{one.cost_usd:,.4f}")


def _shown(name: str) -> str:
    """A name as a terminal can show it; what is empty led nowhere. Of a hash that stands for a key the beginning is enough."""
    if _HASHED.fullmatch(name):
        name = name[:_SHOWN_CHARS]
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in name) or "-"
