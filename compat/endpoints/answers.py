"""Answers of the API: JSON bodies, and errors in OpenAI's shape."""

from __future__ import annotations

import math

import flask

from compat.errors import MAX_RETRY_AFTER_S, GatewayError


def json_answer(body: bytes, status: int = 200, headers: list[tuple[str, str]] | None = None) -> flask.Response:
    """An answer whose body is JSON already."""
    response = flask.Response(body, status, content_type="application/json")
    response.headers.extend(headers or ())
    return response


def error_answer(error: GatewayError, headers: list[tuple[str, str]] | None = None) -> flask.Response:
    """The answer that tells a client of `error`; a wait it is asked for is never longer than `MAX_RETRY_AFTER_S`."""
    response = json_answer(error.body(), error.status, headers)
    response.headers.extend(error.headers)
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(math.ceil(min(error.retry_after_s, MAX_RETRY_AFTER_S)))
    return response
