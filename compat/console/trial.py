"""Try it: a call through one of the gateway's own doors, from a page.

    POST /try?api=anthropic.messages     the call's body, as a client of that API sends it; answered as that client is
    GET /try/receipt?id=REQUEST_ID       what it took, once it is over and written down

The page needs no key: whoever may see it calls under the name of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask

from compat import jsonio
from compat.accounting.keys import ANONYMOUS
from compat.accounting.usage_queries import calls
from compat.accounting.usage_views import CallFilter
from compat.console.figures import Figures
from compat.console.page import PAGE_HEADERS, Feed, Visit
from compat.endpoints.answers import error_body, json_body
from compat.endpoints.doors import Door
from compat.errors import BadRequest, GatewayError

APIS = ("openai.chat", "anthropic.messages", "openai.responses")
"""Those that agents speak; the page's script knows what each wants (`static/trial.js`)."""
_RECENT_S = 3600.0


def show_trial(doors: Mapping[str, Door]) -> Any:
    """What the page of these doors shows."""

    def show(visit: Visit) -> Mapping[str, Any]:
        keys, visitor = visit.gateway.keys, visit.visitor.name
        names = [name for name in visit.gateway.router.names() if keys.may_call(visitor, name)]
        asked = visit.request.args.get("model", "")
        return {
            "apis": {door.protocol.api: path for path, door in _by_api(doors).values()},
            "names": names,
            "chosen": asked if asked in names else next(iter(names), ""),
            "is_embedded": not visit.gateway.router.upstreams,
        }

    return show


def trial_feed(doors: Mapping[str, Door]) -> Feed:
    """The feed that makes the call."""
    by_api = _by_api(doors)

    def feed(visit: Visit) -> flask.Response:
        api = visit.request.args.get("api", "")
        if api not in by_api:
            raise BadRequest(f"api: '{api[:50]}' is not one of {', '.join(by_api)}.")
        path, door = by_api[api]
        environ = visit.request.environ
        environ["PATH_INFO"] = path  # for what the outermost application says in the answer's head
        try:
            return door(environ, visit.visitor.name or ANONYMOUS).response()
        except GatewayError as error:
            return error_body(error, protocol=door.protocol).response()

    return feed


def receipt_feed(visit: Visit) -> flask.Response:
    """The tokens, times and price of a recent call of the visitor's; `{}` while it is not written down."""
    request_id, figures = visit.request.args.get("id", ""), Figures(visit.language)
    wanted = CallFilter(since_s=visit.gateway.clock.now() - _RECENT_S, request_id=request_id)
    receipt = {}
    for row in calls(visit.gateway.usage, wanted, limit=1, key=visit.visitor.key).rows if request_id else ():
        receipt = {
            "url": flask.url_for("console.call", call_id=row.call_id),
            "input": figures.count(row.prompt_tokens),
            "output": figures.count(row.completion_tokens),
            "cached": figures.share(row.cache_hit_rate),
            "cost": figures.money(row.cost_usd),
            "first": figures.lasting(row.ttft_ms),
            "took": figures.lasting(row.duration_ms),
            "deployment": row.deployment,
        }
    return json_body(jsonio.encode(receipt), headers=list(PAGE_HEADERS.items())).response()


def _by_api(doors: Mapping[str, Door]) -> dict[str, tuple[str, Door]]:
    """Each wire API's first path and its door there."""
    found: dict[str, tuple[str, Door]] = {}
    for path, door in doors.items():
        found.setdefault(door.protocol.api, (path, door))
    return {api: found[api] for api in APIS if api in found}
