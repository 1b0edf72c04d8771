"""Conversations that go to another model at every turn, by each door: none is refused, and no thought is lost that the next one could use.

The upstreams are strict imitations: Claude wants its signed thinking back byte for byte and unsigned thoughts never, GPT its sealed
reasoning before the calls that it led to, DeepSeek its own words with its own calls.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cases.messages_client import events_of, message_of
from tests.conftest import RunningGateway
from tests.fakes.anthropic_agent import AgentApi as ClaudeAgent
from tests.fakes.anthropic_conversation import THINKING, blocks_of
from tests.fakes.anthropic_settings import origin_of
from tests.fakes.deepseek_agent import DeepSeekAgent
from tests.fakes.responses_agent import AgentApi as GptAgent
from tests.fakes.upstream import FakeUpstream
from tests.integration.kilo_session import read_stream

ORDER = ("claude", "gpt", "deep", "gpt", "claude", "deep", "claude", "gpt", "deep", "claude", "deep", "gpt")
MANY = 99
SCHEMA: Any = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": False}
History = list[dict[str, Any]]


@dataclass(frozen=True)
class Door:
    """A client of one protocol: its URL, the body of a call, and what it keeps of an answer, the results of its calls with it."""

    path: str
    asked: Callable[[History], dict[str, Any]]
    kept: Callable[[Any], History]
    read: Callable[[Any], Any]


def frames_of(answer: Any) -> list[dict[str, Any]]:
    return events_of(b"\n\n".join(block for block in answer.content.split(b"\n\n") if not block.startswith(b":")))


def chat_message(answer: Any) -> Any:
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.json()["choices"][0]["message"]
    reply = read_stream(answer.text)
    calls = [{"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}} for one in reply.calls]
    return {"role": "assistant", "content": reply.text or None, "tool_calls": calls, "reasoning_content": reply.reasoning}


def chat_kept(message: Any) -> History:
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in message.get("tool_calls") or ()]
    return [{key: value for key, value in message.items() if value is not None}, *results]


def messages_message(answer: Any) -> Any:
    return message_of(frames_of(answer)) if answer.headers["content-type"].startswith("text/event-stream") else answer.json()


def messages_kept(message: Any) -> History:
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "done"}
        for block in message["content"]
        if block["type"] == "tool_use"
    ]
    return [{"role": "assistant", "content": message["content"]}, {"role": "user", "content": results}]


def responses_items(answer: Any) -> Any:
    """As Codex reads them: from the events that say that an item is done."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.json()["output"]
    return [event["item"] for event in frames_of(answer) if event["type"] == "response.output_item.done"]


def responses_kept(items: Any) -> History:
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "done"} for item in items if item["type"] == "function_call"
    ]
    return [*({key: value for key, value in item.items() if key != "status"} for item in items), *results]


HELLO = {"role": "user", "content": "Look at every file, please."}
DOORS = {
    "chat": Door(
        "chat/completions",
        lambda history: {
            "messages": [HELLO, *history],
            "reasoning_effort": "high",
            "stream_options": {"include_usage": True},
            "tools": [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("read", "list")],
        },
        chat_kept,
        chat_message,
    ),
    "messages": Door(
        "messages",
        lambda history: {
            "messages": [HELLO, *history],
            "max_tokens": 4000,
            "thinking": {"type": "adaptive", "display": "omitted"},
            "output_config": {"effort": "high"},
            "tools": [{"name": name, "input_schema": SCHEMA} for name in ("read", "list")],
        },
        messages_kept,
        messages_message,
    ),
    "responses": Door(
        "responses",
        lambda history: {
            "input": [HELLO, *history],
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "reasoning": {"effort": "high", "summary": "auto"},
            "tools": [{"type": "function", "name": name, "parameters": SCHEMA, "strict": False} for name in ("read", "list")],
        },
        responses_kept,
        responses_items,
    ),
}


@dataclass(frozen=True)
class Site:
    gateway: RunningGateway
    claude: ClaudeAgent
    gpt: GptAgent
    deep: DeepSeekAgent
    upstreams: dict[str, FakeUpstream]

    def last(self, name: str) -> dict[str, Any]:
        """The last request that an upstream got."""
        return dict(self.upstreams[name].requests[-1].json)


@pytest.fixture
def site(start_gateway: Any) -> Iterator[Site]:
    agents = {"claude": ClaudeAgent(rounds=MANY), "gpt": GptAgent(rounds=MANY), "deep": DeepSeekAgent()}
    with ExitStack() as stack:
        upstreams = {name: stack.enter_context(FakeUpstream(default=agent)) for name, agent in agents.items()}
        rows = {
            "claude": {"kind": "anthropic", "base_url": origin_of(upstreams["claude"]), "api_keys": ["sk-ant-x"]},
            "gpt": {"kind": "openai", "base_url": upstreams["gpt"].url, "api_keys": ["sk-x"]},
            "deep": {"kind": "deepseek", "base_url": upstreams["deep"].url, "api_keys": ["sk-y"], "wire_api": "chat"},
        }
        targets = {"claude": "claude-sonnet-4-6", "gpt": "gpt-6.1-sol", "deep": "deepseek-chat"}
        models = {name: {"route": [f"{name}/{target}"]} for name, target in targets.items()}
        gateway = start_gateway({"upstreams": rows, "models": models, "retry": {"attempts": 1}})
        yield Site(gateway, agents["claude"], agents["gpt"], agents["deep"], upstreams)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("door", DOORS)
def test_a_conversation_may_go_to_another_model_at_every_turn(site: Site, door: str, stream: bool) -> None:
    client = DOORS[door]
    history: History = []
    for name in ORDER:
        body = {"model": name, "stream": stream, **client.asked(history)}
        if not stream:
            body.pop("stream_options", None)
        answer = site.gateway.http.post(f"{site.gateway.url}/{client.path}", json=body, timeout=30)
        assert answer.status_code == 200, (name, answer.text)
        history += client.kept(client.read(answer))
        assert (site.claude.refusals, site.claude.dropped) == ([], [])
        assert (site.gpt.refusals, site.gpt.chat_refusals, site.gpt.forgotten) == ([], [], [])
        assert site.deep.refusals == []
    assert len(site.claude.answers) == len(site.gpt.answers) == site.deep.turns == len(ORDER) // 3
    check_thoughts(site)


def check_thoughts(site: Site) -> None:
    """The last request to each holds all that this very model thought before it, and nothing that another one did."""
    thoughts = [block for message in site.last("claude")["messages"] for block in blocks_of(message) if block["type"] in THINKING]
    assert thoughts == [block for answer in site.claude.answers[:-1] for block in answer if block["type"] in THINKING]
    sealed = [item["encrypted_content"] for item in site.last("gpt")["input"] if item.get("type") == "reasoning"]
    assert sealed == [item["encrypted_content"] for answer in site.gpt.answers[:-1] for item in answer if item["type"] == "reasoning"]
    told = [message.get("reasoning_content") for message in site.last("deep")["messages"] if message["role"] == "assistant"]
    assert sum(text is not None and "The user wants it done" in text for text in told) == site.deep.turns - 1
    calls = itertools.chain.from_iterable(message.get("tool_calls") or () for message in site.last("deep")["messages"])
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)
