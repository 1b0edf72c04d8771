"""A service of OpenAI's chat with the scripted agent in it, which refuses conversations that its strict followers refuse.

model = ScriptedChat(folder)
with FakeUpstream(default=model) as upstream: ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.claude_code.script import FIRST, FIRST_DONE, SECOND, SECOND_DONE, Fault, calls_of
from tests.fakes.anthropic_blocks import name_of
from tests.fakes.openai_answers import chunk, error_answer, event, json_answer, sse_answer
from tests.fakes.upstream import Answer, Cut, Request

THOUGHT = "I look at what is there first."


@dataclass
class ScriptedChat:
    """The responder. Mutable: `refusals`, `asked` (the thoughts that each step got back), `met` and the faults to come."""

    folder: Path
    refusals: list[str] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)
    met: list[Fault] = field(default_factory=list)
    _faults: dict[int, Fault] = field(default_factory=dict)

    def meet(self, faults: Mapping[int, Fault]) -> None:
        """Let these faults come, each in place of the step of its number."""
        self._faults = dict(faults)

    def __call__(self, request: Request) -> Answer:
        if request.method != "POST":
            return json_answer({"object": "list", "data": [{"id": "gpt-x"}]})
        body = request.json
        problems = list(_problems(body))
        if problems:
            self.refusals += problems
            return error_answer(400, problems[0])
        task, number = _place(body["messages"])
        self.asked.append([message["reasoning_content"] for message in body["messages"] if message.get("reasoning_content")])
        chunks = list(self._chunks(task, number))
        fault = self._faults.pop(len(self.asked) - 1, None)
        if fault is None:
            return sse_answer(*(event(one) for one in chunks), event("[DONE]")) if body.get("stream") else json_answer(_whole(chunks))
        self.met.append(fault)
        if fault == "overloaded":
            return error_answer(503, "Overloaded")
        key = "content" if fault == "cut in text" else "tool_calls"
        places = [place for place, one in enumerate(chunks) if one["choices"] and one["choices"][0]["delta"].get(key)]
        return sse_answer(*(event(one) for one in chunks[: places[len(places) // 2] + 1]), Cut())

    def _chunks(self, task: str, number: int) -> Iterator[dict[str, Any]]:
        yield chunk({"role": "assistant", "content": ""})
        if number == 0:
            yield from (chunk({"reasoning_content": word + " "}) for word in THOUGHT.split(" "))
        calls = calls_of(self.folder)[task]
        done = number >= len(calls)
        words = (FIRST_DONE if task == FIRST else SECOND_DONE) if done else "I do the next step now."
        yield from (chunk({"content": piece}) for piece in (words[:5], words[5:9], words[9:]))
        if not done:
            name, arguments = calls[number]
            text = json.dumps(arguments)
            call = {"index": 0, "id": f"call_{name_of([task, number])}", "type": "function", "function": {"name": name, "arguments": ""}}
            yield chunk({"tool_calls": [call]})
            for piece in (text[:7], text[7:20], text[20:]):
                yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield chunk({}, "stop" if done else "tool_calls")
        usage = {"prompt_tokens": 20_000 + number, "completion_tokens": 40, "total_tokens": 20_040 + number}
        yield {**chunk({}), "choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 15_000}}}


def _whole(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    deltas = [one["choices"][0]["delta"] for one in chunks if one["choices"]]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", ())]
    said: dict[str, Any] = {"role": "assistant", "content": "".join(delta.get("content", "") for delta in deltas)}
    if pieces:
        arguments = "".join(piece["function"]["arguments"] for piece in pieces)
        said["tool_calls"] = [{**pieces[0], "function": {**pieces[0]["function"], "arguments": arguments}}]
    choice = {"index": 0, "message": said, "finish_reason": chunks[-2]["choices"][0]["finish_reason"]}
    return {**chunks[0], "object": "chat.completion", "choices": [choice], "usage": chunks[-1]["usage"]}


def _problems(body: dict[str, Any]) -> Iterator[str]:
    """What strict services refuse: fields of other protocols, calls without results right behind them, results without calls."""
    for name in body.keys() & {"system", "thinking", "context_management", "output_config", "metadata", "stop_sequences", "betas"}:
        yield f"Unrecognized request argument supplied: {name}"
    if "x-anthropic-billing-header" in json.dumps(body):
        yield "The billing block of the client came through."
    open_calls: list[str] = []
    for number, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                yield f"messages[{number}]: no call has the id {message['tool_call_id']}"
            open_calls = [one for one in open_calls if one != message["tool_call_id"]]
            continue
        if open_calls:
            yield f"messages[{number}]: these calls have no results: {open_calls}"
        open_calls = [call["id"] for call in message.get("tool_calls", ())]
        if not message.get("content") and not open_calls:
            yield f"messages[{number}]: content is empty"
    for number, tool in enumerate(body.get("tools", ())):
        if tool.get("type") != "function" or tool.keys() - {"type", "function"}:
            yield f"tools[{number}]: not a function"
        elif tool["function"].keys() - {"name", "description", "parameters", "strict"}:
            yield f"tools[{number}]: unknown fields {sorted(tool['function'])}"


def _place(messages: list[dict[str, Any]]) -> tuple[str, int]:
    """The last task, and how many results there are since."""
    found, number = FIRST, 0
    for message in messages:
        for task in (FIRST, SECOND):
            if message["role"] == "user" and task in json.dumps(message["content"]):
                found, number = task, 0
        number += message["role"] == "tool"
    return found, number
