"""The SSE decoder: whole, byte by byte, and in random pieces, it gives the same events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.errors import UpstreamBroken
from compat.wire.sse import Event, EventSplitter, data_frame, parse_event
from tests.cases.sse import CASES, SseCase


def split(pieces: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    return [block for piece in pieces for block in splitter.feed(piece)] + splitter.finish()


def data_of(blocks: list[bytes]) -> list[Event]:
    return [event for block in blocks if (event := parse_event(block)).data]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_event_stream_is_decoded_by_the_standard(case: SseCase) -> None:
    assert data_of(split([case.text])) == case.events


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_byte_by_byte_gives_the_same(case: SseCase) -> None:
    assert split([bytes([byte]) for byte in case.text]) == split([case.text])


@pytest.mark.slow
@given(st.data())
def test_any_split_gives_the_same(data: st.DataObject) -> None:
    text = data.draw(
        st.lists(st.sampled_from([b"data: a", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"event: x", "é\u2028".encode()]))
    ).copy()
    whole = b"".join(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert split(pieces) == split([whole])


def test_an_event_without_end_is_bounded() -> None:
    splitter = EventSplitter(max_event_bytes=100)
    for _ in range(6):
        splitter.feed(b"data: aaaaaaaaaa")
    with pytest.raises(UpstreamBroken, match="more than 100 bytes"):
        splitter.feed(b"data: aaaaaaaaaa")


def test_a_frame_is_one_event() -> None:
    assert split([data_frame(b"{}")]) == [b"data: {}"]
