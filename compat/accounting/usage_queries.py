"""Questions to the usage store: pure reading functions, each with one view as its answer (`usage_views`).

    overview(usage, now_s)                       the day so far
    calls(usage, CallFilter(model="sonnet"))     a page of the log of calls; one_call(usage, call_id): all of one
    sessions(usage, now_s), session_tree(usage, key, session)
    cost(usage, ("day", "model"), since_s), forecast(usage, now_s), key_totals(usage)
    export(usage, "csv", CallFilter())           streamed

With `key` only that client's own calls are seen, whatever else is asked for. Where usage is not kept, or can't be read just now
(`usage.fault`), everything is empty. What waits to be written (half a second of calls) is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from compat.accounting.usage_store import Usage
from compat.accounting.usage_views import (
    CallDetail,
    CallFilter,
    CallPage,
    CostColumn,
    CostRow,
    Forecast,
    KeyTotals,
    Overview,
    SessionPage,
    SessionTree,
)

PAGE = 50
ExportFormat = Literal["csv", "json"]


def overview(usage: Usage, now_s: float, *, key: str | None = None) -> Overview:
    """The day so far, and the last hour by minute."""
    raise NotImplementedError


def calls(usage: Usage, wanted: CallFilter, *, before: int | None = None, limit: int = PAGE, key: str | None = None) -> CallPage:
    """The newest calls that are wanted; `before` is that of the page before."""
    raise NotImplementedError


def one_call(usage: Usage, call_id: int, *, key: str | None = None) -> CallDetail | None:
    """All that is kept of a call."""
    raise NotImplementedError


def sessions(
    usage: Usage, now_s: float, *, days: int = 30, before: float | None = None, limit: int = PAGE, key: str | None = None
) -> SessionPage:
    """The sessions of the last days, sub-agents not among them; `before` is that of the page before."""
    raise NotImplementedError


def session_tree(usage: Usage, client: str, session: str, *, key: str | None = None) -> SessionTree | None:
    """A session of a client, its tools, and its sub-agents."""
    raise NotImplementedError


def cost(usage: Usage, by: Sequence[CostColumn], since_s: float, until_s: float | None = None, *, key: str | None = None) -> list[CostRow]:
    """Sums by some columns, in their order, from the day of `since_s` to that of `until_s`."""
    raise NotImplementedError


def forecast(usage: Usage, now_s: float, *, key: str | None = None) -> Forecast:
    """What this month comes to."""
    raise NotImplementedError


def key_totals(usage: Usage, *, key: str | None = None) -> list[KeyTotals]:
    """What each key used, of all that is kept."""
    raise NotImplementedError


def export(usage: Usage, form: ExportFormat, wanted: CallFilter, *, key: str | None = None) -> Iterator[bytes]:
    """The calls that are wanted, the newest first, as CSV with a head or as one JSON array, piece by piece."""
    raise NotImplementedError
