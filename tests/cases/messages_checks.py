"""What holds for every translation, whatever its row says: the strict imitation and both SDKs take it, and its input is unchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import ContentBlockParam, MessageCreateParams, TextBlockParam, ToolUnionParam
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from compat.errors import GatewayError
from compat.protocols import TRANSLATORS
from compat.protocols.base import AnswerMemory, StreamTranslator, ThinkingRecord, TranslatedRequest, TranslationContext
from compat.protocols.chat.chunks import DONE
from compat.wire.envelope import Envelope
from tests.cases.adapters import adapter
from tests.cases.messages import ABSENT
from tests.fakes.anthropic_rules import model_of, violations

TRANSLATOR = TRANSLATORS["openai.chat", "anthropic.messages"]


def context(
    model_id: str,
    *,
    records: Mapping[str, ThinkingRecord] | None = None,
    refused: Iterable[str] = (),
    is_stream: bool = False,
    memory: AnswerMemory | None = None,
    **rest: Any,
) -> TranslationContext:
    kept = records or {}
    return TranslationContext(
        alias="claude",
        target=model_id,
        model=model_of(model_id),
        completion_id="chatcmpl-ours",
        created_s=17,
        is_stream=is_stream,
        wants_usage=True,
        upstream_name="fake",
        refused_parameters=frozenset(refused),
        find_thinking=lambda ids: {call_id: kept[call_id] for call_id in ids if call_id in kept},
        memory=memory or AnswerMemory(),
        **rest,
    )


def written(document: Any) -> bytes:
    """JSON as JavaScript writes it: half a character is escaped, all others are themselves."""
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):x}", json.dumps(document, ensure_ascii=False)).encode()


def translated(sent: Mapping[str, Any] | bytes, ctx: TranslationContext) -> TranslatedRequest:
    """The translation, done twice: its input is unchanged, and so is its outcome."""
    body = sent if isinstance(sent, bytes) else written({"model": "claude", **sent})
    envelope = Envelope(body)
    before = (envelope.body, dict(envelope))
    first = TRANSLATOR.request(envelope, ctx)
    assert TRANSLATOR.request(envelope, ctx) == first, "translation may run again"
    assert (envelope.body, dict(envelope)) == before, "the input is unchanged"
    return first


def accepted(request: TranslatedRequest, ctx: TranslationContext) -> dict[str, Any]:
    """The upstream's body, once the strict imitation and Anthropic's own types have taken it."""
    body = json.loads(request.body)
    assert violations(body, ctx.target, betas=request.headers.get("anthropic-beta", "").split(",")) == []
    adapter(MessageCreateParams).validate_python(body)
    for message in body["messages"]:  # iterables of a typed dictionary are read lazily: their items are looked at one by one
        adapter(list[ContentBlockParam]).validate_python(message["content"])
    adapter(list[TextBlockParam]).validate_python(body.get("system", []))
    adapter(list[ToolUnionParam]).validate_python(body.get("tools", []))
    return body


def at(document: Any, path: str) -> Any:
    """The value at a dotted path; `ABSENT` where there is none."""
    for step in path.split("."):
        try:
            document = document[int(step)] if isinstance(document, list) else document[step]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return document


def unmarked(value: Any) -> Any:
    """`value` without its cache markers."""
    if isinstance(value, list):
        return [unmarked(item) for item in value]
    return {key: unmarked(item) for key, item in value.items() if key != "cache_control"} if isinstance(value, dict) else value


@dataclass
class Told:
    """What a client gathers of an answer, streamed or whole. Mutable."""

    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    choice: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] | None = None


def feed(stream: StreamTranslator, pieces: Iterable[bytes]) -> tuple[bytes, GatewayError | None]:
    """All frames of a stream, and the error that ended it."""
    frames: list[bytes] = []
    for piece in pieces:
        frames.append(stream.feed(piece))
        if stream.failure is not None:
            return b"".join(frames), stream.failure
    try:
        frames.append(stream.finish())
    except GatewayError as error:
        return b"".join(frames), error
    return b"".join(frames), None


def chunks_of(frames: bytes) -> list[dict[str, Any]]:
    """The chunks, each of which the `openai` SDK takes, with one identity and a single end mark at most."""
    chunks = []
    assert frames.count(DONE) <= 1
    for frame in frames.removesuffix(DONE).split(b"\n\n")[:-1]:
        assert frame.startswith(b"data: {"), frame
        chunk = json.loads(frame[6:])
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert (chunk["id"], chunk["object"], chunk["created"], chunk["model"]) == ("chatcmpl-ours", "chat.completion.chunk", 17, "claude")
        chunks.append(chunk)
    return chunks


def told_by_chunks(chunks: Iterable[dict[str, Any]]) -> Told:
    """Gathered as a client does: by the index of a tool call, the first delta of which names it."""
    told = Told()
    for number, chunk in enumerate(chunks):
        assert told.usage is None, "usage is last"
        told.usage = chunk.get("usage")
        for choice in chunk["choices"]:
            assert told.finish_reason is None, "nothing follows the end of the answer"
            _add_delta(told, choice["delta"], is_first=number == 0)
            told.finish_reason = choice["finish_reason"]
            told.choice |= {key: value for key, value in choice.items() if key not in {"index", "delta", "finish_reason"}}
    return told


def _add_delta(told: Told, delta: Mapping[str, Any], *, is_first: bool) -> None:
    assert ("role" in delta) == is_first, "the role is in the first delta"
    told.content += delta.get("content") or ""
    told.reasoning += delta.get("reasoning_content") or ""
    told.refusal += delta.get("refusal") or ""
    told.annotations += delta.get("annotations") or []
    for piece in delta.get("tool_calls", ()):
        if piece["index"] == len(told.calls):
            assert piece["function"]["arguments"] == "", "no arguments in the first delta"
            told.calls.append({"id": piece["id"], "type": piece["type"], "function": dict(piece["function"])})
        else:
            assert set(piece) == {"index", "function"}, "only arguments in the next deltas"
            assert set(piece["function"]) == {"arguments"}
            told.calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]


def told_by_completion(completion: dict[str, Any]) -> Told:
    """The same of a whole answer, which the `openai` SDK takes."""
    ChatCompletion.model_validate(completion, strict=True)
    (choice,) = completion["choices"]
    message = choice["message"]
    assert message.get("tool_calls") != [], "an empty list of calls is none"
    return Told(
        message["content"] or "",
        message.get("reasoning_content", ""),
        message["refusal"] or "",
        message.get("tool_calls", []),
        message.get("annotations", []),
        choice["finish_reason"],
        {key: value for key, value in choice.items() if key not in {"index", "message", "logprobs", "finish_reason"}},
        completion["usage"],
    )
