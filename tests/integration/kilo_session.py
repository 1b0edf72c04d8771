"""An agent's session in the shape of Kilo Code's requests, written by hand.

    session = KiloSession(model="claude-4-sonnet", effort="medium", tasks=8)
    while not session.is_over:
        session.take(read_stream(post(session.body(), session.headers).text))

The client keeps what it was shown and nothing else: reasoning comes back as `reasoning_content`, without signatures; arguments are written
anew; cache markers are on the system message and on the last two messages, inside `tool_calls` as well. The reader of streams is as
strict as the real client: what would end or garble a turn there is an `AssertionError` here.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]

MARK = {"cache_control": {"type": "ephemeral"}}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(24)).decode()
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
_NAMES = (
    "read",
    "write",
    "edit",
    "glob",
    "grep",
    "list",
    "bash",
    "task",
    "todo_read",
    "todo_write",
    "web_fetch",
    "diagnostics",
    "symbols",
    "rename",
    "format",
    "lint",
    "test",
    "build",
    "commit",
    "diff",
    "screenshot",
    "browse",
    "recall",
    "ask",
)
_HABITS = (
    "Paths are absolute, or relative to the working directory.",
    "Prefer it to the shell for whatever it can do.",
    "Do not call it twice with the same arguments unless something changed in between.",
    "Its output is cut after two thousand lines; ask for a part where you need one.",
    "Independent calls belong into one message, so that they run at the same time.",
    "Errors come back as text: read them before you try again.",
    "Quote with care: \"double\", 'single', `back` – and don't escape what needs no escape.",
)


def _tools() -> list[Message]:
    """24 tools, about 50 kB, as the real client offers them."""
    tools = []
    for number, name in enumerate(_NAMES):
        guide = "\n".join(f"- {_HABITS[(number + line) % len(_HABITS)]} (note {line + 1} on {name})" for line in range(20))
        properties = {
            "filePath": {"type": "string", "description": f"What {name} works on."},
            "lines": {"type": "array", "items": {"type": "integer", "minimum": 0}, "description": "First and last line."},
            "mode": {"type": "string", "enum": ["fast", "thorough"], "default": "fast"},
            "text": {"type": "string", "description": "Words for it, “as they are” — unicode too."},
        }
        schema = {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": dict(list(properties.items())[: 1 + number % 4]),
            "required": ["filePath"],
            "additionalProperties": False,
        }
        function = {"name": name, "description": f"Runs {name}.\n\nUsage:\n{guide}", "parameters": schema}
        tools.append({"type": "function", "function": function})
    return tools


def _system() -> str:
    rules = (f"{number}. {_HABITS[number % len(_HABITS)]} Keep changes small, and say what you did." for number in range(1, 110))
    return "You are a careful software engineer who works in the user's editor.\n\n# Rules\n\n" + "\n".join(rules)


TOOLS = _tools()
SYSTEM = _system()


@dataclass(frozen=True)
class Call:
    """A finished tool call."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """A streamed answer as the client read it."""

    text: str
    reasoning: str
    calls: list[Call]
    finish_reason: str
    usage: dict[str, Any]
    id: str


def events_of(stream: str) -> list[Any]:
    """The data of each event; the end mark as it is."""
    lines = [line[6:] for line in stream.split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def read_stream(stream: str) -> Reply:
    """The answer in `stream`. `AssertionError` for what the real client can't take."""
    events = events_of(stream)
    assert events[-1] == "[DONE]", events[-1]
    chunks = events[:-1]
    assert "[DONE]" not in chunks
    assert not [chunk for chunk in chunks if "error" in chunk]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    deltas = [choice["delta"] for choice in choices]
    assert [number for number, delta in enumerate(deltas) if "role" in delta] == [0]
    finishes = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert len(finishes) == 1
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert len(usages) == 1
    assert chunks[-1]["choices"] == []
    return Reply(
        "".join(delta.get("content") or "" for delta in deltas),
        "".join(delta.get("reasoning_content") or "" for delta in deltas),
        _calls(deltas),
        finishes[0],
        usages[0],
        chunks[0]["id"],
    )


def _calls(deltas: list[dict[str, Any]]) -> list[Call]:
    calls: list[Call] = []
    for piece in (piece for delta in deltas for piece in delta.get("tool_calls", ())):
        arguments = piece["function"]["arguments"]
        assert isinstance(arguments, str)
        if piece["index"] == len(calls):
            assert piece["type"] == "function"
            calls.append(Call(piece["id"], piece["function"]["name"], arguments))
        else:
            assert piece["index"] == len(calls) - 1
            assert "id" not in piece
            last = calls[-1]
            calls[-1] = Call(last.id, last.name, last.arguments + arguments)
    for call in calls:
        assert isinstance(json.loads(call.arguments), dict)
    assert len({call.id for call in calls}) == len(calls)
    return calls


@dataclass
class KiloSession:
    """The client's side. Mutable: `fields` (the body's others), `messages` (markers aside) and `replies`.

    `opening` replaces the first request: its body's other fields, system message, first user message and tools are used.
    """

    model: str = "claude-4-sonnet"
    effort: str | None = None
    tasks: int = 8
    opening: dict[str, Any] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        body = self.opening or {
            "max_tokens": 32_000,
            "messages": [{"role": "system", "content": SYSTEM}, self._task(1)],
            "tools": TOOLS,
            "tool_choice": "auto",
        }
        self.fields = {name: value for name, value in body.items() if name not in {"model", "messages"}}
        self.messages = [_marked(message, None) for message in body["messages"]]
        self._begun = 1

    @property
    def is_over(self) -> bool:
        """Whether the last task was answered in words."""
        return self._begun > self.tasks

    @property
    def headers(self) -> dict[str, str]:
        """What the client sends beside its key."""
        return {
            "authorization": "Bearer sk-any",
            "user-agent": "Kilo-Code/7.7.9 ai-sdk/openai-compatible",
            "x-session-id": "ses_example",
            "x-session-affinity": "ses_example",
        }

    def body(self) -> dict[str, Any]:
        """The next request."""
        marked = [0, *range(max(len(self.messages) - 2, 1), len(self.messages))]
        messages = [_marked(message, MARK if number in marked else None) for number, message in enumerate(self.messages)]
        rest = {"reasoning_effort": self.effort} if self.effort else {}
        return {
            **self.fields,
            "model": self.model,
            "messages": messages,
            **rest,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def take(self, reply: Reply) -> None:
        """Go on from an answer: run its tools, or give the next task."""
        self.replies.append(reply)
        said: Message = {"role": "assistant", "content": reply.text or (None if len(self.replies) % 2 else "")}
        if reply.reasoning:
            said["reasoning_content"] = reply.reasoning
        if reply.calls:
            said["tool_calls"] = [_replayed(call) for call in reply.calls]
        self.messages.append(said)
        for number, call in enumerate(reply.calls):
            content = self._result(call, is_picture=len(self.replies) % 7 == 0 and number == 0)
            self.messages.append({"role": "tool", "tool_call_id": _scrubbed(call.id), "content": content})
        if not reply.calls:
            self._begun += 1
            self.messages.append(self._task(self._begun))
        elif len(self.replies) % 11 == 0:  # pictures that a tool found come in a message of their own
            self.messages.append({"role": "user", "content": [PICTURE, {"type": "text", "text": "Attached from the tool's result:"}]})

    def _task(self, number: int) -> Message:
        words = {"type": "text", "text": f"Task {number}: add a line to notes/{number}.md and check it."}
        surroundings = {"type": "text", "text": f"\n\n<environment_details>\nMessage time: minute {number}\n</environment_details>"}
        return {"role": "user", "content": [*([PICTURE] if number % 4 == 3 else []), words, surroundings]}

    def _result(self, call: Call, *, is_picture: bool) -> str:
        if is_picture:
            return json.dumps([{"type": "text", "text": f"{call.name} took a picture."}, PICTURE], separators=(",", ":"))
        number = len(self.messages)
        return "\n".join(f"{line:5d}\t{call.name} {number}: a line of “output” that says nothing" for line in range(1, 2 + number % 30))


def _replayed(call: Call) -> Message:
    arguments = json.dumps(json.loads(call.arguments), ensure_ascii=False, separators=(",", ":"))
    return {"id": _scrubbed(call.id), "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _scrubbed(call_id: str) -> str:
    return "".join(character if character.isascii() and (character.isalnum() or character in "_-") else "_" for character in call_id)


def _marked(message: Message, mark: Message | None) -> Message:
    """A copy of `message` with `mark` where the client puts it, and no other mark."""
    bare: Message = {name: value for name, value in message.items() if name != "cache_control"}
    mark = mark or {}
    if bare.get("tool_calls"):
        calls = [{name: value for name, value in call.items() if name != "cache_control"} for call in bare["tool_calls"]]
        return {**bare, "tool_calls": [{**call, **mark} for call in calls]}
    if isinstance(bare.get("content"), list):
        parts = [{name: value for name, value in part.items() if name != "cache_control"} for part in bare["content"]]
        first = next((number for number, part in enumerate(parts) if part["type"] == "text"), 0)
        return {**bare, "content": [{**part, **mark} if number == first else part for number, part in enumerate(parts)]}
    return {**bare, **mark}
