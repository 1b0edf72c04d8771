"""How far budgets and limits are used, and where a budget of the month will be at its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from compat.accounting.limits import LimitState
from compat.accounting.usage_queries import cost, forecast
from compat.calls.gateway import Gateway

TIGHT_SHARE = 0.8
"""The part of a limit from which on it is marked, and a budget named on the first page."""
MOST_NAMES = 50
"""Whose budgets are shown where there are no client keys, and anybody is a client."""
_BUDGETS = {"budget", "group-budget"}


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """One limit. `by_end_usd` is what a month's budget of a key comes to, `None` for others."""

    state: LimitState
    by_end_usd: float | None = None

    @property
    def share(self) -> float:
        """What of it is used, from 0 to 1."""
        return min(self.state.used / self.state.amount, 1.0)

    @property
    def will_be_exceeded(self) -> bool:
        """Whether a month's budget will not last if the month goes on like this."""
        return (self.by_end_usd or 0.0) > self.state.amount

    @property
    def is_tight(self) -> bool:
        """Whether it is nearly used, or will not last."""
        return self.share >= TIGHT_SHARE or self.will_be_exceeded


def clients_of(gateway: Gateway, key: str | None) -> list[str]:
    """The names that have limits, of which a visitor may see `key` only; without client keys those that called today."""
    if key is not None:
        return [key]
    return gateway.keys.names or [row.group[0] for row in cost(gateway.usage, ("key",), gateway.clock.now())][:MOST_NAMES]


def budget_rows(gateway: Gateway, clients: Iterable[str]) -> list[BudgetRow]:
    """The budgets of some clients, those of a group once."""
    return list(
        {(row.state.scope, row.state.name, row.state.period): row for row in limit_rows(gateway, clients) if is_budget(row)}.values()
    )


def limit_rows(gateway: Gateway, clients: Iterable[str]) -> list[BudgetRow]:
    """All limits of some clients."""
    return [BudgetRow(state, _by_end(gateway, state)) for client in clients for state in gateway.limits.states(client)]


def is_budget(row: BudgetRow) -> bool:
    """Whether it is one of dollars that outlives the process."""
    return row.state.scope in _BUDGETS


def _by_end(gateway: Gateway, state: LimitState) -> float | None:
    if (state.scope, state.period) != ("budget", "month"):
        return None
    return forecast(gateway.usage, gateway.clock.now(), key=state.name).by_end_usd
