"""Clients of Anthropic's protocol: their calls come in at `/v1/messages`, and Anthropic's own SDK reads the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.cases.messages_client import events_of, message_of
from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers as answers
from tests.fakes.anthropic_settings import ALIAS, KEY, origin_of, to_claude
from tests.fakes.upstream import Answer, Cut, FakeUpstream

HELLO: Any = [{"role": "user", "content": "Say hello."}]
SAID = answers.message([answers.text("Hello there, you.")])
EVENTS = answers.stream_events([answers.text("Hello there, you.")])
TEXT_AT = next(number for number, event in enumerate(EVENTS) if event.get("delta", {}).get("type") == "text_delta")


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=answers.respond) as running:
        yield running


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_claude(upstream))


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.root, api_key="sk-any", max_retries=0, timeout=30) as client:
        yield client


def test_a_call_passes_in_bytes_with_its_headers(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    body = b'{ "model": "%s", "max_tokens": 100, "messages": [ {"role": "user", "content": "Hi"} ], "new": {"a" : 1.50} }' % ALIAS.encode()
    upstream.script(answers.json_answer(SAID))
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "a-1,b-2", "anthropic-new": "c", "x-claude-code-session-id": "s-1"}
    answer = gateway.http.post(
        f"{gateway.url}/messages?beta=true", data=body, headers={**headers, "content-type": "application/json"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    [asked] = upstream.requests
    assert asked.body == body.replace(ALIAS.encode(), asked.json["model"].encode())
    assert asked.headers["anthropic-beta"] == "a-1,b-2"
    assert asked.headers["anthropic-new"] == "c"
    assert asked.headers["x-api-key"] == KEY
    assert "x-claude-code-session-id" not in asked.headers
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    [call] = gateway.calls()
    assert (call["endpoint"], call["status"], call["outcome"]) == ("messages", 200, "ok")


def test_the_sdk_reads_a_whole_and_a_streamed_answer(client: anthropic.Anthropic, upstream: FakeUpstream) -> None:
    upstream.script(answers.json_answer(SAID), answers.stream_answer(EVENTS))
    whole = client.messages.create(model=ALIAS, max_tokens=100, messages=HELLO)
    with client.messages.stream(model=ALIAS, max_tokens=100, messages=HELLO) as stream:
        streamed = stream.get_final_message()
    assert whole.model == streamed.model == ALIAS
    assert whole.content[0].text == streamed.content[0].text == "Hello there, you."
    assert whole.usage.input_tokens == streamed.usage.input_tokens == SAID["usage"]["input_tokens"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (404, "not_found_error", anthropic.NotFoundError),
        (413, "request_too_large", anthropic.APIStatusError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (529, "overloaded_error", anthropic.InternalServerError),
    ],
)
def test_an_upstreams_error_is_the_clients_to_the_byte(
    gateway: RunningGateway,
    client: anthropic.Anthropic,
    upstream: FakeUpstream,
    status: int,
    kind: str,
    error: type[Exception],
    stream: bool,
) -> None:
    upstream.script(answers.error_answer(status, "the upstream's own words"))
    with pytest.raises(error, match="the upstream's own words"):
        client.messages.create(model=ALIAS, max_tokens=100, messages=HELLO, stream=stream)
    answer = gateway.http.post(
        f"{gateway.url}/messages", json={"model": ALIAS, "messages": HELLO, "max_tokens": 9, "stream": stream}, timeout=30
    )
    assert (answer.status_code, answer.json()["error"]["type"], answer.json()["request_id"]) == (status, kind, answers.REQUEST_ID)


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/messages", {"model": "nobody", "messages": HELLO}, 404, "not_found_error"),
        ("/messages", {"model": ALIAS, "messages": []}, 400, "invalid_request_error"),
        ("/messages", [], 400, "invalid_request_error"),
    ],
)
def test_our_own_errors_have_this_protocols_shape(gateway: RunningGateway, path: str, body: Any, status: int, kind: str) -> None:
    answer = gateway.http.post(gateway.url + path, json=body, timeout=30)
    assert (answer.status_code, answer.json()["type"], answer.json()["error"]["type"]) == (status, "error", kind)
    assert gateway.get("/v1/messages").json()["error"]["type"] == "invalid_request_error"


def test_a_key_may_come_in_either_header(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_claude(upstream, keys={"one": {"hash": f"sha256:{hashlib.sha256(b'key-one').hexdigest()}"}}))
    body = {"model": ALIAS, "messages": HELLO, "max_tokens": 9}
    found = [
        gateway.http.post(f"{gateway.url}/messages", json=body, headers=headers, timeout=30)
        for headers in ({"x-api-key": "key-one"}, {"authorization": "Bearer key-one"}, {"x-api-key": "other"}, {})
    ]
    assert [answer.status_code for answer in found] == [200, 200, 401, 401]
    assert found[-1].json()["error"]["type"] == "authentication_error"
    assert [answer.headers.get("x-should-retry") for answer in found] == [None, None, "false", "false"]


def test_an_upstream_that_breaks_ends_the_stream_with_an_error_and_no_end(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    pieces = [answers.one_event(event) for event in EVENTS[: TEXT_AT + 1]]
    upstream.script(answers.sse_answer(*pieces, Cut()))
    sent = {"model": ALIAS, "messages": HELLO, "max_tokens": 9, "stream": True}
    answer = gateway.http.post(f"{gateway.url}/messages", json=sent, timeout=30)
    events = events_of(answer.content)
    assert [event["type"] for event in events][-1] == "error"
    assert events[-1]["error"]["type"] == "api_error"
    assert not any(event["type"] == "message_stop" for event in events)


def test_an_answer_that_was_cut_is_carried_on_in_its_open_block(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_claude(upstream, retry={"attempts": 2, "first_wait_s": 0.001, "max_wait_s": 0.002}))
    cut = answers.sse_answer(*[answers.one_event(event) for event in EVENTS[: TEXT_AT + 3]], Cut())
    shown = "".join(event["delta"]["text"] for event in EVENTS[TEXT_AT : TEXT_AT + 3])
    rest = "Hello there, you."[len(shown) :]
    upstream.script(cut, answers.stream_answer(answers.stream_events([answers.thinking("Hm."), answers.text(rest)])))
    sent = {"model": ALIAS, "messages": HELLO, "max_tokens": 9, "stream": True}
    answer = gateway.http.post(f"{gateway.url}/messages", json=sent, timeout=30)
    whole = message_of(events_of(b"\n\n".join(one for one in answer.content.split(b"\n\n") if not one.startswith(b":"))))
    assert [block.get("text") for block in whole["content"]] == ["Hello there, you."]
    assert whole["stop_reason"] == "end_turn"
    asked = upstream.requests[1].json["messages"]
    assert asked[-2] == {"role": "assistant", "content": shown}


def test_thoughts_that_a_model_refuses_are_left_out_once_and_the_call_goes_on(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    refusal = answers.error_answer(400, "messages.1.content.0: Invalid `signature` in `thinking` block")
    upstream.script(refusal, answers.json_answer(SAID))
    turns = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, answers.text("A")]},
        *HELLO,
    ]
    answer = gateway.http.post(f"{gateway.url}/messages", json={"model": ALIAS, "messages": turns, "max_tokens": 9}, timeout=30)
    assert answer.status_code == 200
    assert upstream.requests[1].json["messages"][1]["content"] == [answers.text("A")]
    assert "thinking=omitted(1)" in answer.headers["x-compat-notes"]


def test_a_client_is_told_that_it_must_wait_for_a_moment_at_most(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(answers.error_answer(429, "slow down", (("retry-after", "3600"),)))
    answer = gateway.http.post(f"{gateway.url}/messages", json={"model": ALIAS, "messages": HELLO, "max_tokens": 9}, timeout=30)
    assert int(answer.headers["retry-after"]) <= 30


@pytest.mark.parametrize("target", ["claude-sonnet-4-6", "claude-haiku-4-5"])
def test_an_older_model_behind_an_alias_is_learnt_in_one_call(start_gateway: Any, upstream: FakeUpstream, target: str) -> None:
    """Claude Code goes by the name that it knows, and sends what the newest models take."""
    upstream.default = answers.AnthropicApi()
    gateway = start_gateway(to_claude(upstream, target))
    sent = {
        "model": ALIAS,
        "max_tokens": 4000,
        "messages": [*HELLO, {"role": "system", "content": "The place is /work.", "output_config": {"effort": "high"}}],
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
    }
    first = gateway.http.post(f"{gateway.url}/messages", json=sent, timeout=30)
    assert first.status_code == 200, first.text
    before = len(upstream.requests)
    assert "moved=system@1" in first.headers["x-compat-notes"]
    assert gateway.http.post(f"{gateway.url}/messages", json=sent, timeout=30).status_code == 200
    assert len(upstream.requests) == before + 1, "it is remembered"


def test_a_service_that_takes_a_part_of_the_protocol_gets_that_part(start_gateway: Any) -> None:
    with FakeUpstream(default=answers.respond) as like:
        row = {"kind": "deepseek", "wire_api": "messages", "base_url": origin_of(like), "api_keys": ["sk-canary-0123456789"]}
        gateway = start_gateway({"upstreams": {"like": row}, "models": {"claude-x": {"route": ["like/deep-x"]}}})
        asked = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "context_management": {"edits": []}}
        answer = gateway.http.post(
            f"{gateway.url}/messages", json=asked, headers={"anthropic-beta": "context-management-2025-06-27"}, timeout=30
        )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-compat-notes"] == "dropped=context_management; dropped=anthropic-beta(1)"
    assert "context_management" not in like.requests[-1].json
    assert "anthropic-beta" not in like.requests[-1].headers


@pytest.mark.parametrize(("query", "path"), [("?beta=true", "?beta=true"), ("?beta=false", ""), ("?key=secret", ""), ("", "")])
@pytest.mark.parametrize("endpoint", ["messages", "messages/count_tokens"])
def test_the_beta_query_goes_along_and_no_other(
    gateway: RunningGateway, upstream: FakeUpstream, endpoint: str, query: str, path: str
) -> None:
    asked = {"model": ALIAS, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    for _ in range(2):
        gateway.http.post(f"{gateway.url}/{endpoint}{query}", json=asked, timeout=30)
        assert upstream.requests[-1].path == f"/v1/{endpoint}{path}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [("messages", {"messages": []}), ("messages", {}), ("messages", {"model": "unknown/x"}), ("messages/batches", {})],
)
def test_errors_of_the_gateways_own_name_the_request(
    gateway: RunningGateway, upstream: FakeUpstream, path: str, fields: dict[str, Any], stream: bool
) -> None:
    upstream.default = Answer(before_head=[Cut()])
    asked = {"model": ALIAS, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": stream, **fields}
    answer = gateway.http.post(f"{gateway.url}/{path}", json=asked, timeout=30)
    assert answer.status_code >= 400
    assert answer.json()["request_id"] == answer.headers["request-id"]


def test_an_error_within_a_stream_names_it_as_well(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    events = answers.stream_events([answers.tool_use("read", {"path": "a" * 40_000})])
    upstream.default = answers.sse_answer(*map(answers.one_event, events[:-3]), Cut())
    asked = {"model": ALIAS, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    answer = gateway.http.post(f"{gateway.url}/messages", json=asked, timeout=30)
    assert events_of(answer.content)[-1]["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("body", [b"", b"garbage", b'{"a":', b"{}", b"[]"])
def test_a_garbled_answer_to_a_streamed_request_is_tried_again_and_then_an_error_with_its_status(
    start_gateway: Any, upstream: FakeUpstream, body: bytes
) -> None:
    gateway = start_gateway(to_claude(upstream, retry={"attempts": 2, "first_wait_s": 0.001}))
    upstream.default = Answer([body], framing="length")
    asked = {"model": ALIAS, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    answer = gateway.http.post(f"{gateway.url}/messages", json=asked, timeout=30)
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "api_error")
    assert len(upstream.requests) > 1
    upstream.script(Answer([body], framing="length"), answers.respond)
    answer = gateway.http.post(f"{gateway.url}/messages", json=asked, timeout=30)
    assert message_of(events_of(answer.content))["stop_reason"] == "end_turn"
