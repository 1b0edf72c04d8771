"""The log of calls, one call in all its parts, and the log as a file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, get_args

import flask

from compat.accounting.usage_export import ExportFormat, export
from compat.accounting.usage_queries import calls, known_names, one_call
from compat.accounting.usage_views import CallFilter, CallRow, Outcome
from compat.console.page import Feed, Visit, data_answer, with_query
from compat.errors import BadRequest, NotFound
from compat.protocols import CLIENT_PROTOCOLS
from compat.telemetry.prompts import prompt_of

SPANS = {"hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
"""How far back the list may be asked to go, besides all of it."""
_TEXTS = ("model", "upstream", "key", "session", "api")
_MAX_CHARS = 300
MOST_PROMPT_CHARS = 200_000
"""Of a request that are shown."""


def show_calls(visit: Visit) -> Mapping[str, Any]:
    """The list, a page of it, under the filters of the URL."""
    wanted, arguments = filter_of(visit), visit.request.args
    page = calls(visit.gateway.usage, wanted, before=_number(arguments.get("before", ""), "before"), key=visit.visitor.key)
    return {
        "rows": page.rows,
        "older": with_query(visit, before=page.before) if page.before is not None else "",
        "newest": with_query(visit, before=None) if arguments.get("before") else "",
        "is_filtered": wanted != CallFilter(),
        "asked": arguments,
        "spans": SPANS,
        "outcomes": get_args(Outcome),
        "apis": sorted({one.api for one in CLIENT_PROTOCOLS.values()}),
        "known": known_names(visit.gateway.usage, visit.gateway.clock.now(), key=visit.visitor.key),
        "csv": with_query(visit, before=None).replace("/calls", "/calls.csv", 1),
        "json": with_query(visit, before=None).replace("/calls", "/calls.json", 1),
    }


def show_call(visit: Visit) -> Mapping[str, Any]:
    """One call. Errors: `NotFound`."""
    call_id = str((visit.request.view_args or {}).get("call_id", ""))
    number = int(call_id) if call_id.isascii() and call_id.isdigit() and len(call_id) < 19 else None
    found = one_call(visit.gateway.usage, number, key=visit.visitor.key) if number is not None else None
    if found is None:
        raise NotFound("There is no such call: it is not kept any more, or it is somebody else's.")
    row, detail = found
    return {"call": detail, "row": row, "notes": [explained(note) for note in detail.notes], "prompt": _prompt(visit, row)}


def explained(note: str) -> tuple[str, tuple[str, ...]]:
    """A note of translation (`dropped=temperature,top_p`) as what was done, and to what."""
    done, _, names = note.partition("=")
    return done, tuple(name for name in names.split(",") if name)


def _prompt(visit: Visit, row: CallRow) -> str | None:
    """The request as it came, where the log keeps those; of a long one the beginning."""
    log = visit.gateway.settings.log
    body = prompt_of(log, visit.gateway.log.base_dir, row.request_id, row.key) if log.prompts and row.request_id else None
    return body if body is None or len(body) <= MOST_PROMPT_CHARS else f"{body[:MOST_PROMPT_CHARS]} …"


def calls_file(form: ExportFormat) -> Feed:
    """The feed of all calls under the filters of the URL, as a file."""

    def feed(visit: Visit) -> flask.Response:
        media_type = {"csv": "text/csv; charset=utf-8", "json": "application/json"}[form]
        pieces = export(visit.gateway.usage, form, filter_of(visit), key=visit.visitor.key)
        return data_answer(pieces, media_type, f"calls.{form}")

    return feed


def filter_of(visit: Visit) -> CallFilter:
    """What the URL asks for. Errors: `BadRequest`."""
    arguments = visit.request.args
    outcome, span = arguments.get("outcome", ""), arguments.get("span", "")
    if outcome and outcome not in get_args(Outcome):
        raise BadRequest(f"outcome: '{outcome[:50]}' is not one of {', '.join(get_args(Outcome))}.")
    if span and span not in SPANS:
        raise BadRequest(f"span: '{span[:50]}' is not one of {', '.join(SPANS)}.")
    texts = {name: arguments.get(name, "").strip()[:_MAX_CHARS] for name in _TEXTS}
    since_s = visit.gateway.clock.now() - SPANS[span] if span else _day(arguments.get("since", ""), "since")
    until_s = _day(arguments.get("until", ""), "until")
    return CallFilter(
        since_s=since_s,
        until_s=until_s + 86_400 if until_s is not None else None,
        outcome=outcome or None,  # type: ignore[arg-type]  # checked above
        status=_number(arguments.get("status", ""), "status"),
        **texts,
    )


def _number(text: str, name: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest(f"{name}: '{text[:50]}' is not a number.")
    return int(text)


def _day(text: str, name: str) -> float | None:
    """The beginning of a day of UTC."""
    if not text:
        return None
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{name}: '{text[:50]}' is not a day like 2026-01-31.") from error
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()
