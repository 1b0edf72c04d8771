"""What Anthropic's answers mean in OpenAI's terms: stop reasons, usage, citations; and whole answers.

Streams use the same functions (`anthropic_stream`), so that a streamed answer equals a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compat import jsonio
from compat.errors import UpstreamBroken
from compat.translate.anthropic_content import Block
from compat.translate.base import Continuation, ThinkingRecord, TranslatedAnswer, TranslationContext
from compat.translate.notes import Notes
from compat.translate.upstream_errors import event_error
from compat.wire.usage import Usage, cost_of

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "pause_turn": "length",
}
PAUSED = "pause_turn"
"""The model has more to say, and is asked to go on: only where that was done often enough is it an end."""


class _Answer(msgspec.Struct):
    """A message as the upstream writes it; blocks stay raw until each is read."""

    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    stop_details: Any = None
    usage: Any = None
    type: str = "message"
    error: Any = None


class _ToolInput(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw(b"{}")


_decode = msgspec.json.Decoder(_Answer).decode
_decode_input = msgspec.json.Decoder(_ToolInput).decode


def translate_answer(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """A whole answer (see `Translator.response`). Errors: any `UpstreamError`."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"The upstream's answer is not a message: {error}.") from error
    if answer.type == "error" or answer.error is not None:
        raise event_error(answer.error, ctx.upstream_name)
    blocks, stop_reason = answer.content, answer.stop_reason
    if blocks is None or stop_reason is None:
        raise UpstreamBroken("The upstream's answer has no content or no stop_reason.")
    notes = Notes()
    before = ctx.continuation or Continuation()
    counted = add_counts(before.counts, read_counts(answer.usage))
    whole = (*before.blocks, *(loaded(block) for block in blocks))
    if stop_reason == PAUSED and (ctx.resumes or not any(_is_said(block) for block in whole)):
        return TranslatedAnswer(b"", usage_of(counted), None, continuation=Continuation(whole, counted))
    reader = BlockReader(ctx, notes)
    for block, raw in zip(whole, (*map(jsonio.encode, before.blocks), *map(bytes, blocks)), strict=True):
        reader.read(block, raw)
    message, finish_reason = reader.message(stop_reason, answer.stop_details)
    usage = usage_of(counted)
    choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    if stop_reason == "refusal":
        choice |= refusal_fields(answer.stop_details)
    completion = {
        "id": ctx.completion_id,
        "object": "chat.completion",
        "created": ctx.created_s,
        "model": ctx.alias,
        "choices": [choice],
        "usage": usage_object(usage, ctx),
    }
    return TranslatedAnswer(jsonio.encode(completion), usage, finish_reason, notes.told(), reader.record())


class BlockReader:
    """Whole content blocks, gathered into one message. Mutable."""

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        self._ctx = ctx
        self._notes = notes
        self._text = ""
        self._reasoning = ""
        self._calls: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._kept = ThinkingKeeper()

    def read(self, block: Any, raw: bytes) -> None:
        """One block, and its text: arguments keep the bytes that the model wrote. `UpstreamBroken` where it is none."""
        match block:
            case {"type": "text"}:
                text = words_of(block, "text")
                self._annotations += annotations_of(block.get("citations"), len(self._text), len(self._text) + len(text), self._notes)
                self._text += text
                self._kept.text(text)
            case {"type": "thinking"}:
                self._reasoning += words_of(block, "thinking")
                self._kept.thinking(block)
            case {"type": "redacted_thinking"}:
                self._kept.thinking(block)
            case {"type": "tool_use", "id": str(call_id), "name": str(name)}:
                self._tool_use(call_id, name, str(bytes(_decode_input(raw).input), "utf-8"))
            case {"type": str(kind)} if kind != "tool_use":
                self._notes.add("left_out", kind)
            case _:
                raise UpstreamBroken("The upstream's answer holds something that is not a content block.")

    def _tool_use(self, call_id: str, name: str, arguments: str) -> None:
        if arguments == "null":
            arguments = "{}"
        if name == self._ctx.memory.answer_tool:
            self._text += arguments
            return
        client_name = self._ctx.memory.client_names.get(name, name)
        self._calls.append({"id": call_id, "type": "function", "function": {"name": client_name, "arguments": arguments}})
        self._kept.tool_use(call_id)

    def message(self, stop_reason: str, stop_details: Any) -> tuple[dict[str, Any], str]:
        """The message and its finish_reason."""
        message: dict[str, Any] = {"role": "assistant", "content": self._text or None, "refusal": None}
        if self._reasoning:
            message["reasoning_content"] = self._reasoning
        if self._calls:
            message["tool_calls"] = self._calls
        if self._annotations:
            message["annotations"] = self._annotations
        if stop_reason == "refusal":
            message["refusal"] = refusal_text(stop_details)
        elif not self._text and not self._calls:
            message["content"] = ""
        return message, finish_reason_of(stop_reason, has_calls=bool(self._calls), notes=self._notes)

    def record(self) -> ThinkingRecord | None:
        """The thinking to be kept."""
        return self._kept.record()


def words_of(block: Mapping[str, Any], key: str) -> str:
    """The text of a block, which some servers leave out where it is empty. `UpstreamBroken` where it is no text."""
    words = block.get(key)
    if words is not None and not isinstance(words, str):
        raise UpstreamBroken("The upstream's answer holds something that is not a content block.")
    return words or ""


class ThinkingKeeper:
    """Gathers the thinking of one turn, with marks for the texts and calls between. Mutable."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._ids: list[str] = []

    def thinking(self, block: Block) -> None:
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
        """The record, if there is thinking that a tool call needs; a block without a signature is none."""
        signed = [block for block in self._blocks if block["type"] != "thinking" or block.get("signature")]
        if not self._ids or all(block["type"] in {"text", "tool_use"} for block in signed):
            return None
        return ThinkingRecord(tuple(self._ids), tuple(signed))


def finish_reason_of(stop_reason: str, *, has_calls: bool, notes: Notes) -> str:
    """Rule 17. A call of the tool that structures an answer is no tool call to the client."""
    known = FINISH_REASONS.get(stop_reason)
    if known is None or stop_reason == PAUSED:
        notes.add("stop_reason", stop_reason)
    if known is None:
        return "tool_calls" if has_calls else "stop"
    return "stop" if known == "tool_calls" and not has_calls else known


def refusal_text(details: Any) -> str:
    """What the client is told of a refusal: the upstream's explanation, else its category."""
    fields = details if isinstance(details, dict) else {}
    explanation, category = fields.get("explanation"), fields.get("category")
    if isinstance(explanation, str) and explanation:
        return explanation
    return f"The model refused to answer ({category})." if isinstance(category, str) and category else "The model refused to answer."


def refusal_fields(details: Any) -> dict[str, Any]:
    """The upstream's own words on a refusal, beside the choice's finish_reason."""
    return {"native_finish_reason": "refusal", "stop_details": details if isinstance(details, dict) else None}


def annotations_of(citations: Any, start: int, end: int, notes: Notes) -> list[dict[str, Any]]:
    """Citations of the web as `url_citation` annotations of `content[start:end]`; those of other sources have no counterpart."""
    found = []
    for citation in citations if isinstance(citations, list) else ():
        url = citation.get("url") if isinstance(citation, dict) else None
        if not isinstance(url, str):
            notes.add("left_out", "citation")
            continue
        title = citation.get("title")
        fields = {"url": url, "title": title if isinstance(title, str) else "", "start_index": start, "end_index": end}
        found.append({"type": "url_citation", "url_citation": fields})
    return found


_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def add_counts(before: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """Counts, added to those of earlier parts of the same answer."""
    return {name: counts.get(name, 0) + before.get(name, 0) for name in {*counts, *before}}


def read_counts(raw: Any) -> dict[str, int]:
    """The counts that a usage object really holds; `null` and odd values are left out."""
    if not isinstance(raw, dict):
        return {}
    found = {name: raw[name] for name in _COUNTS if _is_count(raw.get(name))}
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


def usage_object(usage: Usage, ctx: TranslationContext) -> dict[str, Any]:
    """Usage in both dialects: OpenAI's, and the top-level cache counts that Roo, Cline and older Kilo read; with the cost."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cost_details": {"upstream_inference_cost": cost_of(usage, ctx.model.price)},
    }


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def loaded(text: msgspec.Raw | str) -> Any:
    """Decoded JSON of the upstream. Errors: `UpstreamBroken`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"The upstream sent JSON that is none: {error}.") from error


def _is_said(block: Any) -> bool:
    """Whether the block gives the client anything."""
    kind = block.get("type") if isinstance(block, dict) else None
    return kind == "tool_use" or (kind in {"text", "thinking"} and bool(block.get(kind)))


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
