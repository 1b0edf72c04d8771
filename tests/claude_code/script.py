"""The strict imitation of Anthropic's service with a scripted agent in it, who works with Claude Code's tools.

    claude = ScriptedClaude(folder=folder)
    claude.meet({1: "overloaded"})
    with FakeUpstream(default=claude) as upstream: ...

What it says depends on the conversation alone: how many results there are since the last task. A fault comes once, in place of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from compat.config.catalog import MessagesFacts
from tests.fakes.anthropic_answers import (
    AnthropicApi,
    error_answer,
    json_answer,
    message,
    one_event,
    sse_answer,
    stream_answer,
    stream_events,
)
from tests.fakes.anthropic_blocks import name_of, text, thinking, tool_use
from tests.fakes.anthropic_conversation import Block, blocks_of
from tests.fakes.anthropic_signing import signed
from tests.fakes.upstream import Answer, Cut

Fault = Literal["overloaded", "cut in text", "cut in a call"]

FIRST = "Task one: change alpha to beta in note.txt, then copy the file to copy.txt."
SECOND = "Task two: add a line that says gamma to copy.txt."
FIRST_DONE = "The note says beta now, and a copy of it is in copy.txt."
SECOND_DONE = "The copy has another line."
FIRST_TOOLS = ["Read", "Edit", "Bash"]
SECOND_TOOLS = ["Bash"]


@dataclass
class ScriptedClaude(AnthropicApi):
    """The responder. Mutable: `asked`, the model and the thinking blocks of each request that was a step; `met`, the faults that came."""

    folder: Path = Path()
    asked: list[tuple[str, int]] = field(default_factory=list)
    met: list[Fault] = field(default_factory=list)

    _faults: dict[int, Fault] = field(default_factory=dict)

    def meet(self, faults: Mapping[int, Fault]) -> None:
        """Let these faults come, each in place of the step of its number."""
        self._faults = dict(faults)

    def _answer(self, body: dict[str, Any], facts: MessagesFacts) -> Answer:
        names = {tool["name"] for tool in body.get("tools", ())}
        if "note" in names:
            return self._proof(body)
        if "Bash" not in names:
            return super()._answer(body, facts)
        task, number = _place(body)
        thoughts = sum(block["type"] == "thinking" for item in body["messages"] for block in blocks_of(item))
        self.asked.append((body["model"], thoughts))
        blocks = signed(body, self._step(body, task, number))
        usage = {**self.cache.usage(body, facts), "output_tokens": 50}
        rest: dict[str, Any] = {"model": body["model"], "usage": usage, "id": f"msg_{name_of([task, number])}"}
        fault = self._faults.pop(len(self.asked) - 1, None)
        if fault is not None:
            self.met.append(fault)
            return _faulty(fault, stream_events(blocks, **rest))
        return stream_answer(stream_events(blocks, **rest)) if body.get("stream") else json_answer(message(blocks, **rest))

    def _proof(self, body: dict[str, Any]) -> Answer:
        is_over = any(block["type"] == "tool_result" for item in body["messages"] for block in blocks_of(item))
        blocks = [text("I noted it.")] if is_over else [tool_use("note", {"word": "lighthouse"})]
        return stream_answer(stream_events(blocks, model=body["model"])) if body.get("stream") else json_answer(message(blocks))

    def _step(self, body: dict[str, Any], task: str, number: int) -> list[Block]:
        calls = calls_of(self.folder)[task]
        thought = [thinking(f"Step {number} of this.", model=body["model"])] if number % 2 == 0 else []
        if number >= len(calls):
            return [*thought, text(FIRST_DONE if task == FIRST else SECOND_DONE)]
        name, arguments = calls[number]
        said = [text("I do the next step, which is the one that is needed now.")]
        return [*thought, *said, tool_use(name, arguments, f"toolu_{name_of([task, number])}")]


def calls_of(folder: Path) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """What each task takes."""
    note, copy = str(folder / "note.txt"), str(folder / "copy.txt")
    return {
        FIRST: [
            ("Read", {"file_path": note}),
            ("Edit", {"file_path": note, "old_string": "alpha", "new_string": "beta"}),
            ("Bash", {"command": f"cp {note} {copy}", "description": "Copies the note"}),
        ],
        SECOND: [("Bash", {"command": f"echo gamma >> {copy}", "description": "Adds a line"})],
    }


def _place(body: dict[str, Any]) -> tuple[str, int]:
    """The last task, and how many results there are since."""
    found, number = FIRST, 0
    for item in body["messages"]:
        for block in blocks_of(item):
            for task in (FIRST, SECOND):
                if item["role"] == "user" and block["type"] == "text" and task in block["text"]:
                    found, number = task, 0
            number += block["type"] == "tool_result"
    return found, number


def _faulty(fault: Fault, events: list[dict[str, Any]]) -> Answer:
    if fault == "overloaded":
        return error_answer(529, "Overloaded")
    kind = "text_delta" if fault == "cut in text" else "input_json_delta"
    places = [place for place, event in enumerate(events) if event.get("delta", {}).get("type") == kind]
    return sse_answer(*(one_event(event) for event in events[: places[len(places) // 2]]), Cut())
