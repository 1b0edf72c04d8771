"""The Responses API over a WebSocket: what a message asks for, what goes before it, and events as messages."""

from __future__ import annotations

from typing import Any

import pytest

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.responses.socket import AnswerMessages, Memory, error_message, read_create, warmed_up
from compat.protocols.responses.state import Wish
from compat.wire.envelope import Envelope
from compat.wire.sse import KEEP_ALIVE, data_frame

SEALED = "reasoning.encrypted_content"
ONE, TWO, THREE = b'{"id": 1}', b'{"id":2}', b'{"id":3}'


def message(**fields: Any) -> Envelope:
    return Envelope(jsonio.encode({"type": "response.create", "model": "m", **fields}))


def test_a_message_is_the_body_of_a_call_that_streams() -> None:
    create = read_create(message(input=[{"id": 1}], store=False, generate=True, previous_response_id=None), Memory(99))
    assert jsonio.decode(create.envelope.body) == {"model": "m", "input": [{"id": 1}], "store": False, "stream": True, "include": [SEALED]}
    assert (create.items, create.stream_id, create.generates) == ((b'{"id":1}',), "", True)


@pytest.mark.parametrize(
    ("given", "items"),
    [
        ({"input": "Hi"}, ({"type": "message", "role": "user", "content": "Hi"},)),
        ({"input": []}, ()),
        ({"input": None}, ()),
        ({}, ()),
    ],
)
def test_any_input_is_a_list_of_items(given: dict[str, Any], items: tuple[Any, ...]) -> None:
    assert tuple(map(jsonio.decode, read_create(message(**given), Memory(99)).items)) == items


@pytest.mark.parametrize(
    ("include", "wanted"), [(["x"], ["x", SEALED]), ([SEALED, "x"], [SEALED, "x"]), ("x", [SEALED])], ids=["added", "there", "no-list"]
)
def test_thoughts_come_sealed_so_that_the_next_answer_can_go_on_from_them(include: Any, wanted: list[str]) -> None:
    assert read_create(message(include=include), Memory(99)).envelope.value("include") == wanted


def test_an_answer_is_gone_on_from_with_all_that_went_before_it_byte_for_byte() -> None:
    memory = Memory(99)
    memory.keep("resp_1", (ONE, TWO))
    create = read_create(message(input=[{"id": 3}], previous_response_id="resp_1", generate=False, stream_id="main"), memory)
    assert create.envelope["input"] == b"[" + b",".join((ONE, TWO, THREE)) + b"]"
    assert (create.items, create.stream_id, create.generates) == ((ONE, TWO, THREE), "main", False)
    assert "previous_response_id" not in create.envelope


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"type": "response.cancel"}, "type"),
        ({"type": None}, "type"),
        ({"background": True}, "background"),
        ({"previous_response_id": 5}, "previous_response_id"),
        ({"previous_response_id": "gone"}, "previous_response_id"),
        ({"input": 5}, "input"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_create(message(**fields), Memory(99))
    assert caught.value.param == param
    if fields.get("previous_response_id") == "gone":
        assert (caught.value.code, caught.value.message) == ("previous_response_not_found", "Previous response with id 'gone' not found.")


def test_the_oldest_answers_are_forgotten_where_there_is_no_room() -> None:
    memory = Memory(len(ONE + TWO))
    memory.keep("a", (ONE,))
    memory.keep("b", (ONE, TWO))  # what they share counts once
    assert (memory.before("a"), memory.before("b")) == ((ONE,), (ONE, TWO))
    memory.keep("c", (TWO, THREE))
    assert memory.before("c") == (TWO, THREE)
    with pytest.raises(BadRequest):
        memory.before("a")
    memory.keep("large", (b"x" * 99,))
    with pytest.raises(BadRequest):
        memory.before("large")


def test_an_answer_that_is_forgotten_is_not_found_and_the_others_are() -> None:
    memory = Memory(100)
    for name in ("resp_1", "resp_2"):
        memory.keep(name, (b"{}",))
    memory.forget("resp_1")
    memory.forget("resp_that_was_never_there")
    assert memory.before("resp_2") == (b"{}",)
    with pytest.raises(BadRequest, match="not found"):
        memory.before("resp_1")


def test_an_older_answer_is_looked_for_elsewhere() -> None:
    memory = Memory(100, lambda name: [name.encode()])
    memory.keep("resp_1", (ONE,))
    assert (memory.before("resp_1"), memory.before("resp_0")) == ((ONE,), (b"resp_0",))


def test_a_result_of_no_call_is_refused_and_nobody_goes_on_from_that_answer() -> None:
    memory = Memory(100)
    memory.keep("resp_1", (ONE,))
    output = {"type": "function_call_output", "call_id": "call_1", "output": ""}
    with pytest.raises(BadRequest, match="No tool call found for function call output with call_id call_1"):
        read_create(message(input=[output], previous_response_id="resp_1"), memory)
    with pytest.raises(BadRequest, match="Previous response with id 'resp_1' not found"):
        read_create(message(input=[output], previous_response_id="resp_1"), memory)


def test_what_is_to_be_stored_is_said() -> None:
    assert read_create(message(input=[{"id": 1}]), Memory(99)).wish == Wish(True, items=(ONE.replace(b" ", b""),))
    assert not read_create(message(store=False), Memory(99)).wish.stores


def test_no_more_than_a_few_answers_are_remembered() -> None:
    memory = Memory(10**6)
    for number in range(9):
        memory.keep(str(number), (ONE,))
    memory.keep("8", (TWO,))
    assert memory.before("1") == (ONE,)
    assert memory.before("8") == (TWO,)
    with pytest.raises(BadRequest):
        memory.before("0")


def event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\n" + data_frame(jsonio.encode({"type": kind, **fields}))


FRAMES = b"".join(
    (
        event("response.created", response={"id": "resp_1"}),
        KEEP_ALIVE,
        event("response.output_text.delta", delta='"response.completed" "response.output_item.done"'),
        event("response.output_item.done", item={"id": 1}),
        event("response.completed", response={"id": "resp_1"}),
    )
)


def test_events_are_messages_and_leave_what_the_next_answer_goes_on_from() -> None:
    messages = AnswerMessages()
    found = [jsonio.decode(text)["type"].removeprefix("response.") for text in messages.of(FRAMES)]
    assert found == ["created", "output_text.delta", "output_item.done", "completed"]
    assert (messages.items, messages.answer_id) == ([b'{"id":1}'], "resp_1")


def test_an_answer_that_failed_leaves_nothing() -> None:
    messages = AnswerMessages()
    assert list(messages.of(event("response.failed", response={"id": "resp_1"}))) != []
    assert list(messages.of(b'data: "response.completed" and no JSON\n\n')) == [b'"response.completed" and no JSON']
    assert list(messages.of(event("response.other", said="response.completed"))) != []
    assert messages.answer_id == ""
    assert list(messages.of(event("response.incomplete", response={"id": "resp_2"}))) != []
    assert messages.answer_id == "resp_2"


def test_events_of_a_stream_that_has_a_name_bear_it() -> None:
    assert {jsonio.decode(text)["stream_id"] for text in AnswerMessages("main").of(FRAMES)} == {"main"}


def test_an_error_is_a_message_with_its_status_and_headers() -> None:
    body = b'{"error":{"message":"no","code":"c"}}'
    told = {"type": "error", "status": 429, "error": {"message": "no", "code": "c"}, "headers": {"retry-after": "2"}}
    assert jsonio.decode(error_message(429, body, [("retry-after", "2")])) == told
    assert jsonio.decode(error_message(429, body, [("retry-after", "2")], "main")) == {**told, "stream_id": "main"}


def test_an_answer_that_was_not_to_be_made_can_be_gone_on_from() -> None:
    messages = AnswerMessages()
    first, last = map(jsonio.decode, messages.of(warmed_up("resp_1", "m", 5)))
    assert (first["response"]["status"], last["response"]["status"], last["response"]["output"]) == ("in_progress", "completed", [])
    assert (messages.answer_id, messages.items, last["response"]["created_at"]) == ("resp_1", [], 5)
