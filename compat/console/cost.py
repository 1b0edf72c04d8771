"""What calls cost, by day and by whatever one likes: a plot, and the figures beside it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flask

from compat import jsonio
from compat.accounting.usage_export import csv_lines
from compat.accounting.usage_queries import cost, forecast
from compat.accounting.usage_rows import DAY_S, day_of
from compat.accounting.usage_views import SUMS, CostColumn, CostRow, Sums, total_of, values_of
from compat.console.charts import Series, most_of, stacked_bars
from compat.console.figures import NOTHING, Figures
from compat.console.page import Visit, data_answer, with_query
from compat.console.texts import page_texts
from compat.errors import BadRequest

COLUMNS: tuple[CostColumn, ...] = ("model", "upstream", "key", "session")
DAYS = (7, 30, 90)
MOST_ROWS = 100
"""Of the table; the downloads have all."""


def show_cost(visit: Visit) -> Mapping[str, Any]:
    """The last days, by one column. Errors: `BadRequest`."""
    by, days = asked(visit)
    usage, now_s, key = visit.gateway.usage, visit.gateway.clock.now(), visit.visitor.key
    text, figures = page_texts("cost")[visit.language], Figures(visit.language)
    since_s = now_s - (days - 1) * DAY_S
    labels = [day_of(since_s + number * DAY_S) for number in range(days)]
    rows = cost(usage, ("day", by), since_s, key=key)
    series = most_of(series_of(rows, labels), text["others"])
    return {
        "by": by,
        "days": days,
        "columns": COLUMNS,
        "spans": DAYS,
        "plot": stacked_bars([day[5:] for day in labels], series, title=text[f"plot_{by}"], show=figures.money) if rows else None,
        "names": [one.name for one in series],
        "total": total_of(row.sums for row in rows),
        "groups": largest(groups_of(rows, 1), text["others"]),
        "by_day": groups_of(rows, 0)[::-1],
        "month": forecast(usage, now_s, key=key),
        "now": datetime.datetime.fromtimestamp(now_s, datetime.UTC).date(),
        "links": {
            "by": {column: with_query(visit, by=column) for column in COLUMNS},
            "days": {span: with_query(visit, days=span) for span in DAYS},
            "csv": with_query(visit).replace("/cost", "/cost.csv", 1),
            "json": with_query(visit).replace("/cost", "/cost.json", 1),
        },
    }


def groups_of(rows: Iterable[CostRow], place: int) -> list[CostRow]:
    """The sums of what has the same value at a place of its group, in the order of the values."""
    parts: dict[str, list[Sums]] = {}
    for row in rows:
        parts.setdefault(row.group[place], []).append(row.sums)
    return [CostRow((name,), total_of(sums)) for name, sums in sorted(parts.items())]


def largest(rows: Sequence[CostRow], others: str) -> list[CostRow]:
    """The `MOST_ROWS` that cost most, the dearest first; all others are one, the last."""
    ordered = sorted(rows, key=lambda row: -row.sums.cost_usd)
    kept, rest = ordered[:MOST_ROWS], ordered[MOST_ROWS:]
    return [*kept, CostRow((others,), total_of(row.sums for row in rest))] if rest else kept


def asked(visit: Visit) -> tuple[CostColumn, int]:
    """The column and the days of the URL. Errors: `BadRequest`."""
    by, days = visit.request.args.get("by", "model"), visit.request.args.get("days", "30")
    column = next((column for column in COLUMNS if column == by), None)
    if column is None:
        raise BadRequest(f"by: '{by[:50]}' is not one of {', '.join(COLUMNS)}.")
    span = next((span for span in DAYS if str(span) == days), None)
    if span is None:
        raise BadRequest(f"days: '{days[:50]}' is not one of {', '.join(map(str, DAYS))}.")
    return column, span


def series_of(rows: Iterable[CostRow], labels: Sequence[str]) -> list[Series]:
    """The cost of each name by day; days without a call cost nothing."""
    places = {label: place for place, label in enumerate(labels)}
    values: dict[str, list[float]] = {}
    for row in rows:
        day, name = row.group
        if day in places:
            values.setdefault(name or NOTHING, [0.0] * len(labels))[places[day]] = row.sums.cost_usd
    return [Series(name, tuple(costs)) for name, costs in values.items()]


def cost_csv(visit: Visit) -> flask.Response:
    """The sums by day and the column, as a table. Errors: `BadRequest`."""
    by, rows = _rows(visit)
    lines = csv_lines([("day", by, *SUMS), *((*row.group, *values_of(row.sums)) for row in rows)])
    return data_answer(lines, "text/csv; charset=utf-8", "cost.csv")


def cost_json(visit: Visit) -> flask.Response:
    """The same, as a list of objects. Errors: `BadRequest`."""
    by, rows = _rows(visit)
    objects = [dict(zip(("day", by, *SUMS), (*row.group, *values_of(row.sums)), strict=True)) for row in rows]
    return data_answer(jsonio.encode(objects), "application/json", "cost.json")


def _rows(visit: Visit) -> tuple[CostColumn, list[CostRow]]:
    by, days = asked(visit)
    since_s = visit.gateway.clock.now() - (days - 1) * DAY_S
    return by, cost(visit.gateway.usage, ("day", by), since_s, key=visit.visitor.key)
