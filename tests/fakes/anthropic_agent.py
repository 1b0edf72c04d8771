"""A model that works like a coding agent: it thinks, calls tools for some rounds, and ends each task with words.

    claude = AgentApi(rounds=4)
    with FakeUpstream(default=claude) as upstream: ...
    claude.refusals, claude.dropped, claude.cache.history, claude.answers

What it answers depends on the request alone. Every third of its turns calls two tools at once, some turns hold text before the call,
some redacted thinking, and where thinking is interleaved some think twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from compat.config.catalog import MessagesFacts
from tests.fakes.anthropic_answers import AnthropicApi, json_answer, message, stream_answer, stream_events
from tests.fakes.anthropic_blocks import example, name_of, redacted_thinking, text, tool_use
from tests.fakes.anthropic_cache import CHARS_PER_TOKEN
from tests.fakes.anthropic_conversation import THINKING, Block, blocks_of
from tests.fakes.anthropic_signing import signed
from tests.fakes.upstream import Answer

THOUGHTS = "I look at what is there, then I change the least that does it."


@dataclass
class AgentApi(AnthropicApi):
    """The strict service with an agent in it. Mutable: `answers`, the content of each answer so far."""

    rounds: int = 4
    answers: list[list[Block]] = field(default_factory=list)

    @property
    def thoughtful_calls(self) -> int:
        """How many answers so far held both tool calls and thinking: what a client's history must get back."""
        kinds = [{block["type"] for block in answer} for answer in self.answers]
        return sum("tool_use" in kind and bool(kind & set(THINKING)) for kind in kinds)

    def _answer(self, body: dict[str, Any], facts: MessagesFacts) -> Answer:
        blocks = signed(body, list(self._turn(body, facts)))
        self.answers.append(blocks)
        hidden = [block for block in blocks if block["type"] in THINKING]
        usage = {
            **self.cache.usage(body, facts),
            "output_tokens": _tokens(blocks),
            "output_tokens_details": {"thinking_tokens": _tokens(hidden)},
        }
        rest: dict[str, Any] = {"model": body["model"], "usage": usage, "id": f"msg_{name_of(body)}"}
        return stream_answer(stream_events(blocks, **rest)) if body.get("stream") else json_answer(message(blocks, **rest))

    def _turn(self, body: dict[str, Any], facts: MessagesFacts) -> Iterator[Block]:
        number = sum(item["role"] == "assistant" for item in body["messages"])
        done = _rounds_done(body)
        yield from _thinking(body, facts, number, is_opening=done == 0)
        if done >= self.rounds or not body.get("tools"):
            yield text(f"Task done after {done} rounds.")
            return
        if number % 4 == 2:
            yield text(f"Step {number}: next file. ✓")
            if number % 8 == 2 and _is_interleaved(body):
                yield from _thinking(body, facts, number, is_opening=False)
        for place in range(2 if number % 3 == 2 else 1):
            tool = body["tools"][(number + place) % len(body["tools"])]
            yield tool_use(tool["name"], example(tool["input_schema"]), f"toolu_{name_of([number, place, body['messages'][0]])}")


def _rounds_done(body: dict[str, Any]) -> int:
    """How many rounds of tool calls follow the last words of the user that are not beside results."""
    count = 0
    for item in reversed(body["messages"]):
        kinds = [block["type"] for block in blocks_of(item)]
        if item["role"] == "user" and "tool_result" not in kinds:
            return count
        count += "tool_use" in kinds
    return count


def _is_interleaved(body: dict[str, Any]) -> bool:
    return bool(body.get("thinking", {}).get("type") == "adaptive")


def _thinking(body: dict[str, Any], facts: MessagesFacts, number: int, *, is_opening: bool) -> Iterator[Block]:
    """With a budget a turn thinks once, at its start; adaptive thinking comes before each step."""
    kind = body.get("thinking", {}).get("type", "disabled" if facts.thinking_default == "off" else "adaptive")
    if kind == "disabled" or (kind == "enabled" and not is_opening):
        return
    display = body.get("thinking", {}).get("display", "omitted" if facts.thinking == "adaptive" else "summarized")
    yield {"type": "thinking", "thinking": f"{number}. {THOUGHTS}" if display == "summarized" else "", "signature": ""}
    if number % 5 == 0:
        yield redacted_thinking(data="")


def _tokens(blocks: list[Block]) -> int:
    return len(json.dumps(blocks)) // CHARS_PER_TOKEN
