"""Searches that OpenAI's service runs for clients of Anthropic's protocol: asked for, shown with what they found, and counted."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.protocols import TRANSLATORS
from compat.protocols.base import AnswerMemory, SearchTool, TranslationContext
from compat.protocols.refusals import SEARCH_MARK
from compat.protocols.sealed import PREFIX
from compat.wire.envelope import Envelope
from tests.cases.messages_client import events_of, message_of, plain
from tests.fakes import responses_items as items
from tests.fakes.responses_answers import event_bytes, response, stream_events

PAIR = TRANSLATORS["anthropic.messages", "openai.responses"]
SEARCH: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
CTX = TranslationContext(
    "claude", "gpt-x", Model(id="gpt-x", reasoning=True), "msg_1", 17, is_stream=True, memory=AnswerMemory(search=SearchTool("web_search"))
)
ASK = {"role": "user", "content": "Search."}
SOURCE = {"type": "url", "url": "https://a.example"}
NOTE = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}


def sent(*turns: Any, refused: frozenset[str] = frozenset(), **fields: Any) -> dict[str, Any]:
    envelope = Envelope(json.dumps({"model": "claude", "max_tokens": 100, "messages": [ASK, *turns], **fields}).encode())
    body = json.loads(PAIR.request(envelope, dataclasses.replace(CTX, refused_parameters=refused)).body)
    assert isinstance(body, dict)
    return body


def search(item_id: str = "ws_1", **action: Any) -> dict[str, Any]:
    return {**items.web_search(item_id), "action": {"type": "search", "query": "weather", **action}}


def said(*notes: Any) -> dict[str, Any]:
    return items.message(items.text_part("Sunny.", notes))


def shown(*output: dict[str, Any]) -> dict[str, Any]:
    """The message, which is the same whole and streamed."""
    whole = plain(json.loads(PAIR.response(json.dumps(response(list(output))).encode(), CTX).body))
    stream = PAIR.stream(CTX)
    frames = stream.feed(event_bytes(stream_events(list(output))))
    assert stream.failure is None
    assert message_of(events_of(frames + stream.finish(is_whole=True))) == whole
    return whole


def test_the_service_is_asked_to_search() -> None:
    place = {"type": "approximate", "city": "Bern"}
    body = sent(
        tools=[{**SEARCH, "allowed_domains": ["a.example"], "user_location": place}], tool_choice={"type": "tool", "name": "web_search"}
    )
    assert body["tools"] == [{"type": "web_search", "filters": {"allowed_domains": ["a.example"]}, "user_location": place}]
    assert (body["tool_choice"], body["max_tool_calls"]) == ({"type": "web_search"}, 8)
    assert body["include"][-1] == "web_search_call.action.sources"


def test_a_search_without_bounds_has_none() -> None:
    body = sent(tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert body["tools"] == [{"type": "web_search"}]
    assert "max_tool_calls" not in body


def test_what_was_refused_is_not_asked_for_again() -> None:
    assert "tools" not in sent(tools=[SEARCH], refused=frozenset({SEARCH_MARK}))
    body = sent(tools=[SEARCH], refused=frozenset({"max_tool_calls", "include"}))
    assert body["tools"] == [{"type": "web_search"}]
    assert not body.keys() & {"include", "max_tool_calls"}


def test_other_tools_of_the_service_are_none_of_it() -> None:
    body = sent(tools=[{"type": "code_execution_20250825", "name": "code_execution"}])
    assert not body.keys() & {"tools", "max_tool_calls"}


def test_a_search_whose_sources_are_told_is_shown_at_once() -> None:
    message = shown(search(sources=[SOURCE, SOURCE, {"type": "api"}, "odd"]), said(NOTE))
    use, found, text = message["content"]
    assert (use["type"], use["name"], use["input"]) == ("server_tool_use", "web_search", {"query": "weather"})
    assert [(page["url"], page["title"]) for page in found["content"]] == [("https://a.example", "https://a.example")]
    assert found["tool_use_id"] == use["id"]
    assert text["text"] == "Sunny."
    assert text["citations"] == [
        {"type": "web_search_result_location", "url": "https://a.example", "title": "A", "encrypted_index": PREFIX, "cited_text": ""}
    ]
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_without_them_the_notes_on_the_words_say_what_was_found() -> None:
    message = shown(search("ws_1"), search("ws_2"), said(NOTE))
    kinds = [block["type"] for block in message["content"]]
    assert kinds == ["server_tool_use", "server_tool_use", "text", "web_search_tool_result", "web_search_tool_result"]
    found = [block for block in message["content"] if block["type"] == "web_search_tool_result"]
    assert [(page["url"], page["title"]) for page in found[0]["content"]] == [("https://a.example", "A")]
    assert found[1].get("content") == []
    assert [block["tool_use_id"] for block in found] == [block["id"] for block in message["content"][:2]]


def test_a_search_of_which_nothing_is_told_has_found_nothing() -> None:
    message = shown(search(queries=["a", "b"], query=None), said())
    assert message["content"][0]["input"] == {"query": "a; b"}
    assert [block["type"] for block in message["content"]][-1] == "web_search_tool_result"


@pytest.mark.parametrize("action", [{"type": "open_page", "url": "https://a.example"}, {"type": "find_in_page"}])
def test_to_open_a_page_is_no_search(action: Any) -> None:
    message = shown({**items.web_search(), "action": action}, said())
    assert [block["type"] for block in message["content"]] == ["text"]


@pytest.mark.parametrize("action", [None, "odd", {"type": "search", "queries": "odd"}])
def test_an_odd_search_is_one_for_nothing(action: Any) -> None:
    message = shown({"id": "", "type": "web_search_call", "status": "completed", "action": action}, said())
    assert message["content"][0]["input"] == {"query": ""}


def test_a_history_with_searches_is_calls_and_their_outputs() -> None:
    content = shown(search(sources=[SOURCE]), said())["content"]
    body = sent({"role": "assistant", "content": content}, {"role": "user", "content": "Thanks."}, tools=[SEARCH])
    kinds = [item["type"] for item in body["input"]]
    assert kinds == ["message", "function_call", "function_call_output", "message", "message"]
    call, output = body["input"][1:3]
    assert call["call_id"] == output["call_id"] == "ws_1"
    assert output["output"] == "https://a.example: https://a.example"


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Hosted tool 'web_search' is not supported with gpt-x.", SEARCH_MARK),
        ("Invalid value: 'web_search'. Supported values are: 'function'. (tools[0].type)", SEARCH_MARK),
        ("Unknown parameter: 'max_tool_calls'.", "max_tool_calls"),
        ("Invalid value: 'web_search_call.action.sources' (include[1])", "include"),
    ],
)
def test_it_is_learnt_what_of_it_a_deployment_refuses(message: str, name: str) -> None:
    error = PAIR.error(400, {}, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode(), CTX)
    assert PAIR.refused(error) == name
