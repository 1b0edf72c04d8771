"""The imitation's answers: the real API's shapes, read by its official client, with seals and a prompt cache that work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from tests.cases.adapters import adapter
from tests.fakes import responses_answers as answers
from tests.fakes import responses_items as items
from tests.fakes.responses_agent import AgentApi
from tests.fakes.responses_answers import ResponsesApi
from tests.fakes.responses_rules import CALLS
from tests.fakes.upstream import Answer, FakeUpstream, Request

SOL, PLAIN, OLD = "gpt-6.1-sol", "gpt-4.1", "gpt-5.4"
TOOLS = [
    {"type": "function", "name": "read", "strict": False, "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}},
    {"type": "custom", "name": "patch"},
]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
SEALING: dict[str, Any] = {"store": False, "include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}}

ITEMS = {
    "words": [items.message(items.text_part("Grüße, 世界 🙂, and so on."))],
    "no words": [items.message(items.text_part(""))],
    "reasoning": [items.reasoning("Let me see what that is.", "Now I know."), items.message()],
    "reasoning that isn't shown": [items.reasoning(), items.message()],
    "reasoning in its own words": [items.open_reasoning(), items.message()],
    "calls": [
        items.message(phase="commentary"),
        items.function_call("read", '{"path": "a \\"b\\" 漢.py", "lines": [1, 2.5, null]}'),
        items.custom_call(call_id="call_2"),
    ],
    "a refusal": [items.message(items.refusal_part())],
    "a search": [items.web_search(), items.message(items.text_part("Sunny.", [items.url_citation()]))],
}
ENDS = {"completed": answers.response, "incomplete": answers.incomplete}


@pytest.fixture
def sol() -> ResponsesApi:
    return ResponsesApi()


def body(model: str = SOL, **fields: Any) -> dict[str, Any]:
    return {"model": model, "input": [{"role": "user", "content": "Hello"}], **fields}


def ask(api: ResponsesApi, asked: Any, path: str = "/v1/responses", key: str = "sk-ours-1") -> tuple[int, dict[str, Any]]:
    sent = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return read(api(Request("POST", path, {"authorization": f"Bearer {key}"} if key else {}, sent, 1)))


def read(answer: Answer) -> tuple[int, dict[str, Any]]:
    return answer.status, json.loads(b"".join(step for step in answer.steps if isinstance(step, bytes)))


def replay(asked: dict[str, Any], answered: dict[str, Any], *more: Any) -> dict[str, Any]:
    """The next request: the answer, and outputs of its calls or a new question."""
    calls = [item for item in answered["output"] if item["type"] in CALLS]
    results = [{"type": CALLS[item["type"]], "call_id": item["call_id"], "output": "ok"} for item in calls]
    return {**asked, "input": [*asked["input"], *answered["output"], *(results or more or [{"role": "user", "content": "And then?"}])]}


def whole_items(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the deltas of each item add up to, by the keys of the items that they belong to."""
    for added in (event for event in events if event["type"] == "response.output_item.added"):
        mine = [event for event in events if event.get("item_id") == added["item"]["id"] and event["type"].endswith(".delta")]
        yield {"id": added["item"]["id"], "said": "".join(event["delta"] for event in mine)}


def words_in(item: dict[str, Any]) -> str:
    parts = [*item.get("summary", ()), *item.get("content", ())]
    said = "".join(part.get("text", part.get("refusal", "")) for part in parts)
    return said + item.get("arguments", "") + item.get("input", "")


# Shapes.


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("given", ITEMS.values(), ids=ITEMS)
def test_whole_and_streamed_answers_are_the_sdks_types_and_say_the_same(given: list[dict[str, Any]], end: str) -> None:
    whole = ENDS[end](given)
    events = answers.events_of(whole)
    Response.model_validate(whole)
    for event in events:
        adapter(ResponseStreamEvent).validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1] == {"type": f"response.{end}", "response": whole, "sequence_number": len(events) - 1}
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == whole["output"]
    assert list(whole_items(events)) == [{"id": item["id"], "said": words_in(item)} for item in whole["output"]]


def test_a_seal_is_complete_at_the_items_end_only() -> None:
    events = answers.stream_events([items.reasoning("Hm."), items.message()])
    added, done = (next(event for event in events if event["type"] == f"response.output_item.{name}") for name in ("added", "done"))
    assert done["item"]["encrypted_content"].startswith(added["item"]["encrypted_content"])
    assert done["item"]["encrypted_content"] != added["item"]["encrypted_content"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_are_written_with_name_and_data_lines(end: bytes) -> None:
    lines = answers.event_bytes([answers.error_event()], end).split(end)
    assert lines[0] == b"event: error"
    assert json.loads(lines[1].removeprefix(b"data: "))["code"] == "server_error"


def test_a_failure_is_the_sdks_type() -> None:
    failed = answers.failed("rate_limit_exceeded", "Try again in 1.5s.")
    Response.model_validate(failed)
    assert answers.events_of(failed)[-1]["type"] == "response.failed"


# The service.


@pytest.mark.parametrize("asked", [{}, {"tools": TOOLS}, {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}}])
def test_the_official_client_reads_whole_and_streamed_answers_alike(asked: dict[str, Any]) -> None:
    with FakeUpstream(default=answers.respond) as upstream, openai.OpenAI(base_url=upstream.url, api_key="sk-ours-1") as client:
        whole = client.responses.create(**body(**SEALING, **asked))
        with client.responses.stream(**body(**SEALING, **asked)) as stream:
            for _ in stream:
                pass
            streamed = stream.get_final_response()
    assert [item.type for item in whole.output] == [item.type for item in streamed.output]
    assert [item.model_dump(exclude={"parsed_arguments", "content"}) for item in streamed.output] == [
        item.model_dump(exclude={"content"}) for item in whole.output
    ]
    assert streamed.output_text == whole.output_text
    assert streamed.usage == whole.usage


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ({}, ["reasoning", "message"]),
        ({"reasoning": {"effort": "none"}}, ["message"]),
        ({"model": PLAIN}, ["message"]),
        ({"tools": TOOLS}, ["reasoning", "function_call", "custom_tool_call"]),
        ({"tools": TOOLS, "parallel_tool_calls": False}, ["reasoning", "function_call"]),
        ({"tools": TOOLS, "tool_choice": "none"}, ["reasoning", "message"]),
        ({"tools": TOOLS, "tool_choice": {"type": "custom", "name": "patch"}}, ["reasoning", "custom_tool_call"]),
        ({"tools": [{**TOOLS[0], "defer_loading": True}]}, ["reasoning", "message"]),
    ],
)
def test_what_is_asked_for_is_answered(sol: ResponsesApi, asked: dict[str, Any], kinds: list[str]) -> None:
    status, answered = ask(sol, {**body(), **asked})
    assert status == 200, answered
    assert [item["type"] for item in answered["output"]] == kinds


def test_reasoning_is_sealed_and_summarised_where_that_is_asked_for(sol: ResponsesApi) -> None:
    assert set(ask(sol, body())[1]["output"][0]) == {"id", "type", "summary"}
    item = ask(sol, body(**SEALING))[1]["output"][0]
    assert item["summary"][0]["text"] == "Let me see what is asked."
    assert item["encrypted_content"].startswith("gAAAA")


def test_a_session_goes_on_with_what_was_answered(sol: ResponsesApi) -> None:
    asked = body(tools=TOOLS, **SEALING)
    for _ in range(3):
        status, answered = ask(sol, asked)
        assert status == 200, answered
        asked = replay(asked, answered)
    assert (sol.refusals, sol.forgotten, sol.rewritten) == ([], [], [])


def test_what_is_forgotten_and_rewritten_is_told(sol: ResponsesApi) -> None:
    asked = body(tools=[{"type": "function", "name": "read", "parameters": SCHEMA}], **SEALING)
    answered = ask(sol, asked)[1]
    call = next(item for item in answered["output"] if item["type"] == "function_call")
    bare = {name: call[name] for name in ("type", "call_id", "name", "arguments")}
    assert ask(sol, replay(asked, {"output": [bare]}))[0] == 200
    assert sol.forgotten == [call["call_id"]]
    assert sol.rewritten == ["read", "read"]
    status, refused = ask(sol, replay(asked, {"output": [call]}))
    assert status == 400
    assert "without its required 'reasoning' item" in refused["error"]["message"]
    assert sol.refusals == [refused["error"]["message"]]


@pytest.mark.parametrize(
    ("key", "model", "words"),
    [
        ("sk-theirs-1", SOL, "organization_id did not match"),
        ("sk-ours-1", OLD, "another model"),
        ("sk-ours-2", "gpt-6.1-terra", ""),
    ],
)
def test_only_its_account_and_family_can_read_a_seal(sol: ResponsesApi, key: str, model: str, words: str) -> None:
    asked = body(**SEALING)
    answered = ask(sol, asked)[1]
    status, refused = ask(sol, {**replay(asked, answered), "model": model}, key=key)
    assert status == (400 if words else 200)
    if words:
        assert refused["error"]["code"] == "invalid_encrypted_content"
        assert words in refused["error"]["message"]


def test_an_answer_ends_at_its_limit(sol: ResponsesApi) -> None:
    asked = body(max_output_tokens=16, **SEALING)
    answered = ask(sol, asked)[1]
    assert (answered["status"], answered["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answered["usage"]["output_tokens"] == 16
    assert answered["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize(
    ("asked", "path", "status"),
    [
        (b"{", "/v1/responses", 400),
        (b"[]", "/v1/responses", 400),
        (body(), "/v1/elsewhere", 404),
        (body(n=1), "/v1/responses", 400),
        ({"model": SOL, "messages": [], "tools": [{"type": "function"}]}, "/v1/chat/completions", 400),
        ({"model": SOL, "messages": [{"role": "user", "content": "Hi"}]}, "/v1/chat/completions", 200),
        ({**body(), "input": [{"type": "item_reference", "id": "msg_1"}]}, "/v1/responses", 404),
    ],
)
def test_each_door_says_what_it_does_not_take(sol: ResponsesApi, asked: Any, path: str, status: int) -> None:
    got, told = ask(sol, asked, path)
    assert got == status, told
    assert bool(sol.chat_refusals) == (path.endswith("completions") and status == 400)


def test_a_key_is_needed_and_the_models_are_listed(sol: ResponsesApi) -> None:
    assert ask(sol, body(), key="")[0] == 401
    listed = sol(Request("GET", "/v1/models", {"authorization": "Bearer sk-ours-1"}, b"", 1))
    assert read(listed)[1]["data"][0]["id"] == SOL


# The cache.


def long_body(model: str = SOL, **fields: Any) -> dict[str, Any]:
    return {"model": model, "input": [{"role": "developer", "content": "a" * 8000}, {"role": "user", "content": "Hi"}], **fields}


def test_a_longer_history_reads_what_the_shorter_one_wrote(sol: ResponsesApi) -> None:
    asked = long_body(**SEALING)
    answered = ask(sol, asked)[1]
    first = answered["usage"]
    assert first["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": first["input_tokens"]}
    second = ask(sol, replay(asked, answered))[1]["usage"]
    assert second["input_tokens_details"]["cached_tokens"] == first["input_tokens"]
    assert sol.cache.hits == 1
    sol.cache.forget()
    assert ask(sol, asked)[1]["usage"]["input_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize("model", [SOL, OLD])
def test_breakpoints_and_older_models_keep_a_prefix_for_other_questions(sol: ResponsesApi, model: str) -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}} if model == SOL else {}
    developer = {"role": "developer", "content": [{"type": "input_text", "text": "a" * 8000, **mark}]}
    for question in ("Hi", "Ho"):
        usage = ask(sol, {"model": model, "input": [developer, {"role": "user", "content": question}]})[1]["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] > 2000
    assert (usage["input_tokens_details"]["cache_write_tokens"] > 0) == (model == SOL)


@pytest.mark.parametrize("change", [{"prompt_cache_key": "b"}, {"prompt_cache_options": {"mode": "explicit"}}, {"model": "gpt-6.2-sol"}])
def test_another_key_mode_or_model_finds_nothing(sol: ResponsesApi, change: dict[str, Any]) -> None:
    asked = long_body(prompt_cache_key="a", **({"prompt_cache_options": {"mode": "explicit"}} if "prompt_cache_options" in change else {}))
    ask(sol, asked)
    assert ask(sol, {**asked, **change})[1]["usage"]["input_tokens_details"]["cached_tokens"] == 0


# The agent.


def test_the_agent_works_through_a_task() -> None:
    agent = AgentApi(rounds=4)
    asked = body(tools=TOOLS, **SEALING)
    for _ in range(5):
        status, answered = ask(agent, asked)
        assert status == 200, answered
        asked = replay(asked, answered)
    kinds = [[item["type"] for item in answer] for answer in agent.answers]
    assert [sum(kind in CALLS for kind in turn) for turn in kinds] == [1, 1, 2, 1, 0]
    assert kinds[2][:3] == ["reasoning", "message", "reasoning"]
    assert answered["output"][-1]["content"][0]["text"] == "Task done after 4 rounds."
    assert agent.thoughtful_calls == 4
    assert (agent.refusals, agent.forgotten) == ([], [])
    assert ask(agent, asked)[1]["output"][-1]["type"] in CALLS
