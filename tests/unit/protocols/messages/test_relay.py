"""Calls of the Messages protocol to an upstream of the same: bytes pass, and what must differ does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from compat.errors import BadRequest, GatewayError, UpstreamBroken, UpstreamOverloaded
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslatedRequest, TranslationContext
from compat.protocols.messages.relay import LOST, MESSAGES_MESSAGES, RelayStream
from compat.protocols.messages.writer import STOP
from compat.protocols.sealed import PREFIX, Sealed, Sealer
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.cases.messages_client import events_of
from tests.fakes.anthropic_answers import (
    error_document,
    error_event,
    event_bytes,
    message,
    one_event,
    redacted_thinking,
    stream_events,
    text,
    thinking,
    tool_use,
)

CTX = dataclasses.replace(context(SONNET, is_stream=True), client_headers={"anthropic-beta": "a,b", "x-claude-code-session-id": "s"})
LOST_CTX = dataclasses.replace(CTX, refused_parameters=frozenset({LOST}))
BODY = b'{ "model" : "claude",  "messages":[ {"role":"user","content":"Hi \\u00e4"} ], "new_field":{"b":1.50,"a":[ ]}, "stream":true }'


def asked(body: bytes, ctx: TranslationContext = CTX) -> TranslatedRequest:
    envelope = Envelope(body)
    before = (envelope.body, dict(envelope))
    first = MESSAGES_MESSAGES.request(envelope, ctx)
    assert MESSAGES_MESSAGES.request(envelope, ctx) == first
    assert (envelope.body, dict(envelope)) == before
    return first


# Requests.


def test_only_the_models_name_differs() -> None:
    request = asked(BODY)
    assert request.body == BODY.replace(b'"claude"', b'"claude-sonnet-4-6"')
    assert (request.headers, request.notes) == ({"anthropic-beta": "a,b"}, ())


def test_the_beta_query_goes_along_and_no_other() -> None:
    at = TRANSLATORS["anthropic.messages", "anthropic.messages"].at
    assert [at("beta=true"), at("beta=1"), at("")] == ["anthropic.messages?beta=true", "anthropic.messages", "anthropic.messages"]
    assert TRANSLATORS["anthropic.messages", "openai.chat"].at("beta=true") == "openai.chat"


def test_half_a_character_is_mended_with_a_note() -> None:
    assert asked(BODY.replace(b"\\u00e4", b"\\ud83d")).notes == ("repaired=surrogates",)


OURS = {"type": "thinking", "thinking": "Hm.", "signature": Sealer([b"x"]).seal(Sealed("u", "m", "openai.chat"))}
REAL = thinking("Real.")


def history(*blocks: Any, thinks: Any = None) -> bytes:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": list(blocks), "extra": 1},
        {"role": "user", "content": "And?"},
    ]
    return json.dumps({"model": "claude", "messages": turns, **({"thinking": thinks} if thinks else {})}, indent=1).encode()


def left(request: TranslatedRequest) -> Any:
    return json.loads(request.body)["messages"][1]["content"]


@pytest.mark.parametrize(
    "block",
    [
        OURS,
        {**REAL, "signature": ""},
        {"type": "thinking", "thinking": "x", "signature": PREFIX},
        {"type": "redacted_thinking", "data": f"{PREFIX}x"},
    ],
)
def test_thoughts_that_are_ours_or_unsigned_are_taken_out_and_nothing_else_changes(block: Any) -> None:
    request = asked(history(block, REAL, text("A"), tool_use()))
    assert left(request) == [REAL, text("A"), tool_use()]
    assert request.notes == ("thinking=omitted(1)",)
    assert json.dumps(REAL, indent=1).replace("\n", "\n    ").encode() in request.body, "what stays keeps its bytes"
    assert json.loads(request.body)["messages"][1]["extra"] == 1


def test_words_that_look_like_ours_change_nothing() -> None:
    body = history(text(PREFIX), text('"signature": ""'), REAL)
    assert asked(body).body == body.replace(b'"claude"', b'"claude-sonnet-4-6"', 1)


def test_a_message_that_would_be_empty_has_words_in_its_place() -> None:
    assert left(asked(history(OURS, OURS))) == [{"type": "text", "text": "(no content)"}]


@pytest.mark.parametrize("messages", ['"%s"', '[{"content":["%s"]},{"content":"%s"},{"content":[["%s"]]}]'])
def test_what_is_no_list_of_blocks_is_for_the_upstream_to_refuse(messages: str) -> None:
    body = b'{"model":"claude","messages":%s}' % messages.replace("%s", PREFIX).encode()
    assert asked(body).body == body.replace(b'"claude"', b'"claude-sonnet-4-6"')


def test_a_message_that_is_no_object_is_refused() -> None:
    with pytest.raises(BadRequest):
        asked(b'{"model":"claude","messages":["%s"]}' % PREFIX.encode())


def test_where_a_thought_was_refused_none_is_sent() -> None:
    request = asked(history(REAL, redacted_thinking(), text("A"), thinks={"type": "adaptive"}), LOST_CTX)
    assert left(request) == [text("A")]
    assert request.notes == ("thinking=omitted(2)",)


def test_thinking_that_would_have_to_begin_with_a_thought_is_off_then() -> None:
    request = asked(history(REAL, tool_use(), thinks={"type": "enabled", "budget_tokens": 2000}), LOST_CTX)
    assert json.loads(request.body)["thinking"] == {"type": "disabled"}
    assert request.notes == ("thinking=omitted(1)", "thinking=off(lost)")
    assert asked(history(text("A")), LOST_CTX).notes == ()


# What an older model behind an alias was seen to refuse.

OLDER = {
    "model": "claude",
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "system",
            "content": [{**text("One."), "cache_control": {"type": "ephemeral"}}, text("Two.")],
            "output_config": {"effort": "low"},
        },
        {"role": "assistant", "content": 'I am no system, I say "system".'},
        {"role": "system", "content": "Three."},
    ],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
}


def older(*names: str, **changes: Any) -> tuple[Any, tuple[str, ...]]:
    ctx = dataclasses.replace(CTX, refused_parameters=frozenset(names))
    request = asked(json.dumps({**OLDER, **changes}).encode(), ctx)
    return json.loads(request.body), request.notes


def test_instructions_between_messages_become_the_users_words() -> None:
    body, notes = older("messages.role")
    assert [message["role"] for message in body["messages"]] == ["user", "user", "assistant", "user"]
    tagged = {**text("<system-reminder>\nOne.\n\nTwo.\n</system-reminder>"), "cache_control": {"type": "ephemeral"}}
    assert body["messages"][1] == {"role": "user", "content": [tagged]}
    assert body["messages"][3]["content"] == [text("<system-reminder>\nThree.\n</system-reminder>")]
    assert notes == ("moved=system@1", "moved=system@3")
    assert older("messages.role", messages=[{"role": "user", "content": "Hi"}])[1] == ()


def test_thinking_and_effort_that_were_refused_are_left_out() -> None:
    body, notes = older("thinking.adaptive", "output_config.effort")
    assert set(body) == {"model", "messages"}
    assert notes == ("dropped=thinking", "dropped=output_config")
    body, notes = older("output_config.effort.xhigh", output_config={"effort": "high", "format": {}})
    assert body["output_config"] == {"format": {}}
    assert notes == ("dropped=output_config.effort",)
    plain = {key: OLDER[key] for key in ("model", "messages")}
    ctx = dataclasses.replace(CTX, refused_parameters=frozenset({"thinking.adaptive", "output_config.effort"}))
    assert asked(json.dumps(plain).encode(), ctx).notes == ()


# Whole answers.


def test_a_whole_answer_keeps_its_bytes_but_for_the_models_name() -> None:
    body = json.dumps(message([text("A")]), indent=2).encode()
    answer = MESSAGES_MESSAGES.response(body, CTX)
    theirs = json.loads(body)["model"]
    assert answer.body == body.replace(f'"model": "{theirs}"'.encode(), b'"model": "claude"')
    assert (answer.usage, answer.stop_reason, answer.notes) == (Usage(19, 7, 3, 5), "end_turn", ())
    nameless = b'{"type":"message","content":[]}'
    assert MESSAGES_MESSAGES.response(nameless, CTX).body == nameless


@pytest.mark.parametrize(
    ("body", "words"), [(b"<html>", "not a message"), (b"{}", "no content"), (b'{"content":[],"a":1,"a":2}', "not a message")]
)
def test_a_body_that_is_no_message_is_the_upstreams_fault(body: bytes, words: str) -> None:
    with pytest.raises(UpstreamBroken, match=words):
        MESSAGES_MESSAGES.response(body, CTX)


def test_an_error_in_a_whole_answer_is_what_it_stands_for() -> None:
    with pytest.raises(UpstreamOverloaded):
        MESSAGES_MESSAGES.response(json.dumps(error_document("overloaded_error", "Overloaded")).encode(), CTX)


# Streams.

EVENTS = stream_events([thinking("Hm."), text("Hello there, you."), tool_use("read", {"path": "a"})])
STREAM = event_bytes(EVENTS)


def fed(pieces: Sequence[bytes], *, is_whole: bool = True, ctx: TranslationContext = CTX) -> tuple[bytes, RelayStream]:
    stream = RelayStream(ctx)
    frames = b"".join(map(stream.feed, pieces))
    if stream.failure is not None:
        raise stream.failure
    return frames + stream.finish(is_whole=is_whole), stream


def test_a_stream_passes_as_it_came_in_every_split() -> None:
    theirs = EVENTS[0]["message"]["model"]
    for pieces in ([STREAM], [one_event(event, b"\n") for event in EVENTS], [bytes([byte]) for byte in STREAM]):
        frames, stream = fed(pieces)
        assert events_of(frames) == [json.loads(json.dumps(event).replace(theirs, "claude")) for event in EVENTS]
        assert (stream.usage, stream.stop_reason, stream.is_committed, stream.is_finished) == (Usage(19, 7, 3, 5), "tool_use", True, True)
        assert (stream.notes, stream.thinking) == ([], None)
    head = STREAM.index(b"event: content_block_start")
    assert fed([STREAM])[0].endswith(STREAM[head:])


def test_events_and_fields_that_nobody_knows_pass() -> None:
    extra = b': hello\n\nevent: news\ndata: {"type":"news","x" : 1}\n\n'
    frames, _ = fed([STREAM[: STREAM.index(b"event: ping")] + extra + STREAM[STREAM.index(b"event: ping") :]])
    assert extra in frames


def test_content_commits_and_the_opening_of_text_does_not() -> None:
    stream = RelayStream(CTX)
    stream.feed(event_bytes(EVENTS[:3]))
    assert not stream.is_committed
    stream.feed(event_bytes(EVENTS[3:4]))
    assert stream.is_committed
    assert stream.is_flowing
    other = RelayStream(CTX)
    other.feed(event_bytes(stream_events([tool_use()])[:3]))
    assert other.is_committed


def test_pieces_are_not_looked_at_but_only_where_there_is_nothing_else() -> None:
    stream = RelayStream(CTX)
    stream.feed(event_bytes(EVENTS[:4]))
    piece = one_event({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "x"}}, b"\n")
    broken = b"event: content_block_delta\ndata: {\n\n"
    assert stream.feed(piece + broken) == piece + broken
    assert stream.feed(b"event: content_block_delta\ndata: {}\n\n\n\nevent: ping\ndata: {}\n\n").endswith(b"event: ping\ndata: {}\n\n")


@pytest.mark.parametrize(
    ("upstream", "kind", "words"),
    [
        (STREAM[: STREAM.index(b"event: message_delta")], UpstreamBroken, "without a message_stop"),
        (b"event: x\ndata: {\n\n", UpstreamBroken, "invalid event"),
        (b'event: message_start\ndata: {"type":"message_start"}\n\n', UpstreamBroken, "without a message"),
        (b'data: {"type":"message_start","message":{},"a":1,"a":2}\n\n', UpstreamBroken, "not a message"),
        (STREAM[: STREAM.index(b"event: message_delta")] + event_bytes([error_event()]), UpstreamOverloaded, "Overloaded"),
        (b'data: {"error":{"message":"no","type":"server_error"}}\n\n', GatewayError, "no"),
    ],
)
def test_a_stream_that_fails_is_an_error(upstream: bytes, kind: type[GatewayError], words: str) -> None:
    with pytest.raises(kind, match=words):
        fed([upstream])


def test_an_end_mark_alone_is_not_missed() -> None:
    cut = STREAM[: STREAM.index(b"event: message_stop")]
    frames, stream = fed([cut])
    assert frames.endswith(STOP)
    assert (stream.notes, stream.usage) == (["message_stop=inferred"], Usage(19, 7, 3, 5))
    assert fed([cut], is_whole=False)[0].endswith(STOP)
    with pytest.raises(UpstreamBroken):
        fed([STREAM[: STREAM.index(b"event: message_delta")]], is_whole=False)


def test_an_end_without_a_reason_is_none() -> None:
    cut = STREAM[: STREAM.index(b"event: message_delta")] + STOP
    with pytest.raises(UpstreamBroken, match="stop_reason"):
        fed([cut])


@pytest.mark.parametrize("body", [b'{"type":"error","error":{"ty', b'["error"]', b'"error"'])
def test_an_error_that_was_cut_short_is_not_passed(body: bytes) -> None:
    assert not MESSAGES_MESSAGES.error(529, {}, body, CTX).verbatim


def test_counts_may_come_without_an_end() -> None:
    counts = event_bytes([{"type": "message_delta", "usage": {"output_tokens": 9}}])
    _, stream = fed([STREAM[: STREAM.index(b"event: message_delta")] + counts + STREAM[STREAM.index(b"event: message_delta") :]])
    assert stream.usage == Usage(19, 9, 3, 5)


def test_what_a_cut_stream_took_is_what_was_told_and_an_estimate_of_the_rest() -> None:
    stream = RelayStream(dataclasses.replace(CTX, count_prompt=lambda: 40))
    assert stream.usage_so_far() == Usage(40, 0, is_estimate=True)
    pieces = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 35}}] * 10
    stream.feed(event_bytes([*EVENTS[:3], *pieces]))
    stream.feed(event_bytes(pieces))
    told = stream.usage_so_far()
    assert (told.prompt_tokens, told.cache_read_tokens, told.is_estimate) == (19, 3, True)
    assert 150 < told.completion_tokens < 300


# Errors.


def test_an_error_keeps_the_upstreams_body() -> None:
    body = json.dumps(error_document("invalid_request_error", "no such thing"), indent=1).encode()
    assert MESSAGES_MESSAGES.error(400, {}, body, CTX).verbatim == body
    assert MESSAGES_MESSAGES.error(502, {}, b"<html>error</html>", CTX).verbatim == b""


@pytest.mark.parametrize(
    "body", [b'{"error": null}', b'{"error": {"message": "no"}}', b'["error"]', b'{"type": "error", "error": {"message": 1}}']
)
def test_an_error_of_no_shape_or_of_another_protocols_is_given_in_ours(body: bytes) -> None:
    assert MESSAGES_MESSAGES.error(400, {}, body, CTX).verbatim == b""


def test_a_call_can_do_without_thoughts_and_without_nothing_else() -> None:
    def named(words: str) -> str | None:
        return MESSAGES_MESSAGES.refused(
            MESSAGES_MESSAGES.error(400, {}, json.dumps(error_document("invalid_request_error", words)).encode(), CTX)
        )

    assert named("messages.1.content.0: Invalid `signature` in `thinking` block") == LOST
    assert named("messages.1.role: Input should be 'user' or 'assistant', unexpected role 'system'") == "messages.role"
    assert named("messages.1.output_config: Extra inputs are not permitted") == "messages.role"
    assert named("thinking: Input tag 'adaptive' found using 'type' does not match any of the expected tags") == "thinking.adaptive"
    assert named("output_config.effort: Extra inputs are not permitted") == "output_config.effort"
    assert named("context_management: Extra inputs are not permitted") is None
    assert named("`temperature` is deprecated for this model") is None
