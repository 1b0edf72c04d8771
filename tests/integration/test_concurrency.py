"""Many slow streams at once: none wrong, none held up by another."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import gevent
import pytest

from tests.conftest import to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import FakeUpstream, Request, Sleep

pytestmark = pytest.mark.slow

STREAMS = 500
CHUNKS = 12
GAP_S = 0.1


def count_slowly(request: Request) -> object:
    """An answer that only this call can have: its prompt's word with a running number."""
    word = request.json["messages"][0]["content"]
    steps = [step for number in range(CHUNKS) for step in (Sleep(GAP_S), openai.event(openai.chunk({"content": f"{word}.{number} "})))]
    return openai.sse_answer(*steps, openai.event(openai.chunk({}, "stop")), openai.event("[DONE]"))


def stream(port: int, word: str) -> tuple[str, float]:
    """The text of one streamed call, and the longest wait between two of its events, in seconds."""
    body = json.dumps({"model": "claude-4-sonnet", "stream": True, "messages": [{"role": "user", "content": word}]})
    head = f"POST /v1/chat/completions HTTP/1.0\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock, sock.makefile("rb") as reader:
        sock.sendall((head + body).encode())
        text, longest_s, last_s = "", 0.0, 0.0
        for line in reader:
            if not line.startswith(b"data: {"):
                continue
            now_s = time.monotonic()
            longest_s = max(longest_s, now_s - last_s if last_s else 0.0)
            last_s = now_s
            text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
        return text, longest_s


def test_five_hundred_slow_streams(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, timeouts={"connect_s": 60}))  # on a busy machine 500 connections take their time
    upstream.default = count_slowly
    jobs = [gevent.spawn(stream, gateway.port, f"w{number}") for number in range(STREAMS)]
    gevent.joinall(jobs, timeout=90)
    for number, job in enumerate(jobs):
        assert job.successful(), job
        text, _ = job.value
        assert text == "".join(f"w{number}.{place} " for place in range(CHUNKS))
    waits = sorted(job.value[1] for job in jobs)
    assert waits[STREAMS // 2] < 20 * GAP_S, "half of the streams waited for others"
    assert len(gateway.calls()) == STREAMS
    assert {call["outcome"] for call in gateway.calls()} == {"ok"}
    assert gateway.gateway.gauges.in_flight == 0
