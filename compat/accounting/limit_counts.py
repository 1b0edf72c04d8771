"""The counts that limits compare with: sums in the storage of Flask-Limiter, in memory or in Redis.

    taken = counts.take(window, amount, now_s)    # None while the storage can't be used
    counts.settle(taken, actual)                  # true amounts instead of those that were taken
    counts.used(window, now_s)

A short window, and one of requests, has one sum. A long one has two kinds: what calls that are over have used, and what those that run
hold. The latter ends by itself, `LEASE_S` after the call began at the earliest: a gateway that is killed, or whose Redis is gone as a call
ends, takes nothing out of a day or a month for good. To that end holds are added up by the hour in which they were taken; those of this
one and the last count. Whoever takes adds first and reads then, so that of two at once one at least sees the other.

A sum that no gateway can have counted is invalid, and starts again.

What can't be corrected while Redis is left alone is corrected when it is back. A correction that failed is not made again, for it may have
been made.
"""

from __future__ import annotations

import collections
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from limits.errors import StorageError
from limits.storage import MemoryStorage
from limits.strategies import RateLimiter

from compat.accounting.limit_rules import Rule
from compat.storage.redis_link import Link

LEASE_S = 3600.0
"""At least as long as a call takes (`timeouts.total_s`); what a longer one holds is forgotten too early, what it used is not."""

MAX_LATE = 10_000
_MOST = 2**53
"""More than anybody counts, whatever is counted."""
_NOT_SUMS = ("not an integer", "WRONGTYPE", "would overflow")
"""What Redis says of a value that nothing can be added to."""

_Change = tuple[str, float, int]
"""Where, until when that counts, and what is to be added."""


class Limiter(Protocol):
    """The part of Flask-Limiter's `Limiter` that is used."""

    @property
    def limiter(self) -> RateLimiter:
        """Its strategy, with its storage."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """A rule's present window for a name; `key` is where it counts."""

    rule: Rule
    key: str
    begin_s: float
    end_s: float

    @property
    def has_leases(self) -> bool:
        """Whether what calls hold is counted apart from what they used."""
        return self.rule.measure != "requests" and self.end_s - self.begin_s > 2 * LEASE_S

    @property
    def settled_key(self) -> str:
        """Where the sum of what calls have used is."""
        return f"{self.key}/settled" if self.has_leases else self.key

    def held_key(self, hour: int) -> str:
        """Where the sum of what calls hold is that began in an hour."""
        return f"{self.key}/held/{hour}"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a call took from a window, in which hour; `used_before` is what others had taken."""

    window: Window
    amount: int
    hour: int
    used_before: int


class Counts:
    """All of them. Mutable: the corrections that wait for Redis, whether anything was counted; the sums are in the storage.

    `now` gives seconds since 1970. `later` runs a correction, see `Limits`.
    """

    def __init__(self, limiter: Limiter, now: Callable[[], float], link: Link, later: Callable[[Callable[[], None]], object]) -> None:
        self._limiter = limiter
        self._now = now
        self._link = link
        self._later = later
        self._has_counted = False
        self._late: collections.deque[_Change] = collections.deque(maxlen=MAX_LATE)

    def __len__(self) -> int:
        """How many corrections wait."""
        return len(self._late)

    @property
    def kept(self) -> int:
        """How many sums are in the memory of this process; none where they are in Redis."""
        storage = self._limiter.limiter.storage if self._has_counted else None
        return len(storage.storage) if isinstance(storage, MemoryStorage) else 0

    @property
    def fault(self) -> str:
        """What is wrong with the storage just now; empty when all is well."""
        return self._link.fault

    def take(self, window: Window, amount: int, now_s: float, least: int = 0) -> Taken | None:
        """Take `amount`, in one step; `least` is what is known to be used. `None` where nothing could be counted."""
        hour = _hour(now_s)
        if not window.has_leases:
            total = self.add(window.key, window.end_s - now_s, amount)
            return None if total is None else Taken(window, amount, hour, max(total - amount, least))
        held = self.add(window.held_key(hour), _lease_end_s(hour) - now_s, amount)
        if held is None:
            return None
        try:
            others = held - amount + self.get(window.held_key(hour - 1))
            if _hour(self._now()) > hour:  # another call may have begun in the next one before this one was counted
                others += self.get(window.held_key(hour + 1))
            return Taken(window, amount, hour, others + max(self.get(window.settled_key), least))
        except BaseException:  # a client's hang-up among them
            self._correct([(window.held_key(hour), _lease_end_s(hour), -amount)])
            raise

    def settle(self, taken: Sequence[tuple[Taken, int]]) -> None:
        """Replace what was taken by the true amounts. A window that is over stays as it was."""
        changes: list[_Change] = []
        for share, actual in taken:
            window = share.window
            if window.has_leases:  # used first, so that it is seen at any moment
                changes.append((window.settled_key, window.end_s, actual))
                changes.append((window.held_key(share.hour), min(_lease_end_s(share.hour), window.end_s), -share.amount))
            else:
                changes.append((window.key, window.end_s, actual - share.amount))
        self._correct(changes)

    def used(self, window: Window, now_s: float, least: int = 0) -> int:
        """What is taken of a window, by calls that are over and by those that run."""
        used = max(self.settled(window), least)
        if window.has_leases:
            used += sum(self.get(window.held_key(hour)) for hour in (_hour(now_s), _hour(now_s) - 1))
        return used

    def settled(self, window: Window) -> int:
        """What calls that are over have used of a window with leases."""
        return self.get(window.settled_key)

    def add(self, key: str, left_s: float, amount: int) -> int | None:
        """The sum at `key` with `amount` added, which counts for `left_s`; `None` while the storage can't be used."""
        self._has_counted = True
        total = self._link.ask(lambda: self._incremented(key, math.ceil(left_s) + 1, amount))
        if self._late and total is not None:
            late = list(self._late)
            self._late.clear()
            self._correct(late)
        return total

    def get(self, key: str) -> int:
        """The sum at `key`; 0 while the storage can't be used."""
        try:
            total = self._link.ask(lambda: self._limiter.limiter.storage.get(key)) or 0
        except ValueError:  # not a number
            total = _MOST + 1
        if abs(total) > _MOST:
            self._link.distrust("a sum of limits")
            return 0
        return max(total, 0)

    def _incremented(self, key: str, expiry_s: int, amount: int) -> int:
        storage = self._limiter.limiter.storage
        try:
            total = storage.incr(key, expiry_s, amount)
        except StorageError as error:
            if not any(words in str(error.__cause__ or error) for words in _NOT_SUMS):
                raise
            total = _MOST + 1
        if abs(total) > _MOST:
            self._link.distrust("a sum of limits")
            storage.clear(key)
            total = storage.incr(key, expiry_s, amount)
        return total

    def _correct(self, changes: Sequence[_Change]) -> None:
        now_s = self._now()
        wanted = [change for change in changes if change[2] and now_s < change[1]]

        def run() -> None:
            for change in wanted:
                if self._link.is_left_alone:
                    self._late.append(change)
                else:
                    self._add_to_sum(*change)

        if wanted:
            self._later(run)

    def _add_to_sum(self, key: str, end_s: float, change: int) -> None:
        """A sum is never negative: where the storage has forgotten what was taken (a Redis that came back empty), nothing is given back."""
        left_s = end_s - self._now()
        total = self.add(key, left_s, change)
        if change < 0 and total is not None and total < 0:
            self.add(key, left_s, min(-total, -change))


def window_of(rule: Rule, name: str, now_s: float) -> Window:
    """The window of `rule` for `name` that `now_s` is in. Names are hashed whole: they may hold anything."""
    begin_s, end_s = rule.window(now_s)
    key = rule.item.key_for(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest(), int(begin_s))
    return Window(rule, key, begin_s, end_s)


def _hour(now_s: float) -> int:
    return int(now_s // LEASE_S)


def _lease_end_s(hour: int) -> float:
    """When holds of an hour count no more."""
    return (hour + 2) * LEASE_S
