"""Two answers as one stream: nothing lost, nothing doubled, one identity."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from compat.calls.resume import Shown, ShownSoFar, Spent
from compat.calls.splice import MIN_OVERLAP, Splice, _are_words, new_part, overlap_of
from compat.config.catalog import Model
from compat.protocols.base import TranslationContext
from compat.protocols.chat.chunks import DONE, ChunkWriter
from compat.protocols.chat.client import CHAT
from compat.protocols.events import ArgumentsDelta, BlockStart, Event, Start, Stop, TextDelta, ThinkingDelta, Used
from compat.protocols.notes import Notes
from compat.protocols.responses.client import RESPONSES
from compat.protocols.responses.writer import ResponsesWriter
from compat.wire.sse import KEEP_ALIVE
from compat.wire.usage import Usage
from tests.cases.responses_client import events_of, response_of
from tests.unit.builders import StillClock

THEIRS = ChunkWriter("chatcmpl-2", 8, "alias")
LETTERS = st.sampled_from("abc \n\té✓")
TEXTS = st.text(alphabet=LETTERS, min_size=1, max_size=200)
CODE = "def f(x):\n    if x:\n        return 1\n\n    return 2\n\n\ndef g(x):\n    if x:\n        return 3\n"


def spliced(shown: str, pieces: list[str], *, is_prefilled: bool = False) -> str:
    """The client's text in the end."""
    held, joined = "", None
    added = ""
    for number, piece in enumerate(pieces):
        if joined is None:
            held += piece
            joined = new_part(shown, held, is_prefilled=is_prefilled, is_last=number == len(pieces) - 1)
            added += joined or ""
        else:
            added += piece
    return shown + added


def cut(text: str, seed: int) -> list[str]:
    dice, pieces = random.Random(seed), []
    while text:
        size = dice.choice((1, 1, 2, 5, 13, 60))
        pieces.append(text[:size])
        text = text[size:]
    return pieces or [""]


def is_ambiguous(shown: str, rest: str, repeated: int) -> bool:
    """Whether the continuation of `rest` looks like a longer repetition than it is, or like one at all: nobody could tell."""
    said = shown[len(shown) - repeated :] + rest
    return any(
        shown.endswith(start[:size]) and (size >= MIN_OVERLAP or _are_words(shown, size) or size == len(shown))
        for start in (said, said.lstrip())
        for size in range(1, min(len(shown), len(start)) + 1)
        if not (start is said and size == repeated)
    )


@given(TEXTS, st.integers(0, 200), st.integers(0, 99))
@example(CODE, len("def f(x):\n"), 1)
@example(CODE, len("def f(x):\n    if x:\n        return 1\n"), 1)
def test_a_continuation_that_repeats_nothing_loses_nothing(text: str, at: int, seed: int) -> None:
    shown, rest = text[:at], text[at:]
    assume(not is_ambiguous(shown, rest, 0))
    assert spliced(shown, cut(rest, seed)) == text


@given(st.text(alphabet=LETTERS, min_size=MIN_OVERLAP, max_size=150), TEXTS, st.integers(MIN_OVERLAP, 150), st.integers(0, 99))
def test_a_continuation_that_repeats_the_end_doubles_nothing(shown: str, rest: str, repeated: int, seed: int) -> None:
    repeated = min(repeated, len(shown))
    assume(not is_ambiguous(shown, rest, repeated))
    assert spliced(shown, cut(shown[-repeated:] + rest, seed)) == shown + rest


@given(st.integers(13, 4000), st.integers(MIN_OVERLAP, 4000), st.integers(0, 99))
@example(3000, 3000, 5)
def test_also_when_a_long_part_or_all_of_it_is_repeated(at: int, repeated: int, seed: int) -> None:
    text = "".join(f"word {number}, " for number in range(400))
    shown, repeated = text[:at], min(repeated, at, len(text))
    assert spliced(shown, cut(shown[-repeated:] + text[at:], seed)) == text


@given(TEXTS, st.integers(0, 200), st.integers(0, 99))
@example(CODE, len("def f(x):\n    "), 1)
@example("a b", 2, 1)
def test_a_prefilled_model_goes_on_after_the_white_space_that_was_not_sent(text: str, at: int, seed: int) -> None:
    shown = text[:at]
    assert spliced(shown, cut(text[len(shown.rstrip()) :], seed), is_prefilled=True) == text


def test_a_prefilled_model_may_choose_other_white_space() -> None:
    assert spliced("one\n\n", ["\ntwo"], is_prefilled=True) == "one\n\ntwo"
    assert spliced("one ", ["two"], is_prefilled=True) == "one two"
    assert spliced("one\n", ["\n", "\n", "two"], is_prefilled=True) == "one\n\ntwo"


def test_a_prefilled_model_may_repeat_on_purpose() -> None:
    line = "| --- | --- | --- |\n"
    assert spliced("x\n" + line[:-1], ["\n" + line], is_prefilled=True) == "x\n" + line + line


@pytest.mark.parametrize(
    ("shown", "rest", "text"),
    [
        ("The quick brown fox ", "fox jumps", "The quick brown fox jumps"),
        ("The quick brown fox", "brown fox jumps", "The quick brown fox jumps"),
        ("The quick brown f", "fox jumps", "The quick brown fox jumps"),
        ("Hello", "Hello there", "Hello there"),
        ("    return x", "x + 1", "    return x + 1"),
        ("是的", "是的，", "是的，"),
    ],
)
def test_a_short_repetition_of_words_doubles_nothing(shown: str, rest: str, text: str) -> None:
    assert spliced(shown, cut(rest, 3)) == text


@pytest.mark.parametrize(
    ("shown", "rest"), [("[0, 0, ", "0, 0]"), ("ban", "ana"), ("a, ", "a, b"), ("f(g(x", ")))"), ("1", "10"), ("x_a", "and"), ("---", "--")]
)
def test_a_short_likeness_that_is_no_words_is_the_texts_own(shown: str, rest: str) -> None:
    begun = f"So: {shown}"
    assert spliced(begun, cut(rest, 3)) == begun + rest


def test_white_space_before_a_repetition_goes_with_it() -> None:
    assert spliced("It was the best of times", ["\n\nthe best of times, it"]) == "It was the best of times, it"


@pytest.mark.parametrize(
    ("shown", "text", "size"),
    [("x" * 50, "x" * 20, 20), ("abc" * 9, "abc" * 9 + "d", 27), ("-- short", "short", 5), ("-- 1234", "1234", 0), ("a", "", 0)],
)
def test_the_longest_repetition_counts(shown: str, text: str, size: int) -> None:
    assert overlap_of(shown, text) == size


def test_what_can_t_be_a_repetition_is_shown_at_once() -> None:
    assert new_part("Hello there, you", "W", is_prefilled=False, is_last=False) == "W"
    assert new_part("Hello there, you", "th", is_prefilled=False, is_last=False) is None
    assert new_part("Hello there, you", "tha", is_prefilled=False, is_last=False) == "tha"


@pytest.mark.parametrize("unit", ["-", "ab ", "\n"])
def test_a_long_repetition_in_small_pieces_takes_linear_time(unit: str) -> None:
    def steps(size: int) -> int:
        joint = splice(unit * size)
        frames = [THEIRS.text(b"content", unit * 10)] * (size // 10 + 10)
        looks = 0

        def count(*_: Any) -> None:
            nonlocal looks
            looks += 1

        sys.setprofile(count)
        try:
            for frame in frames:
                joint.feed(frame)
        finally:
            sys.setprofile(None)
        return looks

    assert steps(4000) < 5 * steps(1000)


def test_finding_an_overlap_in_a_long_periodic_text_takes_no_time() -> None:
    assert overlap_of("ab" * 300_000, "ab" * 2_000 + "c") == 4_000


# Frames.


def events(frames: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in frames.decode().split("\n") if line.startswith("data: {")]


def splice(text: str = "Hello the", *, is_prefilled: bool = False, wants_usage: bool = True, spent: Spent | None = None) -> Splice:
    shown = Shown(text, identity=("chatcmpl-1", 7))
    return Splice(CHAT, "alias", shown, spent or Spent(), ["a/x", "b/y"], lambda: is_prefilled, StillClock().now, wants_usage=wants_usage)


def test_the_stream_keeps_its_identity_and_has_no_second_role() -> None:
    got = events(splice().feed(THEIRS.role() + THEIRS.text(b"content", "re.") + THEIRS.finish("stop")))
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in got} == {("chatcmpl-1", 7, "alias")}
    assert [chunk["choices"][0]["delta"] for chunk in got] == [{"content": "re."}, {}]
    assert got[-1]["choices"][0]["finish_reason"] == "stop"


def test_what_is_held_back_comes_before_the_end() -> None:
    joint = splice("so and so and so on")
    assert joint.feed(THEIRS.text(b"content", "so ")) == b""
    assert joint.feed(THEIRS.text(b"content", "and")) == b""
    got = events(joint.feed(THEIRS.finish("stop")))
    assert [chunk["choices"][0]["delta"] for chunk in got] == [{"content": "so and"}, {}]


def test_what_is_held_back_comes_before_a_tool_call() -> None:
    joint = splice("so and so and so on")
    assert joint.feed(THEIRS.text(b"content", "so ")) == b""
    got = events(joint.feed(THEIRS.tool_call(0, "call_1", "f") + THEIRS.ready_arguments(0) % b'"{}"' + THEIRS.finish("tool_calls")))
    assert got[0]["choices"][0]["delta"] == {"content": "so "}
    assert [list(chunk["choices"][0]["delta"]) for chunk in got[1:]] == [["tool_calls"], ["tool_calls"], []]


def test_a_whole_answer_in_one_delta_keeps_its_order() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    got = events(splice("so and so and so on").feed(THEIRS.delta({"content": "so ", "tool_calls": [call]})))
    begun = {**call, "function": {"name": "f", "arguments": ""}}
    assert [chunk["choices"][0]["delta"] for chunk in got] == [
        {"content": "so "},
        {"tool_calls": [begun]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    ]


def test_reasoning_does_not_stand_in_the_middle_of_a_text() -> None:
    assert splice().feed(THEIRS.role() + THEIRS.text(b"reasoning_content", "Where was I?")) == b""
    assert events(splice("").feed(THEIRS.text(b"reasoning_content", "Hm.")))[0]["choices"][0]["delta"] == {"reasoning_content": "Hm."}


def test_heartbeats_pass() -> None:
    assert splice().feed(KEEP_ALIVE) == KEEP_ALIVE


def test_a_comment_before_the_end_mark_names_the_deployments() -> None:
    assert splice().feed(DONE) == b": carried on after a fault: a/x -> b/y\n\n" + DONE


def test_no_name_can_break_the_comment() -> None:
    joint = Splice(
        CHAT,
        "alias",
        Shown("x", identity=("x", 1)),
        Spent(),
        ["a/x\n\ndata: {}", "b/é"],
        lambda: False,
        StillClock().now,
        wants_usage=False,
    )
    assert joint.feed(DONE) == b": carried on after a fault: a/x??data: {} -> b/?\n\n" + DONE


def test_usage_is_that_of_all_parts() -> None:
    raw = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "cost_details": {"upstream_inference_cost": 0.5}}
    spent = Spent(Usage(prompt_tokens=100, completion_tokens=20), 0.25)
    usage = events(splice(spent=spent).feed(THEIRS.usage(raw)))[0]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (111, 27, 138)
    assert usage["cost_details"]["upstream_inference_cost"] == 0.75


def test_usage_is_told_to_those_who_asked() -> None:
    assert splice(wants_usage=False).feed(THEIRS.usage({"prompt_tokens": 1})) == b""


def test_every_split_of_the_frames_gives_the_same() -> None:
    frames = THEIRS.role() + THEIRS.text(b"content", "Hello there, ") + THEIRS.text(b"content", "you.") + THEIRS.finish("stop") + DONE
    whole = splice("Hello there, ").feed(frames)
    for size in (1, 2, 7, 50):
        joint = splice("Hello there, ")
        assert b"".join(joint.feed(frames[at : at + size]) for at in range(0, len(frames), size)) == whole


def test_what_only_the_protocol_knows_is_carried_on_and_notes_on_reasoning_are_not() -> None:
    signed = {"index": 0, "id": "call_1", "extra": {"signature": "s"}, "function": {"name": "f", "arguments": "{}"}}
    got = events(splice("").feed(THEIRS.delta({"audio": {"id": "x"}}) + THEIRS.delta({"tool_calls": [signed]})))
    assert got[0]["choices"][0]["delta"] == {"audio": {"id": "x"}}
    assert got[1]["choices"][0]["delta"]["tool_calls"][0]["extra"] == {"signature": "s"}
    assert splice("Hello").feed(THEIRS.delta({"reasoning_details": [{"x": 1}]})) == b""


# The Responses protocol, whose events are numbered and whose end repeats all of the answer.


def responses(answer_id: str, *events: Event) -> tuple[bytes, ResponsesWriter]:
    """The frames of an answer that has not ended, and its writer."""
    writer = ResponsesWriter(TranslationContext("alias", "m", Model(), answer_id, 7, is_stream=True), Notes())
    return b"".join(map(writer.write, events)), writer


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("began", "thought"),
    [([ThinkingDelta(0, "Hm."), TextDelta(1, "Hello the")], "Hm."), ([ThinkingDelta(0, "Hm.")], "Hm.So."), ([], "So.")],
    ids=["within a text", "within a thought", "before either"],
)
def test_an_answer_of_responses_is_one_from_its_first_event_to_its_last(began: list[Event], thought: str, size: int) -> None:
    starts: list[Event] = [Start(), BlockStart(0, "thinking"), BlockStart(1, "text")]
    shown, _ = responses("resp_ours", *starts, *began)
    so_far = ShownSoFar(RESPONSES)
    so_far.add(shown)
    seen = so_far.read()
    assert seen is not None
    later, writer = responses("resp_2", *starts, ThinkingDelta(0, "So."), TextDelta(1, "Hello the"), TextDelta(1, "re."))
    call = (BlockStart(2, "tool_call", "call_1", "f"), ArgumentsDelta(2, "{}"))
    later += b"".join(map(writer.write, (*call, Stop("tool_calls"), Used(Usage(5, 6))))) + writer.finish()
    joint = Splice(RESPONSES, "alias", seen, Spent(Usage(100, 20), 0.25), ["a/x", "b/y"], lambda: False, StillClock().now, wants_usage=True)
    frames = b"".join(joint.feed(later[at : at + size]) for at in range(0, len(later), size))
    comment = b": carried on after a fault: a/x -> b/y\n\n"
    assert comment in frames
    whole = response_of(events_of((shown + frames).replace(comment, b"")))
    first, message, last = whole["output"]
    assert (whole["id"], first["content"][0]["text"], message["content"][0]["text"]) == ("resp_ours", thought, "Hello there.")
    assert (last["arguments"], whole["completed_at"]) == ("{}", 1_700_000_000)
    usage = whole["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["cost_details"]) == (105, 26, {"upstream_inference_cost": 0.25})
