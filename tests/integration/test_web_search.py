"""Searches of the web that clients of Anthropic's protocol leave to the server, over upstreams that run none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from compat.protocols.upstream_protocol import NO_SEARCH
from tests.cases.messages_client import events_of
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes import responses_answers as responses
from tests.fakes import responses_items as items
from tests.fakes.searching import PAGE, QUERY, SAID, searching_model, searx
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request, Stall, Until
from tests.unit.upstream.proxy import wait_until

TOOLS: Any = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]
ASK: Any = {
    "model": "claude-4-sonnet",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": f"Search for {QUERY}."}],
    "tools": TOOLS,
}


@pytest.fixture
def endpoint() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=searx) as running:
        yield running


def settings_for(upstream: FakeUpstream, endpoint: FakeUpstream | None, **more: Any) -> dict[str, Any]:
    upstream.default = searching_model
    url = f"http://127.0.0.1:{endpoint.port}/search" if endpoint is not None else ""
    return to_upstream(upstream, search={"url": url, "timeout_s": 5}, **more)


def client_of(gateway: RunningGateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.root, api_key="sk-any", max_retries=0, timeout=30)


def ask(client: anthropic.Anthropic, *, stream: bool, **fields: Any) -> Any:
    if not stream:
        return client.messages.create(**{**ASK, **fields})
    with client.messages.stream(**{**ASK, **fields}) as running:
        return running.get_final_message()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_search_is_run_and_shown_in_one_answer(start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream, stream: bool) -> None:
    gateway = start_gateway(settings_for(upstream, endpoint))
    with client_of(gateway) as client:
        message = ask(client, stream=stream)
    assert [block.type for block in message.content] == ["text", "server_tool_use", "web_search_tool_result", "text"]
    search, found, said = message.content[1:]
    assert (search.input, found.tool_use_id) == ({"query": QUERY}, search.id)
    assert [(page.url, page.title) for page in found.content] == [(PAGE["url"], PAGE["title"]), ("https://other.example", "Other")]
    assert (said.text, message.stop_reason) == (SAID, "end_turn")
    assert message.usage.server_tool_use.web_search_requests == 1
    assert message.usage.output_tokens == 2 * openai.USAGE["completion_tokens"]
    assert [request.path.partition("?")[0] for request in endpoint.requests] == ["/search"]
    [record] = gateway.calls()
    assert (record["outcome"], record["attempts"]) == ("ok", 1)
    assert "emulated=web_search" in record["notes"]
    assert QUERY not in str(gateway.log_lines())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("is_refused", [False, True], ids=["hosted", "refused"])
def test_a_service_that_searches_by_itself_is_let_and_else_the_gateway_does(
    start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream, stream: bool, is_refused: bool
) -> None:
    def service(request: Request) -> Answer:
        kinds = [tool["type"] for tool in request.json["tools"]]
        if kinds == ["web_search"]:
            if is_refused:
                return openai.error_answer(400, "Hosted tool 'web_search' is not supported with their-model.")
            said = [items.web_search(), items.message(items.text_part(SAID, [{"type": "url_citation", **PAGE}]))]
        elif request.json["input"][-1]["type"] == "function_call_output":
            said = [items.message(items.text_part(SAID))]
        else:
            said = [items.function_call("web_search", f'{{"query": "{QUERY}"}}')]
        return responses.stream_answer(responses.stream_events(said)) if stream else openai.json_answer(responses.response(said))

    settings = settings_for(upstream, endpoint)
    settings["upstreams"]["fake"]["wire_api"] = "responses"
    upstream.default = service
    gateway = start_gateway(settings)
    with client_of(gateway) as client:
        message = ask(client, stream=stream)
    found = next(block for block in message.content if block.type == "web_search_tool_result")
    assert [page.url for page in found.content][:1] == [PAGE["url"]]
    assert SAID in [block.text for block in message.content if block.type == "text"]
    assert message.usage.server_tool_use.web_search_requests == 1
    assert len(endpoint.requests) == is_refused


def test_results_keep_to_the_clients_domains(start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream) -> None:
    gateway = start_gateway(settings_for(upstream, endpoint))
    with client_of(gateway) as client:
        message = ask(client, stream=False, tools=[{**TOOLS[0], "blocked_domains": ["lights.example"]}])
    assert [page.url for page in message.content[2].content] == ["https://other.example"]
    assert message.content[3].text == "I found nothing."


def test_the_search_is_shown_while_it_is_run_and_the_client_gets_pings(
    start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream
) -> None:
    released = threading.Event()
    endpoint.default = lambda request: Answer([Until(released), *searx(request).steps])
    gateway = start_gateway(settings_for(upstream, endpoint, server={"heartbeat_s": 0.05}))
    with gateway.http.post(f"{gateway.url}/messages", json={**ASK, "stream": True}, stream=True, timeout=30) as answer:
        text = b""
        for piece in answer.iter_content(None):
            text += piece
            if b"server_tool_use" in text and text.count(b"event: ping") > 2:
                released.set()
    kinds = [event["content_block"]["type"] for event in events_of(text) if event["type"] == "content_block_start"]
    assert kinds == ["text", "server_tool_use", "web_search_tool_result", "text"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", [openai.error_answer(500, "no"), Answer([b"<html>"]), Answer(before_head=[Cut()])])
def test_a_search_that_fails_is_an_error_in_the_answer(
    start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream, fault: Answer, stream: bool
) -> None:
    endpoint.default = fault
    gateway = start_gateway(settings_for(upstream, endpoint))
    with client_of(gateway) as client:
        message = ask(client, stream=stream)
    assert message.content[2].content.error_code == "unavailable"
    assert message.content[3].text == "I found nothing."
    assert [line["event"] for line in gateway.log_lines() if line["event"] == "search.failed"] == ["search.failed"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_where_no_search_is_configured_the_answer_says_so_and_no_upstream_is_asked(
    start_gateway: Any, upstream: FakeUpstream, stream: bool
) -> None:
    gateway = start_gateway(settings_for(upstream, None))
    with client_of(gateway) as client:
        message = ask(client, stream=stream)
    assert [block.text for block in message.content] == [NO_SEARCH]
    assert upstream.requests == []
    [record] = gateway.calls()
    assert (record["outcome"], record["notes"]) == ("ok", "search=not_configured")


def test_beside_other_tools_it_is_left_out_with_a_note(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(settings_for(upstream, None))
    tools = [*TOOLS, {"name": "read", "input_schema": {"type": "object"}}]
    answer = gateway.http.post(f"{gateway.url}/messages", json={**ASK, "tools": tools}, timeout=30)
    assert answer.headers["x-compat-notes"] == "dropped=tool(web_search)"


def test_a_model_that_never_stops_searching_comes_to_an_end(start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream) -> None:
    gateway = start_gateway(settings_for(upstream, endpoint))
    call = {"id": "call_s", "type": "function", "function": {"name": "web_search", "arguments": '{"query": "again"}'}}
    upstream.default = openai.json_answer(openai.completion(None, finish_reason="tool_calls", tool_calls=[call]))
    with client_of(gateway) as client:
        message = ask(client, stream=False, tools=[{**TOOLS[0], "max_uses": 3}])
    errors = [block.content for block in message.content if block.type == "web_search_tool_result" and not isinstance(block.content, list)]
    assert {error.error_code for error in errors[:-1]} == {"max_uses_exceeded"}
    assert len(endpoint.requests) == 3


def test_a_client_that_leaves_ends_the_search(start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream) -> None:
    endpoint.default = Answer([Stall()])
    gateway = start_gateway(settings_for(upstream, endpoint))
    answer = gateway.http.post(f"{gateway.url}/messages", json={**ASK, "stream": True}, stream=True, timeout=30)
    text = b""
    for piece in answer.iter_content(None):
        text += piece
        if b"server_tool_use" in text:
            break
    wait_until(lambda: len(endpoint.requests) == 1)
    answer.close()
    gateway.http.close()
    wait_until(lambda: [call["outcome"] for call in gateway.calls()] == ["cancelled"])
    wait_until(lambda: endpoint.open_connections == 0)


def test_an_upstream_that_dies_after_the_search_is_an_error(start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream) -> None:
    gateway = start_gateway(settings_for(upstream, endpoint, retry={"attempts": 2, "first_wait_s": 0.001}))

    def dies(request: Request) -> Answer:
        is_later = request.json["messages"][-1]["role"] == "tool"
        return openai.sse_answer(openai.event(openai.chunk({"content": "It"})), Cut()) if is_later else searching_model(request)

    upstream.default = dies
    answer = gateway.http.post(f"{gateway.url}/messages", json={**ASK, "stream": True}, timeout=30)
    events = events_of(answer.content)
    assert events[-1]["type"] == "error"
    assert "message_stop" not in [event["type"] for event in events]


def test_what_an_answer_with_searches_took_teaches_no_estimate(start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream) -> None:
    gateway = start_gateway(settings_for(upstream, endpoint))
    with client_of(gateway) as client:
        ask(client, stream=False)
        ask(client, stream=False, tools=[*TOOLS, {"name": "read", "input_schema": {"type": "object"}}])
    assert len(gateway.gateway.scales) == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_search_of_the_responses_api_is_run_and_shown_as_its_item(
    start_gateway: Any, upstream: FakeUpstream, endpoint: FakeUpstream, stream: bool
) -> None:
    gateway = start_gateway(settings_for(upstream, endpoint, upstreams={"fake": {"wire_api": "chat"}}))
    body = {"model": "claude-4-sonnet", "input": f"Search for {QUERY}.", "tools": [{"type": "web_search"}], "stream": stream}
    answer = gateway.http.post(f"{gateway.url}/responses", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    if stream:
        output = [event["item"] for event in events_of(answer.content) if event["type"] == "response.output_item.done"]
    else:
        output = answer.json()["output"]
    assert [item["type"] for item in output] == ["message", "web_search_call", "message"]
    assert output[1]["action"]["query"] == QUERY
    assert output[2]["content"][0]["text"] == SAID
    assert len(endpoint.requests) == 1
