"""Validation against the types of official clients."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """What validates values of the type `kind`: made once, for that takes up to a tenth of a second."""
    return TypeAdapter(kind)
