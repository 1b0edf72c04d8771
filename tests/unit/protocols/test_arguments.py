"""Arguments of tool calls: an object for some upstreams, text for others, and the model's own bytes for both."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from compat.protocols.arguments import arguments_object, arguments_text
from compat.protocols.notes import Notes
from compat.protocols.request import ToolCall

WRITTEN = '{"b": 1,  "a": [2]}'


@pytest.mark.parametrize(
    ("arguments", "as_object", "as_text", "notes"),
    [
        (WRITTEN, msgspec.Raw(WRITTEN.encode()), WRITTEN, ()),
        (msgspec.Raw(WRITTEN.encode()), msgspec.Raw(WRITTEN.encode()), WRITTEN, ()),
        (msgspec.Raw(b"[1]"), {"value": msgspec.Raw(b"[1]")}, "[1]", ("wrapped=arguments",)),
        ({"a": 1}, {"a": 1}, '{"a":1}', ()),
        (None, {}, "{}", ()),
        ("", {}, "{}", ()),
        (" \n", {}, "{}", ()),
        ([1], {"value": [1]}, "[1]", ("wrapped=arguments",)),
        ("ls -l", {"arguments": "ls -l"}, "ls -l", ("wrapped=arguments",)),
    ],
)
def test_arguments_are_an_object_or_text_as_the_upstream_wants_them(
    arguments: Any, as_object: Any, as_text: str, notes: tuple[str, ...]
) -> None:
    call, receipt = ToolCall("messages[1].tool_calls[0]", "a", "f", arguments), Notes()
    assert arguments_object(call, receipt) == as_object
    assert arguments_text(call) == as_text
    assert receipt.told() == notes


def test_half_a_character_is_replaced_and_noted() -> None:
    receipt = Notes()
    assert arguments_object(ToolCall("", "a", "f", '{"a":"\\ud83d"}'), receipt) == msgspec.Raw(b'{"a":"\\ufffd"}')
    assert receipt.told() == ("repaired=surrogates",)
