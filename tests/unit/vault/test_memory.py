"""The thinking vault: what is found, for how long, by whom; and what happens to files and servers that fail."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import gevent
import pytest

import compat
from compat.protocols.base import ThinkingRecord
from compat.storage.background import RETRY_S, TIDY_S, NativeThread
from compat.vault.buffered import MAX_BATCH_BYTES, MAX_PENDING_BYTES, MEMORY_BYTES, BufferedVault, ThinkingVault
from compat.vault.memory import MAX_IDS, MemoryVault, call_keys, pack, unpack
from compat.vault.redis import KEY_PREFIX, RedisVault
from compat.vault.sqlite import SqliteVault
from tests.unit.upstream.proxy import wait_until

DAY_S = 86_400.0
TTL_S = 14 * DAY_S
MIB = 1024 * 1024
NOBODY = 65_534


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Events(list[tuple[str, dict[str, Any]]]):
    def note(self, name: str, fields: Mapping[str, Any]) -> None:
        self.append((name, dict(fields)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self]


class FakeRedis:
    """A server with a clock; everything fails while it is `gone`."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[str, tuple[Any, float]] = {}
        self.clock, self.gone, self.calls = clock, False, 0

    def ping(self) -> None:
        self.calls += 1
        if self.gone:
            raise ConnectionRefusedError("redis://user:secret@host")

    def mget(self, keys: list[str]) -> list[Any]:
        self.ping()
        return [value if self.clock() < until_s else None for value, until_s in (self.rows.get(key, (None, 0.0)) for key in keys)]

    def set(self, name: str, value: bytes, *, ex: int) -> None:
        self.ping()
        self.rows[name] = value, self.clock() + ex

    def expire(self, name: str, time: int) -> None:
        self.ping()
        self.rows[name] = self.rows[name][0], self.clock() + time


def turn(*ids: str, text: str = "Hm.", size: int = 0) -> ThinkingRecord:
    """A record with thoughts and with a block that has none to show; `size` makes the signature long."""
    blocks = (
        {"type": "thinking", "thinking": text, "signature": f"c2ln{ids}" + "x" * size},
        {"type": "redacted_thinking", "data": "\u2028é😀"},
    )
    return ThinkingRecord(ids, blocks)


class Bench:
    """Makes vaults over one clock, one list of events, one file and one server."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.events = Clock(), Events()
        self.path = folder / "data" / "thinking #1?.sqlite"
        self.redis = FakeRedis(self.clock)
        self._made: list[ThinkingVault] = []

    def memory(self, max_bytes: int = MIB) -> MemoryVault:
        return MemoryVault(max_bytes=max_bytes, ttl_s=TTL_S, clock=self.clock)

    def sqlite(self, path: Path | None = None, *, max_bytes: int = 64 * MIB, busy_s: float = 0.0) -> SqliteVault:
        vault = SqliteVault(path or self.path, max_bytes=max_bytes, ttl_s=TTL_S, clock=self.clock, on_event=self.events.note, busy_s=busy_s)
        self._made.append(vault)
        return vault

    def over_redis(self) -> RedisVault:
        vault = RedisVault(self.redis, ttl_s=TTL_S, clock=self.clock, errors=(OSError,), on_event=self.events.note)
        self._made.append(vault)
        return vault

    def close(self) -> None:
        for vault in self._made:
            vault.close()

    def query(self, statement: str) -> list[Any]:
        """Ask the file directly."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


Make = Callable[[Bench], Any]
LASTING: dict[str, Make] = {"sqlite": Bench.sqlite, "redis": Bench.over_redis}
EVERY: dict[str, Make] = {"memory": Bench.memory, **LASTING}
every_vault = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
lasting_vault = pytest.mark.parametrize("make", LASTING.values(), ids=LASTING)


def found(vault: ThinkingVault, *ids: str, client: str = "ada", model: str = "claude-x") -> list[str]:
    return list(vault.find(client, model, ids))


# What every vault does.


@every_vault
def test_a_record_is_found_by_each_of_its_calls_as_soon_as_it_is_kept(bench: Bench, make: Make) -> None:
    vault: ThinkingVault = make(bench)
    vault.start()
    one, two = turn("a", "b"), turn("c", text="Once more.")
    vault.keep("ada", "claude-x", one)
    vault.keep("ada", "claude-x", two)
    assert vault.find("ada", "claude-x", iter(["c", "b", "unknown", "a", "a"])) == {"c": two, "b": one, "a": one}
    assert vault.fault == ""


@every_vault
@pytest.mark.parametrize(
    ("client", "model", "call_id"),
    [("grace", "claude-x", "a"), ("ada", "claude-y", "a"), ("ada", "claude-x", "A"), ("adac", "laude-x", "a"), ("", "adaclaude-x", "a")],
)
def test_nobody_finds_what_another_client_or_model_has_thought(bench: Bench, make: Make, client: str, model: str, call_id: str) -> None:
    vault = make(bench)
    vault.keep("ada", "claude-x", turn("a"))
    for _ in range(2):
        assert vault.find(client, model, [call_id]) == {}
        getattr(vault, "flush", list)()


@every_vault
@pytest.mark.parametrize("ids", [[], [""], ["x" * 10_000], ["\ud800"], [7, None, {}], ["a"] * 5000], ids=repr)
def test_any_list_of_ids_can_be_asked_for(bench: Bench, make: Make, ids: list[Any]) -> None:
    assert make(bench).find("ada", "claude-x", ids) == {}


@every_vault
def test_names_of_any_kind_can_be_kept(bench: Bench, make: Make) -> None:
    vault = make(bench)
    vault.keep("\udc80", "\ud800", turn("é😀'\""))
    assert found(vault, "é😀'\"", client="\udc80", model="\ud800") == ["é😀'\""]


@every_vault
def test_a_turn_without_tool_calls_is_not_kept(bench: Bench, make: Make) -> None:
    vault = make(bench)
    vault.keep("ada", "claude-x", turn())
    assert vault.entries == 0


@every_vault
def test_a_newer_record_takes_the_place_of_an_older_one(bench: Bench, make: Make) -> None:
    vault = make(bench)
    vault.keep("ada", "claude-x", turn("a", "b", text="Old."))
    newer = turn("b", "c", text="New.")
    vault.keep("ada", "claude-x", newer)
    assert vault.find("ada", "claude-x", ["b", "c"]) == {"b": newer, "c": newer}


@every_vault
def test_a_record_expires_a_time_to_live_after_its_last_use(bench: Bench, make: Make) -> None:
    vault = make(bench)
    vault.keep("ada", "claude-x", turn("used"))
    vault.keep("ada", "claude-x", turn("unused"))
    bench.clock.now_s += TTL_S - 1
    assert found(vault, "used") == ["used"]
    bench.clock.now_s += 1
    assert found(vault, "used", "unused") == ["used"]
    bench.clock.now_s += TTL_S
    assert found(vault, "used", "unused") == []


def test_of_too_many_ids_the_last_ones_count() -> None:
    keys = call_keys("ada", "claude-x", (str(number) for number in range(MAX_IDS + 2)))
    assert len(keys) == MAX_IDS
    assert next(iter(keys)) == "2"


# Memory.


def test_memory_holds_what_was_used_last_within_its_bound(bench: Bench) -> None:
    vault = bench.memory(max_bytes=100_000)
    for name in "abcdefgh":
        vault.keep("ada", "claude-x", turn(name, size=30_000))
        assert found(vault, "a") == ["a"]
        assert vault.size_bytes <= 100_000
    assert found(vault, *"abcdefgh") == ["a", "g", "h"]
    assert vault.entries == 3


def test_memory_forgets_what_is_expired_without_being_asked_for_it(bench: Bench) -> None:
    vault = bench.memory()
    vault.keep("ada", "claude-x", turn("a"))
    bench.clock.now_s += TTL_S
    vault.keep("ada", "claude-x", turn("b"))
    assert vault.entries == 1


def test_a_vault_that_is_switched_off_keeps_nothing(bench: Bench) -> None:
    vault = bench.memory(max_bytes=0)
    vault.keep("ada", "claude-x", turn("a"))
    assert (found(vault, "a"), vault.entries, vault.size_bytes, vault.fault) == ([], 0, 0, "")
    vault.close()


# Records as bytes.


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "record",
    [turn("a"), turn("a", "b", text="x" * 100_000), ThinkingRecord(("a",), ({"type": "thinking", "n": [1.5, None, {"k": True}]},))],
)
def test_a_record_comes_back_as_it_was(record: ThinkingRecord) -> None:
    assert unpack(pack(record)) == record


@pytest.mark.parametrize(
    "block",
    [{}, {"type": 7}, {"type": ["thinking"]}, {"type": "image"}, {"type": "tool_result", "content": "x"}]
    + [{"type": "text", **more} for more in ({}, {"chars": "3"}, {"chars": -1}, {"chars": True}, {"text": "said"})],
    ids=str,
)
def test_a_record_with_a_block_that_is_no_thinking_is_missing(block: dict[str, Any]) -> None:
    """Whoever can write the store can write a checksum."""
    assert unpack(pack(ThinkingRecord(("a",), ({"type": "text", "chars": 3}, {"type": "tool_use", "id": "a"})))) is not None
    assert unpack(pack(ThinkingRecord(("a",), ({"type": "thinking", "thinking": "x"}, block)))) is None


def test_one_wrong_bit_is_enough_to_be_missing() -> None:
    packed = pack(turn("a"))
    assert packed is not None
    for position in range(len(packed)):
        assert unpack(packed[:position] + bytes([packed[position] ^ 1]) + packed[position + 1 :]) is None
        assert unpack(packed[:position]) is None


@pytest.mark.parametrize("packed", [None, "text", b"", b"\x00\x00\x00\x00", b"\xb2\xaa\x05\x78[]", b"\xd2\x02\xef\x8d\x00", 5])
def test_bytes_that_are_no_record_are_missing(packed: object) -> None:
    assert unpack(packed) is None


@pytest.mark.parametrize("value", [object(), "\ud800", deep(), MappingProxyType({})], ids=["object", "surrogate", "deep", "mapping"])
def test_what_json_cannot_hold_is_dropped_without_an_error(bench: Bench, value: Any) -> None:
    vault = bench.over_redis()
    vault.keep("ada", "claude-x", ThinkingRecord(("a",), ({"data": value},)))
    assert (found(vault, "a"), vault.dropped) == ([], 1)


# What lasting vaults do besides.


@lasting_vault
def test_a_record_survives_a_restart(bench: Bench, make: Make) -> None:
    before = make(bench)
    record = turn("a", "b")
    before.keep("ada", "claude-x", record)
    before.close()
    after = make(bench)
    first = after.find("ada", "claude-x", ["a", "b"])
    assert first == {"a": record, "b": record}
    assert after.find("ada", "claude-x", ["a"])["a"] is first["a"]
    assert found(after, "a", client="grace") == []
    assert bench.events == []


@lasting_vault
def test_a_hit_is_a_use_in_the_store_as_well(bench: Bench, make: Make) -> None:
    vault = make(bench)
    for name in ("used", "unused"):
        vault.keep("ada", "claude-x", turn(name))
    vault.flush()
    bench.clock.now_s += TTL_S - 1
    assert found(vault, "used") == ["used"]
    vault.flush()
    bench.clock.now_s += TTL_S - 1
    again = make(bench)
    assert found(again, "used", "unused") == ["used"]
    again.flush()
    bench.clock.now_s += TTL_S - 1
    assert found(make(bench), "used") == ["used"]
    bench.clock.now_s += DAY_S
    assert found(make(bench), "used") == []


@lasting_vault
def test_what_was_used_just_now_is_not_written_again(bench: Bench, make: Make) -> None:
    vault = make(bench)
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    bench.clock.now_s += TTL_S / 21
    found(vault, "a")
    assert not vault._queue


@lasting_vault
def test_a_call_without_tool_history_does_not_touch_the_store(bench: Bench, make: Make) -> None:
    make(bench).find("ada", "claude-x", [])
    assert not bench.path.parent.exists()
    assert bench.redis.calls == 0


@lasting_vault
def test_the_background_writes_what_is_kept(bench: Bench, make: Make) -> None:
    vault = bench.sqlite(busy_s=30.0) if make is Bench.sqlite else make(bench)
    reader = make(bench)
    vault.start()
    for name in "abc":
        vault.keep("ada", "claude-x", turn(name))
        wait_until(lambda name=name: found(reader, name) == [name])
    vault.close()
    gevent.sleep(0)


@lasting_vault
def test_a_closed_vault_does_no_harm(bench: Bench, make: Make) -> None:
    vault = make(bench)
    vault.keep("ada", "claude-x", turn("a"))
    vault.close()
    vault.close()
    vault.keep("ada", "claude-x", turn("b"))
    vault.flush()
    assert found(vault, "a", "b", "c") == ["a", "b"]
    assert found(make(bench), "a", "b") == ["a"]


@lasting_vault
def test_nothing_that_is_told_or_named_holds_a_thought_or_a_name(bench: Bench, make: Make) -> None:
    vault = make(bench)
    vault.keep("ada-canary", "claude-canary", turn("a", text="private-canary"))
    vault.close()
    bench.redis.gone = True
    bench.path.parent.mkdir(exist_ok=True)
    content = bench.path.read_bytes() if bench.path.exists() else b"SQLite"
    bench.path.write_bytes(content[:6] + b"canary" * 2000)
    failing = make(bench)
    failing.keep("ada-canary", "claude-canary", turn("b", text="private-canary"))
    failing.flush()
    assert bench.events.names[0] == "vault.failed"
    told = f"{bench.events} {failing.fault} {list(bench.redis.rows)} {failing!r}"
    assert "canary" not in told
    assert "secret" not in told
    assert b"ada" not in content
    assert b"claude" not in content


def test_a_full_queue_loses_its_oldest_changes(bench: Bench) -> None:
    vault = bench.over_redis()
    bench.redis.gone = True
    size = MIB
    count = MAX_PENDING_BYTES // size + 4
    for number in range(count):
        vault.keep("ada", "claude-x", turn(str(number), size=size))
        vault.flush()
    assert vault.dropped == 5
    assert vault.size_bytes < MEMORY_BYTES
    bench.redis.gone = False
    bench.clock.now_s += RETRY_S
    vault.flush()
    names = [str(number) for number in range(count)]
    assert found(bench.over_redis(), *names) == names[5:]


def test_a_record_that_is_too_large_is_not_kept(bench: Bench) -> None:
    vault = bench.sqlite(max_bytes=MIB)
    vault.keep("ada", "claude-x", turn("a", size=MIB // 4))
    vault.keep("ada", "claude-x", turn("b", size=MIB // 5))
    assert (found(vault, "a", "b"), vault.dropped) == (["b"], 1)


# The file.


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_only_the_owner_can_read_the_file(bench: Bench, umask: int) -> None:
    before = os.umask(umask)
    try:
        vault = bench.sqlite()
        vault.keep("ada", "claude-x", turn("a"))
        vault.flush()
    finally:
        os.umask(before)
    assert {f"{bench.path.name}{suffix}" for suffix in ("", "-wal", "-shm", ".lock")} == set(modes(bench.path.parent))
    assert set(modes(bench.path.parent).values()) == {0o600}
    assert stat.S_IMODE(bench.path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_can_read_is_made_private(bench: Bench) -> None:
    bench.path.parent.mkdir()
    bench.path.touch(0o644)
    bench.sqlite().flush()
    assert set(modes(bench.path.parent).values()) == {0o600}


def test_the_file_stays_within_its_bound_and_the_oldest_go_first(bench: Bench) -> None:
    vault = bench.sqlite(max_bytes=MIB)
    names = [str(number) for number in range(100)]
    for name in names:
        vault.keep("ada", "claude-x", turn(name, size=30_000))
        bench.clock.now_s += 1
        vault.flush()
        assert vault.size_bytes <= MIB
    kept = found(bench.sqlite(), *names)
    assert kept == names[-len(kept) :]
    assert len(kept) == vault.entries > 20
    assert bench.query("SELECT count(*) FROM calls") == [(len(kept),)]
    assert bench.path.stat().st_size <= MIB + 100_000


def test_a_smaller_bound_makes_the_file_smaller(bench: Bench) -> None:
    vault = bench.sqlite()
    for number in range(100):
        vault.keep("ada", "claude-x", turn(str(number), size=30_000))
    vault.close()
    assert bench.path.stat().st_size > 2 * MIB
    smaller = bench.sqlite(max_bytes=MIB)
    smaller.flush()
    smaller.close()
    assert bench.path.stat().st_size <= MIB


def test_a_bound_below_the_size_of_an_empty_file_keeps_nothing(bench: Bench) -> None:
    vault = bench.sqlite(max_bytes=4096)
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    assert (vault.entries, vault.fault) == (0, "")


def test_what_is_expired_leaves_the_file(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("a", "b"))
    vault.flush()
    assert (vault.entries, vault.size_bytes > 0) == (1, True)
    bench.clock.now_s += TTL_S
    vault.flush()
    assert vault.entries == 0
    assert bench.query("SELECT * FROM calls") == []


def test_more_than_a_batch_is_written_at_once(bench: Bench) -> None:
    vault = bench.sqlite()
    for name in "abcdef":
        vault.keep("ada", "claude-x", turn(name, size=MAX_BATCH_BYTES // 2))
    vault.flush()
    assert vault.entries == 6


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("body = CAST('x' || body AS BLOB)", ["b"]),
        ("body = x'00'", ["b"]),
        ("body = CAST(x'ff00' AS TEXT)", ["b"]),
        ("body = 5", ["b"]),
        ("used_s = 'x'", ["a", "b"]),
        ("used_s = x'ff'", ["a", "b"]),
    ],
)
def test_a_damaged_record_is_missing_and_its_neighbour_is_not(bench: Bench, change: str, left: list[str]) -> None:
    vault = bench.sqlite()
    for name in "ab":
        vault.keep("ada", "claude-x", turn(name))
    vault.close()
    bench.query(f"UPDATE turns SET {change} WHERE id = 1")
    vault = bench.sqlite()
    assert found(vault, "a", "b") == left
    vault.flush()
    assert bench.events == []


def damage_all(bench: Bench) -> None:
    bench.path.write_bytes(b"this is not a database" * 1000)


def damage_pages(bench: Bench) -> None:
    content = bench.path.read_bytes()
    bench.path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def cut_off(bench: Bench) -> None:
    os.truncate(bench.path, 4096 * 4)


def another_version(bench: Bench) -> None:
    bench.query("PRAGMA user_version = 99")


def another_program(bench: Bench) -> None:
    bench.path.unlink()
    bench.query("CREATE TABLE turns (theirs)")


def without_a_table(bench: Bench) -> None:
    bench.query("DROP TABLE calls")


@pytest.mark.parametrize("asks_first", [True, False], ids=["found by a read", "found by a write"])
@pytest.mark.parametrize("damage", [damage_all, damage_pages, cut_off, another_version, another_program, without_a_table])
def test_a_broken_file_is_set_aside_and_the_vault_goes_on(bench: Bench, damage: Callable[[Bench], None], asks_first: bool) -> None:
    before = bench.sqlite()
    for number in range(30):
        before.keep("ada", "claude-x", turn(str(number), size=8000))
    before.close()
    damage(bench)
    broken = bench.path.read_bytes()
    vault = bench.sqlite()
    if asks_first:
        found(vault, "7")
    vault.keep("ada", "claude-x", turn("new"))
    assert found(vault, "new") == ["new"]
    vault.flush()
    assert vault.fault == ""
    assert bench.events.names == ["vault.failed", "vault.recovered"]
    assert "set aside" in bench.events[0][1]["reason"]
    aside = Path(f"{bench.path}.broken")
    assert aside.read_bytes()[:4096] == broken[:4096]
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o600
    vault.close()
    assert found(bench.sqlite(), "7", "new") == ["new"]


def test_an_empty_file_is_taken_for_a_new_one(bench: Bench) -> None:
    bench.path.parent.mkdir()
    bench.path.touch()
    vault = bench.sqlite()
    assert found(vault, "a") == []
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    assert found(bench.sqlite(), "a") == ["a"]
    assert bench.events == []


def test_a_file_that_breaks_again_at_once_waits_for_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = bench.sqlite()
    bench.path.parent.mkdir()
    damage_all(bench)
    file = vault._file
    real = file._set_aside

    def and_break_again(broken: tuple[int, int]) -> None:
        real(broken)
        damage_all(bench)

    monkeypatch.setattr(file, "_set_aside", and_break_again)
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    assert "not a database" in vault.fault
    monkeypatch.undo()
    vault.flush()
    assert vault.fault
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert (vault.fault, found(bench.sqlite(), "a")) == ("", ["a"])


@pytest.mark.parametrize("seconds", [RETRY_S, -3600.0], ids=["time goes on", "the clock is set back"])
def test_a_path_that_is_no_file_leaves_memory_and_is_tried_again(bench: Bench, seconds: float) -> None:
    bench.path.mkdir(parents=True)
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("a"))
    for _ in range(3):
        vault.flush()
        assert found(vault, "a") == ["a"]
    assert vault.fault == f"{bench.path.name}: is not a file"
    assert bench.events == [("vault.failed", {"reason": vault.fault})]
    bench.path.rmdir()
    bench.clock.now_s += seconds
    vault.flush()
    assert (vault.fault, vault.entries) == ("", 1)
    assert bench.events.names == ["vault.failed", "vault.recovered"]


def test_a_folder_that_is_a_file_is_a_fault_found_by_reading(bench: Bench) -> None:
    bench.path.parent.write_text("in the way")
    vault = bench.sqlite()
    assert found(vault, "a") == []
    assert vault.fault == f"{bench.path.name}: Not a directory"
    bench.path.parent.unlink()
    assert found(vault, "a") == []
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert vault.fault == ""
    assert found(vault, "a") == []


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without the right to write everywhere, should the tests run with it."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that an unprivileged user can reach, and may write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


@pytest.mark.parametrize("has_file", [False, True])
def test_a_read_only_folder_leaves_memory(bench: Bench, open_folder: Path, has_file: bool) -> None:
    path = open_folder / "thinking.sqlite"
    with unprivileged():
        if has_file:
            before = bench.sqlite(path)
            before.keep("ada", "claude-x", turn("old"))
            before.close()
            Path(f"{path}.lock").unlink()
    open_folder.chmod(0o555)
    vault = bench.sqlite(path)
    with unprivileged():
        vault.keep("ada", "claude-x", turn("a"))
        vault.flush()
        assert found(vault, "a") == ["a"]
        assert vault.fault == "thinking.sqlite: Permission denied"
        found(vault, "old")
    open_folder.chmod(0o777)
    bench.clock.now_s += RETRY_S
    with unprivileged():
        vault.flush()
        assert vault.fault == ""
        assert found(bench.sqlite(path), "a") == ["a"]
        assert bench.events.names == ["vault.failed", "vault.recovered"]
        bench.close()


def test_a_full_disk_leaves_memory_and_loses_nothing(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("old"))
    vault.flush()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        for name in "abc":
            vault.keep("ada", "claude-x", turn(name, size=MIB))
        vault.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert vault.fault.startswith(bench.path.name)
    assert found(vault, *"abc", "old") == ["a", "b", "c", "old"]
    assert found(bench.sqlite(), *"abc", "old") == ["old"]
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert found(bench.sqlite(), *"abc", "old") == ["a", "b", "c", "old"]
    assert bench.events.names == ["vault.failed", "vault.recovered"]


def test_a_file_that_another_process_writes_to_is_waited_for_in_the_background_only(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("old"))
    vault.flush()
    with contextlib.closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        vault.keep("ada", "claude-x", turn("a"))
        assert found(bench.sqlite(), "old") == ["old"]
        assert found(vault, "a") == ["a"]
        vault.flush()
        assert "locked" in vault.fault
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert (vault.fault, vault.entries) == ("", 2)


def test_a_file_that_another_process_has_for_itself_is_as_good_as_none_to_a_reader(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("a"))
    vault.close()
    with contextlib.closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        again = bench.sqlite()
        assert (found(again, "a"), again.fault) == ([], "")
    assert found(again, "a") == ["a"]


@pytest.mark.parametrize("loses", [Path.unlink, lambda path: path.rename(f"{path}.moved")], ids=["deleted", "moved"])
def test_a_file_that_is_taken_away_is_made_anew(bench: Bench, loses: Callable[[Path], object]) -> None:
    vault = bench.sqlite()
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    other = bench.sqlite()
    assert found(other, "a") == ["a"]
    loses(bench.path)
    assert found(vault, "a", "b") == ["a"]
    vault.keep("ada", "claude-x", turn("b"))
    vault.flush()
    assert found(other, "a", "b") == ["a", "b"]
    assert bench.events == []


def test_of_two_that_find_the_file_broken_the_second_leaves_the_new_one_alone(bench: Bench) -> None:
    one, two = bench.sqlite(), bench.sqlite()
    for number in range(30):
        one.keep("ada", "claude-x", turn(str(number), size=8000))
    one.flush()
    bench.query("PRAGMA wal_checkpoint(TRUNCATE)")
    one.close()
    damage_pages(bench)
    one = bench.sqlite()
    assert (found(one, "1"), found(two, "1")) == ([], [])
    assert bench.events.names == ["vault.failed"] * 2
    one.keep("ada", "claude-x", turn("new"))
    one.flush()
    two.flush()
    assert (one.fault, two.fault) == ("", "")
    assert found(two, "new") == ["new"]
    two.keep("ada", "claude-x", turn("newer"))
    two.flush()
    assert found(one, "newer") == ["newer"]
    assert bench.query("PRAGMA integrity_check") == [("ok",)]


def test_the_background_of_a_file_is_woken_once_however_often_it_is_called() -> None:
    thread = NativeThread()
    for _ in range(3):
        thread.wake()
    thread.wait(60.0)
    thread.wait(0.0)


def test_a_quiet_file_is_looked_at_from_time_to_time(bench: Bench) -> None:
    vault = bench.sqlite()
    vault.flush()
    bench.path.unlink()
    vault.flush()
    assert not bench.path.exists()
    bench.clock.now_s += TIDY_S
    vault.flush()
    assert bench.path.exists()


# Several processes.

PROGRAM = """
import sys, time
from gevent import monkey
monkey.patch_all()
from pathlib import Path
from compat.protocols.base import ThinkingRecord
from compat.vault.sqlite import SqliteVault
vault = SqliteVault(Path(sys.argv[1]), max_bytes=2**26, ttl_s=86_400.0, clock=lambda: 1_700_000_000.0)
vault.start()
for line in sys.stdin:
    verb, name = line.split()
    if verb == "keep":
        vault.keep("ada", "claude-x", ThinkingRecord((name,), ({"type": "thinking", "thinking": name * 1000},)))
        print("kept", flush=True)
    else:
        print(len(vault.find("ada", "claude-x", [name])), flush=True)
vault.close()
"""


class Worker:
    """Another process with a vault on the same file."""

    def __init__(self, path: Path) -> None:
        root = Path(compat.__file__).parent.parent
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, verb: str, name: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{verb} {name}\n")
        self.process.stdin.flush()
        return cast("str", self.process.stdout.readline().strip())

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.leave()

    def leave(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


@pytest.fixture
def start_worker(bench: Bench) -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(bench.path))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.returncode is None:
            worker.end()


@pytest.mark.slow
def test_processes_find_what_others_have_kept(bench: Bench, start_worker: Callable[[], Worker]) -> None:
    workers = [start_worker(), start_worker()]
    vault = bench.sqlite(busy_s=30.0)
    for number in range(20):
        for worker, name in zip(workers, "xy", strict=True):
            assert worker.ask("keep", f"{name}{number}") == "kept"
        vault.keep("ada", "claude-x", turn(f"z{number}"))
        vault.flush()
    names = [f"{name}{number}" for name in "xyz" for number in range(20)]
    wait_until(lambda: found(vault, *names) == names)
    assert [worker.ask("find", name) for worker, name in zip(workers, ("y3", "x3"), strict=True)] == ["1", "1"]
    assert [worker.ask("find", "z19") for worker in workers] == ["1", "1"]
    assert [worker.leave() for worker in workers] == [0, 0]
    assert vault.fault == ""
    assert bench.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
def test_a_killed_process_loses_only_what_it_kept_last(bench: Bench, start_worker: Callable[[], Worker]) -> None:
    worker = start_worker()
    names = [f"n{number}" for number in range(50)]
    for name in names:
        worker.ask("keep", name)
    vault = bench.sqlite(busy_s=30.0)
    wait_until(lambda: found(vault, *names) == names)
    for number in range(50):
        worker.ask("keep", f"late{number}")
    assert worker.end() == -signal.SIGKILL
    after = bench.sqlite()
    after.keep("ada", "claude-x", turn("a"))
    after.flush()
    assert found(after, *names, "a") == [*names, "a"]
    assert (after.fault, bench.events) == ("", [])
    assert bench.query("PRAGMA integrity_check") == [("ok",)]


# Redis.


def test_redis_gone_is_said_once_and_asked_again_after_a_while_only(bench: Bench) -> None:
    vault = bench.over_redis()
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    again = bench.over_redis()
    bench.redis.gone = True
    assert found(again, "a") == []
    calls = bench.redis.calls
    again.keep("ada", "claude-x", turn("b"))
    for _ in range(3):
        assert found(again, "a", "b") == ["b"]
        again.flush()
    assert bench.redis.calls == calls
    assert again.fault == "Redis can't be used: ConnectionRefusedError"
    bench.clock.now_s += RETRY_S
    again.flush()
    assert bench.redis.calls == calls + 1
    bench.redis.gone = False
    bench.clock.now_s += RETRY_S
    again.flush()
    assert again.fault == ""
    assert found(again, "a", "b") == ["a", "b"]
    assert bench.events.names == ["vault.failed", "vault.recovered"]
    assert found(bench.over_redis(), "b") == ["b"]


def test_redis_that_is_back_before_its_time_gets_what_is_left_at_the_end(bench: Bench) -> None:
    vault = bench.over_redis()
    bench.redis.gone = True
    vault.keep("ada", "claude-x", turn("a"))
    vault.flush()
    bench.redis.gone = False
    vault.flush()
    assert vault.queued == 1
    vault.close()
    assert (found(bench.over_redis(), "a"), vault.queued) == (["a"], 0)


def test_redis_without_anything_to_write_is_asked_whether_it_is_there(bench: Bench) -> None:
    bench.redis.gone = True
    vault = bench.over_redis()
    vault.flush()
    assert vault.fault
    bench.redis.gone = False
    bench.clock.now_s += RETRY_S
    vault.flush()
    assert vault.fault == ""


def test_redis_sees_hashes_and_lets_every_key_expire(bench: Bench) -> None:
    vault = bench.over_redis()
    vault.keep("ada", "claude-x", turn("a", "b"))
    vault.flush()
    assert len(bench.redis.rows) == 2
    for name, (_, until_s) in bench.redis.rows.items():
        assert name.startswith(KEY_PREFIX)
        assert len(name) == len(KEY_PREFIX) + 64
        assert until_s == bench.clock() + TTL_S
    assert (vault.entries, vault.size_bytes > 0) == (1, True)


@pytest.mark.parametrize("value", [b"", b"junk", "text", 5, b"\xff" * (9 * 1024 * 1024)], ids=lambda value: str(value)[:9])
def test_a_foreign_value_in_redis_is_missing(bench: Bench, value: Any) -> None:
    vault = bench.over_redis()
    vault.keep("ada", "claude-x", turn("a", "b"))
    vault.flush()
    name = KEY_PREFIX + call_keys("ada", "claude-x", ["a"])["a"]
    bench.redis.set(name, value, ex=1000)
    assert found(bench.over_redis(), "a", "b") == ["b"]
    assert bench.events == []


def test_events_are_not_required(tmp_path: Path, bench: Bench) -> None:
    bench.redis.gone = True
    (tmp_path / "in the way").touch()
    silent: list[BufferedVault] = [
        RedisVault(bench.redis, ttl_s=TTL_S, clock=bench.clock, errors=(OSError,)),
        SqliteVault(tmp_path / "in the way" / "file", max_bytes=MIB, ttl_s=TTL_S, clock=bench.clock),
    ]
    for vault in silent:
        vault.flush()
        assert vault.fault
        vault.close()
