"""Which session a call of Claude Code belongs to."""

from __future__ import annotations

from typing import Any

from compat import jsonio
from compat.errors import BadRequest

_SESSION = "_session_"


def session_in(user_id: Any) -> str:
    """The session that Claude Code writes into `metadata.user_id`: JSON, or by older versions `user_..._account_..._session_<id>`."""
    if not isinstance(user_id, str):
        return ""
    if not user_id.startswith("{"):
        return user_id.rpartition(_SESSION)[2] if _SESSION in user_id else ""
    try:
        fields = jsonio.decode(user_id.encode("utf-8", "surrogatepass"))
    except BadRequest:
        return ""
    session = fields.get("session_id")
    return session if isinstance(session, str) else ""
