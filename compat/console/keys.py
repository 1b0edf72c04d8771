"""Client keys by name: what each may do, has used, and has left. They are made and revoked on the command line only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.accounting.usage_queries import key_totals
from compat.accounting.usage_views import KeyTotals, Sums
from compat.console.budgets import limit_rows
from compat.console.page import Visit

MOST_ROWS = 500
"""Without client keys every key that somebody sent is a name of its own."""


def show_keys(visit: Visit) -> Mapping[str, Any]:
    """All keys, or the visitor's own; without client keys, whoever called."""
    gateway, visitor = visit.gateway, visit.visitor
    totals = {one.key: one for one in key_totals(gateway.usage, key=visitor.key)}
    names = [name for name in gateway.keys.names if visitor.key in {None, name}]
    rows = [
        {
            "name": name,
            "is_accepted": bool(gateway.keys.fingerprint(name)) if name in names else not names,
            "is_console": gateway.keys.sees_all(name),
            "terms": gateway.keys.terms_of(name),
            "limits": limit_rows(gateway, [name]),
            "totals": totals.get(name, KeyTotals(name, Sums(), None)),
        }
        for name in [*names, *(name for name in totals if name not in names)][:MOST_ROWS]
    ]
    return {"rows": rows, "are_required": gateway.keys.are_required, "fault": gateway.keys.fault if visitor.sees_all else ""}
