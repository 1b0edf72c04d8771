"""Metrics of several gateways in one Redis: counted once, whoever is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from compat.cluster.metrics import COUNTS, GATEWAYS, NOW, SharedMetrics
from compat.storage.redis_link import Link, redis_client, redis_errors
from compat.telemetry.metrics import Metrics, Readings
from tests.fakes.redis_server import RedisServer, needs_redis

pytestmark = [pytest.mark.heavy, needs_redis]
RECORD = {"model": "m", "deployment": "up/m", "outcome": "ok", "status": 200, "duration_ms": 30, "attempts": 1, "client": "c"}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def desks(redis: RedisServer) -> Iterator[list[Desk]]:
    made = [Desk(name, redis) for name in ("one", "two")]
    yield made
    for desk in made:
        desk.client.close()


class Desk:
    def __init__(self, name: str, redis: RedisServer) -> None:
        self.now_s = 0.0
        self.metrics = Metrics(is_shared=False)
        self.client = redis_client(redis.url)
        self.events: list[str] = []
        link = Link("commons", lambda: self.now_s, lambda name, _fields: self.events.append(name), redis_errors())
        self.shared = SharedMetrics(self.metrics, self.client, link, name)

    def calls(self, count: int) -> None:
        for _ in range(count):
            self.metrics.began()
            self.metrics.observe(RECORD)

    def text(self) -> str:
        told = self.shared.render()
        assert told is not None
        return told[1].decode()


def value_of(text: str, series: str) -> float:
    found = re.findall(rf"^{series}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def test_counts_add_up_and_each_is_told_once(desks: list[Desk]) -> None:
    one, two = desks
    one.calls(3)
    two.calls(2)
    two.shared.push()
    for _ in range(3):
        assert value_of(one.text(), "openai_compat_calls_total") == 5
    one.calls(1)
    assert value_of(two.text(), "openai_compat_calls_total") == 5, "not pushed yet"
    assert value_of(one.text(), "openai_compat_calls_total") == 6
    assert value_of(two.text(), "gen_ai_server_request_duration_seconds_count") == 6
    assert "process_" not in two.text()
    assert one.client.ttl(COUNTS) > 86_400


def test_what_is_going_on_is_gone_with_its_gateway_and_counts_are_not(desks: list[Desk]) -> None:
    one, two = desks
    one.calls(1)
    for desk in (one, two):
        desk.metrics.sample(Readings(gates={"up": {"limit": 16, "in_flight": 1, "waiting": 0}}))
        desk.shared.push()
    assert value_of(one.text(), "openai_compat_concurrency_limit") == 32
    two.client.delete(f"{NOW}one")  # as when it has expired
    assert value_of(two.text(), "openai_compat_concurrency_limit") == 16
    assert two.client.smembers(GATEWAYS) == {b"two"}
    assert value_of(two.text(), "openai_compat_calls_total") == 1


def test_what_was_counted_while_redis_is_gone_is_told_once_it_is_back(desks: list[Desk], redis: RedisServer) -> None:
    desk = desks[0]
    desk.calls(2)
    desk.shared.push()
    redis.stop()
    desk.calls(1)
    assert desk.shared.render() is None
    assert not desk.shared.push()
    redis.start()  # with nothing in it, as after a crash
    desk.now_s += 10
    assert value_of(desk.text(), "openai_compat_calls_total") == 1


def test_what_a_gateway_of_another_version_counts_is_left_out(desks: list[Desk]) -> None:
    desk = desks[0]
    desk.calls(1)
    desk.client.hset(COUNTS, json.dumps(["of_tomorrow", [], "", "of_tomorrow_total"]), 5)
    assert "of_tomorrow" not in desk.text()
    assert value_of(desk.text(), "openai_compat_calls_total") == 1


CALLS = "openai_compat_calls_total"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"\xff", b"1"),
        (b"[", b"1"),
        (b"7", b"1"),
        (b'["openai_compat_calls"]', b"1"),
        (b'["openai_compat_calls",[["model","m"]],"","evil 1\\nother"]', b"1"),
        (b'["openai_compat_calls",[["model","m"]],"",""]', b"1"),
        (b'["openai_compat_calls",[["a b} 1\\nother{c","m"]],"","openai_compat_calls_total"]', b"1"),
        (b'["openai_compat_calls",[["model",7]],"","openai_compat_calls_total"]', b"1"),
        (b'["gen_ai_server_request_duration_seconds",[],"x","gen_ai_server_request_duration_seconds_bucket"]', b"1"),
        (b'["openai_compat_calls",[],"","openai_compat_calls_total"]', b"x"),
        (b'["openai_compat_calls",[],"","openai_compat_calls_total"]', b"nan"),
        (b'["openai_compat_calls",[],"","openai_compat_calls_total"]', b"inf"),
        (b"[" * 100_000, b"1"),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_a_count_that_no_gateway_made_is_left_out(desks: list[Desk], field: bytes, value: bytes) -> None:
    desk = desks[0]
    desk.calls(2)
    desk.client.hset(COUNTS, field, value)
    text = desk.text()
    assert value_of(text, CALLS) == 2
    assert "other" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    assert desk.shared._link.fault == ""


@pytest.mark.parametrize(
    "packed", [b"\xff", b"[]", b'{"a":"b"}', b'{"a":1e999}', b"7", b"[" * 100_000], ids=lambda packed: ascii(packed)[:20]
)
def test_what_another_gateway_tells_of_just_now_may_be_anything(desks: list[Desk], packed: bytes) -> None:
    desk = desks[0]
    desk.calls(2)
    desk.client.sadd(GATEWAYS, "\u4e2d", b"\xff")
    desk.client.set(NOW.encode() + b"\xff", packed)
    assert value_of(desk.text(), CALLS) == 2
    assert desk.events == ["commons.value_failed"]
    assert desk.client.smembers(GATEWAYS) == {b"one", b"\xff"}


def test_a_count_that_can_not_be_added_to_is_taken_away_and_begins_anew(desks: list[Desk]) -> None:
    desk = desks[0]
    desk.calls(2)
    assert value_of(desk.text(), CALLS) == 2
    (field,) = [field for field in desk.client.hkeys(COUNTS) if CALLS.encode() in field]
    desk.client.hset(COUNTS, field, "x")
    desk.calls(1)
    desk.text()
    assert value_of(desk.text(), CALLS) == 3
    assert value_of(desk.text(), "gen_ai_server_request_duration_seconds_count") == 3
    assert (desk.events, desk.shared._link.fault) == (["commons.value_failed"], "")


@pytest.mark.parametrize("key", [COUNTS, GATEWAYS])
def test_a_key_of_another_kind_is_taken_away(desks: list[Desk], key: str) -> None:
    desk = desks[0]
    desk.calls(1)
    desk.client.set(key, "x")
    desk.shared.push()
    assert value_of(desk.text(), CALLS) == 1
    assert (desk.events, desk.shared._link.fault) == (["commons.value_failed"], "")
