"""Halves that are joined."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from compat.config.catalog import Model
from compat.protocols import TRANSLATORS, UPSTREAMS, api_for, pairs_of, translator_for
from compat.protocols.base import ClientApi, ToolShape, TranslationContext, WireApi
from compat.protocols.chat.upstream import ChatReader
from compat.protocols.messages.client import MESSAGES
from compat.protocols.request import Request, Text, Turn
from compat.protocols.upstream_protocol import UpstreamProtocol, joined
from compat.wire.envelope import Envelope

CTX = TranslationContext("claude", "m", Model(), "msg_1", 17, is_stream=False)


def test_an_upstreams_half_that_writes_no_requests_gets_none_of_another_protocol() -> None:
    assert pairs_of(UpstreamProtocol("openai.responses", ChatReader)).keys() == {
        (client, "openai.responses") for client in ("openai.responses", "openai.count")
    }


def test_every_upstream_protocol_can_be_reached_from_chats_and_completions() -> None:
    assert {(client, api) for client in ("openai.chat", "openai.completions") for api in UPSTREAMS} <= TRANSLATORS.keys()


def test_a_new_upstreams_half_is_reached_from_every_client_by_its_row_alone() -> None:
    half = UPSTREAMS["anthropic.messages"]
    fresh = UpstreamProtocol("openai.responses", half.reader, half.request)
    assert pairs_of(fresh).keys() == {
        (client, "openai.responses")
        for client in ("openai.chat", "openai.completions", "openai.responses", "openai.count", "anthropic.messages")
    }


@pytest.mark.parametrize(
    ("client", "apis", "chosen"),
    [
        ("openai.chat", ("anthropic.messages", "openai.chat"), "openai.chat"),
        ("openai.chat", ("llama.completions", "anthropic.messages"), "anthropic.messages"),
        ("openai.chat", ("openai.chat", "anthropic.messages"), "openai.chat"),
        ("openai.completions", ("anthropic.messages", "openai.chat"), "anthropic.messages"),
        ("openai.embeddings", ("anthropic.messages",), None),
        ("openai.chat", (), None),
    ],
)
def test_a_call_goes_by_the_clients_own_api_else_by_the_first_that_it_can_be_translated_to(
    client: ClientApi, apis: tuple[WireApi, ...], chosen: WireApi | None
) -> None:
    assert api_for(client, apis) == chosen
    found = translator_for(client, apis, Envelope(b'{"prompt":"x"}'), (), ())
    assert (found and found.endpoint) == chosen


def test_what_the_clients_half_changed_and_what_the_client_wants_to_see_reach_the_answer() -> None:
    sent = {
        "model": "claude",
        "system": [{"type": "text", "text": "x-anthropic-billing-header: x"}],
        "messages": [{"role": "user", "content": "Hi"}],
        "thinking": {"type": "adaptive", "display": "omitted"},
    }
    translator = TRANSLATORS["anthropic.messages", "openai.chat"]
    request = translator.request(Envelope(json.dumps(sent).encode()), CTX)
    assert request.notes == ("dropped=billing_header",)
    assert request.memory.hides_thinking


def test_the_answer_knows_the_shapes_of_calls_and_the_fields_that_its_client_wants_back() -> None:
    shapes, echoed = {"patch": ToolShape("freeform", "apply_patch", "files")}, {"temperature": 1}
    asked = Request("anthropic.messages", (Turn("user", (Text("x", "Hi"),), "x", 0),), shapes=shapes, echoed=echoed)
    translator = joined(replace(MESSAGES, request=lambda _: asked), UPSTREAMS["openai.chat"])
    assert translator is not None
    memory = translator.request(Envelope(b"{}"), CTX).memory
    assert (memory.tools, memory.echoed) == (shapes, echoed)
