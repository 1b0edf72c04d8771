"""Work that grows in line with a body, whatever its shape: each pure function that takes bytes of a client or an upstream.

A shape makes a body of about so many bytes: chains, fans, repeated keys, runs of a character that is special to a reader, deep nesting,
many small items. Four times the body may be about four times the work (`tests/growth.py`), and what is refused counts as an answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import tracemalloc
from collections.abc import Callable
from functools import partial
from operator import mul
from typing import Any

import pytest
from backports import zstd

from compat import jsonio
from compat.calls.call import call_from
from compat.calls.resume import ShownSoFar
from compat.calls.splice import overlap_of
from compat.config.sections import CacheSettings
from compat.endpoints.compression import decoded_body
from compat.endpoints.embeddings import read_request
from compat.errors import GatewayError
from compat.protocols import TRANSLATORS, translator_for
from compat.protocols.base import StreamTranslator, TranslationContext
from compat.protocols.chat.check import check_messages
from compat.protocols.chat.client import CHAT
from compat.protocols.chat.inferred_end import CallEvents
from compat.protocols.chat.infill import CompletionWriter, read_completion, unfenced
from compat.protocols.events import TextDelta
from compat.protocols.notes import Notes
from compat.reuse.answer_cache import AnswerCache, MemoryShelf
from compat.reuse.whole_answer import Assembly, kept_of
from compat.routing.affinity import session_of
from compat.streaming.hold import Outflow
from compat.wire.envelope import Envelope, client_envelope
from compat.wire.estimate import prompt_tokens
from compat.wire.extent import check_values
from compat.wire.sse import EventSplitter, parse_event
from compat.wire.usage import Usage
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.fakes import anthropic_answers as anthropic
from tests.fakes import openai_answers as openai
from tests.growth import check_growth

ANTHROPIC = TRANSLATORS["openai.chat", "anthropic.messages"]
OPENAI = TRANSLATORS["openai.chat", "openai.chat"]
SMALL_BYTES = 50_000
SPECIAL = ';,%"\\ \n{[:=é\x00/#<*-'
Shape = Callable[[int], bytes]


def items(item: Callable[[int], Any], size: int) -> list[Any]:
    """As many different items as make so many bytes."""
    return [item(number) for number in range(size // len(jsonio.encode([item(10_000)])))]


def chat(**fields: Any) -> bytes:
    return jsonio.encode({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields})


def asked(content: Any, **fields: Any) -> bytes:
    return chat(messages=[{"role": "user", "content": content, **fields}])


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value, {}]
    return value


def run_of(mark: str, n: int) -> bytes:
    return asked(mark * (n // len(jsonio.encode(mark)[1:-1])))


def image_of(mark: str, n: int) -> bytes:
    return asked([picture("data:image/png" + mark * n)])


REQUESTS: dict[str, Shape] = {
    "parts of text": lambda n: asked(items(lambda _: {"type": "text", "text": "a"}, n)),
    "parts that are words": lambda n: asked(items(str, n)),
    "empty lists": lambda n: asked([[]] * (n // 3), cache_control={"type": "ephemeral"}),
    "empty objects": lambda n: asked([{}] * (n // 3), cache_control={"type": "ephemeral"}),
    "deep lists": lambda n: asked([nested(200)] * (n // 1000), cache_control={}),
    "messages": lambda n: chat(messages=items(lambda k: {"role": ("user", "assistant", "system", "tool")[k % 4], "content": str(k)}, n)),
    "calls without results": lambda n: chat(
        messages=items(lambda k: {"role": "assistant", "tool_calls": [{"id": f"c{k}", "function": {"name": f"n{k % 9}"}}]}, n)
    ),
    "calls of one message": lambda n: chat(
        messages=[{"role": "assistant", "tool_calls": items(lambda k: {"id": f"c{k % 7}", "function": {"name": f"n {k}"}}, n)}]
    ),
    "tools": lambda n: chat(tools=items(lambda k: tool(f"no name {k}"), n)),
    "tools of one name": lambda n: chat(tools=items(lambda _: tool("same"), n)),
    "a long name": lambda n: chat(tools=[tool("é" * n)]),
    "a long id": lambda n: chat(messages=[{"role": "assistant", "tool_calls": [{"id": "." * n, "function": {"name": "a"}}]}]),
    "unknown keys": lambda n: chat(**{f"k{number}": [0] * (n // 2000) for number in range(900)}),
    "keys of metadata": lambda n: chat(metadata={f"k{number}": 1 for number in range(n // 12)}),
    "stop sequences": lambda n: chat(stop=items(str, n)),
    "an escaped picture": lambda n: asked([picture("data:image/png;base64,iVBORw0KGgo" + "%41" * (n // 3))]),
    "a picture in lines": lambda n: asked([picture("data:image/png;base64,iVBORw0KGgo" + "A \n" * (n // 3))]),
    "a label": lambda n: asked([picture(f"data:{'a' * n};base64,AAAA")]),
    "parameters of a label": lambda n: asked([picture(f"data:{';' * n}")]),
    "other parameters of a label": lambda n: asked([picture(f"data:{';base64' * (n // 7)}")]),
    "parts in a text": lambda n: chat(
        messages=[
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "a"}}]},
            {"role": "tool", "tool_call_id": "c", "content": '["type":"image"' + ',"type"   ' * (n // 10)},
        ]
    ),
    "arguments": lambda n: chat(
        messages=[{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "a", "arguments": "{" + '"a":[{}],' * (n // 9)}}]}]
    ),
    "a schema of references": lambda n: chat(
        response_format={
            "type": "json_schema",
            "json_schema": {
                "schema": {
                    "$ref": "#/$defs/d0",
                    "$defs": {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(n // 32)},
                }
            },
        }
    ),
    "a tool of alternatives": lambda n: chat(
        tools=[tool("a", {"anyOf": items(lambda k: {"properties": {"a": {"const": k}}, "required": ["a", f"b{k}"]}, n)})]
    ),
    **{f"a run of {mark!a}": partial(run_of, mark) for mark in SPECIAL},
    **{f"an image of {mark!a}": partial(image_of, mark) for mark in SPECIAL},
}


def settled(work: Callable[[Any], object]) -> Callable[[Any], None]:
    """`work`, whose refusals are answers."""

    def run(value: Any) -> None:
        with contextlib.suppress(GatewayError):
            work(value)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_translated_for_anthropic_in_line_with_its_size(name: str) -> None:
    check_growth(settled(lambda body: ANTHROPIC.request(Envelope(body), context(SONNET))), REQUESTS[name], SMALL_BYTES)


OTHER_REQUESTS: dict[str, Callable[[Envelope], object]] = {
    "passed on, less what is not wanted": lambda envelope: OPENAI.request(envelope, WITHOUT_MARKERS),
    "checked": check_messages,
    "counted": partial(prompt_tokens, keys=CHAT.prompt),
    "read as a call": lambda envelope: call_from(CHAT, envelope, request_id="r", client="c", received_s=0.0),
    "placed in a session": lambda envelope: session_of("c", "", lambda: CHAT.opening(envelope)),
    "looked at by the cache": lambda envelope: AnswerCache(CacheSettings(enabled=True), SHELF).decide(CHAT, envelope),
    "put into another body": lambda envelope: envelope.replaced({"model": b'"x"', "new": b"1"}),
    "read as a completion": read_completion,
    "read as embeddings": read_request,
}
WITHOUT_MARKERS = dataclasses.replace(context(SONNET), unwanted_fields=frozenset({"cache_control"}))
SHELF = MemoryShelf(CacheSettings(), lambda: 0.0)
SOME_REQUESTS = (
    "empty lists",
    "messages",
    "calls of one message",
    "a run of ';'",
    "a run of '\\\\'",
    "a run of '\\xe9'",
    "an image of ','",
    "unknown keys",
)


@pytest.mark.parametrize("work", OTHER_REQUESTS.values(), ids=OTHER_REQUESTS)
@pytest.mark.parametrize("name", SOME_REQUESTS)
def test_what_else_is_done_with_a_request_grows_in_line_with_it(name: str, work: Callable[[Envelope], object]) -> None:
    check_growth(settled(work), lambda n: Envelope(REQUESTS[name](n)), SMALL_BYTES)


BODIES: dict[str, Shape] = {
    "keys": lambda n: b"{" + b",".join(b'"k%d":1' % number for number in range(n // 10)) + b"}",
    "one key again and again": lambda n: b"{" + b'"a":1,' * (n // 6) + b'"b":1}',
    "a long key": lambda n: b'{"' + b"\\n" * (n // 2) + b'":1}',
    "blanks": lambda n: b"{" + b" " * n + b'"a" :' + b"\n" * n + b"1" + b" " * n + b"}",
    "an open list": lambda n: b"[" * n,
    "open objects": lambda n: b'{"a":' * (n // 5),
    "open strings": lambda n: b'{"a' * (n // 3),
    "numbers": lambda n: b'{"a":[' + b"1e5," * (n // 4) + b"1]}",
    "a long number": lambda n: b'{"a":' + b"1" * n + b"}",
    "half characters": lambda n: b'{"a":"' + "é".encode() * (n // 2) + b'\xc3"}',
    "halves of pairs": lambda n: b'{"a":"' + b"\\ud83dx" * (n // 7) + b'"}',
    "halves in a row": lambda n: b'{"a":"' + b"\\udc00" * (n // 6) + b'"}',
    "backslashes": lambda n: b'{"a":"' + b"\\\\" * (n // 2) + b'\\ud83d"}',
    "names of pictures": lambda n: b'{"messages":["' + b"data:image/png;base64," * (n // 22) + b'"]}',
    "halves of names of pictures": lambda n: b'{"messages":["' + b"data:image/;base64," * (n // 19) + b'"]}',
    **{f"a body of {mark!a}": partial(mul, mark.encode()) for mark in SPECIAL},
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_read_in_line_with_its_size(name: str) -> None:
    check_growth(settled(lambda body: prompt_tokens(Envelope(body), CHAT.prompt)), BODIES[name], SMALL_BYTES * 4)


@pytest.mark.parametrize("name", BODIES)
def test_the_values_of_a_body_are_counted_in_line_with_its_size(name: str) -> None:
    check_growth(
        settled(lambda body: check_values(body, most=10)), lambda n: b'["' + BODIES[name](n).replace(b'"', b"'") + b'"]', SMALL_BYTES * 4
    )


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_is_decompressed_in_line_with_its_parts(encoding: str) -> None:
    """Of many parts, each of which knows what is left."""
    part = gzip.compress(b"x") if encoding == "gzip" else zstd.compress(b"x")
    last = gzip.compress(os.urandom(SMALL_BYTES * 40)) if encoding == "gzip" else zstd.compress(os.urandom(SMALL_BYTES * 40))
    check_growth(lambda data: decoded_body(encoding, data, 1 << 30), lambda count: part * count + last, 200)


# What an upstream sends.

PIECES: dict[str, Callable[[int], Any]] = {
    "letters": lambda n: ["a"] * n,
    "blanks": lambda n: [" "] * n,
    "a fence": lambda n: ["```", *["a\n"] * n],
    "runs of quotes": lambda n: ['"\\'] * n,
}


def text_stream(pieces: list[str]) -> list[bytes]:
    return [openai.event(openai.chunk({"content": piece})) for piece in pieces]


def call_stream(pieces: list[str]) -> list[bytes]:
    first = {"index": 0, "id": "c", "type": "function", "function": {"name": "a", "arguments": ""}}
    rest = ({"index": 0, "function": {"arguments": piece}} for piece in pieces)
    return [openai.event(openai.chunk({"tool_calls": [call]})) for call in (first, *rest)]


def calls_stream(pieces: list[str]) -> list[bytes]:
    calls = ({"index": number, "id": f"c{number}", "function": {"name": "a", "arguments": "{}"}} for number in range(len(pieces)))
    return [openai.event(openai.chunk({"tool_calls": [call]})) for call in calls]


def reasoning_stream(pieces: list[str]) -> list[bytes]:
    return [openai.event(openai.chunk({"reasoning_content": piece})) for piece in pieces]


def comment_stream(pieces: list[str]) -> list[bytes]:
    return [b": " + piece.encode() + b"\n\n" for piece in pieces]


def role_stream(pieces: list[str]) -> list[bytes]:
    return [openai.event(openai.chunk({"role": "assistant", "content": ""})) for _ in pieces]


def block_stream(pieces: list[str], kind: str = "text") -> list[bytes]:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": kind, kind: "", "id": "t", "name": "a", "input": {}}}
    delta = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}[kind]
    field = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}[kind]
    deltas = ({"type": "content_block_delta", "index": 0, "delta": {"type": delta, field: piece}} for piece in pieces)
    opening = {"type": "message_start", "message": anthropic.message([])}
    return [anthropic.one_event(event) for event in (opening, start, *deltas, {"type": "content_block_stop", "index": 0})]


def blocks_stream(pieces: list[str]) -> list[bytes]:
    opening = {"type": "message_start", "message": anthropic.message([])}
    events = [anthropic.one_event(opening)]
    for number, piece in enumerate(pieces):
        block = {"type": "content_block_start", "index": number, "content_block": {"type": "text", "text": piece}}
        events += [anthropic.one_event(block), anthropic.one_event({"type": "content_block_stop", "index": number})]
    return events


def thinking_stream(pieces: list[str]) -> list[bytes]:
    return block_stream(pieces, "thinking")


def input_stream(pieces: list[str]) -> list[bytes]:
    return block_stream(pieces, "tool_use")


OPENAI_STREAMS = (text_stream, call_stream, calls_stream, reasoning_stream, comment_stream, role_stream)
ANTHROPIC_STREAMS = (block_stream, thinking_stream, input_stream, blocks_stream, comment_stream)
FEW = 400


def fed(stream: Callable[[TranslationContext], StreamTranslator]) -> Callable[[list[bytes]], object]:
    """All of the events one by one through everything that a streamed answer goes through."""

    def run(events: list[bytes]) -> None:
        outflow = Outflow(CHAT, stream(context(SONNET, is_stream=True)), 1 << 30, lambda: None)
        shown, assembly = ShownSoFar(CHAT), Assembly(CHAT)
        for event in events:
            frames = outflow.take(event)
            shown.add(frames)
            assembly.feed(frames)
        frames = outflow.rest(is_whole=True)
        shown.add(frames)
        shown.read()
        assembly.feed(frames)
        assembly.kept()

    return settled(run)


COMPLETION = client_envelope(b'{"model":"m","prompt":"a"}')
OVER_CHAT = translator_for("openai.completions", ["openai.chat"], COMPLETION, (), frozenset())


@pytest.mark.parametrize("make", OPENAI_STREAMS)
@pytest.mark.parametrize("pieces", PIECES)
def test_a_stream_of_openais_protocol_grows_in_line_with_its_events(make: Callable[[list[str]], list[bytes]], pieces: str) -> None:
    check_growth(fed(OPENAI.stream), lambda n: make(PIECES[pieces](n)), FEW)


@pytest.mark.parametrize("make", ANTHROPIC_STREAMS)
def test_a_stream_of_anthropics_protocol_grows_in_line_with_its_events(make: Callable[[list[str]], list[bytes]]) -> None:
    check_growth(fed(ANTHROPIC.stream), lambda n: make(["a"] * n), FEW)


@pytest.mark.parametrize("pieces", PIECES)
def test_a_completion_over_a_chat_grows_in_line_with_its_events(pieces: str) -> None:
    assert OVER_CHAT is not None
    check_growth(fed(OVER_CHAT.stream), lambda n: text_stream(PIECES[pieces](n)), FEW * 4)


ANSWERS: dict[str, tuple[Any, Shape]] = {
    "texts of Anthropic's": (ANTHROPIC, lambda n: jsonio.encode(anthropic.message([anthropic.text("a")] * (n // 30)))),
    "thoughts of Anthropic's": (ANTHROPIC, lambda n: jsonio.encode(anthropic.message([{"type": "thinking", "thinking": "a"}] * (n // 40)))),
    "calls of Anthropic's": (ANTHROPIC, lambda n: jsonio.encode(anthropic.message([anthropic.tool_use("a", {})] * (n // 70)))),
    "unknown blocks of Anthropic's": (ANTHROPIC, lambda n: jsonio.encode(anthropic.message(items(lambda k: {"type": f"t{k}"}, n)))),
    "choices": (OPENAI, lambda n: jsonio.encode({**openai.completion(), "choices": openai.completion()["choices"] * (n // 90)})),
    "a long text": (OPENAI, lambda n: jsonio.encode(openai.completion("\n" * (n // 2)))),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_whole_answer_grows_in_line_with_its_size(name: str) -> None:
    translator, make = ANSWERS[name]
    check_growth(settled(lambda body: kept_of(CHAT, translator.response(body, context(SONNET)).body)), make, SMALL_BYTES * 2)


@pytest.mark.parametrize("translator", [OPENAI, ANTHROPIC], ids=["OpenAI", "Anthropic"])
@pytest.mark.parametrize("mark", [*SPECIAL, "system role ", "messages.1.content.1 ", "thinking "])
def test_a_refusal_grows_in_line_with_its_words(translator: Any, mark: str) -> None:
    def refused(words: str) -> None:
        body = jsonio.encode({"error": {"message": words, "type": "invalid_request_error"}})
        translator.refused(translator.error(400, {}, body, context(SONNET)))

    check_growth(refused, lambda n: f"unsupported: {mark * (n // len(mark))}", SMALL_BYTES)


EVENTS: dict[str, Shape] = {
    "blank lines": lambda n: b"\n" * n,
    "line ends of three kinds": lambda n: b"\r\n\r\r\n" * (n // 5),
    "lines of data": lambda n: b"data:\n" * (n // 6),
    "one line": lambda n: b"data:" * (n // 5),
    "fields": lambda n: b"event: a\nid\n:" * (n // 13) + b"\n\n",
    "marks": lambda n: b"\xef\xbb\xbf" * (n // 3),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["byte by byte", "in pieces", "at once"])
@pytest.mark.parametrize("name", EVENTS)
def test_events_are_split_in_line_with_their_size(name: str, size: int) -> None:
    def split(data: bytes) -> None:
        splitter = EventSplitter()
        for start in range(0, len(data), size):
            for block in splitter.feed(data[start : start + size]):
                parse_event(block)
        splitter.finish()

    check_growth(split, EVENTS[name], SMALL_BYTES // 10 if size == 1 else SMALL_BYTES)


TEXTS: dict[str, Callable[[int], str]] = {
    "one character": lambda n: "-" * n,
    "two characters": lambda n: "ab" * (n // 2),
    "words": lambda n: "word " * (n // 5),
    "fences": lambda n: "```\n" * (n // 4),
    "blanks": lambda n: " \n" * (n // 2),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_joined_and_bared_in_line_with_their_size(name: str) -> None:
    def work(text: str) -> None:
        overlap_of("a" + text, text + "b")
        overlap_of(text, text[1:])
        unfenced(f"```\n{text}\n```")

    check_growth(work, TEXTS[name], SMALL_BYTES)


class Echo(StreamTranslator):
    """Frames are what came, and nothing else costs anything."""

    def feed(self, data: bytes) -> bytes:
        return data

    def usage_so_far(self) -> Usage:
        return Usage()

    def translate_event(self, block: bytes) -> bytes:
        return block

    def translate_end(self) -> bytes:
        return b""


def test_a_call_is_held_back_in_line_with_its_events() -> None:
    def hold(events: list[bytes]) -> None:
        outflow = Outflow(CHAT, Echo(context(SONNET)), 1 << 30, lambda: None)
        for event in events:
            outflow.take(event)
        outflow.rest()

    check_growth(hold, lambda n: call_stream(["a"] * n), FEW * 10)


@pytest.mark.parametrize("pieces", PIECES)
def test_a_fence_is_held_back_in_line_with_its_events(pieces: str) -> None:
    def hold(texts: list[str]) -> None:
        writer = CompletionWriter(context(SONNET), Notes())
        for text in texts:
            writer.write(TextDelta(0, text))

    check_growth(hold, lambda n: PIECES[pieces](n), FEW * 50)


def test_events_with_calls_are_kept_in_line_with_their_number() -> None:
    def keep(texts: list[bytes]) -> None:
        events = CallEvents()
        for text in texts:
            events.add(text)

    check_growth(keep, lambda n: call_stream(["a"] * n), FEW * 4)


# Memory: a text takes what its bytes do, whatever is in it. What many small things take is bounded by their number.

PLAIN_SIZE = 400_000
MOST_TIMES = 8
PLAIN = {
    **{
        name: REQUESTS[name]
        for name in REQUESTS
        if name.startswith(("a run", "an image", "a long", "a label", "a picture", "an escaped", "param", "other"))
    },
    **{
        name: BODIES[name] for name in ("blanks", "halves of pairs", "halves in a row", "backslashes", "a long number", "names of pictures")
    },
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_body_takes_a_few_times_its_size_in_memory(name: str) -> None:
    body = PLAIN[name](PLAIN_SIZE)

    def work(body: bytes) -> None:
        envelope = client_envelope(body)
        prompt_tokens(envelope, CHAT.prompt)
        ANTHROPIC.request(envelope, context(SONNET))

    settled(work)(body)  # what is made once is there
    tracemalloc.start()
    try:
        settled(work)(body)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MOST_TIMES * len(body) + 100_000
