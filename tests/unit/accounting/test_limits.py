"""Limits, budgets, reservations: what is admitted, what is refused and how, what is left, and what happens without a storage."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.pool
import msgspec
import pytest
from limits.errors import StorageError

from compat.accounting.key_store import KeyTerms
from compat.accounting.limit_counts import LEASE_S, MAX_LATE
from compat.accounting.limits import (
    _MAX_KNOWN,
    HELD_RETRY_S,
    SPENT_TTL_S,
    BudgetSpent,
    Estimate,
    Limits,
    LimitState,
    Reservation,
    estimate_of,
)
from compat.config.catalog import Price, PriceTier
from compat.config.sections import GroupSettings, LimitSettings
from compat.config.settings import SettingsError
from compat.endpoints.limiter import MAX_COUNTS, MEMORY, make_limiter
from compat.errors import ClientGone, GatewayError, TooManyRequests
from compat.storage.redis_link import LIMITER_ERRORS, RETRY_S, Link, redis_client
from compat.wire.usage import Usage
from tests.fakes.redis_server import RedisServer, needs_redis

NOON_S = 1_699_963_200.0  # 2023-11-14 12:00:00 UTC
CALL = Estimate(prompt_tokens=600, output_tokens=400, prompt_usd=0.02, output_usd=0.08)
USAGE = Usage(prompt_tokens=100, completion_tokens=50)


class Storage:
    """A counter whose every step lets others run, as a server's would; it can be gone, or end the caller's greenlet."""

    def __init__(self, *, yields: bool = False) -> None:
        self.counts: dict[str, int] = {}
        self.yields = yields
        self.is_gone = False
        self.asked = 0
        self.throws_at = 0

    def incr(self, key: str, expiry: int, amount: int) -> int:
        assert expiry > 0
        self._reach()
        self.counts[key] = self.counts.get(key, 0) + amount
        total = self.counts[key]
        if self.yields:
            gevent.sleep(0)
        return total

    def get(self, key: str) -> int:
        self._reach()
        return self.counts.get(key, 0)

    def _reach(self) -> None:
        self.asked += 1
        if self.yields:
            gevent.sleep(0)
        if self.asked == self.throws_at:
            raise ClientGone
        if self.is_gone:
            raise StorageError(OSError())


class Bench:
    """Limits over a storage of `Storage`'s kind, or over a real one at `url`; its clock stands at noon."""

    def __init__(
        self, *, url: str = "", yields: bool = False, later: Any = None, storage: Any = None, groups: Any = None, **settings: Any
    ) -> None:
        self.now_s = NOON_S
        self.events: list[str] = []
        self.spent_usd: dict[str, float] = {}
        self.terms: dict[str, KeyTerms] = {}
        self.storage = storage or Storage(yields=yields)
        limiter: Any = make_limiter(url) if url else types.SimpleNamespace(limiter=types.SimpleNamespace(storage=self.storage))
        clock: Any = types.SimpleNamespace(now=lambda: self.now_s)
        self.limits = Limits(
            msgspec.convert(settings, LimitSettings),
            limiter,
            clock,
            Link("limits", lambda: self.now_s, lambda name, _: self.events.append(name), LIMITER_ERRORS),
            terms_of=lambda client: self.terms.get(client),
            spent=lambda client, _since_s: self.spent_usd.get(client, 0.0),
            later=later or (lambda run: run()),
            groups=groups,
            members_of=lambda group: [name for name, terms in self.terms.items() if terms.group == group],
        )

    def admit(self, estimate: Estimate = CALL, client: str = "laptop", model: str = "sonnet") -> Reservation:
        return self.limits.admit(client, model, estimate)

    def refusal(self, estimate: Estimate = CALL, client: str = "laptop", model: str = "sonnet") -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            self.limits.admit(client, model, estimate)
        return caught.value

    def left(self, measure: str, client: str = "laptop", model: str = "sonnet") -> str | None:
        return dict(self.limits.headers(client, model)).get(f"x-ratelimit-remaining-{measure}")


def many(bench: Bench, count: int, estimate: Estimate = CALL) -> int:
    """How many of `count` calls at once are admitted."""

    def call(_: int) -> bool:
        try:
            bench.admit(estimate)
        except GatewayError:
            return False
        return True

    return sum(gevent.pool.Pool(count).map(call, range(count)))


def test_without_limits_everything_is_admitted_and_nothing_asked() -> None:
    bench = Bench()
    reservation = bench.admit()
    reservation.settle(USAGE, 1.0)
    assert (reservation.headers(), bench.limits.headers("laptop", "m"), bench.storage.asked, bench.limits.fault) == ([], [], 0, "")


def test_requests_are_counted_per_window() -> None:
    bench = Bench(client="2/minute")
    bench.admit()
    bench.admit()
    error = bench.refusal()
    assert isinstance(error, TooManyRequests)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    bench.now_s += 60
    bench.admit()


def test_a_refusal_says_what_when_and_how_long_to_wait() -> None:
    bench = Bench(client="1/hour")
    bench.now_s += 0.5
    bench.admit()
    error = bench.refusal()
    assert error.message == "The limit of the client 'laptop', 1 requests per hour, is reached; it is renewed at 2023-11-14 13:00:00 UTC."
    assert error.retry_after_s == 30
    assert dict(error.headers) == {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "3600s",
    }


@pytest.mark.parametrize(("into_s", "wait_s"), [(0, 30), (29, 30), (45.5, 14.5), (59.9, 1)])
def test_a_client_is_told_to_wait_until_the_window_ends_but_never_longer_than_thirty_seconds(into_s: float, wait_s: float) -> None:
    bench = Bench(client="1/minute")
    bench.now_s += into_s
    bench.admit()
    assert bench.refusal().retry_after_s == pytest.approx(wait_s)


def test_clients_and_models_have_counts_of_their_own() -> None:
    bench = Bench(client="1/day", model="2/day")
    bench.admit(client="a/b", model="c")
    bench.admit(client="a", model="c")
    assert "the model 'c'" in bench.refusal(client="third", model="c").message
    assert "the client 'a'" in bench.refusal(client="a", model="other").message
    bench.admit(client="fourth", model="b/c")


def test_a_names_own_limits_replace_the_general_ones() -> None:
    bench = Bench(
        client="1/day", clients={"vip": "3/day", "free": ""}, models={"small": "1/day"}, budget={"day_usd": 0.1}, budgets={"free": {}}
    )
    for _ in range(5):
        bench.admit(client="free", model="big")
    bench.admit(client="free", model="small")
    assert "model 'small'" in bench.refusal(client="free", model="small").message
    bench.admit(client="vip", model="big").settle(USAGE, 0.1)
    assert isinstance(bench.refusal(client="vip", model="big"), BudgetSpent)


def test_what_a_key_was_given_goes_before_the_configuration_and_counts_as_soon_as_it_changes() -> None:
    bench = Bench(client="1/day", clients={"laptop": "2/day"}, budget={"day_usd": 50.0, "month_usd": 60.0})
    bench.terms = {"laptop": KeyTerms(limit="3/day"), "rich": KeyTerms(day_usd=0.15), "plain": KeyTerms()}
    for _ in range(3):
        bench.admit()
    assert "3 requests per day" in bench.refusal().message
    assert bench.left("usd") == "49.7", "it was given no budget: the general one counts"
    bench.terms["laptop"] = KeyTerms(limit="1/hour")
    bench.admit()
    assert "1 requests per hour" in bench.refusal().message
    del bench.terms["laptop"]
    bench.admit()
    bench.admit()
    assert "2 requests per day" in bench.refusal().message

    bench.admit(client="rich").settle(USAGE, 0.1)
    assert "1 requests per day" in bench.refusal(client="rich").message, "it was given no limit: the general one counts"
    bench.terms["rich"] = KeyTerms(limit="1000/day", day_usd=0.15)
    bench.admit(client="rich").settle(USAGE, 0.1)
    assert isinstance(bench.refusal(client="rich"), BudgetSpent)
    bench.spent_usd["rich"] = 60.0
    bench.now_s += SPENT_TTL_S
    assert "60 USD per month" in bench.refusal(client="rich").message, "the month's is still the general one"
    bench.admit(client="plain")
    assert "1 requests per day" in bench.refusal(client="plain").message


@pytest.mark.parametrize("field", ["client", "model", "clients", "models"])
def test_a_wrong_limit_ends_the_start(field: str) -> None:
    with pytest.raises(SettingsError, match=r"limits\."):
        Bench(**{field: {"x": "nonsense"} if field.endswith("s") else "nonsense"})


def test_a_call_takes_its_estimate_until_it_is_settled() -> None:
    bench = Bench(client="10000 tokens/day; 1 usd/day")
    reservation = bench.admit()
    assert (bench.left("tokens"), bench.left("usd")) == ("9000", "0.9")
    reservation.settle(USAGE, 0.25)
    assert (bench.left("tokens"), bench.left("usd")) == ("9850", "0.75")


def test_only_the_first_word_about_a_call_counts() -> None:
    bench = Bench(client="10000 tokens/day")
    reservation = bench.admit()
    reservation.settle(USAGE)
    reservation.settle(Usage(9000, 9000))
    reservation.cancel()
    assert bench.left("tokens") == "9850"


def test_a_call_that_came_to_nothing_has_taken_nothing() -> None:
    bench = Bench(client="10/day; 10000 tokens/day; 1 usd/day")
    bench.admit().cancel()
    assert (bench.left("requests"), bench.left("tokens"), bench.left("usd")) == ("10", "10000", "1")


def test_a_client_that_left_early_is_charged_for_its_prompt() -> None:
    bench = Bench(client="10000 tokens/day; 1 usd/day")
    bench.admit().settle(None)
    assert (bench.left("tokens"), bench.left("usd")) == ("9400", "0.98")


def test_a_refused_call_has_taken_nothing() -> None:
    bench = Bench(client="10/day; 1500 tokens/day")
    bench.admit()
    bench.admit()
    before = dict(bench.storage.counts)
    bench.refusal()
    assert bench.storage.counts == before


def test_the_call_that_passes_the_limit_is_served_and_the_next_one_is_not() -> None:
    bench = Bench(client="100 tokens/minute")
    reservation = bench.admit()
    assert dict(reservation.headers())["x-ratelimit-remaining-tokens"] == "0"
    assert bench.refusal().retry_after_s == 30
    reservation.settle(Usage(10, 5))
    bench.admit()


def test_a_call_that_ends_after_its_window_changes_nothing_in_the_next_one() -> None:
    bench = Bench(client="10000 tokens/minute")
    reservation = bench.admit()
    bench.now_s += 60
    reservation.settle(Usage(5000, 5000))
    assert bench.left("tokens") == "10000"


def test_a_call_that_costs_nothing_is_not_refused_for_its_cost() -> None:
    bench = Bench(budget={"day_usd": 1})
    bench.spent_usd["laptop"] = 2.0
    assert bench.admit(Estimate(100, 100)).headers() == []
    bench.refusal()


def test_headers_show_the_tightest_rule_of_each_measure() -> None:
    bench = Bench(client="10/minute; 5/hour; 3 usd/day", model="7/minute", budget={"month_usd": 0.5})
    assert bench.admit().headers() == [
        ("x-ratelimit-limit-usd", "0.5"),
        ("x-ratelimit-remaining-usd", "0.4"),
        ("x-ratelimit-reset-usd", f"{16 * 86_400 + 12 * 3600}s"),
        ("x-ratelimit-limit-requests", "5"),
        ("x-ratelimit-remaining-requests", "4"),
        ("x-ratelimit-reset-requests", "3600s"),
    ]


def test_a_spent_budget_is_an_error_that_no_client_retries() -> None:
    bench = Bench(client="1/day", budget={"day_usd": 0.1})
    bench.admit().settle(USAGE, 0.1)
    error = bench.refusal()
    assert isinstance(error, BudgetSpent)
    assert (error.status, error.type, error.code, error.retry_after_s, error.retryable) == (
        402,
        "insufficient_quota",
        "budget_spent",
        None,
        False,
    )
    assert (
        error.message == "The budget of the client 'laptop', 0.1 USD per day, is spent (0.1 USD); it is renewed at 2023-11-15 00:00:00 UTC."
    )
    assert dict(error.headers)["x-ratelimit-remaining-usd"] == "0"
    bench.now_s += 12 * 3600
    bench.admit()


@pytest.mark.parametrize("spent_usd", [0.0, 0.05])
def test_a_budget_that_running_calls_hold_is_not_spent_and_may_be_asked_again_in_a_moment(spent_usd: float) -> None:
    """An agent that works beside another one must not stop for the day because of what the other one's answer may cost."""
    bench = Bench(budget={"day_usd": 0.1})
    bench.spent_usd["laptop"] = spent_usd
    running = bench.admit()
    error = bench.refusal()
    assert (error.status, error.code, error.retry_after_s) == (429, "rate_limit_exceeded", HELD_RETRY_S)
    told = "0 USD" if not spent_usd else "0.05 USD"
    assert (
        error.message == f"The budget of the client 'laptop', 0.1 USD per day, has no room now: {told} of it are spent, "
        "and running calls hold the rest."
    )
    assert dict(error.headers)["x-ratelimit-remaining-usd"] == "0"
    running.settle(USAGE, 0.01)
    bench.admit().settle(USAGE, 0.1)
    assert isinstance(bench.refusal(), BudgetSpent)


def test_the_month_is_told_of_before_the_day() -> None:
    bench = Bench(budget={"day_usd": 0.1, "month_usd": 0.1})
    bench.admit().settle(USAGE, 0.1)
    assert "per month" in bench.refusal().message


def test_a_budget_survives_a_restart() -> None:
    bench = Bench(budget={"day_usd": 1})
    bench.spent_usd["laptop"] = 0.85
    assert bench.left("usd") == "0.15"
    bench.admit().settle(USAGE, 0.1)
    bench.admit().settle(USAGE, 0.1)
    assert "(1.05 USD)" in bench.refusal().message


def test_workers_with_a_memory_of_their_own_hear_of_each_other() -> None:
    bench = Bench(budget={"day_usd": 1})
    bench.admit()
    bench.spent_usd["laptop"] = 1.5
    bench.admit()
    bench.now_s += SPENT_TTL_S
    assert "(1.5 USD)" in bench.refusal().message


def test_a_new_window_begins_with_what_was_spent_in_it() -> None:
    bench = Bench(budget={"day_usd": 1})
    bench.admit()
    bench.now_s += 86_400
    bench.spent_usd["laptop"] = 0.5
    assert dict(bench.admit().headers())["x-ratelimit-remaining-usd"] == "0.4"


def test_a_second_worker_on_the_same_storage_does_not_count_the_past_again() -> None:
    first = Bench(budget={"day_usd": 1})
    second = Bench(storage=first.storage, budget={"day_usd": 1})
    first.spent_usd["laptop"] = second.spent_usd["laptop"] = 0.5
    first.admit()
    assert dict(second.admit().headers())["x-ratelimit-remaining-usd"] == "0.3"


def test_a_worker_waits_while_another_one_begins_a_budget() -> None:
    first = Bench(yields=True, budget={"day_usd": 1})
    second = Bench(storage=first.storage, budget={"day_usd": 1})
    first.spent_usd["laptop"] = 1.0
    results = [gevent.spawn(bench.refusal) for bench in (first, second)]
    assert all("is spent (1 USD)" in greenlet.get(timeout=10).message for greenlet in results)


def test_a_worker_does_not_wait_for_one_that_died() -> None:
    bench = Bench(budget={"day_usd": 1})
    bench.admit().cancel()
    mark = next(key for key in bench.storage.counts if key.endswith("/begun"))
    other = Bench(budget={"day_usd": 1})
    other.storage.counts[mark] = 1
    other.admit()
    assert other.left("usd") == "0.9"


@pytest.mark.parametrize("yields", [False, True], ids=["in one step", "with steps between"])
@pytest.mark.parametrize("before_usd", [0.0, 0.95, 1.0])
def test_a_hundred_calls_at_once_pass_a_budget_by_one_call_at_most(yields: bool, before_usd: float) -> None:
    bench = Bench(yields=yields, budget={"day_usd": 1})
    bench.spent_usd["laptop"] = before_usd
    admitted = many(bench, 100, Estimate(1, 1, 0.03))
    assert admitted == {0.0: 34, 0.95: 2, 1.0: 0}[before_usd]


def test_a_hundred_calls_at_once_share_flask_limiters_memory() -> None:
    bench = Bench(url=MEMORY, budget={"day_usd": 1})
    assert many(bench, 100, Estimate(1, 1, 0.03)) == 34
    assert bench.left("usd") == "0"


@pytest.mark.parametrize("throws_at", range(1, 8))
def test_a_hang_up_in_the_middle_gives_everything_back(throws_at: int) -> None:
    bench = Bench(client="5/day; 5000 tokens/day; 5 usd/day")
    bench.storage.throws_at = throws_at
    with pytest.raises(ClientGone):
        bench.admit()
    assert set(bench.storage.counts.values()) <= {0}


@pytest.mark.parametrize("rules", [{"budget": {"month_usd": 1}}, {"client": "1 usd/day"}])
def test_what_a_killed_gateways_calls_held_is_free_again_after_the_longest_call(rules: Any) -> None:
    """Nobody settles them; in a window of a month they would keep the client out for weeks."""
    bench = Bench(**rules)
    bench.admit().settle(USAGE, 0.25)
    for _ in range(8):
        bench.admit()
    bench.refusal()
    bench.now_s += LEASE_S
    assert bench.left("usd") == "0", "a call may take as long"
    bench.now_s += LEASE_S
    assert bench.left("usd") == "0.75"
    bench.admit()


def test_a_call_that_takes_longer_than_its_lease_is_charged_what_it_used() -> None:
    bench = Bench(budget={"month_usd": 1})
    reservation = bench.admit()
    bench.now_s += 2 * LEASE_S
    assert bench.left("usd") == "1"
    reservation.settle(USAGE, 0.25)
    assert bench.left("usd") == "0.75"


def test_calls_that_begin_before_and_after_the_hour_see_each_other() -> None:
    bench = Bench(budget={"month_usd": 0.1})
    bench.now_s += LEASE_S - 0.001
    first = bench.admit()
    bench.now_s += 0.001
    bench.refusal()
    first.cancel()
    bench.admit()


def test_a_call_that_is_counted_as_the_hour_ends_sees_one_of_the_next_hour() -> None:
    bench = Bench(budget={"month_usd": 0.1})
    bench.now_s += LEASE_S
    bench.admit()
    bench.now_s -= LEASE_S
    now = iter([bench.now_s] * 4)
    bench.limits.clock.now = lambda: next(now, bench.now_s)
    bench.limits.counts._now = lambda: bench.now_s + LEASE_S
    bench.refusal()


def test_what_ends_while_redis_is_left_alone_is_counted_when_it_is_back() -> None:
    bench = Bench(client="100000 tokens/hour", budget={"month_usd": 1})
    running = [bench.admit() for _ in range(9)]
    bench.storage.is_gone = True
    bench.admit(client="desktop")  # hears that it is gone
    for reservation in running:
        reservation.settle(USAGE, 0.05)
    assert len(bench.limits.counts) == 27
    bench.storage.is_gone = False
    bench.now_s += RETRY_S
    bench.admit(client="desktop")  # hears that it is back
    assert (len(bench.limits.counts), bench.left("usd"), bench.left("tokens")) == (0, "0.55", "98650")


def test_corrections_that_wait_are_bounded() -> None:
    bench = Bench(client="100000 tokens/hour")
    running = bench.admit()
    bench.limits.counts._late.extend([("key", 0.0, 1)] * MAX_LATE)
    bench.storage.is_gone = True
    bench.admit(client="desktop")
    running.settle(USAGE)
    assert len(bench.limits.counts) == MAX_LATE


def test_a_storage_that_has_forgotten_what_a_call_took_is_not_given_it_back() -> None:
    bench = Bench(client="2000 tokens/hour", budget={"month_usd": 1})
    reservation = bench.admit()
    bench.storage.counts.clear()
    reservation.settle(USAGE, 0.1)
    assert (bench.left("usd"), bench.left("tokens")) == ("0.9", "2000")


def test_without_its_storage_the_gateway_goes_on_and_says_so_once() -> None:
    bench = Bench(client="1/day", budget={"day_usd": 1})
    bench.storage.is_gone = True
    for _ in range(5):
        bench.admit().settle(USAGE, 0.1)
    assert bench.storage.asked == 1
    assert bench.events == ["limits.failed"]
    assert bench.limits.fault == "Redis can't be used: StorageError"
    assert bench.left("requests") == "1"


def test_without_its_storage_a_budget_holds_by_what_is_known_to_be_spent() -> None:
    bench = Bench(budget={"day_usd": 1})
    bench.storage.is_gone = True
    bench.spent_usd["laptop"] = 1.0
    assert isinstance(bench.refusal(), BudgetSpent)


def test_a_storage_that_is_back_is_used_again() -> None:
    bench = Bench(client="1/day")
    bench.storage.is_gone = True
    bench.admit()
    bench.storage.is_gone = False
    bench.now_s += RETRY_S
    bench.admit()
    bench.refusal()
    assert bench.events == ["limits.failed", "limits.recovered"]
    assert bench.limits.fault == ""


def test_a_correction_can_be_made_later() -> None:
    waiting: list[Any] = []
    bench = Bench(client="10000 tokens/hour", later=waiting.append)
    bench.admit().settle(USAGE)
    assert bench.left("tokens") == "9000"
    waiting.pop()()
    assert bench.left("tokens") == "9850"
    bench.admit(Estimate(100, 50)).settle(USAGE)
    assert waiting == []


def test_what_is_remembered_of_clients_is_bounded() -> None:
    bench = Bench(budget={"day_usd": 1})
    bench.limits._known.update({(None, str(number)): (0.0, 0.0, 0) for number in range(_MAX_KNOWN)})
    bench.admit()
    assert len(bench.limits._known) == 1


@pytest.mark.slow
def test_counts_in_memory_are_bounded_and_told() -> None:
    """Without client keys each key is a client of its own, and a month's count stays for a month."""
    bench = Bench(url=MEMORY, client="5/day", budget={"month_usd": 1})
    assert bench.limits.entries == {"limit counts": 0, "limited clients": 0, "limit corrections": 0}
    clients = MAX_COUNTS // 4 + 1
    for number in range(clients):
        bench.admit(client=f"key-{number}").settle(USAGE, 0.1)
    assert bench.limits.entries == {"limit counts": MAX_COUNTS, "limited clients": 2 * clients, "limit corrections": 0}
    assert bench.left("requests", client=f"key-{clients - 1}") == "4"


@pytest.mark.parametrize(
    ("body_bytes", "output", "price", "estimate"),
    [
        (3000, 100, Price(), Estimate(1001, 100, 0.0, 0.0)),
        (2999, 0, Price(input=1000.0), Estimate(1000, 0, 1.0, 0.0)),
        (2999, 10, Price(input=1000.0, output=100.0, tiers=(PriceTier(above=999, input=2, output=3),)), Estimate(1000, 10, 2.0, 0.003)),
        (2999, 1000, Price(input=3.0, output=15.0, cache_write=3.75, cache_write_1h=6.0), Estimate(1000, 1000, 0.006, 0.015)),
    ],
)
def test_an_estimate_is_the_dearest_way_a_call_can_go(body_bytes: int, output: int, price: Price, estimate: Estimate) -> None:
    assert estimate_of(body_bytes, output, price) == estimate


# A real server.


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@needs_redis
@pytest.mark.heavy
def test_on_redis_counts_are_shared_and_corrected(redis: RedisServer) -> None:
    rules = {"client": "3/day; 10000 tokens/day", "budget": {"month_usd": 1}}
    first, second = Bench(url=redis.url, **rules), Bench(url=redis.url, **rules)
    first.admit().settle(USAGE, 0.2)
    second.admit().cancel()
    assert [bench.left(measure) for bench in (first, second) for measure in ("requests", "tokens", "usd")] == ["2", "9850", "0.8"] * 2


@needs_redis
@pytest.mark.heavy
@pytest.mark.parametrize(
    "value", [b"x", b"\xff", b"", b"9" * 400, b"9" * 5000, b"9223372036854775807", b"-9223372036854775808", b"1.5", ["a list"]]
)
def test_on_redis_a_sum_that_no_gateway_counted_is_none_and_begins_anew(redis: RedisServer, value: Any) -> None:
    bench = Bench(url=redis.url, client="3/day; 10000 tokens/day")
    client = redis_client(redis.url)
    client.flushall()
    bench.admit()
    keys = client.keys("*")
    assert len(keys) == 2, "of requests, and of what is held"
    for key in keys:
        client.delete(key)
        client.rpush(key, *value) if isinstance(value, list) else client.set(key, value)
    bench.admit().settle(USAGE, 0.0)
    bench.admit()
    assert bench.left("requests") == "1"
    assert (bench.events, bench.limits.fault) == (["limits.value_failed"], "")
    for key in client.keys("*settled*"):
        client.set(key, value) if isinstance(value, bytes) else None
    assert bench.left("tokens") is not None
    client.close()


@needs_redis
@pytest.mark.heavy
def test_redis_gone_and_back() -> None:
    with RedisServer() as server:
        bench = Bench(url=server.url, client="1/day", budget={"day_usd": 1})
        bench.admit()
        bench.refusal()
        server.stop()
        bench.now_s += 1
        for _ in range(3):
            bench.admit().settle(USAGE, 0.1)
        assert bench.limits.fault == "Redis can't be used: ConnectionError"
        server.start()
        bench.now_s += RETRY_S
        bench.spent_usd["laptop"] = 0.3
        assert dict(bench.admit().headers())["x-ratelimit-remaining-usd"] == "0.6"
        bench.refusal()
        assert (bench.events, bench.limits.fault) == (["limits.failed", "limits.recovered"], "")


@pytest.mark.slow
@needs_redis
@pytest.mark.heavy
@pytest.mark.parametrize(("before_usd", "admitted"), [(0.0, 34), (0.95, 2), (1.0, 0)])
def test_four_processes_on_redis_pass_a_budget_by_one_call_at_most(before_usd: float, admitted: int) -> None:
    root = Path(__file__).parents[3]
    with RedisServer() as server:
        command = [sys.executable, "-m", "tests.unit.limit_program", server.url, "25", "1", "0.03", str(before_usd)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, cwd=root, **pipes) for _ in range(4)]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        assert sum(int(worker.communicate(timeout=60)[0]) for worker in workers) == admitted


def test_the_keys_of_a_group_share_its_limit() -> None:
    bench = Bench(groups={"team": GroupSettings(limit="3/minute")})
    bench.terms = {"ada": KeyTerms(group="team"), "bea": KeyTerms(group="team"), "eve": KeyTerms(group="gone")}
    for client in ("ada", "bea", "ada"):
        bench.admit(client=client)
    error = bench.refusal(client="bea")
    assert error.message.startswith("The limit of the group 'team', 3 requests per minute, is reached; ")
    assert bench.left("requests", client="bea") == "0"
    bench.admit(client="eve")
    bench.admit(client="team")


def test_the_budget_of_a_group_is_spent_by_all_its_keys_and_outlives_the_process() -> None:
    bench = Bench(groups={"team": GroupSettings(day_usd=1.0)})
    bench.terms = {"ada": KeyTerms(group="team", day_usd=0.5), "bea": KeyTerms(group="team"), "cleo": KeyTerms(group="team")}
    bench.spent_usd = {"ada": 0.2, "bea": 0.7, "team": 5.0}
    bench.admit(client="cleo").settle(USAGE, 0.1)
    error = bench.refusal(client="bea")
    assert isinstance(error, BudgetSpent)
    assert error.message.startswith("The budget of the group 'team', 1 USD per day, is spent (1 USD); ")
    assert isinstance(bench.refusal(client="ada"), BudgetSpent)


def test_a_wrong_limit_of_a_group_names_its_key() -> None:
    with pytest.raises(SettingsError, match=re.escape("key 'groups.team.limit': 'lots' is not a limit")):
        Bench(groups={"team": GroupSettings(limit="lots")})


def test_what_is_left_of_each_limit_can_be_shown_and_nothing_is_taken() -> None:
    bench = Bench(groups={"team": GroupSettings(day_usd=5.0)}, client="10/minute; 1000000 tokens/day", budget={"month_usd": 2.0})
    bench.terms = {"ada": KeyTerms(group="team", month_usd=3.0)}
    bench.spent_usd = {"ada": 1.5}
    bench.admit(client="ada").settle(USAGE, 0.25)
    running = bench.admit(client="ada")
    midnight_s, december_s = NOON_S + 43_200, 1_701_388_800.0
    expected = [
        LimitState("group-budget", "team", "usd", "day", 5.0, 1.85, midnight_s),
        LimitState("budget", "ada", "usd", "month", 3.0, 1.85, december_s),
        LimitState("client", "ada", "requests", "minute", 10, 2, NOON_S + 60),
        LimitState("client", "ada", "tokens", "day", 1_000_000, 1150, midnight_s),
    ]
    assert bench.limits.states("ada") == bench.limits.states("ada") == expected
    assert [round(state.left, 6) for state in expected] == [3.15, 1.15, 8, 998_850]
    running.cancel()
    assert [state.amount for state in bench.limits.states("laptop")] == [2.0, 10, 1_000_000]
    assert LimitState("budget", "ada", "usd", "day", 1.0, 1.2, 0.0).left == 0.0


def test_without_limits_there_is_nothing_to_show() -> None:
    assert Bench().limits.states("laptop") == []
