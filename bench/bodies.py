"""The bodies of requests that have a coding agent's shape: a system prompt, tools with their schemas, turns of calls and file contents.

Strategy: one list of turns is written in each wire API, up to about so many bytes. `LARGE` is any agent's; `AGENTS` are two real clients',
with the fields that these send and the others don't. The words are ours: shape and size are what costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from bench.answers import Wire

Agent = Literal["", "claude-code", "codex"]
TOOLS = 24
AGENT_WIRES: Mapping[Agent, Wire] = {"claude-code": "anthropic", "codex": "responses"}
CLAUDE_CODE_TOOLS = 12
CODEX_TOOLS = 8

_SYSTEM = "You are a careful coding agent. Read before you write, keep changes small, and run the tests. " * 100
_LINE = '    "key_{0}": compute(line={0}, label="naïve \\"{0}\\"", path="src/module_{0}.py"),\n'
_SOURCE = "".join(_LINE.format(number) for number in range(60))


def _tools(count: int = TOOLS) -> list[tuple[str, str, dict[str, Any]]]:
    def parameter(number: int) -> dict[str, Any]:
        return {"type": "string", "description": f"Parameter {number}: a path, a pattern or a piece of text, exactly as it is to be used."}

    schema = {
        "type": "object",
        "properties": {f"parameter_{number}": parameter(number) for number in range(8)},
        "required": ["parameter_0", "parameter_1"],
        "additionalProperties": False,
    }
    return [(f"tool_{number}", "Does one thing to files of the project, and tells what it did. " * 4, schema) for number in range(count)]


def _turns(size: int) -> Sequence[tuple[str, dict[str, str], str]]:
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


LARGE: Mapping[Wire, Callable[[int], dict[str, Any]]] = {
    "openai": _large_openai,
    "anthropic": _large_anthropic,
    "responses": _large_responses,
}


# Two real clients.

_MARK = {"cache_control": {"type": "ephemeral"}}
_DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
_SIGNATURE = "Er8B" + "bWFkZSBmb3IgYSBsb2Fk" * 20


def _claude_code(size: int) -> dict[str, Any]:
    """A later step of a session: three blocks of system text, instructions between messages, thoughts and results that came back."""
    tools: list[dict[str, Any]] = [
        {"name": n, "description": d, "input_schema": _DRAFT | schema} for n, d, schema in _tools(CLAUDE_CODE_TOOLS)
    ]
    tools[-1]["defer_loading"] = True
    system: list[dict[str, Any]] = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=0.0.0; cc_entrypoint=bench;"},
        {"type": "text", "text": "You are an agent in a benchmark.", **_MARK},
        {"type": "text", "text": _SYSTEM * 2, **_MARK},
    ]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": _REMINDER}, {"type": "text", "text": "Find the fault."}]},
        {"role": "system", "content": [{"type": "text", "text": _REMINDER}], "output_config": {"effort": "medium"}},
    ]
    for call_id, arguments, result in _turns(size - len(json.dumps([tools, system]))):
        thought = {"type": "thinking", "thinking": "The file comes first.", "signature": _SIGNATURE}
        call = {"type": "tool_use", "id": f"toolu_{call_id}", "name": "tool_0", "input": arguments}
        messages.append({"role": "assistant", "content": [thought, call]})
        messages.append({"role": "user", "content": [{"tool_use_id": f"toolu_{call_id}", "type": "tool_result", "content": result}]})
    messages[-1]["content"][0] |= _MARK
    return {
        "messages": messages,
        "system": system,
        "tools": tools,
        "metadata": {"user_id": json.dumps({"device_id": "0" * 64, "account_uuid": "", "session_id": _SESSION})},
        "max_tokens": 128_000,
        "thinking": {"type": "adaptive", "display": "updates"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
    }


def _codex(size: int) -> dict[str, Any]:
    """A later step of a session with a model that the client doesn't know: functions, a namespace of them, a search; all items inline."""
    functions = [{"type": "function", "name": n, "description": d, "strict": False, "parameters": s} for n, d, s in _tools(CODEX_TOOLS)]
    inner = [{**one, "name": f"inner_{one['name']}"} for one in functions[:5]]
    namespace = {"type": "namespace", "name": "agents", "description": "Tools for other agents.", "tools": inner}
    tools = [*functions, namespace, {"type": "web_search", "external_web_access": False}]
    items: list[dict[str, Any]] = [
        _said("developer", _SYSTEM),
        _said("developer", _REMINDER * 8),
        _said("user", _REMINDER, "Find the fault."),
    ]
    for call_id, arguments, result in _turns(size - len(json.dumps([tools, items]))):
        call = {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": "tool_0", "arguments": json.dumps(arguments)}
        items += [call, {"type": "function_call_output", "call_id": call_id, "output": result}]
    return {
        "input": items,
        "tools": tools,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": _SESSION,
        "client_metadata": {"session_id": _SESSION, "turn": _REMINDER},
    }


def _said(role: str, *texts: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text} for text in texts]}


_REMINDER = "The folder holds a program in some modules; what is in them is read with tools. " * 7
_SESSION = "00000000-0000-4000-8000-000000000000"
AGENTS: Mapping[Agent, Callable[[int], dict[str, Any]]] = {"claude-code": _claude_code, "codex": _codex}
