"""Pacing: what an upstream's rate-limit headers say is obeyed before it has to say 429.

    advice = pacing.advice(lane)              # go on, wait `wait_s`, or call another deployment
    sent = pacing.sent(lane)                  # the call leaves for the upstream
    sent.heard(status, headers)               # its answer has begun; or sent.lost(): none came

A lane is what an upstream counts together: upstream, key and model. Two families of headers are read, in lower case:

    anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}
    x-ratelimit-{limit,remaining,reset}[-{requests,tokens}[-{second,minute,hour,day}]]

A reset is a date (RFC 3339, seconds or milliseconds since 1970) or a wait (`6m0s`, `20ms`, seconds). Until then a limit fills up steadily,
as the token buckets of Anthropic and OpenAI do; where it is not known how much there can be, nothing is expected before the reset. What
calls under way may still use is taken off. Nothing here is trusted: what can't be read is passed over, and no word holds longer than
`MAX_WAIT_S`.

A limit of tokens makes a call wait only once it is used up: Anthropic does not count what it reads from its cache, so nobody here knows
how many tokens of a prompt will be counted.
"""

from __future__ import annotations

import datetime
import math
import re
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

from compat.clock import Clock
from compat.config.sections import PacingSettings
from compat.protocols.upstream_errors import retry_after_s

MAX_WAIT_S = 3600.0
MAX_BLOCK_S = 30.0
"""An upstream that asked to be left alone for longer is asked once more after this: it may have been given room since."""

MAX_LANES = 1000
RATE_LIMITED = 429
_MAX_BUCKETS = 16
_NAME = re.compile(
    r"anthropic-ratelimit-(?P<theirs>[a-z-]{1,40})-(?P<field>limit|remaining|reset)"
    r"|x-ratelimit-(?P<kind>limit|remaining|reset)(?:-(?P<bucket>[a-z-]{1,40}))?"
)
_N = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(rf"(?:(?P<d>{_N})d)?(?:(?P<h>{_N})h)?(?:(?P<m>{_N})m)?(?:(?P<s>{_N})s)?(?:(?P<ms>{_N})ms)?")
_SECONDS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_FIRST_DATE_S = 1e9
"""A number above this is a date, not a wait."""


@dataclass(frozen=True, slots=True)
class Advice:
    """`go`; `wait` for `wait_s`; or `switch`: call another deployment, this one has room only in `wait_s`. `reason` is for people."""

    action: Literal["go", "wait", "switch"] = "go"
    wait_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What was left at `seen_s`, and when all of `limit` is there again (`limit` < 0: unknown); the clock is the monotonic one."""

    remaining: float
    limit: float
    seen_s: float
    full_s: float

    def wait_s(self, used: float, now_s: float) -> float:
        """How long until there is one, with `used` taken off."""
        if now_s >= self.full_s:
            return 0.0
        if self.limit > self.remaining:
            rate = (self.limit - self.remaining) / (self.full_s - self.seen_s)
            ready_s = self.seen_s + (min(1, self.limit) + used - self.remaining) / rate
            return max(min(ready_s, self.full_s) - now_s, 0.0)
        is_short = self.remaining - used < (1 if self.limit < 0 else min(1, self.limit))
        return self.full_s - now_s if is_short else 0.0


class _Lane:
    """Mutable: what was last known, when it may be called again and since when that is known, what is under way."""

    __slots__ = ("blocked_at_s", "blocked_until_s", "buckets", "calls")

    def __init__(self) -> None:
        self.buckets: dict[str, _Bucket] = {}
        self.blocked_at_s = self.blocked_until_s = -math.inf
        self.calls = 0

    def used(self, bucket: str) -> int:
        """What calls under way use of a bucket. How many tokens they take is not known before the upstream says it."""
        return 0 if "token" in bucket else self.calls


class Pacing:
    """All lanes. Mutable: the lanes, least recently used first; no step of it waits."""

    def __init__(self, settings: PacingSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lanes: OrderedDict[Hashable, _Lane] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lanes)

    def advice(self, lane: Hashable) -> Advice:
        """Whether a call should leave now."""
        known = self._lanes.get(lane)
        if known is None or not self._settings.enabled:
            return Advice()
        now_s = self._clock.monotonic()
        wait_s, reason = known.blocked_until_s - now_s, "it asked callers to wait"
        for name, bucket in known.buckets.items():
            bucket_wait_s = bucket.wait_s(known.used(name), now_s)
            if bucket_wait_s > wait_s:
                wait_s, reason = bucket_wait_s, f"{bucket.remaining:.0f} {name} were left"
        if wait_s <= 0:
            return Advice()
        return Advice("wait" if wait_s <= self._settings.max_wait_s else "switch", wait_s, reason)

    def sent(self, lane: Hashable) -> Sent:
        """A call leaves; until its answer begins, it is taken to use one of each limit of requests."""
        known = self._lanes.get(lane)
        if known is None:
            known = self._lanes[lane] = _Lane()
            if len(self._lanes) > MAX_LANES:
                self._lanes.popitem(last=False)
        self._lanes.move_to_end(lane)
        return Sent(known, self._clock)


class Sent:
    """A call under way; the first of `heard` and `lost` counts, later ones do nothing."""

    __slots__ = ("_clock", "_is_over", "_lane", "_sent_s")

    def __init__(self, lane: _Lane, clock: Clock) -> None:
        self._lane = lane
        self._clock = clock
        self._sent_s = clock.monotonic()
        self._is_over = False
        lane.calls += 1

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the answer: `headers` by their lower-case names."""
        if self._is_over:
            return
        self.lost()
        lane, now_s = self._lane, self._clock.monotonic()
        _learn(lane.buckets, headers, now_s, self._clock.now())
        wait_s = retry_after_s(headers) if status == RATE_LIMITED else None
        if wait_s is not None and wait_s > 0:
            lane.blocked_at_s, lane.blocked_until_s = now_s, now_s + min(wait_s, MAX_BLOCK_S)
        elif status < RATE_LIMITED and self._sent_s > lane.blocked_at_s:  # it was asked again, and answered
            lane.blocked_until_s = -math.inf

    def lost(self) -> None:
        """The call ended without an answer's head."""
        if not self._is_over:
            self._is_over = True
            self._lane.calls -= 1


def _learn(buckets: dict[str, _Bucket], headers: Mapping[str, str], now_s: float, date_s: float) -> None:
    fields: dict[str, dict[str, str]] = {}
    for name, value in headers.items():
        match = _NAME.fullmatch(name)
        if match is not None:
            fields.setdefault(match["theirs"] or match["bucket"] or "requests", {})[match["field"] or match["kind"]] = value
    for bucket, values in fields.items():
        remaining = _number(values.get("remaining", ""))
        wait_s = _wait_s(values.get("reset", ""), date_s)
        if remaining is None or wait_s is None:
            continue
        limit = _number(values.get("limit", ""))
        buckets.pop(bucket, None)
        buckets[bucket] = _Bucket(remaining, -1.0 if limit is None else limit, now_s, now_s + wait_s)
        if len(buckets) > _MAX_BUCKETS:
            del buckets[next(iter(buckets))]


def _number(text: str) -> float | None:
    """A number of zero or more."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _wait_s(text: str, date_s: float) -> float | None:
    """A duration or a date as seconds from now, at most `MAX_WAIT_S`; `None` for what is neither."""
    wait_s = _number(text)
    if wait_s is None:
        wait_s = _duration_s(text)
        if wait_s is None:
            moment_s = _moment_s(text)
            wait_s = None if moment_s is None else moment_s - date_s
    elif wait_s >= _FIRST_DATE_S:
        wait_s = (wait_s if wait_s < _FIRST_DATE_S * 1000 else wait_s / 1000) - date_s
    return None if wait_s is None else min(max(wait_s, 0.0), MAX_WAIT_S)


def _duration_s(text: str) -> float | None:
    match = _DURATION.fullmatch(text) if text else None
    if match is None:
        return None
    return sum(float(value) * _SECONDS[unit] for unit, value in match.groupdict().items() if value is not None)


def _moment_s(text: str) -> float | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
