"""Requests and whole answers between OpenAI's wire API and itself: only what must differ is changed."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from compat.config.catalog import Model, Price
from compat.errors import BadRequest, UpstreamBroken, UpstreamKeyRefused, UpstreamOverloaded, UpstreamRateLimit
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslatedRequest, TranslationContext, note_values
from compat.protocols.chat.usage import usage_of, with_cost
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage
from tests.fakes.openai_answers import TOOL_CALLS, USAGE, completion

TRANSLATOR = TRANSLATORS["openai.chat", "openai.chat"]
PRICE = Price(input=10.0, output=100.0, cache_read=1.0)
CTX = TranslationContext("alias", "their-model", Model(price=PRICE), "chatcmpl-ours", 17, is_stream=False, upstream_name="fake")
STREAM = dataclasses.replace(CTX, is_stream=True)
ODD = b'{ "model" :  "alias","n":1.0e+2 , "messages": [ {"content":"\\u00e9\\/ \xe2\x80\xa8"} ],\n"unheard_of":{"b":1,"a":[ ]} }'


def request(body: bytes, ctx: TranslationContext) -> TranslatedRequest:
    envelope = Envelope(body)
    before = dict(envelope)
    translated = TRANSLATOR.request(envelope, ctx)
    assert (envelope.body, dict(envelope)) == (body, before), "the input is unchanged"
    assert TRANSLATOR.request(envelope, ctx) == translated, "translation may run again"
    return translated


def test_the_model_is_renamed_and_every_other_byte_stays() -> None:
    translated = request(ODD, CTX)
    assert translated.body == ODD.replace(b'"alias"', b'"their-model"')
    assert (translated.notes, translated.headers) == ((), {})


def test_a_stream_is_asked_for_its_usage_and_every_other_byte_stays() -> None:
    assert request(ODD, STREAM).body == ODD[:-1].replace(b'"alias"', b'"their-model"') + b',"stream_options":{"include_usage":true}}'


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ("null", {"include_usage": True}),
        ("{}", {"include_usage": True}),
        ('{"include_usage": false}', {"include_usage": True}),
        ('{"include_obfuscation": false, "include_usage": true}', {"include_obfuscation": False, "include_usage": True}),
    ],
)
def test_usage_is_switched_on_and_other_options_are_kept(options: str, sent: dict[str, Any]) -> None:
    body = b'{"model":"alias","stream_options": %s, "messages":[1]}' % options.encode()
    assert json.loads(request(body, STREAM).body) == {"model": "their-model", "stream_options": sent, "messages": [1]}
    assert json.loads(request(body, CTX).body)["stream_options"] == json.loads(options)


@pytest.mark.parametrize("options", ["5", '"usage"', "[1]", "true"])
def test_options_that_are_no_object_are_refused(options: str) -> None:
    with pytest.raises(BadRequest, match="'stream_options' must be an object"):
        request(b'{"model":"alias","stream_options":%s}' % options.encode(), STREAM)


def test_an_upstream_that_does_not_know_the_option_is_not_sent_it() -> None:
    ctx = dataclasses.replace(STREAM, sends_usage_option=False)
    assert json.loads(request(b'{"model":"alias","stream":true}', ctx).body) == {"model": "their-model", "stream": True}


def test_an_upstream_that_does_not_know_the_option_is_not_sent_the_clients_either() -> None:
    ctx = dataclasses.replace(STREAM, sends_usage_option=False)
    body = b'{"model":"alias","stream_options":{"include_usage":true}}'
    for each in (ctx, dataclasses.replace(ctx, is_stream=False)):
        assert json.loads(request(body, each).body) == {"model": "their-model"}
        assert request(body, each).notes == ("dropped=stream_options",)


MARKED = {
    "model": "alias",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}], "cache_control": 1},
        {"role": "assistant", "content": 'a "cache_control" word', "reasoning_content": "Hm."},
    ],
    "tools": [
        {
            "type": "function",
            "cache_control": 1,
            "function": {"name": "f", "parameters": {"properties": {"cache_control": {"type": "string"}}}},
        }
    ],
    "metadata": {"cache_control": "the client's own"},
}


@pytest.mark.parametrize(
    "known",
    [
        {"unwanted_fields": frozenset({"cache_control", "reasoning_content"})},
        {"refused_parameters": frozenset({"cache_control", "reasoning_content"})},
        {"unwanted_fields": frozenset({"cache_control"}), "refused_parameters": frozenset({"reasoning_content"})},
    ],
    ids=["known", "learnt", "both"],
)
def test_fields_that_an_upstream_refuses_are_left_out_where_the_protocol_has_them(known: dict[str, frozenset[str]]) -> None:
    translated = request(json.dumps(MARKED).encode(), dataclasses.replace(CTX, **known))
    expected: dict[str, Any] = copy.deepcopy(MARKED) | {"model": "their-model"}
    del expected["messages"][0]["cache_control"], expected["messages"][0]["content"][0]["cache_control"]
    del expected["messages"][1]["reasoning_content"], expected["tools"][0]["cache_control"]
    assert json.loads(translated.body) == expected
    assert translated.notes == ("dropped=cache_control", "dropped=reasoning_content")
    assert note_values(translated.notes) == "dropped=cache_control; dropped=reasoning_content"


@pytest.mark.parametrize("fields", [frozenset(), frozenset({"refused"})], ids=["none", "another"])
def test_what_an_upstream_takes_is_left_as_it_stands(fields: frozenset[str]) -> None:
    body = json.dumps(MARKED).encode()
    translated = request(body, dataclasses.replace(CTX, unwanted_fields=fields))
    assert translated.body == body.replace(b'"alias"', b'"their-model"')
    assert translated.notes == ()


def test_a_body_without_tools_gets_none() -> None:
    body = b'{"model":"alias","messages":[{"role":"user","content":"x","cache_control":1}]}'
    translated = request(body, dataclasses.replace(CTX, unwanted_fields=frozenset({"cache_control"})))
    assert json.loads(translated.body) == {"model": "their-model", "messages": [{"role": "user", "content": "x"}]}


def test_only_what_was_dropped_is_noted() -> None:
    body = b'{"model":"alias", "messages":[ {"role":"user","content":"cache_control"} ]}'
    translated = request(body, dataclasses.replace(CTX, unwanted_fields=frozenset({"cache_control"})))
    assert translated.notes == ()
    assert translated.body == body.replace(b'"alias"', b'"their-model"')


def test_deep_nesting_is_no_fault_of_ours() -> None:
    """What the envelope takes is translated; what is nested more deeply is the client's error."""
    deep = b"[" * 600 + b'{"cache_control":1}' + b"]" * 600
    body = b'{"model":"alias","messages":[{"cache_control":1,"content":%s}]}'
    translated = request(body % deep, dataclasses.replace(CTX, unwanted_fields=frozenset({"cache_control"})))
    assert translated.body == b'{"model":"their-model","messages":[{"content":' + b"[" * 600 + b"{}" + b"]" * 600 + b"}]}"
    with pytest.raises(BadRequest, match="too deeply"):
        request(body % (b"[" * 50_000 + b"]" * 50_000), CTX)


def test_parameters_that_this_deployment_refused_before_are_left_out_and_noted() -> None:
    body = b'{"temperature": 1, "model":"alias","messages":[ 1 ],"max_tokens": 50 , "stream_options": {}, "top_p": 0.50}'
    ctx = dataclasses.replace(STREAM, refused_parameters=frozenset({"temperature", "max_tokens", "stream_options", "seed"}))
    translated = request(body, ctx)
    assert json.loads(translated.body) == {"model": "their-model", "messages": [1], "top_p": 0.5, "max_completion_tokens": 50}
    assert b'"top_p":0.50' in translated.body
    assert translated.notes == ("dropped=max_tokens", "dropped=stream_options", "dropped=temperature")


@pytest.mark.parametrize(
    ("sent", "refused", "left"),
    [
        ({"max_tokens": 50, "max_completion_tokens": 70}, {"max_tokens"}, {"max_completion_tokens": 70}),
        ({"max_tokens": 50}, {"max_tokens", "max_completion_tokens"}, {}),
        ({"max_tokens": 50, "max_completion_tokens": 70}, {"max_tokens", "max_completion_tokens"}, {}),
        ({"max_tokens": 50}, {"max_completion_tokens"}, {"max_tokens": 50}),
        ({"max_completion_tokens": 50}, {"max_completion_tokens"}, {"max_tokens": 50}),
        ({"max_tokens": 70, "max_completion_tokens": 50}, {"max_completion_tokens"}, {"max_tokens": 70}),
    ],
)
def test_a_refused_limit_takes_its_other_name_where_that_is_free(sent: dict[str, int], refused: set[str], left: dict[str, int]) -> None:
    translated = request(json.dumps({"model": "alias", **sent}).encode(), dataclasses.replace(CTX, refused_parameters=frozenset(refused)))
    assert json.loads(translated.body) == {"model": "their-model", **left}
    assert translated.notes == tuple(f"dropped={name}" for name in sorted(refused & sent.keys()))


def test_a_parameter_that_was_refused_but_not_sent_changes_nothing() -> None:
    ctx = dataclasses.replace(CTX, refused_parameters=frozenset({"temperature"}))
    assert request(ODD, ctx).body == ODD.replace(b'"alias"', b'"their-model"')


def test_a_whole_answer_has_the_clients_name_its_cost_and_every_other_byte() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    choices = b'"choices":[ {"message":{"content":"\\u00e9"},"finish_reason":"stop"} ]'
    body = b'{ "id":"x" ,"model": "their-model-2026" ,' + choices + b', "usage": %s,"z":1.0e1 }'
    answer = TRANSLATOR.response(body % json.dumps(usage).encode(), CTX)
    document = json.loads(answer.body)
    assert document["usage"] == {**usage, "cost_details": {"upstream_inference_cost": pytest.approx(264e-6)}}
    head, _, rest = answer.body.partition(b'"usage": ')
    assert head == body.partition(b'"usage": ')[0].replace(b"their-model-2026", b"alias")
    assert rest.endswith(b',"z":1.0e1 }')
    assert answer.usage == Usage(10, 2, cache_read_tokens=4)
    assert answer.stop_reason == "stop"


def test_a_whole_answer_keeps_what_the_model_said() -> None:
    document = completion(None, finish_reason="tool_calls", tool_calls=TOOL_CALLS, reasoning_content="Hm.", annotations=[{"a": 1}])
    answer = TRANSLATOR.response(json.dumps(document).encode(), CTX)
    assert json.loads(answer.body)["choices"] == document["choices"]
    assert answer.stop_reason == "tool_calls"
    assert answer.usage == usage_of(USAGE)


def test_a_whole_answer_without_id_model_and_usage_gets_what_it_lacks() -> None:
    answer = TRANSLATOR.response(b'{"choices":[{"message":{"content":"x"},"finish_reason":"length"}]}', CTX)
    assert json.loads(answer.body) == {
        "choices": [{"message": {"content": "x"}, "finish_reason": "length"}],
        "model": "alias",
        "id": "chatcmpl-ours",
    }
    assert (answer.usage, answer.stop_reason) == (None, "length")


@pytest.mark.parametrize("their_id", ["null", "5", "{}"])
def test_an_id_that_is_none_is_replaced(their_id: str) -> None:
    answer = TRANSLATOR.response(b'{"id":%s,"choices":[{"message":{},"finish_reason":"stop"}]}' % their_id.encode(), CTX)
    assert json.loads(answer.body)["id"] == "chatcmpl-ours"


@pytest.mark.parametrize(
    ("body", "error_class", "words"),
    [
        (b"", UpstreamBroken, "is not a completion"),
        (b"<html>", UpstreamBroken, "is not a completion"),
        (b"[]", UpstreamBroken, "is not a completion"),
        (b'{"a": "\xff"}', UpstreamBroken, "is not a completion"),
        (b'{"id":"a","id":"b"}', UpstreamBroken, "is not a completion"),
        (b"{}", UpstreamBroken, "has no choices"),
        (b'{"choices":null}', UpstreamBroken, "has no choices"),
        (b'{"choices":[]}', UpstreamBroken, "has no choices"),
        (b'{"choices":{}}', UpstreamBroken, "has no choices"),
        (b'{"choices":[{"finish_reason":"stop"},null]}', UpstreamBroken, "has no choices"),
        (b'{"choices":[{"message":{}}]}', UpstreamBroken, "has no finish_reason"),
        (b'{"choices":[{"message":{},"finish_reason":null}]}', UpstreamBroken, "has no finish_reason"),
        (b'{"choices":[{"message":{},"finish_reason":""}]}', UpstreamBroken, "has no finish_reason"),
        (b'{"error":{"message":"No","type":"overloaded_error"}}', UpstreamOverloaded, "fake: No"),
        (b'{"error":{"message":"No","code":429},"choices":[]}', UpstreamRateLimit, "fake: No"),
    ],
)
def test_a_200_that_is_no_answer_is_the_upstreams_error(body: bytes, error_class: type[Exception], words: str) -> None:
    with pytest.raises(error_class, match=words):
        TRANSLATOR.response(body, CTX)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": "Hello"}, "stop"),
        ({"content": None, "refusal": "No"}, "stop"),
        ({"content": None, "tool_calls": TOOL_CALLS}, "tool_calls"),
        ({"content": "x", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}, "tool_calls"),
        ({"content": "", "tool_calls": []}, None),
        ({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a'}}]}, None),
        ({"tool_calls": [{"id": "c"}]}, None),
        ({"tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]}, None),
    ],
)
def test_a_whole_answer_without_a_reason_gets_the_one_that_it_must_have_had(message: dict[str, Any], reason: str | None) -> None:
    body = json.dumps({"id": "i", "choices": [{"index": 0, "message": message}]}).encode()
    if reason is None:
        with pytest.raises(UpstreamBroken, match="no finish_reason"):
            TRANSLATOR.response(body, CTX)
        return
    answer = TRANSLATOR.response(body, CTX)
    assert json.loads(answer.body)["choices"] == [{"index": 0, "message": message, "finish_reason": reason}]
    assert (answer.stop_reason, answer.notes) == (reason, ("finish_reason=inferred",))


def test_a_refused_call_keeps_its_status_and_words() -> None:
    error = TRANSLATOR.error(403, {}, b'{"error":{"message":"Not yours"}}', CTX)
    assert (type(error), error.status, error.message) == (UpstreamKeyRefused, 403, "fake: Not yours")


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({}, Usage()),
        (USAGE, Usage(11, 7, cache_read_tokens=4, reasoning_tokens=2)),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 3}, Usage(5, cache_read_tokens=3)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cache_write_tokens": 2, "cached_tokens": 0}}, Usage(5, cache_write_tokens=2)),
        ({"prompt_tokens": "5", "completion_tokens": None, "prompt_tokens_details": "x", "completion_tokens_details": []}, Usage()),
        ({"prompt_tokens": -5, "completion_tokens": True}, Usage()),
        ({"prompt_tokens": 1.5, "completion_tokens": [1]}, Usage()),
    ],
)
def test_counts_are_read_and_garbled_ones_are_nothing(raw: dict[str, Any], usage: Usage) -> None:
    assert usage_of(raw) == usage


@pytest.mark.parametrize(
    ("more", "details"),
    [
        ({}, {"upstream_inference_cost": pytest.approx(3e-4)}),
        ({"cost": 0.5}, {"upstream_inference_cost": 0.5}),
        ({"cost": "dear"}, {"upstream_inference_cost": pytest.approx(3e-4)}),
        ({"cost": 0.5, "cost_details": {"upstream_inference_cost": 0.25, "x": 1}}, {"upstream_inference_cost": 0.25, "x": 1}),
        ({"cost_details": {"x": 1}}, {"x": 1, "upstream_inference_cost": pytest.approx(3e-4)}),
        ({"cost_details": None}, {"upstream_inference_cost": pytest.approx(3e-4)}),
    ],
)
def test_the_cost_is_the_upstreams_word_or_the_catalogs(more: dict[str, Any], details: dict[str, Any]) -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 2, **more}
    before = copy.deepcopy(raw)
    assert with_cost(raw, CTX) == {**raw, "cost_details": details}
    assert raw == before


def test_a_count_beyond_all_measure_is_nothing() -> None:
    body = json.dumps({**completion(), "usage": {"prompt_tokens": 10**400}}).encode()
    assert TRANSLATOR.response(body, CTX).usage == Usage()
