"""Plain completions: by an upstream's own endpoint, and over a chat."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from compat.config.catalog import Model, Price
from compat.errors import ContextTooLong, GatewayError, UpstreamBroken, UpstreamOverloaded, UpstreamRefusal
from compat.protocols import TRANSLATORS, translator_for
from compat.protocols.base import Continuation, TranslationContext, Translator
from compat.protocols.chat.chunks import DONE
from compat.protocols.chat.completions import OPENAI_COMPLETIONS
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage
from tests.fakes import anthropic_answers
from tests.fakes.openai_answers import chunk, completion, event, sse_bytes, usage_chunk

CTX = TranslationContext("coder", "their-model", Model(price=Price(1.0, 10.0)), "chatcmpl-ours", 17, is_stream=True, upstream_name="fake")
ASKED = dataclasses.replace(CTX, wants_usage=True)
NATIVE = OPENAI_COMPLETIONS["infill"]
CHAT = TRANSLATORS["openai.completions", "openai.chat"]
CLAUDE = TRANSLATORS["openai.completions", "anthropic.messages"]
HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 5, "model": "their-model"}
COUNTS = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def envelope(**body: Any) -> Envelope:
    return Envelope(json.dumps({"model": "coder", "prompt": "a = ", **body}).encode())


def row(text: str | None, reason: str | None = None) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}]}


PIECES = b"".join(map(event, (row("1 "), row("+ 2"), row("", "length"), {**HEAD, "choices": [], "usage": COUNTS}, "[DONE]")))


def translate(
    upstream: bytes, ctx: TranslationContext = ASKED, translator: Translator = NATIVE, *, is_whole: bool = False
) -> tuple[list[dict[str, Any]], Any]:
    """The client's events and the stream. Errors: those of the stream."""
    stream = translator.stream(ctx)
    frames = stream.feed(upstream)
    if stream.failure is not None:
        raise stream.failure
    frames += stream.finish(is_whole=is_whole)
    assert frames.endswith(DONE)
    return [json.loads(block[6:]) for block in frames.removesuffix(DONE).split(b"\n\n") if block.startswith(b"data: ")], stream


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(item["choices"][0]["text"] for item in events if item["choices"])


@pytest.mark.parametrize(
    ("suffix", "endpoints", "refused", "endpoint"),
    [
        ("x", {"infill", "completions"}, (), "infill"),
        ("", {"infill", "completions"}, (), "completions"),
        ("x", {"completions"}, (), "openai.chat"),
        ("x", {"infill", "completions"}, ("endpoint infill",), "openai.chat"),
        ("", {"infill", "completions"}, ("endpoint infill",), "completions"),
        ("", (), (), "openai.chat"),
    ],
)
def test_the_way_is_the_endpoint_where_there_is_one(suffix: str, endpoints: set[str], refused: tuple[str, ...], endpoint: str) -> None:
    found = translator_for("openai.completions", ["openai.chat"], envelope(suffix=suffix), endpoints, refused)
    assert found is not None
    assert found.endpoint == endpoint


def test_there_is_no_way_from_embeddings_to_claude() -> None:
    assert translator_for("openai.embeddings", ["anthropic.messages"], envelope(), (), ()) is None


def test_a_stream_is_forwarded_under_the_clients_name() -> None:
    events, stream = translate(PIECES)
    assert text_of(events) == "1 + 2"
    assert {(item["id"], item["object"], item["created"], item["model"]) for item in events} == {("cmpl-1", "text_completion", 5, "coder")}
    assert [item["choices"][0]["finish_reason"] for item in events if item["choices"]] == [None, None, "length"]
    assert events[-1]["usage"] == {**COUNTS, "cost_details": {"upstream_inference_cost": pytest.approx(3.9e-05)}}
    assert (stream.stop_reason, stream.usage, stream.notes) == ("length", Usage(9, 3), [])
    assert stream.usage_so_far() == stream.usage
    assert translate(PIECES, CTX)[0] == events[:-1]
    assert stream.translate_event(event(row("late")).strip()) == b"", "after the end there is nothing"


def test_what_a_chunk_says_besides_is_kept() -> None:
    odd = {**row("1", "stop"), "system_fingerprint": "x", "usage": COUNTS}
    odd["choices"][0]["logprobs"] = {"tokens": ["1"]}
    events, stream = translate(event(odd))
    assert events[0] == {name: value for name, value in {**odd, "model": "coder"}.items() if name != "usage"}
    assert stream.usage == Usage(9, 3)


def test_every_cut_gives_the_same() -> None:
    whole = translate(PIECES)[0]
    for cut in range(1, len(PIECES)):
        stream = NATIVE.stream(ASKED)
        frames = stream.feed(PIECES[:cut]) + stream.feed(PIECES[cut:]) + stream.finish()
        assert [json.loads(block[6:]) for block in frames.removesuffix(DONE).split(b"\n\n") if block] == whole


def test_usage_that_lacks_is_estimated() -> None:
    ctx = dataclasses.replace(ASKED, count_prompt=lambda: 7)
    events, stream = translate(b": hi\n\n" + event(row("1234567")) + event(row(None, "stop")) + event("[DONE]"), ctx)
    assert events[-1]["usage"]["prompt_tokens"] == 7
    assert stream.usage == Usage(7, 2, is_estimate=True)
    assert translate(event(row("1", "stop")), dataclasses.replace(ASKED, count_prompt=lambda: 0))[1].usage == Usage(0, 1, is_estimate=True)
    body = json.dumps(row("1234567", "stop")).encode()
    assert NATIVE.response(body, ctx).usage == Usage(7, 2, is_estimate=True)


@pytest.mark.parametrize(
    ("upstream", "is_whole"),
    [(event(row("1")) + event("[DONE]"), False), (event(row("1")) + event({**HEAD, "choices": [], "usage": COUNTS}), True)],
    ids=["an end mark", "a whole body with usage"],
)
def test_an_end_without_a_reason_is_one(upstream: bytes, is_whole: bool) -> None:
    events, stream = translate(upstream, CTX, is_whole=is_whole)
    assert (text_of(events), events[-1]["choices"][0]["finish_reason"], stream.notes) == ("1", "stop", ["finish_reason=inferred"])


@pytest.mark.parametrize(
    ("upstream", "is_whole", "error", "words"),
    [
        (event(row("1")), True, UpstreamBroken, "without a finish_reason"),
        (event(row("1")) + event({**HEAD, "choices": [], "usage": COUNTS}), False, UpstreamBroken, "without a finish_reason"),
        (event("[DONE]"), True, UpstreamBroken, "without a finish_reason"),
        (b"data: {\n\n", True, UpstreamBroken, "not a chunk"),
        (event({"choices": [], "x": 1}) + event({"choices": None}), True, UpstreamBroken, "without a finish_reason"),
        (b"data: [1]\n\n", True, UpstreamBroken, "not a chunk"),
        (event({"choices": 5}), True, UpstreamBroken, "not a chunk"),
        (event({"choices": [5]}), True, UpstreamBroken, "not a chunk"),
        (event({"choices": [{"text": 5}]}), True, UpstreamBroken, "not a chunk of a completion"),
        (event({"error": {"type": "overloaded_error", "message": "No"}}), True, UpstreamOverloaded, "fake: No"),
        (b'event: error\ndata: {"type": "overloaded_error", "message": "No"}\n\n', True, UpstreamOverloaded, "fake: No"),
    ],
)
def test_what_is_no_completion_is_the_upstreams_fault(upstream: bytes, is_whole: bool, error: type[GatewayError], words: str) -> None:
    with pytest.raises(error, match=words):
        translate(upstream, is_whole=is_whole)


def test_a_whole_answer_keeps_all_but_the_models_name() -> None:
    body = json.dumps({**row("1", "length"), "usage": COUNTS, "x": [1]}).encode()
    answer = NATIVE.response(body, CTX)
    document = json.loads(answer.body)
    assert document.pop("usage")["total_tokens"] == 12
    assert document == {**row("1", "length"), "x": [1], "model": "coder"}
    assert (answer.stop_reason, answer.usage, answer.notes) == ("length", Usage(9, 3), ())
    bare = NATIVE.response(json.dumps(row("1")).encode(), CTX)
    assert (json.loads(bare.body)["choices"][0]["finish_reason"], bare.notes) == ("stop", ("finish_reason=inferred",))


def test_a_chat_that_a_server_answers_with_is_read_as_a_completion() -> None:
    answer = NATIVE.response(json.dumps(completion("1")).encode(), CTX)
    assert json.loads(answer.body)["choices"] == [{"index": 0, "text": "1", "logprobs": None, "finish_reason": "stop"}]
    assert json.loads(answer.body)["object"] == "text_completion"
    events, stream = translate(event(chunk({"role": "assistant"})) + event(chunk({"content": "1"})) + event(chunk({}, "stop")), CTX)
    assert (text_of(events), stream.stop_reason, stream.is_committed) == ("1", "stop", True)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [5]}',
        b'{"choices": [{"text": 5}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
    ],
)
def test_a_whole_answer_that_is_none_is_the_upstreams_fault(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        NATIVE.response(body, CTX)


def test_an_error_in_place_of_a_whole_answer_is_the_one_it_stands_for() -> None:
    with pytest.raises(UpstreamOverloaded, match="fake: No"):
        NATIVE.response(b'{"error": {"type": "overloaded_error", "message": "No"}}', CTX)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (UpstreamRefusal("This is a chat model.", status=404), "endpoint infill"),
        (UpstreamRefusal("`temperature` is not supported", status=400), "temperature"),
        (UpstreamRefusal("Forbidden", status=403), None),
        (UpstreamRefusal("in a circle", status=400, code="gateway_loop"), None),  # over a chat it would go the same way round
        (ContextTooLong("too long", status=400), None),
        (UpstreamBroken("x"), None),
    ],
)
def test_a_refusal_is_of_a_parameter_or_of_the_endpoint(error: GatewayError, name: str | None) -> None:
    assert NATIVE.refused(error) == name


# Over a chat.


def test_a_request_becomes_a_chat_and_its_answer_a_completion() -> None:
    asked = envelope(suffix=";", echo=True)
    before = asked.body
    translated = CHAT.request(asked, CTX)
    assert json.loads(translated.body)["messages"][1]["content"] == "a = <hole/>;"
    assert (translated.memory.echo, asked.body) == ("a = ", before)
    ctx = dataclasses.replace(ASKED, memory=translated.memory)
    answer = CHAT.response(json.dumps(completion("1")).encode(), ctx)
    assert json.loads(answer.body)["choices"][0]["text"] == "a = 1"
    chunks = [chunk({"role": "assistant", "content": ""}), chunk({"content": "1"}), chunk({}, "stop"), usage_chunk()]
    events, stream = translate(sse_bytes(chunks), ctx, CHAT)
    assert (text_of(events), stream.stop_reason, stream.is_committed) == ("a = 1", "stop", True)
    assert events[-1]["usage"]["total_tokens"] == 18
    assert stream.usage_so_far() == stream.usage


def test_an_error_within_the_chat_is_one_of_the_completion() -> None:
    with pytest.raises(UpstreamBroken):
        translate(event(chunk({"content": "a"})) + b"data: {\n\n", ASKED, CHAT)


def test_a_pause_of_the_chat_is_one_of_the_completion() -> None:
    ctx = dataclasses.replace(CTX, model=Model())
    paused = anthropic_answers.message([anthropic_answers.text("a")], stop_reason="pause_turn")
    answer = CLAUDE.response(json.dumps(paused).encode(), ctx)
    assert isinstance(answer.continuation, Continuation)
    stream = CLAUDE.stream(ctx)
    for resumes in (True, False):
        events = anthropic_answers.stream_events([anthropic_answers.text("a")], stop_reason="pause_turn")
        stream.feed(b"".join(map(anthropic_answers.one_event, events)))
        assert stream.continuation is not None
        if resumes:
            stream.resume()
        else:
            stream.settle()
        assert stream.continuation is None
    frames = stream.finish()
    assert b'"finish_reason":"length"' in frames
    assert frames.endswith(DONE)


def calls(*arguments: str) -> bytes:
    pieces = [{"index": 0, "id": "c", "function": {"name": "f", "arguments": piece}} for piece in arguments]
    return b"".join(event(chunk({"tool_calls": [piece]})) for piece in pieces)


@pytest.mark.parametrize(
    ("upstream", "is_whole", "reason"),
    [
        (event(chunk({"content": "a"})) + event("[DONE]"), False, "stop"),
        (event(chunk({"content": "a"})) + event(usage_chunk()), True, "stop"),
        (event(chunk({"refusal": "a"})) + event("[DONE]"), False, "stop"),
        (calls('{"a":', "1}") + event("[DONE]"), False, "tool_calls"),
        (calls('{"a":') + event("[DONE]"), True, None),
        (event(chunk({"content": "a"})), True, None),
        (event(chunk({"role": "assistant"})) + event("[DONE]"), True, None),
    ],
)
def test_the_end_of_a_chat_is_inferred_as_everywhere(upstream: bytes, is_whole: bool, reason: str | None) -> None:
    if reason is None:
        with pytest.raises(UpstreamBroken, match="without a finish_reason"):
            translate(upstream, CTX, CHAT, is_whole=is_whole)
        return
    events, stream = translate(upstream, CTX, CHAT, is_whole=is_whole)
    assert (stream.stop_reason, stream.notes[-1]) == (reason, "finish_reason=inferred")
    assert events[-1]["choices"][0]["finish_reason"] == reason
    assert stream.thinking is None
    assert stream.translate_event(event(chunk({"content": "late"})).strip()) == b"", "after the end there is nothing"


def test_a_chat_without_choices_is_no_answer_and_does_not_pause() -> None:
    with pytest.raises(UpstreamBroken, match="no choices"):
        CHAT.response(b'{"id": "x"}', CTX)
    with pytest.raises(NotImplementedError):
        CHAT.stream(CTX).resume()
