"""An upstream that fails: a server on 127.0.0.1 whose answers meet a random fault now and then, and which dies and comes back when told to.

Strategy: a fault is a row of a table, a function from the answer to the steps that are sent instead of it. Steps are bytes, seconds to
wait, or the end of the connection. Everything is drawn from one seeded generator per upstream.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import gevent
from gevent.server import StreamServer

from bench.chaos_answers import Asked, Events, Wire, WrongPart, error_event, read_request, streamed_answer, whole_answer


class End(Enum):
    """How a connection ends before its answer does: closed, reset, or silent until the other side leaves."""

    CUT = auto()
    RESET = auto()
    STALL = auto()


Step = bytes | float | End
_SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"
_STALL_LIMIT_S = 60.0


def _response(status: int, body: bytes, kind: str = "application/json", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True)
class Answer:
    """What would be said, and the dice: `events` of a streamed answer, else `body`; `gap_s` between two events."""

    wire: Wire
    random: random.Random
    gap_s: float
    body: bytes = b""
    events: Events | None = None

    def steps(self) -> Iterator[Step]:
        """All of it."""
        if self.events is None:
            yield self.gap_s * 4
            yield _response(200, self.body)
            return
        yield from self.begun(self.events, len(self.events.content))
        yield b"".join(_chunk(event) for event in (*self.events.closing, self.events.end)) + _LAST

    def begun(self, events: Events, count: int) -> Iterator[Step]:
        """The head, and the first events of the content."""
        yield _SSE + b"".join(_chunk(event) for event in events.opening)
        for event in events.content[:count]:
            yield self.gap_s
            yield _chunk(event)


Fault = Callable[[Answer], Iterator[Step]]


def _refusal(
    status: int, *headers: str, body: bytes = b'{"error":{"message":"chaos","type":"api_error"}}', kind: str = "application/json"
) -> Fault:
    def steps(_: Answer) -> Iterator[Step]:
        yield _response(status, body, kind, *headers)

    return steps


def _sent(*steps: Step) -> Fault:
    return lambda _: iter(steps)


def _slow_head(_: Answer) -> Iterator[Step]:
    for byte in _SSE[:20]:
        yield bytes([byte])
        yield 0.1
    yield End.STALL


def _too_late(_: Answer) -> Iterator[Step]:
    date = email.utils.formatdate(time.time(), usegmt=True)
    until = email.utils.formatdate(time.time() + 3600, usegmt=True)
    yield _response(429, b'{"error":{"message":"chaos"}}', "application/json", f"date: {date}", f"retry-after: {until}")


def _half_body(answer: Answer) -> Iterator[Step]:
    whole = _response(200, answer.body or b'{"id":"x","choices":[]}')
    yield whole[: -len(whole) // 3]
    yield End.CUT


def _broken(where: str, *ends: Step) -> Fault:
    """A stream that ends with `ends` before its content, within it, or after all of it; a whole answer is cut."""

    def steps(answer: Answer) -> Iterator[Step]:
        events = answer.events
        if events is None:
            yield from _half_body(answer)
            return
        count = {"before": 0, "within": answer.random.randint(1, max(len(events.content) - 1, 1)), "after": len(events.content)}[where]
        yield from answer.begun(events, count)
        for end in ends:
            yield _chunk(end) if isinstance(end, bytes) and end is not _LAST else end

    return steps


def _error(where: str, kind: str) -> Fault:
    def steps(answer: Answer) -> Iterator[Step]:
        yield from _broken(where, error_event(answer.wire, kind), _LAST)(answer)

    return steps


def _without_end(answer: Answer) -> Iterator[Step]:
    """Cut just before the end mark, with all the rest said."""
    if answer.events is None:
        yield from _half_body(answer)
        return
    yield from answer.begun(answer.events, len(answer.events.content))
    yield b"".join(_chunk(event) for event in answer.events.closing)
    yield End.CUT


FAULTS: dict[str, Fault] = {
    "closed": _sent(End.CUT),
    "reset": _sent(End.RESET),
    "silent": _sent(End.STALL),
    "slow head": _slow_head,
    "garbage": _sent(b"\x00\x01 not HTTP at all\r\n\r\n", End.CUT),
    "500": _refusal(500),
    "503": _refusal(503),
    "529": _refusal(529),
    "429, soon": _refusal(429, "retry-after-ms: 80"),
    "429, an hour": _refusal(429, "retry-after: 3600"),
    "429, a date": _too_late,
    "502 in HTML": _refusal(502, body=b"<html><h1>Bad gateway</h1></html>", kind="text/html"),
    "a web page": _refusal(200, body=b"<html>Welcome</html>", kind="text/html"),
    "redirect": _refusal(302, "location: http://127.0.0.1:9/", body=b""),
    "empty 200": _refusal(200, body=b""),
    "half a JSON": _refusal(200, body=b'{"id":"x","choices":[{"mess'),
    "cut body": _half_body,
    "silent before content": _broken("before", End.STALL),
    "cut before content": _broken("before", End.CUT),
    "ended before content": _broken("before", _LAST),
    "overloaded before content": _error("before", "overloaded_error"),
    "error before content": _error("before", "api_error"),
    "cut within": _broken("within", End.CUT),
    "reset within": _broken("within", End.RESET),
    "silent within": _broken("within", End.STALL),
    "ended within": _broken("within", _LAST),
    "overloaded within": _error("within", "overloaded_error"),
    "garbage within": _broken("within", b"data: {{{\n\n", _LAST),
    "half a character": _broken("within", b'data: {"choices":[{"index":0,"delta":{"content":"\xe2\x9c', End.CUT),
    "ended without a reason": _broken("after", _LAST),
    "cut before the end mark": _without_end,
}


LASTING = frozenset({"429, an hour", "429, a date"})
"""Faults by which an upstream asks to be left alone: it is, and so they can't be drawn by lot where that is obeyed."""


class ChaosUpstream:
    """The server. Mutable: everything that is counted, and whether it is alive. `wrong` are requests that should never have come.

    `kinds` are the names of the faults that it draws from; with `tls` it speaks TLS.
    """

    def __init__(
        self,
        name: str,
        wire: Wire,
        seed: int,
        fault_share: float,
        gap_s: float,
        *,
        kinds: Sequence[str] = tuple(FAULTS),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.wire: Wire = wire
        self.attempts = 0
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.connections: set[socket.socket] = set()
        self._random = random.Random(seed)
        self._share = fault_share
        self._gap_s = gap_s
        self._kinds = tuple(kinds)
        self._tls = tls
        self._server = self._started(0)
        self.port: int = self._server.server_port

    @property
    def base_url(self) -> str:
        """What a configuration says of it."""
        origin = f"{'https' if self._tls is not None else 'http'}://127.0.0.1:{self.port}"
        return origin if self.wire == "anthropic" else f"{origin}/v1"

    def die(self) -> None:
        """Refuse connections and break those that there are."""
        self._server.stop(timeout=0)
        for sock in list(self.connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """Serve again, on the same port."""
        self._server = self._started(self.port)

    def _started(self, port: int) -> StreamServer:
        more = {"ssl_context": self._tls} if self._tls is not None else {}
        server = StreamServer(("127.0.0.1", port), self._serve, backlog=1024, **more)
        server.start()
        return server

    def _serve(self, sock: socket.socket, _: object) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections.add(sock)
        try:
            with sock.makefile("rb") as reader:
                while (body := _read(reader)) is not None:
                    self.attempts += 1
                    for step in self._steps(body):
                        _take(sock, step)
        except (OSError, EOFError):
            pass
        finally:
            self.connections.discard(sock)
            sock.close()

    def _steps(self, body: bytes) -> Iterator[Step]:
        try:
            asked = read_request(body, self.wire)
        except WrongPart as wrong:
            self.wrong.append(str(wrong))
            return iter([_response(400, b'{"error":{"message":"wrong"}}')])
        answer = self._answer(asked)
        if self._random.random() >= self._share:
            return answer.steps()
        name = self._random.choice(self._kinds)
        self.faults[name] += 1
        return FAULTS[name](answer)

    def _answer(self, asked: Asked) -> Answer:
        gap_s = self._random.uniform(0, 2 * self._gap_s)
        if not asked.is_stream:
            return Answer(self.wire, self._random, gap_s, body=whole_answer(asked, self.wire))
        return Answer(self.wire, self._random, gap_s, events=streamed_answer(asked, self.wire, self._said(asked)))

    def _said(self, asked: Asked) -> str:
        """The rest of the text; a model that is asked to go on by words may repeat some of what it said."""
        if not asked.done or self.wire == "anthropic" or self._random.random() < 0.5:
            return asked.rest
        return asked.done[-self._random.randint(12, 80) :] + asked.rest if len(asked.done) >= 12 else asked.rest


def _read(reader: object) -> bytes | None:
    """The body of the next request; `None` at the connection's end."""
    length = 0
    line = reader.readline()
    if not line:
        return None
    while (header := reader.readline().strip()) != b"":
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body: bytes = reader.read(length)
    return body


def _take(sock: socket.socket, step: Step) -> None:
    """Send, wait, or end. Errors: `EOFError` at the end of the connection."""
    if isinstance(step, bytes):
        sock.sendall(step)
    elif isinstance(step, float):
        gevent.sleep(step)
    else:
        _end(sock, step)
        raise EOFError  # noqa: TRY004  # no wrong type: the connection is at its end


def _end(sock: socket.socket, end: End) -> None:
    if end is End.STALL:
        sock.settimeout(_STALL_LIMIT_S)
        with contextlib.suppress(TimeoutError):
            sock.recv(1)
    elif end is End.RESET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def faults_of(upstreams: Sequence[ChaosUpstream]) -> Counter[str]:
    """What was injected, over all upstreams."""
    return sum((upstream.faults for upstream in upstreams), Counter())
