"""Clients of the Messages protocol over llama.cpp's own server, and names of tools that a chat's upstream can't take."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from compat.config.catalog import Model
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext
from compat.wire.envelope import Envelope
from tests.cases.messages_client_requests import SCHEMA, tool, user
from tests.fakes.openai_answers import completion

CTX = TranslationContext("claude", "m-1", Model(), "msg_1", 17, is_stream=False)


def asked(api: Any, **sent: Any) -> Any:
    body = json.dumps({"model": "claude", "messages": [user("Hi")], "max_tokens": 9, **sent}).encode()
    return TRANSLATORS["anthropic.messages", api].request(Envelope(body), CTX)


def content(api: Any, request: Any, **message: Any) -> Any:
    ctx = dataclasses.replace(CTX, memory=request.memory)
    return json.loads(TRANSLATORS["anthropic.messages", api].response(json.dumps(completion(**message)).encode(), ctx).body)["content"]


def test_a_call_that_is_demanded_is_a_structure_and_its_text_is_the_call() -> None:
    request = asked("llama.chat", tools=[tool()], tool_choice={"type": "any"})
    sent = json.loads(request.body)
    assert sent["response_format"]["json_schema"]["schema"]["properties"] == SCHEMA["properties"]
    assert "tools" not in sent
    assert request.notes == ("tool_choice=response_format",)
    [called] = content("llama.chat", request, text='{"path": "a.py"}')
    assert (called["type"], called["name"], called["input"]) == ("tool_use", "read", {"path": "a.py"})


def test_a_free_answer_is_read_as_it_is() -> None:
    request = asked("llama.chat", tools=[tool()])
    assert json.loads(request.body)["tools"][0]["function"]["name"] == "read"
    assert content("llama.chat", request, text="A") == [{"type": "text", "text": "A"}]


def test_a_tool_is_called_by_the_clients_name_for_it() -> None:
    name = "mcp__" + "x" * 70
    request = asked("openai.chat", tools=[tool(name), tool()])
    fitted = json.loads(request.body)["tools"][0]["function"]["name"]
    assert len(fitted) <= 64
    calls = [{"id": f"call_{one}", "type": "function", "function": {"name": one, "arguments": "{}"}} for one in (fitted, "read")]
    assert [block["name"] for block in content("openai.chat", request, text=None, tool_calls=calls)] == [name, "read"]
