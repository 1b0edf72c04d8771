"""The scenarios as rows, and the requests they send.

Strategy: a scenario says what is asked and how many ask at once; whether it goes to the mock directly or through the gateway is the
caller's matter (`Target`). A new scenario is one more row. Large bodies are those of `bench.bodies`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from bench.answers import (
    CHAT_KILO_MODEL,
    CHUNKS,
    CLAUDE_KILO_MODEL,
    EVENT_MODEL,
    FAST_MODEL,
    GPT_KILO_MODEL,
    KILO_MODEL,
    LONG_MODEL,
    MINI_KILO_MODEL,
    PATHS,
    SHORT_MODEL,
    SLOW_CHUNKS,
    SLOW_MODEL,
    Wire,
)
from bench.bodies import AGENT_WIRES, AGENTS, LARGE, Agent

Target = Literal["direct", "gateway"]
TARGETS: tuple[Target, Target] = ("direct", "gateway")
CLAUDE_MODEL = "claude-sonnet-4-6"
GPT_MODEL = "gpt-6.1-sol"
LARGE_BYTES = 200_000
KILO_BYTES = 65_000
CLAUDE_CODE_BYTES = 77_000
CODEX_BYTES = 47_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row. `model` is the upstream's id and says how it answers; `upstream` is the wire API behind the gateway.

    `chunks` are the pieces of a streamed answer (0: a whole one). `body_bytes` is about the size of the request (0: a small one).
    `baseline` names the row whose CPU per request is what a stream costs besides its chunks. `ramp_s` spreads the first requests. A slow
    row has as many requests as connections. `pause_s` is a connection's rest between two requests. `behind` names a row that is under
    way, with all its connections, while this one is measured. `is_tls`: the upstream behind the gateway speaks TLS.
    `agent`: the client is that one, and speaks its own wire API to the mock as well.
    """

    name: str
    connections: int
    requests: int
    upstream: Wire = "openai"
    model: str = FAST_MODEL
    chunks: int = 0
    body_bytes: int = 0
    is_slow: bool = False
    baseline: str = ""
    ramp_s: float = 0.0
    pause_s: float = 0.0
    behind: str = ""
    is_tls: bool = False
    answer_mb: float = 0.0
    agent: Agent = ""

    @property
    def route(self) -> str:
        """The name under which the gateway is asked."""
        return f"bench-{'tls-' if self.is_tls else ''}{self.model}"

    def path(self, target: Target) -> str:
        """Where the request goes; the gateway is asked in OpenAI's wire API, but for agents that speak another one."""
        return PATHS[self.wire(target)] + ("?beta=true" if self.agent == "claude-code" else "")

    def wire(self, target: Target) -> Wire:
        """The wire API that the client speaks."""
        return AGENT_WIRES[self.agent] if self.agent else self.upstream if target == "direct" else "openai"

    def body(self, target: Target) -> bytes:
        """The request's body."""
        wire = self.wire(target)
        document: dict[str, Any] = {"model": self.model if target == "direct" else self.route, "stream": self.chunks > 0}
        if self.agent:
            return json.dumps(document | AGENTS[self.agent](self.body_bytes), separators=(",", ":")).encode()
        if wire == "anthropic":
            document["max_tokens"] = 4096
        small = {"input" if wire == "responses" else "messages": [{"role": "user", "content": "Count to two hundred."}]}
        large = LARGE[wire](self.body_bytes) if self.body_bytes else small
        return json.dumps(document | large, separators=(",", ":")).encode()


_WHOLE = "whole, 32 at once"
SCENARIOS = (
    Scenario("whole, one at a time", connections=1, requests=500),
    Scenario(_WHOLE, connections=32, requests=1000),
    Scenario("stream, 8 at once", connections=8, requests=400, chunks=CHUNKS, baseline=_WHOLE),
    Scenario("200 kB request", connections=4, requests=400, body_bytes=LARGE_BYTES),
    Scenario("100 slow streams", 100, 100, model=SLOW_MODEL, chunks=SLOW_CHUNKS, is_slow=True, baseline=_WHOLE, ramp_s=1.5),
    Scenario("500 slow streams", 500, 500, model=SLOW_MODEL, chunks=SLOW_CHUNKS, is_slow=True, baseline=_WHOLE, ramp_s=1.5),
    Scenario("translated whole", 32, 1000, "anthropic", CLAUDE_MODEL),
    Scenario("translated stream", 8, 400, "anthropic", CLAUDE_MODEL, chunks=CHUNKS, baseline="translated whole"),
    Scenario("translated 200 kB", 4, 200, "anthropic", CLAUDE_MODEL, body_bytes=LARGE_BYTES),
    Scenario("Responses whole", 32, 1000, "responses", GPT_MODEL),
    Scenario("Responses stream", 8, 400, "responses", GPT_MODEL, chunks=CHUNKS, baseline="Responses whole"),
    Scenario("Responses 200 kB", 4, 200, "responses", GPT_MODEL, body_bytes=LARGE_BYTES),
)
_KILO = Scenario("Kilo call", 50, 50, model=KILO_MODEL, chunks=300, body_bytes=KILO_BYTES, is_slow=True, ramp_s=1.0)
_CLAUDE_CODE = replace(
    _KILO, name="Claude Code call", upstream="anthropic", model=CLAUDE_KILO_MODEL, body_bytes=CLAUDE_CODE_BYTES, agent="claude-code"
)
_CODEX = replace(_KILO, name="Codex call", upstream="responses", model=GPT_KILO_MODEL, body_bytes=CODEX_BYTES, agent="codex")


def _with_tls(*rows: Scenario) -> Iterator[Scenario]:
    for row in rows:
        yield from (row, replace(row, name=f"{row.name}, TLS", is_tls=True))


PEER_SCENARIOS = (
    *SCENARIOS[:8],
    *_with_tls(
        _KILO,
        _CLAUDE_CODE,
        replace(_CLAUDE_CODE, name="Claude Code call to chat", upstream="openai", model=CHAT_KILO_MODEL),
        replace(_CLAUDE_CODE, name="Claude Code call to Responses", upstream="responses", model=GPT_KILO_MODEL),
        _CODEX,
        replace(_CODEX, name="Codex call to chat", upstream="openai", model=MINI_KILO_MODEL),
        replace(_CODEX, name="Codex call to Claude", upstream="anthropic", model=CLAUDE_KILO_MODEL),
    ),
    Scenario("first token, 100 streams", 1, 40, model=SHORT_MODEL, chunks=5, ramp_s=1.0, pause_s=0.04, behind="100 slow streams"),
    Scenario("1 MB event", 2, 10, model=EVENT_MODEL, chunks=1, answer_mb=1),
    Scenario("10 MB answer", 1, 4, model=LONG_MODEL, answer_mb=10),
    Scenario("5 MB request", 2, 8, body_bytes=5_000_000),
)


def scenario_named(name: str) -> Scenario:
    """The row of that name. Errors: `KeyError`."""
    return {row.name: row for row in (*SCENARIOS, *PEER_SCENARIOS)}[name]
