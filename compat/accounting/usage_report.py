"""The table of `python app.py --usage`: what was used and what it cost, by day, model and key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from compat.accounting.usage_store import DAY_S, Column, Usage, UsageSum

DAYS = 30
_HEADS = {"day": "day", "client": "key", "model": "model", "deployment": "deployment"}
_HASHED = re.compile(r"key-[0-9a-f]{64}")
_SHOWN_CHARS = len("key-") + 12
_NUMBERS = ("calls", "errors", "prompt", "of it cached", "completion", "USD")


def print_usage(
    usage: Usage, show: Callable[[str], object], *, now_s: float, days: int = DAYS, by: Sequence[Column] = ("day", "model", "client")
) -> None:
    """Show the table of the last `days` days through `show`, line by line; a day is one of UTC."""
    sums = usage.table(by, now_s - (days - 1) * DAY_S)
    if not sums:
        show(f"No calls in the last {days} days." if not usage.fault else f"Nothing can be shown: {usage.fault}.")
        return
    for line in table_lines(sums, [_HEADS[column] for column in by]):
        show(line)


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
