"""A model behind OpenAI's chat that searches the web once before it answers, and the endpoint that it searches by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.fakes.openai_answers import chunk, completion, json_answer, stream_answer, usage_chunk
from tests.fakes.upstream import Answer, Request

QUERY = "lighthouse"
PAGE = {"url": "https://lights.example/tower", "title": "Towers", "content": "A tower by the sea is 40 m high."}
SAID = "It is 40 m high, says https://lights.example/tower."


def searx(_: Request) -> Answer:
    """SearXNG's answer."""
    return json_answer({"query": QUERY, "results": [PAGE, {"url": "https://other.example", "title": "Other", "content": "No."}]})


def searching_model(request: Request) -> Answer:
    """Calls `web_search` where it is offered, then `WebSearch` (Claude Code's tool), and answers when it has a result."""
    body = request.json
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    name = next((name for name in ("web_search", "WebSearch") if name in names), "")
    last = body["messages"][-1]
    is_done = last["role"] == "tool" or not name
    arguments = json.dumps({"query": QUERY})
    words = SAID if "40 m" in str(last.get("content")) else "I found nothing."
    if body.get("stream"):
        return stream_answer([*_said(words), usage_chunk()] if is_done else [*_called(name, arguments), usage_chunk()])
    call = {"id": "call_s", "type": "function", "function": {"name": name, "arguments": arguments}}
    whole = completion(words) if is_done else completion("I look.", finish_reason="tool_calls", tool_calls=[call])
    return json_answer(whole)


def _said(words: str) -> Iterator[dict[str, Any]]:
    yield from (chunk({"content": piece}) for piece in (words[:6], words[6:]))
    yield chunk({}, "stop")


def _called(name: str, arguments: str) -> Iterator[dict[str, Any]]:
    yield chunk({"content": "I look."})
    yield chunk({"tool_calls": [{"index": 0, "id": "call_s", "type": "function", "function": {"name": name, "arguments": arguments}}]})
    yield chunk({}, "tool_calls")
