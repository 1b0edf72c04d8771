"""Records in memory, and as bytes."""

from __future__ import annotations

from typing import Any

import pytest

from compat.protocols.base import ThinkingRecord
from compat.vault.memory import MAX_IDS, call_keys, pack, unpack
from tests.unit.vault.bench import Bench, Make, every_vault, found, turn


@every_vault
@pytest.mark.parametrize("ids", [[], [""], ["x" * 10_000], ["\ud800"], [7, None, {}], ["a"] * 5000], ids=repr)
def test_any_list_of_ids_can_be_asked_for(bench: Bench, make: Make, ids: list[Any]) -> None:
    assert make(bench).find("ada", "claude-x", ids) == {}


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
