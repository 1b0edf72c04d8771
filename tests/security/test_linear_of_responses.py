"""Whatever a client of the Responses API sends costs time in line with its size."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from compat import jsonio
from compat.errors import GatewayError
from compat.protocols import TRANSLATORS
from compat.protocols.refusals import REASONING_ITEMS
from compat.protocols.responses.client import RESPONSES
from compat.protocols.sealed import PREFIX, Sealer
from compat.wire.envelope import Envelope
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.fakes.responses_answers import one_event
from tests.growth import check_growth

SMALL_BYTES = 20_000
CTX = dataclasses.replace(context(SONNET, is_stream=True), sealer=Sealer([b"x"]))
LOST = dataclasses.replace(CTX, refused_parameters=frozenset({REASONING_ITEMS}))
PATCH = {"type": "custom", "name": "p"}
Shape = Callable[[int], bytes]


def body(**fields: Any) -> bytes:
    return jsonio.encode({"model": "m", "input": "Hi", **fields})


def rows(make: Callable[[int], dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """As many of them as have about that size."""
    return [make(number) for number in range(size // len(jsonio.encode(make(7))))]


def call(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c{number}", "name": f"n{number % 9}", "arguments": "{}", **fields}


def output(number: int) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": "x"}


def function(number: int) -> dict[str, Any]:
    return {"type": "function", "name": f"n{number}"}


REQUESTS: dict[str, Shape] = {
    "messages": lambda n: body(input=rows(lambda k: {"role": ("user", "assistant", "developer")[k % 3], "content": str(k)}, n)),
    "calls": lambda n: body(input=rows(call, n)),
    "calls, then their results": lambda n: body(input=[*rows(call, n), *rows(output, n)]),
    "calls and results in turns": lambda n: body(input=[one for k in range(n // 120) for one in (call(k), output(k))]),
    "calls that wait while others talk": lambda n: body(
        input=[
            *rows(lambda k: call(0) if k % 2 else {"role": "developer", "content": str(k)}, n),
            *rows(lambda _: output(0), n),
        ]
    ),
    "results of no call": lambda n: body(input=rows(output, n)),
    "freeform calls": lambda n: body(input=rows(lambda k: {"type": "custom_tool_call", "call_id": str(k), "name": "p", "input": "x"}, n)),
    "thoughts": lambda n: body(input=rows(lambda k: {"type": "reasoning", "summary": [], "encrypted_content": f"{PREFIX}{k}"}, n)),
    "summaries": lambda n: body(input=[{"type": "reasoning", "summary": rows(lambda _: {"type": "summary_text", "text": "a"}, n)}]),
    "unknown items": lambda n: body(input=rows(lambda k: {"type": f"t{k}"}, n)),
    "parts": lambda n: body(input=[{"role": "user", "content": rows(lambda _: {"type": "input_text", "text": "a"}, n)}]),
    "tools": lambda n: body(tools=rows(function, n)),
    "one tool again and again": lambda n: body(tools=rows(lambda _: function(0), n)),
    "namespaces of one name": lambda n: body(tools=rows(lambda _: {"type": "namespace", "name": "a", "tools": [function(0)]}, n)),
    "namespaces whose tools meet": lambda n: body(tools=rows(lambda k: {"type": "namespace", "name": f"a{k}", "tools": [function(0)]}, n)),
    "tools that are found again and again": lambda n: body(
        input=rows(lambda k: {"type": "tool_search_output", "call_id": str(k), "execution": "client", "tools": [function(k % 50)]}, n)
    ),
    "tools of a choice": lambda n: body(tools=[PATCH], tool_choice={"type": "allowed_tools", "tools": rows(function, n)}),
    "a long grammar": lambda n: body(tools=[{**PATCH, "format": {"type": "grammar", "syntax": "lark", "definition": "x\n" * (n // 2)}}]),
    "includes": lambda n: body(include=[f"i{k}" for k in range(n // 7)]),
    "unknown keys": lambda n: body(**{f"k{k}": k for k in range(min(n // 12, 900))}),
    "a long text": lambda n: body(input="\\" * (n // 2)),
}


def settled(work: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """`work`, whose refusals are answers."""

    def run(value: bytes) -> None:
        with contextlib.suppress(GatewayError):
            work(value)

    return run


@pytest.mark.parametrize("upstream", ["openai.chat", "anthropic.messages", "openai.responses"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_translated_in_line_with_its_size(name: str, upstream: Any) -> None:
    translator = TRANSLATORS["openai.responses", upstream]
    ctx = LOST if upstream == "openai.responses" else CTX
    check_growth(settled(lambda sent: translator.request(Envelope(sent), ctx)), REQUESTS[name], SMALL_BYTES)


@pytest.mark.parametrize("name", ["messages", "calls", "a long text", "unknown items"])
def test_what_else_is_done_with_a_request_grows_in_line_with_it(name: str) -> None:
    def work(sent: bytes) -> None:
        envelope = Envelope(sent)
        RESPONSES.read(envelope, {})
        RESPONSES.opening(envelope)
        assert RESPONSES.obstacle is not None
        RESPONSES.obstacle(envelope)

    check_growth(settled(work), REQUESTS[name], SMALL_BYTES)


def deltas(count: int) -> list[bytes]:
    opening = {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "arguments": ""}}
    piece = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "1"}
    ended = {"type": "response.completed", "response": {"output": []}}
    return [one_event(opening), *[one_event(piece)] * count, one_event(ended)]


def test_a_relayed_stream_grows_in_line_with_its_events() -> None:
    def feed(events: list[bytes]) -> None:
        stream = TRANSLATORS["openai.responses", "openai.responses"].stream(CTX)
        for event in events:
            stream.feed(event)

    check_growth(feed, deltas, 2000)


@pytest.mark.parametrize("text", ["a", '"type":"', "event: response.output_item.added\ndata: ", "response.output_item.added"])
def test_frames_are_searched_for_calls_in_line_with_their_size(text: str) -> None:
    check_growth(lambda frames: RESPONSES.begins_call(frames), lambda n: text.encode() * (n // len(text)), SMALL_BYTES * 5)
