"""Halves that are joined."""

from __future__ import annotations

import pytest

from compat.protocols import TRANSLATORS, UPSTREAMS, api_for, pairs_of, translator_for
from compat.protocols.base import ClientApi, WireApi
from compat.protocols.chat.upstream import ChatReader
from compat.protocols.upstream_protocol import UpstreamProtocol
from compat.wire.envelope import Envelope


def test_an_upstreams_half_that_writes_no_requests_gets_none_of_another_protocol() -> None:
    assert pairs_of(UpstreamProtocol("openai.responses", ChatReader)) == {}


def test_every_upstream_protocol_can_be_reached_from_chats_and_completions() -> None:
    assert {(client, api) for client in ("openai.chat", "openai.completions") for api in UPSTREAMS} <= TRANSLATORS.keys()


def test_a_new_upstreams_half_is_reached_from_chats_and_completions_by_its_row_alone() -> None:
    half = UPSTREAMS["anthropic.messages"]
    fresh = UpstreamProtocol("openai.responses", half.reader, half.request)
    assert pairs_of(fresh).keys() == {("openai.chat", "openai.responses"), ("openai.completions", "openai.responses")}


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
