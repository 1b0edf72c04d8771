"""The client's half of chat: what a request says, and that an answer that was begun is carried on as one stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from compat.errors import BadRequest
from compat.protocols.chat.chunks import DONE
from compat.protocols.chat.client import CHAT
from compat.protocols.client_protocol import Ask, Identity, Said
from compat.protocols.events import BlockStart, Event, RefusalDelta, Stop, TextDelta, Unknown, Used
from compat.protocols.transcript import Transcript
from compat.wire.envelope import Envelope
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage

GOOD = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
assert CHAT.rescue is not None
RESCUE = CHAT.rescue
GIVEN = Identity("chatcmpl-1", 5, "alias")


def envelope(**more: Any) -> Envelope:
    return Envelope(json.dumps({**GOOD, **more}).encode())


def read(document: Mapping[str, Any]) -> Ask:
    return CHAT.read(Envelope(json.dumps(document).encode()), {})


def documents(*events: Event, wants_usage: bool = True) -> list[Any]:
    writer = RESCUE.going_on(GIVEN, wants_usage)
    frames = b"".join(map(writer.write, events)) + writer.finish()
    assert frames.endswith(DONE)
    return [json.loads(block[6:]) for block in frames.removesuffix(DONE).split(b"\n\n") if block]


def test_a_stream_goes_on_under_its_identity_without_another_role() -> None:
    [text, end] = documents(TextDelta(0, "a"), Stop("end"))
    assert (text["id"], text["created"], text["model"]) == ("chatcmpl-1", 5, "alias")
    assert text["choices"][0]["delta"] == {"content": "a"}
    assert end["choices"][0]["finish_reason"] == "stop"


def test_refusals_and_what_only_this_protocol_knows_are_written() -> None:
    told = documents(
        BlockStart(0, "refusal"),
        RefusalDelta(0, "No"),
        Unknown("openai.chat", "audio", value={"id": "x"}),
        Unknown("openai.chat", "logprobs"),
        BlockStart(1, "tool_call", "c", "f", more={"extra": 1}),
        Stop("refusal"),
    )
    deltas = [one["choices"][0]["delta"] for one in told]
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}, "extra": 1}
    assert deltas == [{"refusal": "No"}, {"audio": {"id": "x"}}, {"tool_calls": [call]}, {}]
    assert told[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_usage_is_what_was_told_of_it() -> None:
    assert documents(Used(Usage(3, 4), {"prompt_tokens": 3, "x": 1}))[0]["usage"] == {"prompt_tokens": 3, "x": 1}
    assert documents(Used(Usage(3, 4), {"prompt_tokens": 3}), wants_usage=False) == []


def test_what_earlier_parts_took_is_added_to_counts_and_cost() -> None:
    told = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "cost_details": {"upstream_inference_cost": 0.5}, "x": 1}
    added = RESCUE.with_spent(told, Usage(100, 20), 0.25)
    assert added == {
        "prompt_tokens": 111,
        "completion_tokens": 27,
        "total_tokens": 138,
        "cost_details": {"upstream_inference_cost": 0.75},
        "x": 1,
    }
    for told in (None, {"prompt_tokens": "n/a"}, {"prompt_tokens": [1], "completion_tokens": 10**40}):
        assert RESCUE.with_spent(told, Usage(1, 2), 0.25) == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_what_it_writes_it_reads() -> None:
    writer = RESCUE.going_on(GIVEN, False)
    reader, transcript = CHAT.reader(), Transcript()
    frames = writer.write(TextDelta(0, "a")) + writer.write(Stop("length")) + writer.finish()
    for block in EventSplitter().feed(frames):
        for event in reader.read(block):
            transcript.add(event)
    assert (transcript.identity, transcript.turn().text, transcript.turn().reason, reader.is_done) == (
        ("chatcmpl-1", 5),
        "a",
        "length",
        True,
    )


# What a request says.


def test_a_models_name_is_stripped() -> None:
    assert read({**GOOD, "model": " m\n"}).model == "m"


@pytest.mark.parametrize(
    ("more", "is_stream", "wants_usage"),
    [
        ({}, False, False),
        ({"stream": None}, False, False),
        ({"stream": False, "stream_options": None}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": 1}}, True, False),
    ],
)
def test_streaming_and_usage_are_read(more: dict[str, Any], is_stream: bool, wants_usage: bool) -> None:
    ask = read({**GOOD, **more})
    assert (ask.is_stream, ask.wants_usage) == (is_stream, wants_usage)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None),
        ("model", 5),
        ("model", ""),
        ("model", "  "),
        ("model", ["m"]),
        ("model", "m" * 501),
        ("stream", "true"),
        ("stream", 1),
        ("messages", None),
        ("messages", "Hi"),
        ("messages", {}),
        ("messages", []),
        ("stream_options", 5),
        ("stream_options", "usage"),
        ("stream_options", [1]),
    ],
)
def test_a_wrong_key_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"'{key}' must") as caught:
        read({**GOOD, key: value})
    assert caught.value.param == key


@pytest.mark.parametrize("key", ["model", "messages"])
def test_a_missing_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(BadRequest, match=f"'{key}' must"):
        read({name: value for name, value in GOOD.items() if name != key})


def test_an_empty_list_may_hold_blanks() -> None:
    with pytest.raises(BadRequest, match="at least one message"):
        CHAT.read(Envelope(b'{"model": "m", "messages": [ \n ]}'), {})


@pytest.mark.parametrize(
    ("more", "limit", "answers"),
    [
        ({}, None, 1),
        ({"max_tokens": 30}, 30, 1),
        ({"max_tokens": 30, "max_completion_tokens": 40}, 40, 1),
        ({"max_tokens": -1}, None, 1),
        ({"max_tokens": "many"}, None, 1),
        ({"n": 3}, None, 3),
        ({"n": 1000}, None, 128),
        ({"n": True}, None, 1),
        ({"n": 0}, None, 1),
    ],
    ids=str,
)
def test_how_much_is_asked_for_is_read(more: dict[str, Any], limit: int | None, answers: int) -> None:
    ask = read({**GOOD, **more})
    assert (ask.output_limit, ask.answers_wanted) == (limit, answers)


def test_a_conversation_is_known_by_what_it_began_with() -> None:
    assert CHAT.opening(envelope()) == [b"user", b"x"]
    assert CHAT.answer_id("7") == "chatcmpl-7"


# What may be given again.


TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", **TOOL}]}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, ""),
        ({"tools": [TOOL]}, "tools"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"tools": [], "functions": None}, ""),
        ({"messages": [{"role": "user", "content": "a"}, CALL]}, "tool-results"),
        ({"messages": [{"role": "tool", "tool_call_id": "1", "content": "b"}]}, "tool-results"),
        ({"messages": ["a"]}, "messages"),
        ({"messages": {}}, "messages"),
    ],
    ids=str,
)
def test_an_answer_that_depends_on_tools_may_not_be_given_again(more: dict[str, Any], words: str) -> None:
    assert CHAT.obstacle is not None
    assert CHAT.obstacle(envelope(**more)) == words


def test_an_answer_is_given_again_at_no_cost() -> None:
    given = json.loads(CHAT.again([Said(0, "Hi"), Said(1, "Ho", "Hm")], GIVEN))
    assert [row["message"] for row in given["choices"]] == [
        {"role": "assistant", "content": "Hi"},
        {"role": "assistant", "content": "Ho", "reasoning_content": "Hm"},
    ]
    assert (given["id"], given["created"], given["model"], given["usage"]["total_tokens"]) == ("chatcmpl-1", 5, "alias", 0)


# What may be carried on, and how.


@pytest.mark.parametrize(
    ("more", "may"),
    [
        ({}, True),
        ({"response_format": {"type": "text"}}, True),
        ({"response_format": {"type": "json_object"}}, False),
        ({"n": 1}, True),
        ({"n": 2}, False),
    ],
    ids=str,
)
def test_only_one_free_answer_is_carried_on(more: dict[str, Any], may: bool) -> None:
    assert RESCUE.may(envelope(**more)) is may


@pytest.mark.parametrize(
    ("more", "asks"),
    [({}, False), ({"reasoning_effort": "none"}, False), ({"reasoning_effort": "low"}, True), ({"reasoning": {"effort": "low"}}, True)],
    ids=str,
)
def test_reasoning_is_asked_for_in_two_ways(more: dict[str, Any], asks: bool) -> None:
    assert RESCUE.asks_thinking(envelope(**more)) is asks


@pytest.mark.parametrize("words", ["", "Go on."])
def test_the_rest_is_asked_for_after_what_was_said_and_within_the_limit(words: str) -> None:
    asked = envelope(max_tokens=100, max_completion_tokens="many")
    before = asked.body
    rest = RESCUE.rest(asked, "Hel", 30, words)
    turns = [*GOOD["messages"], {"role": "assistant", "content": "Hel"}, *([{"role": "user", "content": words}] if words else [])]
    assert (rest.value("messages"), rest.value("max_tokens"), rest.value("max_completion_tokens")) == (turns, 70, "many")
    assert RESCUE.rest(asked, "Hel", 1000, words).value("max_tokens") == 1
    assert asked.body == before
