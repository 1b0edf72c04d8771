"""What the usage store keeps of one call: the columns that calls are found by, and a document with all else.

Texts are bounded and without control characters: names of clients and tools and errors of upstreams may hold anything.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from compat.accounting.usage_views import CallDetail, CallRow, CostPart, FailedAttempt, TokenKind
from compat.config.catalog import Price
from compat.storage.shared_log_file import printable
from compat.telemetry.fields import STOP_REASON
from compat.wire.usage import Usage, cost_parts

NANO = 1_000_000_000
MAX_NAME_CHARS = 200
MAX_ERROR_CHARS = 500
MAX_LISTED = 50
"""Of attempts, notes and tools of one call."""
_MANY = 1_000_000
_KINDS: tuple[TokenKind, ...] = ("input", "cache_read", "cache_write", "cache_write_1h", "output")


def no_tools() -> Mapping[str, int]:
    """Of a call that called none."""
    return {}


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
    tools: Callable[[], Mapping[str, int]] = no_tools
    weight: int = 1


NO_FACTS = CallFacts()


class UsageCall(NamedTuple):
    """One call; the order is that of the columns. Costs are whole billionths of a dollar."""

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
    record: Mapping[str, object] = {}  # never changed
    facts: CallFacts = NO_FACTS


class Extras(NamedTuple):
    """The other columns of a call, in their order."""

    request_id: str
    api: str
    upstream_api: str
    session: str
    attempts: int
    ttft_ms: float | None
    error: str
    saved_nano: int
    document: bytes


class _Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rest: fields of `CallDetail`."""

    parent: str = ""
    queue_ms: float = 0.0
    code: str = ""
    stop_reason: str = ""
    cache: str = ""
    cache_lost: str = ""
    is_stream: bool = False
    is_estimate: bool = False
    reasoning_tokens: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    failed: tuple[FailedAttempt, ...] = ()
    parts: tuple[CostPart, ...] = ()
    notes: tuple[str, ...] = ()
    tools: dict[str, int] = {}


def call_of(record: Mapping[str, object], time_s: float, facts: CallFacts = NO_FACTS) -> UsageCall:
    """What a record of the log says of a call; a model counts by its name only where it led somewhere."""
    deployment = _text(record, "deployment")
    return UsageCall(
        time_s,
        _text(record, "client"),
        _text(record, "model") if deployment else "",
        deployment,
        _text(record, "outcome"),
        _count(record, "status"),
        _number(record, "duration_ms"),
        _count(record, "prompt_tokens"),
        _count(record, "completion_tokens"),
        _count(record, "cache_read_tokens"),
        _count(record, "cache_write_tokens"),
        round(_number(record, "cost_usd") * NANO),
        record,
        facts,
    )


def extras_of(call: UsageCall, tools: Mapping[str, int]) -> Extras:
    """Its other columns."""
    record, facts = call.record, call.facts
    ttft_ms = record.get("ttft_ms")
    notes = record.get("notes")
    document = _Document(
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
        tools=dict(tools),
    )
    return Extras(
        _text(record, "request_id"),
        facts.api,
        facts.upstream_api,
        clean(facts.session),
        _count(record, "attempts"),
        float(ttft_ms) if isinstance(ttft_ms, int | float) else None,
        clean(str(record.get("error") or ""), MAX_ERROR_CHARS),
        sum(_saved_nano(usage, price) for usage, price in facts.priced),
        msgspec.json.encode(document),
    )


def tools_of(call: UsageCall) -> dict[str, int]:
    """How often the answer calls each tool, by names that can be shown."""
    found: dict[str, int] = {}
    for name, count in call.facts.tools().items():
        if len(found) < MAX_LISTED:
            found[clean(name)] = found.get(clean(name), 0) + count
    return found


def detail_of(row: CallRow, document: bytes | str | None) -> CallDetail:
    """All of a call, of whose document nothing is left where it is from before there were any, or damaged."""
    try:
        found = msgspec.json.decode(document or b"{}", type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = _Document()
    return CallDetail(row, **msgspec.structs.asdict(found))


def parent_and_tools(document: str) -> tuple[str, dict[str, int], bytes]:
    """What sums are made of in the document of another store, and the document, with nothing in it that is not of one."""
    try:
        found = msgspec.json.decode(document, type=_Document)
    except (ValueError, RecursionError):
        found = _Document()
    tools = {clean(name): count for name, count in list(found.tools.items())[:MAX_LISTED] if 0 < count < _MANY}
    return clean(found.parent), tools, msgspec.json.encode(msgspec.structs.replace(found, tools=tools))


def day_of(time_s: float) -> str:
    """The day in UTC, `2026-01-31`."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%d")


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
