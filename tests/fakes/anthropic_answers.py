"""Answers in Anthropic's wire API, whole and streamed, and an imitation of the whole service.

    json_answer(message([text("Hello.")]))
    stream_answer(stream_events([thinking("Hm."), tool_use("read_file", {"path": "a.py"})]))

    claude = AnthropicApi()
    with FakeUpstream(default=claude) as upstream: ...
    claude.cache.hits, claude.refusals, claude.dropped

The shapes are those of recorded answers: every event has an `event:` line, the first piece of a tool's input is empty, the usage of
`message_delta` is cumulative. The service is strict about what it's asked: a request that breaks a rule gets a 400 with its first
violation. Else it calls tools where tools are offered and the last message isn't their result, writes JSON where a schema is given,
thinks (signed, and verified when it comes back) where thinking is on, answers whole or streamed as asked, and tells what the prompt
cache would have done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from compat.config.catalog import MessagesFacts
from tests.fakes.anthropic_blocks import (
    MODEL,
    answer_blocks,
    name_of,
    redacted_thinking,
    server_tool_use,
    text,
    thinking,
    tool_use,
    web_citation,
    web_search_result,
)
from tests.fakes.anthropic_cache import CHARS_PER_TOKEN, PromptCache
from tests.fakes.anthropic_conversation import THINKING, Block
from tests.fakes.anthropic_rules import catalog, model_of, violations
from tests.fakes.anthropic_signing import signed, verify_thinking
from tests.fakes.upstream import Answer, Request, Step

__all__ = [
    "AnthropicApi",
    "PromptCache",
    "error_answer",
    "error_document",
    "error_event",
    "event_bytes",
    "json_answer",
    "message",
    "one_event",
    "pieces",
    "redacted_thinking",
    "respond",
    "server_tool_use",
    "sse_answer",
    "stream_answer",
    "stream_events",
    "text",
    "thinking",
    "tool_use",
    "web_citation",
    "web_search_result",
]

VERSIONS = ("2023-06-01", "2026-10-21")
USAGE = {
    "input_tokens": 11,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 7,
    "service_tier": "standard",
    "inference_geo": "not_available",
}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
PIECES = (1, 4, 9, 2, 6)
REQUEST_ID = "req_theirs"
STREAM_HEADERS = (("content-type", "text/event-stream; charset=utf-8"), ("request-id", REQUEST_ID))


# Whole and streamed messages.


def stop_reason_of(blocks: Sequence[Block]) -> str:
    return "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"


def message(
    blocks: Sequence[Block], *, stop_reason: str | None = None, usage: Block | None = None, model: str = MODEL, **rest: Any
) -> dict[str, Any]:
    """A whole answer; the stop reason is guessed from the blocks unless given. `rest` replaces or adds fields."""
    return {
        "id": "msg_theirs",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(blocks),
        "stop_reason": stop_reason or stop_reason_of(blocks),
        "stop_sequence": None,
        "stop_details": None,
        "usage": USAGE if usage is None else usage,
        **rest,
    }


def stream_events(
    blocks: Sequence[Block], *, stop_reason: str | None = None, usage: Block | None = None, model: str = MODEL, **rest: Any
) -> list[dict[str, Any]]:
    """The same answer as events. Their sum is `message(...)` with the same arguments."""
    whole = message(blocks, stop_reason=stop_reason, usage=usage, model=model, **rest)
    late = ("stop_reason", "stop_sequence", "stop_details")
    first = {**whole, "content": [], **dict.fromkeys(late), "usage": {**whole["usage"], "output_tokens": 1}}
    first["usage"].pop("output_tokens_details", None)
    events: list[dict[str, Any]] = [{"type": "message_start", "message": first}]
    for index, block in enumerate(blocks):
        events += _block_events(index, block)
        if index == 0:
            events.insert(2, {"type": "ping"})
    counted = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens", "output_tokens_details")
    sums = {name: whole["usage"][name] for name in counted if name in whole["usage"]}
    events.append({"type": "message_delta", "delta": {name: whole[name] for name in late}, "usage": sums})
    return [*events, {"type": "message_stop"}]


def _block_events(index: int, block: Block) -> Iterator[dict[str, Any]]:
    opened, deltas = _opened(block)
    yield {"type": "content_block_start", "index": index, "content_block": opened}
    yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
    yield {"type": "content_block_stop", "index": index}


def _opened(block: Block) -> tuple[Block, list[Block]]:
    """The block as it starts, and what's added to it."""
    kind = block["type"]
    if kind == "text":
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        deltas += [{"type": "citations_delta", "citation": item} for item in block.get("citations", ())]
        return {"type": "text", "text": "", **({"citations": []} if "citations" in block else {})}, deltas
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        return {**block, "thinking": "", "signature": ""}, [*deltas, {"type": "signature_delta", "signature": block["signature"]}]
    if kind in {"tool_use", "server_tool_use"}:
        written = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces(written))]
    return block, []


def pieces(words: str) -> list[str]:
    """`words` in a few uneven pieces, which split words, escapes and anything else."""
    cuts, place = list[str](), 0
    while place < len(words):
        step = PIECES[len(cuts) % len(PIECES)]
        cuts.append(words[place : place + step])
        place += step
    return cuts


def error_document(kind: str = "overloaded_error", words: str = "Overloaded", **fields: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": words, **fields}, "request_id": REQUEST_ID}


def error_event(kind: str = "overloaded_error", words: str = "Overloaded") -> dict[str, Any]:
    """The event that ends a stream which went wrong after its 200."""
    return error_document(kind, words)


# Bytes and answers of the scripted upstream.


def one_event(event: dict[str, Any], end: bytes = b"\n") -> bytes:
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    return b"event: " + event["type"].encode() + end + b"data: " + data + end + end


def event_bytes(events: Sequence[dict[str, Any]], end: bytes = b"\n") -> bytes:
    return b"".join(one_event(event, end) for event in events)


def sse_answer(*steps: Step, **rest: Any) -> Answer:
    """A stream of such pieces; steps may be `Cut()`, `Sleep(...)` and the like."""
    return Answer(steps, headers=STREAM_HEADERS, **rest)


def stream_answer(events: Sequence[dict[str, Any]], **rest: Any) -> Answer:
    return sse_answer(*(one_event(event) for event in events), **rest)


def json_answer(document: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    body = json.dumps(document).encode()
    return Answer((body,), status, (("content-type", "application/json"), ("request-id", REQUEST_ID), *headers), "length")


def error_answer(status: int, words: str, headers: Sequence[tuple[str, str]] = (), kind: str | None = None) -> Answer:
    return json_answer(error_document(kind or ERROR_TYPES[status], words), status, headers)


# The service.


@dataclass
class AnthropicApi:
    """A responder of the scripted upstream. Mutable: `cache`, `refusals` (violations told so far), `dropped` (paths of dropped thinking).

    `facts` replace what the catalog knows of every model.
    """

    facts: MessagesFacts | None = None
    cache: PromptCache = field(default_factory=PromptCache)
    refusals: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        path = request.path.partition("?")[0]
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not (request.headers.get("x-api-key") or bearer):
            return error_answer(401, "x-api-key header is required")
        version = request.headers.get("anthropic-version", "")
        if version not in VERSIONS:
            return error_answer(
                400, f"anthropic-version: {version!r} is not a valid version" if version else "anthropic-version: header is required"
            )
        if request.method == "POST" and path.endswith("/messages"):
            return self._messages(request)
        if request.method == "GET" and "/models" in path:
            return json_answer(model_document(path.rpartition("/models/")[2]) if "/models/" in path else model_list())
        return error_answer(404, "Not Found")

    def _messages(self, request: Request) -> Answer:
        try:
            body = request.json
        except ValueError:
            return error_answer(400, "The request body is not valid JSON")
        if not isinstance(body, dict):
            return error_answer(400, "Input should be an object")
        betas = [name.strip() for name in request.headers.get("anthropic-beta", "").split(",")]
        problems = violations(body, facts=self.facts, betas=betas)
        if request.headers["anthropic-version"] != VERSIONS[0]:
            problems += [f"`{name}` is not supported in this API version." for name in ("temperature", "top_p", "top_k") if name in body]
        facts = self.facts or (MessagesFacts() if problems else model_of(body["model"]).messages)
        if not problems:
            verdict = verify_thinking(body, facts)
            problems = verdict.violations
            self.dropped += verdict.dropped
        if problems:
            self.refusals += problems
            return error_answer(400, problems[0])
        return self._answer(body, facts)

    def _answer(self, body: dict[str, Any], facts: MessagesFacts) -> Answer:
        blocks = signed(body, answer_blocks(body, facts))
        usage = {**self.cache.usage(body, facts), "output_tokens": _tokens(blocks), "service_tier": "standard"}
        hidden = [block for block in blocks if block["type"] in THINKING]
        if hidden:
            usage["output_tokens_details"] = {"thinking_tokens": _tokens(hidden)}
        rest: dict[str, Any] = {"model": body["model"], "usage": usage, "id": f"msg_{name_of(body)}"}
        if blocks[-1]["type"] == "text" and _tokens(blocks) > body["max_tokens"]:
            blocks[-1] = text(blocks[-1]["text"][: body["max_tokens"] * CHARS_PER_TOKEN])
            usage["output_tokens"] = body["max_tokens"]
            rest["stop_reason"] = "max_tokens"
        if body.get("stream"):
            return stream_answer(stream_events(blocks, **rest))
        return json_answer(message(blocks, **rest))


def respond(request: Request) -> Answer:
    """One answer of a service that remembers nothing."""
    return AnthropicApi()(request)


def model_document(model_id: str) -> dict[str, Any]:
    """What `GET /v1/models/{id}` says."""
    model = model_of(model_id)
    return {
        "type": "model",
        "id": model_id,
        "display_name": model.display_name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": model.context,
        "max_tokens": model.max_output,
    }


def model_list() -> dict[str, Any]:
    """What `GET /v1/models` says."""
    ids = [model.ids["anthropic"] for model in catalog().models.values() if "anthropic" in model.ids]
    return {"data": [model_document(name) for name in ids], "has_more": False, "first_id": ids[0], "last_id": ids[-1]}


def _tokens(blocks: list[Block]) -> int:
    return max(1, len(json.dumps(blocks)) // CHARS_PER_TOKEN)
