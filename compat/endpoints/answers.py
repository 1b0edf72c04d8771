"""Answers of the API: JSON bodies, errors in the shape of the client's protocol, event streams."""

from __future__ import annotations

import http
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import flask

from compat.errors import MAX_RETRY_AFTER_S, GatewayError
from compat.protocols import protocol_at
from compat.protocols.client_protocol import ClientProtocol

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in http.HTTPStatus}

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets, before it becomes a Flask response or goes out as it is. `headers` have no `content-length`."""

    body: bytes | Iterable[bytes]
    headers: Headers
    status: int = 200

    def response(self) -> flask.Response:
        """As an object of Flask's."""
        return flask.Response(self.body, self.status, self.headers)

    def send(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """As WSGI (PEP 3333) has it."""
        line = _STATUS_LINES.get(self.status) or f"{self.status} Error"
        if not isinstance(self.body, bytes):
            start_response(line, self.headers)
            return self.body
        start_response(line, [*self.headers, ("content-length", str(len(self.body)))])
        return [self.body]


def json_body(body: bytes, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer whose body is JSON already."""
    return Answer(body, [("content-type", "application/json"), *headers], status)


def error_body(error: GatewayError, headers: Iterable[tuple[str, str]] = (), protocol: ClientProtocol | None = None) -> Answer:
    """The answer for `error`, in the usual shape without a `protocol`; a wait that the client is asked for is never longer than
    `MAX_RETRY_AFTER_S`."""
    protocol = protocol or protocol_at("")
    answer = json_body(protocol.error_body(error), protocol.error_status(error), [*headers, *error.headers, *protocol.error_headers(error)])
    if error.retry_after_s is not None:
        answer.headers.append(("retry-after", str(math.ceil(min(error.retry_after_s, MAX_RETRY_AFTER_S)))))
    return answer
