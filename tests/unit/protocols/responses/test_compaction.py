"""Compaction: what asks for it, the one item that answers, and how that is read again, translated and relayed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import openai.types.responses as sdk
import pytest

from compat import jsonio
from compat.config.catalog import Model
from compat.errors import BadRequest, UpstreamBroken, UpstreamRefusal
from compat.protocols import TRANSLATORS
from compat.protocols.base import AnswerMemory, TranslationContext
from compat.protocols.events import BlockStart, BlockStop, Event, Start, Stop, TextDelta, ThinkingDelta, Used
from compat.protocols.notes import Notes
from compat.protocols.responses.compaction import MARK, PROMPT, CompactionWriter, asks, compacted, triggered
from compat.protocols.sealed import Sealer
from compat.protocols.summaries import INTRODUCTION, sealed_summary, summary_in
from compat.wire.envelope import Envelope
from compat.wire.sse import blocks_of, parse_event
from compat.wire.usage import Usage
from tests.fakes import responses_answers as answers
from tests.fakes import responses_items as items

SEALER = Sealer([b"secret"])
HI: dict[str, Any] = {"type": "message", "role": "user", "content": "Hi"}
TOOL: dict[str, Any] = {"type": "function", "name": "run", "parameters": {"type": "object"}, "strict": False}
TRIGGER: dict[str, Any] = {"type": "compaction_trigger"}
SAID = [
    Start(),
    BlockStart(0, "thinking"),
    ThinkingDelta(0, "Hm."),
    BlockStop(0),
    BlockStart(1, "text"),
    TextDelta(1, "All is "),
    TextDelta(1, "done.\n"),
    BlockStop(1),
    Stop("end"),
    Used(Usage(10, 5)),
]


def envelope(*given: Any, **rest: Any) -> Envelope:
    return Envelope(jsonio.encode({"model": "m", "input": list(given), **rest}))


def context(**rest: Any) -> TranslationContext:
    facts: dict[str, Any] = {"sealer": SEALER, "memory": AnswerMemory(summarises=True), "is_stream": True, **rest}
    return TranslationContext("mine", "theirs", Model(), "resp_1", 5, **facts)


@pytest.mark.parametrize(
    ("given", "is_asked"),
    [
        ((HI, TRIGGER), True),
        ((TRIGGER,), True),
        ((TRIGGER, HI), False),
        ((HI,), False),
        (({**HI, "content": '"compaction_trigger"'},), False),
    ],
)
def test_the_last_item_asks_for_it(given: tuple[Any, ...], is_asked: bool) -> None:
    assert asks(envelope(*given)) is is_asked


def test_a_text_asks_for_nothing() -> None:
    assert not asks(Envelope(b'{"input":"compaction_trigger"}'))
    assert not asks(Envelope(b"{}"))


def events_of(frames: bytes) -> list[dict[str, Any]]:
    return [jsonio.decode(parse_event(block).data) for block in blocks_of(frames)]


def written(events: Iterable[Event]) -> list[dict[str, Any]]:
    writer = CompactionWriter(context(), Notes())
    assert all(writer.write(event) == b"" for event in events)
    return events_of(writer.finish())


def test_the_answer_is_exactly_one_sealed_item_whole_and_streamed() -> None:
    events = written(SAID)
    kinds = ["created", "in_progress", "output_item.added", "output_item.done", "completed"]
    assert [(event["type"], event["sequence_number"]) for event in events] == [(f"response.{kind}", at) for at, kind in enumerate(kinds)]
    last = events[-1]["response"]
    [item] = last["output"]
    assert (item["type"], item["id"], summary_in(item["encrypted_content"], SEALER)) == ("compaction", "cmp_1", "All is done.")
    assert events[3]["item"] == item
    assert (last["usage"]["input_tokens"], last["usage"]["total_tokens"], last["status"]) == (10, 15, "completed")
    writer = CompactionWriter(context(), Notes())
    assert jsonio.decode(writer.body(SAID)) == last
    assert writer.reason == "completed"
    assert isinstance(sdk.Response.model_validate(last).output[0], sdk.ResponseCompactionItem)


def test_a_model_that_says_nothing_has_not_answered() -> None:
    with pytest.raises(UpstreamBroken, match="no summary"):
        written([Start(), Stop("end"), Used(Usage())])


@pytest.mark.parametrize("upstream", ["openai.chat", "anthropic.messages"])
def test_the_model_is_asked_for_the_summary_behind_the_same_prefix(upstream: Any) -> None:
    rest: dict[str, Any] = {"tools": [TOOL], "instructions": "Be good.", "text": {"format": {"type": "json_object"}}}
    translator = TRANSLATORS["openai.responses", upstream]
    plain = translator.request(envelope(HI, **{**rest, "text": {}}), context(memory=AnswerMemory()))
    asked = translator.request(envelope(HI, TRIGGER, tool_choice="required", **rest), context(memory=AnswerMemory()))
    before, after = jsonio.decode(plain.body), jsonio.decode(asked.body)
    assert after["tools"] == before["tools"]
    words = jsonio.encode(after["messages"])
    assert jsonio.encode(PROMPT)[1:-1] in words
    assert after.get("system") == before.get("system")
    assert (asked.memory.summarises, plain.memory.summarises) == (True, False)
    assert "format" not in str(after.get("output_config", ""))
    assert "response_format" not in after
    assert after.get("tool_choice", "auto") in ("auto", {"type": "auto"})


@pytest.mark.parametrize("upstream", ["openai.chat", "anthropic.messages", "openai.responses"])
def test_a_summary_of_ours_is_words_for_any_upstream(upstream: Any) -> None:
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": sealed_summary("All is done.", SEALER)}
    request = TRANSLATORS["openai.responses", upstream].request(envelope(item, HI), context(memory=AnswerMemory()))
    assert jsonio.encode(INTRODUCTION + "All is done.")[1:-1] in request.body
    assert b"compat1." not in request.body


@pytest.mark.parametrize("token", ["compat1.lost", "gAAAA"])
@pytest.mark.parametrize("upstream", ["openai.chat", "openai.responses"])
def test_one_that_cannot_be_opened_is_left_out_with_a_note_unless_the_upstream_may_know_it(upstream: Any, token: str) -> None:
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": token}
    given = (item, HI, 5) if upstream == "openai.responses" else (item, HI)  # a relay judges nothing
    request = TRANSLATORS["openai.responses", upstream].request(envelope(*given), context(memory=AnswerMemory()))
    is_passed = upstream == "openai.responses" and token == "gAAAA"
    assert (b"gAAAA" in request.body) is is_passed
    assert ("dropped=summary(1)" in request.notes) is not is_passed


RELAY = TRANSLATORS["openai.responses", "openai.responses"]


def test_an_upstream_that_compacts_gets_the_trigger_and_its_answer_passes() -> None:
    request = RELAY.request(envelope(HI, TRIGGER), context(memory=AnswerMemory()))
    assert jsonio.decode(request.body)["input"] == [HI, TRIGGER]
    item = {"type": "compaction", "id": "cmp_theirs", "encrypted_content": "gAAAA"}
    stream = RELAY.stream(context(memory=request.memory))
    frames = stream.feed(answers.event_bytes(answers.stream_events([item]))) + stream.finish()
    assert events_of(frames)[-1]["response"]["output"] == [item]


def test_one_that_refuses_it_is_asked_for_a_summary_from_then_on() -> None:
    words = "Invalid value: 'compaction_trigger'. Supported values are: 'message'."
    assert RELAY.refused(UpstreamRefusal(words, status=400)) == MARK
    assert RELAY.refused(UpstreamRefusal("no", status=400)) is None
    known = context(memory=AnswerMemory(), refused_parameters=frozenset({MARK}))
    request = RELAY.request(envelope(HI, TRIGGER, tools=[TOOL]), known)
    assert b"compaction_trigger" not in request.body
    ctx = context(memory=request.memory, refused_parameters=frozenset({MARK}))
    said = [items.message(items.text_part("All is done."))]
    stream = RELAY.stream(ctx)
    [item] = events_of(stream.feed(answers.event_bytes(answers.stream_events(said))) + stream.finish())[-1]["response"]["output"]
    assert summary_in(item["encrypted_content"], SEALER) == "All is done."
    [item] = jsonio.decode(RELAY.response(jsonio.encode(answers.response(said)), ctx).body)["output"]
    assert summary_in(item["encrypted_content"], SEALER) == "All is done."
    assert b'"input":[' in RELAY.request(envelope(HI), known).body


# The URL of its own.


def test_a_request_there_is_a_call_that_asks_for_it() -> None:
    assert jsonio.decode(triggered(envelope(HI, stream=True)).body) == {"model": "m", "input": [HI, TRIGGER]}
    text = triggered(Envelope(b'{"model":"m","input":"Hi"}'))
    assert text.value("input") == [HI, TRIGGER]


@pytest.mark.parametrize("body", [b'{"model":"m","input":[]}', b'{"model":"m","input":5}', b'{"input":[]}'])
def test_without_a_model_or_a_conversation_there_is_nothing_to_make_short(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        triggered(Envelope(body))
    assert caught.value.param == ("input" if b"model" in body else "model")


def test_without_an_input_nothing_but_the_one_item_is_left() -> None:
    asked = Envelope(b'{"model":"m"}')
    assert triggered(asked).value("input") == [{**HI, "content": "(The conversation begins here.)"}, TRIGGER]
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
    assert jsonio.decode(compacted(asked, jsonio.encode({"id": "resp_1", "output": [item]})))["output"] == [item]


def listed(number: int, words: str) -> dict[str, Any]:
    return {**HI, "id": f"msg_1_{number}", "status": "completed", "content": [{"type": "input_text", "text": words}]}


def test_the_answer_there_has_the_users_messages_and_the_one_item() -> None:
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
    thought = {"type": "reasoning", "summary": []}
    body = jsonio.encode({"id": "resp_1", "created_at": 5, "output": [thought, item], "usage": {"input_tokens": 1}})
    asked = triggered(envelope(HI, {**HI, "role": "assistant"}, thought, 5, {**HI, "content": "Go on"}))
    assert jsonio.decode(compacted(asked, body)) == {
        "id": "resp_1",
        "object": "response.compaction",
        "created_at": 5,
        "output": [listed(0, "Hi"), listed(4, "Go on"), item],
        "usage": {"input_tokens": 1},
    }
    with pytest.raises(UpstreamBroken):
        compacted(asked, b'{"output":[]}')
