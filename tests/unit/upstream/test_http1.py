"""One exchange over a scripted socket: whatever the pieces in which an answer comes, the same answer is read, or the same error raised."""

from __future__ import annotations

import gzip
import ssl
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from compat.errors import UpstreamBroken, UpstreamError, UpstreamUnreachable
from compat.upstream.http1 import MAX_HEAD_BYTES, Connection, Exchange, Head

SILENCE = None
END = b""
Piece = bytes | None | Exception


class ScriptedSocket:
    """Gives one piece per read: bytes, `END`, `SILENCE` (a time-out) or an error to be raised. A read beyond the script fails the test."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.pieces = list(pieces)
        self.is_closed = False

    def settimeout(self, timeout_s: float) -> None:
        assert timeout_s > 0, "a time-out of nothing would not wait"

    def recv(self, _size: int) -> bytes:
        assert self.pieces, "read beyond the end of the answer"
        piece = self.pieces.pop(0)
        if piece is None:
            raise TimeoutError("timed out")
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.is_closed = True


class Opened:
    """An exchange over `pieces`; `given_back` lists what the pool was told."""

    def __init__(self, *pieces: Piece, resent: list[Piece] | None = None) -> None:
        self.given_back: list[tuple[Connection, bool]] = []
        self.first = ScriptedSocket(pieces)
        self.second = ScriptedSocket(resent or [])
        self.resends = 0
        self.exchange = Exchange(
            Connection(self.first, is_reused=resent is not None),
            lambda connection, is_reusable: self.given_back.append((connection, is_reusable)),
            self._resend if resent is not None else None,
        )

    def _resend(self) -> Connection:
        self.resends += 1
        return Connection(self.second)

    def head(self) -> Head:
        while (head := self.exchange.receive_head(1)) is None:
            pass
        return head

    def body(self) -> bytes:
        parts: list[bytes] = []
        while (data := self.exchange.receive(1)) != b"":
            parts.append(data or b"")
        return b"".join(parts)

    def read(self) -> tuple[int, dict[str, str], bytes, bool]:
        """Status, headers and body, and whether the connection can be used again."""
        head = self.head()
        body = self.body()
        self.exchange.close()
        return head.status, dict(head.headers), body, self.given_back[0][1]


@dataclass(frozen=True)
class Case:
    name: str
    raw: bytes
    body: bytes
    status: int = 200
    is_reusable: bool = True
    ends_by_close: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def end(self) -> list[Piece]:
        return [END] if self.ends_by_close else []


OK = b"HTTP/1.1 200 OK\r\n"
ZIPPED = gzip.compress(b"Hello there.", mtime=0)


def with_length(body: bytes, *lines: bytes) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in lines) + b"content-length: %d\r\n\r\n" % len(body) + body


CASES = [
    Case("its length", with_length(b"Hello"), b"Hello", headers=(("content-length", "5"),)),
    Case("no body", with_length(b""), b""),
    Case("one chunk", OK + b"transfer-encoding: chunked\r\n\r\n5\r\nHello\r\n0\r\n\r\n", b"Hello"),
    Case("several chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nH\r\n3;x=y\r\nell\r\n1\r\no\r\n0\r\n\r\n", b"Hello"),
    Case("chunks with a trailer", OK + b"transfer-encoding: chunked\r\n\r\n5\r\nHello\r\n0\r\nx-sum: 1\r\n\r\n", b"Hello"),
    Case("chunks that look like framing", OK + b"transfer-encoding: chunked\r\n\r\n7\r\n0\r\n\r\n0\r\r\n0\r\n\r\n", b"0\r\n\r\n0\r"),
    Case("the connection's end", OK + b"\r\nHello", b"Hello", is_reusable=False, ends_by_close=True),
    Case("an empty body and the connection's end", OK + b"\r\n", b"", is_reusable=False, ends_by_close=True),
    Case("a length, and closes afterwards", with_length(b"Hello", b"connection: close"), b"Hello", is_reusable=False),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nHello", b"Hello", is_reusable=False),
    Case("HTTP/1.0 kept alive", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nHello", b"Hello"),
    Case("no reason phrase", b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n{}", b"{}"),
    Case("a status without a body", b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    Case("not modified", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"", 304),
    Case("an error", b"HTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n{}", b"{}", 429, headers=(("retry-after", "3"),)),
    Case("100 first", b"HTTP/1.1 100 Continue\r\n\r\n" + with_length(b"Hello"), b"Hello"),
    Case("103 with headers first", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 2 + with_length(b"Hello"), b"Hello"),
    Case("repeated headers", with_length(b"", b"X-A: 1", b"x-a: 2", b"X-B:  b"), b"", headers=(("x-a", "1, 2"), ("x-b", "b"))),
    Case("latin-1 in a header", with_length(b"", b"x-a: caf\xe9"), b"", headers=(("x-a", "café"),)),
    Case("gzip", with_length(ZIPPED, b"content-encoding: gzip"), b"Hello there."),
    Case(
        "gzip in chunks",
        OK + b"content-encoding: GZIP\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED),
        b"Hello there.",
    ),
    Case("gzip in two members", with_length(ZIPPED + ZIPPED, b"content-encoding: gzip"), b"Hello there." * 2),
    Case("gzip of nothing, as some servers send it", with_length(b"", b"content-encoding: gzip"), b""),
    Case("gzip to the end", OK + b"content-encoding: x-gzip\r\n\r\n" + ZIPPED, b"Hello there.", is_reusable=False, ends_by_close=True),
    Case("deflate", with_length(zlib.compress(b"Hello"), b"content-encoding: deflate"), b"Hello"),
    Case("identity, said aloud", with_length(b"Hello", b"content-encoding: identity"), b"Hello"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
def test_an_answer_is_read_by_its_framing(case: Case) -> None:
    status, headers, body, is_reusable = Opened(case.raw, *case.end).read()
    assert (status, body, is_reusable) == (case.status, case.body, case.is_reusable)
    assert set(case.headers) <= set(headers.items())
    assert "link" not in headers


@every_case
def test_byte_by_byte_gives_the_same(case: Case) -> None:
    whole = Opened(case.raw, *case.end).read()
    assert Opened(*(bytes([byte]) for byte in case.raw), *case.end).read() == whole


@every_case
def test_every_split_in_two_gives_the_same(case: Case) -> None:
    whole = Opened(case.raw, *case.end).read()
    for cut in range(1, len(case.raw)):
        assert Opened(case.raw[:cut], case.raw[cut:], *case.end).read() == whole, f"split at {cut}"


@every_case
def test_silence_anywhere_loses_nothing(case: Case) -> None:
    whole = Opened(case.raw, *case.end).read()
    pieces: list[Piece] = [SILENCE]
    for byte in case.raw:
        pieces += [bytes([byte]), SILENCE]
    assert Opened(*pieces, *case.end).read() == whole


HEAD = OK + b"content-length: 100\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        pytest.param([END], UpstreamUnreachable, id="an end before any byte"),
        pytest.param([b"HTTP/1.1 200", END], UpstreamUnreachable, id="an end within the head"),
        pytest.param([ConnectionResetError(104, "reset")], UpstreamUnreachable, id="a reset before any byte"),
        pytest.param([b"HTTP/1.1 200", ConnectionResetError(104, "reset")], UpstreamUnreachable, id="a reset within the head"),
        pytest.param([ssl.SSLError(1, "bad record")], UpstreamUnreachable, id="a TLS error before any byte"),
        pytest.param([HEAD + b"Hell", END], UpstreamBroken, id="an end short of the length"),
        pytest.param([HEAD, ConnectionResetError(104, "reset")], UpstreamBroken, id="a reset within the body"),
        pytest.param([HEAD, ssl.SSLError(1, "bad record")], UpstreamBroken, id="a TLS error within the body"),
        pytest.param([CHUNKED + b"5\r\nHello\r\n", END], UpstreamBroken, id="an end without the last chunk"),
        pytest.param([CHUNKED + b"5\r\nHel", END], UpstreamBroken, id="an end within a chunk"),
        pytest.param([CHUNKED + b"zz\r\nHello\r\n"], UpstreamBroken, id="a chunk size that is none"),
        pytest.param([CHUNKED + b"5\r\nHello0\r\n\r\n"], UpstreamBroken, id="a chunk longer than its size"),
        pytest.param([b"SSH-2.0-OpenSSH_9.6\r\n"], UpstreamBroken, id="another protocol"),
        pytest.param([b"\x15\x03\x03\x00\x02\x02F"], UpstreamBroken, id="TLS where plain text was expected"),
        pytest.param([OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nHello"], UpstreamBroken, id="two lengths"),
        pytest.param([OK + b"content-length: -1\r\n\r\n"], UpstreamBroken, id="a negative length"),
        pytest.param([OK + b"no colon here\r\n\r\n"], UpstreamBroken, id="a header that is none"),
        pytest.param([b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"], UpstreamBroken, id="an upgrade"),
        pytest.param([OK + b"content-encoding: br\r\ncontent-length: 1\r\n\r\nx"], UpstreamBroken, id="an unknown encoding"),
        pytest.param([OK, *[b"x-filler: " + b"a" * 1014 + b"\r\n"] * 70], UpstreamBroken, id="a head without end"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n" * 400] * 10, UpstreamBroken, id="interim answers without end"),
    ],
)
def test_a_broken_answer_is_an_upstreams_fault(pieces: list[Piece], error: type[UpstreamError]) -> None:
    opened = Opened(*pieces)
    with pytest.raises(error) as caught:
        opened.read()
    assert type(caught.value) is error
    assert caught.value.retryable
    opened.exchange.close()
    assert [is_reusable for _, is_reusable in opened.given_back] == [False]


def test_a_head_is_bounded_but_a_body_is_not() -> None:
    body = b"a" * (2 * MAX_HEAD_BYTES)
    assert Opened(with_length(body)).read()[2] == body


def test_what_came_before_the_cut_is_handed_out_first() -> None:
    opened = Opened(CHUNKED + b"5\r\nHello\r\n", END)
    assert opened.head().status == 200
    assert opened.exchange.receive(1) == b"Hello"
    with pytest.raises(UpstreamBroken):
        opened.exchange.receive(1)


def test_a_compressed_answer_that_is_none_is_broken() -> None:
    with pytest.raises(UpstreamBroken, match="damaged"):
        Opened(with_length(b"Hello", b"content-encoding: gzip")).read()


def test_an_inflated_answer_is_bounded() -> None:
    bomb = zlib.compress(bytes(70 * 1024 * 1024))
    with pytest.raises(UpstreamBroken, match="too large"):
        Opened(with_length(bomb, b"content-encoding: deflate")).read()


@pytest.mark.parametrize("cut", [1, 12, len(ZIPPED) - 1])
def test_a_compressed_answer_that_is_cut_is_broken(cut: int) -> None:
    with pytest.raises(UpstreamBroken):
        Opened(OK + b"content-encoding: gzip\r\n\r\n" + ZIPPED[:cut], END).read()
    with pytest.raises(UpstreamBroken):  # cut before it was framed
        Opened(with_length(ZIPPED[:cut], b"content-encoding: gzip")).read()


def test_all_members_of_a_gzip_stream_are_read() -> None:
    assert Opened(with_length(ZIPPED + ZIPPED, b"content-encoding: gzip")).read()[2] == b"Hello there." * 2


def test_white_space_around_a_header_is_no_part_of_it() -> None:
    assert Opened(with_length(b"", b"x-a:\t b \t")).head().headers["x-a"] == "b"


def test_trailers_are_no_headers() -> None:
    opened = Opened(OK + b"transfer-encoding: chunked\r\n\r\n5\r\nHello\r\n0\r\nx-late: 1\r\n\r\n")
    assert "x-late" not in opened.read()[1]


def test_the_bound_of_framing_counts_anew_with_every_piece_of_the_body() -> None:
    chunk = b"5;%s\r\nHello\r\n" % (b"x" * (MAX_HEAD_BYTES // 2))
    assert Opened(OK + b"transfer-encoding: chunked\r\n\r\n", *[chunk] * 10, b"0\r\n\r\n").read()[2] == b"Hello" * 10


ANSWER = with_length(b"Hello")


@pytest.mark.parametrize(
    "extra", [ANSWER, ANSWER[:-1], b"garbage", b"\x00"], ids=["an answer", "most of an answer", "garbage", "a null byte"]
)
@pytest.mark.parametrize("answer", [ANSWER, CHUNKED + b"5\r\nHello\r\n0\r\n\r\n"], ids=["length", "chunked"])
def test_bytes_after_the_end_do_not_touch_the_answer_but_cost_the_connection(answer: bytes, extra: bytes) -> None:
    status, _, body, is_reusable = Opened(answer + extra).read()
    assert (status, body, is_reusable) == (200, b"Hello", False)


@pytest.mark.parametrize("extra", [b"H", b"HTTP/1.1 200 OK\r\ncontent-le"])
def test_the_beginning_of_a_second_answer_costs_the_connection(extra: bytes) -> None:
    assert Opened(ANSWER + extra).read() == (200, {"content-length": "5"}, b"Hello", False)


# Giving back, and sending again.


def test_the_connection_is_given_back_once() -> None:
    opened = Opened(ANSWER)
    opened.read()
    opened.exchange.close()
    assert len(opened.given_back) == 1
    assert opened.given_back[0][0].sock is opened.first


@pytest.mark.parametrize(
    ("pieces", "reads_head"),
    [([], False), ([HEAD + b"Hello"], True), ([CHUNKED + b"5\r\nHello\r\n"], True)],
    ids=["unanswered", "length", "chunked"],
)
def test_an_answer_that_was_left_takes_its_connection_with_it(pieces: list[Piece], reads_head: bool) -> None:
    opened = Opened(*pieces)
    if reads_head:
        opened.head()
    opened.exchange.close()
    assert [is_reusable for _, is_reusable in opened.given_back] == [False]


def test_a_body_that_came_but_was_not_taken_takes_its_connection_with_it() -> None:
    opened = Opened(ANSWER)
    opened.head()
    opened.exchange.close()
    assert [is_reusable for _, is_reusable in opened.given_back] == [False]


@pytest.mark.parametrize("stale", [END, ConnectionResetError(104, "reset"), ssl.SSLError(1, "closed")], ids=["end", "reset", "TLS"])
def test_a_stale_connection_is_replaced(stale: Piece) -> None:
    opened = Opened(stale, resent=[ANSWER])
    assert opened.read()[:3] == (200, {"content-length": "5"}, b"Hello")
    assert opened.resends == 1
    assert opened.first.is_closed
    assert opened.given_back[0][0].sock is opened.second


@pytest.mark.parametrize("again", [END, ConnectionResetError(104, "reset")], ids=["end", "reset"])
def test_a_stale_connection_is_replaced_once_only(again: Piece) -> None:
    opened = Opened(END, resent=[again, ANSWER])
    with pytest.raises(UpstreamUnreachable):
        opened.read()
    assert opened.resends == 1


@pytest.mark.parametrize("stale", [END, ConnectionResetError(104, "reset")], ids=["end", "reset"])
@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["a byte", "an interim answer"])
def test_nothing_is_sent_again_once_a_byte_of_an_answer_came(begun: bytes, stale: Piece) -> None:
    opened = Opened(begun, stale, resent=[ANSWER])
    with pytest.raises(UpstreamUnreachable):
        opened.read()
    assert opened.resends == 0


def test_silence_does_not_make_a_connection_stale() -> None:
    opened = Opened(SILENCE, SILENCE, ANSWER, resent=[])
    assert opened.read()[0] == 200
    assert opened.resends == 0


def test_an_answer_that_asks_for_a_wait_has_a_date() -> None:
    """A wait told as a date counts from the answer's own date; where it has none, from the time it came."""
    now_s = 1_700_000_000.4
    asking = {"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}
    assert Head(429, asking).dated(now_s).headers == {**asking, "date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    for head in (Head(429, {}), Head(429, {**asking, "date": "Mon, 13 Nov 2023 22:13:20 GMT"})):
        assert head.dated(now_s) is head
