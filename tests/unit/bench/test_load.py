"""The load generator: when an answer is complete, when its bytes came, what is sent."""

import json

import pytest

from bench.answers import FAST_MODEL, prepare, shape_of
from bench.load import Answer, came_s, late_ms, request_of
from bench.scenarios import PEER_SCENARIOS, SCENARIOS, scenario_named

ANSWERS = prepare("openai", shape_of(FAST_MODEL))
STREAM = ANSWERS.opening + b"".join(ANSWERS.frames) + ANSWERS.closing


@pytest.mark.parametrize("raw", [ANSWERS.whole, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("size", [1, 2, 6, 7, 1000, 10**6])
def test_an_answer_is_complete_with_its_last_byte_however_it_is_cut(raw: bytes, size: int):
    answer = Answer(0.0)
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    ends = [answer.take(piece, float(number)) for number, piece in enumerate(pieces)]
    assert ends == [False] * (len(pieces) - 1) + [True]
    assert answer.raw == raw
    assert answer.ended_s == len(pieces) - 1


def test_a_byte_came_with_the_piece_that_it_is_in():
    answer = Answer(0.0)
    for piece, when_s in ((b"abc", 1.0), (b"de", 2.0)):
        answer.take(piece, when_s)
    assert [came_s(answer.arrivals(), offset) for offset in range(5)] == [1.0, 1.0, 1.0, 2.0, 2.0]


def test_a_request_has_the_path_the_headers_and_the_length_that_it_says():
    request = request_of(scenario_named("Kilo call"), "gateway", 1234, "/tls", {"authorization": "Bearer other", "x-more": "1"})
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /tls/v1/chat/completions HTTP/1.1\r\n")
    assert head.count(b"authorization:") == 1
    assert b"\r\nauthorization: Bearer other" in head
    assert b"\r\nx-more: 1\r\n" in head
    assert f"content-length: {len(body)}".encode() in head


@pytest.mark.parametrize("row", [*SCENARIOS, *PEER_SCENARIOS], ids=lambda row: row.name)
def test_each_scenario_asks_for_what_it_says(row):
    document = json.loads(row.body("gateway"))
    assert document["model"] == row.route
    assert document["stream"] is (row.chunks > 0)
    if row.chunks:
        assert len(shape_of(row.model).pieces) == row.chunks
    if row.body_bytes:
        assert len(row.body("direct")) == pytest.approx(row.body_bytes, rel=0.06)
    for other in (row.baseline, row.behind):
        assert not other or scenario_named(other).upstream == row.upstream


def test_a_piece_that_is_said_again_at_the_end_is_not_late() -> None:
    first, again = b"000@000000001.000000;", b"000@000000001.000000;001@000000002.000000;"
    arrivals = [(len(first), 1.25), (len(first + again), 9.0)]
    assert late_ms(first + again, arrivals) == [250.0, 7000.0]
