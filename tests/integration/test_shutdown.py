"""Stopping: nobody new, those who are served may finish, and the rest are told."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import gevent
import pytest
import requests

from tests.cases.faults import BEGUN, TEXT, closing, end, opening, said, streamed
from tests.conftest import RunningGateway, to_upstream
from tests.fakes.upstream import Answer, FakeUpstream, Sleep, Stall
from tests.integration.test_cancellation import Client, wait_for
from tests.integration.test_faults import streamed_message

BOUND_S = 10.0


def begun(gateway: RunningGateway, upstream: FakeUpstream, **body: Any) -> gevent.Greenlet:
    """A call that the upstream has begun to answer."""
    asked = len(upstream.requests)
    call = gevent.spawn(gateway.chat, **body)
    wait_for(lambda: len(upstream.requests) > asked and gateway.gateway.gauges.in_flight)
    return call


def stopping(gateway: RunningGateway, bound_s: float) -> gevent.Greenlet:
    stopped = gevent.spawn(gateway.server.stop, bound_s)
    wait_for(lambda: gateway.gateway.gauges.is_draining)
    return stopped


def test_running_answers_may_finish(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    rest = [Sleep(0.3), *said("openai", TEXT[20:]), *closing("openai"), end("openai")]
    upstream.script(streamed([*opening("openai"), *said("openai", BEGUN), *rest]))
    call = begun(gateway, upstream, stream=True)
    stopped = stopping(gateway, BOUND_S)
    assert streamed_message(call.get(timeout=BOUND_S).text)[0]["content"] == TEXT
    assert stopped.get(timeout=BOUND_S) == 0
    assert [record["outcome"] for record in gateway.calls()] == ["ok"]


def test_nobody_new_is_served(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Not on a new connection, and not on one that is open."""
    assert gateway.http.get(f"{gateway.root}/healthz").status_code == 200
    upstream.script(streamed([*opening("openai"), *said("openai", BEGUN), Stall()]))
    client = Client(gateway)
    wait_for(lambda: upstream.requests)
    stopped = stopping(gateway, BOUND_S)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port), timeout=BOUND_S)
    answer = gateway.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert answer.headers["connection"] == "close"
    assert answer.headers["retry-after"] == "2"
    client.leave()
    assert stopped.get(timeout=BOUND_S) == 0


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "k"}], ids=["alone", "shared"])
def test_a_stream_that_does_not_finish_ends_with_an_error_event(
    gateway: RunningGateway, upstream: FakeUpstream, headers: dict[str, str]
) -> None:
    upstream.script(streamed([*opening("openai"), *said("openai", BEGUN), Stall()]))
    call = begun(gateway, upstream, stream=True, headers=headers)
    wait_for(lambda: gateway.gateway.gauges.serving)
    gevent.sleep(0.05)
    begun_s = time.monotonic()
    assert gateway.server.stop(0.1) == 1
    assert time.monotonic() - begun_s < 2
    message, last = streamed_message(call.get(timeout=BOUND_S).text)
    assert message["content"] == BEGUN
    assert last["error"]["code"] == "shutting_down"
    wait_for(lambda: upstream.abandoned, 1.0)
    [record] = gateway.calls()
    assert (record["outcome"], record["code"], record["attempts"]) == ("error", "shutting_down", 1)
    assert gateway.gateway.gauges.in_flight == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_call_without_content_is_answered_503(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.script(Answer(raw=(Stall(),)))
    call = begun(gateway, upstream, stream=stream)
    assert gateway.server.stop(0.1) == 1
    answer = call.get(timeout=BOUND_S)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert len(upstream.requests) == 1


def test_a_call_in_the_queue_and_one_that_backs_off_are_told_too(start_gateway: Any, upstream: FakeUpstream) -> None:
    busy = Answer((b'{"error": {"message": "busy"}}',), 429, (("retry-after", "20"),), "length")
    upstream.script(busy, Answer(raw=(Stall(),)))
    limits = {"first_limit": 1, "max_limit": 1}
    other = {"other": {"route": ["fake/other"]}}  # an upstream that said 429 is left alone, but for its other models
    gateway = start_gateway(to_upstream(upstream, concurrency=limits, retry={"attempts": 3}, models=other))
    backing_off = begun(gateway, upstream, model="other")
    wait_for(lambda: any(line["event"] == "attempt.failed" for line in gateway.log_lines()))
    running = begun(gateway, upstream, messages=[{"role": "user", "content": "2"}])
    queued = gevent.spawn(gateway.chat, messages=[{"role": "user", "content": "3"}])
    wait_for(lambda: gateway.gateway.policies.gates.report()["fake"]["waiting"] == 1)
    assert gateway.server.stop(0.1) == 3
    for call in (backing_off, running, queued):
        assert call.get(timeout=BOUND_S).json()["error"]["code"] == "shutting_down"
    assert len(upstream.requests) == 2


@pytest.mark.slow
def test_an_answer_that_is_still_being_written_counts_as_running(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A whole answer of 40 MB to a client that reads slowly: the call is over long before its bytes have left."""
    text = "x" * 40_000_000
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    upstream.script(Answer((json.dumps({"id": "x", "choices": [choice]}).encode(),), framing="length"))
    with requests.post(
        f"{gateway.url}/chat/completions",
        json={"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "x"}]},
        headers={"accept-encoding": "identity"},
        stream=True,
        timeout=BOUND_S,
    ) as answer:
        wait_for(lambda: len(gateway.calls()) == 1)
        stopped = stopping(gateway, BOUND_S)
        gevent.sleep(0.2)
        assert not stopped.ready()
        assert answer.json()["choices"][0]["message"]["content"] == text
    assert stopped.get(timeout=BOUND_S) == 0


def test_a_body_that_is_on_its_way_is_waited_for(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    body = json.dumps({"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "x"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=BOUND_S) as sock:
        sock.sendall(head.encode() + body[:10])
        wait_for(lambda: gateway.server._server.answering)
        stopped = stopping(gateway, BOUND_S)
        sock.sendall(body[10:])
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    assert stopped.get(timeout=BOUND_S) == 0
