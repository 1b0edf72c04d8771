"""What a client was shown is read back, what may be carried on, and how the rest is asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.calls.call import Call, call_from
from compat.calls.resume import MAX_SHOWN_CHARS, Shown, ShownSoFar, Spent, can_rescue, estimate_of, last_frame, rest_of, takes_prefill
from compat.config.catalog import MessagesFacts, Model, Price
from compat.errors import UpstreamBroken
from compat.protocols.base import TranslationContext
from compat.protocols.chat.chunks import DONE, ChunkWriter
from compat.protocols.chat.client import CHAT
from compat.protocols.events import BlockStart, Start, TextDelta, ThinkingDelta
from compat.protocols.notes import Notes
from compat.protocols.responses.client import RESPONSES
from compat.protocols.responses.writer import ResponsesWriter
from compat.routing.router import Deployment
from compat.wire.envelope import Envelope
from compat.wire.sse import KEEP_ALIVE
from compat.wire.usage import Usage
from tests.unit.builders import StillClock, make_upstream

WRITER = ChunkWriter("chatcmpl-1", 7, "alias")
IDENTITY = ("chatcmpl-1", 7)
HELLO = Shown("Hello the", identity=IDENTITY)


def call(**more: Any) -> Call:
    body = {"model": "alias", "messages": [{"role": "user", "content": "Hi"}], "stream": True, **more}
    return call_from(CHAT, Envelope(json.dumps(body).encode()), request_id="r", client="c", received_s=0.0)


def deployment(kind: str = "openai", *, prefill: bool = False) -> Deployment:
    return Deployment(make_upstream("up", kind), "m", Model(id="m", messages=MessagesFacts(prefill=prefill)))


OPENAI, CLAUDE, OLD_CLAUDE = deployment(), deployment("anthropic"), deployment("anthropic", prefill=True)


# What was shown.


def read_shown(frames: Sequence[bytes]) -> Shown:
    """What these frames show."""
    so_far = ShownSoFar(CHAT)
    for frame in frames:
        so_far.add(frame)
    shown = so_far.read()
    assert shown is not None
    return shown


def test_text_and_identity_are_read_from_our_own_frames() -> None:
    frames = [WRITER.role(), KEEP_ALIVE, WRITER.text(b"content", "Hello "), WRITER.text(b"content", "thé")]
    assert read_shown(frames) == Shown("Hello thé", identity=IDENTITY)


def test_reasoning_is_counted_and_not_text() -> None:
    shown = read_shown([WRITER.role(), WRITER.text(b"reasoning_content", "Let me see."), WRITER.text(b"content", "Yes")])
    assert (shown.text, shown.reasoning_chars, shown.is_plain) == ("Yes", 11, True)


def test_reasoning_that_is_told_under_two_names_counts_once() -> None:
    assert read_shown([WRITER.delta({"reasoning_content": "1234", "reasoning": "1234"})]).reasoning_chars == 4


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"function_call": {"name": "f"}},
        {"refusal": "No"},
        {"content": [{"type": "text", "text": "x"}]},
        {"audio": {"id": "x"}},
    ],
)
def test_anything_but_text_and_reasoning_is_not_plain(delta: dict[str, Any]) -> None:
    assert not read_shown([WRITER.role(), WRITER.delta(delta)]).is_plain


def test_empty_fields_are_no_content() -> None:
    assert read_shown([WRITER.delta({"content": None, "tool_calls": None, "refusal": None, "function_call": None})]).is_plain


def test_an_answer_that_has_its_finish_reason_has_ended() -> None:
    assert read_shown([WRITER.text(b"content", "x"), WRITER.finish("stop"), DONE]).has_ended


@given(st.lists(st.text(max_size=20), max_size=30), st.integers(1, 7))
def test_it_is_all_the_same_when_frames_are_read(texts: list[str], every: int) -> None:
    frames = [WRITER.text(b"content", text) for text in texts]
    so_far = ShownSoFar(CHAT)
    for number, frame in enumerate(frames):
        so_far.add(frame)
        if number % every == 0:
            so_far.read()
    shown = so_far.read()
    assert shown == read_shown(frames)
    assert so_far.read() == shown


def test_a_long_answer_is_kept_as_its_text_only() -> None:
    so_far = ShownSoFar(CHAT)
    frame = WRITER.text(b"content", "four")
    for _ in range(20_000):
        so_far.add(frame)
    assert sum(map(len, so_far._unread)) < 512 * 1024
    shown = so_far.read()
    assert shown is not None
    assert len(shown.text) == 80_000


def test_a_text_beyond_the_bound_is_given_up() -> None:
    so_far = ShownSoFar(CHAT)
    frame = WRITER.text(b"content", "x" * 100_000)
    for _ in range(MAX_SHOWN_CHARS // 100_000 + 1):
        so_far.add(frame)
    assert so_far.read() is None
    so_far.add(frame)
    assert so_far.read() is None
    assert so_far._unread == []


@pytest.mark.parametrize("frame", [b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n', b"data: {\n\n"])
def test_what_cannot_be_read_ends_no_stream_and_is_given_up(frame: bytes) -> None:
    so_far = ShownSoFar(CHAT)
    so_far.add(WRITER.text(b"content", "four"))
    so_far.add(frame)
    for _ in range(20_000):
        so_far.add(WRITER.text(b"content", "four"))
    assert so_far.read() is None


# What may be carried on.

CAN: Sequence[tuple[str, Call, Shown, bool]] = [
    ("text", call(), HELLO, True),
    ("reasoning only", call(), Shown(reasoning_chars=9, identity=IDENTITY), True),
    ("plain text asked for", call(response_format={"type": "text"}), HELLO, True),
    ("tools offered, none called yet", call(tools=[{"type": "function", "function": {"name": "f"}}]), HELLO, True),
    ("one answer asked for", call(n=1), HELLO, True),
    ("a tool call shown", call(), Shown("x", is_plain=False, identity=IDENTITY), False),
    ("its end shown", call(), Shown("x", has_ended=True, identity=IDENTITY), False),
    ("nothing shown", call(), Shown(), False),
    ("JSON", call(response_format={"type": "json_object"}), HELLO, False),
    ("a schema", call(response_format={"type": "json_schema", "json_schema": {}}), HELLO, False),
    ("several answers", call(n=2), HELLO, False),
]


@pytest.mark.parametrize(("asked", "shown", "can"), [row[1:] for row in CAN], ids=[row[0] for row in CAN])
def test_what_may_be_carried_on(asked: Call, shown: Shown, can: bool) -> None:
    assert can_rescue(asked, shown) is can


@pytest.mark.parametrize(
    ("where", "body", "takes"),
    [
        (OLD_CLAUDE, {}, True),
        (OLD_CLAUDE, {"reasoning_effort": "none"}, True),
        (OLD_CLAUDE, {"reasoning_effort": "low"}, False),
        (OLD_CLAUDE, {"reasoning": {"effort": "low"}}, False),
        (CLAUDE, {}, False),
        (OPENAI, {}, False),
    ],
)
def test_a_prefill_is_for_models_that_take_it_and_do_not_think(where: Deployment, body: dict[str, Any], takes: bool) -> None:
    assert takes_prefill(call(**body), where) is takes


# How the rest is asked for.


def test_a_model_that_takes_a_prefill_gets_its_own_words_as_the_last_message() -> None:
    asked = rest_of(call(), HELLO, OLD_CLAUDE)
    assert asked.envelope.value("messages") == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello the"}]
    assert asked.wants_usage


@pytest.mark.parametrize("where", [OPENAI, CLAUDE])
def test_other_models_are_asked_to_go_on_from_the_exact_last_characters(where: Deployment) -> None:
    shown = Shown("x" * 500 + " and so\n    ", identity=IDENTITY)
    first, own, request = rest_of(call(), shown, where).envelope.value("messages")
    assert first == {"role": "user", "content": "Hi"}
    assert own == {"role": "assistant", "content": shown.text}
    assert request["role"] == "user"
    assert f"<<<{shown.text[-120:]}>>>" in request["content"]


def test_without_text_the_call_is_asked_as_it_was() -> None:
    asked = call()
    assert rest_of(asked, Shown(" \n", reasoning_chars=50, identity=IDENTITY), OPENAI) is asked


def test_everything_else_of_the_call_stays_and_the_call_itself_is_unchanged() -> None:
    asked = call(temperature=0.5, unheard_of=[1, {"a": 2}], stop=["x"])
    before = asked.envelope.body
    rest = rest_of(asked, HELLO, OPENAI)
    assert asked.envelope.body == before
    for key in asked.envelope:
        if key != "messages":
            assert rest.envelope[key] == asked.envelope[key]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("limit", "left"), [(1000, 900), (100, 1), (50, 1), ("many", "many"), (None, None)])
def test_the_bound_of_the_answer_is_that_of_both_parts(name: str, limit: Any, left: Any) -> None:
    shown = Shown("four" * 80, reasoning_chars=80, identity=IDENTITY)
    assert rest_of(call(**{name: limit}), shown, OPENAI).envelope.value(name) == left


# What it cost.


def test_each_part_costs_what_its_own_model_does() -> None:
    spent = Spent().plus(Usage(prompt_tokens=1_000_000, completion_tokens=10), Price(input=3.0))
    spent = spent.plus(estimate_of(1_000_000), Price(output=5.0))
    assert spent.cost_usd == pytest.approx(8.0)
    assert spent.usage == Usage(prompt_tokens=1_000_000, completion_tokens=1_000_010, is_estimate=True)


def test_an_estimate_is_never_below_nothing() -> None:
    assert estimate_of(-3).completion_tokens == 0


# A failure that ends what was shown.


def test_a_failure_ends_an_answer_of_responses_as_a_part_of_it() -> None:
    asked = Envelope(json.dumps({"model": "alias", "input": "Hi", "stream": True}).encode())
    call = call_from(RESPONSES, asked, request_id="r", client="c", received_s=0.0)
    ctx = TranslationContext("alias", "m", Model(), "resp_1", 7, is_stream=True)
    writer, so_far = ResponsesWriter(ctx, Notes()), ShownSoFar(RESPONSES)
    so_far.add(
        b"".join(map(writer.write, (Start(), BlockStart(0, "text"), TextDelta(0, "A"), BlockStart(1, "thinking"), ThinkingDelta(1, "B"))))
    )
    error = UpstreamBroken("x")
    end = json.loads(last_frame(call, error, so_far).split(b"data: ")[1])
    assert (end["sequence_number"], end["response"]["id"], end["response"]["model"]) == (11, "resp_1", "alias")
    assert [item["type"] for item in end["response"]["output"]] == ["message"]
    assert last_frame(call, error, None) == last_frame(call, error, ShownSoFar(RESPONSES)) == RESPONSES.error_frame(error)
    so_far.add(RESPONSES.error_frame(error))  # of an upstream that speaks the same protocol
    assert last_frame(call, error, so_far) == RESPONSES.error_frame(error)


def test_a_failure_before_anything_was_shown_has_an_id_and_a_date() -> None:
    asked = Envelope(json.dumps({"model": "alias", "input": "Hi", "stream": True}).encode())
    call_of_responses = call_from(RESPONSES, asked, request_id="r", client="c", received_s=0.0)
    end = json.loads(last_frame(call_of_responses, UpstreamBroken("x"), None, StillClock()).split(b"data: ")[1])["response"]
    assert (end["id"], end["created_at"], end["model"]) == (f"resp_{1:032x}", 1_700_000_000, "alias")
    assert last_frame(call(), UpstreamBroken("x"), None, StillClock()) == CHAT.error_frame(UpstreamBroken("x"))


def test_other_protocols_end_alike_wherever_the_answer_stands() -> None:
    so_far = ShownSoFar(CHAT)
    so_far.add(WRITER.role())
    assert last_frame(call(), UpstreamBroken("x"), so_far) == CHAT.error_frame(UpstreamBroken("x"))
