"""Calls and their results."""

from __future__ import annotations

from compat.protocols.names import fit_id
from compat.protocols.pairing import Pairing


def test_each_call_has_an_id_of_its_own_and_each_result_finds_its_call() -> None:
    calls = Pairing(fit_id)
    assert [calls.opened(call_id) for call_id in ("a", "a", "", "a")] == ["a", "a-2", "call_2", "a-3"]
    assert dict(calls.waiting) == {"a": "a", "a-2": "a", "call_2": "call_2", "a-3": "a"}
    assert [calls.taken("a"), calls.taken("b"), calls.taken("a")] == ["a", None, "a-2"]
    assert [calls.taken(""), calls.taken("a"), calls.taken("a"), calls.taken("")] == ["call_2", "a-3", None, None]


def test_calls_without_a_result_are_given_up_when_the_conversation_goes_on() -> None:
    calls = Pairing(fit_id)
    calls.opened("a")
    calls.opened("b")
    calls.taken("a")
    assert calls.given_up() == ["b"]
    assert (calls.taken("b"), calls.given_up(), calls.opened("a")) == (None, [], "a-2")
