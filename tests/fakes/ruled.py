"""The imitations of three services with a model in them that follows rules, so that a test can know what it will say.

It calls one tool where it may, unless the last turn is a result: the one that is asked for, else the first. Its arguments are what the
user's words say: numbers for numbers, in order; for texts what is quoted, else all words. Where JSON is wanted it writes that, else it
greets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compat.config.catalog import MessagesFacts
from tests.fakes import anthropic_answers, openai_answers
from tests.fakes.anthropic_answers import AnthropicApi
from tests.fakes.anthropic_blocks import example, name_of, text, tool_use
from tests.fakes.anthropic_conversation import blocks_of
from tests.fakes.anthropic_settings import KEY, origin_of
from tests.fakes.anthropic_signing import signed
from tests.fakes.responses_answers import ResponsesApi
from tests.fakes.responses_items import function_call, message, text_part, thought
from tests.fakes.responses_rules import OUTPUTS, Item, items_of, kind_of, tools_of
from tests.fakes.responses_settings import KEY as OPENAI_KEY
from tests.fakes.upstream import Answer, FakeUpstream, Request

_NUMBER = re.compile(r"-?\d+")
_QUOTED = re.compile(r"'([^']+)'")
_JSON = "one JSON object"
"""In the instructions of a service that has no field for it."""
_GREETING = "Hello, how are you?"


@dataclass(frozen=True)
class Turn:
    """What is asked: the user's last words, whether the last turn is a result; tools with their schemas, whether one is chosen; the JSON
    that is wanted (`True`: any object)."""

    words: str
    is_result: bool
    tools: Sequence[tuple[str, Any]] = ()
    chosen: str = ""
    wanted: Any = None

    @property
    def call(self) -> tuple[str, dict[str, Any]] | None:
        """The tool that is called, with its arguments."""
        tools = [tool for tool in self.tools if self.chosen in ("", tool[0])]
        if self.is_result or not tools:
            return None
        name, schema = tools[0]
        return name, self._arguments(schema)

    @property
    def said(self) -> str:
        """The text where no tool is called."""
        if self.wanted is True:
            return json.dumps(dict.fromkeys(_QUOTED.findall(self.words), "A cat."))
        return _GREETING if self.wanted is None else json.dumps(example(self.wanted))

    def _arguments(self, schema: Any) -> dict[str, Any]:
        numbers = [int(number) for number in _NUMBER.findall(self.words)]
        quoted = _QUOTED.findall(self.words)
        made: dict[str, Any] = example(schema)
        for name, value in made.items():
            if isinstance(value, int) and numbers:
                made[name] = numbers.pop(0)
            elif isinstance(value, str):
                made[name] = quoted.pop(0) if quoted else self.words
        return made


def _words(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


@dataclass
class RuledClaude(AnthropicApi):
    """Anthropic's service."""

    def _answer(self, body: dict[str, Any], facts: MessagesFacts) -> Answer:
        last = blocks_of(body["messages"][-1])
        choice = body.get("tool_choice", {})
        turn = Turn(
            words=" ".join(block["text"] for block in last if block["type"] == "text"),
            is_result=any(block["type"] == "tool_result" for block in last),
            tools=[] if choice.get("type") == "none" else [(tool["name"], tool["input_schema"]) for tool in body.get("tools", ())],
            chosen=choice.get("name", ""),
            wanted=body.get("output_config", {}).get("format", {}).get("schema") or (_JSON in json.dumps(body.get("system")) or None),
        )
        call = turn.call
        name = f"toolu_{name_of(body['messages'])}"
        blocks = signed(body, [tool_use(call[0], call[1], name) if call else text(turn.said)])
        rest: dict[str, Any] = {"model": body["model"], "usage": {**self.cache.usage(body, facts), "output_tokens": 12}}
        stops = [stop for stop in body.get("stop_sequences", ()) if not call and stop in turn.said]
        if stops:
            blocks = [text(turn.said.partition(stops[0])[0])]
            rest |= {"stop_reason": "stop_sequence", "stop_sequence": stops[0]}
        if body.get("stream"):
            return anthropic_answers.stream_answer(anthropic_answers.stream_events(blocks, **rest))
        return anthropic_answers.json_answer(anthropic_answers.message(blocks, **rest))


@dataclass
class RuledGpt(ResponsesApi):
    """OpenAI's Responses API."""

    def items(self, body: dict[str, Any], effort: str, account: str) -> list[Item]:
        """See `ResponsesApi`."""
        items = items_of(body)
        choice = body.get("tool_choice")
        wanted = (body.get("text") or {}).get("format") or {}
        turn = Turn(
            words=_words(items[-1].get("content", "")),
            is_result=kind_of(items[-1]) in OUTPUTS,
            tools=[] if choice == "none" else [(tool["name"], tool["parameters"]) for tool in tools_of(body)],
            chosen=choice.get("name", "") if isinstance(choice, dict) else "",
            wanted=True if wanted.get("type") == "json_object" else wanted.get("schema"),
        )
        call, name = turn.call, name_of(items)
        thoughts = thought(body, effort, account, name)
        if call is None:
            return [*thoughts, message(text_part(turn.said), item_id=f"msg_{name}")]
        return [*thoughts, function_call(call[0], json.dumps(call[1]), f"call_{name}", f"fc_{name}")]


def ruled_chat(request: Request) -> Answer:
    """A service of OpenAI's chat."""
    if request.method != "POST":
        return openai_answers.json_answer({"object": "list", "data": [{"id": "chat-x", "object": "model"}]})
    body = request.json
    last, choice = body["messages"][-1], body.get("tool_choice")
    wanted = body.get("response_format") or {}
    turn = Turn(
        words=_words(last.get("content") or ""),
        is_result=last["role"] == "tool",
        tools=[] if choice == "none" else [(one["function"]["name"], one["function"]["parameters"]) for one in body.get("tools", ())],
        chosen=choice["function"]["name"] if isinstance(choice, dict) else "",
        wanted=True if wanted.get("type") == "json_object" else wanted.get("json_schema", {}).get("schema"),
    )
    stops = body.get("stop") or ()
    said = turn.said
    for stop in [stops] if isinstance(stops, str) else stops:
        said = said.partition(stop)[0]
    return _chat_answer(body, said, turn.call)


def _chat_answer(body: dict[str, Any], said: str, call: tuple[str, dict[str, Any]] | None) -> Answer:
    reason = "tool_calls" if call else "stop"
    function = {"name": call[0], "arguments": json.dumps(call[1])} if call else {}
    calls = [{"id": f"call_{name_of(body['messages'])}", "type": "function", "function": function}] if call else []
    if not body.get("stream"):
        more: dict[str, Any] = {"tool_calls": calls} if calls else {}
        return openai_answers.json_answer(openai_answers.completion(None if call else said, finish_reason=reason, **more))
    deltas = [{"tool_calls": [{"index": 0, **one}]} for one in calls] or [{"content": piece} for piece in (said[:4], said[4:])]
    chunks = [openai_answers.chunk(one) for one in ({"role": "assistant", "content": ""}, *deltas)]
    return openai_answers.stream_answer([*chunks, openai_answers.chunk({}, reason), openai_answers.usage_chunk()])


@dataclass(frozen=True)
class Kind:
    """A kind of upstream: what plays it, its row in the settings, its model."""

    model: Callable[[], Callable[[Request], Answer]]
    row: Callable[[FakeUpstream], dict[str, Any]]
    target: str


UPSTREAMS: Mapping[str, Kind] = {
    "chat": Kind(
        lambda: ruled_chat, lambda up: {"kind": "openai", "base_url": up.url, "wire_api": "chat", "api_keys": [OPENAI_KEY]}, "chat-x"
    ),
    "messages": Kind(RuledClaude, lambda up: {"kind": "anthropic", "base_url": origin_of(up), "api_keys": [KEY]}, "claude-sonnet-4-6"),
    "responses": Kind(
        RuledGpt, lambda up: {"kind": "openai", "base_url": up.url, "wire_api": "responses", "api_keys": [OPENAI_KEY]}, "gpt-6.1-sol"
    ),
}
