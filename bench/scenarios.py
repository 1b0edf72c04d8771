"""The scenarios as rows, and the requests they send.

Strategy: a scenario says what is asked and how many ask at once; whether it goes to the mock directly or through the gateway is the
caller's matter (`Target`). A new scenario is one more row. The large request has the shape of a coding agent's: a system prompt, 24
tools with their schemas, and turns of tool calls and file contents; it is made from one list of turns in either wire API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from bench.answers import (
    CHUNKS,
    EVENT_MODEL,
    FAST_MODEL,
    KILO_MODEL,
    LONG_MODEL,
    PATHS,
    SHORT_MODEL,
    SLOW_CHUNKS,
    SLOW_MODEL,
    Wire,
)

Target = Literal["direct", "gateway"]
TARGETS: tuple[Target, Target] = ("direct", "gateway")
CLAUDE_MODEL = "claude-sonnet-4-6"
GPT_MODEL = "gpt-6.1-sol"
TOOLS = 24
LARGE_BYTES = 200_000
KILO_BYTES = 65_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row. `model` is the upstream's id and says how it answers; `upstream` is the wire API behind the gateway.

    `chunks` are the pieces of a streamed answer (0: a whole one). `body_bytes` is about the size of the request (0: a small one).
    `baseline` names the row whose CPU per request is what a stream costs besides its chunks. `ramp_s` spreads the first requests. A slow
    row has as many requests as connections. `pause_s` is a connection's rest between two requests. `behind` names a row that is under
    way, with all its connections, while this one is measured. `is_tls`: the upstream behind the gateway speaks TLS.
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

    @property
    def route(self) -> str:
        """The name under which the gateway is asked."""
        return f"bench-{'tls-' if self.is_tls else ''}{self.model}"

    def path(self, target: Target) -> str:
        """Where the request goes; the gateway is always asked in OpenAI's wire API."""
        return PATHS[self.wire(target)]

    def wire(self, target: Target) -> Wire:
        """The wire API that the client speaks."""
        return self.upstream if target == "direct" else "openai"

    def body(self, target: Target) -> bytes:
        """The request's body."""
        wire = self.wire(target)
        document: dict[str, Any] = {"model": self.model if target == "direct" else self.route, "stream": self.chunks > 0}
        if wire == "anthropic":
            document["max_tokens"] = 4096
        small = {"input" if wire == "responses" else "messages": [{"role": "user", "content": "Count to two hundred."}]}
        large = _LARGE[wire](self.body_bytes) if self.body_bytes else small
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
PEER_SCENARIOS = (
    *SCENARIOS[:8],
    _KILO,
    replace(_KILO, name="Kilo call, TLS", is_tls=True),
    Scenario("first token, 100 streams", 1, 40, model=SHORT_MODEL, chunks=5, ramp_s=1.0, pause_s=0.04, behind="100 slow streams"),
    Scenario("1 MB event", 2, 10, model=EVENT_MODEL, chunks=1, answer_mb=1),
    Scenario("10 MB answer", 1, 4, model=LONG_MODEL, answer_mb=10),
    Scenario("5 MB request", 2, 8, body_bytes=5_000_000),
)


def scenario_named(name: str) -> Scenario:
    """The row of that name. Errors: `KeyError`."""
    return {row.name: row for row in (*SCENARIOS, *PEER_SCENARIOS)}[name]


# The large request.

_SYSTEM = "You are a careful coding agent. Read before you write, keep changes small, and run the tests. " * 100
_LINE = '    "key_{0}": compute(line={0}, label="naïve \\"{0}\\"", path="src/module_{0}.py"),\n'
_SOURCE = "".join(_LINE.format(number) for number in range(60))


def _tools() -> list[tuple[str, str, dict[str, Any]]]:
    def parameter(number: int) -> dict[str, Any]:
        return {"type": "string", "description": f"Parameter {number}: a path, a pattern or a piece of text, exactly as it is to be used."}

    schema = {
        "type": "object",
        "properties": {f"parameter_{number}": parameter(number) for number in range(8)},
        "required": ["parameter_0", "parameter_1"],
        "additionalProperties": False,
    }
    return [(f"tool_{number}", "Does one thing to files of the project, and tells what it did. " * 4, schema) for number in range(TOOLS)]


def _turns(size: int) -> list[tuple[str, dict[str, str], str]]:
    """Tool calls as (id, arguments, result), until results make up about `size` bytes of JSON."""
    result_bytes = len(json.dumps(_SOURCE))
    return [(f"call_{number}", {"parameter_0": f"src/module_{number}.py"}, _SOURCE) for number in range(size // result_bytes)]


def _large_openai(size: int) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": n, "description": d, "parameters": schema}} for n, d, schema in _tools()]
    messages: list[dict[str, Any]] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "Find the fault."}]
    for call_id, arguments, result in _turns(size - len(json.dumps(tools)) - len(_SYSTEM)):
        function = {"name": "tool_0", "arguments": json.dumps(arguments)}
        messages.append({"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "type": "function", "function": function}]})
        messages.append({"role": "tool", "tool_call_id": call_id, "content": result})
    return {"messages": messages, "tools": tools}


def _large_anthropic(size: int) -> dict[str, Any]:
    tools = [{"name": n, "description": d, "input_schema": schema} for n, d, schema in _tools()]
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Find the fault."}]
    for call_id, arguments, result in _turns(size - len(json.dumps(tools)) - len(_SYSTEM)):
        messages.append({"role": "assistant", "content": [{"type": "tool_use", "id": call_id, "name": "tool_0", "input": arguments}]})
        messages.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": result}]})
    return {"system": _SYSTEM, "messages": messages, "tools": tools}


def _large_responses(size: int) -> dict[str, Any]:
    tools = [{"type": "function", "name": n, "description": d, "parameters": schema, "strict": False} for n, d, schema in _tools()]
    items: list[dict[str, Any]] = [{"role": "developer", "content": _SYSTEM}, {"role": "user", "content": "Find the fault."}]
    for call_id, arguments, result in _turns(size - len(json.dumps(tools)) - len(_SYSTEM)):
        items.append({"type": "function_call", "call_id": call_id, "name": "tool_0", "arguments": json.dumps(arguments)})
        items.append({"type": "function_call_output", "call_id": call_id, "output": result})
    return {"input": items, "tools": tools}


_LARGE: Mapping[Wire, Any] = {"openai": _large_openai, "anthropic": _large_anthropic, "responses": _large_responses}
