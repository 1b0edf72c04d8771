"""An upstream that plays a coding agent's model, in either wire API: it has a file read, edited and copied, and says that it is done.

    model = AgentModel(folder, "openai.chat", {1: "overloaded"})
    with FakeUpstream(default=model) as upstream: ...

It answers by what a request is for: a title, a summary (compaction), the proof of `setup`, or the next step of the work. Steps are counted
here, so that a conversation which was compacted in between goes on where it was. A fault comes once, in place of a step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.fakes.openai_answers import chunk, error_answer, event, json_answer, sse_answer
from tests.fakes.upstream import Answer, Cut, Request

WireApi = Literal["openai.chat", "anthropic.messages", "openai.responses"]
Fault = Literal["overloaded", "cut", "rate limit", "overflow"]

FINAL = "The note says beta now, and a copy of it is in copy.txt."
SUMMARY = "## Objective\n- alpha becomes beta in note.txt, which is copied to copy.txt.\n\n## Work State\n- note.txt: read, it says alpha."
TOO_LONG = "prompt is too long: 1000042 tokens > 1000000 maximum"


@dataclass(frozen=True)
class Say:
    """What the model says: a text or a tool call, with the tokens that it is billed for."""

    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass
class AgentModel:
    """The responder. `faults` are met once each, before the step of their number.

    Mutable: `steps`, how many of the work were answered; `served`, what was asked for; `_faults`, those to come.
    """

    folder: Path
    wire_api: WireApi
    faults: Mapping[int, Fault] = field(default_factory=dict)
    tells_usage: bool = True
    steps: int = 0
    served: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._faults = dict(self.faults)

    def __call__(self, request: Request) -> Answer:
        if request.method != "POST":
            return json_answer({"object": "list", "data": [{"id": "claude-sonnet-4-6"}, {"id": "claude-haiku-4-5"}]})
        body = request.json
        names = {tool.get("name") or tool["function"]["name"] for tool in body.get("tools") or ()}
        if "note" in names:
            self.served.append("proof")
            said = "tool_result" in str(body["messages"]) or any(message["role"] == "tool" for message in body["messages"])
            return self._answer(Say("I noted it.", prompt=90, completion=5) if said else _note())
        if not names:
            is_title = "title generator" in json.dumps(body)
            self.served.append("title" if is_title else "summary")
            return self._answer(Say("Beta note" if is_title else SUMMARY, prompt=70, completion=9))
        if fault := self._faults.pop(self.steps, None):
            self.served.append(fault)
            return self._faulty(fault)
        self.served.append("step")
        self.steps += 1
        return self._answer(self._step(self.steps - 1))

    def _step(self, number: int) -> Say:
        tools = work(self.folder)
        counts = {"prompt": 20_000 + 1000 * number, "cached": 15_000 if number else 0, "completion": 40 + number}
        if number >= len(tools):
            return Say(FINAL, **counts)
        name, arguments = tools[number]
        return Say(tool=name, arguments=arguments, **counts)

    def _faulty(self, fault: Fault) -> Answer:
        if fault == "overloaded":
            return error_answer(529, "Overloaded", type="overloaded_error")
        if fault == "rate limit":
            return error_answer(429, "Slow down", [("retry-after", "3")], type="rate_limit_error")
        if fault == "overflow":
            return error_answer(400, TOO_LONG, type="invalid_request_error")
        if self.wire_api == "openai.chat":
            return sse_answer(event(chunk({"role": "assistant", "content": ""})), Cut())
        return sse_answer(_events(Say())[0], Cut())

    def _answer(self, say: Say) -> Answer:
        if self.wire_api == "openai.chat":
            chunks = _chunks(say) if self.tells_usage else _chunks(say)[:-1]
            return sse_answer(*(event(item) for item in chunks), event("[DONE]"))
        return sse_answer(*_events(say))


def work(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The tool calls that do the work."""
    note = str(folder / "note.txt")
    return [
        ("read", {"filePath": note}),
        ("edit", {"filePath": note, "oldString": "alpha", "newString": "beta"}),
        ("bash", {"command": "cp note.txt copy.txt", "description": "Copies the note"}),
    ]


def _note() -> Say:
    return Say(tool="note", arguments={"word": "lighthouse"}, prompt=80, completion=6)


def _chunks(say: Say) -> list[dict[str, Any]]:
    """OpenAI's stream."""
    usage = {
        "prompt_tokens": say.prompt,
        "completion_tokens": say.completion,
        "total_tokens": say.prompt + say.completion,
        "prompt_tokens_details": {"cached_tokens": say.cached},
    }
    chunks = [chunk({"role": "assistant", "content": ""})]
    if say.tool:
        text = json.dumps(say.arguments)
        half = len(text) // 2
        call = {"index": 0, "id": f"call_{say.tool}", "type": "function", "function": {"name": say.tool, "arguments": ""}}
        chunks.append(chunk({"tool_calls": [call]}))
        chunks += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}) for part in (text[:half], text[half:])]
    else:
        chunks += [chunk({"content": word + " "}) for word in say.text.split(" ")]
    chunks.append(chunk({}, "tool_calls" if say.tool else "stop"))
    return [*chunks, {**chunk({}), "choices": [], "usage": usage}]


def _events(say: Say) -> list[bytes]:
    """The stream of the Messages API; its `input_tokens` are those that were not cached."""
    usage = {
        "input_tokens": say.prompt - say.cached,
        "cache_read_input_tokens": say.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": [], "usage": usage}
    block: dict[str, Any] = {"type": "text", "text": ""}
    deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": word + " "} for word in say.text.split(" ")]
    if say.tool:
        text = json.dumps(say.arguments)
        block = {"type": "tool_use", "id": f"toolu_{say.tool}", "name": say.tool, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in (text[: len(text) // 2], text[len(text) // 2 :])]
    reason = "tool_use" if say.tool else "end_turn"
    return [
        _named("message_start", message={**message, "stop_reason": None, "stop_sequence": None}),
        _named("content_block_start", index=0, content_block=block),
        *(_named("content_block_delta", index=0, delta=delta) for delta in deltas),
        _named("content_block_stop", index=0),
        _named("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": say.completion}),
        _named("message_stop"),
    ]


def _named(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
