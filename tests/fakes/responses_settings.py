"""Settings of a gateway in front of an imitation of OpenAI's service."""

from __future__ import annotations

from typing import Any

from compat.config.settings import merge
from tests.fakes.upstream import FakeUpstream

ALIAS = "gpt"
KEY = "sk-canary-0123456789"


def to_openai(upstream: FakeUpstream, target: str = "gpt-6.1-sol", **more: Any) -> dict[str, Any]:
    """Settings with one upstream named `openai` and its model `target` behind the alias, one attempt per call."""
    return merge(
        {
            "upstreams": {"openai": {"kind": "openai", "base_url": upstream.url, "api_keys": [KEY]}},
            "models": {ALIAS: {"route": [f"openai/{target}"]}},
            "retry": {"attempts": 1},
        },
        more,
    )
