"""Flights over a Redis: whom a flight follows, and what becomes of claims. Whole ways are in `tests/integration/test_one_redis.py`."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator

import gevent
import msgspec
import pytest

from compat.cluster.flights import FOLLOWED, Head, SharedFlights, read_head
from compat.config.sections import SingleFlightSettings
from compat.errors import GatewayError
from compat.reuse.single_flight import SingleFlight
from compat.storage.redis_link import KEY_PREFIX, Link, redis_client, redis_errors
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

    def error_frame(self, error: GatewayError) -> bytes:
        return b"failed: %s\n\n" % error.message.encode()


class Desk:
    """One gateway's flights; names count up from `own0`."""

    def __init__(self, redis: RedisServer) -> None:
        self.client = redis_client(redis.url)
        self.local: SingleFlight = SingleFlight(SingleFlightSettings())
        numbers = itertools.count()
        self.events: list[str] = []
        link = Link("commons", lambda: 0.0, lambda name, _fields: self.events.append(name), redis_errors())
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
    head = Head("far", [("x-compat-upstream", "far")])
    for kind, data in ((b"head", msgspec.json.encode(head)), (b"frame", b"one"), (b"frame", b"two"), (b"end", b"")):
        desk.write("theirs", kind, data)
    reader = desk.flights.join("key", Call(), desk.frames())
    assert list(reader) == [b"one", b"two"]
    assert (reader.leader.request_id, reader.leader.headers()) == ("far", [("x-compat-upstream", "far")])
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


BAD_HEADERS = [
    *(("content-length", "5"), ("transfer-encoding", "chunked"), ("set-cookie", "a=b"), ("x-accel-redirect", "/etc/passwd")),
    *(("x-compat-notes", "a\r\nset-cookie: b"), ("x-compat-notes", "\u4e2d"), ("x-compat-notes", "\xe9"), ("x-compat-a\nb", "c")),
    *(("", ""), ("x-compat-notes", "x" * 10_000), ("X-Compat-Notes", "a")),
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=lambda header: ascii(header)[:40])
def test_a_head_whose_headers_no_gateway_tells_is_none(header: tuple[str, str]) -> None:
    assert read_head(msgspec.json.encode(Head("far", [("x-cache", "hit"), ("x-compat-upstream", "up/m"), ("x-ratelimit-limit-usd", "5")])))
    with pytest.raises(ValueError, match="not a head of ours"):
        read_head(msgspec.json.encode(Head("far", [("x-cache", "hit"), header])))


@pytest.mark.parametrize("request_id", ["", "a\r\nb", "\u4e2d", "x" * 200])
def test_a_head_whose_id_no_gateway_gives_is_none(request_id: str) -> None:
    with pytest.raises(ValueError, match="not a head of ours"):
        read_head(msgspec.json.encode(Head(request_id, [])))


GOOD_HEAD = (b"head", msgspec.json.encode(Head("far", [("x-cache", "hit")])))


@pytest.mark.parametrize(
    ("claim", "entries"),
    [
        (b"\xff\xfe", []),
        (b"a b", []),
        (b"x" * 100, []),
        (b"theirs", [(b"head", b'{"request_id":"\xff","headers":[]}')]),
        (b"theirs", [(b"head", b"[" * 10_000)]),
        (b"theirs", [(b"head", msgspec.json.encode(Head("far", [("content-length", "1")])))]),
        (b"theirs", [(b"head", msgspec.json.encode(Head("far", [("x-compat-notes", "a\r\nb: c")])))]),
        (b"theirs", [(b"frame", b"one"), (b"end", b"")]),
        (b"theirs", [GOOD_HEAD, (b"frame", b"")]),
        (b"theirs", [GOOD_HEAD, GOOD_HEAD]),
        (b"theirs", [GOOD_HEAD, (b"\xff", b"x")]),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_promise_18_what_no_gateway_can_have_written_is_told_once_and_the_call_is_made_here(
    desk: Desk, claim: bytes, entries: list[tuple[bytes, bytes]]
) -> None:
    desk.client.set(CLAIM, claim, px=20_000)
    for kind, data in entries:
        desk.write("theirs", kind, data)
    desk.gate.set()
    reader = desk.flights.join("key", Call(), desk.frames())
    assert list(reader) == [b"first", b"last"]
    assert (reader.leader.request_id, reader.leader.headers()) == ("own", [("x", "own")])
    assert desk.events == ["commons.value_failed"]


def test_an_end_without_a_frame_is_called_for_here(desk: Desk) -> None:
    desk.client.set(CLAIM, "theirs", px=20_000)
    for kind, data in (GOOD_HEAD, (b"end", b"")):
        desk.write("theirs", kind, data)
    desk.gate.set()
    assert list(desk.flights.join("key", Call(), desk.frames())) == [b"first", b"last"]
    assert desk.events == []


@pytest.mark.parametrize("entry", [(b"frame", b""), GOOD_HEAD, (b"other", b"x")], ids=["an empty frame", "a head", "another kind"])
def test_what_no_gateway_can_have_written_after_the_first_frame_ends_with_an_error(desk: Desk, entry: tuple[bytes, bytes]) -> None:
    """Never with the answer once more."""
    desk.client.set(CLAIM, "theirs", px=20_000)
    for kind, data in (GOOD_HEAD, (b"frame", b"one"), entry, (b"end", b"")):
        desk.write("theirs", kind, data)
    frames = list(desk.flights.join("key", Call(), desk.frames()))
    assert frames[0] == b"one"
    assert b"was lost in the middle of its answer" in frames[1]
    assert (desk.calls, desk.events) == (0, ["commons.value_failed"])


def test_what_breaks_after_its_first_frame_ends_with_an_error(desk: Desk) -> None:
    desk.client.set(CLAIM, "theirs", px=20_000)
    for kind, data in ((b"head", msgspec.json.encode(Head("far", []))), (b"frame", b"one"), (b"lost", b"")):
        desk.write("theirs", kind, data)
    frames = list(desk.flights.join("key", Call(), desk.frames()))
    assert frames[0] == b"one"
    assert b"was lost in the middle of its answer" in frames[1]
    assert desk.calls == 0


@pytest.mark.slow
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
