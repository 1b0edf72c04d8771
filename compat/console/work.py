"""Sessions: what an agent's work on one thing took, its sub-agents and its tools among it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.accounting.usage_queries import session_tree, sessions
from compat.console.page import Visit, with_query
from compat.errors import BadRequest, NotFound

DAYS = 30


def show_sessions(visit: Visit) -> Mapping[str, Any]:
    """The sessions of the last month, a page of them. Errors: `BadRequest`."""
    before = visit.request.args.get("before") or None
    try:
        page = sessions(visit.gateway.usage, visit.gateway.clock.now(), days=DAYS, before=before, key=visit.visitor.key)
    except ValueError as error:
        raise BadRequest(f"before: {error}.") from error
    return {"rows": page.rows, "days": DAYS, "older": with_query(visit, before=page.before) if page.before is not None else ""}


def show_session(visit: Visit) -> Mapping[str, Any]:
    """One session, `?key=KEY&id=SESSION`. Errors: `NotFound`."""
    arguments = visit.request.args
    tree = session_tree(visit.gateway.usage, arguments.get("key", ""), arguments.get("id", ""), key=visit.visitor.key)
    if tree is None:
        raise NotFound("There is no such session: its calls are not kept any more, or they are somebody else's.")
    return {"tree": tree}
