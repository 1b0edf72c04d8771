"""The official `openai` SDK in front of an upstream that speaks Anthropic's wire API: answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers as answers
from tests.fakes.anthropic_settings import ALIAS, KEY, to_claude
from tests.fakes.upstream import FakeUpstream

HELLO: Any = [{"role": "user", "content": "Say hello."}]
WITH_USAGE: Any = {"include_usage": True}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
PDF = base64.b64encode(b"%PDF-1.7\n" + bytes(16)).decode()
PRICES = {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}
COST = (11 * PRICES["input"] + 3 * PRICES["cache_read"] + 5 * PRICES["cache_write"] + 7 * PRICES["output"]) / 1e6
"""Of `answers.USAGE` at the price of claude-sonnet-4-6."""


class Person(pydantic.BaseModel):
    name: str
    age: int


def function(name: str, **properties: str) -> Any:
    schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"Runs {name}.", "parameters": schema}}


TOOLS = [function("read_file", path="string"), function("list_files")]


@pytest.fixture
def claude() -> answers.AnthropicApi:
    return answers.AnthropicApi()


@pytest.fixture
def upstream(claude: answers.AnthropicApi) -> Iterator[FakeUpstream]:
    with FakeUpstream(default=claude) as running:
        yield running


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_claude(upstream))


def client_of(gateway: RunningGateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key="sk-any", max_retries=0, timeout=30)


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with client_of(gateway) as client:
        yield client


def complete(client: openai.OpenAI, stream: bool, **rest: Any) -> Any:
    """The completion, gathered by the SDK itself where it is streamed."""
    options = {"model": ALIAS, "messages": HELLO, **rest}
    if not stream:
        return client.chat.completions.create(**options)
    with client.chat.completions.stream(**options, stream_options=WITH_USAGE) as events:
        return events.get_final_completion()


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@both
def test_an_answer_has_its_text_and_its_usage_in_both_dialects(client: openai.OpenAI, upstream: FakeUpstream, stream: bool) -> None:
    blocks = [answers.text("Hello there. ✓")]
    upstream.script(answers.stream_answer(answers.stream_events(blocks)) if stream else answers.json_answer(answers.message(blocks)))
    completion = complete(client, stream)
    assert completion.model == ALIAS
    assert completion.choices[0].message.content == "Hello there. ✓"
    assert completion.choices[0].finish_reason == "stop"
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (19, 7, 26)
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert usage.model_extra["cache_read_input_tokens"] == 3
    assert usage.model_extra["cache_creation_input_tokens"] == 5
    assert usage.model_extra["cost_details"]["upstream_inference_cost"] == pytest.approx(COST)


def test_the_request_is_anthropics(client: openai.OpenAI, upstream: FakeUpstream, claude: answers.AnthropicApi) -> None:
    complete(client, False, messages=[{"role": "developer", "content": "Be brief."}, *HELLO], stop=["END"], max_completion_tokens=50)
    request = upstream.requests[0]
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.json == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 50,
        "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}],
    }
    assert claude.refusals == []


def test_usage_is_a_last_chunk_only_for_those_who_ask(client: openai.OpenAI, gateway: RunningGateway) -> None:
    plain = list(client.chat.completions.create(model=ALIAS, messages=HELLO, stream=True))
    asked = list(client.chat.completions.create(model=ALIAS, messages=HELLO, stream=True, stream_options=WITH_USAGE))
    assert not any(chunk.usage for chunk in plain)
    assert [bool(chunk.usage) for chunk in asked] == [False] * (len(asked) - 1) + [True]
    assert asked[-1].choices == []
    assert plain[0].choices[0].delta.role == "assistant"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in asked}) == 1
    assert all(call["prompt_tokens"] > 0 for call in gateway.calls())


@both
def test_several_tool_calls_in_one_answer(client: openai.OpenAI, stream: bool) -> None:
    choice = complete(client, stream, tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in choice.message.tool_calls] == ["read_file", "list_files"]
    assert [json.loads(call.function.arguments) for call in choice.message.tool_calls] == [{"path": "a b"}, {}]
    assert len({call.id for call in choice.message.tool_calls}) == 2


@both
def test_a_tool_round_comes_to_its_end(client: openai.OpenAI, claude: answers.AnthropicApi, stream: bool) -> None:
    said = complete(client, stream, tools=TOOLS).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "three lines"} for call in said.tool_calls]
    answer = complete(client, stream, tools=TOOLS, messages=[*HELLO, said.model_dump(exclude_none=True), *results])
    assert answer.choices[0].message.content == "The tool has answered."
    assert claude.refusals == []


@both
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "list_files"}}])
def test_a_tool_can_be_demanded(client: openai.OpenAI, claude: answers.AnthropicApi, choice: Any, stream: bool) -> None:
    said = complete(client, stream, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False).choices[0].message
    assert [call.function.name for call in said.tool_calls] == ["read_file" if choice == "required" else "list_files"]
    assert claude.refusals == []


@both
def test_names_that_anthropic_would_refuse_come_back_as_the_clients_own(
    client: openai.OpenAI, claude: answers.AnthropicApi, stream: bool
) -> None:
    names = ["files.read/v2", "x" * 80]
    said = complete(client, stream, tools=[function(name) for name in names]).choices[0].message
    assert [call.function.name for call in said.tool_calls] == names
    assert claude.refusals == []


@both
@pytest.mark.parametrize(
    ("target", "is_native"), [("claude-sonnet-4-6", True), ("claude-sonnet-4-20250514", False)], ids=["native", "by a forced tool"]
)
def test_a_schema_is_obeyed(
    start_gateway: Any, upstream: FakeUpstream, claude: answers.AnthropicApi, target: str, is_native: bool, stream: bool
) -> None:
    with client_of(start_gateway(to_claude(upstream, target))) as client:
        if stream:
            with client.chat.completions.stream(model=ALIAS, messages=HELLO, response_format=Person) as events:
                choice: Any = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.parse(model=ALIAS, messages=HELLO, response_format=Person).choices[0]
    assert choice.message.parsed == Person(name="a b", age=1)
    assert choice.finish_reason == "stop"
    assert not choice.message.tool_calls
    assert ("output_config" in upstream.requests[0].json) == is_native
    assert ("tools" in upstream.requests[0].json) != is_native
    assert claude.refusals == []


def test_images_and_files_become_blocks_by_what_they_are(
    client: openai.OpenAI, upstream: FakeUpstream, claude: answers.AnthropicApi
) -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{PNG}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
        {"type": "text", "text": "What is it?"},
    ]
    assert complete(client, False, messages=[{"role": "user", "content": parts}]).choices[0].message.content
    assert upstream.requests[0].json["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}, "title": "a.pdf"},
        {"type": "text", "text": "What is it?"},
    ]
    assert claude.refusals == []


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "media", "mediaType": "image/png", "data": PNG},
        {"type": "image-data", "mediaType": "image/png", "data": PNG},
    ],
    ids=lambda part: part["type"],
)
def test_a_tools_picture_is_seen_as_a_picture(client: openai.OpenAI, upstream: FakeUpstream, part: dict[str, Any]) -> None:
    """A client whose tool messages hold strings only writes a JSON string of parts: OpenAI's, or the AI SDK's own."""
    call = {"id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a.png"}'}}
    result = {"role": "tool", "tool_call_id": "call_1", "content": json.dumps([{"type": "text", "text": "A picture."}, part])}
    complete(client, False, tools=TOOLS, messages=[*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, result])
    content = upstream.requests[0].json["messages"][-1]["content"][0]["content"]
    assert content == [
        {"type": "text", "text": "A picture."},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    ]


@both
@pytest.mark.parametrize("target", ["claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-4-8", "claude-sonnet-5", "claude-opus-5-5"])
@pytest.mark.parametrize("effort", ["minimal", "medium", "xhigh"])
def test_every_effort_shows_reasoning_on_every_kind_of_model(
    start_gateway: Any, upstream: FakeUpstream, claude: answers.AnthropicApi, target: str, effort: str, stream: bool
) -> None:
    with client_of(start_gateway(to_claude(upstream, target))) as client:
        message = complete(client, stream, reasoning_effort=effort).choices[0].message
    assert message.content == "Hello there."
    assert message.model_extra["reasoning_content"] == "Let me see what is asked."
    assert claude.refusals == []


@pytest.mark.parametrize(
    ("target", "thinks"),
    [("claude-sonnet-4-5", False), ("claude-sonnet-4-6", False), ("claude-sonnet-5", False), ("claude-opus-5-5", True)],
)
def test_no_effort_switches_thinking_off_where_that_is_possible(
    start_gateway: Any, upstream: FakeUpstream, claude: answers.AnthropicApi, target: str, thinks: bool
) -> None:
    with client_of(start_gateway(to_claude(upstream, target))) as client:
        message = complete(client, False, reasoning_effort="none").choices[0].message
    assert ("reasoning_content" in (message.model_extra or {})) == thinks
    assert claude.refusals == []


def test_reasoning_comes_before_text_in_a_stream(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=ALIAS, messages=HELLO, reasoning_effort="low", stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    kinds = [
        "text" if delta.content else "reasoning" for delta in deltas if delta.content or "reasoning_content" in (delta.model_extra or {})
    ]
    assert kinds == sorted(kinds)
    assert {"text", "reasoning"} == set(kinds)


@both
def test_a_refusal_is_told_as_one(client: openai.OpenAI, upstream: FakeUpstream, stream: bool) -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "This looks like malware."}
    rest = {"stop_reason": "refusal", "stop_details": details}
    blocks = [answers.text("First you")]
    upstream.script(
        answers.stream_answer(answers.stream_events(blocks, **rest)) if stream else answers.json_answer(answers.message(blocks, **rest))
    )
    if stream:
        chunks = list(client.chat.completions.create(model=ALIAS, messages=HELLO, stream=True))
        last: Any = chunks[-1].choices[0]
        words = "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks)
    else:
        last = complete(client, False).choices[0]
        words = last.message.refusal
    assert last.finish_reason == "content_filter"
    assert words == "This looks like malware."
    assert last.model_extra["stop_details"]["category"] == "cyber"


@both
@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
def test_a_cut_answer_has_the_finish_reason_length(client: openai.OpenAI, upstream: FakeUpstream, reason: str, stream: bool) -> None:
    blocks = [answers.text("It is a long")]
    events = answers.stream_events(blocks, stop_reason=reason)
    upstream.script(answers.stream_answer(events) if stream else answers.json_answer(answers.message(blocks, stop_reason=reason)))
    chunks = list(client.chat.completions.create(model=ALIAS, messages=HELLO, stream=True)) if stream else []
    finish = chunks[-1].choices[0].finish_reason if stream else complete(client, False).choices[0].finish_reason
    assert finish == "length"


@both
def test_citations_are_annotations_and_server_tools_are_left_out_with_a_note(
    client: openai.OpenAI, gateway: RunningGateway, upstream: FakeUpstream, stream: bool
) -> None:
    search = [answers.server_tool_use(), answers.web_search_result()]
    blocks = [answers.text("I look. "), *search, answers.text("Sunny.", [answers.web_citation()])]
    upstream.script(answers.stream_answer(answers.stream_events(blocks)) if stream else answers.json_answer(answers.message(blocks)))
    if stream:
        deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(model=ALIAS, messages=HELLO, stream=True)]
        text = "".join(delta.content or "" for delta in deltas)
        found = [item for delta in deltas for item in (delta.model_extra or {}).get("annotations", ())]
    else:
        message = complete(client, False).choices[0].message
        text, found = message.content, [item.model_dump() for item in message.annotations]
    assert text == "I look. Sunny."
    assert [item["url_citation"]["url"] for item in found] == ["https://example.com/a"]
    assert text[found[0]["url_citation"]["start_index"] : found[0]["url_citation"]["end_index"]] == "Sunny."
    assert gateway.calls()[-1]["notes"] == "left_out=server_tool_use; left_out=web_search_tool_result"


def test_the_model_list_has_aliases_and_exact_ids(client: openai.OpenAI) -> None:
    rows = {model.id: model for model in client.models.list()}
    assert {ALIAS, "claude-4-opus", "claude-sonnet-4-6", "claude-opus-5-5"} <= rows.keys()
    assert rows["claude-sonnet-4-6"].owned_by == "anthropic"
    assert client.models.retrieve("claude-opus-5-5").id == "claude-opus-5-5"


@pytest.mark.parametrize("name", ["claude-opus-5-5", "claude/claude-opus-5-5"])
def test_a_model_can_be_asked_for_by_its_exact_id(client: openai.OpenAI, upstream: FakeUpstream, name: str) -> None:
    assert complete(client, False, model=name).model == name
    assert upstream.requests[0].json["model"] == "claude-opus-5-5"
