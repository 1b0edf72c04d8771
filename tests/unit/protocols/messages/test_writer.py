"""Answers for clients of the Messages protocol: as their rows say, whole and streamed, and as Anthropic's own SDK reads them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from typing import Any

import pytest

from compat.protocols.base import AnswerMemory, TranslationContext
from compat.protocols.chat.upstream import ChatReader
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
from compat.protocols.joined import JoinedStream, RawDeltas, answer_translator
from compat.protocols.messages.writer import PING, MessagesWriter, call_id_of, fit_call_id, usage_object
from compat.protocols.notes import Notes
from compat.protocols.sealed import PREFIX, Sealed, Sealer
from compat.wire.usage import Usage
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.cases.messages_client import ROWS, Row, events_of, message_of, plain, use, words
from tests.fakes.openai_answers import chunk, completion, event, sse_bytes, usage_chunk

SEALER = Sealer([b"secret"])
CTX = dataclasses.replace(context(SONNET, is_stream=True, sealer=SEALER), completion_id="msg_ours")
USAGE = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 2},
}


def streamed(upstream: bytes, pieces: Iterable[bytes] = (), ctx: TranslationContext = CTX) -> tuple[bytes, JoinedStream]:
    stream = JoinedStream(ctx, ChatReader, MessagesWriter)
    frames = b"".join([stream.feed(piece) for piece in pieces or (upstream,)])
    assert stream.failure is None
    return frames + stream.finish(is_whole=True), stream


def expected(row: Row) -> dict[str, Any]:
    head = {"id": "msg_ours", "type": "message", "role": "assistant", "model": "claude"}
    return plain({**head, "content": row.content, "stop_reason": row.stop_reason, "stop_sequence": None, "usage": USAGE, **row.end})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says)
def test_a_whole_answer_is_as_its_row_says(row: Row) -> None:
    answer = answer_translator(ChatReader, MessagesWriter)(json.dumps(row.whole).encode(), CTX)
    assert plain(json.loads(answer.body)) == expected(row)
    assert (answer.stop_reason, answer.notes) == (row.stop_reason, row.notes)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says)
def test_a_streamed_answer_equals_the_whole_one_in_every_split(row: Row) -> None:
    upstream = sse_bytes(row.chunks)
    frames, stream = streamed(upstream)
    assert message_of(events_of(frames)) == expected(row)
    assert (stream.stop_reason, tuple(stream.notes)) == (row.stop_reason, row.notes)
    assert streamed(upstream, [bytes([byte]) for byte in upstream])[0] == frames
    assert streamed(upstream, [event(one) for one in (*row.chunks, "[DONE]")])[0] == frames


def test_the_head_comes_first_with_an_estimate_and_one_end_last() -> None:
    frames, _ = streamed(
        sse_bytes([chunk({"content": "A"}), chunk({}, "stop"), usage_chunk()]), ctx=dataclasses.replace(CTX, count_prompt=lambda: 9)
    )
    events = events_of(frames)
    assert [one["type"] for one in events] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["usage"] == {
        **USAGE,
        "input_tokens": 9,
        "cache_read_input_tokens": 0,
        "output_tokens": 1,
        "output_tokens_details": {"thinking_tokens": 0},
    }
    assert PING in frames


def test_a_tool_call_in_the_first_chunk_comes_after_the_head() -> None:
    first = chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]})
    assert [one["type"] for one in events_of(streamed(sse_bytes([first, chunk({}, "tool_calls"), usage_chunk()]))[0])][:3] == [
        "message_start",
        "ping",
        "content_block_start",
    ]


# Thoughts and what seals them.

THOUGHT = [chunk({"reasoning_content": "Hm"}), chunk({"reasoning_content": "."}), chunk({"content": "A"}), chunk({}, "stop"), usage_chunk()]


def both(chunks: list[dict[str, Any]], ctx: TranslationContext, **message: Any) -> list[dict[str, Any]]:
    """The content of an answer, which is the same streamed and whole."""
    whole = answer_translator(ChatReader, MessagesWriter)(json.dumps(completion(**message)).encode(), ctx)
    content = message_of(events_of(streamed(sse_bytes(chunks), ctx=ctx)[0]))["content"]
    assert plain(json.loads(whole.body))["content"] == content
    assert isinstance(content, list)
    return content


def test_a_thought_of_another_model_carries_a_seal_of_ours() -> None:
    thought, text = both(THOUGHT, CTX, text="A", reasoning_content="Hm.")
    assert (thought["thinking"], text) == ("Hm.", words("A"))
    assert SEALER.open(thought["signature"]) == Sealed("fake", CTX.target, "openai.chat")


def test_a_thought_that_is_not_to_be_shown_travels_in_its_seal() -> None:
    ctx = dataclasses.replace(CTX, memory=AnswerMemory(hides_thinking=True))
    thought, text = both(THOUGHT, ctx, text="A", reasoning_content="Hm.")
    assert (thought["thinking"], text) == ("", words("A"))
    assert SEALER.open(thought["signature"]) == Sealed("fake", CTX.target, "openai.chat", "Hm.")


def test_without_a_secret_a_thought_is_still_marked_as_ours() -> None:
    assert both(THOUGHT, dataclasses.replace(CTX, sealer=None), text="A", reasoning_content="Hm.")[0]["signature"] == PREFIX


def written(*events: Event, ctx: TranslationContext = CTX) -> dict[str, Any]:
    """The message that events become, which is the same streamed and whole."""
    notes = Notes(), Notes()
    writer = MessagesWriter(ctx, notes[0])
    whole = plain(json.loads(MessagesWriter(ctx, notes[1]).body(events)))
    assert message_of(events_of(b"".join(map(writer.write, events)) + writer.finish())) == whole
    assert notes[0].told() == notes[1].told()
    return {**whole, "notes": notes[0].told()}


def test_the_upstreams_own_state_is_handed_on_as_it_is_or_sealed() -> None:
    theirs = written(
        BlockStart(0, "thinking"), ThinkingDelta(0, "Hm."), Signature(0, "anthropic.messages", "sig"), BlockStop(0), Stop("end")
    )
    assert theirs["content"] == [{"type": "thinking", "thinking": "Hm.", "signature": "sig"}]
    other = written(BlockStart(0, "thinking"), Signature(0, "openai.responses", {"id": "rs_1"}), BlockStop(0), Stop("end"))
    assert other["content"][0]["thinking"] == ""
    assert SEALER.open(other["content"][0]["signature"]) == Sealed("fake", CTX.target, "openai.responses", {"id": "rs_1"})


def test_each_thought_has_its_own_signature() -> None:
    blocks = [
        [BlockStart(at, "thinking"), ThinkingDelta(at, "a"), Signature(at, "anthropic.messages", f"s{at}"), BlockStop(at)] for at in (0, 1)
    ]
    last = [BlockStart(2, "thinking"), ThinkingDelta(2, "b"), BlockStop(2), Stop("end")]
    content = written(*blocks[0], *blocks[1], *last)["content"]
    assert [block["signature"] for block in content[:2]] == ["s0", "s1"]
    assert SEALER.open(content[2]["signature"]) == Sealed("fake", CTX.target, "openai.chat")


def test_what_an_upstream_says_of_a_call_travels_before_it() -> None:
    more = {"extra_content": {"google": {"thought_signature": "x"}}}
    calls = [
        BlockStart(0, "tool_call", "a", "f", more=more),
        BlockStart(1, "tool_call", "b", "g", more=more),
        BlockStart(2, "tool_call", "", "h", more=more),
    ]
    content = written(*calls, Stop("tool_calls"))["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use", "thinking", "tool_use", "tool_use"]
    opened = [SEALER.open(block["signature"]) for block in content if block["type"] == "thinking"]
    assert [sealed.value for sealed in opened if sealed] == [{"calls": {"a": more}}, {"calls": {"b": more}}]


# Sources, ends, arguments, counts.


def test_sources_of_this_protocol_are_handed_on_and_others_noted() -> None:
    source = {"type": "web_search_result_location", "url": "https://a.example", "encrypted_index": "x", "cited_text": "t", "title": "T"}
    answer = written(BlockStart(0, "text"), TextDelta(0, "A"), Cited(0, (source, {"url": "x"}, "y")), BlockStop(0), Stop("end"))
    assert answer["content"] == [{**words("A"), "citations": [source]}]
    assert answer["notes"] == ("left_out=citation(2)",)


@pytest.mark.parametrize(
    ("stop", "reason", "sequence", "details"),
    [
        (Stop("end", sequence="END"), "stop_sequence", "END", None),
        (Stop("length", sequence="END"), "max_tokens", None, None),
        (Stop("tool_calls"), "end_turn", None, None),
        (Stop("refusal", "No."), "refusal", None, {"type": "refusal", "explanation": "No."}),
        (
            Stop("refusal", "No.", {"category": "cyber", "explanation": 5}),
            "refusal",
            None,
            {"type": "refusal", "category": "cyber", "explanation": "No."},
        ),
    ],
)
def test_an_answer_ends_in_this_protocols_words(stop: Stop, reason: str, sequence: str | None, details: Any) -> None:
    answer = written(BlockStart(0, "text"), TextDelta(0, "A"), stop)
    assert (answer["stop_reason"], answer.get("stop_sequence"), answer.get("stop_details")) == (reason, sequence, details)


def test_what_is_open_at_the_end_of_a_stream_is_closed() -> None:
    writer = MessagesWriter(CTX, Notes())
    frames = writer.write(Start()) + writer.write(BlockStart(0, "text")) + writer.write(TextDelta(0, "A")) + writer.finish()
    assert message_of(events_of(frames))["content"] == [words("A")]


@pytest.mark.parametrize(
    ("arguments", "read", "notes"),
    [
        ("", {}, ()),
        (" null ", {}, ()),
        ('{"a": 1.50}', {"a": 1.5}, ()),
        ("[1]", {"arguments": "[1]"}, ("wrapped=arguments",)),
        ('{"a"', {"arguments": '{"a"'}, ("wrapped=arguments",)),
    ],
)
def test_arguments_are_an_object_in_a_whole_answer_and_never_lost(arguments: str, read: Any, notes: tuple[str, ...]) -> None:
    receipt = Notes()
    events = (BlockStart(0, "tool_call", "a", "f"), ArgumentsDelta(0, arguments), BlockStop(0), Stop("tool_calls"))
    body = MessagesWriter(CTX, receipt).body(events)
    assert json.loads(body)["content"] == [use("a", "f", read)]
    assert receipt.told() == notes


def test_the_bytes_of_arguments_stay_as_the_model_wrote_them() -> None:
    events = (BlockStart(0, "tool_call", "a", "f"), ArgumentsDelta(0, '{"a" : 1.50}'), BlockStop(0), Stop("tool_calls"))
    assert b'"input":{"a" : 1.50}' in MessagesWriter(CTX, Notes()).body(events)


@pytest.mark.parametrize("call_id", ["functions.read:0", "", "ä", "x" * 200, "toolu_compat_x", "\ud800", "a b"])
def test_an_id_that_does_not_fit_is_found_again(call_id: str) -> None:
    fitted = fit_call_id(call_id)
    assert fitted != call_id
    assert call_id_of(fitted) == call_id


@pytest.mark.parametrize("call_id", ["call_1", "toolu_01AbC-d", "toolu_compat_!", "toolu_compat_gA"])
def test_other_ids_are_themselves(call_id: str) -> None:
    assert call_id_of(call_id) == call_id


@pytest.mark.parametrize("usage", [Usage(100, 20, 30, 40, 10, 5), Usage(10, 2, 30, 40, 50, 5), Usage()])
def test_the_three_counts_of_the_prompt_add_up_to_it(usage: Usage) -> None:
    told = usage_object(usage)
    parts = [told[name] for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")]
    assert sum(parts) == usage.prompt_tokens
    assert min(parts) >= 0
    assert told["output_tokens_details"]["thinking_tokens"] <= told["output_tokens"] == usage.completion_tokens


def test_blocks_of_a_server_are_left_out_with_a_note() -> None:
    assert written(Unknown("anthropic.messages", "server_tool_use"), Stop("end"), Used(Usage(3, 4)))["notes"] == (
        "left_out=server_tool_use",
    )


# An answer that goes on.


def gone_on(number: int, kind: Any, *events: Event) -> list[dict[str, Any]]:
    writer = MessagesWriter.going_on(CTX, number, kind)
    return events_of(b"".join(map(writer.write, events)) + writer.finish())


def test_a_stream_goes_on_in_its_open_block_without_another_head() -> None:
    text, stop, *end = gone_on(2, "text", BlockStart(0, "text"), TextDelta(0, "b"), Stop("end"), Used(Usage(3, 4)))
    assert text == {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "b"}}
    assert stop == {"type": "content_block_stop", "index": 2}
    assert [one["type"] for one in end] == ["message_delta", "message_stop"]


def test_a_thought_that_was_cut_is_closed_with_our_seal() -> None:
    signature, stop, start, *_ = gone_on(0, "thinking", BlockStart(5, "text"), TextDelta(5, "b"), Stop("end"))
    assert SEALER.open(signature["delta"]["signature"]) == Sealed("fake", CTX.target, "openai.chat")
    assert (stop["type"], start["index"]) == ("content_block_stop", 1)


def test_a_stream_goes_on_between_two_blocks() -> None:
    start, *_ = gone_on(0, None, BlockStart(0, "text"), TextDelta(0, "b"), Stop("end"))
    assert (start["type"], start["index"]) == ("content_block_start", 1)


def test_many_pieces_cost_the_same_each() -> None:
    def cost(count: int) -> float:
        writer = MessagesWriter(CTX, Notes())
        first = [BlockStart(0, "tool_call", "a", "f"), ArgumentsDelta(0, "{"), BlockStart(1, "tool_call", "b", "g")]
        events = [*first, *(one for _ in range(count) for one in (ArgumentsDelta(1, "x"), ArgumentsDelta(0, '"a",')))]
        start = time.process_time()
        for one in events:
            writer.write(one)
        writer.finish()
        return time.process_time() - start

    small = min(cost(2_000) for _ in range(3))
    assert min(cost(8_000) for _ in range(3)) < 10 * small


def test_pieces_that_nobody_decoded_are_the_same_frames() -> None:
    starts = [BlockStart(0, "thinking"), BlockStart(1, "text"), BlockStart(2, "tool_call", "a", "f")]
    for ctx in (CTX, dataclasses.replace(CTX, memory=AnswerMemory(hides_thinking=True))):
        raw, decoded = MessagesWriter(ctx, Notes()), MessagesWriter(ctx, Notes())
        for start, kind in zip(starts, (ThinkingDelta, TextDelta, ArgumentsDelta), strict=True):
            values = (b'a\\"', b"\\u00e4%", b"\xc3\xa4")
            told = (
                raw.write(start) + raw.write_raw(RawDeltas(kind, start.index, values)) + raw.write_raw(RawDeltas(kind, start.index, values))
            )
            pieces = [kind(start.index, piece) for piece in ('a"', "ä%", "ä")]
            told_again = b"".join(map(decoded.write, [start, *pieces, *pieces]))
            assert events_of(told) == events_of(told_again)
        assert raw.finish() == decoded.finish()
