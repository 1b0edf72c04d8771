"""What requests ask of a store of answers, and what their clients read of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.errors import BadRequest
from compat.protocols.responses import state
from compat.protocols.responses.shown import replayed
from compat.wire.envelope import Envelope

USER = {"role": "user", "content": "Hi"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}


def envelope(**fields: Any) -> Envelope:
    return Envelope(json.dumps(fields).encode())


def raw(*items: Any) -> list[bytes]:
    return [json.dumps(item).encode() for item in items]


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, state.Wish(True)),
        ({"store": None, "background": None, "previous_response_id": None, "input": None}, state.Wish(True)),
        ({"store": False, "previous_response_id": "resp_1"}, state.Wish(previous="resp_1")),
        ({"background": True, "stream": True}, state.Wish(True, True, True)),
        ({"input": "Hi"}, state.Wish(True, items=(b'{"type":"message","role":"user","content":"Hi"}',))),
        ({"input": [1, {"a": 2}]}, state.Wish(True, items=(b"1", b'{"a": 2}'))),
    ],
)
def test_what_is_asked_is_read(fields: dict[str, Any], wish: state.Wish) -> None:
    assert state.wish_of(envelope(**fields)) == wish


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": 5}, "previous_response_id"),
        ({"store": "yes"}, "store"),
        ({"background": 1}, "background"),
        ({"background": True, "store": False}, "background"),
        ({"input": {"role": "user"}}, "input"),
    ],
)
def test_what_can_not_be_asked_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        state.wish_of(envelope(**fields))
    assert refused.value.param == param


def test_a_call_goes_on_with_what_was_said_and_stores_nothing_upstream() -> None:
    asked = envelope(model="any", input="Hi", store=True, previous_response_id="resp_1", background=True, include=["x"], extra={"a": [1]})
    call = json.loads(state.gone_on(asked, raw(USER), raw({"n": 1})).body)
    assert call == {
        "model": "any",
        "input": [USER, {"n": 1}],
        "store": False,
        "include": ["x", "reasoning.encrypted_content"],
        "extra": {"a": [1]},
    }


def test_a_call_without_items_keeps_none_and_asks_for_seals_once() -> None:
    asked = envelope(model="any", include=["reasoning.encrypted_content"])
    assert json.loads(state.gone_on(asked, (), ()).body) == {"model": "any", "include": ["reasoning.encrypted_content"], "store": False}


@pytest.mark.parametrize(
    ("before", "items"),
    [
        ([CALL], [{"type": "function_call_output", "call_id": "call_1", "output": ""}]),
        ([USER], [{**CALL, "type": "custom_tool_call"}, {"type": "custom_tool_call_output", "call_id": "call_1", "output": ""}]),
        ([USER], [{"type": "function_call_output", "call_id": 5}, 7]),
        ([USER], [{"type": ["function_call_output"], "call_id": "call_1"}]),
        ([], [{"type": "function_call_output", "call_id": "call_1", "output": ""}]),
    ],
)
def test_results_of_calls_that_were_made_go_on(before: list[Any], items: list[Any]) -> None:
    state.gone_on(envelope(), raw(*before), raw(*items))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("function_call_output", "No tool call found for function call output with call_id call_2."),
        ("custom_tool_call_output", "No tool call found for custom tool call output with call_id call_2."),
    ],
)
def test_a_result_of_no_call_is_refused_in_the_services_words(kind: str, words: str) -> None:
    with pytest.raises(BadRequest) as refused:
        state.gone_on(envelope(), raw(USER, CALL), raw({"type": kind, "call_id": "call_2", "output": ""}))
    assert (refused.value.message, refused.value.param) == (words, "input")


def test_an_answer_says_its_input_and_its_output() -> None:
    [items, body] = raw([USER], {"id": "resp_1", "output": [CALL]})
    said, is_all = state.said_in(items, body)
    assert ([json.loads(item) for item in said], is_all) == ([USER, CALL], False)
    assert state.said_in(items, b"{}") == (raw(USER), False)


def test_an_answer_that_made_the_conversation_short_stands_for_all_of_it() -> None:
    short = {"type": "compaction", "encrypted_content": "x"}
    [items, body] = raw([USER], {"output": [CALL, short, USER]})
    said, is_all = state.said_in(items, body)
    assert ([json.loads(item) for item in said], is_all) == ([short, USER], True)


def test_an_answer_that_is_not_there_is_not_found_in_the_services_words() -> None:
    assert (state.not_found("resp_1").message, state.not_found("resp_1").status) == ("Response with id 'resp_1' not found.", 404)


def told(status: str, response: bytes) -> bytes:
    return state.changed(response, {"seen": status})


def event(name: str, **fields: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def test_objects_in_frames_are_changed_and_nothing_else() -> None:
    delta = event("response.output_text.delta", delta="event: response.completed")
    frames = event("response.created", response={"id": "a"}, sequence_number=0) + delta + event("response.completed", response={"id": "b"})
    assert state.retold(frames, told) == (
        event("response.created", response={"id": "a"}, sequence_number=0).replace(b'"a"}', b'"a","seen":"created"}')
        + delta
        + event("response.completed", response={"id": "b"}).replace(b'"b"}', b'"b","seen":"completed"}')
    )
    assert state.retold(delta, told) is delta
    assert state.retold(b": waiting\n\n", told) == b": waiting\n\n"


def test_a_queued_answer_has_every_field() -> None:
    body = json.loads(state.queued("resp_1", 5, "any", envelope(model="any", instructions="Be brief.")))
    assert (body["id"], body["status"], body["created_at"], body["instructions"], body["output"]) == (
        "resp_1",
        "queued",
        5,
        "Be brief.",
        [],
    )
    assert state.status_of(json.dumps(body).encode()) == "queued"
    assert state.status_of(b"{}") == ""


def test_a_stream_goes_on_behind_an_event() -> None:
    body = json.dumps({"id": "resp_1", "status": "completed", "output": [{"id": "msg_1", "type": "message", "content": []}]}).encode()
    whole = state.later(replayed(body), -1)
    numbers = [json.loads(block.partition(b"data: ")[2])["sequence_number"] for block in whole.strip().split(b"\n\n")]
    assert numbers == list(range(5))
    assert state.later(replayed(body), 3) == b"event" + whole.rpartition(b"event")[2]
    assert state.later(replayed(body), 4) == b""
    assert state.later(b"", -1) == b""


@pytest.mark.parametrize(
    ("query", "number"), [({}, -1), ({"starting_after": ""}, -1), ({"starting_after": "0"}, 0), ({"starting_after": "12"}, 12)]
)
def test_where_a_stream_begins_is_read(query: dict[str, str], number: int) -> None:
    assert state.starting_after(query) == number


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "²", "9" * 16])
def test_where_no_stream_begins_is_refused(number: str) -> None:
    with pytest.raises(BadRequest, match="starting_after"):
        state.starting_after({"starting_after": number})


@pytest.mark.parametrize(
    ("query", "wanted"),
    [({}, state.Listing()), ({"limit": "100", "order": "asc", "after": "a"}, state.Listing(100, "a", is_newest_first=False))],
)
def test_a_page_is_read(query: dict[str, str], wanted: state.Listing) -> None:
    assert state.listing_of(query) == wanted


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"limit": "9" * 5000}, {"order": "up"}])
def test_no_page_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="must be"):
        state.listing_of(query)


ITEMS = json.dumps(
    [USER, {"role": "assistant", "content": "Yes"}, {"id": "fc_1", **CALL}, {"id": None, "type": "x"}, {**USER, "content": []}]
).encode()


def page(**wanted: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(state.listed("resp_1", ITEMS, state.Listing(**wanted)))
    return found


def test_items_are_listed_the_newest_first_with_ids_and_parts() -> None:
    found = page()
    assert (found["object"], found["first_id"], found["last_id"], found["has_more"]) == ("list", "item_1_4", "item_1_0", False)
    assert found["data"][-1] == {
        "id": "item_1_0",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "Hi"}],
    }
    assert found["data"][-2]["content"] == [{"type": "output_text", "text": "Yes"}]
    assert found["data"][2] == {"id": "fc_1", **CALL}


def test_pages_follow_each_other_to_the_end() -> None:
    ids: list[str] = []
    after, has_more = "", True
    while has_more:
        found = page(limit=2, after=after, is_newest_first=False)
        ids += [item["id"] for item in found["data"]]
        after, has_more = found["last_id"], found["has_more"]
    assert ids == ["item_1_0", "item_1_1", "fc_1", "item_1_3", "item_1_4"]
    assert page(after="item_1_0") == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_a_page_behind_no_item_is_refused() -> None:
    with pytest.raises(BadRequest, match="No item with id 'x' found"):
        page(after="x")


def test_a_list_takes_whatever_is_no_object() -> None:
    assert json.loads(state.listed("resp_1", b'[5, "x"]', state.Listing()))["data"] == []
