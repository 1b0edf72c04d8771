"""Compression over real sockets: of answers by what the client takes, never of event streams; of request bodies, up to a bound."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import urllib3
from backports import zstd

from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as answers
from tests.fakes.upstream import Answer, FakeUpstream
from tests.integration.services_folder import until

TEXT = "Hello there. " * 200
ENCODINGS = {"gzip": gzip.compress, "zstd": zstd.compress}
DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "zstd": zstd.decompress, "br": brotli.decompress}


def raw(gateway: RunningGateway, accepted: str | None = None, **body: Any) -> urllib3.BaseHTTPResponse:
    """The answer as it came over the wire."""
    document = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}], **body}
    headers = {"content-type": "application/json"} | ({"accept-encoding": accepted} if accepted is not None else {})
    with urllib3.PoolManager() as pool:
        return pool.request(
            "POST",
            f"{gateway.url}/chat/completions",
            body=json.dumps(document),
            headers=headers,
            decode_content=False,
            preload_content=True,
        )


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("zstd;q=0, br;q=0, gzip", "gzip"),
        ("br;q=0.1, gzip;q=0.9", "gzip"),
        ("identity", None),
        (None, None),
    ],
)
def test_a_long_answer_is_compressed_as_the_client_likes_it(
    gateway: RunningGateway, upstream: FakeUpstream, accepted: str | None, encoding: str | None
) -> None:
    upstream.script(answers.json_answer(answers.completion(TEXT)))
    answer = raw(gateway, accepted)
    assert answer.headers.get("content-encoding") == encoding
    assert "Accept-Encoding" in answer.headers.get("vary", "")
    body = DECODERS[encoding](answer.data) if encoding else answer.data
    assert json.loads(body)["choices"][0]["message"]["content"] == TEXT
    assert int(answer.headers["content-length"]) == len(answer.data)
    assert len(answer.data) < 1000 if encoding else len(answer.data) > len(TEXT)


def test_a_short_answer_is_sent_as_it_is(gateway: RunningGateway) -> None:
    answer = raw(gateway, "zstd, br, gzip")
    assert (answer.headers.get("content-encoding"), json.loads(answer.data)["object"]) == (None, "chat.completion")


def test_the_list_of_models_is_compressed(gateway: RunningGateway) -> None:
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", f"{gateway.url}/models", headers={"accept-encoding": "zstd"}, decode_content=False)
    assert answer.headers["content-encoding"] == "zstd"
    assert json.loads(zstd.decompress(answer.data))["object"] == "list"


class Paced:
    """A stream whose next chunk is sent when the test says so; `sent_s` is when that was."""

    def __init__(self) -> None:
        self.next = threading.Event()
        self.sent_s = 0.0

    def answer(self, count: int) -> Answer:
        return Answer(raw=self._steps(count), keeps_alive=False)

    def _steps(self, count: int) -> Any:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        for number in range(count):
            assert self.next.wait(30)
            self.next.clear()
            self.sent_s = time.monotonic()
            yield answers.event(answers.chunk({"content": f"piece {number} " + "x" * 1500}))
        yield answers.event(answers.chunk({}, "stop")) + answers.event("[DONE]")


def test_an_event_is_never_compressed_nor_held(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    paced = Paced()
    upstream.script(paced.answer(20))
    late_ms = []
    body = {"model": "claude-4-sonnet", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    paced.next.set()
    headers = {"accept-encoding": "zstd, br, gzip"}
    with gateway.http.post(f"{gateway.url}/chat/completions", json=body, stream=True, headers=headers, timeout=30) as answer:
        assert "content-encoding" not in answer.headers
        seen = 0
        for line in answer.iter_lines(chunk_size=1):
            if b'"piece ' in line:
                late_ms.append((time.monotonic() - paced.sent_s) * 1000)
                seen += 1
                assert f"piece {seen - 1} ".encode() in line
                paced.next.set()
    assert seen == 20
    assert sorted(late_ms)[-2] < 50, late_ms  # one of them may meet a pause of the machine


# Bodies.


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_compressed_request_is_what_it_was(gateway: RunningGateway, upstream: FakeUpstream, name: str, stream: bool) -> None:
    document = {"model": "claude-4-sonnet", "stream": stream, "messages": [{"role": "user", "content": TEXT}]}
    answer = gateway.post(ENCODINGS[name](json.dumps(document).encode()), content_encoding=name)
    assert answer.status_code == 200
    assert upstream.requests[0].json["messages"] == document["messages"]
    assert "content-encoding" not in upstream.requests[0].headers


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODINGS)
def test_a_bomb_is_refused_and_costs_no_memory(start_gateway: Any, upstream: FakeUpstream, name: str) -> None:
    gateway = start_gateway(to_upstream(upstream, server={"max_body_bytes": 1_000_000}))
    bomb = ENCODINGS[name](b" " * 200_000_000)
    assert len(bomb) < 1_000_000
    before_kb = peak_kb()
    answer = gateway.post(bomb, content_encoding=name)
    assert (answer.status_code, "1000000 bytes" in answer.json()["error"]["message"]) == (413, True)
    assert peak_kb() - before_kb < 20_000
    assert upstream.requests == []
    assert gateway.chat().status_code == 200


def peak_kb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [(b"\x1f\x8b nothing", "gzip", 400), (b"nothing", "zstd", 400), (b"{}", "br", 415), (gzip.compress(b"{}", mtime=0)[:-4], "gzip", 400)],
)
def test_a_body_that_cant_be_read_is_refused(gateway: RunningGateway, body: bytes, encoding: str, status: int) -> None:
    answer = gateway.post(body, content_encoding=encoding)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
    assert until(lambda: gateway.chat().status_code, "it goes on") == 200
