"""Deltas that are known by their bytes: each says what its JSON says, and what looks otherwise is not known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.protocols.raw_text import text_of
from compat.protocols.responses.delta_shape import DeltaShape, delta_shape
from tests.fakes.responses_answers import one_event

DELTA: dict[str, Any] = {
    "type": "response.output_text.delta",
    "sequence_number": 4,
    "item_id": "msg_1-(a)",
    "delta": "Hi",
    "logprobs": [],
    "obfuscation": "aZ9_-",
}


def block(**changes: Any) -> bytes:
    return one_event({**DELTA, **changes}).removesuffix(b"\n\n")


def known() -> DeltaShape:
    shape = delta_shape(block(), "Hi")
    assert shape is not None
    return shape


@pytest.mark.parametrize("text", ["", "Ho", 'a "quoted" \\ line\n', "Grüße, 世界", "\x01", "}"])
def test_another_text_number_and_padding_are_known(text: str) -> None:
    values = known().values(block(delta=text, sequence_number=123, obfuscation=""))
    assert values is not None
    assert text_of(values) == text


def test_several_events_are_known_at_once() -> None:
    together = b"\n\n".join(block(delta=word, sequence_number=number) for number, word in enumerate("abc"))
    assert known().values(together) == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "other",
    [
        block(item_id="msg_2"),
        block(type="response.output_text.done"),
        block(more=1),
        block(delta={"a": 1}),
        block(obfuscation='a"b'),
        block(sequence_number=-1),
        block() + b"\n\n" + block(item_id="msg_2"),
        block().replace(b"Hi", b"\xff"),
        block().replace(b"Hi", b"\\ud83d"),
        block().replace(b"Hi", b'Hi","delta":"Ho'),
        b"",
    ],
)
def test_anything_else_is_not(other: bytes) -> None:
    assert known().values(other) is None


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b'data: {"delta":"a","more":{"delta":"b"}}', "a"),
        (b'data: {"text":"a"}', "a"),
        (b'data: {"delta":"a"}', "b"),
        (b'data: {"delta":"\\ud83d"}', "x"),
    ],
)
def test_what_is_not_plain_has_no_shape(event: bytes, text: str) -> None:
    assert delta_shape(event, text) is None


def test_blanks_and_other_orders_are_known_as_they_stand() -> None:
    def spaced(text: str, number: int) -> bytes:
        return b"data: " + json.dumps({"delta": text, "sequence_number": number, "output_index": 0}).encode()

    shape = delta_shape(spaced("a", 1), "a")
    assert shape is not None
    assert shape.values(spaced("b", 22)) == [b"b"]
