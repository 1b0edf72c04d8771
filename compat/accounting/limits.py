"""Limits and budgets: who may call now, what is left, and a place for each call's share before its size is known.

    reservation = limits.admit(client, model, estimate)     # TooManyRequests, BudgetSpent
    reservation.headers()                                   # x-ratelimit-*
    reservation.settle(usage, cost_usd)                     # or .cancel(): the first of both counts

A call is admitted while a window has something left, and takes its estimate out of it in the same step (one atomic addition in the storage
of Flask-Limiter, in memory or in Redis, see `limit_counts.py`): of any number of calls at once, at most one passes the limit.
`settle` replaces the estimate by the true figures. A rule's strategy in Flask-Limiter, `hit`, is that addition and a comparison;
here the sum itself is needed, to say what is left and because a call larger than what is left, or than the whole limit, is still served
when it is the first to be so.

A budget is spent by what calls have cost. Where it is only held by calls that are running, the next one is asked to come back in a moment.

Budgets outlive the process: when a budget is seen first, what was spent in its window is read from the usage store, and again every few
seconds, so that workers with a memory of their own learn of each other. While Redis is gone, only that is known, and everything else is let
through (`Link`).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import gevent

from compat.accounting.key_store import KeyTerms
from compat.accounting.limit_counts import Counts, Limiter, Taken, Window, window_of
from compat.accounting.limit_rules import MICRO, Measure, Rule, Scope, budget_rules, parse_rules
from compat.clock import Clock
from compat.config.catalog import Price
from compat.config.sections import BudgetSettings, GroupSettings, LimitSettings
from compat.errors import MAX_RETRY_AFTER_S, ClientError, GatewayError, TooManyRequests
from compat.storage.redis_link import Link
from compat.wire.usage import Usage

BYTES_PER_TOKEN = 3
"""Of a request's JSON: fewer than there are, so that an estimate is rather too large."""

SPENT_TTL_S = 5.0
HELD_RETRY_S = 5.0
"""When to come back where calls that are running hold what is left of a budget."""

_BEGUN = 1_000_000
_POLL_S = 0.005
_POLLS = 40
_MAX_KNOWN = 10_000

K = TypeVar("K")
V = TypeVar("V")


class BudgetSpent(ClientError):
    """A budget is used up until its window ends: more tries don't help, and with this status Kilo Code and the SDKs make none."""

    status = 402
    type = "insufficient_quota"
    code = "budget_spent"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call may use: tokens, and dollars for them."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    prompt_usd: float = 0.0
    output_usd: float = 0.0


def check_terms(name: str, terms: KeyTerms) -> None:
    """`SettingsError` for a key whose limit is invalid."""
    parse_rules(terms.limit, "client", f"keys.{name}.limit")


def estimate_of(body_bytes: int, max_output_tokens: int, price: Price) -> Estimate:
    """The most that a call is likely to use: a request of `body_bytes`, nothing of it in a cache, answered at full length."""
    prompt_tokens = body_bytes // BYTES_PER_TOKEN + 1
    price = price.of_prompt(prompt_tokens)
    dearest = max(price.input, price.cache_write, price.cache_write_1h)
    return Estimate(prompt_tokens, max_output_tokens, prompt_tokens * dearest / 1_000_000, max_output_tokens * price.output / 1_000_000)


@dataclass(frozen=True, slots=True)
class LimitState:
    """How far a limit is used, for people: `amount` and `used` in requests, tokens or US dollars, as `measure` says.

    `name` is whose it is: a key's, or that of its group. `used` has in it what running calls may use at most. A budget's `period` is `day`
    or `month`. `resets_s` is when the window ends, in seconds since 1970.
    """

    scope: Scope
    name: str
    measure: Measure
    period: str
    amount: float
    used: float
    resets_s: float

    @property
    def left(self) -> float:
        """What is left; never less than nothing."""
        return max(self.amount - self.used, 0.0)


@dataclass(frozen=True, slots=True)
class _Hold:
    """What a call took from one window of a name. `used_before` is what others had taken, `taken` is `None` where nothing was counted."""

    window: Window
    name: str
    amount: int
    used_before: int
    taken: Taken | None = None

    @property
    def rule(self) -> Rule:
        return self.window.rule

    @property
    def left(self) -> int:
        return max(self.rule.amount - self.used_before - self.amount, 0)


@dataclass(slots=True)
class Reservation:
    """A call's share of its windows; the first of `settle` and `cancel` counts. Mutable: what is held."""

    _limits: Limits
    _estimate: Estimate
    holds: list[_Hold] = field(default_factory=list)
    _is_settled: bool = False

    def headers(self) -> list[tuple[str, str]]:
        """`x-ratelimit-limit-requests` and the like, for what the call has seen; OpenAI's names, `usd` besides."""
        return _headers(self.holds, self._limits.clock.now())

    def settle(self, usage: Usage | None, cost_usd: float = 0.0) -> None:
        """The call is over. Without `usage` (a client that left early) its prompt is taken to have been read, and no more."""
        estimate = self._estimate
        actual: dict[Measure, int] = {
            "requests": 1,
            "tokens": usage.prompt_tokens + usage.completion_tokens if usage else estimate.prompt_tokens,
            "usd": round((cost_usd if usage else estimate.prompt_usd) * MICRO),
        }
        self._correct(actual)

    def cancel(self) -> None:
        """The call came to nothing that an upstream would charge, or was refused: it has taken nothing."""
        self._correct({"requests": 0, "tokens": 0, "usd": 0})

    def _correct(self, actual: dict[Measure, int]) -> None:
        if not self._is_settled:
            self._is_settled = True
            taken = [(hold.taken, actual[hold.rule.measure]) for hold in self.holds if hold.taken is not None]
            self._limits.counts.settle(taken)


class Limits:
    """All limits. Mutable: which budgets were seen, and what was last known to be spent; the counts are in the storage.

    `terms_of(client)` is what its key was given (`keys add --limit ...`), which overrides `[limits]`; a changed limit starts again at zero.
    What `groups` may use is shared by the keys that `members_of(group)` names.
    `spent(client, since_s)` is how many dollars a client has spent by the usage store. `later` runs a correction: in a
    greenlet of its own (`gevent.spawn`), for a storage lets others run meanwhile, in memory too, and whoever ends the call just then must
    not end its correction.
    """

    def __init__(
        self,
        settings: LimitSettings,
        limiter: Limiter,
        clock: Clock,
        link: Link,
        *,
        terms_of: Callable[[str], KeyTerms | None] = lambda _client: None,
        spent: Callable[[str, float], float] = lambda _client, _since_s: 0.0,
        later: Callable[[Callable[[], None]], object] = lambda run: run(),
        groups: Mapping[str, GroupSettings] | None = None,
        members_of: Callable[[str], Sequence[str]] = lambda _group: (),
    ) -> None:
        self.clock = clock
        self.counts = Counts(limiter, clock.now, link, later)
        self._terms_of = terms_of
        self._spent = spent
        self._client_rules = {name: parse_rules(text, "client", f"limits.clients.{name}") for name, text in settings.clients.items()}
        self._any_client = parse_rules(settings.client, "client", "limits.client")
        self._model_rules = {name: parse_rules(text, "model", f"limits.models.{name}") for name, text in settings.models.items()}
        self._any_model = parse_rules(settings.model, "model", "limits.model")
        self._budgets = settings.budgets
        self._any_budget = settings.budget
        self._budget_rules = {name: budget_rules(budget) for name, budget in settings.budgets.items()}
        self._any_budget_rules = budget_rules(settings.budget)
        self._members_of = members_of
        self._group_rules = {
            name: budget_rules(group, "group-budget") + parse_rules(group.limit, "group", f"groups.{name}.limit")
            for name, group in (groups or {}).items()
        }
        self._of_terms: dict[str, tuple[KeyTerms, tuple[Rule, ...]]] = {}
        self._known: dict[tuple[Rule, str], tuple[float, float, int]] = {}
        self._begun: dict[tuple[Rule, str], str] = {}

    @property
    def entries(self) -> Mapping[str, int]:
        """How many sums, what is remembered of clients, and corrections that wait, are in the memory of this process."""
        remembered = len(self._of_terms) + len(self._known) + len(self._begun)
        return {"limit counts": self.counts.kept, "limited clients": remembered, "limit corrections": len(self.counts)}

    @property
    def fault(self) -> str:
        """What is wrong with the storage just now; empty when all is well."""
        return self.counts.fault

    def carry_on(self, before: Limits) -> None:
        """Count on where the limits of an earlier configuration have counted."""
        self.counts = before.counts

    def admit(self, client: str, model: str, estimate: Estimate) -> Reservation:
        """Take `estimate` out of every window of `client` and `model`. Errors: `BudgetSpent`, `TooManyRequests`; nothing is taken then."""
        reservation = Reservation(self, estimate)
        amounts: dict[Measure, int] = {
            "requests": 1,
            "tokens": estimate.prompt_tokens + estimate.output_tokens,
            "usd": math.ceil((estimate.prompt_usd + estimate.output_usd) * MICRO),
        }
        now_s = self.clock.now()
        try:
            for rule, name in self._rules_of(client, model):
                amount = amounts[rule.measure]
                if amount == 0:  # what costs nothing is not refused for its cost
                    continue
                hold = self._take(rule, name, amount, now_s)
                reservation.holds.append(hold)
                if hold.used_before >= rule.amount:
                    raise _refusal(hold, self._settled(hold), now_s, _headers(reservation.holds, now_s))
        except BaseException:  # a client's hang-up among them, while Redis was asked
            reservation.cancel()
            raise
        return reservation

    def headers(self, client: str, model: str) -> list[tuple[str, str]]:
        """What is left to a client and a model just now, as `Reservation.headers` has it."""
        now_s = self.clock.now()
        holds = []
        for rule, name in self._rules_of(client, model):
            window = window_of(rule, name, now_s)
            holds.append(_Hold(window, name, 0, self.counts.used(window, now_s, self._least(window, name))))
        return _headers(holds, now_s)

    def states(self, client: str) -> list[LimitState]:
        """How far each limit of a client and of its group is used, budgets first. Nothing is taken."""
        now_s = self.clock.now()
        found = []
        for rule, name in self._rules_for(client):
            window = window_of(rule, name, now_s)
            used, unit = self.counts.used(window, now_s, self._least(window, name)), MICRO if rule.measure == "usd" else 1
            found.append(LimitState(rule.scope, name, rule.measure, rule.period, rule.amount / unit, used / unit, window.end_s))
        return found

    def _rules_of(self, client: str, model: str) -> Iterable[tuple[Rule, str]]:
        """The rules of a call, each with the name it counts under; budgets first, for their refusal is the last word."""
        yield from self._rules_for(client)
        for rule in self._model_rules.get(model, self._any_model):
            yield rule, model

    def _rules_for(self, client: str) -> Iterable[tuple[Rule, str]]:
        terms = self._terms_of(client)
        if terms is not None:
            for rule in self._group_rules.get(terms.group, ()):
                yield rule, terms.group
        for rule in self._rules_of_client(client) if terms is None else self._rules_of_terms(client, terms):
            yield rule, client

    def _rules_of_client(self, client: str) -> tuple[Rule, ...]:
        return self._budget_rules.get(client, self._any_budget_rules) + self._client_rules.get(client, self._any_client)

    def _rules_of_terms(self, client: str, terms: KeyTerms) -> tuple[Rule, ...]:
        """What the key was given, and `[limits]` where it was given nothing; made once, until the key's file changes."""
        known = self._of_terms.get(client)
        if known is None or known[0] is not terms:
            budget = self._budgets.get(client, self._any_budget)
            wanted = BudgetSettings(day_usd=terms.day_usd or budget.day_usd, month_usd=terms.month_usd or budget.month_usd)
            own = parse_rules(terms.limit, "client", f"keys.{client}.limit")  # `check_terms` has seen it
            known = (terms, budget_rules(wanted) + (own or self._client_rules.get(client, self._any_client)))
            _put(self._of_terms, client, known)
        return known[1]

    def _take(self, rule: Rule, name: str, amount: int, now_s: float) -> _Hold:
        window = window_of(rule, name, now_s)
        least = self._least(window, name)
        if rule.is_budget and self._begun.get((rule, name)) != window.key:
            self._begin(window, name, now_s, least)
        taken = self.counts.take(window, amount, now_s, least)
        return _Hold(window, name, amount, least if taken is None else taken.used_before, taken)

    def _least(self, window: Window, name: str) -> int:
        """Of a budget: millionths of a dollar that the usage store knew of, a few seconds ago at most."""
        rule, begin_s = window.rule, window.begin_s
        if not rule.is_budget:
            return 0
        now_s = self.clock.now()
        known = self._known.get((rule, name))
        if known is None or known[0] != begin_s or abs(now_s - known[1]) >= SPENT_TTL_S:
            names = self._members_of(name) if rule.owner == "group" else (name,)
            known = (begin_s, now_s, round(sum(self._spent(one, begin_s) for one in names) * MICRO))
            _put(self._known, (rule, name), known)
        return known[2]

    def _settled(self, hold: _Hold) -> int:
        """What calls that are over have used of the window that `hold` is in; for a budget."""
        if not hold.rule.is_budget:
            return hold.used_before
        return max(self.counts.settled(hold.window) if hold.taken is not None else 0, self._least(hold.window, hold.name))

    def _begin(self, window: Window, name: str, now_s: float, spent: int) -> None:
        """Begin to count in a budget's window at what was spent before: in one process only, for which the others wait a moment."""
        mark, left_s = f"{window.key}/begun", window.end_s - now_s
        state = self.counts.add(mark, left_s, 1)
        if state == 1:
            if spent:
                self.counts.add(window.settled_key, left_s, spent)
            self.counts.add(mark, left_s, _BEGUN)
        else:
            for _ in range(_POLLS):
                if state is None or state > _BEGUN:
                    break
                gevent.sleep(_POLL_S)
                state = self.counts.get(mark)
        if state is not None:
            _put(self._begun, (window.rule, name), window.key)


def _put(cache: dict[K, V], key: K, value: V) -> None:
    """Keep `value`; a cache of what is known elsewhere as well is simply emptied when it is full."""
    if len(cache) >= _MAX_KNOWN:
        cache.clear()
    cache[key] = value


def _headers(holds: Sequence[_Hold], now_s: float) -> list[tuple[str, str]]:
    """Three headers for each measure, of the rule that has the least left."""
    tightest: dict[Measure, _Hold] = {}
    for hold in holds:
        other = tightest.get(hold.rule.measure)
        if other is None or hold.left < other.left:
            tightest[hold.rule.measure] = hold
    headers = []
    for measure, hold in tightest.items():
        headers += [
            (f"x-ratelimit-limit-{measure}", _number(hold.rule.amount, measure)),
            (f"x-ratelimit-remaining-{measure}", _number(hold.left, measure)),
            (f"x-ratelimit-reset-{measure}", f"{math.ceil(hold.window.end_s - now_s)}s"),
        ]
    return headers


def _number(amount: int, measure: Measure) -> str:
    return f"{amount / MICRO:.6f}".rstrip("0").rstrip(".") if measure == "usd" else str(amount)


def _refusal(hold: _Hold, settled: int, now_s: float, headers: list[tuple[str, str]]) -> GatewayError:
    """The words name the moment, not a number of seconds: Kilo Code would wait as long as a text says.

    `settled` is what calls that are over have used: a budget that is only held by others is not spent.
    """
    rule = hold.rule
    moment = datetime.datetime.fromtimestamp(hold.window.end_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    owner = f"the {rule.owner} '{hold.name[:100]}'"
    if rule.is_budget and settled < rule.amount:
        words = f"The budget of {owner}, {rule}, has no room now: {rule.show(settled)} of it are spent, and running calls hold the rest."
        return TooManyRequests(words, retry_after_s=HELD_RETRY_S, headers=tuple(headers))
    if rule.is_budget:
        words = f"The budget of {owner}, {rule}, is spent ({rule.show(settled)}); it is renewed at {moment}."
        return BudgetSpent(words, headers=tuple(headers))
    words = f"The limit of {owner}, {rule}, is reached; it is renewed at {moment}."
    return TooManyRequests(words, retry_after_s=max(min(hold.window.end_s - now_s, MAX_RETRY_AFTER_S), 1), headers=tuple(headers))
