"""Halves that are joined."""

from __future__ import annotations

from compat.protocols import TRANSLATORS, UPSTREAMS, pairs_of
from compat.protocols.chat.upstream import ChatReader
from compat.protocols.upstream_protocol import UpstreamProtocol


def test_an_upstreams_half_that_writes_no_requests_gets_none_of_another_protocol() -> None:
    assert pairs_of(UpstreamProtocol("openai.responses", ChatReader)) == {}


def test_every_upstream_protocol_can_be_reached_from_chats_and_completions() -> None:
    assert {(client, api) for client in ("openai.chat", "openai.completions") for api in UPSTREAMS} <= TRANSLATORS.keys()


def test_a_new_upstreams_half_is_reached_from_chats_and_completions_by_its_row_alone() -> None:
    half = UPSTREAMS["anthropic.messages"]
    fresh = UpstreamProtocol("openai.responses", half.reader, half.request)
    assert pairs_of(fresh).keys() == {("openai.chat", "openai.responses"), ("openai.completions", "openai.responses")}
