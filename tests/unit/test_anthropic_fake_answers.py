"""The imitation's answers: the real API's shapes, read by its official client, with signatures and a prompt cache that work."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, RawMessageStreamEvent

from compat.config.catalog import MessagesFacts
from tests.cases.adapters import adapter
from tests.fakes import anthropic_answers as answers
from tests.fakes.anthropic_answers import AnthropicApi, PromptCache
from tests.fakes.anthropic_rules import violations
from tests.fakes.anthropic_shapes import BINDING_BETA
from tests.fakes.upstream import Answer, FakeUpstream, Request

HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
MARK = {"cache_control": {"type": "ephemeral"}}
TOOLS = [
    {"name": "read", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}, "line": {"type": "integer"}}}},
    {"name": "list", "input_schema": {"type": "object"}},
]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
BOUND, ADAPTIVE, OLD = "claude-fable-5-1", "claude-opus-4-8", "claude-sonnet-4-5"

BLOCKS = {
    "text": [answers.text("Grüße, 世界 🙂, and so on.")],
    "an empty text": [answers.text("")],
    "thinking": [answers.thinking("Let me see what that is."), answers.text()],
    "thinking that isn't shown": [answers.thinking(""), answers.text()],
    "redacted thinking": [answers.redacted_thinking(), answers.text()],
    "calls": [
        answers.text(),
        answers.tool_use("read", {"path": 'a "b" 漢.py', "lines": [1, 2.5, None]}),
        answers.tool_use("list", None, "b"),
    ],
    "a search": [answers.server_tool_use(), answers.web_search_result(), answers.text("Sunny.", [answers.web_citation()])],
}


@pytest.fixture
def claude() -> AnthropicApi:
    return AnthropicApi()


def body(model: str = ADAPTIVE, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 2048, "messages": [{"role": "user", "content": "Hello"}], **fields}


def ask(api: AnthropicApi, asked: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    sent = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return read(
        api(Request("POST", "/v1/messages", {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}, sent, 1))
    )


def read(answer: Answer) -> tuple[int, dict[str, Any]]:
    return answer.status, json.loads(b"".join(step for step in answer.steps if isinstance(step, bytes)))


def replay(asked: dict[str, Any], answered: dict[str, Any], *results: Any) -> dict[str, Any]:
    """The next request: the answer, and results of its calls or a new question."""
    calls = [block["id"] for block in answered["content"] if block["type"] == "tool_use"]
    content = list(results) or [{"type": "tool_result", "tool_use_id": name, "content": "ok"} for name in calls] or "And then?"
    turns = [{"role": "assistant", "content": answered["content"]}, {"role": "user", "content": content}]
    return {**asked, "messages": [*asked["messages"], *turns]}


def content_of(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The blocks that a stream adds up to, by the text of Anthropic's documentation of the events."""
    for start in (event for event in events if event["type"] == "content_block_start"):
        block = copy.deepcopy(start["content_block"])
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta" and event["index"] == start["index"]]
        for name in ("text", "thinking", "signature"):
            if name in block:
                block[name] += "".join(delta.get(name, "") for delta in deltas)
        if written := "".join(delta.get("partial_json", "") for delta in deltas):
            block["input"] = json.loads(written)
        if "citations" in block:
            block["citations"] += [delta["citation"] for delta in deltas if "citation" in delta]
        yield block


# Shapes.


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_whole_and_streamed_answers_are_the_sdks_types_and_say_the_same(blocks: list[dict[str, Any]]) -> None:
    whole, events = answers.message(blocks), answers.stream_events(blocks)
    Message.model_validate(whole)
    for event in events:
        if event["type"] != "ping":
            adapter(RawMessageStreamEvent).validate_python(event)
    assert list(content_of(events)) == whole["content"]
    assert [event["type"] for event in events[:3:2]] == ["message_start", "ping"]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"]
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def test_a_tools_input_comes_in_several_pieces_the_first_one_empty() -> None:
    events = answers.stream_events([answers.tool_use("read", {"path": "src/a.py"})])
    pieces = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert pieces[0] == ""
    assert len(pieces) > 3
    empty = answers.stream_events([answers.tool_use()])
    assert [event["delta"]["partial_json"] for event in empty if event["type"] == "content_block_delta"] == [""]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_are_written_with_name_and_data_lines(end: bytes) -> None:
    written = answers.event_bytes([{"type": "ping"}, answers.error_event()], end)
    lines = written.split(end)
    assert lines[:3] == [b"event: ping", b'data: {"type":"ping"}', b""]
    assert lines[3] == b"event: error"
    assert json.loads(lines[4].removeprefix(b"data: "))["error"] == {"type": "overloaded_error", "message": "Overloaded"}


# The service.


def test_the_official_client_reads_whole_and_streamed_answers_alike() -> None:
    with FakeUpstream(default=answers.respond) as upstream:
        client = anthropic.Anthropic(base_url=upstream.url.removesuffix("/v1"), api_key="k", max_retries=0)
        asked = body("claude-sonnet-4-6", tools=TOOLS, thinking={"type": "adaptive"})
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
        assert [block.type for block in whole.content] == ["thinking", "tool_use", "tool_use"]
        assert streamed.usage.output_tokens == whole.usage.output_tokens
        assert client.models.retrieve(ADAPTIVE).max_tokens == 128_000
        with pytest.raises(anthropic.BadRequestError, match="max_tokens: Input should be"):
            client.messages.create(**{**asked, "max_tokens": -1})
        client.close()


ASKED: list[tuple[dict[str, Any], list[str], str]] = [
    (body(), ["text"], "end_turn"),
    (body("claude-opus-5"), ["thinking", "text"], "end_turn"),
    (body("claude-opus-5", thinking={"type": "disabled"}), ["text"], "end_turn"),
    (body(OLD, thinking={"type": "enabled", "budget_tokens": 1024}), ["thinking", "text"], "end_turn"),
    (body(tools=TOOLS), ["tool_use", "tool_use"], "tool_use"),
    (body(tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True}), ["tool_use"], "tool_use"),
    (body(tools=TOOLS, tool_choice={"type": "tool", "name": "list"}), ["tool_use"], "tool_use"),
    (body(tools=TOOLS, tool_choice={"type": "none"}), ["text"], "end_turn"),
    (body(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}), ["text"], "end_turn"),
    (body(max_tokens=1), ["text"], "max_tokens"),
]


@pytest.mark.parametrize(("asked", "kinds", "reason"), ASKED)
def test_the_answer_fits_the_request(claude: AnthropicApi, asked: dict[str, Any], kinds: list[str], reason: str) -> None:
    status, answered = ask(claude, asked)
    assert status == 200
    assert [block["type"] for block in answered["content"]] == kinds
    assert answered["stop_reason"] == reason
    assert answered["model"] == asked["model"]
    assert violations(replay(asked, answered)) == []


def test_a_result_is_followed_by_text_and_an_id_is_never_given_twice(claude: AnthropicApi) -> None:
    asked = body(tools=TOOLS)
    ids = set()
    for _ in range(3):
        called = ask(claude, asked)[1]
        ids |= {block["id"] for block in called["content"]}
        asked = replay(asked, called)
        said = ask(claude, asked)[1]
        assert [block["type"] for block in said["content"]] == ["text"]
        asked = replay(asked, said)
    assert len(ids) == 6
    assert claude.refusals == []


def test_structured_answers_are_json_of_the_schema(claude: AnthropicApi) -> None:
    answered = ask(claude, body(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}))[1]
    assert json.loads(answered["content"][0]["text"]) == {"name": "a b"}


def test_a_tool_whose_schema_contains_itself_is_called_too(claude: AnthropicApi) -> None:
    schema = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    assert ask(claude, body(tools=[{"name": "tree", "input_schema": schema}]))[1]["stop_reason"] == "tool_use"


REFUSED = [
    (body(temperature=0.5), {}, 400, "invalid_request_error", "`temperature` is deprecated for this model."),
    (b"{", {}, 400, "invalid_request_error", "The request body is not valid JSON"),
    ([], {}, 400, "invalid_request_error", "Input should be an object"),
    (body(), {"x_api_key": ""}, 401, "authentication_error", "x-api-key header is required"),
    (
        body("claude-sonnet-4-6", top_p=1),
        {"anthropic_version": "2026-10-21"},
        400,
        "invalid_request_error",
        "`top_p` is not supported in this API version.",
    ),
    (body(), {"anthropic_version": ""}, 400, "invalid_request_error", "anthropic-version: header is required"),
]


@pytest.mark.parametrize(("asked", "headers", "status", "kind", "words"), REFUSED)
def test_refusals_have_anthropics_shape(
    claude: AnthropicApi, asked: Any, headers: dict[str, str], status: int, kind: str, words: str
) -> None:
    told, document = ask(claude, asked, **headers)
    assert told == status
    assert document == {"type": "error", "error": {"type": kind, "message": words}, "request_id": answers.REQUEST_ID}


# Thinking that comes back.


def thought(claude: AnthropicApi, model: str) -> dict[str, Any]:
    """A request with an answered call in it, thinking included."""
    kind = {"type": "enabled", "budget_tokens": 1024} if model == OLD else {"type": "adaptive", "display": "summarized"}
    asked = body(model, tools=TOOLS, thinking=kind, system="Be brief.")
    return replay(asked, ask(claude, asked)[1])


@pytest.mark.parametrize("model", [OLD, ADAPTIVE, BOUND])
def test_thinking_that_comes_back_unchanged_is_taken_turn_after_turn(claude: AnthropicApi, model: str) -> None:
    asked = thought(claude, model)
    for _ in range(3):
        asked = replay(asked, ask(claude, asked)[1])
    marked = {**asked, "system": [{"type": "text", "text": "Be brief.", **MARK}]}
    assert ask(claude, marked)[0] == 200
    assert claude.refusals == []


def tampered(asked: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = copy.deepcopy(asked)
    changed["messages"][1]["content"][0] |= changes
    return changed


@pytest.mark.parametrize("model", [OLD, ADAPTIVE, BOUND])
@pytest.mark.parametrize(
    "changes", [{"thinking": "Something else."}, {"signature": "abc"}, {"signature": answers.thinking(model="m")["signature"]}]
)
def test_thinking_that_was_changed_is_refused(claude: AnthropicApi, model: str, changes: dict[str, str]) -> None:
    status, refused = ask(claude, tampered(thought(claude, model), **changes))
    assert status == 400
    assert refused["error"]["message"] == "messages.1.content.0: Invalid `signature` in `thinking` block"


def test_thinking_of_another_model_is_refused(claude: AnthropicApi) -> None:
    assert ask(claude, {**thought(claude, ADAPTIVE), "model": "claude-opus-5"})[0] == 400


def test_redacted_thinking_is_verified_too(claude: AnthropicApi) -> None:
    def told(data: str) -> dict[str, Any]:
        return replay(body(), {"content": [{"type": "redacted_thinking", "data": data}, answers.text()]})

    assert ask(claude, told(answers.redacted_thinking(model=ADAPTIVE)["data"]))[0] == 200
    assert ask(claude, told("abc"))[1]["error"]["message"] == "messages.1.content.0: Invalid `data` in `redacted_thinking` block"


CHANGES = {
    "system": ({"system": "Be long."}, "The `system` prompt differs"),
    "tools": ({"tools": TOOLS[::-1]}, "The `tools` differ"),
    "messages": ({}, "The messages before it differ"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_only_bound_thinking_is_refused_behind_another_conversation(claude: AnthropicApi, change: dict[str, Any], words: str) -> None:
    def changed(model: str) -> dict[str, Any]:
        asked = {**copy.deepcopy(thought(claude, model)), **change}
        if not change:
            asked["messages"][0]["content"] += "!"
        return asked

    assert ask(claude, changed(ADAPTIVE))[0] == 200
    status, refused = ask(claude, changed(BOUND))
    assert status == 400
    assert "The block is bound to a different conversation." in refused["error"]["message"]
    assert words in refused["error"]["message"]
    dropping = changed(BOUND)
    dropping["thinking"]["block_binding"] = {"prefix_mismatch_behavior": "drop_block"}
    assert ask(claude, dropping, anthropic_beta=BINDING_BETA)[0] == 200
    assert claude.dropped == ["messages.1.content.0"]


# The prompt cache.

LONG = "word " * 2000


def cached(*words: str, ttl: str | None = None, **fields: Any) -> dict[str, Any]:
    """A conversation whose last block is marked."""
    mark = {"cache_control": {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}}
    turns = [{"role": ("user", "assistant")[number % 2], "content": [{"type": "text", "text": word}]} for number, word in enumerate(words)]
    turns[-1]["content"] = [{**turns[-1]["content"][0], **mark}]
    return {**body(**fields), "messages": turns}


def test_a_session_reads_what_it_wrote() -> None:
    cache = PromptCache()
    first = cache.usage(cached(LONG))
    second = cache.usage(cached(LONG, "Hi.", "Go on."))
    third = cache.usage(cached(LONG, "Hi.", "Go on.", "Yes.", "Go on."))
    assert first["cache_read_input_tokens"] == 0
    assert first["cache_creation_input_tokens"] > 2000
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert third["cache_read_input_tokens"] == second["cache_read_input_tokens"] + second["cache_creation_input_tokens"]
    assert third["input_tokens"] == 0
    assert (cache.hits, len(cache.history)) == (2, 3)


NEXT = cached(LONG, "Hi.", "Go on.")
UNREAD = {
    "another text": cached("Another. " + LONG, "Hi.", "Go on."),
    "a tool more": {**NEXT, "tools": TOOLS},
    "another system prompt": {**NEXT, "system": "Be brief."},
    "another tool choice": {**NEXT, "tool_choice": {"type": "none"}},
    "other thinking": {**NEXT, "thinking": {"type": "adaptive"}},
    "another format": {**NEXT, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "another model": {**NEXT, "model": "claude-opus-5"},
    "no mark": {**NEXT, "messages": [{"role": "user", "content": LONG}]},
    "a mark too far": cached(LONG, *["a"] * 20),
}


@pytest.mark.parametrize("asked", UNREAD.values(), ids=UNREAD)
def test_a_changed_prefix_is_not_read(asked: dict[str, Any]) -> None:
    cache = PromptCache()
    cache.usage(cached(LONG))
    assert cache.usage(asked)["cache_read_input_tokens"] == 0


READ = {
    "its own": cached(LONG),
    "marks elsewhere": {**NEXT, "messages": [*NEXT["messages"][:2], {"role": "user", "content": "Go on."}], **MARK},
    "a mark near enough": cached(LONG, *["a"] * 19),
    "other parameters": {**NEXT, "max_tokens": 9, "stream": True, "stop_sequences": ["END"]},
}


@pytest.mark.parametrize("asked", READ.values(), ids=READ)
def test_an_equal_prefix_is_read(asked: dict[str, Any]) -> None:
    cache = PromptCache()
    written = cache.usage(cached(LONG))["cache_creation_input_tokens"]
    assert cache.usage(asked)["cache_read_input_tokens"] == written
    cache.forget()
    assert cache.usage(asked)["cache_read_input_tokens"] == 0


def test_keys_in_another_order_are_another_prefix() -> None:
    def used(arguments: dict[str, Any]) -> dict[str, Any]:
        return replay(
            cached(LONG), {"content": [answers.tool_use("read", arguments)]}, {"type": "tool_result", "tool_use_id": "toolu_1", **MARK}
        )

    cache = PromptCache()
    cache.usage(used({"a": 1, "b": 2}))
    whole = cache.usage(used({"a": 1, "b": 2}))
    other = cache.usage(used({"b": 2, "a": 1}))
    assert 0 < other["cache_read_input_tokens"] < whole["cache_read_input_tokens"]


def test_a_prefix_below_the_minimum_is_neither_written_nor_read() -> None:
    cache = PromptCache()
    for _ in range(2):
        usage = cache.usage(cached("a" * 400))
        assert (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (0, 0)
        assert usage["input_tokens"] > 100
    assert cache.usage(cached("a" * 400), MessagesFacts(cache_minimum=64))["cache_creation_input_tokens"] > 100


def test_an_hours_writing_is_told_apart() -> None:
    usage = PromptCache().usage(cached(LONG, ttl="1h"))
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": usage["cache_creation_input_tokens"]}
