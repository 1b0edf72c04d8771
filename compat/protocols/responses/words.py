"""What the Responses API's answers mean: how they end, token counts, errors, reasoning that is to be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.errors import GatewayError
from compat.protocols.base import ThinkingRecord
from compat.protocols.events import StopReason
from compat.protocols.notes import Notes
from compat.protocols.upstream_errors import event_error
from compat.wire.usage import MAX_TOKENS, Usage

_INCOMPLETE: Mapping[str, StopReason] = {"max_output_tokens": "length", "content_filter": "refusal"}
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("server_is_overloaded", "slow_down"), "overloaded_error"),
    **dict.fromkeys(("insufficient_quota", "usage_not_included", "usage_limit_reached"), "rate_limit_error"),
    **dict.fromkeys(
        (
            "invalid_prompt",
            "bio_policy",
            "cyber_policy",
            "misalignment_policy_violation",
            "data_residency_mismatch",
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "invalid_image_mode",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "image_content_policy_violation",
            "image_file_too_large",
            "image_file_not_found",
            "unsupported_image_media_type",
            "empty_image_file",
            "failed_to_download_image",
        ),
        "invalid_request_error",
    ),
}
"""Codes of errors inside an answer whose type it does not tell; the others are the server's fault, or say what they are."""


def stop_reason_of(status: str, details: Any, *, has_calls: bool, is_refused: bool, notes: Notes) -> StopReason:
    """Why an answer ended, by its status and what it holds. One that is cut short has no calls that could be trusted."""
    if status == "incomplete":
        reason = details.get("reason") if isinstance(details, dict) else None
        known = _INCOMPLETE.get(reason) if isinstance(reason, str) else None
        if known is None:
            notes.add("stop_reason", str(reason or "incomplete"))
        return known or "length"
    if status != "completed":
        notes.add("stop_reason", status)
    return "tool_calls" if has_calls else "refusal" if is_refused else "end"


def answer_error(error: Any, upstream: str) -> GatewayError:
    """The error that ended an answer: of a `response.failed`, an `error` event, or a body."""
    fields = error if isinstance(error, Mapping) else {"message": error}
    if not fields.get("type"):
        fields = {**fields, "type": _TYPES.get(str(fields.get("code")))}
    return event_error(fields, upstream)


def usage_of(raw: Any) -> Usage | None:
    """The counts of a usage object; `None` where there is none. Whatever is garbled counts as 0."""
    if not isinstance(raw, Mapping):
        return None
    read, written = raw.get("input_tokens_details"), raw.get("output_tokens_details")
    return Usage(
        prompt_tokens=_count(raw, "input_tokens"),
        completion_tokens=_count(raw, "output_tokens"),
        cache_read_tokens=_count(read, "cached_tokens"),
        cache_write_tokens=_count(read, "cache_write_tokens"),
        reasoning_tokens=_count(written, "reasoning_tokens"),
    )


def _count(table: Any, key: str) -> int:
    value = table.get(key) if isinstance(table, Mapping) else None
    return value if type(value) is int and 0 < value <= MAX_TOKENS else 0


def sealed_item(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """A reasoning item as it goes back; `None` where it is not sealed. Its summary is for people, and need not."""
    sealed = item.get("encrypted_content")
    if not isinstance(sealed, str) or not sealed:
        return None
    named = {"id": item["id"]} if isinstance(item.get("id"), str) else {}
    return {"type": "reasoning", **named, "summary": [], "encrypted_content": sealed}


class ReasoningKeeper:
    """Gathers the reasoning of one turn, with marks for the texts and calls between. Mutable."""

    def __init__(self) -> None:
        self._blocks: list[Mapping[str, Any]] = []
        self._ids: list[str] = []

    def reasoning(self, item: Mapping[str, Any]) -> None:
        """A finished item."""
        sealed = sealed_item(item)
        if sealed is not None:
            self._blocks.append(sealed)

    def message(self, item: Mapping[str, Any], chars: int) -> None:
        """A finished message of so many characters; its phase goes back as well."""
        phase = item.get("phase")
        self._blocks.append({"type": "text", "chars": chars, **({"phase": phase} if isinstance(phase, str) else {})})

    def call(self, call_id: str) -> None:
        """A tool call."""
        self._ids.append(call_id)
        self._blocks.append({"type": "tool_use", "id": call_id})

    def record(self) -> ThinkingRecord | None:
        """The record, if there is reasoning that led to a tool call."""
        if not self._ids or not any(block["type"] == "reasoning" for block in self._blocks):
            return None
        return ThinkingRecord(tuple(self._ids), tuple(self._blocks))
