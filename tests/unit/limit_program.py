"""A worker of `test_limits`: `COUNT` calls at once against a budget in Redis; prints how many were admitted, and what they held in all.

python -m tests.unit.limit_program URL COUNT BUDGET_USD ESTIMATE_USD SPENT_BEFORE_USD
"""

import tests.monkey  # noqa: F401  # before anything else is imported

# isort: split

import sys
import time

import gevent

from compat.accounting.limits import Estimate, Limits
from compat.config.sections import BudgetSettings, LimitSettings
from compat.endpoints.limiter import make_limiter
from compat.errors import GatewayError
from compat.storage.redis_link import LIMITER_ERRORS, Link


class Clock:
    def now(self) -> float:
        return 1_700_000_000.0


def main(url: str, count: int, budget_usd: float, estimate_usd: float, before_usd: float) -> None:
    limits = Limits(
        LimitSettings(budget=BudgetSettings(day_usd=budget_usd)),
        make_limiter(url),
        Clock(),
        Link("limits", time.monotonic, lambda *_: None, LIMITER_ERRORS),
        spent=lambda _client, _since_s: before_usd,
        later=gevent.spawn,
    )

    def call(_: int) -> bool:
        try:
            limits.admit("laptop", "m", Estimate(1, 1, estimate_usd, 0.0))
        except GatewayError:
            return False
        return True

    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(gevent.pool.Pool(count).map(call, range(count))), flush=True)


if __name__ == "__main__":
    import gevent.pool

    main(sys.argv[1], int(sys.argv[2]), *(float(text) for text in sys.argv[3:6]))
