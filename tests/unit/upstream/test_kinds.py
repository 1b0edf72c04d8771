"""The table of upstream kinds."""

from __future__ import annotations

import pytest

from compat.upstream.kinds import UPSTREAM_KINDS, UpstreamKind


@pytest.mark.parametrize("kind", UPSTREAM_KINDS.values(), ids=UPSTREAM_KINDS)
def test_every_kind_speaks_an_api_and_lists_its_models(kind: UpstreamKind) -> None:
    assert kind.apis
    assert "models" in kind.paths
    assert kind.endpoints.keys() == {*kind.apis, *kind.paths}
    assert all(path.startswith("/") for path in kind.endpoints.values())


def test_a_kind_may_speak_several_apis_each_at_its_path() -> None:
    kind = UpstreamKind("both", {"openai.chat": "/v1/chat/completions", "anthropic.messages": "/v1/messages"}, "https://both.example")
    assert kind.endpoints == {
        "openai.chat": "/v1/chat/completions",
        "anthropic.messages": "/v1/messages",
        "models": "/models",
        "embeddings": "/embeddings",
    }


@pytest.mark.parametrize("kind", [kind for kind in UPSTREAM_KINDS.values() if kind.messages is not None], ids=lambda kind: kind.name)
def test_what_a_service_takes_of_anthropics_protocol_is_enough_for_an_agent(kind: UpstreamKind) -> None:
    assert kind.messages is not None
    assert kind.messages.fields >= {"model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice"}
    assert kind.messages.blocks >= {"text", "tool_use", "tool_result", "thinking"}
    assert not kind.messages.fields & {"context_management", "container", "mcp_servers", "betas", "safeguards"}
    assert kind.messages_url.startswith("https://") or kind.local
