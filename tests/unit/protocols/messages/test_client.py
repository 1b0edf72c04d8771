"""What the core asks of the Messages protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.errors import BadRequest
from compat.protocols.client_protocol import Ask, Identity, Said
from compat.protocols.events import BlockStart, Stop, TextDelta, Used
from compat.protocols.messages.client import MESSAGES
from compat.protocols.messages.client_request import session_in
from compat.wire.envelope import Envelope
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage
from tests.cases.messages_client import events_of, message_of, plain, words
from tests.fakes.anthropic_answers import event_bytes, message, stream_events, text, tool_use

HI = {"role": "user", "content": "Hi"}
RESCUE = MESSAGES.rescue


def envelope(**fields: Any) -> Envelope:
    return Envelope(json.dumps({"model": "claude", "messages": [HI], **fields}).encode())


def test_what_a_request_says() -> None:
    assert MESSAGES.read(envelope(), {}) == Ask("claude", wants_usage=True)
    asked = MESSAGES.read(envelope(stream=True, max_tokens=100), {"x-claude-code-session-id": "s"})
    assert asked == Ask("claude", True, True, 100, session_id="s")
    assert MESSAGES.read(envelope(metadata={"user_id": '{"session_id":"t"}'}), {}).session_id == "t"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"messages": "Hi"}, "messages: Input should be a valid list"),
        ({"messages": []}, "messages: at least one message is required"),
    ],
)
def test_what_no_call_can_do_without(fields: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        MESSAGES.read(envelope(**fields), {})


@pytest.mark.parametrize(
    ("user_id", "session"),
    [
        ('{"device_id":"d","session_id":"s-1"}', "s-1"),
        ("user_abc_account_def_session_s-2", "s-2"),
        ("somebody", ""),
        ("{broken", ""),
        ('{"session_id": 5}', ""),
        (5, ""),
        (None, ""),
    ],
)
def test_the_session_is_read_from_the_users_id(user_id: Any, session: str) -> None:
    assert session_in(user_id) == session


def test_a_conversation_is_known_by_what_it_began_with() -> None:
    began = MESSAGES.opening(envelope())
    assert began == MESSAGES.opening(
        envelope(messages=[{"role": "user", "content": [text("Hi")]}, {"role": "assistant", "content": "Yes?"}])
    )
    assert began != MESSAGES.opening(envelope(messages=[{"role": "user", "content": "Ho"}]))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"tools": []}, ""),
        ({"tools": [{"name": "x"}]}, "tools"),
        ({"messages": [HI, {"role": "assistant", "content": [tool_use()]}]}, "tool-results"),
        ({"messages": [{"role": "user", "content": [text("a"), 5, {"type": "tool_result"}]}]}, "tool-results"),
        ({"messages": [{"role": "user", "content": [text("a")]}]}, ""),
        ({"messages": ["x"]}, "messages"),
    ],
)
def test_answers_of_agents_are_not_given_again(fields: Any, why: str) -> None:
    assert MESSAGES.obstacle is not None
    assert MESSAGES.obstacle(envelope(**fields)) == why


@pytest.mark.parametrize("said", ["A", ""])
def test_an_answer_is_given_again_for_nothing_whole_and_streamed(said: str) -> None:
    body = MESSAGES.again([Said(0, said, "Hm.")], Identity("msg_1", 17, "claude"))
    document = plain(json.loads(body))
    assert (document["id"], document["model"], document["content"]) == ("msg_1", "claude", [words(said)] if said else [])
    assert (document["usage"]["input_tokens"], document["usage"]["output_tokens"]) == (0, 0)
    assert message_of(events_of(MESSAGES.replay(body, True))) == document


def test_the_beginning_of_a_call_is_known_by_its_bytes() -> None:
    calls, others = event_bytes(stream_events([text("A"), tool_use()])), event_bytes(stream_events([text('{"type":"tool_use"}')]))
    assert MESSAGES.call_key in calls
    assert MESSAGES.begins_call(calls)
    assert not MESSAGES.begins_call(others)
    assert not MESSAGES.begins_call(event_bytes(stream_events([text("A")], stop_reason="tool_use")))


def test_ids_are_this_protocols() -> None:
    assert MESSAGES.answer_id("1") == "msg_1"


# An answer that is carried on.


def test_what_may_be_put_together_from_two_answers() -> None:
    assert RESCUE is not None
    assert RESCUE.may(envelope())
    assert RESCUE.may(envelope(output_config={"effort": "low"}))
    assert not RESCUE.may(envelope(output_config={"format": {}}))
    assert not RESCUE.may(envelope(output_format={}))
    assert [RESCUE.asks_thinking(envelope(thinking=one)) for one in (None, {"type": "disabled"}, {"type": "adaptive"})] == [
        False,
        False,
        True,
    ]


def test_the_rest_is_asked_for_with_what_was_said() -> None:
    assert RESCUE is not None
    asked = json.loads(RESCUE.rest(envelope(max_tokens=100), "So far ", 40, "Go on.").body)
    assert asked["messages"] == [HI, {"role": "assistant", "content": "So far "}, {"role": "user", "content": "Go on."}]
    assert asked["max_tokens"] == 60
    prefilled = json.loads(RESCUE.rest(envelope(), "So far ", 40, "").body)
    assert prefilled == {"model": "claude", "messages": [HI, {"role": "assistant", "content": "So far"}]}


def test_a_stream_goes_on_where_it_stands() -> None:
    assert RESCUE is not None
    shown = event_bytes(stream_events([text("So far ")])[:-3])
    reader = MESSAGES.reader()
    for block in EventSplitter().feed(shown):
        list(reader.read(block))
    assert reader.place == (0, "text")
    writer = RESCUE.going_on(Identity("msg_theirs", 0, "claude", reader.place), True)
    rest = [BlockStart(0, "text"), TextDelta(0, "so good."), Stop("end"), Used(Usage(3, 4))]
    whole = message_of(events_of(shown + b"".join(map(writer.write, rest)) + writer.finish()))
    assert whole["content"] == [words("So far so good.")]
    other = RESCUE.going_on(Identity("msg_theirs", 0, "claude"), True)
    assert events_of(other.write(rest[0]) + other.write(rest[1]))[0]["index"] == 0
    assert RESCUE.with_spent({"x": 1}, Usage(), 0.0) == {"x": 1}


def test_a_whole_answer_is_read_as_events() -> None:
    assert TextDelta(0, "A") in list(MESSAGES.whole_events(json.dumps(message([text("A")])).encode()))
