"""What a server is given, and what it may hold."""

from __future__ import annotations

from typing import Any

import pytest

from compat.vault.memory import call_keys
from compat.vault.redis import KEY_PREFIX
from tests.unit.vault.bench import TTL_S, Bench, found, turn


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
