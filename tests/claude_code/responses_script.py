"""The strict imitation of OpenAI's Responses API with the scripted agent in it.

model = ScriptedResponses(folder=folder)
with FakeUpstream(default=model) as upstream: ...
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.claude_code.script import FIRST, FIRST_DONE, SECOND, SECOND_DONE, Fault, calls_of
from tests.fakes.anthropic_blocks import name_of
from tests.fakes.responses_answers import ResponsesApi, error_answer, event_bytes, sse_answer, stream_events
from tests.fakes.responses_items import function_call, message, text_part, thought
from tests.fakes.responses_rules import OUTPUTS, Item, kind_of, tools_of
from tests.fakes.upstream import Answer, Cut

_DELTAS: Mapping[Fault, str] = {
    "cut in text": "response.output_text.delta",
    "cut in a call": "response.function_call_arguments.delta",
}


@dataclass
class ScriptedResponses(ResponsesApi):
    """The responder. Mutable: `asked`, how many thoughts came back with each request that was a step; `met` and the faults to come."""

    folder: Path = Path()
    asked: list[int] = field(default_factory=list)
    met: list[Fault] = field(default_factory=list)
    _faults: dict[int, Fault] = field(default_factory=dict)

    def meet(self, faults: Mapping[int, Fault]) -> None:
        """Let these faults come, each in place of the step of its number."""
        self._faults = dict(faults)

    def items(self, body: dict[str, Any], effort: str, account: str) -> list[Item]:
        """The next step; what is not one, as ever."""
        if not _is_step(body):
            return super().items(body, effort, account)
        self.asked.append(sum(kind_of(item) == "reasoning" for item in body["input"]))
        task, number = _place(body["input"])
        calls, name = calls_of(self.folder)[task], name_of([task, number])
        thoughts = thought(body, effort, account, name)
        if number >= len(calls):
            return [*thoughts, message(text_part(FIRST_DONE if task == FIRST else SECOND_DONE), item_id=f"msg_{name}")]
        tool, arguments = calls[number]
        said = message(text_part("I do the next step, which is the one that is needed now."), item_id=f"msg_{name}")
        return [*thoughts, said, function_call(tool, json.dumps(arguments), f"call_{name}", f"fc_{name}")]

    def answer(self, body: dict[str, Any], items: list[Item]) -> Answer:
        """These items, or the fault in their place."""
        fault = self._faults.pop(len(self.asked) - 1, None) if _is_step(body) else None
        if fault is None:
            return super().answer(body, items)
        self.met.append(fault)
        if fault == "overloaded":
            return error_answer(503, "Overloaded", kind="server_error")
        events = stream_events(items, model=body["model"])
        places = [place for place, event in enumerate(events) if event["type"] == _DELTAS[fault]]
        return sse_answer(event_bytes(events[: places[len(places) // 2]]), Cut())


def _is_step(body: dict[str, Any]) -> bool:
    return any(tool.get("name") == "Bash" for tool in tools_of(body))


def _place(items: list[Item]) -> tuple[str, int]:
    """The last task, and how many results there are since."""
    found, number = FIRST, 0
    for item in items:
        for task in (FIRST, SECOND):
            if item.get("role") == "user" and task in json.dumps(item["content"]):
                found, number = task, 0
        number += kind_of(item) in OUTPUTS
    return found, number
