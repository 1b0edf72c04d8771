"""JSON as the gateway reads and writes it: msgspec underneath, one error class, no number or key lost."""

from __future__ import annotations

from typing import Any

import msgspec

from compat.errors import BadRequest

_encode = msgspec.json.Encoder().encode
_STEP_CHARS = 1024 * 1024
_STEP_DEPTH = 5


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON. Inputs are our own documents, so an unencodable value is a programming error (`TypeError`)."""
    return _encode(value)


def encode_in_steps(value: Any) -> bytes:
    """As `encode`, a piece of a long text at a time where it stands near the top: nothing else runs while the encoder does."""
    return _encode(_in_steps(value, _STEP_DEPTH))


def _in_steps(value: Any, depth: int) -> Any:
    if isinstance(value, str) and len(value) > _STEP_CHARS:
        pieces = (_encode(value[start : start + _STEP_CHARS])[1:-1] for start in range(0, len(value), _STEP_CHARS))
        return msgspec.Raw(b'"%s"' % b"".join(pieces))
    if not depth or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [_in_steps(item, depth - 1) for item in value]
    return {key: _in_steps(item, depth - 1) for key, item in value.items()}


def decode(data: bytes | str | msgspec.Raw, what: str = "The body") -> Any:
    """The decoded value; `BadRequest` names `what` when `data` is not JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{what} is not valid JSON: {error}") from error
