"""Hostile clients and upstreams at the doors of Anthropic's and OpenAI's newer protocol, against the whole gateway in one process."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.cases import messages_strategies as odd
from tests.security import fuzz_cases as cases
from tests.security.fuzz_calls import MODELS, streams, wholes, works
from tests.security.fuzz_wire import Cut, answers, cut, places
from tests.security.in_process import CANARY, Answered, shared

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
MESSAGES: tuple[dict[str, Any], ...] = (
    {
        "max_tokens": 100,
        "system": [{"type": "text", "text": "x-anthropic-billing-header: a=b;"}, {"type": "text", "text": "Go."}],
        "messages": [{"role": "user", "content": "Hi"}, {"role": "system", "content": [{"type": "text", "text": "More."}]}],
        "thinking": {"type": "adaptive", "display": "omitted"},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 1}}]},
        "metadata": {"user_id": "{}"},
        "stop_sequences": ["END"],
    },
    {
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "So.", "signature": "compat-1.x.y"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "Reading."},
                    {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}},
                    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
                    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "ok"}], "is_error": False},
                    {"type": "tool_reference", "tool_name": "Write"},
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
                ],
            },
        ],
        "tools": [
            {"name": "Read", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}},
            {"name": "Write", "input_schema": SCHEMA, "defer_loading": True},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
            {"type": "bash_20250124", "name": "bash"},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
)
RESPONSES: tuple[dict[str, Any], ...] = (
    {"input": "Hi", "instructions": "Go.", "reasoning": {"effort": "low", "summary": "auto"}, "text": {"verbosity": "low"}, "store": False},
    {
        "input": [
            {"type": "additional_tools", "role": "developer", "tools": [{"type": "namespace", "name": "files", "tools": []}]},
            {"role": "developer", "content": "Go."},
            {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "So."}], "encrypted_content": "compat-1.x.y"},
            {"type": "function_call", "call_id": "c1", "name": "read", "namespace": "files", "arguments": '{"path": "a"}'},
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin Patch"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "ok"}]},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "ok"},
            {"type": "tool_search_call", "call_id": "c3", "execution": "client", "arguments": {}},
            {"type": "tool_search_output", "call_id": "c3", "tools": []},
            {"type": "compaction", "encrypted_content": "x"},
            {"type": "compaction_trigger"},
        ],
        "tools": [
            {"type": "function", "name": "read", "parameters": SCHEMA, "strict": False},
            {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}},
            {"type": "namespace", "name": "files", "tools": [{"type": "function", "name": "read", "parameters": SCHEMA}]},
            {"type": "web_search"},
            {"type": "tool_search", "execution": "client"},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "read"}]},
        "include": ["reasoning.encrypted_content"],
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
        "max_output_tokens": 50,
    },
)
ENDS = frozenset({"message_stop", "error", "response.completed", "response.incomplete", "response.failed"})
DOORS = {
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
    "/v1/responses": RESPONSES,
    "/v1/responses/input_tokens": RESPONSES,
    "/v1/responses/compact": RESPONSES,
}


def calls_at(path: str) -> st.SearchStrategy[bytes]:
    """Bodies that are nearly calls, sound ones among them."""
    sound = st.builds(
        lambda call, model, stream: {"model": model, "stream": stream, **call},
        st.sampled_from(DOORS[path]),
        st.sampled_from(MODELS),
        st.booleans(),
    )
    near = st.one_of(sound, odd.spoilt(sound), odd.spoilt(odd.spoilt(sound)))
    return near.map(cases.encoded) | cases.damaged(near.map(cases.encoded)) | st.sampled_from(cases.EXTREME_JSON)


Asked = tuple[str, bytes]
asked: st.SearchStrategy[Asked] = st.sampled_from(list(DOORS)).flatmap(lambda path: st.tuples(st.just(path), calls_at(path)))
told: st.SearchStrategy[Any] = st.tuples(
    st.sampled_from(["/v1/messages", "/v1/responses"]),
    st.sampled_from(MODELS),
    st.booleans(),
    st.tuples(streams | wholes | answers() | cases.noise, places),
)


def is_in_the_protocol_of(path: str, answer: Answered, *, are_passed_on: bool = False) -> None:
    """An error has the protocol's shape, and every event of a stream is its name and JSON of that type; nothing of our inside is shown."""
    assert shared().faults() == []
    assert b"Traceback" not in answer.body
    assert CANARY.encode() not in answer.body
    assert all(value.isprintable() for value in answer.headers.values())
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        events_are_events(answer.body, are_passed_on=are_passed_on)
    elif answer.body:
        document = json.loads(answer.body)
        if answer.status >= 400 and path.startswith("/v1/messages"):
            assert (document["type"], type(document["error"]["message"])) == ("error", str)
        elif answer.status >= 400:
            assert set(document["error"]) == {"message", "type", "param", "code"}


def events_are_events(frames: bytes, *, are_passed_on: bool) -> None:
    """Each has its own name, and one is the end. Those that are passed on as bytes may be anything but their end."""
    blocks = frames.split(b"\n\n")
    assert blocks.pop() == b""
    ends = 0
    for block in blocks:
        if block.startswith(b":"):
            continue
        if are_passed_on:
            ends += any(b'"%s"' % end.encode() in block for end in ENDS)
            continue
        name, data = block.split(b"\n")
        kind = json.loads(data.removeprefix(b"data: "))["type"]
        assert name == b"event: " + kind.encode()
        ends += kind in ENDS
    assert ends >= 1 if are_passed_on else ends == 1, frames


def call_is_never_our_fault(sent: Asked) -> None:
    """A body that is nearly a call: an answer, or an error of the client's protocol; the next call works."""
    path, body = sent
    gateway = shared()
    gateway.transport.pieces = []
    is_in_the_protocol_of(path, gateway.ask(path=path, body=body))
    works()


def whatever_an_upstream_sends_is_an_answer_or_told(sent: tuple[str, str, bool, Cut]) -> None:
    """Bytes of an upstream, cut anywhere: a whole answer, or a stream with one end."""
    path, model, is_stream, answer = sent
    gateway = shared()
    gateway.transport.pieces = cut(*answer)
    body = {"model": model, "stream": is_stream, **DOORS[path][0], "max_tokens": 9}
    found = gateway.ask(path=path, body=json.dumps(body).encode())
    is_in_the_protocol_of(path, found, are_passed_on=(path, model) == ("/v1/messages", "an"))


PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "door-call": (asked, call_is_never_our_fault),
    "door-upstream": (told, whatever_an_upstream_sends_is_an_answer_or_told),
}
