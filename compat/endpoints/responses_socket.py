"""`GET /v1/responses` with `upgrade: websocket`, which Codex tries first: refused in the way that makes it use HTTP at once.

A 426 ends the search; a 404 or a 405 costs it five attempts and seconds.
"""

from __future__ import annotations

from typing import Any

from compat.endpoints.answers import Answer
from compat.errors import BadRequest
from compat.protocols import protocol_at

PATH = "/v1/responses"


class SocketDoor:
    """Where a client asks for a WebSocket: a request's environ in, its answer out."""

    protocol = protocol_at(PATH)

    def __call__(self, _: dict[str, Any]) -> Answer:
        """Errors: `BadRequest`, with the status that ends the search (RFC 9110, section 15.5.22)."""
        raise BadRequest("WebSockets are not served here: send POST /v1/responses.", status=426, headers=(("upgrade", "HTTP/1.1"),))
