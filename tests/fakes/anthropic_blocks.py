"""The blocks of an answer of the Messages API, and what a plausible answer to a request is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from compat.config.catalog import MessagesFacts
from tests.fakes.anthropic_conversation import Block, blocks_of
from tests.fakes.anthropic_signing import signature

MODEL = "claude-sonnet-4-6"
DEEPEST = 8
EXAMPLES: dict[str, Any] = {"string": "a b", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def text(words: str = "Hello there.", citations: Sequence[Block] = ()) -> Block:
    return {"type": "text", "text": words, **({"citations": list(citations)} if citations else {})}


def thinking(words: str = "Let me see.", *, model: str = MODEL, proof: str | None = None) -> Block:
    return {"type": "thinking", "thinking": words, "signature": signature(model, words) if proof is None else proof}


def redacted_thinking(*, model: str = MODEL, data: str | None = None) -> Block:
    return {"type": "redacted_thinking", "data": signature(model, "") if data is None else data}


def tool_use(name: str = "read_file", arguments: Block | None = None, call_id: str = "toolu_1") -> Block:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments or {}, "caller": {"type": "direct"}}


def server_tool_use(name: str = "web_search", arguments: Block | None = None, call_id: str = "srvtoolu_1") -> Block:
    return {
        "type": "server_tool_use",
        "id": call_id,
        "name": name,
        "input": arguments or {"query": "weather"},
        "caller": {"type": "direct"},
    }


def web_search_result(url: str = "https://example.com/a", title: str = "A page", call_id: str = "srvtoolu_1") -> Block:
    found = {"type": "web_search_result", "url": url, "title": title, "encrypted_content": "abc", "page_age": None}
    return {"type": "web_search_tool_result", "tool_use_id": call_id, "content": [found], "caller": {"type": "direct"}}


def web_citation(url: str = "https://example.com/a", title: str = "A page", cited_text: str = "Sunny.") -> Block:
    return {"type": "web_search_result_location", "cited_text": cited_text, "url": url, "title": title, "encrypted_index": "abc"}


def name_of(value: Any) -> str:
    """A name that is the same for the same value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def answer_blocks(body: dict[str, Any], facts: MessagesFacts) -> list[Block]:
    """A plausible answer, thinking not signed yet."""
    last = body["messages"][-1]
    is_result = any(block["type"] == "tool_result" for block in blocks_of(last))
    calls = [] if is_result else list(_calls(body))
    words = "The tool has answered." if is_result else "Hello there."
    if body.get("output_config", {}).get("format"):
        words = json.dumps(example(body["output_config"]["format"]["schema"]))
    blocks: list[Block] = list(_thoughts(body, facts, is_result=is_result))
    return [*blocks, *(calls or [text(words)])]


def _thoughts(body: dict[str, Any], facts: MessagesFacts, *, is_result: bool) -> Iterator[Block]:
    """Without interleaving, which only adaptive thinking has, a turn thinks once, at its start."""
    config = body.get("thinking", {})
    kind = config.get("type", "adaptive" if facts.thinking != "none" and facts.thinking_default != "off" else "disabled")
    if kind == "disabled" or (kind == "enabled" and is_result):
        return
    display = config.get("display") or ("omitted" if facts.thinking == "adaptive" else "summarized")
    yield {"type": "thinking", "thinking": "Let me see what is asked." if display == "summarized" else "", "signature": ""}


def _calls(body: dict[str, Any]) -> Iterator[Block]:
    """One or two calls, of the tool that is asked for or of the first ones."""
    choice = body.get("tool_choice", {"type": "auto"})
    tools = [tool for tool in body.get("tools", ()) if (tool.get("type") or "custom") == "custom"]
    if choice["type"] == "none":
        return
    if choice["type"] == "tool":
        tools = [tool for tool in tools if tool["name"] == choice["name"]]
    for number, tool in enumerate(tools[: 1 if choice.get("disable_parallel_tool_use") else 2]):
        yield tool_use(tool["name"], example(tool["input_schema"]), f"toolu_{name_of([number, body['messages']])}")


def example(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """A value that fits `schema`; one that nests without end is cut off."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > DEEPEST:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return example(_target(root, schema["$ref"]), root, depth + 1)
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return example(schema[name][0], root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: example(item, root, depth + 1) for name, item in (schema.get("properties") or {}).items()}
    return [example(schema.get("items", {}), root, depth + 1)] if kind == "array" else EXAMPLES[kind]


def _target(root: Any, reference: str) -> Any:
    for name in reference.removeprefix("#").removeprefix("/").split("/") if reference != "#" else ():
        root = root[name]
    return root
