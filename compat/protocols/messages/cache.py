"""The prompt-cache planner (optimisation 9): where the breakpoints of a request go.

Anthropic caches a prefix (tools, then system, then messages) up to a block that is marked, at most four blocks may be, and a marker also
reads what was written at most 20 blocks before it. So the client's markers are respected, and completed with what an agent's next turn
needs:

- the end of `system`, or of the tools where there is no system: they stay the same for a whole session
- the end of the last turn, where this call writes
- the end of the turn before it, where the last call wrote: so a turn of more than 20 blocks never loses the cache

A long-lived marker (`ttl: "1h"`) may not follow a short one, so those before it get its life.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from compat.protocols.messages.content import Block

MAX_MARKERS = 4
_UNMARKABLE = frozenset({"thinking", "redacted_thinking"})
CHARS_PER_TOKEN = 4


def plan_cache(tools: Sequence[Block], system: Sequence[Block], messages: Sequence[Block], *, cache_minimum: int, size_chars: int) -> None:
    """Set the markers of a request, in place: the blocks are the translation's own.

    `size_chars` is the request's size: nothing is added to one that is too small to be cached, or that nothing will follow.
    """
    places = [*tools, *system, *_blocks_of(messages)]
    asked = {number: block.pop("cache_control") for number, block in enumerate(places) if "cache_control" in block}
    chosen = dict(asked)
    is_agent = bool(tools) or sum(message["role"] == "user" for message in messages) > 1
    if asked or (is_agent and size_chars >= cache_minimum * CHARS_PER_TOKEN):
        for number in _useful_ends(tools, system, messages):
            chosen.setdefault(number, {"type": "ephemeral"})
    chosen = {number: marker for number, marker in chosen.items() if _is_markable(places[number])}
    for number in _kept(chosen, asked, tools, system, messages):
        places[number]["cache_control"] = chosen[number]
    _order_lives([place for place in places if "cache_control" in place])


def strip_markers(tools: Sequence[Block], system: Sequence[Block], messages: Sequence[Block]) -> int:
    """Take the markers of a request away, in place; how many there were."""
    return sum(block.pop("cache_control", None) is not None for block in (*tools, *system, *_blocks_of(messages)))


def _blocks_of(messages: Sequence[Block]) -> Iterator[Block]:
    for message in messages:
        yield from message["content"]


def _useful_ends(tools: Sequence[Block], system: Sequence[Block], messages: Sequence[Block]) -> list[int]:
    """Numbers of the blocks that are worth a marker, most useful first."""
    ends = []
    number = len(tools) + len(system)
    for message in messages:
        number += len(message["content"])
        if message["role"] == "user":
            ends.append(number - 1)
    head = [len(tools) + len(system) - 1] if tools or system else []
    return [*ends[-1:], *head, *ends[-2:-1]]


def _is_markable(block: Block) -> bool:
    return block.get("type") not in _UNMARKABLE and block.get("text") != ""


def _kept(
    chosen: dict[int, Any], asked: dict[int, Any], tools: Sequence[Block], system: Sequence[Block], messages: Sequence[Block]
) -> list[int]:
    """The four most useful of the chosen: the ends of turns and head, then the client's own, latest first."""
    useful = [number for number in _useful_ends(tools, system, messages) if number in chosen]
    others = sorted((number for number in chosen if number not in useful and number in asked), reverse=True)
    return [*useful, *others][:MAX_MARKERS]


def _order_lives(marked: Sequence[Block]) -> None:
    is_long = False
    for block in reversed(marked):
        is_long = is_long or block["cache_control"].get("ttl") == "1h"
        if is_long and block["cache_control"].get("ttl") != "1h":
            block["cache_control"] = {**block["cache_control"], "ttl": "1h"}
