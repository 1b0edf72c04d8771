"""Blocks one after the other, however an upstream interleaves them."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis
import hypothesis.strategies as st
import pytest

from compat.errors import UpstreamBroken
from compat.protocols.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    RefusalDelta,
    Signature,
    Start,
    Stop,
    TextDelta,
    ThinkingDelta,
)
from compat.protocols.sequenced import Balance, Sequenced

END = Stop("tool_calls")


def ordered(*events: Event, order: Sequenced | None = None) -> list[Event]:
    order = order or Sequenced()
    return [one for event in events for one in order.take(event)]


def call(index: int, name: str = "f") -> BlockStart:
    return BlockStart(index, "tool_call", f"call_{index}", name)


def check_is_in_order(events: Sequence[Event]) -> None:
    """One block is open at a time, and numbers count from 0."""
    number, is_open = -1, False
    for event in events:
        match event:
            case BlockStart():
                assert not is_open
                number, is_open = number + 1, True
                assert event.index == number
            case BlockStop():
                assert is_open
                assert event.index == number
                is_open = False
            case Start() | Stop():
                assert not is_open or isinstance(event, Start)
            case _:
                assert is_open
                assert event.index == number


def test_a_thought_ends_where_the_text_begins_and_text_where_a_call_does() -> None:
    events = ordered(
        Start("a", 5),
        BlockStart(0, "thinking"),
        ThinkingDelta(0, "Hm."),
        BlockStart(1, "text"),
        TextDelta(1, "A"),
        TextDelta(1, "B"),
        call(2),
        ArgumentsDelta(2, "{}"),
        END,
    )
    assert events == [
        Start("a", 5),
        BlockStart(0, "thinking"),
        ThinkingDelta(0, "Hm."),
        BlockStop(0),
        BlockStart(1, "text"),
        TextDelta(1, "A"),
        TextDelta(1, "B"),
        BlockStop(1),
        BlockStart(2, "tool_call", "call_2", "f"),
        ArgumentsDelta(2, "{}"),
        BlockStop(2),
        END,
    ]


def test_a_thought_that_goes_on_later_is_another_block() -> None:
    events = ordered(
        BlockStart(0, "thinking"), ThinkingDelta(0, "a"), BlockStart(1, "text"), TextDelta(1, "b"), ThinkingDelta(0, "c"), TextDelta(1, "d")
    )
    starts = [event for event in events if isinstance(event, BlockStart)]
    assert starts == [BlockStart(0, "thinking"), BlockStart(1, "text"), BlockStart(2, "thinking"), BlockStart(3, "text")]
    assert events[-1] == TextDelta(3, "d")


def test_blocks_without_content_are_left_out_but_not_calls_and_signatures() -> None:
    assert ordered(BlockStart(0, "text"), BlockStart(1, "thinking"), BlockStop(0), END) == [END]
    assert ordered(call(0), BlockStop(0)) == [call(0), BlockStop(0)]
    assert ordered(BlockStart(0, "thinking"), Signature(0, "x", "s"), BlockStop(0)) == [
        BlockStart(0, "thinking"),
        Signature(0, "x", "s"),
        BlockStop(0),
    ]


def test_pieces_of_parallel_calls_are_put_together() -> None:
    events = ordered(
        call(4), call(5), ArgumentsDelta(4, '{"a":'), ArgumentsDelta(5, '{"b":'), ArgumentsDelta(4, "1}"), ArgumentsDelta(5, "2}"), END
    )
    assert events == [
        BlockStart(0, "tool_call", "call_4", "f"),
        ArgumentsDelta(0, '{"a":'),
        ArgumentsDelta(0, "1}"),
        BlockStop(0),
        BlockStart(1, "tool_call", "call_5", "f"),
        ArgumentsDelta(1, '{"b":'),
        ArgumentsDelta(1, "2}"),
        BlockStop(1),
        END,
    ]


def test_a_call_that_waits_is_shown_as_soon_as_the_one_before_it_is_complete() -> None:
    order = Sequenced()
    assert ordered(call(0), call(1), ArgumentsDelta(1, "{"), order=order) == [call(0)]
    assert ordered(ArgumentsDelta(0, "{}"), order=order) == [ArgumentsDelta(0, "{}")]
    assert ordered(ArgumentsDelta(1, "}"), order=order) == [
        BlockStop(0),
        BlockStart(1, "tool_call", "call_1", "f"),
        ArgumentsDelta(1, "{"),
        ArgumentsDelta(1, "}"),
    ]


def test_the_end_of_a_block_lets_the_next_ones_out() -> None:
    order = Sequenced()
    assert ordered(call(0), BlockStart(1, "text"), TextDelta(1, "a"), call(2), BlockStop(1), order=order) == [call(0)]
    assert ordered(BlockStop(0), order=order) == [
        BlockStop(0),
        BlockStart(1, "text"),
        TextDelta(1, "a"),
        BlockStop(1),
        BlockStart(2, "tool_call", "call_2", "f"),
    ]
    assert ordered(BlockStop(2), order=order) == [BlockStop(2)]


def test_a_complete_call_gives_way_at_once() -> None:
    assert ordered(call(0), ArgumentsDelta(0, '{"a": "}"}'), call(1))[-2:] == [BlockStop(0), BlockStart(1, "tool_call", "call_1", "f")]


def test_only_white_space_may_follow_a_complete_call() -> None:
    order = Sequenced()
    ordered(call(0), ArgumentsDelta(0, "{}"), call(1), order=order)
    assert ordered(ArgumentsDelta(0, " \n"), order=order) == []
    with pytest.raises(UpstreamBroken, match="tool call that was complete"):
        order.take(ArgumentsDelta(0, "x"))


def test_what_waits_is_written_at_the_end_however_incomplete() -> None:
    order = Sequenced()
    ordered(call(0), call(1), ArgumentsDelta(1, "{"), order=order)
    assert order.end() == [BlockStop(0), BlockStart(1, "tool_call", "call_1", "f"), ArgumentsDelta(1, "{"), BlockStop(1)]
    assert order.end() == []


def test_sources_and_refusals_lie_in_their_blocks() -> None:
    events = ordered(BlockStart(0, "text"), TextDelta(0, "a"), Cited(0, (1,)), BlockStart(1, "refusal"), RefusalDelta(1, "No"), END)
    assert events[2:] == [Cited(0, (1,)), BlockStop(0), BlockStart(1, "refusal"), RefusalDelta(1, "No"), BlockStop(1), END]


def test_an_answer_goes_on_in_the_block_that_is_open() -> None:
    assert ordered(BlockStart(0, "text"), TextDelta(0, "b"), BlockStop(0), order=Sequenced(3, "text")) == [TextDelta(3, "b"), BlockStop(3)]
    other = ordered(BlockStart(0, "text"), TextDelta(0, "b"), order=Sequenced(3, "thinking"))
    assert other == [BlockStop(3), BlockStart(4, "text"), TextDelta(4, "b")]
    closed = ordered(BlockStart(0, "text"), TextDelta(0, "b"), order=Sequenced(3))
    assert closed == [BlockStart(4, "text"), TextDelta(4, "b")]


PIECES = {"text": TextDelta, "thinking": ThinkingDelta, "tool_call": ArgumentsDelta}


@st.composite
def interleaved(draw: st.DrawFn) -> tuple[list[Event], list[tuple[str, str]]]:
    """Blocks whose events lie between each other, and what each call says."""
    kinds = draw(st.lists(st.sampled_from(["text", "thinking", "tool_call"]), min_size=1, max_size=5))
    rows: list[list[Event]] = []
    for index, kind in enumerate(kinds):
        whole = (
            draw(st.sampled_from(['{"a": "]}\\"{"}', "{}", '{"a":[{"b":"c"}]}']))
            if kind == "tool_call"
            else draw(st.text("ab", max_size=4))
        )
        cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
        words = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        stop: list[Event] = [BlockStop(index)] if draw(st.booleans()) else []
        rows.append([BlockStart(index, kind, f"call_{index}"), *(PIECES[kind](index, piece) for piece in words), *stop])
    events: list[Event] = []
    rest = [row for row in rows if row]
    while rest:
        row = rest[draw(st.integers(0, len(rest) - 1))]
        events.append(row.pop(0))
        rest = [row for row in rest if row]
    return events, [
        (f"call_{index}", "".join(e.text for e in events if isinstance(e, ArgumentsDelta) and e.index == index))
        for index, kind in enumerate(kinds)
        if kind == "tool_call"
    ]


def said(events: Sequence[Event], kind: type[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@hypothesis.given(interleaved())
def test_nothing_is_lost_and_blocks_never_overlap(case: tuple[list[Event], list[tuple[str, str]]]) -> None:
    sent, calls = case
    events = ordered(*sent, END)
    check_is_in_order(events)
    assert all(said(events, kind) == said(sent, kind) or kind is ArgumentsDelta for kind in (TextDelta, ThinkingDelta))
    numbers = {event.index: event.call_id for event in events if isinstance(event, BlockStart) and event.kind == "tool_call"}
    found = {
        call_id: "".join(e.text for e in events if isinstance(e, ArgumentsDelta) and e.index == number)
        for number, call_id in numbers.items()
    }
    assert {call_id: text.rstrip() for call_id, text in found.items()} == dict(calls)


@pytest.mark.parametrize(
    ("text", "is_complete"),
    [
        ("{}", True),
        ('{"a": "}"}', True),
        ('{"a": "\\""}', True),
        ('{"a": "\\\\"}', True),
        ('{"a": "\\\\\\"}', False),
        ("[{}", False),
        ("", False),
        ("1", False),
        ("\\{}", True),
        ('{"a": "b', False),
    ],
)
def test_brackets_say_whether_arguments_are_complete_in_every_split(text: str, is_complete: bool) -> None:
    for at in range(len(text) + 1):
        balance = Balance()
        for piece in (text[:at], "", text[at:]):
            balance.add(piece)
        assert balance.is_complete == is_complete
