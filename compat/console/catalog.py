"""The names that clients may call: where each goes, its limits and prices, and how long it is there."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from compat.console.page import Visit
from compat.endpoints.health import route_text
from compat.endpoints.models import listed_routes

_MILLION = 1_000_000
_SOON_DAYS = 60


def show_models(visit: Visit) -> Mapping[str, Any]:
    """Every name that leads somewhere and that the visitor's key may call, the aliases first; and what the doctor has to say of them."""
    gateway, visitor = visit.gateway, visit.visitor.name
    now_s = gateway.clock.now()
    today = datetime.datetime.fromtimestamp(now_s, datetime.UTC).date()
    ends = {str(row["name"]): str(row["day"]) for row in gateway.doctor.report() if row.get("day")}
    rows = []
    for route in listed_routes(gateway, visitor):
        model = route.model
        retires = datetime.date.fromisoformat(ends[route.name]) if route.name in ends else model.retires
        rows.append(
            {
                "name": route.name,
                "is_alias": route.name in gateway.catalog.aliases or route.name in gateway.settings.models,
                "model": model,
                "goes_to": route_text(gateway, route.name),
                "price": model.price.listed_at(now_s),
                "retires": retires,
                "days_left": (retires - today).days if retires is not None else None,
            }
        )
    rows.sort(key=lambda row: not row["is_alias"])
    shown = {row["name"] for row in rows}
    lost = [name for name in gateway.catalog.aliases if name not in shown and gateway.keys.may_call(visitor, name)]
    return {
        "rows": rows,
        "lost": [(name, route_text(gateway, name)) for name in lost],
        "findings": [row for row in gateway.doctor.report() if gateway.keys.may_call(visitor, row["name"])],
        "soon_days": _SOON_DAYS,
    }
