"""What a server is given, what it may hold, and what happens while it is gone."""

from __future__ import annotations

from typing import Any

import pytest

from compat.storage.background import RETRY_S
from compat.vault.memory import call_keys, pack
from compat.vault.redis import KEY_PREFIX
from tests.unit.vault.bench import KEPT_S, MIB, Bench, found, turn


def test_redis_sees_hashes_and_lets_every_key_expire(bench: Bench) -> None:
    vault = bench.over_redis()
    vault.keep("ada", "claude-x", turn("a", "b"))
    vault.flush()
    assert len(bench.redis.rows) == 2
    for name, (_, until_s) in bench.redis.rows.items():
        assert name.startswith(KEY_PREFIX)
        assert len(name) == len(KEY_PREFIX) + 64
        assert until_s == bench.clock() + KEPT_S
    assert (vault.entries, vault.size_bytes > 0) == (1, True)


@pytest.mark.parametrize(
    "value", [b"", b"junk", "text", 5, pack(turn("a", size=9 * MIB))], ids=["empty", "junk", "text", "number", "too large"]
)
def test_a_foreign_value_in_redis_is_missing(bench: Bench, value: Any) -> None:
    vault = bench.over_redis()
    vault.keep("ada", "claude-x", turn("a", "b"))
    vault.flush()
    name = KEY_PREFIX + call_keys("ada", "claude-x", ["a"])["a"]
    bench.redis.set(name, value, ex=1000)
    assert found(bench.over_redis(), "a", "b") == ["b"]
    assert bench.events == []


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
