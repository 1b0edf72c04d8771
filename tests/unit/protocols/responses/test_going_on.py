"""Answers of the Responses protocol that are carried on by another attempt, or given again."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from compat.errors import UpstreamBroken
from compat.protocols.base import AnswerMemory
from compat.protocols.client_protocol import Identity, Said
from compat.protocols.events import ArgumentsDelta, BlockStart, Event, Start, Stop, TextDelta, ThinkingDelta, Used
from compat.protocols.notes import Notes
from compat.protocols.responses.client_errors import error_end
from compat.protocols.responses.going_on import RESCUE, again
from compat.protocols.responses.shown import ShownReader, replayed, whole_events
from compat.protocols.responses.writer import ResponsesWriter
from compat.protocols.transcript import Transcript
from compat.wire.envelope import Envelope
from compat.wire.sse import EventSplitter
from compat.wire.usage import Usage
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.cases.responses_client import checked, events_of, message, response_of, text_part
from tests.fakes.responses_answers import event_bytes, response
from tests.fakes.responses_answers import events_of as stream_of
from tests.fakes.responses_items import custom_call, function_call, web_search

CTX = dataclasses.replace(
    context(SONNET, is_stream=True), completion_id="resp_ours", memory=AnswerMemory(echoed={"top_p": 0.5, "reasoning": {"summary": "auto"}})
)


def envelope(**fields: Any) -> Envelope:
    return Envelope(json.dumps({"model": "m", "input": "Hi", **fields}).encode())


def test_what_may_be_put_together_from_two_answers() -> None:
    assert RESCUE.may(envelope())
    assert RESCUE.may(envelope(text={"verbosity": "low"}))
    assert RESCUE.may(envelope(text={"format": {"type": "text"}}))
    assert not RESCUE.may(envelope(text={"format": {"type": "json_schema"}}))
    asked = [None, {"effort": "none"}, {"effort": "low"}, {"summary": "auto"}]
    assert [RESCUE.asks_thinking(envelope(reasoning=one)) for one in asked] == [False, False, True, True]


HI = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}


@pytest.mark.parametrize(("given", "before"), [("Hi", {**HI, "content": "Hi"}), ([HI], HI)])
def test_the_rest_is_asked_for_with_what_was_said(given: Any, before: Any) -> None:
    asked = json.loads(RESCUE.rest(envelope(input=given, max_output_tokens=100), "So far", 40, "Go on.").body)
    so_far = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So far"}]}
    assert asked["input"] == [before, so_far, {**HI, "content": [{"type": "input_text", "text": "Go on."}]}]
    assert asked["max_output_tokens"] == 60
    assert json.loads(RESCUE.rest(envelope(input=given), "So far", 40, "").body) == {"model": "m", "input": [before, so_far]}


def test_the_rest_of_an_answer_to_nothing_is_asked_for_as_well() -> None:
    asked = json.loads(RESCUE.rest(Envelope(b'{"model":"m"}'), "So far", 40, "").body)
    assert [item["role"] for item in asked["input"]] == ["user", "assistant"]


@pytest.mark.parametrize("more", [{}, {"input": None}, {"input": []}])
def test_the_rest_of_an_answer_that_goes_on_from_another_is_asked_for_with_nothing_before_it(more: dict[str, Any]) -> None:
    asked = Envelope(json.dumps({"model": "m", "previous_response_id": "resp_1", **more}).encode())
    [so_far] = json.loads(RESCUE.rest(asked, "So far", 40, "").body)["input"]
    assert so_far["role"] == "assistant"


def shown(*events: Event) -> tuple[bytes, Any]:
    """The frames of an answer so far, and where it stands."""
    writer, reader = ResponsesWriter(CTX, Notes()), ShownReader()
    frames = b"".join(map(writer.write, events))
    for block in EventSplitter().feed(frames):
        list(reader.read(block))
    return frames, reader.place


PARTS = [BlockStart(0, "text"), TextDelta(0, "A"), BlockStart(1, "text"), TextDelta(1, "B ")]
REST = [BlockStart(0, "text"), TextDelta(0, "so good."), Stop("end"), Used(Usage(3, 4), {"cost_details": {"upstream_inference_cost": 0.5}})]


@pytest.mark.parametrize(
    ("began", "output"),
    [
        ([Start(), BlockStart(0, "text"), TextDelta(0, 'So "far" ')], [message(0, 'So "far" so good.')]),
        ([Start()], [message(0, "so good.")]),
        (
            [Start(), *PARTS],
            [message(0, "A", "B so good.")],
        ),
        (
            [BlockStart(0, "thinking"), ThinkingDelta(0, "Hm.")],
            [{"id": "rs_ours_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, message(1, "so good.")],
        ),
        (
            [BlockStart(0, "text"), TextDelta(0, "A"), BlockStart(1, "thinking"), ThinkingDelta(1, "Hm.")],
            [
                message(0, "A", phase="commentary"),
                {"id": "rs_ours_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
                message(2, "so good."),
            ],
        ),
    ],
    ids=["within a text", "at its beginning", "within a second part", "within a thought", "after an item"],
)
def test_a_stream_goes_on_where_it_stands(began: list[Event], output: list[Any]) -> None:
    frames, place = shown(*began)
    writer = RESCUE.going_on(Identity("resp_ours", 17, "claude", place), True)
    whole = response_of(events_of(frames + b"".join(map(writer.write, REST)) + writer.finish()))
    assert whole["output"] == output
    assert (whole["top_p"], whole["usage"]["total_tokens"], whole["usage"]["cost_details"]) == (0.5, 7, {"upstream_inference_cost": 0.5})


def test_calls_and_items_of_the_later_part_keep_their_shape() -> None:
    items = [function_call(namespace="ns"), custom_call("exec"), web_search()]
    frames, place = shown(Start(), BlockStart(0, "text"), TextDelta(0, "A"))
    writer, reader = RESCUE.going_on(Identity("resp_ours", 17, "claude", place), True), ShownReader()
    for block in EventSplitter().feed(event_bytes(stream_of(response(items)))):
        frames += b"".join(map(writer.write, reader.read(block)))
    output = response_of(events_of(frames + writer.finish()))["output"]
    assert [(item["type"], item.get("namespace")) for item in output] == [
        ("message", None),
        ("function_call", "ns"),
        ("custom_tool_call", None),
        ("web_search_call", None),
    ]
    assert output[0]["phase"] == "commentary"
    assert output[2]["input"] == "*** Begin"
    assert output[3] == items[2]


def test_an_answer_that_fails_ends_where_it_stands() -> None:
    frames, place = shown(Start(), *PARTS, BlockStart(2, "tool_call", "call_1", "f"), ArgumentsDelta(2, "{"))
    end = error_end(UpstreamBroken("x"), Identity("resp_ours", 17, "claude", place))
    begun, *_, failed = events_of(frames + end)
    assert failed["response"] == {
        **begun["response"],
        "status": "failed",
        "output": [message(0, "A", "B ", phase="commentary")],
        "error": {"code": "server_error", "message": "x"},
    }
    assert b'"sequence_number":0' in error_end(UpstreamBroken("x"), Identity("resp_ours", 17, "claude"))


def test_an_answer_goes_on_without_a_place() -> None:
    writer = RESCUE.going_on(Identity("resp_ours", 17, "claude"), True)
    assert b'"sequence_number":0' in writer.write(REST[0]) + writer.write(REST[1])


def test_the_cost_of_earlier_parts_is_added_where_there_is_one() -> None:
    told = {"input_tokens": 1, "cost_details": {"upstream_inference_cost": 0.5}}
    assert RESCUE.with_spent(told, Usage(), 0.25) == {"input_tokens": 1, "cost_details": {"upstream_inference_cost": 0.75}}
    assert RESCUE.with_spent({"input_tokens": 1}, Usage(), 0.25) == {"input_tokens": 1}


@pytest.mark.parametrize("thinking", ["", "Hm."])
def test_an_answer_is_given_again_for_nothing_whole_and_streamed(thinking: str) -> None:
    body = again([Said(0, "A", thinking)], Identity("resp_ours", 17, "claude", echoed={"top_p": 0.5}))
    document = checked(json.loads(body))
    assert document["top_p"] == 0.5
    assert document["output"][-1]["content"] == [text_part("A")]
    assert document["usage"]["total_tokens"] == 0
    assert response_of(events_of(replayed(body))) == document
    transcript = Transcript()
    for event in whole_events(body):
        transcript.add(event)
    assert (transcript.turn().text, transcript.turn().thinking, transcript.turn().reason) == ("A", thinking, "end")
