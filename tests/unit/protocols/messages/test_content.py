"""Content parts that are written in a text."""

from __future__ import annotations

from compat.protocols.messages.content import _WINDOW_BYTES, _unescaped, parts_in


def test_a_text_of_more_values_than_a_request_may_have_is_a_text() -> None:
    shown = '{"type":"image"}'
    assert parts_in(f"[{shown},{shown}]") == [{"type": "image"}, {"type": "image"}]
    assert parts_in(f"[{shown}" + f",{shown}" * 250_001 + "]") is None


def test_an_escape_that_is_cut_by_a_window_stays_whole() -> None:
    for before in range(_WINDOW_BYTES - 4, _WINDOW_BYTES + 2):
        assert _unescaped(b"a" * before + b"%41" + b"b" * 5) == b"a" * before + b"A" + b"b" * 5
