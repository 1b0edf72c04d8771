"""What is stored of answers: found by their own client alone, bounded, gone in time, and readable by others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from compat.storage.background import StoreFailed
from compat.storage.redis_link import RETRY_S, Link
from compat.stored.base import LEASE_S, Record, ResponseStore, StoreUnavailable
from compat.stored.redis import RedisResponses
from compat.stored.sqlite import SqliteResponses
from tests.fakes.redis_server import PROGRAM, RedisServer
from tests.unit.builders import StillClock

DAY_S = 86_400.0
MIB = 2**20
ITEMS = b'[{"role":"user","content":"Hi"}]'


def record(answer_id: str, body: bytes = b'{"id":"x"}', **more: object) -> Record:
    return Record(answer_id, str(more.pop("status", "completed")), body, ITEMS, **more)


class Bench:
    """A clock, and stores over the same place."""

    def __init__(self, kind: str, folder: Path, server: RedisServer | None) -> None:
        self.kind, self.folder, self.server = kind, folder, server
        self.clock = StillClock()
        self.events: list[str] = []
        self._made: list[ResponseStore] = []

    def store(self, max_bytes: int = 8 * MIB, max_rows: int = 100) -> ResponseStore:
        self._made.append(self._store(max_bytes, max_rows))
        return self._made[-1]

    def close(self) -> None:
        for store in self._made:
            store.close()

    def _store(self, max_bytes: int, max_rows: int) -> ResponseStore:
        link = Link("responses", self.clock.monotonic, lambda name, _: self.events.append(name), (StoreFailed, redis.RedisError, OSError))
        if self.server is not None:
            client = redis.Redis.from_url(self.server.url, socket_timeout=0.5, socket_connect_timeout=0.5)
            return ResponseStore(link, RedisResponses(client, ttl_s=DAY_S))
        path = self.folder / "responses.sqlite"
        return ResponseStore(link, SqliteResponses(path, self.clock.now, max_bytes=max_bytes, ttl_s=DAY_S, max_rows=max_rows))

    def sqlite(self) -> Path:
        return self.folder / "responses.sqlite"


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        bench = Bench(kind, tmp_path, None)
        yield bench
        bench.close()
        return
    if PROGRAM is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield Bench(kind, tmp_path, server)


both = pytest.mark.parametrize("bench", ["sqlite", "redis"], indirect=True)


@both
def test_an_answer_is_found_by_its_client_alone_and_by_another_process(bench: Bench) -> None:
    kept = record("resp_1", previous="resp_0", is_background=True, has_frames=True, saved_s=5.0)
    assert bench.store().save("ada", kept)
    other = bench.store()
    found = other.find("ada", "resp_1")
    assert found is not None
    assert found.record == kept
    assert other.find("bob", "resp_1") is None
    assert other.find("ada", "resp_2") is None
    assert not other.delete("bob", "resp_1")
    other.cancel("bob", "resp_1")
    assert other.is_wanted("ada", "resp_1", 6.0)


@both
def test_an_answer_that_is_deleted_is_gone_with_its_stream(bench: Bench) -> None:
    store = bench.store()
    store.save("ada", record("resp_1"))
    store.add_frames("ada", "resp_1", 0, b"a")
    assert store.delete("ada", "resp_1")
    assert not store.delete("ada", "resp_1")
    assert store.find("ada", "resp_1") is None
    assert store.frames("ada", "resp_1", 0) == []
    assert not store.is_wanted("ada", "resp_1", 6.0)


@both
def test_a_later_state_takes_the_place_of_an_earlier_one(bench: Bench) -> None:
    store = bench.store()
    store.save("ada", record("resp_1", status="queued"))
    store.save("ada", record("resp_1", b'{"id":"y"}'))
    found = store.find("ada", "resp_1")
    assert found is not None
    assert (found.record.status, found.record.body) == ("completed", b'{"id":"y"}')


@both
def test_a_stream_is_read_on_from_any_part(bench: Bench) -> None:
    store = bench.store()
    store.save("ada", record("resp_1"))
    for number in range(12):
        assert store.add_frames("ada", "resp_1", number, b"part %d" % number)
    assert store.frames("ada", "resp_1", 9) == [b"part 9", b"part 10", b"part 11"]
    assert store.frames("bob", "resp_1", 0) == []


@both
def test_it_is_known_whether_somebody_is_at_an_answer_and_whether_it_is_wanted(bench: Bench) -> None:
    store = bench.store()
    store.save("ada", record("resp_1", status="in_progress", saved_s=100.0))
    assert store.is_wanted("ada", "resp_1", 200.0)
    found = store.find("ada", "resp_1")
    assert found is not None
    assert found.is_being_made(200.0 + LEASE_S - 1)
    assert not found.is_being_made(200.0 + LEASE_S)
    store.cancel("ada", "resp_1")
    assert not store.is_wanted("ada", "resp_1", 201.0)


@both
def test_an_answer_that_is_too_long_is_not_kept(bench: Bench) -> None:
    store = bench.store()
    assert not store.save("ada", record("resp_1", bytes(9 * MIB)))
    assert store.find("ada", "resp_1") is None


def test_answers_expire(bench: Bench) -> None:
    store = bench.store()
    store.save("ada", record("resp_1"))
    bench.clock.now_s += DAY_S - 1
    assert store.find("ada", "resp_1") is not None
    bench.clock.now_s += 1
    assert store.find("ada", "resp_1") is None
    store.save("ada", record("resp_2"))
    bench.clock.now_s -= DAY_S
    assert store.find("ada", "resp_1") is None, "it is gone, not only hidden"


def test_redis_lets_answers_expire(tmp_path: Path) -> None:
    if PROGRAM is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        store = Bench("redis", tmp_path, server).store()
        store.save("ada", record("resp_1"))
        store.add_frames("ada", "resp_1", 0, b"a")
        store.is_wanted("ada", "resp_1", 1.0)
        store.cancel("ada", "resp_1")
        client = redis.Redis.from_url(server.url)
        names = client.keys("*")
        assert len(names) == 4
        assert all(0 < client.ttl(name) <= DAY_S for name in names)
        assert not any(b"ada" in name or b"resp_1" in name for name in names)


def test_the_oldest_answers_go_where_there_are_too_many(bench: Bench) -> None:
    store = bench.store(max_rows=3)
    for number in range(5):
        store.save("ada", record(f"resp_{number}"))
    assert [store.find("ada", f"resp_{number}") is not None for number in range(5)] == [False, False, True, True, True]


def test_the_oldest_answers_go_where_there_is_no_room(bench: Bench) -> None:
    store = bench.store(max_bytes=MIB)
    for number in range(60):
        assert store.save("ada", record(f"resp_{number}", bytes(50_000)))
    kept = [number for number in range(60) if store.find("ada", f"resp_{number}") is not None]
    assert 1 <= len(kept) <= 20
    assert kept[-1] == 59
    assert kept == list(range(kept[0], 60))


def test_a_stream_that_outgrows_the_room_takes_it_from_the_oldest(bench: Bench) -> None:
    store = bench.store(max_bytes=MIB)
    store.save("ada", record("resp_1"))
    for number in range(40):
        store.add_frames("ada", "resp_1", number, bytes(50_000))
    assert store.find("ada", "resp_1") is None


def test_a_file_that_is_broken_is_set_aside_and_a_new_one_begun(bench: Bench) -> None:
    bench.sqlite().write_bytes(b"no database" * 500)
    store = bench.store()
    assert store.save("ada", record("resp_1"))
    assert store.find("ada", "resp_1") is not None
    assert bench.sqlite().with_name("responses.sqlite.broken").exists()


def test_the_file_is_its_owners_alone(bench: Bench) -> None:
    store = bench.store()
    store.save("ada", record("resp_1"))
    assert bench.sqlite().stat().st_mode & 0o777 == 0o600
    store.close()
    assert store.save("ada", record("resp_2")), "what ends late can still be written"


def test_a_folder_in_the_files_place_is_reported_once_and_asked_again_later(bench: Bench) -> None:
    bench.sqlite().mkdir()
    store = bench.store()
    assert not store.save("ada", record("resp_1"))
    with pytest.raises(StoreUnavailable):
        store.find("ada", "resp_1")
    with pytest.raises(StoreUnavailable):
        store.delete("ada", "resp_1")
    assert store.is_wanted("ada", "resp_1", 1.0), "nobody said that it is not"
    assert bench.events == ["responses.failed"]
    assert store.fault
    bench.sqlite().rmdir()
    bench.clock.monotonic_s += RETRY_S
    assert store.save("ada", record("resp_1"))
    assert (store.fault, bench.events) == ("", ["responses.failed", "responses.recovered"])


@pytest.mark.parametrize("value", [b"", b"junk", b"\x93\x01\x02\x03"])
def test_what_no_gateway_wrote_is_no_answer(tmp_path: Path, value: bytes) -> None:
    if PROGRAM is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        bench = Bench("redis", tmp_path, server)
        store = bench.store()
        store.save("ada", record("resp_1", status="in_progress"))
        store.is_wanted("ada", "resp_1", 7.0)
        client = redis.Redis.from_url(server.url)
        [beat] = client.keys("*:beat")
        client.set(beat, b"soon")
        found = store.find("ada", "resp_1")
        assert found is not None
        assert found.beat_s == 0
        client.set(beat.removesuffix(b":beat"), value)
        assert store.find("ada", "resp_1") is None
        assert bench.events == ["responses.value_failed"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux says how many threads there are")
def test_the_thread_of_a_file_ends_with_its_store(bench: Bench) -> None:
    before = len(list(Path("/proc/self/task").iterdir()))
    unused, used = bench.store(), bench.store()
    used.save("ada", record("resp_1"))
    for store in (unused, used):
        store.close()
    assert len(list(Path("/proc/self/task").iterdir())) == before


def test_a_store_without_a_place_is_off(bench: Bench) -> None:
    store = ResponseStore(Link("responses", bench.clock.monotonic, lambda *_: None, ()))
    assert not store.is_on
    assert store.fault == ""
    store.close()
    with pytest.raises(AssertionError):
        store.find("ada", "resp_1")
