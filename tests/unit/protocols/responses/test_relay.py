"""Calls of the Responses API to an upstream of the same: bytes pass, and what must differ does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from compat.errors import BadRequest, ContextTooLong, GatewayError, UpstreamBroken, UpstreamFailure, UpstreamRateLimit
from compat.protocols.base import TranslatedRequest, TranslationContext
from compat.protocols.refusals import REASONING_ITEMS, endpoint_mark
from compat.protocols.responses.relay import RESPONSES_RESPONSES, RelayStream
from compat.protocols.sealed import PREFIX, Sealed, Sealer
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage
from tests.cases.messages_checks import context
from tests.cases.messages_client import events_of
from tests.fakes.responses_answers import error_document, error_event, event_bytes, failed, incomplete, one_event, response, stream_events
from tests.fakes.responses_answers import events_of as events_in
from tests.fakes.responses_items import MODEL, function_call, message, reasoning, text_part, web_search

CTX = dataclasses.replace(context("gpt-6.1-sol", is_stream=True), alias="gpt")
LOST_CTX = dataclasses.replace(CTX, refused_parameters=frozenset({REASONING_ITEMS}))
BODY = b'{ "model" : "gpt",  "input":[ {"role":"user","content":"Hi \\u00e4"} ], "new_field":{"b":1.50,"a":[ ]}, "stream":true }'
USED = Usage(19, 7, 3, 5, reasoning_tokens=2)


def asked(body: bytes, ctx: TranslationContext = CTX) -> TranslatedRequest:
    envelope = Envelope(body)
    before = (envelope.body, dict(envelope))
    first = RESPONSES_RESPONSES.request(envelope, ctx)
    assert RESPONSES_RESPONSES.request(envelope, ctx) == first
    assert (envelope.body, dict(envelope)) == before
    return first


# Requests.


def test_only_the_models_name_differs() -> None:
    request = asked(BODY)
    assert request.body == BODY.replace(b'"gpt"', b'"gpt-6.1-sol"')
    assert (request.headers, request.notes) == ({}, ())


def test_half_a_character_is_mended_with_a_note() -> None:
    assert asked(BODY.replace(b"\\u00e4", b"\\ud83d")).notes == ("repaired=surrogates",)


OURS = {"type": "reasoning", "summary": [], "encrypted_content": Sealer([b"x"]).seal(Sealed("u", "m", "openai.chat"))}
REAL = {**reasoning("Real."), "content": None}
CALL = function_call(internal_chat_message_metadata_passthrough={"a": 1})
USER = {"role": "user", "content": "Hi", "id": "msg_u"}


@pytest.mark.parametrize(
    ("body", "notes"),
    [
        (b'{"input":null}', ("default=model", "default=input")),
        (b'{"model":"m"}', ("default=input",)),
        (b'{"model":"m","prompt":{"id":"p"}}', ()),
        (b'{"model":"m","previous_response_id":"resp_1"}', ()),
        (b'{"model":"m","input":"Hi"}', ()),
    ],
)
def test_what_no_service_answers_without_is_put_in_with_a_note(body: bytes, notes: tuple[str, ...]) -> None:
    request = asked(body)
    assert request.notes == notes
    given = json.loads(body).get("input")
    assert json.loads(request.body).get("input") == ("(The conversation begins here.)" if "default=input" in notes else given)


def history(*items: Any) -> bytes:
    return json.dumps({"model": "gpt", "input": [USER, *items]}, indent=1).encode()


def left(request: TranslatedRequest) -> Any:
    return json.loads(request.body)["input"][1:]


def test_reasoning_that_is_ours_is_taken_out_and_nothing_else_changes() -> None:
    request = asked(history(OURS, REAL, CALL))
    assert left(request) == [REAL, CALL]
    assert request.notes == ("thinking=omitted(1)",)
    assert json.dumps(REAL, indent=1).replace("\n", "\n  ").encode() in request.body, "what stays keeps its bytes"


def test_words_that_look_like_ours_change_nothing() -> None:
    words = {"role": "user", "content": PREFIX}
    assert left(asked(history(words, REAL))) == [words, REAL]
    text = b'{"model":"gpt","input":"%s"}' % PREFIX.encode()
    assert asked(text).body == text.replace(b'"gpt"', b'"gpt-6.1-sol"')


def test_where_reasoning_was_refused_none_is_sent_and_no_id_asks_for_it() -> None:
    said = message(text_part("A"))
    odd = ["x", {"type": ["reasoning"]}]
    request = asked(history(REAL, CALL, said, *odd), LOST_CTX)
    without = [{key: value for key, value in item.items() if key != "id"} for item in (CALL, said)]
    assert left(request) == [*without, *odd]
    assert json.loads(request.body)["input"][0] == USER
    assert request.notes == ("thinking=omitted(1)",)


# Whole answers.


def test_a_whole_answer_keeps_its_bytes_but_for_the_models_name() -> None:
    body = json.dumps(response([message(text_part("A"))]), indent=2).encode()
    answer = RESPONSES_RESPONSES.response(body, CTX)
    assert answer.body == body.replace(f'"model": "{MODEL}"'.encode(), b'"model": "gpt"')
    assert (answer.usage, answer.stop_reason, answer.notes) == (USED, "completed", ())
    nameless = b'{"output":[]}'
    assert RESPONSES_RESPONSES.response(nameless, CTX).body == nameless
    assert RESPONSES_RESPONSES.response(json.dumps(incomplete([])).encode(), CTX).stop_reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("body", "words"), [(b"<html>", "not a response"), (b"{}", "no output"), (b'{"output":[],"a":1,"a":2}', "not a response")]
)
def test_a_body_that_is_no_response_is_the_upstreams_fault(body: bytes, words: str) -> None:
    with pytest.raises(UpstreamBroken, match=words):
        RESPONSES_RESPONSES.response(body, CTX)


def test_an_error_in_a_whole_answer_is_what_it_stands_for() -> None:
    with pytest.raises(UpstreamFailure):
        RESPONSES_RESPONSES.response(json.dumps(failed()).encode(), CTX)


# Streams.

EVENTS = stream_events([reasoning("Hm."), message(text_part("Hello there, you.")), function_call("read", '{"path": "a"}')])
STREAM = event_bytes(EVENTS)
ENDED = {"type": "response.completed", "response": {"status": "completed", "output": []}}


def fed(pieces: Sequence[bytes], *, ctx: TranslationContext = CTX) -> tuple[bytes, RelayStream]:
    stream = RelayStream(ctx)
    frames = b"".join(map(stream.feed, pieces))
    if stream.failure is not None:
        raise stream.failure
    return frames + stream.finish(is_whole=True), stream


def test_a_stream_passes_as_it_came_in_every_split() -> None:
    for pieces in ([STREAM], [one_event(event) for event in EVENTS], [bytes([byte]) for byte in STREAM]):
        frames, stream = fed(pieces)
        assert events_of(frames) == [json.loads(json.dumps(event).replace(f'"{MODEL}"', '"gpt"')) for event in EVENTS]
        assert (stream.usage, stream.stop_reason, stream.is_committed, stream.is_finished) == (USED, "completed", True, True)
        assert (stream.notes, stream.thinking) == ([], None)
    start, end = (STREAM.index(b"event: response." + name) for name in (b"output_item.added", b"completed"))
    assert STREAM[start:end] in fed([STREAM])[0]


def test_events_and_fields_that_nobody_knows_pass() -> None:
    extra = b': hello\n\nevent: news\ndata: {"type":"response.news","x" : 1}\n\n'
    cut = STREAM.index(b"event: response.output_item.added")
    assert extra in fed([STREAM[:cut] + extra + STREAM[cut:]])[0]


def test_what_follows_the_end_is_left_out() -> None:
    frames, _ = fed([STREAM + b"data: [DONE]\n\n" + STREAM])
    assert frames == fed([STREAM])[0]


@pytest.mark.parametrize(
    ("events", "count", "commits"),
    [
        (EVENTS, 3, False),
        (EVENTS, 5, True),
        (stream_events([function_call()]), 3, True),
        (stream_events([message()]), 3, False),
        (stream_events([web_search()]), 3, True),
    ],
)
def test_content_commits_and_the_opening_of_text_does_not(events: Any, count: int, commits: bool) -> None:
    stream = RelayStream(CTX)
    stream.feed(event_bytes(events[:count]))
    assert stream.is_committed == commits


def test_calls_that_nobody_said_to_be_complete_are_whole_where_their_arguments_are() -> None:
    """Some servers send no `output_item.done`."""
    deltas = [event for event in stream_events([function_call("read", '{"path": "a.py", "x": 1}')]) if event["type"].endswith(".delta")]
    other = {"type": "response.function_call_arguments.delta", "output_index": 7, "delta": "x"}
    added = [
        {"type": "response.output_item.added", "output_index": index, "item": {"type": "function_call", "arguments": ""}}
        for index in (0, 1)
    ]
    done = {"type": "response.output_item.done", "output_index": 1, "item": function_call()}
    events = [*added, *deltas[:2], done, other, {**other, "delta": None}, *deltas[2:], ENDED]
    for pieces in ([event_bytes(events)], [one_event(event) for event in events]):
        assert fed(pieces)[1].stop_reason == "completed"
    with pytest.raises(UpstreamBroken, match="within a tool call"):
        fed([event_bytes([*events[:-2], ENDED])])
    with pytest.raises(UpstreamBroken, match="invalid event"):
        fed([event_bytes(events[:4]), b"event: response.x.delta\ndata: {\n\n", event_bytes([ENDED])])


def test_items_without_their_pieces_commit_as_well() -> None:
    stream = RelayStream(CTX)
    stream.feed(one_event({"type": "response.output_item.done", "output_index": 0, "item": message()}))
    assert stream.is_committed


def test_pieces_are_not_looked_at_but_only_where_there_is_nothing_else() -> None:
    stream = RelayStream(CTX)
    stream.feed(event_bytes(EVENTS[:5]))
    assert stream.is_flowing
    piece = one_event({"type": "response.output_text.delta", "output_index": 1, "delta": "x"})
    broken = b"event: response.output_text.delta\ndata: {\n\n"
    assert stream.feed(piece + broken) == piece + broken
    mixed = piece + one_event({"type": "response.other"})
    assert stream.feed(mixed) == mixed


@pytest.mark.parametrize(
    ("upstream", "kind", "words"),
    [
        (STREAM[: STREAM.index(b"event: response.completed")], UpstreamBroken, "without a response.completed"),
        (b"event: x\ndata: {\n\n", UpstreamBroken, "invalid event"),
        (event_bytes([*EVENTS[:4], error_event()]), UpstreamFailure, "had an error"),
        (event_bytes(events_in(failed("context_length_exceeded"))), ContextTooLong, "had an error"),
        (event_bytes(events_in(failed("rate_limit_exceeded"))), UpstreamRateLimit, "had an error"),
        (event_bytes([*stream_events([function_call("read", '{"a": 1}')])[:4], ENDED]), UpstreamBroken, "within a tool call"),
        (b'data: {"error":{"message":"no","type":"server_error"}}\n\n', GatewayError, "no"),
        (b'data: {"type":"response.completed","response":{"output":[],"a":1,"a":2}}\n\n', UpstreamBroken, "not a response"),
        (b'data: {"type":"response.x","response":{"a":1},"a":1,"a":2}\n\n', UpstreamBroken, "not a response"),
    ],
)
def test_a_stream_that_fails_is_an_error(upstream: bytes, kind: type[GatewayError], words: str) -> None:
    with pytest.raises(kind, match=words):
        fed([upstream])


def test_an_event_of_several_lines_stays_one() -> None:
    event = json.dumps({"type": "response.completed", "response": response([])}, indent=1)
    frames, _ = fed(["".join(f"data: {line}\n" for line in event.splitlines()).encode() + b"\n"])
    assert json.loads(frames.split(b"data: ")[1])["response"]["model"] == "gpt"


def test_an_incomplete_answer_says_why() -> None:
    _, stream = fed([event_bytes(events_in(incomplete([message()])))])
    assert stream.stop_reason == "max_output_tokens"


def test_what_a_stream_took_is_what_was_told_or_an_estimate() -> None:
    stream = RelayStream(dataclasses.replace(CTX, count_prompt=lambda: 40))
    assert stream.usage_so_far() == Usage(40, 0, is_estimate=True)
    pieces = [{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": "x" * 350}] * 5
    stream.feed(event_bytes(pieces))
    stream.feed(event_bytes(pieces))
    assert 800 < stream.usage_so_far().completion_tokens < 1200
    stream.feed(one_event({"type": "response.completed", "response": {"output": []}}))
    assert stream.usage is not None
    assert stream.usage.is_estimate
    assert stream.usage_so_far() is stream.usage


# Errors.


def test_a_call_can_do_without_reasoning_and_without_nothing_else() -> None:
    def named(words: str, status: int = 400, **rest: Any) -> str | None:
        body = json.dumps(error_document(words, **rest)).encode()
        return RESPONSES_RESPONSES.refused(RESPONSES_RESPONSES.error(status, {}, body, CTX))

    assert named("The encrypted content for item rs_1 could not be verified.") == REASONING_ITEMS
    assert named("Not Found", 404) == endpoint_mark("openai.responses")
    assert named("Unsupported parameter: 'temperature' is not supported with this model.", param="temperature") is None
    assert named("No.") is None


def test_an_item_with_a_key_twice_is_refused() -> None:
    with pytest.raises(BadRequest):
        asked(b'{"model":"gpt","input":[{"type":"function_call","id":"fc_1","id":"fc_2"}]}', LOST_CTX)
