"""Content parts that are written in a text."""

from __future__ import annotations

from compat.protocols.chat.parts import parts_in


def test_a_text_of_more_values_than_a_request_may_have_is_a_text() -> None:
    shown = '{"type":"image"}'
    assert parts_in(f"[{shown},{shown}]") == [{"type": "image"}, {"type": "image"}]
    assert parts_in(f"[{shown}" + f",{shown}" * 250_001 + "]") is None
