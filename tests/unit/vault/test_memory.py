"""What every vault does, records in memory, and records as bytes."""

from __future__ import annotations

from typing import Any

import pytest

from compat.protocols.base import ThinkingRecord
from compat.vault.buffered import ThinkingVault
from compat.vault.memory import MAX_IDS, call_keys, pack, unpack
from tests.unit.vault.bench import TTL_S, Bench, Make, every_vault, found, turn


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


def test_of_too_many_ids_the_last_ones_count() -> None:
    keys = call_keys("ada", "claude-x", (str(number) for number in range(MAX_IDS + 2)))
    assert len(keys) == MAX_IDS
    assert next(iter(keys)) == "2"


def test_a_vault_that_is_switched_off_keeps_nothing(bench: Bench) -> None:
    vault = bench.memory(max_bytes=0)
    vault.keep("ada", "claude-x", turn("a"))
    assert (found(vault, "a"), vault.entries, vault.size_bytes, vault.fault) == ([], 0, 0, "")
    vault.close()


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
