"""Calls as they happen: a page, and the feed of events behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask

from compat.accounting.usage_queries import known_names
from compat.console.page import Visit, data_answer, with_query
from compat.errors import BadRequest
from compat.telemetry.calllog import LEVELS
from compat.telemetry.feed import FeedFilter

MAX_S = 300.0
"""After which a feed ends. The browser comes back by itself, goes on where it was, and is asked who it is by the settings of then."""
_MAX_CHARS = 300


def show_live(visit: Visit) -> Mapping[str, Any]:
    """The page, under the filters of the URL. Errors: `BadRequest`."""
    wanted = filter_of(visit)
    return {
        "wanted": wanted,
        "asked_key": visit.request.args.get("key", ""),
        "levels": [level for level in LEVELS if level != "info"],
        "known": known_names(visit.gateway.usage, visit.gateway.clock.now(), key=visit.visitor.key),
        "events_url": with_query(visit).replace("/live", "/live/events", 1),
    }


def live_feed(visit: Visit) -> flask.Response:
    """Server-sent events, as long as the visitor may see them. Errors: `BadRequest`, `TooManyRequests`."""
    now = visit.gateway.clock.monotonic
    end_s = now() + MAX_S
    last_id = visit.request.headers.get("last-event-id", "")
    frames = visit.gateway.feed.follow(filter_of(visit), last_id, is_over=lambda: now() >= end_s or not visit.is_allowed())
    response = data_answer(frames, "text/event-stream; charset=utf-8")
    response.headers["x-accel-buffering"] = "no"
    return response


def filter_of(visit: Visit) -> FeedFilter:
    """What the URL asks for, of what the visitor may see. Errors: `BadRequest`."""
    arguments = visit.request.args
    asked = arguments.get("level") or "debug"
    level = next((level for level in LEVELS if level == asked), None)
    if level is None:
        raise BadRequest(f"level: '{asked[:50]}' is not one of {', '.join(LEVELS)}.")
    key = visit.visitor.key if visit.visitor.key is not None else arguments.get("key", "").strip()[:_MAX_CHARS] or None
    return FeedFilter(level, key, arguments.get("model", "").strip()[:_MAX_CHARS])
