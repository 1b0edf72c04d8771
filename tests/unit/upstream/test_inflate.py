"""Compressed bodies: whatever the pieces in which they come, the same content, or the same error; and never much of it at a time."""

from __future__ import annotations

import gzip
import zlib

import pytest

from compat.errors import UpstreamBroken
from compat.upstream.inflate import MAX_INFLATED_BYTES, STEP_BYTES, Inflater, inflater_of

HELLO = gzip.compress(b"Hello there.", mtime=0)
WORLD = gzip.compress(b" World.", mtime=0)
NOTHING = gzip.compress(b"", mtime=0)


def inflated(pieces: list[bytes], encoding: str = "gzip") -> bytes:
    inflater = inflater_of(encoding)
    assert inflater is not None
    content = b""
    for piece in pieces:
        inflater.feed(piece)
        while data := inflater.take():
            assert len(data) <= STEP_BYTES
            content += data
    inflater.finish()
    return content


BODIES = [
    pytest.param("gzip", HELLO, b"Hello there.", id="gzip"),
    pytest.param("gzip", HELLO + WORLD, b"Hello there. World.", id="two members"),
    pytest.param("gzip", NOTHING + HELLO + NOTHING + WORLD, b"Hello there. World.", id="empty members among them"),
    pytest.param("gzip", HELLO + bytes(512), b"Hello there.", id="filled up with zeros"),
    pytest.param("gzip", HELLO + bytes(3) + WORLD, b"Hello there. World.", id="zeros between members"),
    pytest.param("deflate", zlib.compress(b"Hello"), b"Hello", id="deflate"),
    pytest.param("deflate", zlib.compress(b"Hello") + b"more", b"Hello", id="deflate, and bytes after it"),
    pytest.param("gzip", b"", b"", id="nothing at all"),
    pytest.param("gzip", gzip.compress(b"ab" * STEP_BYTES, mtime=0), b"ab" * STEP_BYTES, id="more than a step"),
]


@pytest.mark.parametrize(("encoding", "body", "content"), BODIES)
def test_a_body_is_inflated_in_whatever_pieces_it_comes(encoding: str, body: bytes, content: bytes) -> None:
    assert inflated([body], encoding) == content
    assert inflated([body[place : place + 1] for place in range(len(body))], encoding) == content
    for cut in range(0, len(body), max(len(body) // 50, 1)):
        assert inflated([body[:cut], body[cut:]], encoding) == content, f"cut at {cut}"


@pytest.mark.parametrize("cut", range(1, len(HELLO)))
def test_a_body_that_is_cut_is_broken(cut: int) -> None:
    with pytest.raises(UpstreamBroken, match="cut short"):
        inflated([HELLO[:cut]])
    with pytest.raises(UpstreamBroken, match="cut short"):
        inflated([HELLO + HELLO[:cut]])


@pytest.mark.parametrize("body", [b"no gzip", HELLO + b"garbage", HELLO[:-8] + bytes(8)], ids=["none", "garbage after it", "a wrong sum"])
def test_a_body_that_is_damaged_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken, match="damaged"):
        inflated([body])


def test_what_a_step_gives_does_not_depend_on_where_a_step_ends() -> None:
    content = bytes(STEP_BYTES)
    flushing = zlib.compressobj(wbits=31)
    body = flushing.compress(content) + flushing.flush(zlib.Z_SYNC_FLUSH)
    inflater = Inflater(has_members=True)
    inflater.feed(body)
    assert inflater.take() == content
    assert inflater.take() == b""
    inflater.feed(flushing.compress(b"end") + flushing.flush())
    assert inflater.take() == b"end"
    inflater.finish()


@pytest.mark.parametrize("members", [1, 70], ids=["one member", "many members"])
def test_a_bomb_is_bounded(members: int) -> None:
    bomb = gzip.compress(bytes((MAX_INFLATED_BYTES + STEP_BYTES) // members + 1), mtime=0) * members
    inflater = Inflater(has_members=True)
    inflater.feed(bomb)
    sizes: list[int] = []

    def explode() -> None:
        while data := inflater.take():
            sizes.append(len(data))

    with pytest.raises(UpstreamBroken, match="too large"):
        explode()
    assert max(sizes) <= STEP_BYTES
    assert sum(sizes) <= MAX_INFLATED_BYTES


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_what_is_not_encoded_needs_no_inflater(encoding: str) -> None:
    assert inflater_of(encoding) is None


@pytest.mark.parametrize(("encoding", "shown"), [("br", "br"), ("gzip, gzip", "gzip, gzip"), ("x\x85" + "a" * 100, "x?" + "a" * 38 + ",")])
def test_an_encoding_that_is_not_understood_is_told(encoding: str, shown: str) -> None:
    with pytest.raises(UpstreamBroken, match=shown.replace("?", r"\?")):
        inflater_of(encoding)
