"""Answers in OpenAI's Responses API, whole and streamed, and an imitation of the whole service.

    json_answer(response([message(text_part("Hello."))]))
    stream_answer(stream_events([reasoning("Hm."), function_call("read_file", '{"path": "a.py"}')]))

    openai = ResponsesApi()
    with FakeUpstream(default=openai) as upstream: ...
    openai.refusals, openai.forgotten, openai.cache.hits

The shapes are those of recorded answers: every event has an `event:` line and a sequence number, `.done` events repeat what the deltas
said, the seal of a reasoning item is complete only in its `output_item.done`. The service is strict about what it's asked: a request that
breaks a rule gets the error of its first violation. Else it calls tools where tools are offered and the last item isn't their result,
writes JSON where a schema is given, reasons (sealed, and verified when it comes back) as its models do, answers whole or streamed as asked,
and tells what the prompt cache would have done. Chat Completions are there too, and refuse function tools beside reasoning.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import openai_answers
from tests.fakes.responses_cache import CHARS_PER_TOKEN, ResponsesCache
from tests.fakes.responses_checks import Problem
from tests.fakes.responses_items import MODEL, answer_items, item_events, text_part
from tests.fakes.responses_models import facts_of
from tests.fakes.responses_rules import CALLS, Item, chat_violations, effort_of, forgotten_reasoning, items_of, violations
from tests.fakes.responses_sealing import account_of
from tests.fakes.upstream import Answer, Request, Step

USAGE = {
    "input_tokens": 19,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 5},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 26,
}
STREAM_HEADERS = (("content-type", "text/event-stream; charset=utf-8"), ("x-request-id", "req_theirs"))


# Whole and streamed answers.


def response(
    items: Sequence[Item], *, status: str = "completed", usage: Item | None = None, model: str = MODEL, **rest: Any
) -> dict[str, Any]:
    """A whole answer. `rest` replaces or adds fields."""
    return {
        "id": "resp_theirs",
        "object": "response",
        "created_at": 1_700_000_000,
        "completed_at": 1_700_000_001 if status == "completed" else None,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": model,
        "output": list(items),
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": "medium", "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": USAGE if usage is None else usage,
        "user": None,
        **rest,
    }


def incomplete(items: Sequence[Item], reason: str = "max_output_tokens", **rest: Any) -> dict[str, Any]:
    """An answer that was cut short."""
    return response(items, status="incomplete", incomplete_details={"reason": reason}, **rest)


def failed(code: str = "server_error", words: str = "The server had an error.", items: Sequence[Item] = ()) -> dict[str, Any]:
    return {**response(items, status="failed"), "error": {"code": code, "message": words}, "usage": None}


def events_of(whole: Item) -> list[dict[str, Any]]:
    """The same answer as events, numbered. Their sum is `whole`."""
    late = dict.fromkeys(("completed_at", "usage", "error", "incomplete_details"))
    begun = {**whole, **late, "status": "in_progress", "output": []}
    events: list[dict[str, Any]] = [{"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")]
    for index, item in enumerate(whole["output"]):
        events += item_events(index, item)
    return numbered([*events, {"type": f"response.{whole['status']}", "response": whole}])


def stream_events(items: Sequence[Item], **rest: Any) -> list[dict[str, Any]]:
    return events_of(response(items, **rest))


def numbered(events: Sequence[Item]) -> list[dict[str, Any]]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def error_document(words: str, *, param: str | None = None, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": words, "type": kind, "param": param, "code": code}}


def error_event(code: str = "server_error", words: str = "The server had an error.", number: int = 2) -> dict[str, Any]:
    """The event that ends a stream which went wrong after its 200."""
    return {"type": "error", "code": code, "message": words, "param": None, "sequence_number": number}


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
    return Answer((body,), status, (("content-type", "application/json"), ("x-request-id", "req_theirs"), *headers), "length")


def error_answer(status: int, words: str, headers: Sequence[tuple[str, str]] = (), **fields: Any) -> Answer:
    return json_answer(error_document(words, **fields), status, headers)


def problem_answer(problem: Problem) -> Answer:
    return error_answer(problem.status, problem.words, param=problem.param, code=problem.code)


# The service.


@dataclass
class ResponsesApi:
    """A responder of the scripted upstream. Mutable: `cache`, `refusals` (words so far), `chat_refusals` (those of Chat Completions),
    `forgotten` (calls whose reasoning was not sent back), `rewritten` (names of tools whose schema was made strict unasked)."""

    cache: ResponsesCache = field(default_factory=ResponsesCache)
    refusals: list[str] = field(default_factory=list)
    chat_refusals: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    _needs: dict[str, str] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        path = request.path.partition("?")[0]
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not key:
            return error_answer(401, "Missing bearer authentication in header")
        if request.method == "GET" and path.endswith("/models"):
            return json_answer({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "openai"}]})
        if request.method != "POST" or not path.endswith(("/responses", "/chat/completions")):
            return error_answer(404, f"Invalid URL ({request.method} {path})")
        try:
            body = request.json
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return error_answer(400, "We could not parse the JSON body of your request.")
        return self._chat(request, body) if path.endswith("/chat/completions") else self._respond(body, account_of(key))

    def _chat(self, request: Request, body: dict[str, Any]) -> Answer:
        problems = chat_violations(body)
        if problems:
            self.chat_refusals.append(problems[0].words)
            return problem_answer(problems[0])
        return openai_answers.respond(request)

    def _respond(self, body: dict[str, Any], account: str) -> Answer:
        problems = violations(body, account=account, needs=self._needs)
        if problems:
            self.refusals += [problem.words for problem in problems]
            return problem_answer(problems[0])
        self.forgotten += forgotten_reasoning(body, self._needs)
        self.rewritten += [tool["name"] for tool in body.get("tools") or () if tool["type"] == "function" and tool.get("strict") is None]
        effort = effort_of(body, facts_of(body["model"]))
        return self.answer(body, self.remembered(self.items(body, effort, account)))

    def items(self, body: dict[str, Any], effort: str, account: str) -> list[Item]:
        """What is answered. A conversation that is to be made short becomes one item."""
        last = items_of(body)[-1:]
        if last and last[0].get("type") == "compaction_trigger":
            return [{"id": "cmp_theirs", "type": "compaction", "encrypted_content": "gAAAAASHORT"}]
        return answer_items(body, effort, account)

    def remembered(self, items: list[Item]) -> list[Item]:
        """The items, and which of them follow from which reasoning."""
        source = ""
        for item in items:
            if item["type"] == "reasoning":
                source = item["id"]
            elif source:
                self._needs[item["id"]] = source
                if item["type"] in CALLS:
                    self._needs[item["call_id"]] = source
        return items

    def answer(self, body: dict[str, Any], items: list[Item]) -> Answer:
        """These items, whole or streamed, as much of them as may be."""
        spent = {"output_tokens": tokens(items), "output_tokens_details": {"reasoning_tokens": tokens_of_reasoning(items)}}
        usage = {**self.cache.usage(body), **spent}
        limit = body.get("max_output_tokens")
        words_of = {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})}
        rest: dict[str, Any] = {"model": body["model"], "max_output_tokens": limit, "text": words_of}
        if limit is not None and spent["output_tokens"] > limit and items[-1]["type"] == "message":
            words = items[-1]["content"][0]["text"][: limit * CHARS_PER_TOKEN]
            items = [*items[:-1], {**items[-1], "status": "incomplete", "content": [text_part(words)]}]
            usage["output_tokens"] = limit
            rest |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]
        whole = response(items, usage=usage, **rest)
        return stream_answer(events_of(whole)) if body.get("stream") else json_answer(whole)


def respond(request: Request) -> Answer:
    """One answer of a service that remembers nothing."""
    return ResponsesApi()(request)


def tokens(items: Sequence[Item]) -> int:
    return max(1, len(json.dumps(items)) // CHARS_PER_TOKEN)


def tokens_of_reasoning(items: Sequence[Item]) -> int:
    hidden = [item for item in items if item["type"] == "reasoning"]
    return tokens(hidden) if hidden else 0
