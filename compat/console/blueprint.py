"""The URLs of the console: a page or a feed is a row, and no row is served without the guard."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import flask
from flask.globals import request_ctx

from compat.calls.gateway import Gateway
from compat.console.access import Access
from compat.console.calls import calls_file, show_call, show_calls
from compat.console.catalog import show_models
from compat.console.cost import cost_csv, cost_json, show_cost
from compat.console.keys import show_keys
from compat.console.live import live_feed, show_live
from compat.console.overview import show_overview
from compat.console.page import Feed, Page, Visit, asked_language, render
from compat.console.setup import setup_file, show_setup
from compat.console.sign_in import add_sign_in, sign_in_page
from compat.console.trial import receipt_feed, show_trial, trial_feed
from compat.console.work import show_session, show_sessions
from compat.endpoints.answers import error_body
from compat.endpoints.doors import Door
from compat.errors import GatewayError, InvalidKey


@dataclass(frozen=True, slots=True)
class FeedRow:
    """A URL that answers with data."""

    name: str
    path: str
    feed: Feed
    method: str = "GET"


def pages_of(doors: Mapping[str, Door]) -> tuple[Page, ...]:
    """Every page; those without a `menu` of another stand in the menu, in this order."""
    return (
        Page("overview", "/", show_overview),
        Page("live", "/live", show_live, scripts=("live.js",)),
        Page("calls", "/calls", show_calls),
        Page("call", "/calls/<call_id>", show_call, menu="calls"),
        Page("sessions", "/sessions", show_sessions),
        Page("session", "/sessions/one", show_session, menu="sessions"),
        Page("cost", "/cost", show_cost),
        Page("models", "/catalog", show_models),  # `/models` is where clients look for the list
        Page("keys", "/keys", show_keys),
        Page("trial", "/try", show_trial(doors), scripts=("trial.js",)),
        Page("setup", "/setup", show_setup),
    )


def feeds_of(doors: Mapping[str, Door]) -> tuple[FeedRow, ...]:
    """Every feed."""
    return (
        FeedRow("live_events", "/live/events", live_feed),
        FeedRow("calls_csv", "/calls.csv", calls_file("csv")),
        FeedRow("calls_json", "/calls.json", calls_file("json")),
        FeedRow("cost_csv", "/cost.csv", cost_csv),
        FeedRow("cost_json", "/cost.json", cost_json),
        FeedRow("trial_call", "/try", trial_feed(doors), "POST"),
        FeedRow("trial_receipt", "/try/receipt", receipt_feed),
        FeedRow("setup_file", "/setup/<name>", setup_file),
    )


def console_blueprint(gateway: Gateway, doors: Mapping[str, Door]) -> flask.Blueprint:
    """The console over `gateway`, whose doors its visitors may try."""
    blueprint = flask.Blueprint("console", __name__)
    access = Access(gateway.keys, gateway.secrets, gateway.clock.now)
    pages = pages_of(doors)
    menu = tuple(page for page in pages if not page.menu)
    for page in pages:
        view = functools.partial(_page, gateway, access, menu, page)
        blueprint.add_url_rule(page.path, page.name, view, methods=["GET"], provide_automatic_options=False)
    for row in feeds_of(doors):
        feed = functools.partial(_feed, gateway, access, row)
        blueprint.add_url_rule(row.path, row.name, feed, methods=[row.method], provide_automatic_options=False)
    add_sign_in(blueprint, gateway, access, pages)
    return blueprint


def _page(gateway: Gateway, access: Access, menu: tuple[Page, ...], page: Page, **_: str) -> flask.Response:
    """A page for a visitor who may see it, the form to sign in for all others, an error as a page."""
    request = flask.request
    visitor = access.visitor_of(request)
    if visitor is None:
        return sign_in_page(gateway, 401, after=request.full_path.rstrip("?"))
    visit = Visit(gateway, visitor, request, asked_language(request))
    try:
        return render(page.name, visit, menu, {"current": page.menu or page.name, "scripts": page.scripts, **page.show(visit)})
    except GatewayError as error:
        return render("error", visit, menu, {"current": page.menu or page.name, "error": error}, error.status)


def _feed(gateway: Gateway, access: Access, row: FeedRow, **_: str) -> flask.Response:
    """A feed for a visitor who may see it."""
    request = request_ctx.request
    visitor = access.visitor_of(request)
    if visitor is None:
        return error_body(InvalidKey("The console's data needs a key: sign in, or send it as 'Authorization: Bearer KEY'.")).response()
    return row.feed(Visit(gateway, visitor, request, asked_language(request), lambda: access.visitor_of(request) == visitor))
