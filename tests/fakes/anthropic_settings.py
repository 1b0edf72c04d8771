"""Settings of a gateway in front of an imitation of Anthropic's service."""

from __future__ import annotations

from typing import Any

from compat.config.settings import merge
from tests.fakes.upstream import FakeUpstream

ALIAS = "claude-4-sonnet"
KEY = "sk-ant-canary-0123456789"


def origin_of(upstream: FakeUpstream) -> str:
    """The base URL of `upstream` for the kind `anthropic`, whose paths begin with `/v1` themselves."""
    return upstream.url.removesuffix("/v1")


def to_claude(upstream: FakeUpstream, target: str = "claude-sonnet-4-6", **more: Any) -> dict[str, Any]:
    """Settings with one upstream named `claude` and its model `target` behind the alias, one attempt per call."""
    return merge(
        {
            "upstreams": {"claude": {"kind": "anthropic", "base_url": origin_of(upstream), "api_keys": [KEY]}},
            "models": {ALIAS: {"route": [f"claude/{target}"]}},
            "retry": {"attempts": 1},
        },
        more,
    )
