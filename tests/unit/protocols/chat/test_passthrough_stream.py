"""Streams between OpenAI's wire API and itself: every split of the upstream's bytes gives the client the same regular stream."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.config.catalog import Model, Price
from compat.errors import GatewayError, UpstreamBroken, UpstreamError, UpstreamFailure, UpstreamRateLimit
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext
from compat.protocols.chat.chunks import DONE
from compat.protocols.chat.inferred_end import MAX_CALL_BYTES
from compat.wire.usage import Usage
from tests.cases.openai_streams import CASES, StreamCase, spaced
from tests.fakes.openai_answers import TOOL_CALLS, USAGE, chunk, completion, event, sse_bytes, text_chunks, tool_chunks, usage_chunk

TRANSLATOR = TRANSLATORS["openai.chat", "openai.chat"]
CTX = TranslationContext(
    "ali\u00e4s", "their-model", Model(price=Price(1.0, 10.0)), "chatcmpl-ours", 17, is_stream=True, upstream_name="fake"
)
ASKED = dataclasses.replace(CTX, wants_usage=True)
ALL = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
SOUND = pytest.mark.parametrize("case", [case for case in CASES if case.failure is None], ids=lambda case: case.name)
SPLIT_EVERYWHERE = pytest.mark.parametrize("case", [case for case in CASES if len(case.upstream) < 4000], ids=lambda case: case.name)


def translate(pieces: Iterable[bytes], ctx: TranslationContext = ASKED) -> tuple[bytes, GatewayError | None]:
    """The client's bytes, and the error that ended the stream: read as the pipeline does."""
    stream = TRANSLATOR.stream(ctx)
    frames = b""
    for piece in pieces:
        frames += stream.feed(piece)
        if stream.failure is not None:
            return frames, stream.failure
        if stream.is_finished:
            break
    try:
        return frames + stream.finish(), None
    except GatewayError as error:
        return frames, error


def told(pieces: Iterable[bytes]) -> tuple[bytes, str]:
    frames, error = translate(pieces)
    return frames, repr(error)


def chunks_of(frames: bytes) -> list[Any]:
    blocks = frames.split(b"\n\n")
    assert blocks.pop() == b""
    assert all(block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block for block in blocks)
    return [json.loads(block[6:]) for block in blocks if block != b"data: [DONE]"]


def text_of(frames: bytes) -> str:
    return "".join((choice["delta"] or {}).get("content") or "" for item in chunks_of(frames) for choice in item["choices"])


@ALL
def test_the_client_reads_the_text_and_then_an_end_or_an_error(case: StreamCase) -> None:
    frames, error = translate([case.upstream])
    assert text_of(frames) == case.text
    assert frames.count(DONE) == (case.failure is None)
    assert frames.endswith(DONE) == (case.failure is None)
    if case.failure is None:
        assert error is None
    else:
        assert isinstance(error, UpstreamError)
        assert case.failure in error.message


@ALL
def test_byte_by_byte_gives_the_same(case: StreamCase) -> None:
    assert told(bytes([byte]) for byte in case.upstream) == told([case.upstream])


@SPLIT_EVERYWHERE
def test_every_cut_in_two_gives_the_same(case: StreamCase) -> None:
    whole = told([case.upstream])
    assert all(told([case.upstream[:cut], case.upstream[cut:]]) == whole for cut in range(1, len(case.upstream)))


@given(st.sampled_from(CASES), st.lists(st.floats(0, 1), max_size=6))
def test_any_pieces_give_the_same(case: StreamCase, cuts: list[float]) -> None:
    places = [0, *sorted(int(cut * len(case.upstream)) for cut in cuts), len(case.upstream)]
    pieces = [case.upstream[start:end] for start, end in itertools.pairwise(places)]
    assert told(pieces) == told([case.upstream])


@SOUND
def test_a_stream_is_regular(case: StreamCase) -> None:
    chunks = chunks_of(translate([case.upstream])[0])
    assert {(item["object"], item["model"]) for item in chunks} == {("chat.completion.chunk", "ali\u00e4s")}
    assert len({(item["id"], item["created"]) for item in chunks}) == 1
    assert isinstance(chunks[0]["created"], int)
    deltas = [choice["delta"] or {} for item in chunks for choice in item["choices"]]
    assert deltas[0].get("role") == "assistant"
    reasons = [choice.get("finish_reason") for item in chunks for choice in item["choices"]]
    assert [reason for reason in reasons if reason] == [reasons[-1]]


@SOUND
def test_usage_comes_once_at_the_end_when_it_was_asked_for_and_never_otherwise(case: StreamCase) -> None:
    asked = chunks_of(translate([case.upstream], ASKED)[0])
    silent = chunks_of(translate([case.upstream], CTX)[0])
    usages = [item for item in asked if item.get("usage")]
    assert usages == ([asked[-1]] if b'"prompt_tokens"' in case.upstream else [])
    assert all(item["choices"] == [] and "cost_details" in item["usage"] for item in usages)
    assert silent == [item for item in asked if item not in usages]


def test_a_regular_chunk_differs_in_its_model_only() -> None:
    upstream = sse_bytes(text_chunks("Hello there."))
    expected = upstream.replace(b'"their-model"', '"ali\u00e4s"'.encode())
    assert translate([upstream], CTX)[0] == expected.replace(event(usage_chunk()).replace(b"their-model", "ali\u00e4s".encode()), b"")


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        (text_chunks("One two\nthree \u2028 \U0001f600"), completion("One two\nthree \u2028 \U0001f600")),
        (tool_chunks(), completion(None, finish_reason="tool_calls", tool_calls=TOOL_CALLS)),
    ],
    ids=["text", "tool calls"],
)
def test_the_streamed_answer_equals_the_whole_one(chunks: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    stream = TRANSLATOR.stream(ASKED)
    items = chunks_of(stream.feed(sse_bytes(chunks)) + stream.finish())
    answer = TRANSLATOR.response(json.dumps(whole).encode(), ASKED)
    document = json.loads(answer.body)
    choices = [choice for item in items for choice in item["choices"]]
    calls: dict[int, dict[str, Any]] = {}
    for piece in (piece for choice in choices for piece in choice["delta"].get("tool_calls", [])):
        call = calls.setdefault(piece["index"], {"function": {"name": "", "arguments": ""}})
        call.update({key: piece[key] for key in ("id", "type") if key in piece})
        for key, value in piece["function"].items():
            call["function"][key] += value
    message = document["choices"][0]["message"]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == (message["content"] or "")
    assert list(calls.values()) == message.get("tool_calls", [])
    assert choices[-1]["finish_reason"] == stream.stop_reason == answer.stop_reason == document["choices"][0]["finish_reason"]
    assert items[-1]["usage"] == document["usage"]
    assert stream.usage == answer.usage


def test_the_end_leaves_the_counts_and_the_reason() -> None:
    stream = TRANSLATOR.stream(CTX)
    stream.feed(sse_bytes(text_chunks()))
    assert stream.is_finished
    assert (stream.usage, stream.stop_reason, stream.failure) == (Usage(11, 7, 4, reasoning_tokens=2), "stop", None)


@pytest.mark.parametrize(
    ("delta", "is_committed"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"content": None, "tool_calls": []}, False),
        ({}, False),
        ({"content": "a"}, True),
        ({"content": [{"type": "text", "text": "a"}]}, True),
        ({"reasoning_content": "a"}, True),
        ({"reasoning": "a"}, True),
        ({"refusal": "a"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
        ({"function_call": {"name": "f"}}, True),
    ],
)
def test_the_first_content_commits(delta: dict[str, Any], is_committed: bool) -> None:
    stream = TRANSLATOR.stream(CTX)
    stream.feed(event(chunk(delta)))
    assert stream.is_committed is is_committed


def test_a_stream_stays_committed() -> None:
    stream = TRANSLATOR.stream(CTX)
    stream.feed(event(chunk({"content": "a"})) + event(chunk({"content": ""})) + event(chunk({}, "stop")))
    assert stream.is_committed


def test_what_came_before_an_error_is_returned_and_the_error_is_kept() -> None:
    stream = TRANSLATOR.stream(CTX)
    frames = stream.feed(
        event(chunk({"content": "Well"})) + event({"error": {"message": "No", "code": 429}}) + event(chunk({"content": "x"}))
    )
    assert text_of(frames) == "Well"
    assert isinstance(stream.failure, UpstreamRateLimit)
    assert not stream.is_finished


def test_an_event_without_end_is_the_upstreams_fault() -> None:
    stream = TRANSLATOR.stream(CTX)
    piece = b"data: " + b"a" * (1 << 20)
    assert b"".join(stream.feed(piece) for _ in range(33)) == b""
    assert isinstance(stream.failure, UpstreamBroken)


@pytest.mark.parametrize("rest", [{"system_fingerprint": "fp", "service_tier": None}, {"x": [1.5, 2**70, "\u2028"]}])
def test_fields_that_nobody_knows_are_kept_in_a_chunk_that_is_written_anew(rest: dict[str, Any]) -> None:
    first = chunks_of(translate([spaced([{**chunk({"content": "a"}), **rest}, chunk({}, "stop")])])[0])[0]
    assert {key: first[key] for key in rest} == rest
    assert first["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}]


def test_the_identity_is_the_first_chunks_or_ours() -> None:
    theirs = chunks_of(translate([sse_bytes([chunk({"content": "a"}), {**chunk({}, "stop"), "id": "other", "created": 5}])])[0])
    assert {(item["id"], item["created"]) for item in theirs} == {("chatcmpl-theirs", 1_700_000_000)}
    bare = chunks_of(translate([sse_bytes([{"choices": chunk({"content": "a"}, "stop")["choices"]}])])[0])
    assert {(item["id"], item["created"]) for item in bare} == {("chatcmpl-ours", 17)}


def test_the_last_usage_counts() -> None:
    early = {**chunk({"content": "a"}, "stop"), "usage": {"prompt_tokens": 1}}
    assert chunks_of(translate([sse_bytes([early, usage_chunk()])])[0])[-1]["usage"]["prompt_tokens"] == USAGE["prompt_tokens"]


def test_an_empty_finish_reason_is_no_end() -> None:
    chunks = [chunk({"content": "a"}, ""), chunk({"content": "b"}, "")]
    frames, error = translate([sse_bytes(chunks).removesuffix(DONE)])
    assert isinstance(error, UpstreamBroken)
    assert {choice["finish_reason"] for item in chunks_of(frames) for choice in item["choices"]} == {None}
    assert translate([sse_bytes([*chunks, chunk({}, "stop")])])[1] is None


@pytest.mark.parametrize("spelling", [b'"delta":null', b'"delta" : null', b'"x":1'])
@pytest.mark.parametrize("before", [[], [chunk({"content": "a"})]], ids=["before the first content", "after it"])
def test_a_chunk_without_a_delta_gets_one(before: list[dict[str, Any]], spelling: bytes) -> None:
    bare = event(chunk({}, None)).replace(b'"delta":{}', spelling)
    frames, error = translate([b"".join(map(event, before)) + bare + event(chunk({"content": "b"}, "stop"))])
    assert error is None
    assert all(isinstance(choice["delta"], dict) for item in chunks_of(frames) for choice in item["choices"])
    assert text_of(frames).endswith("b")


@pytest.mark.parametrize("before", [[], [chunk({"content": "a"})]], ids=["before the first content", "after it"])
def test_deep_nesting_is_the_upstreams_fault_however_deep_it_is(before: list[dict[str, Any]]) -> None:
    opening = b"".join(map(event, before))
    for depth in range(700, 1000):
        deep = event({**chunk({}, "stop"), "x": "DEEP"}).replace(b'"DEEP"', b"[" * depth + b"]" * depth)
        error = translate([opening, deep])[1]
        assert error is None or type(error) is UpstreamBroken


@pytest.mark.parametrize("before", [[], [chunk({"content": "a"})]], ids=["before the first content", "after it"])
def test_half_a_surrogate_pair_is_replaced_as_in_a_whole_answer(before: list[dict[str, Any]]) -> None:
    half = event(chunk({"content": "HALF"}, "stop")).replace(b"HALF", b"\\ud83d!")
    frames, error = translate([b"".join(map(event, before)) + half])
    assert error is None
    assert text_of(frames).endswith("\ufffd!")


def test_broken_utf8_after_the_first_content_never_reaches_the_client() -> None:
    broken = event(chunk({"content": "BAD"})).replace(b"BAD", b"\xff")
    frames, _ = translate([event(chunk({"content": "a"})), broken, event(chunk({}, "stop"))])
    assert frames.decode("utf-8", "replace").encode() == frames


def test_broken_utf8_in_a_chunk_that_is_written_anew_is_the_upstreams_fault() -> None:
    broken = event({**chunk({"content": "BAD"}), "id": "other"}).replace(b"BAD", b"\xff")
    _, error = translate([event(chunk({"content": "a"})), broken])
    assert isinstance(error, UpstreamError)


@pytest.mark.parametrize(
    ("data", "error_class"),
    [
        (b'{"message": "out of memory"}', UpstreamFailure),
        (b'{"error": {"message": "out of memory", "code": 429}}', UpstreamRateLimit),
        (b'{"error": "out of memory", "code": 429}', UpstreamRateLimit),
        (b"out of memory", UpstreamFailure),
    ],
)
def test_an_event_named_error_is_an_error_with_its_words(data: bytes, error_class: type[GatewayError]) -> None:
    _, error = translate([event(chunk({"content": "a"})) + b"event: error\ndata: " + data + b"\n\n"])
    assert type(error) is error_class
    assert error.message == "fake: out of memory"


def test_a_chunk_over_two_data_lines_arrives() -> None:
    upstream = sse_bytes(text_chunks("Hello there.")).replace(b',"choices"', b',\ndata: "choices"')
    assert text_of(translate([upstream])[0]) == "Hello there."


def test_choices_without_end_are_the_upstreams_fault() -> None:
    """Each is remembered until it ends, so that they would take all memory."""
    pieces = (event({"choices": [{"index": 1000 * turn + n, "delta": {"content": "x"}} for n in range(1000)]}) for turn in range(50))
    frames, error = translate(pieces)
    assert frames
    assert isinstance(error, UpstreamBroken)
    assert "choices" in error.message


def end_of(upstream: bytes, *, is_whole: bool = False) -> tuple[str | None, list[str]]:
    """The reason and the notes of a stream's end. Errors: `UpstreamBroken`."""
    stream = TRANSLATOR.stream(CTX)
    frames = stream.feed(upstream) + stream.finish(is_whole=is_whole)
    reasons = [choice["finish_reason"] for item in chunks_of(frames) for choice in item["choices"]]
    assert reasons[-1] == stream.stop_reason
    return stream.stop_reason, stream.notes


@pytest.mark.parametrize(("chunks", "reason"), [(text_chunks(), "stop"), (tool_chunks(), "tool_calls")], ids=["text", "tool calls"])
@pytest.mark.parametrize("is_spaced", [False, True])
def test_an_end_mark_without_a_reason_ends_with_the_reason_that_it_must_have_had(
    chunks: list[dict[str, Any]], reason: str, is_spaced: bool
) -> None:
    upstream = (spaced if is_spaced else sse_bytes)(chunks[:-2])
    assert end_of(upstream) == (reason, ["finish_reason=inferred"])


def test_a_body_that_ends_in_order_after_complete_calls_or_text_with_usage_is_an_answer() -> None:
    calls, text = sse_bytes(tool_chunks()[:-2]).removesuffix(DONE), sse_bytes(text_chunks()[:-2]).removesuffix(DONE)
    counted = text + event(usage_chunk())
    assert end_of(calls, is_whole=True)[0] == "tool_calls"
    assert end_of(counted, is_whole=True)[0] == "stop"
    for cut in ((calls, False), (counted, False), (text, True)):
        with pytest.raises(UpstreamBroken, match="without a finish_reason"):
            end_of(cut[0], is_whole=cut[1])


def test_half_a_call_or_no_content_is_no_answer_even_with_an_end_mark() -> None:
    half = [chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": piece}}]}) for piece in ("", '{"a": [')]
    nameless = [chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": "{}"}}]})]
    for chunks in (half, nameless, [chunk({"role": "assistant", "content": ""})]):
        with pytest.raises(UpstreamBroken, match="without a finish_reason"):
            end_of(sse_bytes(chunks), is_whole=True)


def test_a_call_too_long_to_be_looked_at_is_not_judged() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a": "%s"}' % ("x" * MAX_CALL_BYTES)}}
    with pytest.raises(UpstreamBroken, match="without a finish_reason"):
        end_of(sse_bytes([chunk({"tool_calls": [call]})]))


def test_each_choice_gets_the_reason_that_it_lacks() -> None:
    second = {**chunk({"content": "b"}), "choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}]}
    frames = translate([sse_bytes([chunk({"content": "a"}), second, chunk({}, "length")])])[0]
    reasons = {choice["index"]: choice["finish_reason"] for item in chunks_of(frames) for choice in item["choices"]}
    assert reasons == {0: "length", 1: "stop"}
    assert end_of(sse_bytes([chunk({"content": "a"}), second])) == ("stop", ["finish_reason=inferred"])
