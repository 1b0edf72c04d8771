"""The list of models as Anthropic's clients read it: pages of objects, by cursors.

Claude Code shows those alone whose ids have `claude` or `anthropic` in them. Every other name is there once more, as `claude-compat/NAME`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.listing import Listing, Query, Row

_FOREIGN = "claude-compat/"
"""What stands before a name that Claude Code would not show; the router knows it."""
_SHOWN = ("claude", "anthropic")
_USUAL_LIMIT = 20
_MAX_LIMIT = 1000


def page_of(rows: Sequence[Row], query: Query) -> bytes:
    """See `Listing.page`."""
    objects = list(_objects(rows))
    ids = [one["id"] for one in objects]
    limit = _limit(query.get("limit"))
    before, after = query.get("before_id"), query.get("after_id")
    if before:
        end = _place(ids, before, len(ids))
        start = max(end - limit, 0)
        has_more = start > 0
    else:
        start = _place(ids, after, -1) + 1 if after else 0
        end = start + limit
        has_more = end < len(ids)
    data = objects[start:end]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return jsonio.encode({"data": data, "has_more": has_more, "first_id": first, "last_id": last})


def object_of(row: Row) -> dict[str, Any]:
    """A row as Anthropic's API has it."""
    created = datetime.datetime.fromtimestamp(row["created"], datetime.UTC)
    sizes = {"max_input_tokens": row.get("context_length") or None, "max_tokens": row.get("max_output_tokens") or None}
    told = {name: value for name, value in sizes.items() if value is not None}
    name = row.get("display_name") or row["id"]
    return {"type": "model", "id": row["id"], "display_name": name, "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"), **told}


def _objects(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield object_of(row)
    for row in rows:
        if not any(word in row["id"].lower() for word in _SHOWN):
            yield object_of({**row, "id": _FOREIGN + row["id"]})


def _limit(text: str | None) -> int:
    if text is None:
        return _USUAL_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_LIMIT)) and 1 <= int(text) <= _MAX_LIMIT):
        raise BadRequest(f"limit: Input should be a number from 1 to {_MAX_LIMIT}", param="limit")
    return int(text)


def _place(ids: Sequence[str], wanted: str, otherwise: int) -> int:
    """Where a cursor is; a model that has gone since the last page is no reason to give none."""
    return ids.index(wanted) if wanted in ids else otherwise


LISTING = Listing(lambda environ: "HTTP_ANTHROPIC_VERSION" in environ, page_of, lambda row: jsonio.encode(object_of(row)))
