"""The first page: is the gateway well, what runs just now, and what did the day bring."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from compat.accounting.usage_queries import forecast, overview
from compat.accounting.usage_views import Minute
from compat.calls.gateway import Gateway
from compat.console.budgets import budget_rows, clients_of
from compat.console.charts import Series, stacked_bars
from compat.console.figures import Figures
from compat.console.page import Visit
from compat.console.texts import page_texts
from compat.endpoints.health import FLEET, health_report


def show_overview(visit: Visit) -> Mapping[str, Any]:
    """See above. Whoever sees only their own calls is not shown the state of upstreams."""
    gateway, visitor = visit.gateway, visit.visitor
    now_s = gateway.clock.now()
    today = overview(gateway.usage, now_s, key=visitor.key)
    health = health_report(gateway)
    return {
        "health": health,
        "upstreams": upstream_rows(gateway, health) if visitor.sees_all else [],
        "today": today,
        "is_one_of_many": FLEET in visit.request.environ,
        "hour": hour_plot(today.minutes, visit),
        "month": forecast(gateway.usage, now_s, key=visitor.key),
        "budgets": budget_rows(gateway, clients_of(gateway, visitor.key)),
        "fetched": gateway.engine.presets if gateway.engine is not None and not gateway.router.upstreams else (),
    }


def upstream_rows(gateway: Gateway, health: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each upstream with its circuits that are not closed, and the calls that run there."""
    circuits: dict[str, list[Mapping[str, Any]]] = {}
    for row in gateway.policies.circuits.report():
        if row["state"] != "closed":
            circuits.setdefault(str(row["upstream"]), []).append(row)
    gates = gateway.policies.gates.report()
    return [{**row, "circuits": circuits.get(row["name"], []), "gate": gates.get(row["name"])} for row in health["upstreams"]]


def hour_plot(minutes: tuple[Minute, ...], visit: Visit) -> Any:
    """The calls of the last hour by minute, those that failed apart; nothing where there was none."""
    if not any(minute.calls for minute in minutes):
        return None
    text, figures = page_texts("overview")[visit.language], Figures(visit.language)
    labels = [f"{datetime.datetime.fromtimestamp(minute.begin_s, datetime.UTC):%H:%M}" for minute in minutes]
    series = [
        Series(text["went_well"], tuple(float(minute.calls - minute.errors) for minute in minutes)),
        Series(text["errors"], tuple(float(minute.errors) for minute in minutes)),
    ]
    return stacked_bars(labels, series, title=text["last_hour"], show=figures.count, height=170, least=1)
