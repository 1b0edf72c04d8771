"""Images and files in a client's request."""

from __future__ import annotations

from compat.protocols.media import _WINDOW_BYTES, _unescaped, block_with_source


def test_an_escape_that_is_cut_by_a_window_stays_whole() -> None:
    for before in range(_WINDOW_BYTES - 4, _WINDOW_BYTES + 2):
        assert _unescaped(b"a" * before + b"%41" + b"b" * 5) == b"a" * before + b"A" + b"b" * 5


def test_what_no_label_and_no_bytes_tell_has_no_media_type() -> None:
    image = block_with_source({"type": "image", "source": {"type": "base64", "data": "QUJDRA=="}}, "messages[0]", None)
    assert image.media_type == ""
