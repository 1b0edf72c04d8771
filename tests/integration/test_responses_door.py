"""Clients of OpenAI's Responses protocol: their calls come in at `/v1/responses`, go to every kind of upstream, and OpenAI's own SDK reads
the answers."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from compat.config.settings import merge
from tests.cases.messages_client import events_of
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import anthropic_answers, openai_answers
from tests.fakes import responses_answers as answers
from tests.fakes.anthropic_answers import AnthropicApi
from tests.fakes.anthropic_settings import to_claude
from tests.fakes.responses_answers import ResponsesApi
from tests.fakes.responses_items import message, reasoning, text_part
from tests.fakes.responses_settings import to_openai
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request, Until

ALIAS = "any"
HELLO: Any = [{"role": "user", "content": "Say hello."}]
SECRET = {"sealing": {"secrets": ["0123456789abcdef0123456789abcdef"]}}
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
TOOLS: Any = [
    {
        "type": "function",
        "name": name,
        "description": f"Runs {name}.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": False},
        "strict": False,
    }
    for name in ("read_file", "list_files")
]
FAST = {"attempts": 3, "first_wait_s": 0.001, "max_wait_s": 0.002}


class Person(pydantic.BaseModel):
    name: str
    age: int


class Site:
    """A gateway in front of one strict upstream. `refusals` are what that one refused."""

    def __init__(self, start_gateway: Any, kind: str, api: Any, upstream: FakeUpstream) -> None:
        self.kind, self.upstream, self.api = kind, upstream, api
        to = {"chat": to_upstream, "anthropic": to_claude, "responses": to_openai}[kind]
        target = {"chat": "fake/their-model", "anthropic": "claude/claude-sonnet-4-6", "responses": "openai/gpt-6.1-sol"}[kind]
        more = {"upstreams": {"fake": {"wire_api": "chat"}}} if kind == "chat" else {}
        self.settings = merge(to(upstream, **SECRET), {"models": {ALIAS: {"route": [target]}}, **more})
        self.gateway: RunningGateway = start_gateway(self.settings)
        self.client = openai.OpenAI(base_url=self.gateway.url, api_key="sk-any", max_retries=0, timeout=30)

    @property
    def refusals(self) -> list[str]:
        return getattr(self.api, "refusals", [])

    def respond(self, *, stream: bool, **fields: Any) -> Any:
        """The response, gathered by the SDK itself where it is streamed."""
        asked = {"model": ALIAS, "input": HELLO, "store": False, "include": ["reasoning.encrypted_content"], **fields}
        if not stream:
            return self.client.responses.create(**asked)
        with self.client.responses.stream(**asked) as events:
            for _ in events:
                pass
            return events.get_final_response()


@pytest.fixture(params=["chat", "anthropic", "responses"])
def site(request: pytest.FixtureRequest, start_gateway: Any) -> Iterator[Site]:
    api = {"chat": openai_answers.respond, "anthropic": AnthropicApi(), "responses": ResponsesApi()}[request.param]
    with FakeUpstream(default=api) as upstream:
        made = Site(start_gateway, request.param, api, upstream)
        with made.client:
            yield made
        assert made.refusals == []


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def plain(response: Any) -> dict[str, Any]:
    """What an answer says, less what names it."""
    output = [item.model_dump(exclude={"id", "encrypted_content", "parsed_arguments"}, exclude_none=True) for item in response.output]
    for part in (part for item in output for part in item.get("content", ())):
        part.pop("parsed", None)
    return {"output": output, "status": response.status, "usage": response.usage.model_dump(), "model": response.model}


def test_whole_and_streamed_answers_are_equal(site: Site) -> None:
    whole, streamed = (site.respond(stream=stream) for stream in (False, True))
    assert "Hello" in whole.output_text or site.kind == "anthropic"
    assert whole.output_text
    assert plain(whole) == plain(streamed)
    assert whole.id.startswith("resp_")
    assert (whole.status, whole.model, whole.error, whole.incomplete_details) == ("completed", ALIAS, None, None)
    usage = whole.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0
    [first, _] = site.gateway.calls()
    assert (first["endpoint"], first["status"], first["prompt_tokens"]) == ("responses", 200, usage.input_tokens)


@both
def test_a_task_of_several_calls_is_done(site: Site, stream: bool) -> None:
    first = site.respond(stream=stream, tools=TOOLS, instructions="Be brief.")
    calls = [item for item in first.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["read_file", "list_files"][: len(calls)]
    assert calls
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": f"of {call.call_id}"} for call in calls]
    history = [*HELLO, *(item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in first.output), *results]
    if site.kind == "chat":
        site.upstream.script(openai_answers.json_answer(openai_answers.completion("Done.")))
    last = site.respond(stream=False, tools=TOOLS, input=history)
    assert last.output_text
    assert [item for item in last.output if item.type == "function_call"] == []


def test_an_object_of_a_schema_is_read_by_the_sdk(site: Site) -> None:
    response = site.client.responses.parse(model=ALIAS, input=HELLO, text_format=Person)
    assert isinstance(response.output_parsed, Person)


@both
@pytest.mark.parametrize("site", ["chat", "anthropic"], indirect=True)
def test_every_tool_of_codex_comes_back_in_its_own_shape(site: Site, stream: bool) -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
    patch = {"type": "custom", "name": "apply_patch", "description": "Patches.", "format": grammar}
    space = {"type": "namespace", "name": "agents", "description": "", "tools": [{**TOOLS[0], "name": "spawn"}]}
    search = {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": TOOLS[0]["parameters"]}
    offered: Any = [patch, space, search]
    answered = {
        "apply_patch": {"input": "*** Begin Patch\n*** End Patch\n"},
        "spawn": {"path": "a"},
        "tool_search": {"path": "x"},
    }
    site.upstream.script(answered_with(site.kind, answered, stream=stream), site.api)
    response = site.respond(stream=stream, tools=offered)
    found = [item.to_dict() for item in response.output if item.type != "reasoning"]
    assert [item["type"] for item in found] == ["custom_tool_call", "function_call", "tool_search_call"]
    custom, function, searched = found
    assert (custom["name"], custom["input"]) == ("apply_patch", "*** Begin Patch\n*** End Patch\n")
    assert (function["name"], function["namespace"], json.loads(function["arguments"])) == ("spawn", "agents", {"path": "a"})
    assert (searched["execution"], searched["arguments"]) == ("client", {"path": "x"})
    outputs: Any = [
        {"type": "custom_tool_call_output", "call_id": custom["call_id"], "output": [{"type": "input_image", "image_url": PNG}]},
        {"type": "function_call_output", "call_id": function["call_id"], "output": "ok"},
        {"type": "tool_search_output", "call_id": searched["call_id"], "execution": "client", "tools": [TOOLS[0]]},
    ]
    again = site.gateway.http.post(
        f"{site.gateway.url}/responses", json={"model": ALIAS, "input": [*HELLO, *found, *outputs], "tools": offered}, timeout=30
    )
    assert again.status_code == 200, again.text
    sent = site.upstream.requests[-1].json
    names = [tool.get("name") or tool["function"]["name"] for tool in sent["tools"]]
    assert names == ["apply_patch", "tool_search", "spawn", "read_file"]


def answered_with(kind: str, calls: dict[str, Any], *, stream: bool) -> Answer:
    """These calls, in the words of this kind of upstream."""
    if kind == "anthropic":
        blocks = [anthropic_answers.tool_use(name, arguments, f"toolu_{number}") for number, (name, arguments) in enumerate(calls.items())]
        if stream:
            return anthropic_answers.stream_answer(anthropic_answers.stream_events(blocks, stop_reason="tool_use"))
        return anthropic_answers.json_answer(anthropic_answers.message(blocks, stop_reason="tool_use"))
    made: Any = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for number, (name, arguments) in enumerate(calls.items())
    ]
    if not stream:
        return openai_answers.json_answer(openai_answers.completion(None, finish_reason="tool_calls", tool_calls=made))
    chunks = [openai_answers.chunk({"tool_calls": [{"index": number, **call}]}) for number, call in enumerate(made)]
    return openai_answers.stream_answer([*chunks, openai_answers.chunk({}, "tool_calls"), openai_answers.usage_chunk()])


@both
def test_what_claude_thought_goes_back_to_it_byte_for_byte_after_a_restart(start_gateway: Any, stream: bool) -> None:
    claude = AnthropicApi()
    with FakeUpstream(default=claude) as upstream:
        site = Site(start_gateway, "anthropic", claude, upstream)
        asked: Any = {"tools": TOOLS, "reasoning": {"effort": "high", "summary": "auto"}}
        first = site.respond(stream=stream, **asked)
        thoughts = [item for item in first.output if item.type == "reasoning"]
        assert thoughts
        assert all(item.encrypted_content for item in thoughts)
        history = [*HELLO, *(item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in first.output)]
        history += [
            {"type": "function_call_output", "call_id": item.call_id, "output": "ok"}
            for item in first.output
            if item.type == "function_call"
        ]
        other = start_gateway(merge(site.settings, {"vault": {"enabled": False}}))
        answer = other.http.post(f"{other.url}/responses", json={"model": ALIAS, "input": history, **asked}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert "thinking=restored" in answer.headers["x-compat-notes"]
        assert (claude.refusals, claude.dropped) == ([], [])
        turn = upstream.requests[-1].json["messages"][1]["content"]
        assert [block["type"] for block in turn if "thinking" in block["type"]] == ["thinking"] * len(thoughts)
        site.client.close()


def thinker(request: Request) -> Answer:
    """Thinks aloud, and is streamed where that is asked for."""
    if not request.json.get("stream"):
        return openai_answers.json_answer(openai_answers.completion("A", reasoning_content="Hm."))
    deltas: Any = ({"reasoning_content": "Hm."}, {"content": "A"})
    chunks = [*map(openai_answers.chunk, deltas), openai_answers.chunk({}, "stop"), openai_answers.usage_chunk()]
    return openai_answers.stream_answer(chunks)


@both
@pytest.mark.parametrize("summary", [None, "auto"])
def test_what_another_model_thought_goes_back_to_it_and_to_no_other(start_gateway: Any, stream: bool, summary: str | None) -> None:
    with FakeUpstream(default=thinker) as upstream:
        site = Site(start_gateway, "chat", thinker, upstream)
        first = site.respond(stream=stream, reasoning={"summary": summary})
        assert [item.type for item in first.output] == ["reasoning", "message"]
        told = first.output[0].summary if summary else first.output[0].content
        assert [part.text for part in told] == ["Hm."]
        # Codex sends no content back
        history = [*HELLO, {**first.output[0].to_dict(), "content": None}, first.output[1].to_dict(), *HELLO]
        other = start_gateway(merge(site.settings, {"models": {"other": {"route": ["fake/other-model"]}}}))
        for model, thoughts in ((ALIAS, {"reasoning_content": "Hm."}), ("other", {})):
            answer = other.http.post(f"{other.url}/responses", json={"model": model, "input": history}, timeout=30)
            assert answer.status_code == 200, answer.text
            assert upstream.requests[-1].json["messages"][1] == {"role": "assistant", "content": "A", **thoughts}
        site.client.close()


# To an upstream of the same protocol.


def relay(start_gateway: Any, upstream: FakeUpstream, **more: Any) -> RunningGateway:
    return start_gateway(to_openai(upstream, models={ALIAS: {"route": ["openai/gpt-6.1-sol"]}}, **more))


def test_a_call_passes_in_bytes(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = relay(start_gateway, upstream)
    body = b'{ "model": "%s", "input": [ {"role": "user", "content": "Hi", "x": null} ], "new": {"a" : 1.50} }' % ALIAS.encode()
    whole = answers.response([message(text_part("Hi."))])
    upstream.script(answers.json_answer(whole))
    headers = {"content-type": "application/json", "session-id": "s", "x-codex-turn-metadata": "private"}
    answer = gateway.http.post(f"{gateway.url}/responses", data=body, headers=headers, timeout=30)
    assert answer.json() == {**whole, "model": ALIAS}
    [asked] = upstream.requests
    assert asked.body == body.replace(b'"any"', b'"gpt-6.1-sol"')
    assert (asked.path, "session-id" in asked.headers, "x-codex-turn-metadata" in asked.headers) == ("/v1/responses", False, False)


def test_reasoning_of_another_account_is_left_out_once_and_the_call_goes_on(start_gateway: Any) -> None:
    api = ResponsesApi()
    with FakeUpstream(default=api) as upstream:
        gateway = relay(start_gateway, upstream)
        foreign = reasoning("Hm.", seal="gAAAA-of-another-account")
        history = [*HELLO, foreign, message(text_part("A")), *HELLO]
        answer = gateway.http.post(f"{gateway.url}/responses", json={"model": ALIAS, "input": history}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert len(upstream.requests) == 2
        assert "thinking=omitted(1)" in answer.headers["x-compat-notes"]


def test_an_upstream_that_has_only_chats_is_learnt_within_the_call(start_gateway: Any, upstream: FakeUpstream) -> None:
    def chats(request: Request) -> Answer:
        return openai_answers.respond(request) if "chat" in request.path else openai_answers.error_answer(404, "Not Found")

    upstream.default = chats
    gateway = start_gateway(to_upstream(upstream, upstreams={"fake": {"kind": "openai"}}))
    body = {"model": "claude-4-sonnet", "input": "Hi"}
    for _ in range(2):
        answer = gateway.http.post(f"{gateway.url}/responses", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
    assert [request.path for request in upstream.requests][-2:] == ["/v1/chat/completions"] * 2


# Errors and ends.


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/responses", {"model": "nobody", "input": "Hi"}, 400, "model_not_found"),
        ("/responses", {"model": ALIAS, "input": []}, 400, None),
        ("/responses", [], 400, None),
        ("/responses/resp_1/cancel", {}, 404, "response_not_found"),
        ("/responses/resp_1/unknown", {}, 404, "unknown_url"),
    ],
)
def test_our_own_errors_have_this_protocols_shape(site: Site, path: str, body: Any, status: int, code: str | None) -> None:
    answer = site.gateway.http.post(site.gateway.url + path, json=body, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/responses", "/v1/responses/", "/v1/v1/responses", "/openai/v1/responses"])
def test_clients_join_urls_in_odd_ways(site: Site, path: str) -> None:
    answer = site.gateway.http.post(site.gateway.root + path, json={"model": ALIAS, "input": "Hi"}, timeout=30)
    assert answer.status_code == 200, answer.text


def test_an_answer_of_an_upstream_is_needed_only_where_one_stores_it(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_claude(upstream, models={ALIAS: {"route": ["claude/claude-sonnet-4-6"]}}))
    sent = {"model": ALIAS, "input": "Hi", "previous_response_id": "resp_1"}
    answer = gateway.http.post(f"{gateway.url}/responses", json=sent, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "previous_response_not_found")


def test_an_upstream_without_room_is_a_503_that_clients_try_again(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = relay(start_gateway, upstream)
    upstream.script(answers.error_answer(429, "Slow down.", (("retry-after", "3600"),), code="rate_limit_exceeded"))
    answer = gateway.http.post(f"{gateway.url}/responses", json={"model": ALIAS, "input": "Hi"}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "rate_limit_exceeded")
    assert int(answer.headers["retry-after"]) <= 30


def cut_stream(count: int) -> Answer:
    events = answers.stream_events([message(text_part("Hello there, you."))])
    return answers.sse_answer(*map(answers.one_event, events[:count]), Cut())


@pytest.mark.parametrize(
    ("more", "may_rescue"),
    [({"retry": FAST}, True), ({"retry": FAST, "rescue": {"enabled": False}}, False), ({"retry": {"attempts": 1}}, False)],
    ids=["that might be carried on", "without rescue", "without a second attempt"],
)
def test_a_stream_that_breaks_ends_with_one_failure_of_the_same_answer(
    start_gateway: Any, upstream: FakeUpstream, more: dict[str, Any], may_rescue: bool
) -> None:
    gateway = relay(start_gateway, upstream, **more)
    upstream.script(cut_stream(6))
    answer = gateway.http.post(f"{gateway.url}/responses", json={"model": ALIAS, "input": "Hi", "stream": True}, timeout=30)
    events = events_of(answer.content)
    names = [event["type"] for event in events]
    assert names[-1] == "response.failed"
    assert sum(name in ("response.failed", "response.completed", "response.incomplete") for name in names) == 1
    begun, failed = events[0]["response"], events[-1]["response"]
    assert [failed[key] for key in ("id", "created_at", "model")] == [begun["id"], begun["created_at"], ALIAS]
    assert (len(upstream.requests) > 1) is may_rescue
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_an_answer_that_was_cut_is_carried_on_by_another_kind_of_upstream(start_gateway: Any, upstream: FakeUpstream) -> None:
    rest = anthropic_answers.stream_answer(anthropic_answers.stream_events([anthropic_answers.text(" there, you.")]))
    with FakeUpstream(default=rest) as claude:
        route = {ALIAS: {"route": ["openai/gpt-6.1-sol", "claude/claude-sonnet-4-6"]}}
        settings = merge(to_openai(upstream, retry=FAST), to_claude(claude, retry=FAST))
        gateway = start_gateway(merge(settings, {"models": route, **SECRET}))
        upstream.script(cut_stream(6))
        events = openai.OpenAI(base_url=gateway.url, api_key="sk-any", max_retries=0).responses.create(model=ALIAS, input="Hi", stream=True)
        seen = [event.to_dict() for event in events]
    done = [event for event in seen if event["type"] == "response.output_item.done"]
    assert [part["text"] for event in done for part in event["item"]["content"]] == ["Hello there, you."]
    assert seen[-1]["type"] == "response.completed"
    assert seen[-1]["response"]["completed_at"] > 1_700_000_000
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))


def test_a_failure_after_nothing_but_heartbeats_has_an_id_and_a_date(start_gateway: Any, upstream: FakeUpstream) -> None:
    gate = threading.Event()
    upstream.default = Answer([b"{}"], 500, before_head=[Until(gate)])
    gateway = start_gateway(to_upstream(upstream, server={"heartbeat_s": 0.05}))
    body = {"model": "claude-4-sonnet", "input": "Hi", "stream": True}
    with gateway.http.post(f"{gateway.url}/responses", json=body, stream=True, timeout=30) as answer:
        pieces = answer.iter_content(None)
        shown = next(pieces)
        gate.set()
        shown += b"".join(pieces)
    [failed] = events_of(shown[shown.index(b"event:") :])
    assert failed["type"] == "response.failed"
    told = failed["response"]
    assert told["id"].startswith("resp_")
    assert told["created_at"] > 1_700_000_000
    assert told["model"] == "claude-4-sonnet"
