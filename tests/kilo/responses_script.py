"""The same model as in `script`, behind the strict imitation of OpenAI's service: what Kilo gets to see has passed each of its rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.anthropic_blocks import name_of
from tests.fakes.responses_answers import ResponsesApi, error_answer, event_bytes, json_answer, response, sse_answer, stream_events
from tests.fakes.responses_items import function_call, message, text_part, thought
from tests.fakes.responses_rules import Item, tools_of
from tests.fakes.upstream import Answer, Cut
from tests.kilo.script import FINAL, SUMMARY, TOO_LONG, Fault, work

MODEL = "gpt-6.1-sol"


@dataclass
class ResponsesModel(ResponsesApi):
    """The responder. `faults` are met once each, before the step of their number; `is_whole`: it answers whole what is to be a stream.

    Mutable: `steps`, how many of the work were answered; `served`, what was asked for; `_faults`, those to come.
    """

    folder: Path = Path()
    faults: Mapping[int, Fault] = field(default_factory=dict)
    is_whole: bool = False
    steps: int = 0
    served: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._faults = dict(self.faults)

    def _respond(self, body: dict[str, Any], account: str) -> Answer:
        names = {tool["name"] for tool in tools_of(body)}
        fault = self._faults.pop(self.steps, None) if names and "note" not in names else None
        if fault is None:
            return super()._respond(body, account)
        self.served.append(fault)
        if fault == "overloaded":
            return error_answer(503, "Overloaded", kind="server_error")
        if fault == "rate limit":
            return error_answer(429, "Slow down", [("retry-after", "3")], kind="rate_limit_error", code="rate_limit_exceeded")
        if fault == "overflow":
            return error_answer(400, TOO_LONG, code="context_length_exceeded")
        begun = stream_events([function_call("read", '{"filePath": "elsewhere"}')])
        return sse_answer(event_bytes(begun[:5]), Cut())

    def items(self, body: dict[str, Any], effort: str, account: str) -> list[Item]:
        """The next turn, by what the request is for."""
        name = name_of([self.steps, len(self.served), body["input"]])
        return [*thought(body, effort, account, name), self._said(body, name)]

    def _said(self, body: dict[str, Any], name: str) -> Item:
        names = {tool["name"] for tool in tools_of(body)}
        if "note" in names:
            self.served.append("proof")
            if any(item.get("type") == "function_call_output" for item in body["input"]):
                return message(text_part("I noted it."), item_id=f"msg_{name}")
            return function_call("note", '{"word": "lighthouse"}', f"call_{name}", f"fc_{name}")
        if not names:
            is_title = "title generator" in json.dumps(body)
            self.served.append("title" if is_title else "summary")
            return message(text_part("Beta note" if is_title else SUMMARY), item_id=f"msg_{name}")
        self.served.append("step")
        self.steps += 1
        steps = work(self.folder)
        if self.steps > len(steps):
            return message(text_part(FINAL), item_id=f"msg_{name}")
        tool, arguments = steps[self.steps - 1]
        return function_call(tool, json.dumps(arguments), f"call_{name}", f"fc_{name}")

    def answer(self, body: dict[str, Any], items: list[Item]) -> Answer:
        """See `ResponsesApi`."""
        if not self.is_whole:
            return super().answer(body, items)
        usage = {**self.cache.usage(body), "output_tokens": 40}
        return json_answer(response(items, model=body["model"], usage={**usage, "total_tokens": usage["input_tokens"] + 40}))
