"""Whatever a client of the Responses API sends, an upstream gets a call that it can read, or the client an error that is its own."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from compat.errors import ClientError
from compat.protocols import TRANSLATORS
from compat.protocols.base import WireApi
from compat.protocols.responses.client import RESPONSES
from compat.protocols.sealed import Sealed, Sealer
from compat.wire.envelope import Envelope
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.cases.responses_client_requests import PATCH, SEARCH, URL, space, tool

SEALER = Sealer([b"secret"])
CTX = dataclasses.replace(context(SONNET), sealer=SEALER, upstream_name="fake", target="m-1")
SEALS = [SEALER.seal(Sealed("fake", "m-1", origin, value)) for origin, value in (("openai.chat", "Hm."), ("anthropic.messages", "sig"))]

words = st.sampled_from(["", " ", "Hi", "é\u2028\U0001f600", "x" * 300]) | st.text(max_size=6)
ids = st.sampled_from(["a", "b", "c", "", "a.b", "x" * 90])
names = st.sampled_from(["read", "patch", "n" * 70, "é"])
spaces = st.sampled_from([{}, {"namespace": "ns"}])
junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
parts = st.one_of(
    st.builds(lambda text: {"type": "input_text", "text": text}, words),
    st.sampled_from([{"type": "input_image", "image_url": URL}, {"type": "refusal", "refusal": "No."}, {"type": "x"}]),
)
contents = words | st.lists(parts, max_size=3)
messages = st.builds(
    lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "assistant", "developer", "system"]), contents
)
calls = st.builds(
    lambda kind, call_id, name, arguments, more: {
        "type": kind,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "input": arguments,
        "action": {"a": 1},
        **more,
    },
    st.sampled_from(["function_call", "custom_tool_call", "tool_search_call", "local_shell_call"]),
    ids,
    names,
    words | st.just('{"path": "a"}'),
    spaces,
)
outputs = st.builds(
    lambda kind, call_id, output: {"type": kind, "call_id": call_id, "output": output, "tools": [tool("late")]},
    st.sampled_from(["function_call_output", "custom_tool_call_output", "tool_search_output", "shell_call_output"]),
    ids,
    contents,
)
thoughts = st.builds(
    lambda seal, text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}], "encrypted_content": seal},
    st.sampled_from([*SEALS, "gAAAA", None]),
    words,
)
others = st.sampled_from([{"type": "web_search_call"}, {"type": "additional_tools", "tools": [space("ns", tool(), PATCH)]}, {"type": "x"}])
items = st.lists(st.one_of(messages, calls, outputs, thoughts, others), min_size=1, max_size=9)
tools = st.lists(
    st.sampled_from([tool(), tool("n" * 70), PATCH, SEARCH, space("ns", tool(), tool("write")), {"type": "web_search"}]), max_size=5
)
requests = st.builds(
    lambda given, offered: {"model": "gpt", "input": given, "tools": offered, "reasoning": {"effort": "high"}}, items, tools
)


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A call with junk somewhere in it."""
    call = copy.deepcopy(draw(requests))
    places: list[tuple[Any, Any]] = []
    open_ones: list[Any] = [call]
    while open_ones:
        value = open_ones.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        places += [(value, key) for key in keys]
        open_ones += [value[key] for key in keys]
    for _ in range(draw(st.integers(1, 3))):
        where, key = draw(st.sampled_from(places))
        where[key] = draw(junk)
    return call


def upstreams_body(sent: Any, api: WireApi) -> dict[str, Any]:
    """The translated call, twice the same, its input unchanged."""
    envelope = Envelope(json.dumps(sent).encode("utf-8", "surrogatepass"))
    before = bytes(envelope.body)
    translator = TRANSLATORS["openai.responses", api]
    request = translator.request(envelope, CTX)
    assert translator.request(envelope, CTX) == request
    assert envelope.body == before
    assert all(note.isprintable() for note in request.notes)
    return dict(json.loads(request.body))


def check_chat(body: dict[str, Any]) -> None:
    waiting: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting
        waiting = [call["id"] for call in message.get("tool_calls", ())]
    assert not waiting
    names = [one["function"]["name"] for one in body.get("tools", ())]
    assert len(set(names)) == len(names)


def check_messages(body: dict[str, Any]) -> None:
    waiting: list[str] = []
    for message in body["messages"]:
        blocks = message["content"]
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert sorted(results) == sorted(waiting)
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert blocks[-1]["type"] not in ("thinking", "redacted_thinking")
    assert not waiting
    assert body["messages"][0]["role"] == "user"


CHECKS = {"openai.chat": check_chat, "anthropic.messages": check_messages}
upstreams = pytest.mark.parametrize("api", CHECKS)


def tried(sent: Any, api: WireApi) -> dict[str, Any] | ClientError:
    """The translated call, or why there is none."""
    try:
        RESPONSES.read(Envelope(json.dumps(sent).encode()), {})
        return upstreams_body(sent, api)
    except ClientError as error:
        return error


@pytest.mark.slow
@upstreams
@hypothesis.given(sent=requests | spoilt())
def test_a_call_is_one_that_an_upstream_takes_or_the_clients_fault_that_says_so(sent: Any, api: Any) -> None:
    found = tried(sent, api)
    if isinstance(found, ClientError):
        assert 400 <= found.status < 500
        assert json.loads(RESPONSES.error_body(found))["error"]["message"]
    else:
        CHECKS[api](found)


@hypothesis.given(sent=requests, count=st.integers(1, 9))
def test_a_history_that_grows_renames_no_tool(sent: Any, count: int) -> None:
    def named(call: Any) -> dict[str, tuple[str, str]]:
        assert RESPONSES.request is not None
        shapes = RESPONSES.request(Envelope(json.dumps(call).encode())).shapes
        return {known: (shape.namespace, shape.name) for known, shape in shapes.items()}

    try:
        whole = named(sent)
    except ClientError:
        return
    assert named({**sent, "input": sent["input"][:count]}).items() <= whole.items()
    assert len(set(whole.values())) == len(whole)
