"""What holds for every conversation and every answer, however odd: requests are valid, failures are named, streams can be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from compat.errors import GatewayError, UpstreamError
from compat.protocols.base import Continuation, ThinkingRecord, TranslationContext
from compat.protocols.chat.chunks import DONE
from compat.wire.envelope import Envelope
from tests.cases import messages_strategies as odd
from tests.cases.messages import SONNET
from tests.cases.messages_checks import (
    TRANSLATOR,
    accepted,
    chunks_of,
    context,
    feed,
    told_by_chunks,
    told_by_completion,
    translated,
    unmarked,
)
from tests.fakes.anthropic_answers import event_bytes, message, stream_events

pytestmark = pytest.mark.slow

CTX = context(SONNET, is_stream=True)
refused = st.frozensets(st.sampled_from(odd.REFUSABLE), max_size=2)


def refusal_of(body: bytes, ctx: TranslationContext) -> GatewayError | None:
    """The error for a client's body, if there is one."""
    try:
        json.loads(TRANSLATOR.request(Envelope(body), ctx).body)
    except GatewayError as error:
        return error
    return None


@settings(max_examples=350)
@given(odd.conversations, st.sampled_from(odd.MODELS), odd.records(), refused, odd.continuations, st.booleans())
def test_every_conversation_is_translated_to_a_request_that_is_taken(
    sent: dict[str, Any],
    model: str,
    records: dict[str, ThinkingRecord],
    refused: frozenset[str],
    continuation: Continuation | None,
    is_stream: bool,
) -> None:
    ctx = context(model, records=records, refused=refused, is_stream=is_stream, continuation=continuation)
    raw = json.dumps({"model": "claude", **sent}).encode()
    error = refusal_of(raw, ctx)
    if error is not None:
        event("refused")
        assert error.param == "tool_choice", "nothing else here can be refused"
        return
    request = translated(raw, ctx)
    body = accepted(request, ctx)
    event(f"taken: {len(body['messages'])} messages")
    text = json.dumps(body, ensure_ascii=False)
    for call in (call for turn in sent["messages"] for call in turn.get("tool_calls") or ()):
        assert '"tool_use"' in text, call


@settings(max_examples=250)
@given(odd.spoilt(odd.conversations), st.sampled_from(odd.MODELS), odd.records())
def test_what_is_wrong_is_the_clients_and_is_named(sent: Any, model: str, records: dict[str, ThinkingRecord]) -> None:
    error = refusal_of(json.dumps(sent).encode(), context(model, records=records))
    assert error is None or (400 <= error.status < 500 and error.message)


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(["messages", "tools", "stop", "thinking", "response_format", "metadata", "x"]), odd.junk, max_size=4)
)
def test_junk_is_refused_or_taken_and_never_a_fault_of_ours(sent: dict[str, Any]) -> None:
    error = refusal_of(json.dumps(sent).encode(), CTX)
    assert error is None or 400 <= error.status < 500


@settings(max_examples=250)
@given(odd.answers, odd.stop_reasons, st.data())
def test_every_answer_in_every_split_is_the_same_whole_and_streamed(
    blocks: list[dict[str, Any]], stop_reason: str, data: st.DataObject
) -> None:
    document = message(blocks, stop_reason=stop_reason, stop_details={"category": "cyber"})
    answer = TRANSLATOR.response(json.dumps(document, ensure_ascii=False).encode(), CTX)
    whole = told_by_completion(json.loads(answer.body))
    end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    events = event_bytes(stream_events(blocks, stop_reason=stop_reason, stop_details={"category": "cyber"}), end)
    stream = TRANSLATOR.stream(CTX)
    frames, error = feed(stream, data.draw(odd.cuts(events)))
    assert error is None
    assert told_by_chunks(chunks_of(frames)) == whole
    assert (stream.usage, stream.thinking, tuple(stream.notes)) == (answer.usage, answer.thinking, answer.notes)
    assert whole.content == "".join(block["text"] for block in blocks if block["type"] == "text")
    assert [json.loads(call["function"]["arguments"]) for call in whole.calls] == [
        block["input"] for block in blocks if block["type"] == "tool_use"
    ]


@settings(max_examples=350)
@given(odd.spoilt(st.builds(stream_events, odd.answers)), st.data())
def test_a_stream_gone_wrong_is_the_upstreams_fault(events: list[Any], data: st.DataObject) -> None:
    raw = b"".join(b"data: " + json.dumps(item).encode() + b"\n\n" for item in events)
    stream = TRANSLATOR.stream(CTX)
    frames, error = feed(stream, data.draw(odd.cuts(raw)))
    assert error is None or isinstance(error, UpstreamError)
    assert frames.endswith(DONE) is (error is None)
    told = told_by_chunks(chunks_of(frames))
    assert (told.finish_reason is None) is (error is not None)


@settings(max_examples=150)
@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b"data: ", b"\n\n", b'{"type":"ping"}', b"event: error\n", b"\r\n", b"\xef\xbb\xbf"]),
        max_size=9,
    )
)
def test_bytes_that_are_no_events_are_the_upstreams_fault(pieces: list[bytes]) -> None:
    frames, error = feed(TRANSLATOR.stream(CTX), pieces)
    assert frames == b""
    assert isinstance(error, UpstreamError)


@settings(max_examples=250)
@given(odd.spoilt(st.builds(message, odd.answers)))
def test_a_whole_answer_gone_wrong_is_the_upstreams_fault(document: Any) -> None:
    try:
        answer = TRANSLATOR.response(json.dumps(document).encode(), CTX)
    except UpstreamError:
        return
    if answer.continuation is None:
        told_by_completion(json.loads(answer.body))


@settings(max_examples=120)
@given(st.lists(odd.messages, min_size=2, max_size=8), st.sampled_from(odd.MODELS))
def test_a_longer_history_changes_nothing_before_the_last_answer(messages: list[dict[str, Any]], model: str) -> None:
    """Rule 27 for any history: up to its last answer, all that was sent for its beginning is sent again."""
    last = max((place for place, item in enumerate(messages) if item["role"] == "assistant" and item.get("tool_calls")), default=0)
    if last == 0:
        return
    ctx = context(model)
    shorter = json.loads(translated(json.dumps({"model": "a", "messages": messages[:last]}).encode(), ctx).body)
    longer = accepted(translated(json.dumps({"model": "a", "messages": messages}).encode(), ctx), ctx)
    assert unmarked(longer.get("system")) == unmarked(shorter.get("system"))
    before = shorter["messages"]
    if before[-1]["role"] == "assistant" or before[-1]["content"][-1].get("text", "").startswith("Continue exactly"):
        return  # two answers in a row are one
    assert unmarked(longer["messages"][: len(before)]) == unmarked(before)
