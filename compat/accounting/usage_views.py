"""What the usage store says of calls, as records: see `usage_queries`, which makes them.

Times are seconds since 1970, durations milliseconds, costs US dollars. A day is one of UTC. What is not known is `None`, or an empty text.
All texts are somebody else's words (names of clients and tools, errors of upstreams) without control characters; a page escapes them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Literal

import msgspec

Outcome = Literal["ok", "error", "cancelled"]
TokenKind = Literal["input", "cache_read", "cache_write", "cache_write_1h", "output"]
CostColumn = Literal["day", "model", "upstream", "deployment", "key", "session"]


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of some calls. `prompt_tokens` include what was read from and written to a cache.

    `saved_usd` is what the prompts would have cost more, had there been no cache; less than nothing where it did not pay.
    """

    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0

    @property
    def cache_hit_rate(self) -> float | None:
        """The share of the prompts that was read from a cache, from 0 to 1."""
        return self.cache_read_tokens / self.prompt_tokens if self.prompt_tokens else None


SUMS = tuple(field.name for field in fields(Sums))
"""The names of its fields."""

values_of = operator.attrgetter(*SUMS)
"""Their values, in the same order."""


def total_of(parts: Iterable[Sums]) -> Sums:
    """All of them added up."""
    first, *rest = [*parts] or [Sums()]
    return Sums(*map(sum, zip(values_of(first), *map(values_of, rest), strict=True))) if rest else first


@dataclass(frozen=True, slots=True)
class Minute:
    """The calls that ended in one minute."""

    begin_s: float
    calls: int = 0
    errors: int = 0
    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Overview:
    """The day so far. `tokens_per_s` is of answers that were written, `minutes` are those of the last hour, the present one last."""

    day: str
    sums: Sums
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    tokens_per_s: float | None
    minutes: tuple[Minute, ...]


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls are wanted; what is empty does not matter. `since_s` is included, `until_s` is not. `api` is the client's wire API."""

    since_s: float | None = None
    until_s: float | None = None
    outcome: Outcome | None = None
    status: int | None = None
    model: str = ""
    upstream: str = ""
    key: str = ""
    session: str = ""
    api: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call of the list. `call_id` is the store's own number, which pages and links go by; `time_s` is when it ended.

    `api` and `upstream_api` are the wire APIs of the client and of the upstream. Of calls from before they were kept, nothing is known
    but the fields up to `cost_usd`.
    """

    call_id: int
    time_s: float
    key: str
    model: str
    deployment: str
    outcome: str
    status: int
    duration_ms: float
    prompt_tokens: int
    completion_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float
    saved_usd: float
    request_id: str
    api: str
    upstream_api: str
    session: str
    attempts: int
    ttft_ms: float | None
    error: str

    @property
    def upstream(self) -> str:
        """The upstream's name."""
        return self.deployment.partition("/")[0]

    @property
    def cache_hit_rate(self) -> float | None:
        """The share of the prompt that was read from a cache, from 0 to 1."""
        return self.cache_read_tokens / self.prompt_tokens if self.prompt_tokens else None

    @property
    def tokens_per_s(self) -> float | None:
        """How fast the answer was written, from its first content on."""
        took_ms = self.duration_ms - self.ttft_ms if self.ttft_ms is not None else 0.0
        return self.completion_tokens * 1000 / took_ms if took_ms > 0 and self.completion_tokens else None


@dataclass(frozen=True, slots=True)
class CallPage:
    """Some calls, the newest first. `before` is where the next page begins; `None` at the end."""

    rows: tuple[CallRow, ...]
    before: int | None


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that was not the last. `cause` is the error's text, `then` what was done about it, after `wait_ms`."""

    deployment: str
    cause: str
    code: str
    then: str
    wait_ms: float


@dataclass(frozen=True, slots=True)
class CostPart:
    """One part of a price: so many tokens of a kind, at dollars per million of them."""

    kind: TokenKind
    tokens: int
    usd_per_million: float
    cost_usd: float


class CallDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a call besides its row. `failed` are the attempts before the last one, `queue_ms` is how long it waited for its
    upstreams' room.

    `cache` is the answer cache's verdict, `cache_lost` the part of the prompt from which on the upstream's own cache did not hold;
    `notes` are what translation changed. `parts` add up to the cost, but where it is not known how it came about (calls of before).
    """

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


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session, or one sub-agent of it, whose `parent` is the session that began it. `busy_ms` is what its calls took together.

    `sums` are those of its own calls, `total` those with its `agents` sub-agents, at any distance.
    `session` is the client's own name for it, which is its key's alone: two keys may have sessions of the same name.
    """

    key: str
    session: str
    parent: str
    first_s: float
    last_s: float
    busy_ms: float
    sums: Sums
    total: Sums
    agents: int = 0


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, the one with the latest call first. `before` is where the next page begins; `None` at the end."""

    rows: tuple[SessionRow, ...]
    before: str | None


@dataclass(frozen=True, slots=True)
class SessionTree:
    """A session with its sub-agents, and how often each tool was called in it, most frequent first."""

    row: SessionRow
    tools: Mapping[str, int]
    children: tuple[SessionTree, ...]


@dataclass(frozen=True, slots=True)
class CostRow:
    """What calls with the same `group` cost: the values of the columns that were asked for, in their order."""

    group: tuple[str, ...]
    sums: Sums


@dataclass(frozen=True, slots=True)
class Forecast:
    """A month (`2026-01`): what was spent, and what it comes to at its end, if its other days are like those of the last week."""

    month: str
    spent_usd: float
    by_end_usd: float


@dataclass(frozen=True, slots=True)
class KeyTotals:
    """What a key used, of all that is kept. `last_s` is when its last call ended."""

    key: str
    sums: Sums
    last_s: float | None


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Names that occur in calls, in their order."""

    models: tuple[str, ...]
    upstreams: tuple[str, ...]
    keys: tuple[str, ...]
