"""Limits as they are written in the configuration, and the windows that they count in.

    "60/minute; 1000/hour"      requests
    "100000 tokens/minute"      tokens, of the prompt and of the answer
    "5 usd/day"                 US dollars

Amounts and periods are Flask-Limiter's limit strings; the unit between them is ours. A window begins where the clock says so (a full
minute, midnight UTC, the first of a month), so that all workers and restarts count in the same one, and each knows when it ends.
"""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import limits

from compat.config.sections import BudgetSettings, GroupSettings
from compat.config.settings import SettingsError

MICRO = 1_000_000
"""Costs are counted in whole millionths of a dollar."""

Scope = Literal["budget", "client", "model", "group", "group-budget"]
Measure = Literal["requests", "tokens", "usd"]

_RULE = re.compile(r"(?P<amount>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>requests?|tokens?|usd)?\s*(?P<period>(?:/|per\s)\s*(?!0).+)", re.IGNORECASE)
_MEASURES: Mapping[str, Measure] = {"": "requests", "request": "requests", "token": "tokens", "usd": "usd"}
_LONGEST_S = 1000 * 360 * 86_400
"""A thousand years, as Flask-Limiter has them: the end of a longer window may have no date."""
_UNITS: Mapping[Measure, int] = {"requests": 1, "tokens": 1, "usd": MICRO}


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit: `amount` of `measure` (dollars in millionths) in each window of `item`."""

    scope: Scope
    measure: Measure
    amount: int
    item: limits.RateLimitItem

    def window(self, now_s: float) -> tuple[float, float]:
        """Begin and end of the window that `now_s` is in, in seconds since 1970."""
        if self.item.multiples == 1 and self.item.GRANULARITY.name in {"month", "year"}:
            return _calendar_window(now_s, self.item.GRANULARITY.name)
        length_s = self.item.get_expiry()
        begin_s = now_s // length_s * length_s
        return begin_s, begin_s + length_s

    @property
    def is_budget(self) -> bool:
        """Whether it is spent by what calls have cost, and outlives the process."""
        return self.scope in {"budget", "group-budget"}

    @property
    def owner(self) -> str:
        """Whose it is: `client`, `model`, `group`."""
        return "client" if self.scope == "budget" else self.scope.removesuffix("-budget")

    @property
    def period(self) -> str:
        """`minute`, `2 hours`."""
        name = self.item.GRANULARITY.name
        return name if self.item.multiples == 1 else f"{self.item.multiples} {name}s"

    def show(self, amount: float) -> str:
        """An amount of this rule's measure, for people."""
        if self.measure != "usd":
            return f"{amount:.0f} {self.measure}"
        return f"{amount / MICRO:.4f}".rstrip("0").rstrip(".") + " USD"

    def __str__(self) -> str:
        return f"{self.show(self.amount)} per {self.period}"


def parse_rules(text: str, scope: Scope, key: str) -> tuple[Rule, ...]:
    """The rules of the limit strings in `text`. `SettingsError` names `key`, the configuration's name of it."""
    return tuple(_parse(part.strip(), scope, key) for part in re.split(r"[;,|]", text) if part.strip())


def budget_rules(budget: BudgetSettings | GroupSettings, scope: Scope = "budget") -> tuple[Rule, ...]:
    """The rules of a budget: the month first, whose end is farther away."""
    rows = ((budget.month_usd, limits.RateLimitItemPerMonth), (budget.day_usd, limits.RateLimitItemPerDay))
    return tuple(_rule(scope, "usd", round(dollars * MICRO), item(1)) for dollars, item in rows if dollars)


def _parse(part: str, scope: Scope, key: str) -> Rule:
    match = _RULE.fullmatch(part)
    try:
        if match is None:
            raise ValueError(part)
        measure = _MEASURES[(match["unit"] or "").lower().removesuffix("s")]
        amount = decimal.Decimal(match["amount"]) * _UNITS[measure]
        item = limits.parse(f"1{match['period']}")
        if amount < 1 or amount != int(amount) or item.get_expiry() > _LONGEST_S:
            raise ValueError(part)
    except ValueError as error:
        hint = "write limits like '60/minute', '100000 tokens/minute' or '5 usd/day', with ';' between two"
        raise SettingsError(f"the configuration: key '{key}': '{part}' is not a limit: {hint}.") from error
    return _rule(scope, measure, int(amount), item)


def _rule(scope: Scope, measure: Measure, amount: int, item: limits.RateLimitItem) -> Rule:
    return Rule(scope, measure, amount, type(item)(amount, item.multiples, namespace=f"{scope}/{measure}"))


def _calendar_window(now_s: float, period: str) -> tuple[float, float]:
    today = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    begin = datetime.datetime(today.year, today.month if period == "month" else 1, 1, tzinfo=datetime.UTC)
    end = begin.replace(year=begin.year + 1) if period == "year" else (begin + datetime.timedelta(days=32)).replace(day=1)
    return begin.timestamp(), end.timestamp()
