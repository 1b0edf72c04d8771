"""JSON as the gateway reads and writes it: msgspec underneath, one error class, no number or key lost."""

from __future__ import annotations

from typing import Any

import msgspec

from compat.errors import BadRequest

_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON. Inputs are our own documents, so an unencodable value is a programming error (`TypeError`)."""
    return _encode(value)


def decode(data: bytes | str | msgspec.Raw, what: str = "The body") -> Any:
    """The decoded value; `BadRequest` names `what` when `data` is not JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{what} is not valid JSON: {error}") from error
