"""The official `openai` SDK against the gateway: in front of a scripted upstream, and of the embedded engine."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as answers
from tests.fakes.upstream import FakeUpstream

MODEL = "claude-4-sonnet"
HELLO: Any = [{"role": "user", "content": "Say hello."}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
        },
    }
]
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()


def client_of(gateway: RunningGateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key="sk-dummy-key", max_retries=0, timeout=120)


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with client_of(gateway) as client:
        yield client


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """A client of a gateway without any upstream."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the embedded engine has no wheel for this platform")
    gateway = RunningGateway({"embedded": {"enabled": True}}, tmp_path_factory.mktemp("embedded"))
    engine = gateway.gateway.engine
    assert engine is not None
    engine.start()
    with client_of(gateway) as client:
        yield client
    engine.stop()
    gateway.close()


class TestInFrontOfAScriptedUpstream:
    @pytest.mark.slow
    def test_a_whole_answer(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO)
        assert answer.model == MODEL
        assert answer.choices[0].message.content == "Hello there."
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 18

    def test_a_stream(self, client: openai.OpenAI) -> None:
        chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there."
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.prompt_tokens == 11

    def test_tools_whole_and_streamed(self, client: openai.OpenAI) -> None:
        whole = client.chat.completions.create(model=MODEL, messages=HELLO, tools=TOOLS).choices[0].message.tool_calls
        with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=TOOLS) as stream:
            streamed = stream.get_final_completion().choices[0].message.tool_calls
        assert whole
        assert streamed
        assert [(call.id, call.function.name) for call in whole] == [("call_1", "read_file"), ("call_2", "list_files")]
        assert [json.loads(call.function.arguments) for call in streamed] == [{"path": "a.py"}, {}]

    def test_the_schema_reaches_the_upstream_as_it_was_written(self, client: openai.OpenAI, upstream: FakeUpstream) -> None:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, response_format=FORMAT)
        assert json.loads(answer.choices[0].message.content or "") == {"name": "Ada", "age": 36}
        assert upstream.requests[0].json["response_format"] == FORMAT

    def test_images_reach_the_upstream_as_content_parts(self, client: openai.OpenAI, upstream: FakeUpstream) -> None:
        parts: Any = [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ]
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
        assert upstream.requests[0].json["messages"][0]["content"] == parts

    @pytest.mark.parametrize(
        ("status", "exception"),
        [
            (400, openai.BadRequestError),
            (401, openai.AuthenticationError),
            (403, openai.PermissionDeniedError),
            (404, openai.NotFoundError),
            (422, openai.UnprocessableEntityError),
            (429, openai.RateLimitError),
            (500, openai.InternalServerError),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_errors_are_the_sdks_own(
        self, client: openai.OpenAI, upstream: FakeUpstream, status: int, exception: type[openai.APIStatusError], stream: bool
    ) -> None:
        upstream.script(answers.error_answer(status, "the upstream's words"))
        with pytest.raises(exception, match="the upstream's words") as caught:
            client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
        assert caught.value.request_id

    def test_an_error_within_a_stream_is_raised(self, client: openai.OpenAI, upstream: FakeUpstream) -> None:
        text = answers.event(answers.chunk({"role": "assistant", "content": "Hel"}))
        upstream.script(answers.sse_answer(text, answers.event({"error": {"message": "it broke", "type": "server_error"}})))
        with pytest.raises(openai.APIError, match="it broke"):
            list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))

    def test_the_model_list(self, client: openai.OpenAI) -> None:
        names = [model.id for model in client.models.list()]
        assert MODEL in names
        assert client.models.retrieve(MODEL).id == MODEL
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("no-such-model")


@pytest.mark.slow
@pytest.mark.embedded
class TestInFrontOfTheEmbeddedEngine:
    @pytest.mark.slow
    def test_a_whole_answer(self, embedded: openai.OpenAI) -> None:
        answer = embedded.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=24)
        assert answer.headers["x-compat-upstream"].startswith("embedded/")
        completion = answer.parse()
        assert completion.model == MODEL
        assert (completion.choices[0].message.content or "").strip()
        assert completion.usage is not None
        assert completion.usage.completion_tokens > 0

    def test_a_stream(self, embedded: openai.OpenAI) -> None:
        options: Any = {"include_usage": True}
        chunks = list(embedded.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=24, stream=True, stream_options=options))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).strip()
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in {"stop", "length"}
        assert {(chunk.id, chunk.model) for chunk in chunks} == {(chunks[0].id, MODEL)}
        assert chunks[-1].usage is not None

    @pytest.mark.slow
    def test_a_schema_is_obeyed(self, embedded: openai.OpenAI) -> None:
        answer = embedded.chat.completions.create(model=MODEL, messages=HELLO, response_format=FORMAT, max_tokens=200)
        if answer.choices[0].finish_reason == "stop":
            assert set(json.loads(answer.choices[0].message.content or "")) == {"name", "age"}
        else:
            assert (answer.choices[0].message.content or "").lstrip().startswith("{")

    def test_offered_tools_do_no_harm(self, embedded: openai.OpenAI) -> None:
        answer = embedded.chat.completions.create(model=MODEL, messages=HELLO, tools=TOOLS, max_tokens=24)
        assert answer.choices[0].finish_reason in {"stop", "length", "tool_calls"}

    @pytest.mark.slow
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_a_call_that_is_demanded_is_made(self, embedded: openai.OpenAI, stream: bool) -> None:
        asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, "tools": TOOLS, "max_tokens": 120}
        named: Any = {"type": "function", "function": {"name": "read_file"}}
        for choice, names in ((named, {"read_file"}), ("required", {tool["function"]["name"] for tool in TOOLS})):
            if stream:
                with embedded.chat.completions.stream(**asked, tool_choice=choice) as events:
                    answer = events.get_final_completion().choices[0]
            else:
                answer = embedded.chat.completions.create(**asked, tool_choice=choice).choices[0]
            assert answer.finish_reason == "tool_calls"
            assert answer.message.tool_calls
            assert {call.function.name for call in answer.message.tool_calls} <= names
            assert all(isinstance(json.loads(call.function.arguments), dict) for call in answer.message.tool_calls)

    def test_an_image_is_refused_in_words(self, embedded: openai.OpenAI) -> None:
        parts: Any = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
        with pytest.raises(openai.BadRequestError, match="reads text only"):
            embedded.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])

    def test_an_overflow_has_the_code_that_makes_agents_compact(self, embedded: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            embedded.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 20_000}], max_tokens=4)
        assert caught.value.code == "context_length_exceeded"

    def test_the_model_list(self, embedded: openai.OpenAI) -> None:
        assert MODEL in [model.id for model in embedded.models.list()]


def test_every_name_of_the_readme_is_listed(start_gateway: Any, upstream: FakeUpstream, tmp_path: Path) -> None:
    gateway = start_gateway(to_upstream(upstream))
    rows = {row["id"]: row for row in gateway.get("/v1/models").json()["data"]}
    for name in ("claude-4-sonnet", "claude-3-sonnet", "claude-4-opus", "gpt-4", "gpt-4o"):
        row = gateway.get(f"/v1/models/{name}").json() if name not in rows else rows[name]
        assert row.get("display_name"), (name, row)
