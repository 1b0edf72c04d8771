"""The fold over events: what an answer says, by whoever it was written."""

from __future__ import annotations

from compat.protocols.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    Signature,
    Start,
    Stop,
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.protocols.transcript import Transcript
from compat.wire.usage import Usage


def folded(*events: Event) -> Transcript:
    transcript = Transcript()
    for event in events:
        transcript.add(event)
    return transcript


def test_words_calls_and_the_end_are_those_of_the_events() -> None:
    transcript = folded(
        Start("a", 5),
        BlockStart(0, "thinking"),
        ThinkingDelta(0, "Hm."),
        Signature(0, "x", "sealed"),
        BlockStop(0),
        BlockStart(1, "text"),
        TextDelta(1, "One, "),
        BlockStart(2, "tool_call", "call_1", "read"),
        ArgumentsDelta(2, '{"p":'),
        TextDelta(1, "two."),
        Cited(1, ({"url": "x"},)),
        ArgumentsDelta(2, "1}"),
        BlockStop(2),
        Start("b", 6),
        Stop("tool_calls"),
        Used(Usage(3, 4), {"prompt_tokens": 3}),
    )
    turn = transcript.turn()
    assert (turn.text, turn.thinking, turn.reason, turn.is_plain) == ("One, two.", "Hm.", "tool_calls", False)
    assert [(call.call_id, call.name, call.arguments) for call in turn.calls] == [("call_1", "read", '{"p":1}')]
    assert (transcript.identity, transcript.usage, transcript.told, transcript.chars) == (
        ("a", 5),
        Usage(3, 4),
        {"prompt_tokens": 3},
        len("Hm.One, two.") + len('{"p":1}'),
    )


def test_each_choice_has_its_own_turn() -> None:
    transcript = folded(
        BlockStart(0, "text", choice=1),
        BlockStart(1, "text"),
        TextDelta(0, "b"),
        TextDelta(1, "a"),
        Stop("end", choice=1),
        Unknown("x", "y"),
    )
    first, second = transcript.turn(), transcript.turn(1)
    assert (first.text, first.reason, first.is_plain, first.unknown) == ("a", None, False, ["y"])
    assert (second.text, second.reason, second.is_plain) == ("b", "end", True)


def test_a_refusal_is_the_ends_or_a_blocks() -> None:
    assert folded(Stop("refusal", "No.")).turn().refusal == "No."
    block = folded(BlockStart(0, "refusal"), TextDelta(0, "No.")).turn()
    assert (block.refusal, block.text, block.is_plain) == ("No.", "", False)
