"""What Anthropic's answers mean: stop reasons, token counts, thinking that is to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from compat.errors import UpstreamBroken
from compat.protocols.base import ThinkingRecord, TranslationContext
from compat.protocols.events import StopReason
from compat.protocols.notes import Notes
from compat.wire.estimate import estimated_usage
from compat.wire.usage import MAX_TOKENS, Usage

STOP_REASONS: Mapping[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "pause_turn": "length",
}
PAUSED = "pause_turn"
"""The model has more to say, and is asked to go on: only where that was done often enough is it an end."""


def stop_reason_of(theirs: str, *, has_calls: bool, notes: Notes) -> StopReason:
    """Rule 17. A call of the tool that structures an answer is no tool call to the client."""
    known = STOP_REASONS.get(theirs)
    if known is None or theirs == PAUSED:
        notes.add("stop_reason", theirs)
    if known is None:
        return "tool_calls" if has_calls else "end"
    return "end" if known == "tool_calls" and not has_calls else known


def words_of(block: Mapping[str, Any], key: str) -> str:
    """The text of a block, which some servers leave out where it is empty. `UpstreamBroken` where it is no text."""
    words = block.get(key)
    if words is not None and not isinstance(words, str):
        raise UpstreamBroken("The upstream's answer holds something that is not a content block.")
    return words or ""


class ThinkingKeeper:
    """Gathers the thinking of one turn, with marks for the texts and calls between. Mutable."""

    def __init__(self) -> None:
        self._blocks: list[Mapping[str, Any]] = []
        self._ids: list[str] = []

    def thinking(self, block: Mapping[str, Any]) -> None:
        """A finished thinking or redacted block, verbatim."""
        self._blocks.append(dict(block))

    def text(self, text: str) -> None:
        """A finished text."""
        self._blocks.append({"type": "text", "chars": len(text)})

    def tool_use(self, call_id: str) -> None:
        """A tool call."""
        self._ids.append(call_id)
        self._blocks.append({"type": "tool_use", "id": call_id})

    def record(self) -> ThinkingRecord | None:
        """The record, if there is thinking that a tool call needs; a block without a signature is not kept."""
        signed = [block for block in self._blocks if block["type"] != "thinking" or block.get("signature")]
        if not self._ids or all(block["type"] in {"text", "tool_use"} for block in signed):
            return None
        return ThinkingRecord(tuple(self._ids), tuple(signed))


def refusal_text(details: Any) -> str:
    """The client's text on a refusal: the upstream's explanation, else its category."""
    fields = details if isinstance(details, dict) else {}
    explanation, category = fields.get("explanation"), fields.get("category")
    if isinstance(explanation, str) and explanation:
        return explanation
    return f"The model refused to answer ({category})." if isinstance(category, str) and category else "The model refused to answer."


_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def add_counts(before: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """Counts, added to those of earlier parts of the same answer."""
    return {name: counts.get(name, 0) + before.get(name, 0) for name in {*counts, *before}}


def raise_counts(counts: dict[str, int], raw: Any) -> None:
    """Take later counts of the same answer, which are of all of it: none gets smaller."""
    for name, count in read_counts(raw).items():
        counts[name] = max(count, counts.get(name, 0))


def usage_of_part(counts: Mapping[str, int], written: int, ctx: TranslationContext) -> Usage:
    """What an answer has taken that was cut short after so many characters: the prompt's count comes first, the answer's with its end."""
    estimate = estimated_usage(0 if counts else ctx.prompt_tokens(), written)
    if not counts:
        return estimate
    told = usage_of(counts)
    return replace(told, completion_tokens=max(told.completion_tokens, estimate.completion_tokens), is_estimate=True)


def read_counts(raw: Any) -> dict[str, int]:
    """The counts that a usage object really holds; `null` and odd values are left out."""
    if not isinstance(raw, dict):
        return {}
    found = {name: value for name in _COUNTS if type(value := raw.get(name)) is int and 0 <= value <= MAX_TOKENS}
    creation, output = raw.get("cache_creation"), raw.get("output_tokens_details")
    if isinstance(creation, dict) and _is_count(creation.get("ephemeral_1h_input_tokens")):
        found["cache_write_1h"] = creation["ephemeral_1h_input_tokens"]
    if isinstance(output, dict) and _is_count(output.get("thinking_tokens")):
        found["thinking"] = output["thinking_tokens"]
    return found


def usage_of(counts: Mapping[str, int]) -> Usage:
    """Rule 16: the prompt is what was new, what was read from the cache and what was written to it."""
    read, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
    return Usage(
        prompt_tokens=counts.get("input_tokens", 0) + read + written,
        completion_tokens=counts.get("output_tokens", 0),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=counts.get("cache_write_1h", 0),
        reasoning_tokens=counts.get("thinking", 0),
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS


def loaded(text: msgspec.Raw | str) -> Any:
    """Decoded JSON of the upstream. Errors: `UpstreamBroken`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"The upstream sent invalid JSON: {error}.") from error


def carried_blocks(blocks: Sequence[Any]) -> list[Any]:
    """The blocks of a paused turn as they go back: verbatim, less texts and thoughts that the API would refuse."""
    return [block for block in blocks if _is_welcome(block)]


def _is_welcome(block: Any) -> bool:
    match block:
        case {"type": "text"}:
            return bool(words_of(block, "text").strip())
        case {"type": "thinking"}:
            return bool(block.get("signature"))
    return True


def is_said(block: Any) -> bool:
    """Whether the block gives the client anything."""
    kind = block.get("type") if isinstance(block, dict) else None
    return kind == "tool_use" or (kind in {"text", "thinking"} and bool(block.get(kind)))
