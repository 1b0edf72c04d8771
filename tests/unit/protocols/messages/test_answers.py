"""Answers from Anthropic's wire API to OpenAI's: as their rows say, whole and streamed, in every framing, and both SDKs agree."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from compat.errors import GatewayError, UpstreamBroken
from compat.protocols.base import Continuation, TranslatedAnswer
from compat.protocols.chat.chunks import DONE
from compat.wire.usage import Usage
from tests.cases.messages import OPUS5, SONNET, AnswerRow, StreamRow, call, chat, said, text, user
from tests.cases.messages_answers import ANSWERS
from tests.cases.messages_checks import (
    TRANSLATOR,
    Told,
    accepted,
    chunks_of,
    context,
    feed,
    told_by_chunks,
    told_by_completion,
    translated,
)
from tests.cases.messages_failures import BROKEN, PAUSED, RESUMED, STREAMS
from tests.fakes.anthropic_answers import event_bytes, message, one_event, stream_events, web_citation

CTX = context(SONNET, is_stream=True)


def name_of(row: Any) -> str:
    return f"{'+'.join(map(str, row.rules))}: {row.says}"


def answer_of(row: AnswerRow) -> TranslatedAnswer:
    document = message(row.blocks, stop_reason=row.stop_reason, usage=row.counted, stop_details=row.stop_details)
    return TRANSLATOR.response(json.dumps(document, ensure_ascii=False).encode(), context(SONNET, memory=row.memory))


def events_of(row: AnswerRow) -> list[dict[str, Any]]:
    return stream_events(row.blocks, stop_reason=row.stop_reason, usage=row.counted, stop_details=row.stop_details)


def framings(events: list[dict[str, Any]]) -> Iterator[list[bytes]]:
    """Whole, one event a piece, and byte by byte, with each kind of line end."""
    for end in (b"\n", b"\r\n", b"\r"):
        whole = event_bytes(events, end)
        yield [whole]
        yield [one_event(event, end) for event in events]
        yield [bytes([byte]) for byte in whole]
    yield [event_bytes(events).removesuffix(b"\n\n")]


@pytest.mark.parametrize("row", ANSWERS, ids=name_of)
def test_a_whole_answer_is_translated_as_its_row_says(row: AnswerRow) -> None:
    answer = answer_of(row)
    document = json.loads(answer.body)
    told = told_by_completion(document)
    assert document["choices"][0]["message"] == {"role": "assistant", "refusal": None, **row.message}
    assert (document["id"], document["object"], document["created"], document["model"]) == (
        "chatcmpl-ours",
        "chat.completion",
        17,
        "claude",
    )
    assert answer.stop_reason == told.finish_reason == row.finish_reason
    assert told.choice == row.choice
    assert {name: document["usage"][name] for name in row.usage} == row.usage
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == document["usage"]["prompt_tokens"]
    assert (answer.notes, answer.thinking, answer.continuation) == (row.notes, row.thinking, None)


@pytest.mark.parametrize("row", ANSWERS, ids=name_of)
def test_the_streamed_answer_equals_the_whole_one_in_every_framing(row: AnswerRow) -> None:
    answer = answer_of(row)
    whole = told_by_completion(json.loads(answer.body))
    first = b""
    for pieces in framings(events_of(row)):
        stream = TRANSLATOR.stream(dataclasses.replace(CTX, memory=row.memory))
        frames, error = feed(stream, pieces)
        assert error is None
        first = first or frames
        assert frames == first, "every framing gives the same bytes"
        assert stream.is_finished
        assert stream.is_committed == bool(whole.content or whole.reasoning or whole.calls)
        assert (stream.usage, stream.stop_reason, stream.thinking) == (answer.usage, answer.stop_reason, answer.thinking)
        assert tuple(stream.notes) == answer.notes
    assert first.endswith(DONE)
    assert told_by_chunks(chunks_of(first)) == whole


def test_usage_is_told_in_one_last_chunk_and_only_when_it_is_asked_for() -> None:
    events = event_bytes(stream_events([text("A")]))
    asked, _ = feed(TRANSLATOR.stream(CTX), [events])
    silent, _ = feed(TRANSLATOR.stream(dataclasses.replace(CTX, wants_usage=False)), [events])
    last = chunks_of(asked)[-1]
    assert last["choices"] == []
    assert chunks_of(silent) == chunks_of(asked)[:-1]
    assert all("usage" not in chunk for chunk in chunks_of(silent))


def test_counts_of_a_stream_are_set_and_never_added() -> None:
    events = stream_events([text("A")], usage={"input_tokens": 10, "output_tokens": 5})
    events.insert(-1, {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 12, "output_tokens": 7}})
    events.insert(-1, {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": None}})
    stream = TRANSLATOR.stream(CTX)
    assert feed(stream, [event_bytes(events)])[1] is None
    assert stream.usage == Usage(12, 7)


def test_counts_that_cannot_be_true_are_nothing() -> None:
    counts = {"input_tokens": 10**30, "output_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 10**13}}
    stream = TRANSLATOR.stream(CTX)
    assert feed(stream, [event_bytes(stream_events([text("A")], usage=counts))])[1] is None
    assert stream.usage == Usage(0, 5)


@pytest.mark.parametrize("row", STREAMS, ids=name_of)
def test_a_stream_that_fails_ends_with_an_error_and_no_invented_end(row: StreamRow) -> None:
    outcomes = []
    for pieces in ([row.upstream], [bytes([byte]) for byte in row.upstream]):
        stream = TRANSLATOR.stream(CTX)
        frames, error = feed(stream, pieces)
        assert type(error) is row.error
        assert row.words in error.message
        told = told_by_chunks(chunks_of(frames))
        assert (told.content, told.finish_reason, told.usage) == (row.text, None, None)
        assert DONE not in frames
        assert stream.is_committed == bool(row.text)
        outcomes.append((frames, str(error)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(("body", "words", "error"), BROKEN)
def test_a_whole_body_that_is_no_answer_is_the_upstreams_fault(body: bytes, words: str, error: type[GatewayError]) -> None:
    with pytest.raises(error) as caught:
        TRANSLATOR.response(body, CTX)
    assert type(caught.value) is error
    assert words in caught.value.message


def test_a_stream_without_its_start_begins_with_the_role_all_the_same() -> None:
    events = stream_events([text("") | {"citations": [web_citation()]}])[1:]
    frames, error = feed(TRANSLATOR.stream(CTX), [event_bytes(events)])
    assert isinstance(error, UpstreamBroken)
    assert len(told_by_chunks(chunks_of(frames)).annotations) == 1


def test_what_follows_the_end_of_an_answer_is_not_read() -> None:
    stream = TRANSLATOR.stream(CTX)
    whole = event_bytes(stream_events([text("A")]))
    frames, error = feed(stream, [whole + whole + b"data: {\n\n"])
    assert error is None
    assert told_by_chunks(chunks_of(frames)).content == "A"


def test_events_and_deltas_that_nobody_knows_are_left_out() -> None:
    events = stream_events([text("A")])
    odd = {"type": "content_block_delta", "index": 0, "delta": {"type": "smell_delta", "smell": "rose"}}
    bare = {"type": "content_block_delta", "index": 0, "delta": {}}
    stray = {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}}
    events[2:2] = [{"type": "weather", "sun": True}, odd, bare, stray]
    stream = TRANSLATOR.stream(CTX)
    frames, error = feed(stream, [b": comment\n\n" + event_bytes(events)])
    assert error is None
    assert told_by_chunks(chunks_of(frames)).content == "A"
    assert stream.notes == ["left_out=smell_delta", "left_out=delta"]


def test_servers_that_send_a_calls_whole_input_at_its_start_are_understood() -> None:
    events = stream_events([{"type": "tool_use", "id": "a", "name": "read", "input": {}}])
    opening = next(event for event in events if event["type"] == "content_block_start")
    opening["content_block"]["input"] = {"p": 1}
    frames, error = feed(TRANSLATOR.stream(CTX), [event_bytes(events)])
    assert error is None
    assert told_by_chunks(chunks_of(frames)).calls == [call("a", arguments='{"p":1}')]


@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_servers_that_open_a_block_without_its_text_are_understood(kind: str) -> None:
    opening = {"type": "content_block_start", "index": 0, "content_block": {"type": kind}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", kind: "A"}}
    events = stream_events([])
    events[1:1] = [opening, delta, {"type": "content_block_stop", "index": 0}]
    stream = TRANSLATOR.stream(CTX)
    frames, error = feed(stream, [event_bytes(events)])
    told = told_by_chunks(chunks_of(frames))
    assert (error, told.content + told.reasoning, stream.notes) == (None, "A", [])


def test_a_calls_input_of_null_is_empty() -> None:
    document = message([{"type": "tool_use", "id": "a", "name": "read", "input": None}])
    assert told_by_completion(json.loads(TRANSLATOR.response(json.dumps(document).encode(), CTX).body)).calls == [call("a")]


def test_a_signature_may_come_with_the_opening_of_its_block() -> None:
    events = stream_events(
        [{"type": "thinking", "thinking": "", "signature": "", "estimate": 5}, {"type": "tool_use", "id": "a", "name": "b", "input": {}}]
    )
    events[1]["content_block"]["signature"] = "abc"
    stream = TRANSLATOR.stream(CTX)
    feed(stream, [event_bytes(events)])
    assert stream.thinking is not None
    assert stream.thinking.blocks[0] == {"type": "thinking", "thinking": "", "signature": "abc", "estimate": 5}


# Rule 17: a paused answer is resumed, and the client sees one answer.

USED = {"input_tokens": 10, "output_tokens": 5}
PAUSE = {"stop_reason": "pause_turn", "usage": USED}


def resumed_whole() -> tuple[TranslatedAnswer, Told]:
    first = TRANSLATOR.response(json.dumps(message(PAUSED, **PAUSE)).encode(), CTX)
    assert first.body == b""
    assert first.continuation is not None
    ctx = dataclasses.replace(CTX, continuation=first.continuation)
    answer = TRANSLATOR.response(json.dumps(message(RESUMED, usage=USED)).encode(), ctx)
    return answer, told_by_completion(json.loads(answer.body))


def test_a_paused_answer_goes_on_as_one_whole_and_streamed() -> None:
    answer, whole = resumed_whole()
    stream = TRANSLATOR.stream(CTX)
    frames = stream.feed(event_bytes(stream_events(PAUSED, **PAUSE)))
    assert stream.is_finished
    assert stream.continuation is not None
    stream.resume()
    rest, error = feed(stream, [event_bytes(stream_events(RESUMED, usage=USED))])
    assert error is None
    told = told_by_chunks(chunks_of(frames + rest))
    assert told == whole
    assert told.content == "One, two."
    assert told.calls == [call("toolu_1", arguments='{"p": 1}')]
    assert (stream.usage, stream.thinking) == (answer.usage, answer.thinking)
    assert answer.usage == Usage(20, 10)


def test_the_same_is_carried_on_whole_and_streamed() -> None:
    first = TRANSLATOR.response(json.dumps(message(PAUSED, **PAUSE)).encode(), CTX)
    stream = TRANSLATOR.stream(CTX)
    stream.feed(event_bytes(stream_events(PAUSED, **PAUSE)))
    assert first.continuation == stream.continuation == Continuation(tuple(PAUSED), USED)


def test_a_paused_answer_can_pause_again() -> None:
    first = TRANSLATOR.response(json.dumps(message(PAUSED, **PAUSE)).encode(), CTX)
    again = TRANSLATOR.response(
        json.dumps(message([text("A")], **PAUSE)).encode(), dataclasses.replace(CTX, continuation=first.continuation)
    )
    assert again.continuation == Continuation((*PAUSED, text("A")), {"input_tokens": 20, "output_tokens": 10})
    stream = TRANSLATOR.stream(CTX)
    for blocks in (PAUSED, [text("A")]):
        stream.feed(event_bytes(stream_events(blocks, **PAUSE)))
        continuation = stream.continuation
        stream.resume()
    assert continuation == again.continuation


def test_a_stream_that_is_never_resumed_is_no_answer() -> None:
    stream = TRANSLATOR.stream(CTX)
    _, error = feed(stream, [event_bytes(stream_events(PAUSED, **PAUSE))])
    assert isinstance(error, UpstreamBroken)
    assert "kept pausing" in error.message


def test_a_pause_that_is_not_resumed_any_more_ends_with_length_whole_and_streamed() -> None:
    ctx = dataclasses.replace(CTX, resumes=False)
    answer = TRANSLATOR.response(json.dumps(message(PAUSED, **PAUSE)).encode(), ctx)
    stream = TRANSLATOR.stream(CTX)
    frames = stream.feed(event_bytes(stream_events(PAUSED, **PAUSE)))
    stream.settle()
    told = told_by_chunks(chunks_of(frames + stream.finish()))
    assert told == told_by_completion(json.loads(answer.body))
    assert (answer.stop_reason, stream.stop_reason) == ("length", "length")
    assert answer.notes == tuple(stream.notes)
    assert "stop_reason=pause_turn" in answer.notes


def test_a_pause_in_which_nothing_was_said_is_no_answer() -> None:
    for blocks in ([], [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}], [text("")]):
        answer = TRANSLATOR.response(json.dumps(message(blocks, **PAUSE)).encode(), dataclasses.replace(CTX, resumes=False))
        assert answer.continuation is not None


def test_calls_before_a_pause_are_kept_in_the_whole_answer() -> None:
    use = {"type": "tool_use", "id": "a", "name": "read", "input": {"p": 1}}
    ctx = dataclasses.replace(CTX, continuation=Continuation((use,), {}))
    answer = TRANSLATOR.response(json.dumps(message([text("A")])).encode(), ctx)
    assert told_by_completion(json.loads(answer.body)).calls == [call("a", arguments='{"p":1}')]


@pytest.mark.parametrize("model", [SONNET, OPUS5])
def test_a_paused_answer_goes_back_verbatim_less_what_would_be_refused(model: str) -> None:
    unsigned = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    ctx = context(model, continuation=Continuation((*PAUSED, text(" "), unsigned), {}))
    sent = chat(user(text("Hello")), said("Hi."), user(text("Search.")), tools=[{"type": "web_search_20250305", "name": "web_search"}])
    ordered = [PAUSED[0], PAUSED[1], PAUSED[2]]
    assert accepted(translated(sent, ctx), ctx)["messages"][-1] == {"role": "assistant", "content": ordered}


def test_an_empty_pause_asks_the_same_again() -> None:
    plain = context(SONNET)
    ctx = dataclasses.replace(plain, continuation=Continuation((), {}))
    assert translated(chat(), ctx) == translated(chat(), plain)


def deltas(kind: str, field: str, piece: str) -> bytes:
    return event_bytes([{"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: piece}}])


@pytest.mark.parametrize(
    ("opening", "kind", "field"),
    [
        ({"type": "text", "text": ""}, "text_delta", "text"),
        ({"type": "thinking", "thinking": ""}, "thinking_delta", "thinking"),
        ({"type": "thinking", "thinking": ""}, "signature_delta", "signature"),
        ({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}, "input_json_delta", "partial_json"),
    ],
)
def test_an_answer_without_end_is_the_upstreams_fault(opening: dict[str, Any], kind: str, field: str) -> None:
    """Its blocks are kept until they end, so that they would take all memory."""
    start = event_bytes([*stream_events([])[:1], {"type": "content_block_start", "index": 0, "content_block": opening}])
    pieces = itertools.chain([start], itertools.repeat(deltas(kind, field, "x" * 1_000_000), 100))
    stream = TRANSLATOR.stream(CTX)
    error = next((stream.failure for piece in pieces if stream.feed(piece) is not None and stream.failure), None)
    assert isinstance(error, UpstreamBroken)
    assert "more than 67108864 bytes" in error.message


@pytest.mark.slow
def test_a_signature_in_a_hundred_thousand_pieces_costs_no_more_than_their_length() -> None:
    begun_s = time.process_time()
    signed = [
        {"type": "thinking", "thinking": "hm", "signature": "s" * 20 * 100_000},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
    events = stream_events(signed)
    place = next(n for n, row in enumerate(events) if row.get("delta", {}).get("type") == "signature_delta")
    piece = {**events[place], "delta": {"type": "signature_delta", "signature": "s" * 20}}
    stream = TRANSLATOR.stream(CTX)
    feed(stream, [event_bytes([*events[:place], *[piece] * 100_000, *events[place + 1 :]])])
    assert stream.thinking is not None
    assert len(stream.thinking.blocks[0]["signature"]) == 20 * 100_000
    assert time.process_time() - begun_s < 5
