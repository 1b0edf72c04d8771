"""Errors in OpenAI's shape: the body of an answer, and the event that ends a stream which can't be carried on."""

from __future__ import annotations

from compat import jsonio
from compat.errors import GatewayError
from compat.wire.sse import data_frame


def error_object(error: GatewayError) -> dict[str, str | None]:
    """OpenAI's error object: message, type, param, code."""
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def error_body(error: GatewayError) -> bytes:
    """The JSON body of an error answer, `{"error": {...}}`."""
    return jsonio.encode({"error": error_object(error)})


def error_frame(error: GatewayError) -> bytes:
    """The event that ends a stream. Kilo Code and the `openai` SDK both read this shape as an error of the running answer."""
    fields = {"code": error.code or error.type, "message": error.message, "type": error.type}
    return data_frame(jsonio.encode({"type": "error", "error": fields}))
