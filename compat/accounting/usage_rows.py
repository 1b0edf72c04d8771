"""What the usage store keeps of one call: the columns that calls are found by, and a document with all else.

Texts are bounded and without control characters: names of clients and tools and errors of upstreams may hold anything.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from compat.accounting.usage_views import CallDetail, CostPart, FailedAttempt, TokenKind
from compat.config.catalog import Price
from compat.storage.shared_log_file import printable
from compat.telemetry.fields import STOP_REASON
from compat.wire.usage import Usage, cost_parts

NANO = 1_000_000_000
DAY_S = 86_400
MAX_NAME_CHARS = 200
MAX_ERROR_CHARS = 500
MAX_LISTED = 50
"""Of attempts, notes and tools of one call."""
_MANY = 1_000_000
_KINDS: tuple[TokenKind, ...] = ("input", "cache_read", "cache_write", "cache_write_1h", "output")


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is kept of a call besides its record. `priced` are the token counts of each part of the answer with the price of each.

    `tools` counts the answer's tool calls by name; it is asked in the background. `weight` is how much room the call takes while it waits
    for that: 1 for 4 KiB.
    """

    api: str = ""
    upstream_api: str = ""
    session: str = ""
    parent: str = ""
    queue_ms: float = 0.0
    failed: Sequence[FailedAttempt] = ()
    priced: Sequence[tuple[Usage, Price]] = ()
    tools: Callable[[], Mapping[str, int]] = dict
    weight: int = 1


NO_FACTS = CallFacts()


class NewCall(NamedTuple):
    """A call that is over, as it waits to be written; `record` is never changed."""

    record: Mapping[str, object]
    time_s: float
    facts: CallFacts = NO_FACTS

    @property
    def client(self) -> str:
        """Whose it is."""
        return _text(self.record, "client")

    @property
    def day(self) -> str:
        """When it ended."""
        return day_of(self.time_s)

    @property
    def cost_nano(self) -> int:
        """What it cost, in whole billionths of a dollar."""
        return round(_number(self.record, "cost_usd") * NANO)


class CallColumns(NamedTuple):
    """The columns of a call that it is found by. Costs are whole billionths of a dollar."""

    time_s: float
    client: str
    model: str
    deployment: str
    outcome: str
    status: int
    duration_ms: float
    prompt_tokens: int
    completion_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_nano: int
    request_id: str
    api: str
    upstream_api: str
    session: str
    attempts: int
    ttft_ms: float | None
    error: str
    saved_nano: int


def row_of(call: NewCall) -> tuple[CallColumns, CallDetail]:
    """What is written of a call, whose record may lack anything; a model counts by its name only where it led somewhere."""
    record, facts = call.record, call.facts
    deployment = _text(record, "deployment")
    ttft_ms = record.get("ttft_ms")
    columns = CallColumns(
        call.time_s,
        call.client,
        _text(record, "model") if deployment else "",
        deployment,
        _text(record, "outcome"),
        _count(record, "status"),
        _number(record, "duration_ms"),
        _count(record, "prompt_tokens"),
        _count(record, "completion_tokens"),
        _count(record, "cache_read_tokens"),
        _count(record, "cache_write_tokens"),
        call.cost_nano,
        _text(record, "request_id"),
        facts.api,
        facts.upstream_api,
        clean(facts.session),
        _count(record, "attempts"),
        float(ttft_ms) if isinstance(ttft_ms, int | float) else None,
        clean(str(record.get("error") or ""), MAX_ERROR_CHARS),
        sum(_saved_nano(usage, price) for usage, price in facts.priced),
    )
    return columns, _detail_of(record, facts)


def _detail_of(record: Mapping[str, object], facts: CallFacts) -> CallDetail:
    notes = record.get("notes")
    return CallDetail(
        parent=clean(facts.parent),
        queue_ms=round(facts.queue_ms, 1),
        code=_text(record, "code"),
        stop_reason=_text(record, STOP_REASON),
        cache=_text(record, "cache"),
        cache_lost=_text(record, "cache_lost"),
        is_stream=record.get("stream") is True,
        is_estimate=record.get("is_estimate") is True,
        reasoning_tokens=sum(usage.reasoning_tokens for usage, _ in facts.priced),
        bytes_in=_count(record, "bytes_in"),
        bytes_out=_count(record, "bytes_out"),
        failed=tuple(_shown(one) for one in facts.failed[:MAX_LISTED]),
        parts=_parts(facts.priced),
        notes=tuple(clean(note) for note in notes.split("; ")[:MAX_LISTED]) if isinstance(notes, str) else (),
        tools=_tools(facts.tools()),
    )


def _tools(counts: Mapping[str, int]) -> dict[str, int]:
    """How often each tool was called, by names that can be shown."""
    found: dict[str, int] = {}
    for name, count in counts.items():
        if len(found) < MAX_LISTED:
            found[clean(name)] = found.get(clean(name), 0) + count
    return found


def read_detail(document: bytes | str) -> CallDetail:
    """The detail in a document; an empty one where it is damaged."""
    try:
        return msgspec.json.decode(document, type=CallDetail)
    except (ValueError, RecursionError):  # msgspec's errors, and bytes that are not UTF-8
        return CallDetail()


def taken_detail(document: str) -> CallDetail:
    """The detail in another store's document, where what sums are made of is as ours would be."""
    found = read_detail(document)
    tools = {clean(name): count for name, count in list(found.tools.items())[:MAX_LISTED] if 0 < count < _MANY}
    return msgspec.structs.replace(found, parent=clean(found.parent), tools=tools)


def day_of(time_s: float) -> str:
    """The day in UTC, `2026-01-31`."""
    return _name_of_day(int(time_s // DAY_S))


@functools.lru_cache(maxsize=64)
def _name_of_day(days: int) -> str:
    return datetime.datetime.fromtimestamp(days * DAY_S, datetime.UTC).strftime("%Y-%m-%d")


def clean(text: str, most: int = MAX_NAME_CHARS) -> str:
    """Text as it is kept: its beginning, control characters escaped."""
    text = text[:most]
    return text if text.isprintable() else printable(text.replace("\t", " "))[:most]


def _shown(one: FailedAttempt) -> FailedAttempt:
    return replace(one, deployment=clean(one.deployment), cause=clean(one.cause, MAX_ERROR_CHARS), code=clean(one.code))


def _parts(priced: Sequence[tuple[Usage, Price]]) -> tuple[CostPart, ...]:
    """How the cost came about. Kinds without a token are left out."""
    return tuple(
        CostPart(kind, tokens, rate, tokens * rate / 1_000_000)
        for usage, price in priced
        for kind, (tokens, rate) in zip(_KINDS, cost_parts(usage, price), strict=True)
        if tokens
    )


def _saved_nano(usage: Usage, price: Price) -> int:
    """What the prompt would have cost more without a cache, in billionths of a dollar."""
    parts = cost_parts(usage, price)
    plain_rate = parts[0][1]
    return round(sum(tokens * (plain_rate - rate) for tokens, rate in parts[1:4]) * NANO / 1_000_000)


def _count(record: Mapping[str, object], name: str) -> int:
    value = record.get(name)
    return value if isinstance(value, int) else 0


def _number(record: Mapping[str, object], name: str) -> float:
    value = record.get(name)
    return value if isinstance(value, int | float) else 0.0


def _text(record: Mapping[str, object], name: str) -> str:
    value = record.get(name)
    return clean(value) if isinstance(value, str) else ""
