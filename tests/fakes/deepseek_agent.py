"""A model of OpenAI's chat protocol that thinks aloud and wants its own thoughts back with its calls, as DeepSeek does.

    deep = DeepSeekAgent()
    with FakeUpstream(default=deep) as upstream: ...
    deep.refusals, deep.turns

It calls a tool each time. Whatever breaks a rule gets a 400: calls without results right behind them, results of no call, and calls of its
own whose reasoning did not come back as it was (api-docs.deepseek.com, "Thinking mode").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.openai_answers import chunk, completion, error_answer, json_answer, stream_answer, usage_chunk
from tests.fakes.upstream import Answer, Request

ROLES = ("system", "user", "assistant", "tool")


@dataclass
class DeepSeekAgent:
    """A responder of the scripted upstream. Mutable: `refusals` (words so far), `turns`, and the thought behind each call."""

    refusals: list[str] = field(default_factory=list)
    turns: int = 0
    _thoughts: dict[str, str] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        body = request.json
        problem = next(self._problems(body["messages"]), None)
        if problem is not None:
            self.refusals.append(problem)
            return error_answer(400, problem)
        self.turns += 1
        call_id, thought = f"call_00_{self.turns}", f"{self.turns}. The user wants it done; I look first."
        self._thoughts[call_id] = thought
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"path": "a.py"}'}
        call = {"id": call_id, "type": "function", "function": function}
        if not body.get("stream"):
            return json_answer(completion(None, finish_reason="tool_calls", tool_calls=[call], reasoning_content=thought))
        deltas: list[dict[str, Any]] = [
            {"role": "assistant", "content": None, "reasoning_content": thought[:5]},
            {"reasoning_content": thought[5:]},
            {"tool_calls": [{"index": 0, **call}]},
        ]
        return stream_answer([*map(chunk, deltas), chunk({}, "tool_calls"), usage_chunk()])

    def _problems(self, messages: list[dict[str, Any]]) -> Iterator[str]:
        waiting: list[str] = []
        for number, message in enumerate(messages):
            role = message.get("role")
            if role not in ROLES:
                yield f"messages[{number}]: unknown variant '{role}', expected one of {ROLES}"
            elif role == "tool":
                if message["tool_call_id"] not in waiting:
                    yield "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
                waiting = [call_id for call_id in waiting if call_id != message["tool_call_id"]]
            elif waiting:
                yield f"An assistant message with 'tool_calls' must be followed by tool messages responding to each of {waiting}"
            if role == "assistant":
                yield from self._forgotten(message, number)
                waiting = [call["id"] for call in message.get("tool_calls") or ()]
                for call in message.get("tool_calls") or ():
                    json.loads(call["function"]["arguments"])

    def _forgotten(self, message: dict[str, Any], number: int) -> Iterator[str]:
        wanted = {self._thoughts[call["id"]] for call in message.get("tool_calls") or () if call["id"] in self._thoughts}
        if wanted and message.get("reasoning_content") not in wanted:
            yield f"messages[{number}]: The `reasoning_content` in the thinking mode must be passed back to the API."
