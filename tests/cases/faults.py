"""The fault matrix: what an upstream does wrong, where, and what comes of it.

A row is a fault at a place of the answer. Its answer is made for each wire API, whole and streamed where both make sense. `alone` is what
the client sees when the route has no other deployment and the fault meets every attempt; `spared` when a healthy upstream of the other wire
API comes next: the right answer, unless told otherwise. `calls` are the requests that the faulty upstream got in both cases, and `spare`
those of the healthy one; `attempts` counts also those that reached nobody.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from tests.fakes.upstream import Answer, Cut, Request, Reset, Sleep, Stall, Step

Wire = Literal["openai", "anthropic", "responses"]
Place = Literal["before headers", "before content", "mid-text", "mid-call", "at the end"]
WIRES: tuple[Wire, ...] = ("openai", "anthropic", "responses")

TEXT = "The quick brown fox jumps over the lazy dog, twice; and once more ✓."
BEGUN = "The quick brown fox "
ARGUMENTS = {"path": "a.py", "text": "ü"}
TOOL = "write_file"

# Documents and events of a right answer.

_OPENAI_USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
_ANTHROPIC_USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 20}
_RESPONSES_USAGE = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
_RESPONSE = {"id": "resp_theirs", "object": "response", "created_at": 1, "model": "m", "error": None, "incomplete_details": None}
_ITEM = {"id": "msg_theirs", "type": "message", "role": "assistant", "status": "completed"}
_CALL_ITEM = {"id": "fc_theirs", "type": "function_call", "call_id": "call_1", "name": TOOL, "status": "completed"}
_MESSAGE = {"id": "msg_theirs", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
_CHUNK = {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def encoded(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def event(document: dict[str, Any], wire: Wire) -> bytes:
    name = f"event: {document['type']}\n".encode() if wire != "openai" and "type" in document else b""
    return name + b"data: " + encoded(document) + b"\n\n"


def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    return event({**_CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}, "openai")


def claude(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, "anthropic")


def theirs(kind: str, **fields: Any) -> bytes:
    return event({"type": f"response.{kind}", **fields}, "responses")


def document_of(wire: Wire, text: str | None) -> dict[str, Any]:
    """A whole answer: with `text`, else with a tool call."""
    if wire == "openai":
        function = {"name": TOOL, "arguments": json.dumps(ARGUMENTS)}
        calls = {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
        message = {"role": "assistant", **({"content": text} if text is not None else calls)}
        choice = {"index": 0, "message": message, "finish_reason": "stop" if text is not None else "tool_calls"}
        return {
            "id": "chatcmpl-theirs",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": _OPENAI_USAGE,
        }
    if wire == "responses":
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {**_ITEM, "content": [part]} if text is not None else {**_CALL_ITEM, "arguments": json.dumps(ARGUMENTS, ensure_ascii=False)}
        return {**_RESPONSE, "status": "completed", "output": [item], "usage": _RESPONSES_USAGE}
    call = {"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": ARGUMENTS}
    block = {"type": "text", "text": text} if text is not None else call
    return {**_MESSAGE, "content": [block], "stop_reason": "end_turn" if text is not None else "tool_use", "usage": _ANTHROPIC_USAGE}


def opening(wire: Wire) -> list[bytes]:
    """What comes before the content."""
    if wire == "openai":
        return [chunk({"role": "assistant", "content": ""})]
    if wire == "responses":
        begun = {**_RESPONSE, "status": "in_progress", "output": []}
        return [theirs("created", response=begun), theirs("in_progress", response=begun)]
    message = {**_MESSAGE, "content": [], "stop_reason": None, "usage": {**_ANTHROPIC_USAGE, "output_tokens": 1}}
    return [claude("message_start", message=message), claude("ping")]


def said(wire: Wire, *pieces: str) -> list[bytes]:
    """Text, in such pieces."""
    if wire == "openai":
        return [chunk({"content": piece}) for piece in pieces]
    if wire == "responses":
        start = theirs("output_item.added", output_index=0, item={**_ITEM, "content": []})
        return [start, *(theirs("output_text.delta", output_index=0, content_index=0, delta=piece) for piece in pieces)]
    start = claude("content_block_start", index=0, content_block={"type": "text", "text": ""})
    return [start, *(claude("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}) for piece in pieces)]


def called(wire: Wire, *pieces: str) -> list[bytes]:
    """A tool call, its arguments in such pieces."""
    if wire == "openai":
        head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": ""}}
        rest = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces]
        return [chunk({"tool_calls": [head]}), *rest]
    if wire == "responses":
        start = theirs("output_item.added", output_index=0, item={**_CALL_ITEM, "arguments": ""})
        return [start, *(theirs("function_call_arguments.delta", output_index=0, delta=piece) for piece in pieces)]
    start = claude("content_block_start", index=0, content_block={"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": {}})
    deltas = [claude("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": piece}) for piece in pieces]
    return [start, *deltas]


def closing(wire: Wire, *, is_call: bool = False) -> list[bytes]:
    """What follows the content, less the end mark."""
    if wire == "openai":
        return [chunk({}, "tool_calls" if is_call else "stop"), event({**_CHUNK, "choices": [], "usage": _OPENAI_USAGE}, "openai")]
    if wire == "responses":  # its reason comes with the end mark
        return []
    reason = {"stop_reason": "tool_use" if is_call else "end_turn", "stop_sequence": None}
    return [claude("content_block_stop", index=0), claude("message_delta", delta=reason, usage=_ANTHROPIC_USAGE)]


def end(wire: Wire) -> bytes:
    """The end mark."""
    if wire == "responses":
        return theirs("completed", response={**_RESPONSE, "status": "completed", "output": [], "usage": _RESPONSES_USAGE})
    return b"data: [DONE]\n\n" if wire == "openai" else claude("message_stop")


def streamed(steps: Sequence[Step], **rest: Any) -> Answer:
    return Answer(steps, headers=(("content-type", "text/event-stream"),), **rest)


def json_answer(body: bytes, status: int = 200, *headers: tuple[str, str]) -> Answer:
    return Answer((body,), status, (("content-type", "application/json"), *headers), "length")


def right(wire: Wire, *, is_stream: bool, is_call: bool = False, text: str = TEXT) -> Answer:
    """The right answer, or the rest of it."""
    if not is_stream:
        return json_answer(encoded(document_of(wire, None if is_call else text)))
    written = json.dumps(ARGUMENTS)
    content = called(wire, written[:9], written[9:]) if is_call else said(wire, *([text[:30], text[30:]] if text else []))
    return streamed([*opening(wire), *content, *closing(wire, is_call=is_call), end(wire)])


def healthy(wire: Wire) -> Callable[[Request], Answer]:
    """An upstream without faults, which carries an answer on where it is asked to."""

    def respond(request: Request) -> Answer:
        body = request.json
        said_so_far = body["input" if wire == "responses" else "messages"]
        parts = [message["content"] for message in said_so_far if message.get("role") == "assistant"]
        words = parts[0] if parts and isinstance(parts[0], str) else "".join(part["text"] for part in (parts[0] if parts else ()))
        assert TEXT.startswith(words)
        return right(wire, is_stream=bool(body.get("stream")), is_call=bool(body.get("tools")), text=TEXT[len(words) :])

    return respond


def error_event(wire: Wire, kind: str) -> bytes:
    error = {"type": kind, "message": "their words"}
    return event({"error": error}, "openai") if wire == "openai" else event({"type": "error", "error": error}, wire)


# What is expected.


@dataclass(frozen=True)
class Told:
    """An HTTP error."""

    status: int
    code: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True)
class Ended:
    """A stream that shows the text so far and ends with an error event."""

    code: str
    text: str = BEGUN


@dataclass(frozen=True)
class Right:
    """The right answer; `is_carried_on` where it has two authors."""

    is_carried_on: bool = False
    text: str = TEXT


Seen = Told | Ended | Right
Make = Callable[[Wire, bool], Answer]


@dataclass(frozen=True)
class Fault:
    """A row. `settings` change those of the faulty upstream; with `has_tls` it is called over TLS."""

    name: str
    place: Place
    make: Make
    alone: Seen
    calls: tuple[int, int]
    spare: int = 1
    spared: Seen = field(default_factory=Right)
    attempts: int = 3
    is_streamed: bool = True
    is_whole: bool = True
    wires: tuple[Wire, ...] = WIRES
    settings: dict[str, Any] = field(default_factory=dict)
    has_tls: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether only a bound of time ends it."""
        return "stall" in self.name or "slow" in self.name


def same(answer: Answer) -> Make:
    return lambda _wire, _is_stream: answer


def refusal(status: int, *headers: tuple[str, str], body: bytes | None = None) -> Make:
    """An error in the wire API's own shape."""

    def make(wire: Wire, _: bool) -> Answer:
        error = {"type": "some_error", "message": "their words"}
        document = {"type": "error", "error": error} if wire == "anthropic" else {"error": error}
        return json_answer(encoded(document) if body is None else body, status, *headers)

    return make


HTML = (("content-type", "text/html"),)
PLAIN = (("content-type", "text/plain"),)
DATE = ("date", "Mon, 23 Nov 2026 10:00:00 GMT")
UNTOLD = Told(502, "upstream_unreachable")
BROKEN = Told(502, "upstream_broken")
LATE = Told(504, "upstream_timeout")
TWICE, ONCE = (3, 2), (3, 1)
"""Requests at the faulty upstream: alone all three attempts; with a healthy one next, two of them, or one where asking again is no use."""

BEFORE_HEADERS = [
    Fault("DNS failure", "before headers", same(Answer()), UNTOLD, (0, 0), settings={"base_url": "http://nowhere.invalid/v1"}),
    Fault("refused", "before headers", same(Answer()), UNTOLD, (0, 0), settings={"base_url": "http://127.0.0.1:9/v1"}),
    Fault("TLS failure", "before headers", same(Answer()), UNTOLD, (0, 0), has_tls=True),
    Fault("closed", "before headers", same(Answer(raw=(Cut(),))), UNTOLD, ONCE),
    Fault("reset", "before headers", same(Answer(raw=(Reset(),))), UNTOLD, ONCE),
    Fault("stall", "before headers", same(Answer(raw=(Stall(),))), LATE, ONCE),
    Fault(
        "slow headers", "before headers", same(Answer(raw=(*(s for b in b"HTTP/1.1 200" for s in (bytes([b]), Sleep(0.05))),))), LATE, ONCE
    ),
    Fault("half a head", "before headers", same(Answer(raw=(b"HTTP/1.1 200 OK\r\ncontent-", Cut()))), UNTOLD, ONCE),
    Fault("only a 1xx", "before headers", same(Answer(raw=(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", Cut()))), UNTOLD, ONCE),
    Fault("garbage", "before headers", same(Answer(raw=(b"\x16\x03garbage\r\n\r\n", Cut()))), BROKEN, TWICE),
    Fault("redirect", "before headers", same(Answer((b"",), 302, (("location", "http://127.0.0.1:9/"),), "length")), BROKEN, TWICE),
    Fault("500", "before headers", refusal(500), Told(500, "server_error"), TWICE),
    Fault("502 in HTML", "before headers", refusal(502, body=b"<html><h1>Bad gateway</h1>"), Told(502, "server_error"), TWICE),
    Fault("503", "before headers", refusal(503), Told(503, "server_error"), TWICE),
    Fault("529", "before headers", refusal(529), Told(529, "server_error"), TWICE),
    Fault("529 that stalls", "before headers", same(Answer((b'{"error":', Stall()), 529)), Told(529, "server_error"), TWICE),
    Fault("408", "before headers", refusal(408), Told(408), TWICE),
    Fault("429", "before headers", refusal(429), Told(429, "rate_limit_exceeded"), TWICE),
    Fault("429, 30 ms", "before headers", refusal(429, ("retry-after-ms", "30")), Told(429, "rate_limit_exceeded", "1"), TWICE),
    Fault("429, 0.03 s", "before headers", refusal(429, ("retry-after", "0.03")), Told(429, "rate_limit_exceeded", "1"), TWICE),
    Fault("429, now", "before headers", refusal(429, DATE, ("retry-after", DATE[1])), Told(429, "rate_limit_exceeded", "0"), TWICE),
]
HOUR = [
    Fault(f"{status}, an hour ({name})", "before headers", refusal(status, *headers), Told(status, code, "30"), (1, 1), attempts=1)
    for status, code in ((429, "rate_limit_exceeded"), (529, "server_error"))
    for name, headers in (
        ("s", (("retry-after", "3600"),)),
        ("ms", (("retry-after-ms", "3600000"),)),
        ("date", (DATE, ("retry-after", "Mon, 23 Nov 2026 11:00:00 GMT"))),
        ("date, undated", (("retry-after", "Mon, 23 Nov 2099 11:00:00 GMT"),)),
    )
]
REFUSED = [
    Fault("400", "before headers", refusal(400), Told(400), (1, 1), attempts=1, spare=0, spared=Told(400)),
    Fault("401", "before headers", refusal(401), Told(401, "upstream_key_refused"), (1, 1), attempts=1),
    Fault("402", "before headers", refusal(402), Told(402), (1, 1), attempts=1),
    Fault("403", "before headers", refusal(403), Told(403, "upstream_key_refused"), (1, 1), attempts=1),
    Fault("404", "before headers", refusal(404), Told(404), (1, 1), attempts=1),
    Fault("413", "before headers", refusal(413), Told(413), (1, 1), attempts=1, spare=0, spared=Told(413)),
]


def cut_body(wire: Wire, _: bool) -> Answer:
    body = encoded(document_of(wire, TEXT))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return Answer(raw=(head + body[:-20], Cut()))


def cut_within(part: str, *, is_call: bool, end: Step) -> Make:
    """A whole answer that ends where `part` of it has come."""

    def make(wire: Wire, _: bool) -> Answer:
        body = encoded(document_of(wire, None if is_call else TEXT))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        mark = part.encode()
        assert mark in body
        return Answer(raw=(head + body[: body.index(mark) + len(mark)], end))

    return make


def half_a_character(wire: Wire, _: bool) -> Answer:
    """The body is as long as was told, and no text: its last character is cut."""
    return json_answer(encoded(document_of(wire, TEXT)).partition("✓".encode()[1:])[0])


def error_inside(kind: str, message: str = "their words") -> Make:
    """An error document under a 200, whole; some servers answer a request for a stream with it as well."""

    def make(wire: Wire, _: bool) -> Answer:
        error = {"type": kind, "message": message}
        return json_answer(encoded({"type": "error", "error": error} if wire == "anthropic" else {"error": error}))

    return make


def stalled_body(wire: Wire, _: bool) -> Answer:
    return Answer((encoded(document_of(wire, TEXT))[:-20], Stall()))


def compressed(wire: Wire, is_stream: bool) -> Answer:
    answer = right(wire, is_stream=is_stream)
    body = gzip.compress(b"".join(step for step in answer.steps if isinstance(step, bytes)))
    return Answer((body[:20], body[20:]), 200, (*answer.headers, ("content-encoding", "gzip")))


def begun_gzip(wire: Wire, _: bool) -> Answer:
    """A compressed stream that ends in the middle: what was flushed is read."""
    packer = zlib.compressobj(wbits=31)
    begun = packer.compress(b"".join([*opening(wire), *said(wire, BEGUN)])) + packer.flush(zlib.Z_SYNC_FLUSH)
    return Answer((begun, Cut()), 200, (("content-type", "text/event-stream"), ("content-encoding", "gzip")))


def broken_framing(wire: Wire, _: bool) -> Answer:
    """A chunk's length that is none, after a text that began."""
    begun = b"".join([*opening(wire), *said(wire, BEGUN)])
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return Answer(raw=(head + b"%x\r\n%s\r\n" % (len(begun), begun), Sleep(0.05), b"xyz\r\nnonsense\r\n", Stall()))


def garbled_calls(_: Wire, __: bool) -> Answer:
    """A whole answer to a request for a stream, whose calls can't be written as one: it turns out before anything was shown."""
    document = document_of("openai", None)
    document["choices"][0]["message"]["tool_calls"] = 5
    return json_answer(encoded(document))


def mislabelled(wire: Wire, is_stream: bool) -> Answer:
    """The right answer under a content type that is not its own."""
    answer = right(wire, is_stream=is_stream)
    return Answer(answer.steps, 200, PLAIN, answer.framing)


def streamed_anyway(wire: Wire, _: bool) -> Answer:
    """A stream where a whole answer was asked for."""
    return right(wire, is_stream=True)


def after_hints(wire: Wire, is_stream: bool) -> Answer:
    answer = right(wire, is_stream=is_stream)
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    return Answer(answer.steps, 200, answer.headers, answer.framing, before_head=(hints,))


BODIES = [
    Fault("a web page", "before content", same(Answer((b"<html>Welcome",), 200, HTML)), BROKEN, TWICE),
    Fault("plain words", "before content", same(Answer((b"It works!",), 200, PLAIN)), BROKEN, TWICE),
    Fault("truncated JSON", "before content", same(json_answer(b'{"id": "x", "choices": [{"mess')), BROKEN, TWICE),
    Fault("no answer in it", "before content", same(json_answer(b'{"id": "x", "choices": [], "content": 1}')), BROKEN, TWICE),
    Fault("empty 200", "before content", same(json_answer(b"")), BROKEN, TWICE),
    Fault("204", "before content", same(Answer((), 204, (), "length")), BROKEN, TWICE),
    Fault("cut body", "before content", cut_body, BROKEN, TWICE),
    Fault("cut in the text", "mid-text", cut_within("The quick", is_call=False, end=Cut()), BROKEN, TWICE),
    Fault("reset in the text", "mid-text", cut_within("The quick", is_call=False, end=Reset()), BROKEN, TWICE),
    Fault("stall in the text", "mid-text", cut_within("The quick", is_call=False, end=Stall()), LATE, ONCE),
    Fault("cut in the arguments", "mid-call", cut_within("a.p", is_call=True, end=Cut()), BROKEN, TWICE),
    Fault("reset in the arguments", "mid-call", cut_within("a.p", is_call=True, end=Reset()), BROKEN, TWICE),
    Fault("stall in the arguments", "mid-call", cut_within("a.p", is_call=True, end=Stall()), LATE, ONCE),
    Fault("half a character in the body", "mid-text", half_a_character, BROKEN, TWICE),
    Fault("overload inside a 200", "before content", error_inside("overloaded_error"), Told(529, "server_error"), TWICE),
    Fault("error inside a 200", "before content", error_inside("api_error"), Told(500, "server_error"), TWICE),
    Fault("rate limit inside a 200", "before content", error_inside("rate_limit_error"), Told(429, "rate_limit_exceeded"), TWICE),
    Fault("stalled body", "before content", stalled_body, LATE, ONCE),
    Fault("broken gzip", "before content", same(Answer((b"\x1f\x8bxxxx",), 200, (("content-encoding", "gzip"),))), BROKEN, TWICE),
    Fault("a wrong content type", "before content", mislabelled, Right(), (1, 1), spare=0, attempts=1),
    Fault("garbled calls, whole", "before content", garbled_calls, BROKEN, TWICE, is_whole=False, wires=("openai",)),
    Fault("a stream unasked", "before content", streamed_anyway, BROKEN, TWICE, is_streamed=False),
    Fault("gzip", "before content", compressed, Right(), (1, 1), spare=0, attempts=1),
    Fault("1xx, then an answer", "before headers", after_hints, Right(), (1, 1), spare=0, attempts=1),
]


END_MARK = "an end mark without a reason"
"""In chat it ends an answer that has content: its reason is inferred."""

# What ends a stream, wherever it does: the steps, and the code that the client is told.
ENDS: list[tuple[str, Callable[[Wire], Sequence[Step]], str]] = [
    ("cut", lambda _: (Cut(),), "upstream_broken"),
    ("reset", lambda _: (Reset(),), "upstream_broken"),
    ("stall", lambda _: (Stall(),), "upstream_timeout"),
    ("half a character", lambda wire: (said(wire, "é ✓")[-1].partition(b"\xa9")[0], Cut()), "upstream_broken"),
    ("cut within an event", lambda wire: (Sleep(0.03), said(wire, " and more")[-1][:-12], Cut()), "upstream_broken"),
    ("garbage", lambda _: (b"data: {{{\n\n", Stall()), "upstream_broken"),
    ("overload event", lambda wire: (error_event(wire, "overloaded_error"),), "server_error"),
    ("error event", lambda wire: (error_event(wire, "api_error"),), "server_error"),
    ("rate limit event", lambda wire: (error_event(wire, "rate_limit_error"),), "rate_limit_exceeded"),
    ("an end without a reason", lambda _: (), "upstream_broken"),
    (END_MARK, lambda wire: (end(wire),), "upstream_broken"),
]
_STATUS = {"upstream_broken": 502, "upstream_timeout": 504, "rate_limit_exceeded": 429}
_EVENT_STATUS = {"overload event": 529, "error event": 500}


def _streams(place: Place, begun: Callable[[Wire], Sequence[Step]]) -> list[Fault]:
    rows = []
    for name, steps, code in ENDS:

        def make(wire: Wire, _: bool, steps: Callable[[Wire], Sequence[Step]] = steps) -> Answer:
            return streamed([*begun(wire), *steps(wire)])

        told = Told(_EVENT_STATUS.get(name, _STATUS.get(code, 0)), code)
        calls = ONCE if code == "upstream_timeout" else TWICE
        if place == "mid-text" and name == END_MARK:
            rows.append(
                Fault(name, place, make, Right(text=BEGUN), (1, 1), 0, Right(text=BEGUN), attempts=1, is_whole=False, wires=("openai",))
            )
            rows.append(
                Fault(name, place, make, Ended(code), (3, 1), spared=Right(is_carried_on=True), is_whole=False, wires=("anthropic",))
            )
        elif place == "mid-text":
            rows.append(Fault(name, place, make, Ended(code), (3, 1), spared=Right(is_carried_on=True), is_whole=False))
        else:
            # in the Responses API the end mark is the reason, and an answer may be empty
            wires = WIRES if (place, name) != ("before content", END_MARK) else ("openai", "anthropic")
            rows.append(Fault(name, place, make, told, calls, is_whole=False, wires=wires))
    return rows


STREAMS = [
    *_streams("before content", opening),
    *_streams("mid-text", lambda wire: [*opening(wire), *said(wire, BEGUN)]),
    Fault("cut gzip", "mid-text", begun_gzip, Ended("upstream_broken"), ONCE, spared=Right(is_carried_on=True), is_whole=False),
    Fault("broken framing", "mid-text", broken_framing, Ended("upstream_broken"), ONCE, spared=Right(is_carried_on=True), is_whole=False),
    *_streams("mid-call", lambda wire: [*opening(wire), *called(wire, '{"pa')]),
]


def at_the_end(name: str, after: Callable[[Wire], Sequence[Step]], wires: tuple[Wire, ...], code: str = "") -> Fault:
    """All of the text came, and then something of the end does not; with `code` that is an error, else the answer is right."""
    make: Make = lambda wire, _: streamed([*opening(wire), *said(wire, TEXT), *after(wire)])  # noqa: E731  # one of a row of such makers
    if not code:
        return Fault(name, "at the end", make, Right(), (1, 1), 0, attempts=1, is_whole=False, wires=wires)
    return Fault(name, "at the end", make, Ended(code, TEXT), ONCE, spared=Right(is_carried_on=True), is_whole=False, wires=wires)


def _after_reason(steps: Callable[[Wire], Sequence[Step]], wire: Wire) -> Sequence[Step]:
    return (*closing(wire), *steps(wire))


AT_THE_END = [
    *(at_the_end(f"{name} before the reason", steps, WIRES if name != END_MARK else ("anthropic",), code) for name, steps, code in ENDS),
    at_the_end("only an end mark", lambda wire: (end(wire),), ("openai",)),
    at_the_end("only usage", lambda wire: (closing(wire)[1],), ("openai",)),
    *(at_the_end(f"{name} before the end mark", partial(_after_reason, steps), ("openai",)) for name, steps, _ in ENDS[:-1]),
    *(at_the_end(f"{name} before message_stop", partial(_after_reason, steps), ("anthropic",), code) for name, steps, code in ENDS[:-1]),
    at_the_end("cut in the usage", lambda wire: (closing(wire)[0], closing(wire)[1][:40], Cut()), ("openai",)),
    at_the_end("cut after the end mark", lambda wire: (*closing(wire), end(wire), Cut()), WIRES),
    at_the_end("stall after the end mark", lambda wire: (*closing(wire), end(wire), Stall()), WIRES),
    at_the_end("garbage after the end mark", lambda wire: (*closing(wire), end(wire), b"data: {{{\n\n"), WIRES),
]

FAULTS = [*BEFORE_HEADERS, *HOUR, *REFUSED, *BODIES, *STREAMS, *AT_THE_END]
