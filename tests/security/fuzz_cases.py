"""Hostile values for all targets: bytes, JSON texts, cuts, and documents that are nearly right."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.cases import messages_strategies as odd
from tests.fakes import openai_answers as openai
from tests.fakes import responses_answers as responses
from tests.fakes import responses_items as items
from tests.fakes.anthropic_answers import message, stream_events

WORDS = (
    *(b"data:", b"data: ", b"event: ", b"id: ", b"retry: 1", b":", b": ping", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"),
    *(
        b"\xef\xbb\xbf",
        b"\xef",
        b"\xbb",
        b"\x00",
        b"\xff",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b"[DONE]",
        b"{",
        b"}",
        b"[",
        b'"',
        b"\\u",
        b",",
    ),
    *(
        b"NaN",
        b"1e999",
        b"-0",
        b"null",
        b"HTTP/1.1 200 OK\r\n",
        b"content-length: 5\r\n",
        b"transfer-encoding: chunked\r\n",
        b"5\r\nHello\r\n",
    ),
    *(b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"content-encoding: gzip\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"connection: upgrade\r\n"),
)
pieces = st.sampled_from(WORDS) | st.binary(max_size=12)
noise = st.lists(pieces, max_size=24).map(b"".join)

texts = st.text(max_size=12) | st.sampled_from(
    ["", "\x00", "\x1b[31m", "\u2028", "\u202e", "\ud83d", "\r\nx-evil: 1", "<script>", "a" * 5000]
)
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 2**31, 2**53 + 1, 10**400, 1e308])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(texts | st.sampled_from(["type", "role", "content", "id"]), inner, max_size=4)
    ),
    max_leaves=8,
)

DEEP = (b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"[" * 5_000)
EXTREME_JSON = (
    *(
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"NaN",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"{}" * 3,
        b'{"a":1,"a":2}',
        b"9" * 5000,
        *DEEP,
    ),
    *(b'{"model":1e999}', b'{"model":"\\ud800"}', b'{"model":"a\x00b"}', b'{"messages":[' + b"{}," * 3000 + b"{}]}", b"{\x00}", b"//{}"),
)

sound_calls = odd.conversations.map(lambda sent: {"model": "claude-4-sonnet", **sent})
calls = st.one_of(sound_calls, odd.spoilt(sound_calls)).filter(lambda call: isinstance(call, dict))
FIELDS = (
    *("stream", "n", "tools", "stop", "stream_options", "tool_choice", "response_format", "reasoning_effort", "max_tokens", "temperature"),
    *("best_of", "suffix", "prompt", "input", "encoding_format", "dimensions", "echo", "user", "reasoning", "seed"),
)
JUNK = (None, [], {}, "", 0, -1, 1.5, True, "x", [[]], {"type": []}, {"include_usage": {}})
near_calls = st.builds(
    lambda call, stream, more: {**call, "stream": stream, **more},
    calls,
    st.booleans(),
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(JUNK) | values, max_size=3),
)


def encoded(document: Any) -> bytes:
    """JSON text, NaN and lone surrogates included."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with a part replaced, taken out, or there twice."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        data = data[:start] + draw(st.sampled_from([b"", data[start:end] * 2]) | pieces) + data[end:]
    return data


bodies = st.one_of(
    near_calls.map(encoded),
    damaged(near_calls.map(encoded)),
    st.sampled_from(EXTREME_JSON),
    st.dictionaries(st.sampled_from(["model", "messages", "stream", "stream_options", "input", "prompt", "suffix", "n"]), values).map(
        encoded
    ),
    noise,
)


def openai_stream(chunks: Any) -> bytes:
    """An event stream of chunks that are nearly right."""
    return (
        b"".join(b"data: " + encoded(chunk) + b"\n\n" for chunk in (chunks if isinstance(chunks, list) else [chunks])) + b"data: [DONE]\n\n"
    )


openai_streams = damaged(
    odd.spoilt(st.sampled_from([openai.text_chunks("Hello there."), openai.tool_chunks(), openai.text_chunks("x")])).map(openai_stream)
)
openai_answers = damaged(
    odd.spoilt(
        st.sampled_from([openai.completion("Hi"), openai.completion(None, tool_calls=openai.TOOL_CALLS), {"error": {"message": "x"}}])
    ).map(encoded)
)


def _events(events: Any) -> bytes:
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (encoded(event.get("type")).strip(b'"'), encoded(event))
        if isinstance(event, dict)
        else noise_event(event)
        for event in (events if isinstance(events, list) else [events])
    )


def noise_event(event: Any) -> bytes:
    """Something that is no event of the protocol, sent as one."""
    return b"data: " + encoded(event) + b"\n\n"


anthropic_streams = damaged(odd.spoilt(odd.answers.map(stream_events)).map(_events))
anthropic_answers = damaged(odd.spoilt(odd.answers.map(message)).map(encoded))
_responses = st.lists(
    st.builds(items.message, st.builds(items.text_part, odd.junk.map(str)))
    | st.builds(items.function_call, arguments=odd.junk.map(str))
    | st.sampled_from([items.reasoning("Let me see."), items.open_reasoning(), items.custom_call(), items.web_search()]),
    max_size=3,
)
responses_streams = damaged(odd.spoilt(_responses.map(responses.stream_events)).map(_events))
responses_answers = damaged(odd.spoilt(_responses.map(responses.response)).map(encoded))
