"""Thinking: how a request asks for it, and how kept thinking goes back into its turn (docs/translation.md, rules 7 and 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compat.config.catalog import Effort, MessagesFacts
from compat.protocols.base import ThinkingRecord, TranslationContext
from compat.protocols.messages.content import Block, text_block
from compat.protocols.messages.shapes import API
from compat.protocols.notes import Notes
from compat.protocols.request import Request
from compat.protocols.request import Thinking as Thought

THINKING = ("thinking", "redacted_thinking")
BINDING_BETA = "thinking-binding-controls-2026-08-01"
MIN_BUDGET = 1024

_BUDGETS: Mapping[str, int] = {"low": 4096, "medium": 10_000, "high": 20_000, "xhigh": 32_000, "max": 60_000}
_LEVELS: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Thinking:
    """How the model is to think: the `thinking` object and effort of the request (each may be missing)."""

    config: Block | None = None
    effort: Effort | None = None

    @property
    def is_on(self) -> bool:
        """Whether kept thinking may be put back."""
        return self.config is not None and self.config["type"] != "disabled"

    @property
    def is_enabled(self) -> bool:
        """Whether the request has a budget of its own: forced tools and a history without thinking are refused then."""
        return self.config is not None and self.config["type"] == "enabled"


def thinking_of(request: Request, ctx: TranslationContext, notes: Notes) -> Thinking:
    """By what the client asks for, as far as the model has it."""
    facts, refused, asked = ctx.model.messages, ctx.refused_parameters, request.reasoning
    notes.add_all("dropped", asked.extras)
    effort, budget = asked.effort or ("high" if asked.is_adaptive else None), asked.budget
    if effort is None and budget is None:
        return Thinking(_shown(facts, refused) if facts.thinking_default != "off" and facts.thinking == "adaptive" else None)
    name = request.name("effort")
    if facts.thinking == "none" or "thinking" in refused:
        if effort != "none":
            notes.add("dropped", name)
        return Thinking()
    if effort == "none":
        if facts.thinking_default == "always":
            notes.add("clamped", name)
            return Thinking(_shown(facts, refused), _effort("low", name, ctx, notes))
        return without_thinking(facts)
    if budget is not None:
        level = next(level for level in _LEVELS if budget <= _BUDGETS[level] or level == "max")
    elif effort is None or effort == "minimal":
        level = "low"
    else:
        level = effort
    if facts.thinking == "enabled":
        return Thinking({"type": "enabled", "budget_tokens": budget or _BUDGETS[level]})
    if budget is not None:
        notes.add("thinking", "adaptive")
    return Thinking(_shown(facts, refused), _effort(level, name, ctx, notes))


def without_thinking(facts: MessagesFacts) -> Thinking:
    """Thinking that is off, for models that can do without."""
    return Thinking({"type": "disabled"} if facts.thinking_default == "on" and facts.thinking == "adaptive" else None)


def _shown(facts: MessagesFacts, refused: frozenset[str]) -> Block | None:
    """Adaptive thinking whose summary is shown, bound blocks that no longer fit are dropped by the API instead of refused."""
    if "thinking" in refused:
        return None
    config: Block = {"type": "adaptive"}
    if facts.thinking == "adaptive" and "thinking.display" not in refused:
        config["display"] = "summarized"
    if facts.bound_thinking and "thinking.block_binding" not in refused:
        config["block_binding"] = {"prefix_mismatch_behavior": "drop_block"}
    return config


def _effort(level: Effort, name: str, ctx: TranslationContext, notes: Notes) -> Effort | None:
    """The level; where the model lacks it the next one above, or the highest there is. `name` is the client's."""
    efforts = ctx.model.messages.efforts
    if not efforts or {"output_config", "output_config.effort"} & ctx.refused_parameters:
        notes.add("dropped", name)
        return None
    if level in efforts:
        return level
    notes.add("clamped", name)
    rank = _LEVELS.index(level)
    return next((known for known in efforts if _LEVELS.index(known) > rank), efforts[-1])


def with_room(limit: int, thinking: Thinking, request: Request, ctx: TranslationContext, notes: Notes) -> tuple[int, Thinking]:
    """Limit and budget that fit: 1024 <= budget < limit. A limit that leaves no room is raised, if the model's maximum allows it."""
    assert thinking.config is not None
    budget = max(int(thinking.config["budget_tokens"]), MIN_BUDGET)
    most = ctx.model.max_output
    if request.limit is not None and limit < 2 * MIN_BUDGET:
        limit = min(limit + MIN_BUDGET, most)
        notes.add("raised", "max_tokens")
    budget = min(budget, max(limit // 2, MIN_BUDGET) if budget >= limit else budget)
    if budget >= limit:
        notes.add("dropped", request.name("effort"))
        return limit, Thinking()
    return limit, Thinking({"type": "enabled", "budget_tokens": budget})


# Kept thinking.


def opener(ctx: TranslationContext) -> Callable[[Thought], Block | None]:
    """A function for the block behind a thought that a client keeps under a seal of ours; `None` where that is not this model's."""
    sealer = ctx.sealer

    def opened(thought: Thought) -> Block | None:
        sealed = sealer.own(thought.seal, ctx.upstream_name, ctx.target) if sealer is not None else None
        value: Any = sealed.value if sealed is not None and sealed.origin == API else None
        match value:
            case {"type": "thinking", "signature": str()} | {"type": "redacted_thinking", "data": str()}:
                return {**value}
            case str(signature):
                return {"type": "thinking", "thinking": thought.text, "signature": signature}
        return None

    return opened


def restored(record: ThinkingRecord, texts: Sequence[Block], calls: Sequence[Block]) -> list[Block]:
    """The turn as the model wrote it: thinking blocks between the very texts and calls that they stood between.

    Clients trim texts and leave them out, which changes no place as long as there is one at most. Where the client's turn fits the record
    no longer, thinking comes first. A turn may not end with thinking: there is a call always.
    """
    whole = "".join(block["text"] for block in texts)
    chars = [block["chars"] for block in record.blocks if block["type"] == "text"]
    if len(chars) == 1 and len(whole) < chars[0]:
        chars = [len(whole)]
    count = sum(block["type"] == "tool_use" for block in record.blocks)
    if count == len(calls) and len(whole) in (0, sum(chars)):
        turn = list(_laid_out(record, whole, chars, calls))
        marker = next((block["cache_control"] for block in reversed(texts) if "cache_control" in block), None)
        if marker is not None:
            next(block for block in reversed(turn) if block["type"] == "text")["cache_control"] = marker
    else:
        turn = [*(dict(block) for block in record.blocks if block["type"] in THINKING), *texts, *calls]
    while turn[-1]["type"] in THINKING:
        turn.pop()
    return turn


def _laid_out(record: ThinkingRecord, whole: str, chars: Sequence[int], calls: Sequence[Block]) -> Iterator[Block]:
    start = 0
    sizes, ahead = iter(chars), iter(calls)
    for block in record.blocks:
        if block["type"] == "text":
            end = start + next(sizes)
            text, start = whole[start:end], end
            if text.strip():
                yield text_block(text)
        elif block["type"] == "tool_use":
            yield next(ahead)
        else:
            yield dict(block)


def lacks_thinking(messages: Sequence[Block]) -> bool:
    """Whether the turn that goes on (the results of its calls end the conversation) began without thinking.

    One thought at its start is enough for all its rounds: without interleaving the model thinks no more.
    """
    asked = max(number for number, message in enumerate(messages) if message["role"] == "user" and not _answers_calls(message))
    first = next((message["content"][0] for message in messages[asked:] if message["role"] == "assistant"), None)
    return first is not None and first["type"] not in THINKING


def _answers_calls(message: Block) -> bool:
    return bool(message["content"][0]["type"] == "tool_result")
