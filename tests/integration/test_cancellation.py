"""Clients that leave: the upstream's work ends within a second, wherever the call was, and nothing is left behind."""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
import werkzeug.test

from compat.endpoints.hangup import ClientWatch
from compat.factory import create_app
from tests.cases.faults import TEXT, opening, right, said, streamed
from tests.conftest import RunningGateway, to_upstream
from tests.fakes.upstream import Answer, FakeUpstream, Request, Sleep, Stall
from tests.unit.builders import make_gateway

CLIENTS = 300
AT_ONCE = 60
BOUND_S = 20.0
CROWD_S = 5.0
"""Hundreds that leave at once, beside other tests; one alone is gone within a second."""


def wait_for(is_done: Callable[[], Any], bound_s: float = BOUND_S) -> None:
    """Until something that has no event of its own is so."""
    with gevent.Timeout(bound_s):
        while not is_done():
            gevent.sleep(0.005)


def request_bytes(number: int, *, stream: bool = True, **headers: str) -> bytes:
    body = json.dumps({"model": "claude-4-sonnet", "messages": [{"role": "user", "content": f"call {number}"}], "stream": stream}).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Client:
    """A raw client that asks, and leaves when it is told to."""

    def __init__(self, gateway: RunningGateway, number: int = 0, **more: Any) -> None:
        self.sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=BOUND_S)
        self.sock.sendall(request_bytes(number, **more))

    def leave(self, *, by_reset: bool = False) -> None:
        if by_reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.sock.close()


class Upstream:
    """Answers each call in one of the ways in which a call can last, as its number says. It counts those that are under way."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def __call__(self, request: Request) -> Answer:
        kind = ("silent", "silent after its head", "between two words", "talks on and on", "busy")[len(self.kinds) % 5]
        self.kinds.append(kind)
        begun = [*opening("openai"), *said("openai", "Well, ")]
        match kind:
            case "silent":
                return Answer(raw=(Stall(),))
            case "silent after its head":
                return streamed([Stall()])
            case "between two words":
                return streamed([*begun, Stall()])
            case "talks on and on":
                return streamed([*begun, *(step for _ in range(4000) for step in (*said("openai", "and "), Sleep(0.01)))])
            case _:
                return Answer((b'{"error": {"message": "busy"}}',), 429, (("retry-after", "20"),))


def is_at_rest(gateway: RunningGateway) -> bool:
    """Whether no call is under way: by the gauges, the gates and the flights."""
    gates = gateway.gateway.policies.gates.report().values()
    return not (
        gateway.gateway.gauges.in_flight or any(row["in_flight"] or row["waiting"] for row in gates) or len(gateway.gateway.flights)
    )


def greenlets_serving(gateway: RunningGateway) -> int:
    return len(gateway.gateway.gauges.serving)


@pytest.mark.slow
def test_hundreds_of_clients_that_leave_at_random_moments_leave_nothing_running(start_gateway: Any) -> None:
    """They wait for a first byte, within a silent or a busy answer, in the queue, and backing off; some have an idempotency key."""
    answers = Upstream()
    with FakeUpstream(default=answers) as upstream:
        limits = {"first_limit": AT_ONCE, "max_limit": AT_ONCE, "min_limit": AT_ONCE, "queue_length": 500}
        retry = {"attempts": 3, "budget_percent": 100, "budget_calls": 1000}
        gateway = start_gateway(
            to_upstream(
                upstream,
                concurrency=limits,
                retry=retry,
                circuit={"failures": 10_000, "unreachable": 10_000, "min_calls": 10_000},
                pacing={"enabled": False},
                timeouts={"connect_s": 60},
            )
        )
        dice = random.Random(11)

        def visit(number: int) -> None:
            gevent.sleep(dice.uniform(0, 0.5))
            more = {"idempotency_key": f"key {number}"} if number % 7 == 0 else {}
            client = Client(gateway, number, stream=number % 4 != 0, **more)
            if number % 5:  # most of them don't leave before the upstream has as many calls as it may get
                wait_for(lambda: len(upstream.requests) >= AT_ONCE)
            gevent.sleep(dice.uniform(0, 0.7))
            client.leave(by_reset=number % 3 == 0)

        gevent.joinall([gevent.spawn(visit, number) for number in range(CLIENTS)], raise_error=True)
        assert gateway.get("/healthz").status_code == 200  # connections are accepted in their order: now the requests of all were read
        wait_for(lambda: is_at_rest(gateway), CROWD_S)
        transport = gateway.gateway.transport
        transport.close()
        wait_for(lambda: upstream.connections >= transport.connections_opened and upstream.open_connections == 0, CROWD_S)
        asked = len(upstream.requests)
        assert asked >= AT_ONCE
        assert set(answers.kinds) == {"silent", "silent after its head", "between two words", "talks on and on", "busy"}
        records = gateway.calls()
        assert [(record.get("error"), record["attempts"]) for record in records if record["outcome"] != "cancelled"] == []
        assert {record["status"] for record in records} == {499}
        assert len(records) >= CLIENTS * 0.7, "all but those that left before their request was read"
        assert greenlets_serving(gateway) == 0
        assert gateway.gateway.policies.circuits.report() == []
        upstream.default = Answer((b'{"error": {"message": "x"}}',), 400)
        assert gateway.chat().status_code == 400
        assert len(upstream.requests) == asked + 1, "nobody asked again for a client that left"


def one_waiting(gateway: RunningGateway) -> bool:
    return any(row["waiting"] for row in gateway.gateway.policies.gates.report().values())


def test_a_client_that_leaves_the_queue_never_reaches_the_upstream(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(streamed([*opening("openai"), *said("openai", "x"), Stall()]))
    gateway = start_gateway(to_upstream(upstream, concurrency={"first_limit": 1, "max_limit": 1}))
    first = Client(gateway, 1)
    wait_for(lambda: upstream.requests)
    second = Client(gateway, 2)
    wait_for(lambda: one_waiting(gateway))
    second.leave()
    wait_for(lambda: not one_waiting(gateway), 1.0)
    first.leave()
    wait_for(lambda: is_at_rest(gateway), 1.0)
    assert len(upstream.requests) == 1
    assert [record["outcome"] for record in gateway.calls()] == ["cancelled", "cancelled"]


def test_a_client_that_leaves_while_its_call_backs_off_is_not_asked_for_again(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(Answer((b'{"error": {"message": "busy"}}',), 429, (("retry-after-ms", "300"),)))
    gateway = start_gateway(to_upstream(upstream, retry={"attempts": 3}))
    client = Client(gateway)
    wait_for(lambda: any(line["event"] == "attempt.failed" for line in gateway.log_lines()))
    client.leave()
    wait_for(lambda: is_at_rest(gateway), 1.0)
    gevent.sleep(0.5)  # longer than the wait that was begun
    assert len(upstream.requests) == 1
    [record] = gateway.calls()
    assert (record["outcome"], record["attempts"]) == ("cancelled", 1)


def test_a_client_that_leaves_while_a_connection_is_made_ends_that(start_gateway: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # the kernel takes no more
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        upstreams = {"fake": {"kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}}
        gateway = start_gateway({"upstreams": upstreams, "models": {"claude-4-sonnet": {"route": ["fake/m"]}}})
        client = Client(gateway)
        wait_for(lambda: gateway.gateway.gauges.in_flight == 1)
        client.leave()
        wait_for(lambda: is_at_rest(gateway), 1.0)
        assert gateway.calls()[0]["outcome"] == "cancelled"
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_client_that_leaves_while_its_answer_is_carried_on_ends_that(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    broken = streamed([*opening("openai"), *said("openai", "The quick brown fox ")], keeps_alive=False) if stream else Answer((b"{",), 200)
    upstream.script(broken, Answer(raw=(Stall(),)))
    gateway = start_gateway(to_upstream(upstream, retry={"attempts": 3, "first_wait_s": 0.001}))
    client = Client(gateway, stream=stream)
    wait_for(lambda: len(upstream.requests) == 2)
    client.leave()
    wait_for(lambda: upstream.abandoned and is_at_rest(gateway), 1.0)
    [record] = gateway.calls()
    assert (record["outcome"], record["attempts"]) == ("cancelled", 2)


def test_a_client_that_left_says_nothing_of_the_upstream(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(streamed([*opening("openai"), *said("openai", "x"), Stall()]))
    gateway = start_gateway(to_upstream(upstream))
    for number in range(8):
        client = Client(gateway, number)
        assert client.sock.recv(65536)
        client.leave()
        wait_for(lambda: is_at_rest(gateway), 1.0)
    assert gateway.gateway.policies.circuits.report() == []
    record = gateway.calls()[0]
    assert record["ttft_ms"] > 0


def test_the_last_of_two_clients_that_share_an_answer_ends_it(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(streamed([*opening("openai"), *said("openai", "x"), Stall()]))
    gateway = start_gateway(to_upstream(upstream))
    clients = [Client(gateway, idempotency_key="same") for _ in range(2)]
    for client in clients:
        assert client.sock.recv(65536)
    clients[0].leave()
    gevent.sleep(0.2)
    assert not upstream.abandoned
    clients[1].leave()
    wait_for(lambda: upstream.abandoned and is_at_rest(gateway), 1.0)
    assert len(upstream.requests) == 1


def test_a_client_that_does_not_read_holds_the_upstream_back(start_gateway: Any) -> None:
    """What is under way between the two is bounded by the buffers of the sockets; and when it leaves, all ends."""
    sent = threading.Semaphore(0)
    frame = b"".join(said("openai", "x" * 10_000))

    def endless(_: Request) -> Answer:
        def steps() -> Any:
            yield from opening("openai")
            while True:
                sent.release()
                yield frame

        return streamed(steps())

    class Streaming(FakeUpstream):
        def _answer(self, sock: socket.socket, answer: Answer) -> None:
            sock.sendall(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            self._send(sock, answer.steps, plain=False)

    with Streaming(default=endless) as upstream:
        gateway = start_gateway(to_upstream(upstream))
        client = Client(gateway)
        wait_for(lambda: upstream.requests)
        counts = [-1]
        while len(counts) < 3 or counts[-1] != counts[-3]:
            gevent.sleep(0.2)
            counts.append(sent._value)
        assert counts[-1] * 10_000 < 32 * 1024 * 1024
        client.leave(by_reset=True)
        wait_for(lambda: upstream.open_connections == 0 and is_at_rest(gateway), 1.0)
        assert gateway.calls()[0]["outcome"] == "cancelled"


@pytest.mark.slow
def test_a_fault_of_our_own_leaves_no_watch_on_the_connection(tmp_path: Path) -> None:
    """A connection is used again: what watches it for a call that is over would throw into the next one."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        client = werkzeug.test.Client(create_app(make_gateway(tmp_path, {"upstreams": {"x": {"kind": "openai"}}})))
        body = {"model": "x/m", "messages": [{"role": "user", "content": "x"}], "stream": True}
        answer = client.post("/v1/chat/completions", json=body, headers={"host": "localhost"}, environ_overrides={"compat.socket": ours})
        assert answer.status_code == 500
        gc.collect()
        watches = [one for one in gc.get_objects() if isinstance(one, ClientWatch) and one._socket is ours]
        assert all(watch._watcher is None for watch in watches)


HALVES = [
    pytest.param(False, (Sleep(0.15),), (), id="whole"),
    pytest.param(True, (Sleep(0.15),), (), id="streamed, before the head"),
    pytest.param(True, (), (Sleep(0.15),), id="streamed, between two words"),
]


@pytest.mark.parametrize(("is_stream", "before_head", "between"), HALVES)
def test_a_client_that_ends_its_own_half_gets_its_answer(
    gateway: RunningGateway, upstream: FakeUpstream, is_stream: bool, before_head: Any, between: Any
) -> None:
    right_answer = right("openai", is_stream=is_stream)
    steps = (*right_answer.steps[:2], *between, *right_answer.steps[2:])
    upstream.script(Answer(steps, 200, right_answer.headers, right_answer.framing, before_head=before_head))
    client = Client(gateway, stream=is_stream)
    if between:
        assert client.sock.recv(1) == b"H"  # the answer has begun
    client.sock.shutdown(socket.SHUT_WR)
    with client.sock, client.sock.makefile("rb") as reader:
        text = reader.read().decode()
    assert TEXT[-20:] in text
    if before_head:
        assert text.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    if is_stream:
        assert text.endswith("data: [DONE]\n\n\r\n0\r\n\r\n")
    wait_for(lambda: gateway.calls())
    assert gateway.calls()[-1]["outcome"] == "ok"
