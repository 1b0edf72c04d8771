"""Usage of machines that share a Redis: each has the calls of all, once, and what is no call of a gateway is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import msgspec
import pytest

from compat.accounting import usage_sharing
from compat.accounting.usage_queries import calls, cost, one_call, session_tree, sessions
from compat.accounting.usage_rows import CallFacts
from compat.accounting.usage_store import NoUsage
from compat.accounting.usage_views import CallFilter, FailedAttempt
from compat.cluster import usage as module
from compat.cluster.usage import STREAM, SharedUsage, in_thread
from compat.storage.background import StoreFailed
from compat.storage.redis_link import RETRY_S, Link, redis_client, redis_errors
from compat.wire.usage import Usage
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.unit.accounting.stored_calls import DAY_S, PRICE, USED, StoredCalls

pytestmark = [pytest.mark.heavy, needs_redis]


class Machine(StoredCalls):
    """A machine's store, and the part of one of its workers."""

    def __init__(self, folder: Path, redis: RedisServer, digit: str, name: str = "") -> None:
        super().__init__(folder / (name or digit))
        self.client = redis_client(redis.url)
        self.link_events: list[str] = []
        self.redis_s = 0.0
        self.link = Link("commons", lambda: self.redis_s, lambda name, _: self.link_events.append(name), redis_errors())
        self._ids = iter(digit * 31 + last for last in "0123456789")
        self.shared = SharedUsage(self.usage, self.client, self.link, lambda: next(self._ids), apart=lambda run: run())

    def sync(self) -> None:
        self.usage.flush()
        self.shared.sync()

    def ids(self) -> list[str]:
        return sorted(row.request_id for row in calls(self.usage, CallFilter(), limit=1000).rows)

    def end(self) -> None:
        self.client.close()
        self.usage.close()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def machines(tmp_path: Path, redis: RedisServer) -> Iterator[tuple[Machine, Machine]]:
    pair = Machine(tmp_path, redis, "a"), Machine(tmp_path, redis, "b")
    yield pair
    for machine in pair:
        machine.end()


def test_each_has_the_calls_of_both_with_all_that_is_known_of_them(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    failed = (FailedAttempt("up/a", "busy", "overloaded", "the next one", 5.0),)
    facts = CallFacts("openai.chat", "openai.chat", "s1/a", "s1", 7.0, failed, ((USED, PRICE),), lambda: {"Read": 2})
    one.add(facts=facts, request_id="of one", ttft_ms=3.0, notes="dropped=x")
    two.add(facts=CallFacts(session="s1"), request_id="of two", outcome="error", error="no")
    for _ in range(2):
        for machine in (one, two):
            machine.sync()
    assert one.ids() == two.ids() == ["of one", "of two"]
    for by in ("day", "model", "key", "session"):
        assert cost(one.usage, (by,), 0.0) == cost(two.usage, (by,), 0.0)
    found = [one_call(machine.usage, calls(machine.usage, CallFilter(session="s1/a")).rows[0].call_id) for machine in (one, two)]
    (_, first), (_, second) = (pair for pair in found if pair is not None)
    assert first == second
    assert [row.agents for row in sessions(two.usage, two.now_s).rows] == [1]
    trees = [session_tree(machine.usage, "laptop", "s1") for machine in machines]
    assert trees[0] == trees[1]
    assert two.usage.spent("laptop", 0.0) == pytest.approx(one.usage.spent("laptop", 0.0))


def test_a_call_counts_once_whoever_gives_and_takes_it(machines: tuple[Machine, Machine], tmp_path: Path, redis: RedisServer) -> None:
    one, two = machines
    worker = Machine(tmp_path, redis, "c", name="a")
    for number in range(3):
        one.add(request_id=f"r{number}")
    one.usage.flush()
    one.shared._write = lambda work: None  # killed before it could note what it gave
    one.shared.sync()
    one.usage.change(lambda writer: usage_sharing.begin(writer, "a" * 32))
    one.shared.sync()
    del one.shared._write
    for machine in (worker, one, two, worker, one, two):
        machine.sync()
    assert one.client.xlen(STREAM) == 6
    assert one.ids() == two.ids() == worker.ids() == ["r0", "r1", "r2"]
    worker.end()


def test_many_calls_go_in_batches_and_a_late_machine_gets_them_all(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 10)
    monkeypatch.setattr(usage_sharing, "BATCH", 10)
    one, two = machines
    for _ in range(105):
        one.add()
    for _ in range(2):
        one.sync()
    two.sync()
    assert len(two.ids()) == 100
    two.sync()
    assert len(two.ids()) == 105


def test_of_two_workers_that_take_at_once_one_does(machines: tuple[Machine, Machine], tmp_path: Path, redis: RedisServer) -> None:
    one, two = machines
    one.add()
    one.sync()
    worker = Machine(tmp_path, redis, "d", name="b")
    late: list[Any] = []
    two.shared._write = late.append
    two.sync()
    worker.sync()
    for work in late:
        two.usage.change(work)
    assert two.ids() == ["r1"]
    worker.end()


def test_a_store_whose_numbers_begin_again_is_a_new_one_to_the_others(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    for number in range(2):
        one.add(request_id=f"old{number}")
    one.sync()
    two.sync()
    one.now_s += 91 * DAY_S
    one.usage.flush()
    assert one.ids() == []
    one.add(request_id="new", client="other")
    one.sync()
    two.sync()
    assert two.ids() == ["new", "old0", "old1"]


def test_a_redis_that_is_gone_costs_nothing_but_time(machines: tuple[Machine, Machine], redis: RedisServer) -> None:
    one, two = machines
    redis.stop()
    one.add()
    one.sync()
    assert one.link_events == ["commons.failed"]
    redis.start()
    one.redis_s += RETRY_S
    one.sync()
    two.sync()
    assert two.ids() == ["r1"]
    assert one.link_events == ["commons.failed", "commons.recovered"]


def test_a_file_that_cant_be_written_takes_them_later(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = machines
    one.add()
    one.sync()
    two.sync()
    one.add()
    one.sync()

    def fails(_: Any) -> None:
        raise StoreFailed("full")

    monkeypatch.setattr(two.usage._file, "write", fails)
    two.shared.sync()
    assert (two.usage.fault, len(two.ids())) == ("full", 1)
    monkeypatch.undo()
    two.sync()
    assert len(two.ids()) == 2


GARBAGE: list[dict[str, bytes]] = [
    {"call": b"["},
    {"call": b"[" * 5000},
    {"call": b'{"store":"x"}'},
    {"call": b'["../x",1]'},
    {"other": b"[]"},
]


def test_what_no_gateway_wrote_is_left_out_and_reported(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.add()
    one.sync()
    ((_, fields),) = one.client.xrange(STREAM)
    good = msgspec.json.decode(fields[b"call"])
    for place, value in ((1, 0), (2, -1.0), (3, "x" * 1001), (7, -1), (13, 2**63), (22, "x" * 300_000)):
        one.client.xadd(STREAM, {"call": msgspec.json.encode([*good[:place], value, *good[place + 1 :]])})
    for entry in GARBAGE:
        one.client.xadd(STREAM, entry)
    odd = [*good]
    odd[0], odd[3], odd[22] = "f" * 32, "a\x1b[31m", '{"tools":{"Read":-5,"Ba\\u001bsh":3},"parent":7'
    one.client.xadd(STREAM, {"call": msgspec.json.encode(odd)})
    two.sync()
    assert sorted(row.key for row in calls(two.usage, CallFilter()).rows) == [r"a\x1b[31m", "laptop"]
    assert two.link_events == ["commons.value_failed"]
    assert two.usage.fault == ""


def test_calls_of_too_many_stores_are_not_taken(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_sharing, "MAX_STORES", 1)
    one, two = machines
    one.add()
    one.sync()
    ((_, fields),) = one.client.xrange(STREAM)
    other = ["f" * 32, *msgspec.json.decode(fields[b"call"])[1:]]
    one.client.xadd(STREAM, {"call": msgspec.json.encode(other)})
    two.sync()
    assert two.ids() == ["r1"]


def test_where_usage_is_not_kept_nothing_is_exchanged(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    SharedUsage(NoUsage(), one.client, one.link, lambda: "a" * 32).sync()
    assert one.client.xlen(STREAM) == 0


def test_writing_goes_to_a_thread_while_others_run() -> None:
    steps: list[str] = []
    gevent.spawn(steps.append, "other")
    assert in_thread(lambda: steps.append("written") or 7) == 7
    assert sorted(steps) == ["other", "written"]


def test_a_store_of_calls_without_documents_is_shared_as_well(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.path.parent.parent.mkdir(exist_ok=True)
    one.put_file_of_before()
    one.add(Usage())
    one.sync()
    two.sync()
    assert len(two.ids()) == 61
    assert two.usage.spent("laptop", 0.0) == pytest.approx(one.usage.spent("laptop", 0.0))
