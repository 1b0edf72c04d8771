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
