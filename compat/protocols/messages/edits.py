"""`context_management`: the edits that Anthropic's servers make to a long history before the model reads it, made here for upstreams that
don't make them (platform.claude.com, "Context editing").

    clear_thinking_20251015      thoughts of all but the last turns are left out
    clear_tool_uses_20250919     results of all but the last calls are replaced by a few words, once the prompt is long enough

The words are always the same, so that a history that was cleared stays the same from its beginning on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from compat.protocols.request import Text, Thinking, ToolCall, ToolResult, Turn
from compat.wire.estimate import CHARS_PER_TOKEN

CLEARED = "[The result of this call was cleared to save context.]"
_TRIGGER_TOKENS = 100_000
_KEPT_CALLS = 3
_KEPT_THOUGHTS = 1


def edited(turns: tuple[Turn, ...], management: Any, size_bytes: int) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    """The turns as the model shall read them, and a note for each edit that changed any."""
    edits = management.get("edits") if isinstance(management, dict) else None
    notes: list[str] = []
    for edit in edits if isinstance(edits, list) else ():
        kind = edit.get("type") if isinstance(edit, dict) else None
        perform = _EDITS.get(kind) if isinstance(kind, str) else None
        if perform is None:
            notes.append("dropped=context_management.edits")
            continue
        turns, count = perform(turns, edit, size_bytes)
        if count:
            notes.append(f"cleared={kind}({count})")
    return turns, tuple(notes)


def _amount(field: Any, kind: str, default: int) -> int:
    """What `{"type": kind, "value": N}` says."""
    value = field.get("value") if isinstance(field, dict) and field.get("type") == kind else None
    return value if isinstance(value, int) and value >= 0 else default


def _clear_thinking(turns: tuple[Turn, ...], edit: Mapping[str, Any], _: int) -> tuple[tuple[Turn, ...], int]:
    if edit.get("keep") == "all":
        return turns, 0
    kept = _amount(edit.get("keep"), "thinking_turns", _KEPT_THOUGHTS)
    thoughtful = [number for number, turn in enumerate(turns) if any(isinstance(block, Thinking) for block in turn.blocks)]
    cleared = frozenset(thoughtful[: len(thoughtful) - kept] if kept else thoughtful)
    return tuple(_without_thoughts(turn) if number in cleared else turn for number, turn in enumerate(turns)), len(cleared)


def _without_thoughts(turn: Turn) -> Turn:
    return msgspec.structs.replace(turn, blocks=tuple(block for block in turn.blocks if not isinstance(block, Thinking)))


def _clear_results(turns: tuple[Turn, ...], edit: Mapping[str, Any], size_bytes: int) -> tuple[tuple[Turn, ...], int]:
    trigger = edit.get("trigger")
    calls = [block for turn in turns for block in turn.blocks if isinstance(block, ToolCall)]
    is_long = size_bytes / CHARS_PER_TOKEN > _amount(trigger, "input_tokens", _TRIGGER_TOKENS)
    if isinstance(trigger, dict) and trigger.get("type") == "tool_uses":
        is_long = len(calls) > _amount(trigger, "tool_uses", len(calls))
    excluded = edit.get("exclude_tools")
    spared = frozenset(name for name in excluded if isinstance(name, str)) if isinstance(excluded, list) else frozenset()
    ids = [call.call_id for call in calls if call.name not in spared]
    kept = _amount(edit.get("keep"), "tool_uses", _KEPT_CALLS)
    cleared = frozenset(ids[: len(ids) - kept] if kept else ids) if is_long else frozenset()
    count = sum(_is_cleared(block, cleared) for turn in turns for block in turn.blocks)
    return (tuple(_with_cleared(turn, cleared) for turn in turns), count) if count else (turns, 0)


def _is_cleared(block: object, cleared: frozenset[str]) -> bool:
    return isinstance(block, ToolResult) and block.call_id in cleared


def _with_cleared(turn: Turn, cleared: frozenset[str]) -> Turn:
    if not any(_is_cleared(block, cleared) for block in turn.blocks):
        return turn
    blocks = tuple(
        msgspec.structs.replace(block, blocks=(Text(block.where, CLEARED),), written="")
        if isinstance(block, ToolResult) and block.call_id in cleared
        else block
        for block in turn.blocks
    )
    return msgspec.structs.replace(turn, blocks=blocks)


_Edit = Callable[[tuple[Turn, ...], Mapping[str, Any], int], tuple[tuple[Turn, ...], int]]
_EDITS: Mapping[str, _Edit] = {"clear_thinking_20251015": _clear_thinking, "clear_tool_uses_20250919": _clear_results}
