"""What the mock upstream says passes the check, and what was changed on the way does not."""

import pytest

from bench.answers import EVENT_MODEL, FAST_MODEL, LONG_MODEL, SLOW_MODEL, Answers, Wire, prepare, shape_of
from bench.check import Fault, check_answer
from bench.mock_upstream import read_body, wire_of

WIRES: list[Wire] = ["openai", "anthropic", "responses"]


def streamed(answers: Answers) -> bytes:
    return answers.opening + b"".join(answers.frames) + answers.closing


def stamped(answers: Answers, first_s: float = 100.0, gap_s: float = 0.1) -> bytes:
    frames = (answers.slow_frame(number, first_s + number * gap_s) for number in range(len(answers.frames)))
    return answers.opening + b"".join(frames) + answers.closing


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", [FAST_MODEL, EVENT_MODEL, LONG_MODEL, "a-model-that-nobody-knows"])
def test_the_mock_upstreams_answers_are_right_whole_and_streamed(wire: Wire, model: str):
    shape = shape_of(model)
    answers = prepare(wire, shape)
    check_answer(answers.whole, wire, shape, is_stream=False)
    check_answer(streamed(answers), wire, shape, is_stream=True)


@pytest.mark.parametrize("wire", WIRES)
def test_a_slow_stream_is_right_when_its_stamps_follow_each_other(wire: Wire):
    shape = shape_of(SLOW_MODEL)
    answers = prepare(wire, shape)
    check_answer(stamped(answers), wire, shape, is_stream=True)
    with pytest.raises(Fault, match="piece 1 of the slow stream"):
        check_answer(stamped(answers, gap_s=0.2), wire, shape, is_stream=True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"017 "', b'"01x "', "the text differs: 800 characters, from 70 on"),
        (b"data: [DONE]", b"data: [done]", "does not end with one"),
        (b'"finish_reason":"stop"', b'"finish_reason":null  ', "0 finish_reasons"),
        (b"HTTP/1.1 200", b"HTTP/1.1 502", "status 502"),
        (b"\r\n0\r\n\r\n", b"\r\n0\r\n\r\n{}", "bytes after the last chunk"),
        (b"delta", b"dalta", "can't be read"),
    ],
)
def test_a_stream_that_was_changed_is_found_out(old: bytes, new: bytes, words: str):
    shape = shape_of(FAST_MODEL)
    raw = streamed(prepare("openai", shape))
    assert old in raw
    with pytest.raises(Fault, match=words):
        check_answer(raw.replace(old, new), "openai", shape, is_stream=True)


def test_a_stream_that_lacks_a_piece_is_found_out():
    shape = shape_of(FAST_MODEL)
    answers = prepare("openai", shape)
    with pytest.raises(Fault, match="796 characters"):
        check_answer(answers.opening + b"".join(answers.frames[1:]) + answers.closing, "openai", shape, is_stream=True)


def test_a_large_text_has_its_size():
    assert len(prepare("openai", shape_of(EVENT_MODEL)).whole) == pytest.approx(1_000_000, rel=0.01)
    assert len(prepare("openai", shape_of(LONG_MODEL)).whole) == pytest.approx(10_000_000, rel=0.01)


@pytest.mark.parametrize(
    ("body", "model", "is_stream"),
    [
        (b'{"model":"fast-model","stream":true}', "fast-model", True),
        (b'{"stream": false, "model": "bench-tls-kilo-model"}', "kilo-model", False),
        (b'{"messages":[{"content":"\\"model\\":\\"slow-model\\""}],"model":"kilo-model"}', "kilo-model", False),
        (b'{"model":"claude-kilo-model","stream":true}', "kilo-model", True),
        (b'{"model":"claude-sonnet-4-6","stream":true}', "fast-model", True),
    ],
)
def test_the_mock_upstream_reads_the_model_from_the_body(body: bytes, model: str, is_stream: bool):
    asked = read_body(body)
    assert (asked.model, asked.is_stream, asked.wants_usage) == (model, is_stream, False)


@pytest.mark.parametrize(
    ("target", "wire"),
    [
        (b"/v1/messages", "anthropic"),
        (b"/v1/messages?beta=true", "anthropic"),
        (b"/openai/v1/chat/completions", "openai"),
        (b"/openai/v1/messages", None),
        (b"/responses/v1/chat/completions", None),
        (b"/v1/models", None),
    ],
)
def test_below_a_protocols_name_the_mock_upstream_speaks_that_one_alone(target: bytes, wire: Wire | None):
    assert wire_of(target) == wire
