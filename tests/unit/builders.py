"""What unit tests are built from: gateways without a network, a clock that stands until it is moved, a small catalog."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.calls.gateway import Gateway
from compat.config.catalog import Alias, Catalog, Model
from compat.config.settings import load_settings, merge
from compat.factory import build_gateway
from compat.upstream.client import Secret, Upstream
from compat.upstream.kinds import UPSTREAM_KINDS

QUIET = {"discovery": {"enabled": False}, "embedded": {"enabled": False, "model": "small"}, "log": {"terminal": False}}
KEY = "sk-canary-0123456789"


class StillClock:
    """A clock that moves only when it is told to; its ids count."""

    def __init__(self, monotonic_s: float = 100.0, now_s: float = 1_700_000_000.0) -> None:
        self.monotonic_s = monotonic_s
        self.now_s = now_s
        self._ids = itertools.count(1)

    def monotonic(self) -> float:
        return self.monotonic_s

    def now(self) -> float:
        return self.now_s

    def new_id(self) -> str:
        return f"{next(self._ids):032x}"


class NoTransport:
    """A transport for tests that must not call an upstream."""

    idle = 0

    def open(self, upstream: Upstream, endpoint: str, body: bytes, headers: Mapping[str, str]) -> Any:
        raise AssertionError(f"{upstream.name} was called")


def make_gateway(base_dir: Path, settings: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Gateway:
    """A gateway over nested settings, with everything that works in the background switched off."""
    loaded = load_settings(None, environment or {}, merge(QUIET, settings or {}))
    return build_gateway(loaded, environment or {}, base_dir, clock=StillClock(), transport=NoTransport())


def make_upstream(name: str, kind: str = "openai", base_url: str | None = None, models: tuple[str, ...] = ()) -> Upstream:
    row = UPSTREAM_KINDS[kind]
    return Upstream(name, row, row.base_url if base_url is None else base_url, (Secret(KEY),), models=models)


def make_catalog() -> Catalog:
    """`sonnet` goes to `claude-x`, which Anthropic and OpenRouter have under ids of their own; `gpt-x` is OpenAI's."""
    models = {
        "claude-x": Model(
            id="claude-x",
            display_name="Claude X",
            owned_by="anthropic",
            context=200_000,
            ids={"anthropic": "claude-x-1", "openrouter": "anthropic/claude-x"},
        ),
        "gpt-x": Model(id="gpt-x", display_name="GPT X", owned_by="openai", ids={"openai": "gpt-x"}),
    }
    aliases = {"sonnet": Alias("claude-x", datetime.date(2026, 1, 1))}
    return Catalog(models, aliases, {"claude-*": Model(id="claude-*", owned_by="anthropic", context=777)})
