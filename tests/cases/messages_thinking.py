"""Requests that ask for thinking: how much, of which type, in whose words (rules 8 and 9)."""

from __future__ import annotations

from typing import Any

from tests.cases.messages import (
    ABSENT,
    FABLE,
    NEWEST,
    OLD,
    OLDEST,
    OPUS,
    OPUS5,
    OPUS45,
    OPUS47,
    SONNET,
    RefusedRow,
    RequestRow,
    chat,
)

BETA = {"anthropic-beta": "thinking-binding-controls-2026-08-01"}
SHOWN = {"type": "adaptive", "display": "summarized"}
BOUND = {**SHOWN, "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
ADAPTIVE = {"type": "adaptive"}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
MORE = {"type": "thinking", "thinking": "And.", "signature": "def"}
HIDDEN = {"type": "redacted_thinking", "data": "xyz"}


def effort(asked: str, model: str, thinking: Any, sent: Any, notes: tuple[str, ...] = (), **fields: Any) -> RequestRow:
    return RequestRow(
        (9,),
        f"{asked} on {model}" + "".join(f" with {name} {value}" for name, value in fields.items()),
        chat(reasoning_effort=asked, **fields),
        {"thinking": thinking, "output_config.effort": sent},
        notes,
        model,
        headers=BETA if model == NEWEST else {},
    )


def budget(asked: str, tokens: int, **fields: Any) -> RequestRow:
    return effort(asked, OLD, {"type": "enabled", "budget_tokens": tokens}, ABSENT, **fields)


OTHER = ("clamped=reasoning_effort",)
EFFORTS = [
    effort("none", SONNET, ABSENT, ABSENT),
    effort("minimal", SONNET, ADAPTIVE, "low"),
    effort("low", SONNET, ADAPTIVE, "low"),
    effort("medium", SONNET, ADAPTIVE, "medium"),
    effort("high", SONNET, ADAPTIVE, "high"),
    effort("xhigh", SONNET, ADAPTIVE, "max", OTHER),
    effort("max", SONNET, ADAPTIVE, "max"),
    effort("xhigh", OPUS47, SHOWN, "xhigh"),
    effort("none", OPUS47, ABSENT, ABSENT),
    effort("none", OPUS5, {"type": "disabled"}, ABSENT),
    effort("high", OPUS5, SHOWN, "high"),
    effort("none", FABLE, SHOWN, "low", OTHER),
    effort("none", NEWEST, BOUND, "low", OTHER),
    effort("max", NEWEST, BOUND, "max"),
    effort("none", OLD, ABSENT, ABSENT),
    effort("none", OLDEST, ABSENT, ABSENT),
    effort("high", OLDEST, ABSENT, ABSENT, ("dropped=reasoning_effort",)),
    budget("minimal", 4096),
    budget("low", 4096),
    budget("medium", 10_000),
    budget("high", 20_000),
    budget("xhigh", 32_000),
    budget("max", 60_000),
    budget("max", 15_000, max_tokens=30_000),
    budget("low", 1024, max_tokens=2048),
    effort("high", OPUS45, {"type": "enabled", "budget_tokens": 20_000}, ABSENT),
    RequestRow(
        (9, 21),
        "a limit that leaves no room for thinking is raised",
        chat(reasoning_effort="low", max_tokens=100),
        {"thinking.budget_tokens": 1024, "max_tokens": 1124},
        ("raised=max_tokens",),
        OLD,
    ),
    RequestRow(
        (9, 21),
        "just enough for the least of budgets",
        chat(reasoning_effort="low", max_tokens=2047),
        {"thinking.budget_tokens": 1535, "max_tokens": 3071},
        ("raised=max_tokens",),
        OLD,
    ),
    RequestRow((9,), "who says nothing gets what the model does by itself", chat(), {"thinking": ABSENT, "output_config": ABSENT}),
    RequestRow((8, 9), "and sees it where it thinks by itself", chat(), {"thinking": SHOWN, "output_config": ABSENT}, model=OPUS5),
    RequestRow((8, 9), "always so", chat(), {"thinking": SHOWN}, model=FABLE),
    RequestRow(
        (9, 11),
        "unless the deployment refused to show it",
        chat(),
        {"thinking": ADAPTIVE},
        model=FABLE,
        refused=frozenset({"thinking.display"}),
    ),
    RequestRow(
        (9, 11),
        "bound blocks are not spoken of where that was refused",
        chat(),
        {"thinking": SHOWN},
        model=NEWEST,
        refused=frozenset({"thinking.block_binding"}),
    ),
    RequestRow(
        (9, 11),
        "thinking that was refused is left out",
        chat(reasoning_effort="high"),
        {"thinking": ABSENT, "output_config": ABSENT},
        ("dropped=reasoning_effort",),
        FABLE,
        refused=frozenset({"thinking"}),
    ),
    RequestRow((9, 11), "even where nothing was asked for", chat(), {"thinking": ABSENT}, model=FABLE, refused=frozenset({"thinking"})),
    RequestRow(
        (9, 11), "none is no loss there", chat(reasoning_effort="none"), {"thinking": ABSENT}, model=FABLE, refused=frozenset({"thinking"})
    ),
    RequestRow(
        (9, 11),
        "where a type of thinking was refused the other one is asked for",
        chat(reasoning_effort="high"),
        {"thinking": {"type": "enabled", "budget_tokens": 20_000}, "output_config": ABSENT},
        refused=frozenset({"thinking.adaptive"}),
    ),
    RequestRow(
        (9, 11),
        "where switching it off was refused there is as little as can be",
        chat(reasoning_effort="none"),
        {"thinking": SHOWN, "output_config.effort": "low"},
        OTHER,
        OPUS5,
        refused=frozenset({"thinking.disabled"}),
    ),
    RequestRow(
        (9, 11),
        "where a level was refused the next one is asked for",
        chat(reasoning_effort="xhigh"),
        {"thinking": SHOWN, "output_config.effort": "max"},
        OTHER,
        OPUS5,
        refused=frozenset({"output_config.effort.xhigh"}),
    ),
    RequestRow(
        (9, 11),
        "effort that was refused is told of",
        chat(reasoning_effort="high"),
        {"thinking": SHOWN, "output_config": ABSENT},
        ("dropped=reasoning_effort",),
        FABLE,
        refused=frozenset({"output_config.effort"}),
    ),
    RequestRow(
        (9, 11),
        "also by the name of what holds it",
        chat(reasoning_effort="high"),
        {"thinking": SHOWN, "output_config": ABSENT},
        ("dropped=reasoning_effort",),
        FABLE,
        refused=frozenset({"output_config"}),
    ),
]


def asked(
    says: str, fields: dict[str, Any], thinking: Any, sent: Any = ABSENT, notes: tuple[str, ...] = (), model: str = SONNET
) -> RequestRow:
    return RequestRow((9,), says, chat(**fields), {"thinking": thinking, "output_config.effort": sent}, notes, model)


SPELLINGS = [
    asked("OpenRouter's effort", {"reasoning": {"effort": "low"}}, ADAPTIVE, "low"),
    asked("OpenRouter's switch", {"reasoning": {"enabled": True}}, ADAPTIVE, "medium"),
    asked("OpenRouter's switch, off", {"reasoning": {"enabled": False, "effort": "high"}}, {"type": "disabled"}, model=OPUS5),
    asked("OpenRouter's effort of none", {"reasoning": {"effort": "none"}}, {"type": "disabled"}, model=OPUS5),
    asked("an effort beside an empty one", {"reasoning": {"effort": None}, "reasoning_effort": "low"}, ADAPTIVE, "low"),
    asked("an empty object", {"reasoning": {}}, ABSENT),
    asked("OpenRouter's budget", {"reasoning": {"max_tokens": 2000}}, {"type": "enabled", "budget_tokens": 2000}, model=OLD),
    asked("a small budget", {"reasoning": {"max_tokens": 5}}, {"type": "enabled", "budget_tokens": 1024}, model=OLD),
    asked("no budget is off", {"reasoning": {"max_tokens": 0}}, {"type": "disabled"}, model=OPUS5),
    asked(
        "a budget is an effort where there are no budgets",
        {"reasoning": {"max_tokens": 10_000}},
        ADAPTIVE,
        "medium",
        ("thinking=adaptive",),
    ),
    asked("a huge budget is the highest", {"reasoning": {"max_tokens": 10**6}}, SHOWN, "max", ("thinking=adaptive",), OPUS),
    asked(
        "more of it is told of",
        {"reasoning": {"effort": "low", "exclude": True, "summary": "auto"}},
        ADAPTIVE,
        "low",
        ("dropped=reasoning.exclude", "dropped=reasoning.summary"),
    ),
    asked(
        "Anthropic's own words",
        {"thinking": {"type": "enabled", "budget_tokens": 3000}},
        {"type": "enabled", "budget_tokens": 3000},
        model=OLD,
    ),
    asked("Anthropic's own words without a budget", {"thinking": {"type": "enabled"}}, SHOWN, "medium", model=OPUS),
    asked("Anthropic's own words for the newer models", {"thinking": {"type": "adaptive"}}, SHOWN, "high", model=OPUS),
    asked("Anthropic's own words for none", {"thinking": {"type": "disabled"}}, {"type": "disabled"}, model=OPUS5),
    asked("an effort beside them counts", {"thinking": {"type": "disabled"}, "reasoning_effort": "low"}, ADAPTIVE, "low"),
    asked("words that nobody knows are told of", {"thinking": {"type": "deep"}}, ABSENT, notes=("dropped=thinking",)),
    asked(
        "a switch that is no object too", {"thinking": True, "reasoning": "high"}, ABSENT, notes=("dropped=reasoning", "dropped=thinking")
    ),
]

REQUESTS = [*EFFORTS, *SPELLINGS]

REFUSED = [
    RefusedRow((9,), "an effort is one of seven", chat(reasoning_effort="huge"), "must be one of none, minimal, low", "reasoning_effort"),
    RefusedRow((9,), "an effort is a word", chat(reasoning_effort=["low"]), "must be one of", "reasoning_effort"),
    RefusedRow((9,), "a budget is a number", chat(reasoning={"max_tokens": "many"}), "whole number", "reasoning"),
    RefusedRow((9,), "a budget is no truth", chat(reasoning={"max_tokens": True}), "whole number", "reasoning"),
    RefusedRow((9,), "a budget is not negative", chat(thinking={"type": "enabled", "budget_tokens": -1}), "whole number", "reasoning"),
]
