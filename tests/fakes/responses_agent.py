"""A model that works like a coding agent: it reasons, calls tools for some rounds, and ends each task with words.

    sol = AgentApi(rounds=4)
    with FakeUpstream(default=sol) as upstream: ...
    sol.refusals, sol.forgotten, sol.cache.history, sol.answers

What it answers depends on the request alone. Every third of its turns calls two tools at once, some turns hold words before the call, and
some reason twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.anthropic_blocks import name_of
from tests.fakes.responses_answers import ResponsesApi
from tests.fakes.responses_items import called, message, text_part, thought
from tests.fakes.responses_rules import CALLS, Item, items_of, kind_of

THOUGHTS = "I look at what is there, then I change the least that does it."


@dataclass
class AgentApi(ResponsesApi):
    """The strict service with an agent in it. Mutable: `answers`, the items of each answer so far."""

    rounds: int = 4
    answers: list[list[Item]] = field(default_factory=list)

    @property
    def thoughtful_calls(self) -> int:
        """How many answers so far held both tool calls and reasoning: what the history must get back."""
        kinds = [{item["type"] for item in answer} for answer in self.answers]
        return sum("reasoning" in kind and bool(kind & CALLS.keys()) for kind in kinds)

    def items(self, body: dict[str, Any], effort: str, account: str) -> list[Item]:
        """The next turn of the agent."""
        items = list(self._turn(body, effort, account))
        self.answers.append(items)
        return items

    def _turn(self, body: dict[str, Any], effort: str, account: str) -> Iterator[Item]:
        number, done = _rounds(body)
        name = name_of([number, items_of(body)[0]])
        yield from thought(body, effort, account, name, f"{number}. {THOUGHTS}")
        calls = list(called(body, number, 2 if number % 3 == 2 else 1))
        if done >= self.rounds or not calls:
            yield message(text_part(f"Task done after {done} rounds."), item_id=f"msg_{name}", phase="final_answer")
            return
        if number % 4 == 2:
            yield message(text_part(f"Step {number}: next file. ✓"), item_id=f"msg_{name}", phase="commentary")
            if number % 8 == 2:
                yield from thought(body, effort, account, f"{name}b", f"{number}, again. {THOUGHTS}")
        yield from calls


def _rounds(body: dict[str, Any]) -> tuple[int, int]:
    """How many turns of the model there were, and how many rounds of tool calls since the user's last words that are not beside results."""
    turns = done = 0
    before, was_ours, is_in_round = "", False, False
    for item in items_of(body):
        kind = kind_of(item)
        is_ours = kind in CALLS or kind == "reasoning" or (kind == "message" and item["role"] == "assistant")
        if is_ours:
            turns += not was_ours
            done += kind in CALLS and not is_in_round
            is_in_round = is_in_round or kind in CALLS
        else:
            is_in_round = False
            if kind == "message" and item["role"] == "user" and before not in CALLS.values():
                done = 0
        before, was_ours = kind, is_ours
    return turns, done
