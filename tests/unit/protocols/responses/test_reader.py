"""Answers of the Responses API as events: whole and streamed alike, whatever a server leaves out, in every framing, and with one end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from compat.errors import (
    ContextTooLong,
    GatewayError,
    UpstreamBroken,
    UpstreamFailure,
    UpstreamOutOfCredit,
    UpstreamOverloaded,
    UpstreamRateLimit,
    UpstreamRefusal,
)
from compat.protocols.base import AnswerMemory, ThinkingRecord
from compat.protocols.chat.writer import ChatWriter
from compat.protocols.events import BlockStart, BlockStop, Cited, Event, Signature, Start, Stop, TextDelta, ThinkingDelta, Used
from compat.protocols.joined import MAX_ANSWER_BYTES, JoinedStream, RawDeltas, answer_translator
from compat.protocols.notes import Notes
from compat.protocols.responses.parts import API
from compat.protocols.responses.reader import ResponsesReader
from compat.protocols.transcript import Transcript
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage
from tests.cases.messages_checks import chunks_of, context, feed, told_by_chunks, told_by_completion
from tests.fakes import responses_items as items
from tests.fakes.responses_answers import (
    USAGE,
    error_event,
    event_bytes,
    events_of,
    failed,
    incomplete,
    one_event,
    response,
    stream_events,
)

Item = dict[str, Any]
SOL = "gpt-6.1-sol"
COUNTS = Usage(prompt_tokens=19, completion_tokens=7, cache_read_tokens=3, cache_write_tokens=5, reasoning_tokens=2)
ARGUMENTS = '{"path": "a \\"b\\" 漢.py", "lines": [1, 2.5, null]}'


@dataclass(frozen=True)
class Said:
    """What an answer says."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()
    unknown: tuple[str, ...] = ()
    reason: str = "end"


@dataclass(frozen=True)
class Row:
    """An answer and what it says."""

    items: Sequence[Item]
    says: Said
    end: Callable[..., Item] = response


ROWS = {
    "words": Row([items.message(items.text_part("Grüße, 世界 🙂."))], Said("Grüße, 世界 🙂.")),
    "nothing": Row([], Said()),
    "a message without parts": Row([items.message(items.text_part(""))], Said()),
    "reasoning in two paragraphs": Row(
        [items.reasoning("Let me see.", "Now I know."), items.message(items.text_part("A"))], Said("A", "Let me see.\n\nNow I know.")
    ),
    "reasoning that is not shown": Row([items.reasoning(), items.message(items.text_part("A"))], Said("A")),
    "reasoning in its own words": Row([items.open_reasoning("Hm, hm."), items.message(items.text_part("A"))], Said("A", "Hm, hm.")),
    "reasoning without a seal": Row([items.reasoning("Hm.", seal=""), items.message(items.text_part("A"))], Said("A", "Hm.")),
    "two messages": Row(
        [items.message(items.text_part("One. ")), items.message(items.text_part("Two."), item_id="msg_2")], Said("One. Two.")
    ),
    "a message of two parts": Row([items.message(items.text_part("One. "), items.text_part("Two."))], Said("One. Two.")),
    "a call": Row([items.function_call("read", ARGUMENTS)], Said(calls=(("call_1", "read", ARGUMENTS),), reason="tool_calls")),
    "a call without arguments": Row([items.function_call("list", "")], Said(calls=(("call_1", "list", "{}"),), reason="tool_calls")),
    "calls at once, after words": Row(
        [
            items.reasoning("Hm."),
            items.message(items.text_part("I read both."), phase="commentary"),
            items.function_call("read", '{"path":"a"}'),
            items.function_call("read", '{"path":"b"}', "call_2", "fc_2"),
        ],
        Said("I read both.", "Hm.", calls=(("call_1", "read", '{"path":"a"}'), ("call_2", "read", '{"path":"b"}')), reason="tool_calls"),
    ),
    "a freeform call": Row(
        [items.custom_call("patch", "*** Begin\n+a")], Said(calls=(("call_1", "patch", "*** Begin\n+a"),), reason="tool_calls")
    ),
    "a refusal": Row([items.message(items.refusal_part("No."))], Said(refusal="No.", reason="refusal")),
    "words, then a refusal": Row(
        [items.message(items.text_part("Well. "), items.refusal_part("No."))], Said("Well. ", refusal="No.", reason="refusal")
    ),
    "a search": Row([items.web_search(), items.message(items.text_part("Sunny."))], Said("Sunny.", unknown=("web_search_call",))),
    "a part that nobody knows": Row(
        [items.message(items.text_part("A"), {"type": "output_hologram"})], Said("A", unknown=("output_hologram",))
    ),
    "an answer that was cut short": Row([items.message(items.text_part("Hel"))], Said("Hel", reason="length"), incomplete),
    "a call that was cut short": Row(
        [items.function_call("read", '{"pa', status="incomplete")], Said(calls=(("call_1", "read", '{"pa'),), reason="length"), incomplete
    ),
    "an answer that was filtered": Row(
        [items.message(items.text_part("Hel"))],
        Said("Hel", reason="refusal"),
        lambda said: incomplete(said, "content_filter"),
    ),
    "an answer that ends for another reason": Row(
        [items.message(items.text_part("Hel"))], Said("Hel", reason="length"), lambda said: incomplete(said, "boredom")
    ),
}
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def reader(**rest: Any) -> ResponsesReader:
    return ResponsesReader(context(SOL, is_stream=True, **rest), Notes())


def streamed(data: bytes, read: ResponsesReader | None = None) -> list[Event]:
    read = read or reader()
    events = [event for block in EventSplitter().feed(data) for event in read.read(block)]
    return [*events, *read.end(is_whole=True)]


def whole(document: Any, read: ResponsesReader | None = None) -> list[Event]:
    return list((read or reader()).whole(json.dumps(document, ensure_ascii=False).encode()))


def said(events: Iterable[Event]) -> Said:
    """What events say, once they were found to be well-formed."""
    transcript, open_blocks = Transcript(), set[int]()
    kinds = list[type[Event]]()
    for event in events:
        transcript.add(event)
        kinds.append(type(event))
        if isinstance(event, BlockStart):
            assert event.index not in open_blocks
            open_blocks.add(event.index)
        elif isinstance(event, BlockStop):
            open_blocks.remove(event.index)
        elif hasattr(event, "index"):
            assert event.index in open_blocks
    assert not open_blocks
    assert [kind for kind in kinds if kind in {Start, Stop, Used}] == [Start, Stop, Used]
    assert kinds[0] is Start
    assert kinds[-2:] == [Stop, Used]
    turn = transcript.turn()
    calls = tuple((call.call_id, call.name, call.arguments) for call in turn.calls)
    return Said(turn.text, turn.thinking, turn.refusal, calls, tuple(turn.unknown), str(turn.reason))


# What answers say.


@every_row
def test_whole_and_streamed_answers_say_what_their_row_says(row: Row) -> None:
    document = row.end(row.items)
    assert said(whole(document)) == said(streamed(event_bytes(events_of(document)))) == row.says


def only(*kinds: str) -> Callable[[Item], bool]:
    return lambda event: event["type"].startswith(kinds)


ENDS = ("response.completed", "response.incomplete")
THINNED: dict[str, Callable[[Item], bool]] = {
    "without deltas": lambda event: not event["type"].endswith(".delta"),
    "without done": lambda event: not event["type"].endswith(".done") or event["type"] == "response.output_item.done",
    "half of the deltas": lambda event: not (event["type"].endswith(".delta") and event["sequence_number"] % 4 > 1),
    "items only": only("response.created", "response.output_item", *ENDS),
    "ended items only": only("response.output_item.done", *ENDS),
    "the end only": only(*ENDS),
    "parts, and no ended items": lambda event: event["type"] != "response.output_item.done",
    "nothing announced": lambda event: event["type"] not in {"response.created", "response.in_progress"},
}


def thinned(document: Item, keeps: Callable[[Item], bool], *, has_output: bool = True) -> bytes:
    events = [event for event in events_of(document) if keeps(event)]
    if not has_output:
        events[-1] = {**events[-1], "response": {**document, "output": []}}
    return event_bytes(events)


@every_row
@pytest.mark.parametrize("name", THINNED)
def test_what_a_server_leaves_out_is_taken_from_elsewhere(row: Row, name: str) -> None:
    document = row.end(row.items)
    if name == "half of the deltas":  # what came is no beginning of the whole, and stands
        assert said(streamed(thinned(document, THINNED[name]))).reason == row.says.reason
        return
    assert said(streamed(thinned(document, THINNED[name]))) == row.says


@every_row
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_deltas_that_stop_are_completed(row: Row, cut: int) -> None:
    """The first deltas of each part come, the later ones don't."""
    document = row.end(row.items)
    seen: dict[Any, int] = {}

    def keeps(event: Item) -> bool:
        if not event["type"].endswith(".delta"):
            return True
        place = (event["item_id"], event.get("content_index"), event.get("summary_index"))
        seen[place] = seen.get(place, 0) + 1
        return seen[place] <= cut

    assert said(streamed(thinned(document, keeps))) == row.says


@every_row
def test_the_end_need_not_repeat_the_items(row: Row) -> None:
    document = row.end(row.items)
    assert said(streamed(thinned(document, lambda _: True, has_output=False))) == row.says


@every_row
def test_events_that_name_no_item_are_about_the_last_one(row: Row) -> None:
    events = [{name: value for name, value in event.items() if name != "output_index"} for event in events_of(row.end(row.items))]
    assert said(streamed(event_bytes(events))) == row.says


@every_row
def test_events_about_items_that_were_not_announced_begin_them(row: Row) -> None:
    document = row.end(row.items)
    calls = [item["id"] for item in document["output"] if item["type"].endswith("call")]
    events = [event for event in events_of(document) if event["type"] != "response.output_item.added" and event.get("item_id") not in calls]
    assert said(streamed(event_bytes(events))) == row.says


def test_a_summary_beside_own_words_is_a_paragraph_of_its_own() -> None:
    both = {**items.reasoning("In short."), "content": [{"type": "reasoning_text", "text": "At length."}]}
    row = response([both, items.message()])
    assert said(whole(row)).thinking == said(streamed(event_bytes(events_of(row)))).thinking == "In short.\n\nAt length."


def test_pieces_that_say_something_else_than_the_whole_stand() -> None:
    events = stream_events([items.message(items.text_part("Hello"))])
    changed = [{**event, "text": "Goodbye, all"} if event["type"] == "response.output_text.done" else event for event in events]
    assert said(streamed(event_bytes(changed))).text == "Hello"


def test_parts_may_be_told_in_turns() -> None:
    """Two parts of one message, and two calls, whose deltas come by turns."""
    place = {"item_id": "msg_1", "output_index": 0}
    texts = [{"type": "response.output_text.delta", **place, "content_index": n % 2, "delta": words} for n, words in enumerate("abcd")]
    added = [
        {"type": "response.output_item.added", "output_index": n, "item": items.function_call("read", "", f"call_{n}")} for n in (1, 2)
    ]
    pieces = [
        {"type": "response.function_call_arguments.delta", "output_index": 1 + n % 2, "delta": piece} for n, piece in enumerate("{[}]")
    ]
    end = {"type": "response.completed", "response": response([])}
    got = said(streamed(event_bytes([*texts, *added, *pieces, end])))
    assert sorted(got.text) == list("abcd")
    assert got.calls == (("call_1", "read", "{}"), ("call_2", "read", "[]"))


def test_what_comes_late_or_twice_says_nothing() -> None:
    events = stream_events([items.message(items.text_part("Hello")), items.function_call()])
    text = [event for event in events if event.get("item_id") == "msg_1" and event["type"].startswith("response.output_text")]
    part = [event for event in events if event["type"] == "response.content_part.done"]
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    late = [*events[:-1], *added, *text, *part, *done, events[0], events[-1], *events]
    assert said(streamed(event_bytes(late))) == said(streamed(event_bytes(events)))


def test_a_delta_for_a_part_that_has_ended_says_nothing() -> None:
    events = stream_events([items.message(items.text_part("Hello"))])
    at = next(number for number, event in enumerate(events) if event["type"] == "response.content_part.done")
    late = next(event for event in events if event["type"].endswith(".delta"))
    assert said(streamed(event_bytes([*events[: at + 1], late, *events[at + 1 :]]))).text == "Hello"


def test_a_part_that_ends_in_an_item_without_parts_says_nothing() -> None:
    events = stream_events([items.function_call()])
    done = {"type": "response.content_part.done", "output_index": 0, "content_index": 0, "part": items.text_part("Hello")}
    assert said(streamed(event_bytes([*events[:3], done, *events[3:]]))).text == ""


def test_an_item_of_another_kind_at_the_end_says_nothing() -> None:
    begun = stream_events([items.message(items.text_part("Hello"))])[:5]
    end = {"type": "response.completed", "response": response([items.function_call()])}
    got = said(streamed(event_bytes([*begun, end])))
    assert (got.calls, got.reason) == ((), "end")


# Blocks, citations, seals, notes, usage.


@pytest.mark.parametrize("read", [whole, lambda document: streamed(event_bytes(events_of(document)))])
def test_reasoning_ends_with_its_seal(read: Any) -> None:
    item = items.reasoning("Hm.")
    events = read(response([item, items.message()]))
    words = [event for event in events[1:] if not isinstance(event, ThinkingDelta)]
    assert words[:4] == [BlockStart(0, "thinking"), Signature(0, API, item), BlockStop(0), BlockStart(1, "text")]


def test_reasoning_whose_end_did_not_come_has_no_seal() -> None:
    events = stream_events([items.reasoning("Hm.")])
    end = {"type": "response.incomplete", "response": incomplete([])}
    read = reader()
    got = streamed(event_bytes([*events[:-2], end]), read)
    assert not any(isinstance(event, Signature) for event in got)
    assert said(got) == Said(thinking="Hm.", reason="length")
    assert read.thinking is None


@pytest.mark.parametrize("read", [whole, lambda document: streamed(event_bytes(events_of(document)))])
def test_sources_stand_at_the_end_of_their_text(read: Any) -> None:
    source = items.url_citation()
    events = read(response([items.message(items.text_part("Sunny.", [source]))]))
    assert events[-4:-2] == [Cited(0, (source,)), BlockStop(0)]


def test_sources_that_only_a_stream_tells_are_kept() -> None:
    source = items.url_citation()
    events = stream_events([items.message(items.text_part("Sunny.", [source]))])
    bare = items.message(items.text_part("Sunny."))
    changed = [
        {**event, "part": items.text_part("Sunny.")} if "part" in event else {**event, "item": bare} if "item" in event else event
        for event in events
    ]
    late = {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0, "annotation": source}
    got = streamed(event_bytes([*changed[:-1], late, {**late, "output_index": 9}, changed[-1]]))
    assert [event for event in got if isinstance(event, Cited)] == [Cited(0, (source,))]


def test_the_answers_identity_is_the_upstreams() -> None:
    document = response([items.message()])
    assert whole(document)[0] == streamed(event_bytes(events_of(document)))[0] == Start("resp_theirs", 1_700_000_000)


def test_a_freeform_call_says_what_it_is_and_names_are_the_clients() -> None:
    memory = AnswerMemory(client_names={"patch": "my.patch"})
    events = whole(response([items.custom_call("patch", "x"), items.function_call("read")]), reader(memory=memory))
    starts = [event for event in events if isinstance(event, BlockStart)]
    assert [(start.name, start.is_freeform) for start in starts] == [("my.patch", True), ("read", False)]


@pytest.mark.parametrize(
    ("document", "notes"),
    [
        (response([items.message()]), ()),
        (incomplete([items.message()], "boredom"), ("stop_reason=boredom",)),
        ({**incomplete([items.message()]), "incomplete_details": None}, ("stop_reason=incomplete",)),
        ({**response([items.message()]), "status": "sated"}, ("stop_reason=sated",)),
        ({**response([items.message()]), "status": None}, ()),
    ],
)
def test_an_end_that_nobody_knows_is_noted(document: Item, notes: tuple[str, ...]) -> None:
    read, again = reader(), reader()
    whole(document, read)
    streamed(one_event({"type": "response.completed", "response": document}), again)
    assert read.notes.told() == again.notes.told() == notes


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        (USAGE, COUNTS),
        ({"input_tokens": 5, "output_tokens": 6}, Usage(5, 6)),
        (
            {"input_tokens": None, "output_tokens": "6", "input_tokens_details": 3, "output_tokens_details": {"reasoning_tokens": True}},
            Usage(),
        ),
        ({"input_tokens": 10**13, "output_tokens": -1}, Usage()),
    ],
)
def test_counts_are_the_upstreams_and_what_is_garbled_is_left_out(told: Any, counts: Usage) -> None:
    document = response([items.message()], usage=told)
    assert whole(document)[-1] == streamed(event_bytes(events_of(document)))[-1] == Used(counts)


def test_an_upstream_that_tells_no_counts_gets_an_estimate() -> None:
    document = {**response([items.message(items.text_part("a" * 400))]), "usage": None}
    for events in (
        whole(document, reader(count_prompt=lambda: 50)),
        streamed(event_bytes(events_of(document)), reader(count_prompt=lambda: 50)),
    ):
        usage = events[-1].usage
        assert (usage.prompt_tokens, usage.is_estimate) == (50, True)
        assert usage.completion_tokens > 50


def test_usage_so_far_is_an_estimate_until_the_end() -> None:
    read = reader(count_prompt=lambda: 50)
    events = stream_events([items.message(items.text_part("a" * 400))])
    for event in events[:-1]:
        read.read(one_event(event).strip())
    assert read.usage_so_far().is_estimate
    assert read.usage_so_far().completion_tokens > 50
    read.read(one_event(events[-1]).strip())
    assert read.usage_so_far() == COUNTS
    assert reader().usage_so_far() == Usage(is_estimate=True)


# Reasoning that is kept.


def record_of(*given: Item) -> ThinkingRecord | None:
    first, second = reader(), reader()
    whole(response(given), first)
    streamed(event_bytes(stream_events(given)), second)
    assert first.thinking == second.thinking
    return first.thinking


def test_reasoning_that_led_to_calls_is_kept_with_marks_for_what_stood_between() -> None:
    thoughts = [items.reasoning("Hm."), items.reasoning("Ah.", item_id="rs_2")]
    record = record_of(
        thoughts[0],
        items.message(items.text_part("I read."), phase="commentary"),
        items.message(items.text_part("Both.")),
        thoughts[1],
        items.function_call(),
        items.custom_call(call_id="call_2"),
    )
    kept = [
        {"type": "reasoning", "id": thought["id"], "summary": [], "encrypted_content": thought["encrypted_content"]} for thought in thoughts
    ]
    assert record == ThinkingRecord(
        ("call_1", "call_2"),
        (
            kept[0],
            {"type": "text", "chars": 7, "phase": "commentary"},
            {"type": "text", "chars": 5},
            kept[1],
            {"type": "tool_use", "id": "call_1"},
            {"type": "tool_use", "id": "call_2"},
        ),
    )


def test_reasoning_without_an_id_is_kept_without_one() -> None:
    thought = {name: value for name, value in items.reasoning().items() if name != "id"}
    read = reader()
    whole(response([thought, items.function_call()]), read)
    assert read.thinking is not None
    assert set(read.thinking.blocks[0]) == {"type", "summary", "encrypted_content"}


@pytest.mark.parametrize(
    "given",
    [
        [items.reasoning("Hm."), items.message()],
        [items.reasoning("Hm.", seal=""), items.function_call()],
        [items.open_reasoning(), items.function_call()],
        [items.function_call()],
    ],
    ids=["no call", "no seal", "its own words", "no reasoning"],
)
def test_what_need_not_come_back_is_not_kept(given: list[Item]) -> None:
    assert record_of(*given) is None


# Failures.


def failing(*events: Item, before: Sequence[Item] = ()) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        streamed(event_bytes([*before, *events]))
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("server_error", UpstreamFailure, 500),
        ("rate_limit_exceeded", UpstreamRateLimit, 429),
        ("server_is_overloaded", UpstreamOverloaded, 529),
        ("insufficient_quota", UpstreamOutOfCredit, 429),
        ("invalid_prompt", UpstreamRefusal, 400),
        ("image_too_large", UpstreamRefusal, 400),
        ("context_length_exceeded", ContextTooLong, 400),
        ("novelty", UpstreamFailure, 500),
    ],
)
def test_every_failure_has_its_place_in_the_tree_of_errors(code: str, kind: type[GatewayError], status: int) -> None:
    document = failed(code, "the upstream's own words")
    begun = stream_events([items.message()])[:5]
    told = [failing(events_of(document)[-1], before=begun), failing(error_event(code, "the upstream's own words"), before=begun)]
    nested = {"type": "error", "error": {"code": code, "message": "the upstream's own words", "type": None}}
    told.append(failing(nested))
    with pytest.raises(GatewayError) as caught:
        whole(document)
    for error in (*told, caught.value):
        assert type(error) is kind
        assert "the upstream's own words" in error.message
        assert error.status == status


def test_an_error_that_says_its_type_is_taken_at_its_word() -> None:
    assert isinstance(failing({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}), UpstreamRateLimit)


def test_a_failure_without_an_error_is_a_failure() -> None:
    for document in ({"status": "failed", "output": []}, {"error": "boom"}):
        with pytest.raises(UpstreamFailure):
            whole(document)
    assert isinstance(failing({"type": "response.failed"}), UpstreamFailure)


def test_an_error_in_anothers_shape_is_one() -> None:
    with pytest.raises(UpstreamFailure):
        streamed(b'data: {"error":{"message":"no"}}\n\n')


BROKEN: dict[str, list[Any]] = {
    "no item": [{"type": "response.output_item.added"}],
    "no item at its end": [{"type": "response.output_item.done"}],
    "an item of no type": [{"type": "response.output_item.added", "item": {"type": 3}}],
    "a call without a name": [{"type": "response.output_item.added", "item": {"type": "function_call", "call_id": "a"}}],
    "a call without an id": [{"type": "response.output_item.done", "item": {"type": "function_call", "name": "a", "arguments": "{}"}}],
    "arguments of nothing": [{"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"}],
    "text of a call": [
        {"type": "response.output_item.added", "output_index": 0, "item": items.function_call()},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "a"},
    ],
    "thoughts of a call": [
        {"type": "response.output_item.added", "output_index": 0, "item": items.function_call()},
        {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "a"},
    ],
    "an end within a call": [
        {"type": "response.output_item.added", "output_index": 0, "item": items.function_call()},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"pa'},
        {"type": "response.completed", "response": response([])},
    ],
    "a piece that is no text": [{"type": "response.output_text.delta", "delta": {"a": 1}}],
    "a part that is none": [{"type": "response.output_item.done", "item": {"type": "message", "content": ["a"]}}],
    "a part whose words are none": [{"type": "response.output_item.done", "item": items.message({"type": "output_text", "text": 3})}],
    "items that are none": [{"type": "response.completed", "response": {"output": [3]}}],
    "an answer that is none": [{"type": "response.completed", "response": 3}],
    "an event that is none": [b"data: {\n\n"],
    "bytes that are none": [b'data: {"type":"\xff"}\n\n'],
}


@pytest.mark.parametrize("events", BROKEN.values(), ids=BROKEN)
def test_what_the_protocol_does_not_allow_is_an_error(events: list[Any]) -> None:
    data = b"".join(event if isinstance(event, bytes) else one_event(event) for event in events)
    with pytest.raises(UpstreamBroken):
        streamed(data)


@pytest.mark.parametrize("cut", range(8))
def test_a_stream_without_its_end_is_broken(cut: int) -> None:
    events = stream_events([items.reasoning("Hm."), items.message()])
    with pytest.raises(UpstreamBroken, match=r"without a response\.completed"):
        streamed(event_bytes(events[: len(events) * cut // 8]))


@pytest.mark.parametrize(
    "document",
    [{}, {"output": None}, *({**response([]), "status": status} for status in ("in_progress", "queued", "cancelled")), [], 3],
)
def test_a_body_that_is_no_answer_is_broken(document: Any) -> None:
    with pytest.raises(UpstreamBroken):
        whole(document)


def test_a_list_that_is_none_says_nothing() -> None:
    assert said(whole(response([{**items.message(), "content": 3}]))) == Said()


def test_an_answer_has_a_bound() -> None:
    read = reader()
    delta = one_event({"type": "response.output_text.delta", "output_index": 0, "delta": "a" * (MAX_ANSWER_BYTES // 4)}).strip()
    for _ in range(3):
        read.read(delta)
    with pytest.raises(UpstreamBroken, match="more than"):
        read.read(delta)


def test_an_answer_does_not_pause() -> None:
    with pytest.raises(NotImplementedError):
        reader().resume()


# In front of a client.

CTX = context(SOL, is_stream=True)
RICH = [
    items.reasoning("Let me see.", "Grüße, 世界."),
    items.message(items.text_part("I read 🙂.", [items.url_citation()]), phase="commentary"),
    items.function_call("read", ARGUMENTS),
    items.custom_call("patch", "*** Begin", "call_2"),
]


def framings(events: Sequence[Item]) -> Iterator[list[bytes]]:
    """Whole, one event a piece, and byte by byte, with each kind of line end, and without the last blank line."""
    for end in (b"\n", b"\r\n", b"\r"):
        data = event_bytes(events, end)
        yield [data]
        yield [one_event(event, end) for event in events]
        yield [bytes([byte]) for byte in data]
    yield [event_bytes(events).removesuffix(b"\n\n")]
    yield [event_bytes(events), b"data: [DONE]\n\n", b": bye\n\n"]


def frames(pieces: Iterable[bytes]) -> bytes:
    got, error = feed(JoinedStream(CTX, ResponsesReader, ChatWriter), pieces)
    assert error is None
    return got


@pytest.mark.parametrize("document", [response(RICH), incomplete(RICH[:2]), response([items.message(items.refusal_part())])])
def test_every_framing_gives_the_client_the_same_stream(document: Item) -> None:
    events = events_of(document)
    expected = frames([event_bytes(events)])
    assert all(frames(pieces) == expected for pieces in framings(events))


@pytest.mark.slow
def test_every_split_in_two_gives_the_client_the_same_stream() -> None:
    data = event_bytes(stream_events(RICH))
    expected = frames([data])
    assert all(frames([data[:cut], data[cut:]]) == expected for cut in range(1, len(data), 3))


@every_row
def test_a_chat_client_reads_the_same_whole_and_streamed(row: Row) -> None:
    document = row.end(row.items)
    if any(item["type"] == "custom_tool_call" for item in row.items):  # which the SDK's type of a streamed delta does not know
        return
    by_stream = told_by_chunks(chunks_of(frames([event_bytes(events_of(document))])))
    answer = answer_translator(ResponsesReader, ChatWriter)(json.dumps(document).encode(), CTX)
    by_body = told_by_completion(json.loads(answer.body))
    for told in (by_stream, by_body):
        assert (told.content, told.reasoning, told.refusal) == (row.says.text, row.says.thinking, row.says.refusal)
        calls = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in told.calls]
        assert tuple(calls) == row.says.calls
    assert by_stream.finish_reason == by_body.finish_reason
    assert by_stream.usage == by_body.usage
    assert by_stream.usage is not None
    assert by_stream.usage["prompt_tokens_details"] == {"cached_tokens": 3, "cache_write_tokens": 5}


def test_a_chat_client_gets_freeform_calls_in_its_own_words() -> None:
    document = response([items.custom_call("patch", "*** Begin")])
    body = json.loads(answer_translator(ResponsesReader, ChatWriter)(json.dumps(document).encode(), CTX).body)
    assert body["choices"][0]["message"]["tool_calls"] == [
        {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
    ]
    data = frames([event_bytes(events_of(document))])
    calls = [json.loads(line[6:])["choices"][0]["delta"]["tool_calls"][0] for line in data.split(b"\n\n") if b'tool_calls":[' in line]
    assert calls[0] == {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "patch", "input": ""}}
    assert "".join(call["custom"]["input"] for call in calls) == "*** Begin"


@pytest.mark.slow
def test_a_long_answer_takes_time_in_proportion_to_its_length() -> None:
    def taken_s(count: int) -> float:
        place = {"output_index": 0, "content_index": 0}
        deltas = [one_event({"type": "response.output_text.delta", **place, "delta": "word "}).strip()] * count
        done = [one_event({"type": "response.output_text.done", **place, "text": "w"}).strip()] * count
        read = reader()
        begun = time.process_time()
        for block in (*deltas, *done):
            read.read(block)
        return time.process_time() - begun

    taken_s(2000)
    assert min(taken_s(16_000) for _ in range(3)) < 8 * 2.5 * min(taken_s(2000) for _ in range(5))


# Deltas that are known by their bytes.


def delta(text: str, number: int = 7, item_id: str = "msg_1") -> bytes:
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    event = {"type": "response.output_text.delta", "sequence_number": number, **place, "delta": text, "logprobs": []}
    return one_event(event).removesuffix(b"\n\n")


def learnt() -> ResponsesReader:
    """A reader that has seen two deltas."""
    read = reader()
    for number, text in enumerate(["He", "llo"]):
        read.read(delta(text, number))
    return read


def test_deltas_like_the_last_one_are_not_decoded() -> None:
    read = learnt()
    assert read.knows
    together = b"\n\n".join([delta(", you", 2), delta("", 3), delta("é", 4)])
    assert read.known(together) == RawDeltas(TextDelta, 0, [b", you", "é".encode()])
    assert read.known(delta("x", item_id="msg_2")) is None
    assert read.usage_so_far().completion_tokens > 2
    done = response([items.message(items.text_part("Hello, youé!"))])
    events = [*read.read(one_event({"type": "response.completed", "response": done}).strip()), *read.end(is_whole=True)]
    assert events[0] == TextDelta(0, "!")
    assert not read.knows
    assert read.known(delta("more")) is None


def test_a_delta_that_looks_otherwise_is_decoded() -> None:
    read = reader()
    for text in ("He", "llo"):
        read.read(delta(text, item_id="m" * 5000))
    assert read.known(delta("x", item_id="m" * 5000)) is None


def test_only_a_few_deltas_of_a_part_are_looked_at() -> None:
    read = learnt()
    for number in range(5):
        read.read(delta("a", item_id=f"msg_{number}"))
    assert read.known(delta("x", item_id="msg_4")) is None


def test_deltas_that_are_not_decoded_count_for_the_bound() -> None:
    read = learnt()
    for _ in range(3):
        assert read.known(delta("a" * (MAX_ANSWER_BYTES // 4))) is not None
    with pytest.raises(UpstreamBroken, match="more than"):
        read.known(delta("a" * (MAX_ANSWER_BYTES // 4)))


def test_a_delta_whose_text_is_not_plain_is_decoded() -> None:
    read = learnt()
    assert read.read(delta("X").replace(b'"X"', b'"\\ud83d\\ude42"')) == (TextDelta(0, "🙂"),)
    assert read.known(delta("x")) is None


@pytest.mark.parametrize(("pieces", "is_whole"), [(['{"a"', ": 1", "}"], True), (['{"a"', ": 1", ", "], False)])
def test_a_call_whose_arguments_were_not_decoded_is_looked_at_when_the_answer_ends(pieces: list[str], is_whole: bool) -> None:
    """Some servers say of no item that it is done."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "", "status": "in_progress"}
    deltas = [{"type": "response.function_call_arguments.delta", "output_index": 0, "delta": piece} for piece in pieces]
    added = {"type": "response.output_item.added", "output_index": 0, "item": call}
    end = {"type": "response.completed", "response": {**response([]), "status": "completed", "output": []}}
    stream = JoinedStream(context(SOL), ResponsesReader, ChatWriter)
    for event in ({"type": "response.created", "response": {**response([]), "output": []}}, added, *deltas, end):
        stream.feed(one_event(event))
    assert (stream.failure is None) == is_whole
