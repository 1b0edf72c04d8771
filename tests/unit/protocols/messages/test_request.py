"""Requests from OpenAI's wire API to Anthropic's: as their rows say, and as the strict imitation and Anthropic's types want them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from compat.errors import BadRequest
from compat.wire.envelope import Envelope
from tests.cases import messages_content, messages_parameters, messages_thinking, messages_tools, messages_turns, messages_vault
from tests.cases.messages import SONNET, RefusedRow, RequestRow, call, result, user
from tests.cases.messages_checks import TRANSLATOR, accepted, at, context, translated, written

MODULES = (messages_tools, messages_turns, messages_content, messages_thinking, messages_vault, messages_parameters)
REQUESTS = [row for module in MODULES for row in module.REQUESTS]
REFUSED = [row for module in MODULES for row in getattr(module, "REFUSED", ())]


def name_of(row: Any) -> str:
    return f"{'+'.join(map(str, row.rules))}: {row.says}"


@pytest.mark.parametrize("row", REQUESTS, ids=name_of)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_a_request_is_translated_as_its_row_says(row: RequestRow, is_stream: bool) -> None:
    ctx = context(row.model, records=row.records, refused=row.refused, is_stream=is_stream)
    request = translated(row.sent, ctx)
    body = accepted(request, ctx)
    expected: dict[str, Any] = {"model": row.model, "stream": True if is_stream else "(absent)", **row.holds}
    assert {path: at(body, path) for path in expected} == expected
    assert request.notes == row.notes
    assert request.headers == row.headers


@pytest.mark.parametrize("row", REFUSED, ids=name_of)
def test_a_request_without_a_counterpart_is_refused_by_name(row: RefusedRow) -> None:
    with pytest.raises(BadRequest) as caught:
        translated(row.sent, context(row.model))
    assert row.words in caught.value.message
    assert (caught.value.param, caught.value.status) == (row.param, 400)


@pytest.mark.parametrize("row", REQUESTS, ids=name_of)
def test_notes_are_words_that_a_header_can_hold(row: RequestRow) -> None:
    notes = translated(row.sent, context(row.model, records=row.records, refused=row.refused)).notes
    assert all(note.isascii() and note.isprintable() and " " not in note for note in notes)


def test_two_calls_with_one_context_differ_in_nothing_but_what_differs() -> None:
    row = REQUESTS[0]
    ctx = context(row.model)
    assert translated(row.sent, ctx).body == translated(row.sent, dataclasses.replace(ctx, completion_id="other", created_s=5)).body


DEEP_PARTS = {
    "a tool": b'"tools":[{"function":{"name":"f","parameters":{"properties":%b}}}]',
    "alternatives of a tool": b'"tools":[{"function":{"name":"f","parameters":{"anyOf":[{"properties":%b},{"properties":%b}]}}}]',
    "a format": b'"response_format":{"type":"json_schema","json_schema":{"schema":{"not":%b}}}',
    "a source": b'"messages":[{"role":"user","content":[{"type":"image","source":%b}]}]',
    "arguments": b'"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":%b}}]}]',
}


def deepened(frames: int, task: Callable[[], Any]) -> Any:
    """What `task` returns, called from so many frames further down."""
    return deepened(frames - 1, task) if frames else task()


@pytest.mark.slow
@pytest.mark.parametrize("part", DEEP_PARTS.values(), ids=DEEP_PARTS)
def test_a_request_as_deep_as_it_can_be_read_is_translated_or_refused_and_no_fault_of_ours(part: bytes) -> None:
    ctx, outcomes = context(SONNET), set[str]()
    for depth in (*range(50, 850, 100), *range(850, 1000), 5000, 50_000):  # Python 3.13 reads to 10,000
        inner = b'{"a":' * depth + b"{}" + b"}" * depth
        body = b'{"model":"a",' + part.replace(b"%b", inner) + (b"" if b"messages" in part else b',"messages":[]') + b"}"
        try:
            envelope = Envelope(body)
            for frames in range(0, 16, 3):
                deepened(frames, lambda envelope=envelope: TRANSLATOR.request(envelope, ctx))
                outcomes.add("translated")
        except BadRequest:
            outcomes.add("refused")
    assert outcomes == {"translated", "refused"}


# Requests that are meant to keep the processor busy: nobody else is served meanwhile.

HUGE = {
    "calls of one id, and no results": [user("Hi"), {"role": "assistant", "tool_calls": [call("a")] * 20_000}],
    "calls without ids, with their results": [
        user("Hi"),
        {"role": "assistant", "tool_calls": [call("")] * 20_000},
        *[result("")] * 20_000,
    ],
    "calls of one id, with stray results": [user("Hi"), {"role": "assistant", "tool_calls": [call("a")] * 20_000}, *[result("b")] * 20_000],
    "results in another order than their calls": [
        user("Hi"),
        {"role": "assistant", "tool_calls": [call(f"c{n}") for n in range(20_000)]},
        *[result(f"c{n}") for n in reversed(range(20_000))],
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
def test_a_huge_request_costs_no_more_than_its_length(name: str) -> None:
    envelope = Envelope(written({"model": "claude", "messages": HUGE[name]}))
    begun_s = time.process_time()
    body = json.loads(TRANSLATOR.request(envelope, context(SONNET)).body)
    assert time.process_time() - begun_s < 8
    calls = [block["id"] for message in body["messages"] for block in message["content"] if block["type"] == "tool_use"]
    results = [block["tool_use_id"] for message in body["messages"] for block in message["content"] if block["type"] == "tool_result"]
    assert len(set(calls)) == len(calls) == 20_000
    assert set(results) == set(calls)


@pytest.mark.slow
@pytest.mark.parametrize(
    "messages",
    [
        [user("Hi")] * 100_001,
        [{"role": "user", "content": [{"type": "text", "text": "x"}] * 100_000}],
        [user("Hi"), {"role": "assistant", "tool_calls": [call("a")] * 100_000}],
    ],
    ids=["messages", "parts", "calls"],
)
def test_more_messages_and_parts_than_anybody_has_are_refused(messages: Any) -> None:
    with pytest.raises(BadRequest, match="more than 100000 messages and parts"):
        TRANSLATOR.request(Envelope(written({"model": "claude", "messages": messages})), context(SONNET))
