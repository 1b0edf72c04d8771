"""Upstreams that mean harm, over real sockets: what they send is bounded in size and in time, and the client is told."""

from __future__ import annotations

import gzip
import itertools
import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, FakeUpstream, Sleep, Step

BOUND_S = 15.0
LIMITS = {
    "timeouts": {"connect_s": 1, "first_byte_s": 0.6, "silence_s": 0.6, "total_s": 1.2},
    "circuit": {"failures": 1000, "unreachable": 1000, "min_calls": 1000},
}
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"content-type: application/json\r\n"
EVENTS = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MEGABYTE = 2**20
MAX_GROWTH_MB = 400


@dataclass(frozen=True)
class Endless:
    """Steps that never end; each answer begins anew."""

    first: bytes
    again: bytes
    pause_s: float = 0.0

    def __iter__(self) -> Iterator[Step]:
        yield self.first
        for _ in itertools.repeat(None):
            yield self.again
            if self.pause_s:
                yield Sleep(self.pause_s)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, _index: Any) -> Any:
        raise TypeError


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture
def hostile(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_upstream(upstream, **LIMITS))


def told(gateway: RunningGateway, upstream: FakeUpstream, steps: Iterable[Step], *, stream: bool) -> dict[str, Any]:
    """The error that the client is told of, in time; afterwards a sound answer of the same upstream is served."""
    upstream.script(Answer(raw=steps, keeps_alive=False))
    begun_s, before_mb = time.monotonic(), memory_mb()
    answer = gateway.chat(stream=stream, timeout=BOUND_S)
    body = answer.content
    assert time.monotonic() - begun_s < BOUND_S
    assert memory_mb() - before_mb < MAX_GROWTH_MB
    assert b"Traceback" not in body
    error = error_of(body)
    assert error["code"] != "internal_error", error
    assert answer.status_code in ({200, 502, 504} if stream else {502, 504})
    assert all(letter.isprintable() or letter == "\n" for letter in error["message"])
    upstream.script(openai.respond)
    assert gateway.chat(timeout=BOUND_S).json()["choices"][0]["message"]["content"] == "Hello there."
    assert [line for line in gateway.log_lines() if line["event"] == "error"] == []
    return error


def error_of(body: bytes) -> dict[str, Any]:
    """The error of a whole answer, or that in the last event of a stream, which has no end mark then."""
    if body.startswith(b"{"):
        return dict(json.loads(body)["error"])
    assert b"[DONE]" not in body
    return dict(json.loads(body.strip().split(b"\n\n")[-1].removeprefix(b"data: "))["error"])


FRAMING = {
    "headers": Endless(OK, b"x-filler: 1\r\n" * 100),
    "a header line": Endless(OK + b"x-line: ", b"a" * 4096),
    "a status line": Endless(b"HTTP/1.1 200 ", b"very " * 100),
    "interim answers": Endless(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 50),
    "an extension of a chunk": Endless(EVENTS + b"5;", b"x=1;" * 1000),
    "a trailer": Endless(EVENTS + chunk(b"data: {}\n\n") + b"0\r\nx: ", b"a" * 4096),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", FRAMING)
def test_framing_without_end_is_broken_off_and_told(hostile: RunningGateway, upstream: FakeUpstream, name: str, stream: bool) -> None:
    assert told(hostile, upstream, FRAMING[name], stream=stream)["code"] == "upstream_broken"


BODIES = {
    "a gigabyte of spaces": (Endless(JSON + b"content-length: 1073741824\r\n\r\n", b" " * MEGABYTE), False),
    "a body without end": (Endless(JSON + b"\r\n", b" " * MEGABYTE), False),
    "chunks without end": (Endless(JSON + b"transfer-encoding: chunked\r\n\r\n", chunk(b" " * MEGABYTE)), False),
    "an event without end": (Endless(EVENTS, chunk(b"data: " + b"x" * MEGABYTE)), True),
    "an error's words without end": (Endless(b"HTTP/1.1 503 No\r\ncontent-type: text/plain\r\n\r\n", b"no " * 100_000), False),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_without_end_is_broken_off_and_told(hostile: RunningGateway, upstream: FakeUpstream, name: str) -> None:
    steps, stream = BODIES[name]
    if name.startswith("an error"):
        upstream.script(Answer(raw=steps, keeps_alive=False))
        answer = hostile.chat(timeout=BOUND_S)
        assert answer.status_code == 503
        assert len(answer.content) < 10_000
        return
    assert told(hostile, upstream, steps, stream=stream)["code"] in {"upstream_broken", "upstream_timeout"}


PINGS = Endless(EVENTS, chunk(b": ping\n\n"), 0.05)
CONTENT = Endless(EVENTS, chunk(openai.event(openai.chunk({"content": "x"}))), 0.05)
DRIPS = {
    "a status line": (Endless(b"", b"H", 0.05), False),
    "headers": (Endless(OK, b"x: 1\r\n", 0.05), False),
    "a whole body": (Endless(JSON + b"content-length: 100000\r\n\r\n", b" ", 0.05), False),
    "comments": (PINGS, True),
    "content": (CONTENT, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRIPS)
def test_a_drip_ends_with_the_time_of_the_call(hostile: RunningGateway, upstream: FakeUpstream, name: str) -> None:
    steps, stream = DRIPS[name]
    error = told(hostile, upstream, steps, stream=stream)
    assert error["code"] in {"upstream_timeout", "upstream_broken"}


@pytest.mark.slow
def test_silence_is_told(hostile: RunningGateway, upstream: FakeUpstream) -> None:
    assert told(hostile, upstream, [b"", Sleep(60)], stream=False)["code"] == "upstream_timeout"
    assert told(hostile, upstream, [EVENTS, Sleep(60)], stream=True)["code"] == "upstream_timeout"


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_decompression_bomb_is_broken_off(hostile: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    bomb = gzip.compress(bytes(256 * MEGABYTE), 1)
    kind = b"text/event-stream" if stream else b"application/json"
    head = b"%scontent-type: %s\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % (OK, kind, len(bomb))
    assert told(hostile, upstream, [head + bomb], stream=stream)["code"] == "upstream_broken"


GARBLED = {
    "not UTF-8": b'{"id": "\xff\xfe", "choices": []}',
    "not JSON": b"<html>\x1b[31mno</html>",
    "NaN": b'{"id":"a","choices":[{"index":0,"message":{"role":"assistant","content":NaN}}]}',
    "too deep": b"[" * 100_000,
    "nothing": b"",
    "another shape": b'{"choices": {"index": 0}}',
    "a number": b"9" * 5000,
}


@pytest.mark.parametrize("name", GARBLED)
def test_a_garbled_answer_is_told(hostile: RunningGateway, upstream: FakeUpstream, name: str) -> None:
    body = GARBLED[name]
    steps = [JSON + b"content-length: %d\r\n\r\n%s" % (len(body), body)]
    assert told(hostile, upstream, steps, stream=False)["code"] == "upstream_broken"


@pytest.mark.parametrize(
    "line",
    [
        b"x-a: 1\rx-b: 2",
        b"x-a: 1\x00",
        b"x a: 1",
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"content-length: 5\r\ncontent-length: 6",
    ],
)
def test_headers_that_would_be_others_are_refused(hostile: RunningGateway, upstream: FakeUpstream, line: bytes) -> None:
    assert told(hostile, upstream, [JSON + line + b"\r\n\r\n{}"], stream=False)["code"] == "upstream_broken"


EVIL = "no\r\nx-evil: 1\r\n\r\n\x1b[31m\x00\u2028\x9b31m<script>alert(1)</script>"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_upstreams_words_stay_words(hostile: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    """Promise 15: in a body they are JSON, in a header and in the log they are nothing but text."""
    fields = {"message": EVIL, "type": EVIL, "code": EVIL, "param": EVIL}
    upstream.script(openai.json_answer({"error": fields}, 400, headers=[("retry-after", "1"), ("x-evil", "2")]))
    answer = hostile.chat(stream=stream)
    assert answer.status_code == 400
    assert "x-evil" not in answer.headers
    assert answer.json()["error"]["message"].startswith("fake")
    hostile.gateway.log.flush()
    text = next(hostile._log_path.parent.glob("*.log")).read_text()
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert len(text.splitlines()) == text.count("\n") == len(text.split("\n")) - 1


@pytest.mark.parametrize(
    "where", ["another", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "//evil.example/", "/v1/other"]
)
def test_a_redirect_is_not_followed(hostile: RunningGateway, upstream: FakeUpstream, where: str) -> None:
    """Promise 5: neither to this machine, nor to a cloud's metadata, nor anywhere."""
    with FakeUpstream(default=openai.respond) as inner:
        location = f"{inner.url}/chat/completions" if where == "another" else where
        for count, status in enumerate((301, 302, 303, 307, 308), 1):
            upstream.script(Answer((b"",), status, (("location", location),), "length"))
            answer = hostile.chat()
            assert answer.status_code == 502
            assert answer.json()["error"]["message"] == (
                f"fake answered with a redirect (status {status}), which is not followed: check its base_url."
            )
            assert "location" not in answer.headers
            assert len(upstream.requests) == count
        assert inner.connections == 0


def test_a_redirected_model_list_is_not_followed(start_gateway: Any, upstream: FakeUpstream) -> None:
    from compat.errors import GatewayError
    from compat.upstream.models_list import list_models

    gateway = start_gateway(to_upstream(upstream))
    with FakeUpstream(default=openai.json_answer({"data": [{"id": "inner"}]})) as inner:
        upstream.script(Answer((b"",), 302, (("location", f"{inner.url}/models"),), "length"))
        with pytest.raises(GatewayError):
            list_models(gateway.gateway.router.upstreams["fake"], 5)
        assert inner.connections == 0
