"""What coding agents ask besides their calls, and need no answer to: answered all the same, so that nobody takes it for a failure.

Claude Code looks whether the server is there (`HEAD /api/hello`, earlier `HEAD /`), and sends events about its use, which are dropped.
"""

from __future__ import annotations

import flask

from compat.calls.gateway import Gateway
from compat.endpoints.answers import json_body


def quiet_blueprint(_: Gateway) -> flask.Blueprint:
    """The endpoints."""
    blueprint = flask.Blueprint("quiet", __name__)
    blueprint.add_url_rule("/api/hello", "hello", _nothing, methods=["GET"])
    blueprint.add_url_rule("/api/event_logging/batch", "events", _nothing, methods=["POST"])
    return blueprint


def _nothing() -> flask.Response:
    return json_body(b"{}").response()
