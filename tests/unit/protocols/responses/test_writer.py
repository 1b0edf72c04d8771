"""Answers for clients of the Responses protocol: as their rows say, whole and streamed, and as OpenAI's own SDK reads them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat.config.catalog import Model
from compat.protocols.base import AnswerMemory, ToolShape, TranslationContext
from compat.protocols.chat.upstream import ChatReader
from compat.protocols.events import (
    ArgumentsDelta,
    BlockKind,
    BlockStart,
    BlockStop,
    Cited,
    Event,
    Found,
    RefusalDelta,
    Result,
    Signature,
    Start,
    Stop,
    TextDelta,
    ThinkingDelta,
    Unknown,
    Used,
)
from compat.protocols.joined import JoinedStream, RawDeltas, answer_translator
from compat.protocols.messages.reader import MessagesReader
from compat.protocols.notes import Notes
from compat.protocols.responses.writer import ResponsesWriter
from compat.protocols.sealed import Sealed, Sealer
from compat.wire.usage import Usage
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.cases.responses_client import ROWS, Row, call_item, checked, events_of, message, response_of, text_part
from tests.fakes.anthropic_answers import event_bytes, redacted_thinking, stream_events, text, thinking, tool_use
from tests.fakes.anthropic_answers import message as claude_says
from tests.fakes.openai_answers import chunk, completion, event, sse_bytes, usage_chunk

SEALER = Sealer([b"secret"])
CTX = dataclasses.replace(context(SONNET, is_stream=True, sealer=SEALER), completion_id="resp_ours")


def streamed(upstream: bytes, pieces: Iterable[bytes] = (), ctx: TranslationContext = CTX) -> tuple[bytes, JoinedStream]:
    stream = JoinedStream(ctx, ChatReader, ResponsesWriter)
    frames = b"".join([stream.feed(piece) for piece in pieces or (upstream,)])
    assert stream.failure is None
    return frames + stream.finish(is_whole=True), stream


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says)
def test_a_whole_answer_is_as_its_row_says(row: Row) -> None:
    answer = answer_translator(ChatReader, ResponsesWriter)(json.dumps(row.whole).encode(), CTX)
    response = checked(json.loads(answer.body))
    assert response["output"] == row.output
    assert (answer.stop_reason, answer.notes) == (row.reason, row.notes)
    assert response["status"] == ("completed" if row.reason == "completed" else "incomplete")
    assert response["incomplete_details"] == (None if row.reason == "completed" else {"reason": row.reason})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says)
def test_a_streamed_answer_equals_the_whole_one_in_every_split(row: Row) -> None:
    upstream = sse_bytes(row.chunks)
    frames, stream = streamed(upstream)
    whole = answer_translator(ChatReader, ResponsesWriter)(json.dumps(row.whole).encode(), CTX)
    assert response_of(events_of(frames)) == json.loads(whole.body)
    assert (stream.stop_reason, tuple(stream.notes)) == (row.reason, row.notes)
    assert streamed(upstream, [bytes([byte]) for byte in upstream])[0] == frames
    assert streamed(upstream, [event(one) for one in (*row.chunks, "[DONE]")])[0] == frames


def written(*events: Event, ctx: TranslationContext = CTX) -> dict[str, Any]:
    """The response that events become, which is the same streamed and whole."""
    notes = Notes(), Notes()
    writer = ResponsesWriter(ctx, notes[0])
    whole = json.loads(ResponsesWriter(ctx, notes[1]).body(events))
    assert response_of(events_of(b"".join(map(writer.write, events)) + writer.finish())) == whole
    assert notes[0].told() == notes[1].told()
    return {**whole, "notes": notes[0].told()}


# The response object.


def test_what_the_request_said_is_given_back_in_every_event_and_body() -> None:
    tool = {"type": "function", "name": "f", "parameters": {}}
    echoed = {"temperature": 0.5, "tools": msgspec.Raw(json.dumps([tool]).encode()), "text": {"verbosity": "low"}, "reasoning": None}
    ctx = dataclasses.replace(CTX, memory=AnswerMemory(echoed=echoed))
    response = written(Start(), Stop("end"), ctx=ctx)
    assert (response["id"], response["created_at"], response["model"]) == ("resp_ours", 17, "claude")
    assert response["temperature"] == 0.5
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert response["reasoning"] == {"effort": None, "summary": None}
    assert response["tools"] == [{**tool, "description": None, "strict": None}]


@pytest.mark.parametrize(("reason", "completed_s"), [("end", 9), ("length", None)])
def test_an_answer_that_is_complete_says_since_when_by_its_callers_clock(reason: Any, completed_s: int | None) -> None:
    events = [Start(), BlockStart(0, "text"), TextDelta(0, "A"), BlockStop(0), Stop(reason)]
    ctx = TranslationContext("mine", "theirs", Model(), "resp_1", 5, is_stream=True, now=lambda: 9.7)
    writer = ResponsesWriter(ctx, Notes())
    frames = b"".join([*map(writer.write, events), writer.finish()])
    told = [event["response"]["completed_at"] for event in events_of(frames) if "response" in event]
    assert told == [None, None, completed_s]
    assert json.loads(ResponsesWriter(ctx, Notes()).body(events))["completed_at"] == completed_s


def test_usage_is_integers_with_details_and_the_cost() -> None:
    usage = Usage(11, 7, cache_read_tokens=4, cache_write_tokens=2, reasoning_tokens=3)
    found = written(Start(), Stop("end"), Used(usage))["usage"]
    assert found.pop("cost_details")["upstream_inference_cost"] > 0
    assert found == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 18,
    }
    told = written(Start(), Stop("end"), Used(usage, {"cost_details": {"upstream_inference_cost": 0.25}}))["usage"]
    assert told["cost_details"] == {"upstream_inference_cost": 0.25}


def test_an_answer_whose_events_never_ended_is_still_a_response() -> None:
    assert written(BlockStart(0, "text"), TextDelta(0, "A"))["output"] == [message(0, "A")]


# Thoughts and what seals them.


def sealed_in(item: dict[str, Any]) -> Sealed | None:
    return SEALER.open(item["encrypted_content"])


def thought(*words: str, signed: Signature | None = None) -> list[Event]:
    signature = [signed] if signed is not None else []
    return [BlockStart(0, "thinking"), *(ThinkingDelta(0, word) for word in words), *signature, BlockStop(0)]


SUMMARY = dataclasses.replace(CTX, memory=AnswerMemory(echoed={"reasoning": {"summary": "auto"}}))


@pytest.mark.parametrize(
    ("ctx", "shown"),
    [
        (CTX, {"summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}),
        (SUMMARY, {"summary": [{"type": "summary_text", "text": "Hm."}]}),
        (dataclasses.replace(CTX, memory=AnswerMemory(hides_thinking=True)), {"summary": []}),
    ],
    ids=["whole", "as a summary", "not at all"],
)
def test_a_thought_is_shown_as_it_was_asked_for_and_its_seal_holds_its_words(ctx: TranslationContext, shown: dict[str, Any]) -> None:
    item, _ = written(*thought("Hm", "."), BlockStart(1, "text"), TextDelta(1, "A"), Stop("end"), ctx=ctx)["output"]
    assert sealed_in(item) == Sealed("fake", CTX.target, "openai.chat", "Hm.")
    del item["encrypted_content"]
    assert item == {"id": "rs_ours_0", "type": "reasoning", **shown}


def test_without_a_secret_a_thought_has_no_seal() -> None:
    item = written(*thought("Hm."), Stop("end"), ctx=dataclasses.replace(CTX, sealer=None))["output"][0]
    assert "encrypted_content" not in item


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        (Signature(0, "anthropic.messages", "sig"), {"type": "thinking", "thinking": "Hm.", "signature": "sig"}),
        (Signature(0, "anthropic.messages", {"type": "redacted_thinking", "data": "x"}), {"type": "redacted_thinking", "data": "x"}),
        (Signature(0, "openai.responses", {"id": "rs_1"}), {"id": "rs_1"}),
        (Signature(0, "openai.chat", {"calls": {}}), {"calls": {}}),
    ],
    ids=["signed", "redacted", "an item", "of calls"],
)
def test_the_upstreams_own_state_is_sealed_byte_for_byte(signature: Signature, value: Any) -> None:
    item = written(*thought("Hm.", signed=signature), Stop("end"))["output"][0]
    assert sealed_in(item) == Sealed("fake", CTX.target, signature.origin, value)


def test_a_seal_of_this_protocol_is_handed_on_as_it_is() -> None:
    signature = Signature(0, "openai.responses", "theirs")
    assert written(*thought("Hm.", signed=signature), Stop("end"))["output"][0]["encrypted_content"] == "theirs"


def test_each_thought_has_its_own_seal() -> None:
    signed = Signature(0, "anthropic.messages", "sig")
    other = [BlockStart(1, "thinking"), ThinkingDelta(1, "b"), BlockStop(1)]
    first, second = written(*thought("a", signed=signed), *other, Stop("end"))["output"]
    assert [sealed.origin for sealed in map(sealed_in, (first, second)) if sealed] == ["anthropic.messages", "openai.chat"]


def test_what_an_upstream_says_of_a_call_travels_before_it() -> None:
    more = {"extra_content": {"google": {"thought_signature": "x"}}}
    output = written(BlockStart(0, "tool_call", "a", "f", more=more), BlockStart(1, "tool_call", "b", "g"), Stop("tool_calls"))["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call", "function_call"]
    assert sealed_in(output[0]) == Sealed("fake", CTX.target, "openai.chat", {"calls": {"a": more}})


def test_claudes_thoughts_whole_and_streamed() -> None:
    blocks = [redacted_thinking(), thinking("Hm."), text("Look."), tool_use("read_file", {"path": "a.py"})]
    stream = JoinedStream(CTX, MessagesReader, ResponsesWriter)
    frames = stream.feed(event_bytes(stream_events(blocks, stop_reason="tool_use"))) + stream.finish()
    response = response_of(events_of(frames))
    whole = answer_translator(MessagesReader, ResponsesWriter)(json.dumps(claude_says(blocks, stop_reason="tool_use")).encode(), CTX)
    assert json.loads(whole.body) == response
    assert [item["type"] for item in response["output"]] == ["reasoning", "reasoning", "message", "function_call"]
    assert [sealed.value for sealed in map(sealed_in, response["output"][:2]) if sealed] == blocks[:2]


# Calls.

TOOLS = {
    "patch": ToolShape("freeform", "apply_patch"),
    "ns__f": ToolShape("function", "f", "ns"),
    "ns__exec": ToolShape("freeform", "exec", "functions"),
    "find": ToolShape("search", "tool_search"),
}
SHAPED = dataclasses.replace(CTX, memory=AnswerMemory(tools=TOOLS))


def call(name: str, *pieces: str, ctx: TranslationContext = SHAPED, is_freeform: bool = False) -> dict[str, Any]:
    start = BlockStart(0, "tool_call", "call_1", name, is_freeform=is_freeform)
    response = written(start, *(ArgumentsDelta(0, piece) for piece in pieces), BlockStop(0), Stop("tool_calls"), ctx=ctx)
    item = response["output"][0]
    assert isinstance(item, dict)
    return {**item, "notes": response["notes"]}


def test_a_call_in_a_namespace_gets_it_back() -> None:
    assert call("ns__f", "{}") == {**call_item(0, "call_1", "f", "{}", namespace="ns"), "notes": ()}


@pytest.mark.parametrize(
    ("pieces", "raw"),
    [
        (('{"inp', 'ut": "*** Begin', "\\n+\\ud83d", '\\ude00"', "}"), "*** Begin\n+😀"),
        (('{"command": ["apply_patch", "x"]}',), "x"),
        (("bare ", "text"), "bare text"),
        (('{"input": "cut',), "cut"),
        ((), ""),
    ],
    ids=["as it was told to", "as a command", "bare", "cut", "nothing"],
)
def test_a_freeform_call_gives_raw_text(pieces: tuple[str, ...], raw: str) -> None:
    head = {"id": "ctc_ours_0", "type": "custom_tool_call", "call_id": "call_1", "status": "completed", "name": "apply_patch", "input": raw}
    assert call("patch", *pieces) == {**head, "notes": ("invalid=apply_patch",)}


def test_a_patch_that_its_tool_can_read_needs_no_note() -> None:
    """One that it can't read is given to it all the same: what the tool says of it is for the model."""
    assert call("patch", '{"input": "*** Begin Patch\\n*** Delete File: a\\n*** End Patch"}')["notes"] == ()
    assert call("ns__exec", "not a patch")["notes"] == ()


def test_raw_text_of_the_upstreams_own_is_handed_on() -> None:
    assert call("patch", '{"input": 1}', is_freeform=True)["input"] == '{"input": 1}'
    assert call("other", "x", is_freeform=True)["type"] == "custom_tool_call"
    assert call("ns__exec", '{"input": "x"}')["namespace"] == "functions"


def test_a_freeform_call_is_shown_while_it_is_written() -> None:
    writer = ResponsesWriter(SHAPED, Notes())
    writer.write(BlockStart(0, "tool_call", "call_1", "patch"))
    assert b'"delta":"*** Be"' in writer.write(ArgumentsDelta(0, '{"input":"*** Be'))
    assert b'"delta":"gin\\n"' in writer.write(ArgumentsDelta(0, "gin\\n"))


@pytest.mark.parametrize(
    ("arguments", "found", "notes"),
    [('{"query": "x"}', {"query": "x"}, ()), ("", {}, ()), ("[", {"arguments": "["}, ("wrapped=arguments",))],
)
def test_a_search_for_tools_is_the_clients_own(arguments: str, found: Any, notes: tuple[str, ...]) -> None:
    head = {"id": "tsc_ours_0", "type": "tool_search_call", "call_id": "call_1", "status": "completed"}
    assert call("find", arguments) == {**head, "execution": "client", "arguments": found, "notes": notes}


# Searches of the web.


def searched(number: int, call_id: str, query: str) -> list[Event]:
    return [BlockStart(number, "search", call_id, "web_search", more=query), BlockStop(number)]


def found(number: int, call_id: str, *urls: str, error: Any = None) -> list[Event]:
    gave = Found(tuple(Result(url, "T") for url in urls), error)
    return [BlockStart(number, "found", call_id, more=gave), BlockStop(number)]


def web_search(index: int, query: str, *sources: str, status: str = "completed", is_told: bool = True) -> dict[str, Any]:
    action: dict[str, Any] = {"type": "search", "query": query}
    if is_told:
        action["sources"] = [{"type": "url", "url": url} for url in sources]
    return {"id": f"ws_ours_{index}", "type": "web_search_call", "status": status, "action": action}


def test_a_search_is_an_item_with_its_sources() -> None:
    events = [*searched(0, "a", "weather"), *found(1, "a", "https://a.example"), BlockStart(2, "text"), TextDelta(2, "A"), Stop("end")]
    assert written(*events)["output"] == [web_search(0, "weather", "https://a.example"), message(1, "A")]
    writer = ResponsesWriter(CTX, Notes())
    types = [one["type"] for one in events_of(b"".join(map(writer.write, events)) + writer.finish())]
    assert types[3:6] == [f"response.web_search_call.{step}" for step in ("in_progress", "searching", "completed")]


def test_a_search_that_failed_says_so_and_of_several_the_last_one_has_sources() -> None:
    events = [*searched(0, "a", "x"), *searched(1, "b", "y"), *found(2, "a", "https://a.example"), *found(3, "b", error="unavailable")]
    assert written(*events, Stop("end"))["output"] == [web_search(0, "x", is_told=False), web_search(1, "y", status="failed")]
    assert written(*found(0, "a"), Stop("end"))["output"] == []


# Sources, ends, deltas as they came.


def test_pages_are_annotations_and_other_sources_noted() -> None:
    page, other = (
        {"url": "https://a.example", "title": "T"},
        {"type": "url_citation", "url": "b", "title": "", "start_index": 1, "end_index": 2},
    )
    sources = Cited(0, (page, other, {"url": "c"}, {"x": 1}, "y"))
    response = written(
        BlockStart(0, "text"), TextDelta(0, "Aé"), sources, BlockStop(0), BlockStart(1, "text"), TextDelta(1, "B"), Stop("end")
    )
    found = {"type": "url_citation", "url": "https://a.example", "title": "T", "start_index": 0, "end_index": 2}
    parts = [text_part("Aé", [found, other, {**found, "url": "c", "title": ""}]), text_part("B")]
    assert response["output"] == [message(0, *parts)]
    assert response["notes"] == ("left_out=citation(2)",)


def test_a_source_of_a_refusal_is_noted() -> None:
    response = written(BlockStart(0, "refusal"), RefusalDelta(0, "A"), Cited(0, ({"url": "a"},)), Stop("end"))
    assert response["notes"] == ("left_out=citation",)


def test_what_only_the_end_says_of_a_refusal_is_a_part() -> None:
    response = written(BlockStart(0, "text"), TextDelta(0, "A"), BlockStop(0), Stop("refusal", refusal="No."))
    assert response["output"] == [message(0, "A", {"type": "refusal", "refusal": "No."}, status="incomplete")]
    assert response["incomplete_details"] == {"reason": "content_filter"}


def test_an_unknown_item_of_another_protocol_is_noted() -> None:
    assert written(Start(), Unknown("anthropic.messages", "server_tool_use"), Stop("end"))["notes"] == ("left_out=server_tool_use",)


@pytest.mark.parametrize(
    ("kind", "delta", "name"), [("text", TextDelta, ""), ("thinking", ThinkingDelta, ""), ("tool_call", ArgumentsDelta, "f")]
)
@pytest.mark.parametrize("ctx", [CTX, dataclasses.replace(CTX, memory=AnswerMemory(hides_thinking=True))], ids=["shown", "hidden"])
def test_raw_deltas_are_written_as_the_events_that_they_stand_for(kind: BlockKind, delta: Any, name: str, ctx: TranslationContext) -> None:
    values = [b"{\\u00e9", b"\\n", "é%s}".encode()]
    frames = []
    for writer in (ResponsesWriter(ctx, Notes()), ResponsesWriter(ctx, Notes())):
        is_raw = bool(frames)
        out = [writer.write(BlockStart(0, kind, "call_1" if name else "", name))]
        for _ in range(2):
            if is_raw:
                out.append(writer.write_raw(RawDeltas(delta, 0, values)))
            else:
                out += [writer.write(delta(0, json.loads(b'"%s"' % value))) for value in values]
        frames.append([json.loads(one.split(b"data: ")[1]) for one in (b"".join(out) + writer.finish()).split(b"\n\n") if one])
    assert frames[0] == frames[1]


def test_the_time_for_an_answer_grows_with_its_length_alone() -> None:
    def seconds(count: int) -> float:
        events = [chunk({"content": f"word {number} "}) for number in range(count)]
        upstream = sse_bytes([*events, chunk({}, "stop"), usage_chunk()])
        start = time.process_time()
        streamed(upstream, [upstream[at : at + 4096] for at in range(0, len(upstream), 4096)])
        return time.process_time() - start

    seconds(500)
    assert seconds(16_000) < 40 * max(min(seconds(1_000) for _ in range(3)), 0.002)


_words = st.text(st.characters(codec="utf-8"), max_size=12)
_kinds = st.sampled_from(["content", "reasoning_content", "refusal", "call"])


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(_kinds, _words), max_size=12), st.sampled_from(["stop", "length", "tool_calls", "content_filter"]), st.data())
def test_every_answer_in_every_split_is_legal_and_the_same(said: list[tuple[str, str]], reason: str, data: st.DataObject) -> None:
    chunks = []
    for number, (kind, words) in enumerate(said):
        if kind == "call":
            call = {"index": number, "id": f"call_{number}", "function": {"name": "patch", "arguments": json.dumps({"input": words})}}
            chunks.append(chunk({"tool_calls": [call]}))
        else:
            chunks.append(chunk({kind: words}))
    upstream = sse_bytes([*chunks, chunk({}, reason), usage_chunk()])
    frames, _ = streamed(upstream, ctx=SHAPED)
    response = response_of(events_of(frames))
    for kind, key in (("message", "text"), ("custom_tool_call", "input")):
        items = [item for item in response["output"] if item["type"] == kind]
        parts = [part for item in items for part in item.get("content", [item])]
        wanted = [words for one, words in said if (one == "call") == (kind != "message") and one not in ("reasoning_content", "refusal")]
        assert "".join(part.get(key, "") for part in parts) == "".join(wanted)
    cut = data.draw(st.integers(0, len(upstream)))
    assert streamed(upstream, [upstream[:cut], upstream[cut:]], SHAPED)[0] == frames


def test_the_whole_of_a_chats_answer_with_a_thought_equals_its_stream() -> None:
    chunks = [
        chunk({"reasoning_content": "Hm"}),
        chunk({"reasoning_content": "."}),
        chunk({"content": "A"}),
        chunk({}, "stop"),
        usage_chunk(),
    ]
    whole = answer_translator(ChatReader, ResponsesWriter)(json.dumps(completion("A", reasoning_content="Hm.")).encode(), SUMMARY)
    assert response_of(events_of(streamed(sse_bytes(chunks), ctx=SUMMARY)[0])) == json.loads(whole.body)
