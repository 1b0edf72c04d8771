"""`GET /v1/models` and `GET /v1/models/{id}`: aliases and exact ids, with what clients want to know of them.

The fields are OpenAI's (`id`, `object`, `created`, `owned_by`), Anthropic's (`display_name`) and OpenRouter's (`name`,
`context_length`, `pricing` in dollars per token): a client finds the ones it knows. Clients of a protocol with a list of its own
(`ClientProtocol.listing`) get that.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import flask

from compat import jsonio
from compat.calls.gateway import Gateway
from compat.config.catalog import Model, Price
from compat.endpoints.answers import json_body
from compat.errors import ModelNotFound, NoUpstream
from compat.protocols import listing_for
from compat.routing.router import FOREIGN, Route


def models_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoints over `gateway`."""
    blueprint = flask.Blueprint("models", __name__)

    @blueprint.get("/v1/models")
    def list_models() -> flask.Response:
        rows, listing = model_rows(gateway, client_of(gateway, flask.request.environ)), listing_for(flask.request.environ)
        return json_body(
            jsonio.encode({"object": "list", "data": rows}) if listing is None else listing.page(rows, flask.request.args)
        ).response()

    @blueprint.get("/v1/models/<path:model_id>")
    def get_model(model_id: str) -> flask.Response:
        client, route = client_of(gateway, flask.request.environ), gateway.router.resolve(model_id)
        gateway.keys.check_model(client, route.name)
        row, listing = model_row(gateway, route), listing_for(flask.request.environ)
        if model_id.startswith(FOREIGN):
            row["id"] = model_id
        return json_body(jsonio.encode(row) if listing is None else listing.one(row)).response()

    return blueprint


def client_of(gateway: Gateway, environ: Mapping[str, Any]) -> str:
    """The name of the client that sent a request. Errors: `InvalidKey`."""
    return gateway.keys.client_of(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))


def model_rows(gateway: Gateway, client: str = "") -> list[dict[str, Any]]:
    """The list: every public name that leads somewhere and that the client may call; without one, all."""
    return [model_row(gateway, route) for route in listed_routes(gateway, client)]


def listed_routes(gateway: Gateway, client: str = "") -> list[Route]:
    """The routes of all names that lead somewhere just now and that the client may call; without one, all."""
    routes = []
    for name in gateway.router.names():
        if not gateway.keys.may_call(client, name):
            continue
        try:
            routes.append(gateway.router.resolve(name))
        except (ModelNotFound, NoUpstream):
            continue
    return routes


def model_row(gateway: Gateway, route: Route) -> dict[str, Any]:
    """What the API says of one public name."""
    model = route.model
    alias = gateway.catalog.aliases.get(route.name)
    name = (alias.display_name if alias else "") or (
        model.display_name if route.name == model.id else f"{route.name} ({model.display_name})"
    )
    row: dict[str, Any] = {
        "id": route.name,
        "object": "model",
        "created": _created_s(model),
        "owned_by": model.owned_by or route.deployments[0].upstream.name,
        "display_name": name,
        "name": name,
        "context_length": model.context,
        "max_output_tokens": model.max_output,
        "pricing": _pricing(model.price.listed_at(gateway.clock.now())),
        "capabilities": {
            "tools": model.tools,
            "images": model.images,
            "files": model.files,
            "reasoning": model.reasoning,
            "efforts": model.reasoning_efforts,
        },
        "route": [deployment.name for deployment in route.deployments],
    }
    if model.retires is not None:
        row["retires"] = model.retires.isoformat()
    return row


def _created_s(model: Model) -> int:
    day = model.released or datetime.date(2025, 1, 1)
    return int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp())


def _pricing(price: Price) -> dict[str, str]:
    fields = {
        "prompt": price.input,
        "completion": price.output,
        "input_cache_read": price.cache_read,
        "input_cache_write": price.cache_write,
    }
    return {name: f"{dollars / 1_000_000:.10f}".rstrip("0").rstrip(".") or "0" for name, dollars in fields.items()}
