"""Flights over a Redis: whom a flight follows, and what becomes of claims. Whole ways are in `tests/integration/test_one_redis.py`."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator

import gevent
import msgspec
import pytest

from compat.redis_link import KEY_PREFIX, Link, redis_client, redis_errors
from compat.routing.shared_flight import FOLLOWED, Head, SharedFlights
from compat.routing.single_flight import SingleFlight
from compat.sections import SingleFlightSettings
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.integration.services_folder import until

pytestmark = [pytest.mark.heavy, needs_redis]
CLAIM = f"{KEY_PREFIX}:flight:key"
FRAMES = f"{KEY_PREFIX}:flight:frames:"


class Call:
    """A call of this gateway."""

    request_id = "own"

    def headers(self) -> list[tuple[str, str]]:
        return [("x", "own")]


class Desk:
    """One gateway's flights; names count up from `own0`."""

    def __init__(self, redis: RedisServer) -> None:
        self.client = redis_client(redis.url)
        self.local: SingleFlight[object] = SingleFlight(SingleFlightSettings())
        numbers = itertools.count()
        link = Link("commons", lambda: 0.0, lambda _name, _fields: None, redis_errors())
        self.flights = SharedFlights(self.local, self.client, link, lambda: f"own{next(numbers)}")
        self.gate = gevent.event.Event()
        self.calls = 0

    def frames(self) -> Generator[bytes, None, None]:
        self.calls += 1
        yield b"first"
        self.gate.wait(20)
        yield b"last"

    def write(self, name: str, kind: bytes, data: bytes) -> None:
        self.client.xadd(FRAMES + name, {kind: data})


@pytest.fixture
def desk() -> Iterator[Desk]:
    with RedisServer() as redis:
        made = Desk(redis)
        yield made
        made.gate.set()
        until(lambda: not len(made.local), "its flights are over")
        made.client.close()


def test_a_flight_that_leads_has_the_claim_while_it_runs_and_no_longer(desk: Desk) -> None:
    reader = desk.flights.join("key", Call(), desk.frames())
    assert next(reader) == b"first"
    assert desk.client.get(CLAIM) == b"own0"
    desk.gate.set()
    assert list(reader) == [b"last"]
    until(lambda: desk.client.get(CLAIM) is None, "it is let go of", bound_s=5)
    assert (reader.leader.request_id, reader.leader.headers()) == ("own", [("x", "own")])


def test_an_answer_that_is_there_is_followed_to_its_end_without_a_call(desk: Desk) -> None:
    desk.client.set(CLAIM, "theirs", px=20_000)
    head = Head("far", [("x", "far")])
    for kind, data in ((b"head", msgspec.json.encode(head)), (b"frame", b"one"), (b"frame", b"two"), (b"end", b"")):
        desk.write("theirs", kind, data)
    reader = desk.flights.join("key", Call(), desk.frames())
    assert list(reader) == [b"one", b"two"]
    assert (reader.leader.request_id, reader.leader.headers()) == ("far", [("x", "far")])
    assert desk.calls == 0


@pytest.mark.parametrize(
    "entries",
    [[(b"lost", b"")], [(b"head", b"not json")], [(b"head", msgspec.json.encode(Head("far", []))), (b"lost", b"")]],
    ids=["failed", "damaged", "lost after its head"],
)
def test_what_ends_before_its_first_frame_is_called_for_here(desk: Desk, entries: list[tuple[bytes, bytes]]) -> None:
    desk.client.set(CLAIM, "theirs", px=20_000)
    for kind, data in entries:
        desk.write("theirs", kind, data)
    desk.gate.set()
    reader = desk.flights.join("key", Call(), desk.frames())
    assert list(reader) == [b"first", b"last"]
    assert reader.leader.request_id == "own"
    assert desk.calls == 1


def test_what_breaks_after_its_first_frame_ends_with_an_error(desk: Desk) -> None:
    desk.client.set(CLAIM, "theirs", px=20_000)
    for kind, data in ((b"head", msgspec.json.encode(Head("far", []))), (b"frame", b"one"), (b"lost", b"")):
        desk.write("theirs", kind, data)
    frames = list(desk.flights.join("key", Call(), desk.frames()))
    assert frames[0] == b"one"
    assert b"was lost in the middle of its answer" in frames[1]
    assert desk.calls == 0


def test_a_leader_that_is_gone_is_waited_for_until_its_claim_ends_and_its_place_is_taken(desk: Desk) -> None:
    desk.client.set(CLAIM, "theirs", px=500)
    reader = desk.flights.join("key", Call(), desk.frames())
    assert next(reader) == b"first"
    assert desk.client.get(CLAIM) == b"own0"


def test_a_flight_without_the_claim_does_not_prolong_anothers(desk: Desk) -> None:
    desk.client.set(CLAIM, "theirs", px=60_000)
    desk.write("theirs", b"lost", b"")
    reader = desk.flights.join("key", Call(), desk.frames())
    assert next(reader) == b"first"
    before_ms = desk.client.pttl(CLAIM)
    until(lambda: desk.client.pttl(CLAIM) < before_ms - 700, "it runs down", bound_s=5)
    desk.gate.set()
    assert list(reader) == [b"last"]
    assert desk.client.get(CLAIM) == b"theirs", "and does not take it away"
    assert FOLLOWED > 1
