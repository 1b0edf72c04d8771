"""What vaults with a store behind their memory do, besides what `test_model.py` shows."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import gevent
import pytest

from compat.protocols.base import ThinkingRecord
from compat.storage.background import RETRY_S
from compat.vault.buffered import MAX_PENDING_BYTES, MEMORY_BYTES, BufferedVault
from compat.vault.redis import RedisVault
from compat.vault.sqlite import SqliteVault
from tests.unit.upstream.proxy import wait_until
from tests.unit.vault.bench import DAY_S, MIB, TOLD_AGAIN_S, TTL_S, Bench, Make, found, lasting_vault, turn


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("value", [object(), "\ud800", deep(), MappingProxyType({})], ids=["object", "surrogate", "deep", "mapping"])
def test_what_json_cannot_hold_is_dropped_without_an_error(bench: Bench, value: Any) -> None:
    vault = bench.over_redis()
    vault.keep("ada", "claude-x", ThinkingRecord(("a",), ({"data": value},)))
    assert (found(vault, "a"), vault.dropped) == ([], 1)


@lasting_vault
def test_a_call_without_tool_history_does_not_touch_the_store(bench: Bench, make: Make) -> None:
    make(bench).find("ada", "claude-x", [])
    assert not bench.path.parent.exists()
    assert bench.redis.calls == 0


@pytest.mark.slow
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
def test_the_store_has_a_record_as_long_as_memory_does(bench: Bench, make: Make) -> None:
    """Also when it was used just before the store would have been told of it."""
    vault = make(bench)
    for wait_s in (0.0, TOLD_AGAIN_S - 1, TTL_S - 1, TOLD_AGAIN_S - 1):
        bench.clock.now_s += wait_s
        if not wait_s:
            vault.keep("ada", "claude-x", turn("a"))
        assert found(vault, "a") == ["a"]
        vault.flush()
    bench.clock.now_s += TTL_S - 1
    assert found(make(bench), "a") == ["a"]
