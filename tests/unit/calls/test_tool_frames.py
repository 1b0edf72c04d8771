"""What the usage store is given of a call: tool calls by name, sub-agents, attempts that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from compat import jsonio
from compat.accounting.usage_views import FailedAttempt
from compat.calls.call import Call, call_from
from compat.calls.record import Outcome, facts_of
from compat.calls.tool_frames import MAX_KEPT_BYTES, ToolFrames
from compat.config.catalog import Price
from compat.protocols.chat.client import CHAT
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.messages.client import MESSAGES
from compat.protocols.responses.client import RESPONSES
from compat.telemetry.traces import Moment
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage


def chunk(delta: dict[str, Any]) -> bytes:
    return b"data: " + jsonio.encode({"id": "c", "choices": [{"index": 0, "delta": delta}]}) + b"\n\n"


def chat_call(index: int, name: str, arguments: str = "") -> bytes:
    return chunk({"tool_calls": [{"index": index, "id": f"t{index}", "function": {"name": name, "arguments": arguments}}]})


def chat_arguments(index: int, text: str) -> bytes:
    return chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]})


def block(index: int, **block: Any) -> bytes:
    event = {"type": "content_block_start", "index": index, "content_block": block}
    return b"event: content_block_start\ndata: " + jsonio.encode(event) + b"\n\n"


def item(kind: str, index: int, name: str, event: str = "added") -> bytes:
    words = {"type": kind, "id": f"fc_{index}", "call_id": f"c{index}", "name": name, "status": "completed"}
    words |= {"arguments": "{}"} if kind == "function_call" else {"input": "x"}
    document = {"type": f"response.output_item.{event}", "output_index": index, "item": words}
    return b"event: response.output_item.%s\ndata: %s\n\n" % (event.encode(), jsonio.encode(document))


RESPONSE_CALLS = [
    item("function_call", 0, "shell") + item("function_call", 0, "shell", "done"),
    item("custom_tool_call", 1, "apply_patch"),
    item("custom_tool_call", 1, "apply_patch", "done"),
]
MANY_ARGUMENTS = [chat_arguments(0, '{"name": "no' + "x" * 100)] * 2000
STREAMS: list[tuple[str, ClientProtocol, Sequence[bytes], dict[str, int]]] = [
    ("nothing", CHAT, [], {}),
    ("text", CHAT, [chunk({"content": 'a "tool_calls" of "name"'})], {}),
    ("chat", CHAT, [chat_call(0, "Read"), chat_arguments(0, "{}"), chat_call(1, "Bash"), chat_call(2, "Read")], {"Read": 2, "Bash": 1}),
    ("together", CHAT, [chat_call(0, "Read") + chat_arguments(0, "{}") + chat_call(1, "Read")], {"Read": 2}),
    ("long arguments", CHAT, [chat_call(0, "Write"), *MANY_ARGUMENTS, chat_call(1, "Read")], {"Write": 1, "Read": 1}),
    (
        "too many",
        CHAT,
        [chat_call(number, "Read", "x" * 1000) for number in range(100)],
        {"Read": MAX_KEPT_BYTES // len(chat_call(50, "Read", "x" * 1000))},
    ),
    ("messages", MESSAGES, [block(0, type="text", text=""), block(1, type="tool_use", id="t", name="Grep", input={})], {"Grep": 1}),
    ("responses", RESPONSES, RESPONSE_CALLS, {"shell": 1, "apply_patch": 1}),
    ("responses at once", RESPONSES, [b"".join(RESPONSE_CALLS)], {"shell": 1, "apply_patch": 1}),
    ("damaged", MESSAGES, [b'data: {"type":"content_block_start","tool_use":"name"}\n\n', b'data: "tool_use" "name" [\n\n'], {}),
    ("error", CHAT, [b'data: {"error":{"message":"tool_calls"},"x":"tool_calls","name":1}\n\n', chat_call(0, "Read")], {"Read": 1}),
]


@pytest.mark.parametrize(("protocol", "frames", "expected"), [row[1:] for row in STREAMS], ids=[row[0] for row in STREAMS])
def test_the_tools_that_a_stream_calls_are_counted(protocol: ClientProtocol, frames: Sequence[bytes], expected: dict[str, int]) -> None:
    tools = ToolFrames(protocol)
    for frame in frames:
        tools.feed(frame)
    assert tools.counted() == expected
    assert tools.kept_bytes <= MAX_KEPT_BYTES


def test_the_tools_that_a_whole_answer_calls_are_counted() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "Read", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, call]}
    body = jsonio.encode({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    tools = ToolFrames(CHAT)
    tools.whole(body)
    assert tools.counted() == {"Read": 2}
    larger = ToolFrames(CHAT)
    larger.whole(body + b" " * MAX_KEPT_BYTES)
    assert (larger.counted(), larger.kept_bytes) == ({}, 0)


def call_of(headers: dict[str, str], session_id: str = "") -> Call:
    body = jsonio.encode({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})
    return call_from(MESSAGES, Envelope(body), request_id="r", client="c", received_s=0.0, headers=headers, session_id=session_id)


SESSION, AGENT, PARENT = "x-claude-code-session-id", "x-claude-code-agent-id", "x-claude-code-parent-agent-id"
PLACES: list[tuple[dict[str, str], tuple[str, str]]] = [
    ({}, ("", "")),
    ({SESSION: "s"}, ("s", "")),
    ({SESSION: "s", AGENT: "a"}, ("s/a", "s")),
    ({SESSION: "s", AGENT: "a", PARENT: "b"}, ("s/a", "s/b")),
    ({AGENT: "a", PARENT: "b"}, ("", "")),
]


@pytest.mark.parametrize(("headers", "place"), PLACES)
def test_a_sub_agent_of_claude_code_is_a_session_below_another(headers: dict[str, str], place: tuple[str, str]) -> None:
    call = call_of(headers)
    facts = facts_of(Outcome(call, "ok", None, 1.0, 1, 0), [], ToolFrames(MESSAGES))
    assert (facts.session, facts.parent) == place


THREADS: list[tuple[dict[str, str], tuple[str, str]]] = [
    ({"session-id": "s", "thread-id": "s"}, ("s", "")),
    ({"session-id": "s", "thread-id": "t", "x-codex-parent-thread-id": "s"}, ("s/t", "s")),
    ({"session-id": "s", "thread-id": "u", "x-codex-parent-thread-id": "t"}, ("s/u", "s/t")),
    ({"session-id": "s", "thread-id": "u"}, ("s", "")),
]


@pytest.mark.parametrize(("headers", "place"), THREADS)
def test_a_sub_agent_of_codex_is_a_session_below_another(headers: dict[str, str], place: tuple[str, str]) -> None:
    body = Envelope(jsonio.encode({"model": "m", "input": "x"}))
    call = call_from(RESPONSES, body, request_id="r", client="c", received_s=0.0, headers=headers)
    facts = facts_of(Outcome(call, "ok", None, 1.0, 1, 0), [], ToolFrames(RESPONSES))
    assert (facts.session, facts.parent) == place


def test_an_answer_without_tool_calls_has_none() -> None:
    facts = facts_of(Outcome(call_of({}), "ok", None, 1.0, 1, 0), [], None)
    assert (dict(facts.tools()), facts.weight) == ({}, 1)


def test_a_session_may_say_which_one_began_it() -> None:
    call = replace(call_of({}, "thread"), parent_id="above")
    facts = facts_of(Outcome(call, "ok", None, 1.0, 1, 0), [], ToolFrames(MESSAGES))
    assert (facts.session, facts.parent) == ("thread", "above")


def test_attempts_that_failed_are_kept_with_what_was_done_about_them() -> None:
    fields = {
        "request_id": "r",
        "deployment": "up/a",
        "attempt": 1,
        "error": "busy",
        "code": None,
        "then": "the next one",
        "wait_ms": 250.0,
    }
    moments = [Moment(1.0, "attempt.failed", fields)]
    call = call_of({})
    priced = ((Usage(1, 2), Price(3.0, 4.0)),)
    outcome = Outcome(call, "ok", None, 1.0, 2, 0, upstream_api="openai.chat", queued_s=0.5, priced=priced)
    facts = facts_of(outcome, moments, ToolFrames(MESSAGES))
    assert facts.failed == (FailedAttempt("up/a", "busy", "", "the next one", 250.0),)
    assert (facts.api, facts.upstream_api, facts.queue_ms, facts.priced, facts.weight) == (
        "anthropic.messages",
        "openai.chat",
        500.0,
        priced,
        1,
    )
