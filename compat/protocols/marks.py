"""Marks of the prompt cache as Anthropic's protocol writes them, and as clients of other protocols have come to write them too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.protocols.request import CacheMark


def mark_of(carrier: Mapping[str, Any]) -> CacheMark | None:
    """The mark that an object carries; its time is kept where it is one of the API's."""
    found = carrier.get("cache_control")
    return None if found is None else mark_in(found)


def mark_in(marker: Any) -> CacheMark | None:
    """What a `cache_control` says."""
    if not isinstance(marker, dict) or marker.get("type") != "ephemeral":
        return None
    match marker.get("ttl"):
        case "5m":
            return "5m"
        case "1h":
            return "1h"
    return "default"


def marker(mark: CacheMark) -> dict[str, Any]:
    """The `cache_control` of a mark."""
    return {"type": "ephemeral"} if mark == "default" else {"type": "ephemeral", "ttl": mark}
