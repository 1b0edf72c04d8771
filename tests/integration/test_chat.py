"""The chat endpoint over real sockets, in front of a scripted upstream of the same wire API."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Reset, Sleep, Stall


def events(text: str) -> list[Any]:
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]


def streamed(gateway: RunningGateway, **body: Any) -> list[Any]:
    answer = gateway.chat(stream=True, **body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events(answer.text)


def test_a_whole_answer_has_the_clients_name_of_the_model(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    answer = gateway.chat(temperature=0.5, unheard_of={"kept": [1, 2]})
    document = answer.json()
    assert document["model"] == "claude-4-sonnet"
    assert document["choices"][0]["message"]["content"] == "Hello there."
    assert upstream.requests[0].json["model"] == "their-model"
    assert upstream.requests[0].json["unheard_of"] == {"kept": [1, 2]}
    assert answer.headers["x-compat-upstream"] == "fake/their-model"
    assert answer.headers["x-request-id"]


def test_a_stream_is_regular(gateway: RunningGateway) -> None:
    chunks = streamed(gateway, stream_options={"include_usage": True})
    assert chunks[-1] == "[DONE]"
    assert chunks.count("[DONE]") == 1
    body = chunks[:-1]
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in body} == {("chatcmpl-theirs", 1_700_000_000, "claude-4-sonnet")}
    assert body[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in body if chunk["choices"]) == "Hello there."
    assert body[-1]["choices"] == []
    assert body[-1]["usage"]["prompt_tokens"] == 11
    assert "cost_details" in body[-1]["usage"]


def test_usage_is_counted_even_when_the_client_does_not_ask(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    chunks = streamed(gateway)
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    assert not any(chunk.get("usage") for chunk in chunks[:-1])
    assert gateway.calls()[0]["prompt_tokens"] == 11


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions", "/chat/completions/chat/completions", "/chat/completions/"])
def test_urls_that_clients_join_work(gateway: RunningGateway, path: str) -> None:
    assert gateway.chat(path=path).status_code == 200
    bare = gateway.http.post(
        f"{gateway.root}/chat/completions", json={"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "x"}]}
    )
    assert bare.status_code == 200


@pytest.mark.slow
def test_a_whole_answer_to_a_streaming_request_becomes_a_stream(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(openai.json_answer(openai.completion("All at once.", tool_calls=openai.TOOL_CALLS, finish_reason="tool_calls")))
    chunks = streamed(gateway, stream_options={"include_usage": True})
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1] if chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas) == "All at once."
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [(call["index"], call["id"]) for call in calls] == [(0, "call_1"), (1, "call_2")]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1] if chunk["choices"]][-1] == "tool_calls"
    assert chunks[-2]["usage"]["completion_tokens"] == 7


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (openai.error_answer(400, "bad things", code="bad_thing"), 400, "bad_thing"),
        (openai.error_answer(401, "wrong key", code="invalid_api_key"), 401, "upstream_key_refused"),
        (openai.error_answer(404, "no such model"), 404, None),
        (openai.error_answer(429, "slow down", (("retry-after", "3600"),)), 429, "rate_limit_exceeded"),
        (openai.error_answer(500, "oh no"), 500, "server_error"),
        (openai.error_answer(529, "too much"), 529, "server_error"),
        (openai.error_answer(400, "This model's maximum context length is 8192 tokens"), 400, "context_length_exceeded"),
        (Answer((b"<html><body>Bad <b>gateway</b></body></html>",), 502, (("content-type", "text/html"),)), 502, "server_error"),
        (Answer((b"<html>Welcome</html>",), 200, (("content-type", "text/html"),)), 502, "upstream_broken"),
        (Answer((b'{"id": "x", "choices": [',), 200), 502, "upstream_broken"),
        (Answer((b'{"id": "x", "choices": []}',), 200), 502, "upstream_broken"),
        (Answer((b"",), 200), 502, "upstream_broken"),
        (Answer((b"",), 302, (("location", "http://127.0.0.1:1/"),)), 502, "upstream_broken"),
        (Answer(raw=(b"garbage\r\n\r\n",), keeps_alive=False), 502, "upstream_broken"),
        (Answer(raw=(Cut(),)), 502, "upstream_unreachable"),
        (Answer(raw=(Reset(),)), 502, "upstream_unreachable"),
        (Answer(raw=(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", Cut())), 502, "upstream_broken"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstreams_fault_before_content_is_an_error_in_openais_shape(
    gateway: RunningGateway, upstream: FakeUpstream, answer: Answer, status: int, code: str | None, stream: bool
) -> None:
    upstream.script(answer)
    got = gateway.chat(stream=stream)
    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (status, code)
    assert error["message"]
    assert "canary" not in got.text
    if status == 429:
        assert got.headers["retry-after"] == "30"
        return  # the upstream is left alone for a while: see the tests of pacing
    upstream.script(openai.respond)
    assert gateway.chat(stream=stream).status_code == 200


@pytest.mark.parametrize(
    "steps",
    [
        (Cut(),),
        (Reset(),),
        (b"data: {\n\n",),
        (openai.event({"error": {"message": "overloaded", "type": "overloaded_error"}}),),
        (),
        ('data: {"choices":[{"index":0,"delta":{"content":"é'.encode()[:-1], Cut()),
    ],
    ids=["cut", "reset", "garbage", "error event", "end without finish", "half a character"],
)
def test_a_stream_that_breaks_after_content_ends_with_an_error_event(gateway: RunningGateway, upstream: FakeUpstream, steps: Any) -> None:
    upstream.script(openai.sse_answer(openai.event(openai.chunk({"role": "assistant", "content": "Well"})), *steps))
    chunks = streamed(gateway)
    assert chunks[0]["choices"][0]["delta"]["content"] == "Well"
    assert chunks[-1]["type"] == "error"
    assert chunks[-1]["error"]["message"]
    assert "[DONE]" not in chunks
    assert not any(chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1])
    assert gateway.calls()[-1]["outcome"] == "error"


def test_a_silent_upstream_gets_heartbeats_and_then_its_answer(start_gateway: Any, upstream: FakeUpstream) -> None:
    from tests.conftest import to_upstream

    gateway = start_gateway(to_upstream(upstream, server={"heartbeat_s": 0.1}))
    chunks = [openai.event(chunk) for chunk in openai.text_chunks("One two")]
    upstream.script(openai.sse_answer(*chunks[:2], Sleep(0.35), *chunks[2:], openai.event("[DONE]"), before_head=(Sleep(0.35),)))
    text = gateway.chat(stream=True).text
    assert text.startswith(": keep-alive\n\n")
    assert text.count(": keep-alive\n\n") >= 4
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in events(text)[:-1]) == "One two"


def test_an_error_after_a_heartbeat_is_an_event(start_gateway: Any, upstream: FakeUpstream) -> None:
    from tests.conftest import to_upstream

    gateway = start_gateway(to_upstream(upstream, server={"heartbeat_s": 0.1}))
    upstream.script(Answer((b'{"error": {"message": "later"}}',), 500, before_head=(Sleep(0.3),)))
    assert events(gateway.chat(stream=True).text)[-1]["error"]["message"] == "fake: later"


@pytest.mark.parametrize("timeouts", [{"first_byte_s": 0.2}, {"silence_s": 0.2}])
def test_silence_beyond_the_bound_is_a_timeout(start_gateway: Any, upstream: FakeUpstream, timeouts: dict[str, float]) -> None:
    from tests.conftest import to_upstream

    gateway = start_gateway(to_upstream(upstream, timeouts=timeouts))
    upstream.script(openai.sse_answer(Stall(), before_head=(Sleep(0.6),) if "first_byte_s" in timeouts else ()))
    got = gateway.chat(stream=True)
    assert (got.status_code, got.json()["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_upstreams_work(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    first = openai.event(openai.chunk({"role": "assistant", "content": "Well"}))
    upstream.script(openai.sse_answer(*((first,) if stream else ()), Stall()))
    import socket

    body = json.dumps({"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "x"}], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.sendall(head.encode() + body)
        deadline = time.monotonic() + 5
        while not upstream.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        if stream:
            assert sock.recv(65536)
    left = time.monotonic()
    while not upstream.abandoned and time.monotonic() < left + 3:
        time.sleep(0.01)
    assert upstream.abandoned
    assert upstream.abandoned[0] - left < 1
    assert gateway.calls()[-1]["outcome"] == "cancelled"
    assert gateway.gateway.gauges.in_flight == 0


def test_the_clients_credentials_are_never_forwarded(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    gateway.chat(headers={"authorization": "Bearer sk-client", "x-api-key": "sk-client", "cookie": "a=sk-client"})
    request = upstream.requests[0]
    assert request.headers["authorization"] == "Bearer sk-canary-0123456789"
    assert "sk-client" not in str(request.headers)


def test_keys_of_an_upstream_are_shared_out_by_conversation(start_gateway: Any, upstream: FakeUpstream) -> None:
    settings = {
        "upstreams": {"fake": {"kind": "openai", "base_url": upstream.url, "api_keys": ["key-a", "key-b"]}},
        "models": {"claude-4-sonnet": {"route": ["fake/m"]}},
    }
    gateway = start_gateway(settings)
    for number in range(24):
        for _ in range(2):
            assert gateway.chat(messages=[{"role": "user", "content": f"conversation {number}"}]).status_code == 200
    keys = [request.headers["authorization"] for request in upstream.requests]
    assert keys[::2] == keys[1::2], "a conversation stays with its key"
    assert set(keys) == {"Bearer key-a", "Bearer key-b"}


@pytest.mark.slow
def test_a_call_fails_over_before_content(start_gateway: Any, upstream: FakeUpstream) -> None:
    with FakeUpstream(default=openai.respond) as second:
        gateway = start_gateway(
            {
                "upstreams": {
                    "a": {"kind": "openai", "base_url": upstream.url},
                    "b": {"kind": "openai", "base_url": second.url},
                },
                "models": {"claude-4-sonnet": {"route": ["a/x", "b/y"]}},
            }
        )
        upstream.script(openai.sse_answer(openai.event(openai.chunk({"role": "assistant", "content": ""})), Cut()))
        chunks = streamed(gateway)
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert sum("role" in chunk["choices"][0]["delta"] for chunk in chunks[:-1]) == 1
        upstream.script(openai.error_answer(529, "overloaded"))
        answer = gateway.chat()
        assert answer.status_code == 200
        assert answer.headers["x-compat-upstream"] == "b/y"
        assert answer.headers["x-compat-attempts"] == "3", "twice at the first deployment, then at the second"


def test_the_log_has_one_line_per_call_and_no_secret(gateway: RunningGateway) -> None:
    gateway.chat(messages=[{"role": "user", "content": "PROMPT-CANARY"}], headers={"authorization": "Bearer sk-client"})
    streamed(gateway)
    lines = gateway.log_lines()
    assert [line["event"] for line in lines] == ["call", "call"]
    assert lines[0]["deployment"] == "fake/their-model"
    assert lines[0]["outcome"] == "ok"
    text = json.dumps(lines)
    assert not any(secret in text for secret in ("PROMPT-CANARY", "sk-client", "sk-canary"))


@pytest.mark.parametrize("prompts", [False, True])
def test_prompts_are_logged_only_where_the_configuration_asks_for_them(start_gateway: Any, upstream: FakeUpstream, prompts: bool) -> None:
    gateway = start_gateway(to_upstream(upstream, log={"prompts": prompts}))
    for stream in (False, True):
        gateway.chat(stream=stream, messages=[{"role": "user", "content": "an unheard-of word"}])
    lines = gateway.log_lines()
    assert [line["event"] for line in lines].count("call.request") == (2 if prompts else 0)
    assert ("unheard-of" in str(lines)) is prompts
    if prompts:
        asked, call = lines[0], lines[1]
        assert asked["request_id"] == call["request_id"]
        assert json.loads(asked["body"])["messages"][0]["content"] == "an unheard-of word"
