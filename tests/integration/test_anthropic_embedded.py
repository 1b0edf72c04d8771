"""A real server of Anthropic's wire API behind the translator: the embedded engine's own `/v1/messages`, driven by the `openai` SDK.

Its words are those of a very small model: only structure is looked at.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
import requests

from compat.engine.base import Endpoint
from compat.engine.presets import PRESETS
from tests.conftest import RunningGateway
from tests.integration.kilo_session import read_stream

ALIAS = "claude-4-sonnet"
HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
START_S = 120
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Reads a file.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}

pytestmark = [pytest.mark.embedded, pytest.mark.slow]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Where the engine answers."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the embedded engine has no wheel for this platform")
    host = RunningGateway({"embedded": {"enabled": True}}, tmp_path_factory.mktemp("engine"))
    engine = host.gateway.engine
    assert engine is not None
    found = engine.endpoint(START_S)
    assert found is not None
    yield found
    engine.stop()
    host.close()


def settings_of(endpoint: Endpoint, **upstream: Any) -> dict[str, Any]:
    row = {"kind": "anthropic", "base_url": endpoint.base_url, "api_keys": [endpoint.api_key], **upstream}
    return {
        "upstreams": {"llama": row},
        "models": {ALIAS: {"route": [f"llama/{endpoint.model}"]}},
        "retry": {"attempts": 1},
    }


@pytest.fixture(scope="module")
def gateway(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = RunningGateway(settings_of(endpoint), tmp_path_factory.mktemp("gateway"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="sk-any", max_retries=0, timeout=120) as client:
        yield client


def test_the_engine_is_a_real_server_of_the_protocol(endpoint: Endpoint) -> None:
    with anthropic.Anthropic(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0, timeout=120) as client:
        message = client.messages.create(model=endpoint.model, max_tokens=8, messages=[{"role": "user", "content": "Say hello."}])
    assert message.type == "message"


def test_who_names_nothing_gets_the_sampling_of_the_preset(endpoint: Endpoint) -> None:
    """Left to llama.cpp's defaults so small a model talks nonsense, and at low temperatures it repeats itself for ever."""
    preset = PRESETS[endpoint.model]
    headers = {"authorization": f"Bearer {endpoint.api_key}"}
    given = requests.get(f"{endpoint.base_url}/props", headers=headers, timeout=30).json()["default_generation_settings"]["params"]
    names = {"temp": "temperature", "penalty_freq": "frequency_penalty", "penalty_last_n": "repeat_last_n"}
    assert {name: given[names.get(name, name)] for name in preset.sampling} == pytest.approx(dict(preset.sampling))


def test_a_whole_answer(client: openai.OpenAI, endpoint: Endpoint) -> None:
    raw = client.chat.completions.with_raw_response.create(model=ALIAS, messages=HELLO, max_tokens=24)
    completion = raw.parse()
    assert raw.headers["x-compat-upstream"] == f"llama/{endpoint.model}"
    assert completion.model == ALIAS
    assert (completion.choices[0].message.content or "").strip()
    assert completion.choices[0].finish_reason in {"stop", "length"}
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 0
    assert 0 < completion.usage.completion_tokens <= 24


def test_a_stream(gateway: RunningGateway, client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=ALIAS, messages=HELLO, max_tokens=24, stream=True, stream_options=options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).strip()
    assert len(chunks) > 3
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens > 0
    assert 0 < chunks[-1].usage.completion_tokens <= 24
    call = gateway.calls()[-1]
    assert (call["outcome"], call["completion_tokens"]) == ("ok", chunks[-1].usage.completion_tokens)


def test_sampling_reaches_a_server_that_is_not_anthropics(gateway: RunningGateway) -> None:
    answer = gateway.chat(messages=HELLO, max_tokens=4, temperature=0)
    assert answer.status_code == 200
    assert "temperature" not in answer.headers.get("x-compat-notes", "")


def test_a_stream_equals_the_whole_answer(start_gateway: Any, endpoint: Endpoint) -> None:
    settings = settings_of(endpoint)
    settings["models"][endpoint.model] = {"facts": {"messages": {"thinking": "none"}}}
    gateway = start_gateway(settings)
    asked: dict[str, Any] = {"messages": HELLO, "max_tokens": 12, "temperature": 0}
    whole = gateway.chat(**asked)
    assert "x-compat-notes" not in whole.headers
    streamed = read_stream(gateway.chat(**asked, stream=True, stream_options={"include_usage": True}).text)
    assert streamed.text == whole.json()["choices"][0]["message"]["content"]
    assert streamed.finish_reason == whole.json()["choices"][0]["finish_reason"]
    assert streamed.usage["completion_tokens"] == whole.json()["usage"]["completion_tokens"]


def test_a_limit_is_a_finish_reason(client: openai.OpenAI) -> None:
    story: Any = [{"role": "user", "content": "Tell a long story about a fox, in many sentences."}]
    completion = client.chat.completions.create(model=ALIAS, messages=story, max_tokens=3)
    assert completion.choices[0].finish_reason == "length"


def test_a_conversation_with_a_tool_round_is_taken(gateway: RunningGateway) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a.py"}'}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "three lines"},
    ]
    for stream in (False, True):
        answer = gateway.chat(messages=messages, tools=[TOOL], max_tokens=16, stream=stream, stream_options={"include_usage": True})
        assert answer.status_code == 200, answer.text
        if stream:
            assert read_stream(answer.text).finish_reason in {"stop", "length", "tool_calls"}
        else:
            assert answer.json()["choices"][0]["finish_reason"] in {"stop", "length", "tool_calls"}


def test_a_stop_sequence_ends_the_answer(client: openai.OpenAI) -> None:
    count: Any = [{"role": "user", "content": "Write: one, two, three, four."}]
    cut = client.chat.completions.create(model=ALIAS, messages=count, max_tokens=60, stop=list("aeiou")).choices[0]
    assert cut.finish_reason == "stop"
    assert not set(cut.message.content or "") & set("aeiou")


def test_an_overflow_has_the_code_that_makes_agents_compact(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=ALIAS, messages=[{"role": "user", "content": "word " * 20_000}], max_tokens=4)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key_is_told_in_words_without_it(start_gateway: Any, endpoint: Endpoint, stream: bool) -> None:
    gateway = start_gateway(settings_of(endpoint, api_keys=["sk-wrong-canary"]))
    got = gateway.chat(stream=stream)
    assert (got.status_code, got.json()["error"]["code"]) == (401, "upstream_key_refused")
    assert "canary" not in got.text


def test_the_key_may_also_go_in_a_header_of_the_users_own(start_gateway: Any, endpoint: Endpoint) -> None:
    headers = {"authorization": f"Bearer {endpoint.api_key}"}
    gateway = start_gateway(settings_of(endpoint, api_keys=[], headers=headers))
    assert gateway.chat(max_tokens=4).status_code == 200
    assert endpoint.api_key not in json.dumps(gateway.log_lines())
