"""Circuits of several gateways: what is told, what is heard, and what is not believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from compat.cluster.circuits import FORGET_S, KEY, SKEW_S, CircuitBoard, Entry
from compat.config.sections import CircuitSettings
from compat.errors import UpstreamFailure
from compat.routing.circuit import CircuitChange, CircuitKey, Circuits
from compat.storage.redis_link import RETRY_S, Link

PLACE = CircuitKey("up", "0123456789abcdef", "model")
FIELD = msgspec.json.encode([PLACE.upstream, PLACE.credential, PLACE.model])


class FakeHash:
    """The part of a Redis client that is used."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.is_gone = False

    def hset(self, key: str, *, mapping: Mapping[bytes, bytes]) -> int:
        self._look(key)
        self.entries |= mapping
        return 0

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        self._look(key)
        return dict(self.entries)

    def hdel(self, key: str, *fields: bytes) -> int:
        self._look(key)
        for field in fields:
            del self.entries[field]
        return len(fields)

    def _look(self, key: str) -> None:
        assert key == KEY
        if self.is_gone:
            raise ConnectionError


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def now(self) -> float:
        return self.now_s

    monotonic = now


class Desk:
    """One gateway's circuits and its board."""

    def __init__(self, name: str, client: FakeHash, clock: Clock) -> None:
        self.events: list[str] = []
        self.clock = clock
        link = Link("commons", clock.monotonic, lambda event, _: self.events.append(event), (OSError,))
        self.board = CircuitBoard(client, link, clock.now, name)
        self.circuits = Circuits(CircuitSettings(failures=2, cooldown_s=10), clock, self._on_change)

    def _on_change(self, change: CircuitChange) -> None:
        self.events.append(change.state)
        self.board.note(change)

    def fail(self, count: int = 2) -> None:
        for _ in range(count):
            self.circuits.of(PLACE).admit().failed(UpstreamFailure("Broken."))

    def succeed(self) -> None:
        self.circuits.of(PLACE).admit().succeeded()

    def sync(self) -> None:
        self.board.sync(self.circuits)

    @property
    def state(self) -> str:
        return self.circuits.of(PLACE).state


@pytest.fixture
def client() -> FakeHash:
    return FakeHash()


@pytest.fixture
def desks(client: FakeHash) -> list[Desk]:
    clock = Clock()
    return [Desk(name, client, clock) for name in ("one", "two", "three")]


def synced(*desks: Desk) -> None:
    for desk in desks:
        desk.sync()


def test_an_opening_is_heard_with_its_cause_and_its_time(desks: list[Desk]) -> None:
    one, two, _ = desks
    one.fail()
    one.clock.now_s += 4
    synced(one, two)
    report = two.circuits.of(PLACE).report()
    assert (report["state"], report["failures"], report["cause"], report["next_probe_s"]) == ("open", 2, "Broken.", 6.0)
    assert two.events == ["open"], "it is told here as any change, and not told back"
    synced(two, one, two)
    assert (one.events, two.events) == (["open"], ["open"])


def test_a_closing_is_heard_by_those_that_are_open_or_half_open(desks: list[Desk]) -> None:
    one, two, three = desks
    one.fail()
    synced(*desks)
    one.clock.now_s += 11
    probe = three.circuits.of(PLACE).admit()
    assert three.state == "half-open"
    one.succeed()
    synced(one, two, three)
    assert [desk.state for desk in desks] == ["closed"] * 3
    assert two.circuits.of(PLACE).failures == 0
    probe.failed(UpstreamFailure("Broken."))
    assert three.state == "closed", "its own probe's word comes too late to open it again at once"
    assert three.circuits.of(PLACE).failures <= 1


def test_a_probe_under_way_is_not_ended_by_an_opening_elsewhere(desks: list[Desk]) -> None:
    one, two, _ = desks
    one.fail()
    synced(one, two)
    one.clock.now_s += 11
    probe = two.circuits.of(PLACE).admit()
    with_probe = one.circuits.of(PLACE).admit()
    with_probe.failed(UpstreamFailure("Broken."))
    synced(one, two)
    assert two.state == "half-open"
    probe.succeeded()
    synced(two, one)
    assert one.state == "closed"


def test_what_can_not_be_told_now_is_told_later(desks: list[Desk], client: FakeHash) -> None:
    one, two, _ = desks
    client.is_gone = True
    one.fail()
    synced(one, two)
    assert two.state == "closed"
    client.is_gone = False
    one.sync()
    assert not client.entries, "it is left alone for a while"
    one.clock.now_s += RETRY_S
    synced(one, two)
    assert two.state == "open"
    assert one.events == ["open", "commons.failed", "commons.recovered"]


def test_a_closing_of_a_circuit_that_nobody_here_used_makes_none(desks: list[Desk], client: FakeHash) -> None:
    client.entries[FIELD] = entry("closed", desks[0].clock.now_s)
    desks[0].sync()
    assert desks[0].circuits.report() == []
    assert desks[0].events == []


GOOD = {
    "by": "x",
    "at_s": 1.7e9,
    "upstream": "up",
    "credential": PLACE.credential,
    "model": "model",
    "state": "open",
    "failures": 2,
    "cause": "",
}


def hostile(**changes: object) -> bytes:
    return msgspec.json.encode({**GOOD, **changes})


@pytest.mark.parametrize(
    "packed",
    [
        *(
            b"not json",
            b"\xff",
            b"[" * 100_000,
            b'{"by": 1}',
            hostile().replace(b'"up"', b'"\xff"'),
            hostile().replace(b"1700000000.0", b"1e999"),
        ),
        *(hostile(state=state) for state in ("ajar", "half-open", 7)),
        *(hostile(at_s=at_s) for at_s in (-1, 1.7e9 + SKEW_S + 1, 1e300)),
        *(hostile(failures=failures) for failures in (-1, 10**18, "2")),
        *(hostile(cause=cause) for cause in ("a\nb", "\x1b[2J", "\u202e", "x" * 5000, None)),
        *(hostile(model=model) for model in ("another", "a\r\nb", "x" * 5000)),
    ],
    ids=lambda packed: repr(packed)[-40:],
)
def test_what_no_gateway_can_have_written_is_taken_away_unheard_and_told_once(desks: list[Desk], client: FakeHash, packed: bytes) -> None:
    for _ in range(2):
        client.entries[FIELD] = packed
        desks[0].sync()
        assert client.entries == {}
    assert desks[0].circuits.report() == []
    assert desks[0].events == ["commons.value_failed"]
    client.entries[FIELD] = hostile()
    desks[0].sync()
    assert desks[0].events == ["commons.value_failed", "open"]


def test_an_entry_in_anothers_place_is_taken_away_unheard(desks: list[Desk], client: FakeHash) -> None:
    client.entries = {b"field": hostile(), b"\xff": hostile()}
    desks[0].sync()
    assert client.entries == {}
    assert desks[0].circuits.report() == []


def test_what_is_old_is_taken_away_unheard(desks: list[Desk], client: FakeHash) -> None:
    client.entries[FIELD] = hostile(at_s=1.7e9 - FORGET_S - 1)
    desks[0].sync()
    assert client.entries == {}
    assert (desks[0].circuits.report(), desks[0].events) == ([], [])


def test_a_cause_is_told_as_it_can_be_shown_and_a_name_that_can_not_be_is_not_told(desks: list[Desk], client: FakeHash) -> None:
    one, two, _ = desks
    one.circuits.of(PLACE).admit().failed(UpstreamFailure("Broken\r\nhere."))
    one.circuits.of(PLACE).admit().failed(UpstreamFailure("Broken\r\nhere."))
    one.board.note(CircuitChange(CircuitKey("up", "", "a\r\nb"), "open", 2, "Broken."))
    synced(one, two)
    assert two.circuits.of(PLACE).report()["cause"] == "Broken??here."
    assert list(client.entries) == [FIELD]
    assert two.events == ["open"]


def test_whether_an_open_one_is_dead_is_heard_as_well(desks: list[Desk]) -> None:
    one, two, three = desks
    one.fail()
    synced(*desks)
    assert not two.circuits.of(PLACE).is_ailing
    for desk in desks:
        desk.circuits = Circuits(CircuitSettings(failures=20, min_calls=10, cooldown_s=10), desk.clock, desk._on_change)
    one.succeed()
    one.fail(9)
    synced(*desks)
    assert two.circuits.of(PLACE).is_ailing
    assert two.circuits.of(PLACE).state == three.circuits.of(PLACE).state == "open"


def test_an_older_gateways_opening_is_that_of_a_dead_one(desks: list[Desk], client: FakeHash) -> None:
    told = msgspec.json.decode(entry("open", desks[0].clock.now_s))
    del told["is_dead"]
    client.entries[FIELD] = msgspec.json.encode(told)
    desks[0].sync()
    assert desks[0].state == "open"
    assert not desks[0].circuits.of(PLACE).is_ailing


def test_a_gateway_that_begins_hears_what_was_told_before(desks: list[Desk], client: FakeHash) -> None:
    client.entries[FIELD] = entry("open", desks[0].clock.now_s - 3, failures=1_000_000)
    desks[0].sync()
    assert desks[0].state == "open"
    assert desks[0].circuits.of(PLACE).failures == 2


def entry(state: str, at_s: float, failures: int = 2) -> bytes:
    fields: Any = (PLACE.upstream, PLACE.credential, PLACE.model, state, failures, "Broken.")
    return msgspec.json.encode(Entry("elsewhere", at_s, *fields))
