"""The Responses API over a WebSocket: calls, what they go on from, faults, and clients that leave or are left."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import compat.serve.gevent_server
from compat.accounting.keys import new_key
from compat.endpoints.front import Front
from compat.endpoints.responses_socket import PATH
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import responses_answers as answers
from tests.fakes import responses_items as items
from tests.fakes.upstream import Answer, FakeUpstream, Sleep, Stall, Until
from tests.integration.test_cancellation import wait_for

BOUND_S = 10.0
ENDS = {"response.completed", "response.incomplete", "response.failed", "error"}
HI = {"type": "message", "role": "user", "content": "Hi"}
EVENTS = answers.stream_events([items.message(items.text_part("Hello."))])
HELLO = [answers.one_event(event) for event in EVENTS]
"""Created, in progress, an item, a part, then its text."""


def settings(upstream: FakeUpstream, **more: Any) -> dict[str, Any]:
    return to_upstream(upstream, upstreams={"fake": {"wire_api": "responses"}}, **more)


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    upstream.default = answers.sse_answer(*HELLO)
    started: RunningGateway = start_gateway(settings(upstream))
    return started


def opened(gateway: RunningGateway, path: str = PATH, **more: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{gateway.port}{path}", open_timeout=BOUND_S, close_timeout=BOUND_S, **more)


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[ClientConnection]:
    with opened(gateway) as socket:
        yield socket


def ask(socket: ClientConnection, **fields: Any) -> None:
    socket.send(json.dumps({"type": "response.create", "model": "claude-4-sonnet", "input": [HI], **fields}))


def read(socket: ClientConnection) -> list[dict[str, Any]]:
    """The events of one answer."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] not in ENDS:
        events.append(json.loads(socket.recv(timeout=BOUND_S)))
    return events


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def test_a_message_is_a_call_whose_events_are_messages(gateway: RunningGateway, client: ClientConnection, upstream: FakeUpstream) -> None:
    for _ in range(2):
        ask(client)
        events = read(client)
        assert (events[0]["type"], events[-1]["type"], text_of(events)) == ("response.created", "response.completed", "Hello.")
    calls = gateway.calls()
    assert [(call["endpoint"], call["outcome"], call["stream"]) for call in calls] == [("responses", "ok", True)] * 2
    assert len({call["request_id"] for call in calls}) == 2
    assert upstream.requests[0].json["stream"] is True


@pytest.mark.parametrize("path", ["/responses", "/v1/v1/responses"])
def test_it_is_there_wherever_the_route_is(gateway: RunningGateway, path: str) -> None:
    with opened(gateway, path) as socket:
        ask(socket)
        assert text_of(read(socket)) == "Hello."


def test_the_next_answer_goes_on_from_the_last_one_without_a_store(client: ClientConnection, upstream: FakeUpstream) -> None:
    ask(client, store=False)
    last = read(client)[-1]["response"]["id"]
    ask(client, store=False, input=[{**HI, "content": "More"}], previous_response_id=last)
    assert read(client)[-1]["type"] == "response.completed"
    sent = upstream.requests[1].json
    assert [(item["role"], item.get("status")) for item in sent["input"]] == [("user", None), ("assistant", "completed"), ("user", None)]
    assert "previous_response_id" not in sent


def test_what_was_only_announced_is_gone_on_from(client: ClientConnection, upstream: FakeUpstream) -> None:
    ask(client, generate=False)
    created, completed = read(client)
    assert (created["type"], completed["response"]["output"], upstream.requests) == ("response.created", [], [])
    ask(client, input=[], previous_response_id=completed["response"]["id"])
    assert text_of(read(client)) == "Hello."
    assert len(upstream.requests[0].json["input"]) == 1


def test_an_answer_of_another_connection_is_not_found(gateway: RunningGateway, client: ClientConnection) -> None:
    ask(client)
    last = read(client)[-1]["response"]["id"]
    with opened(gateway) as other:
        ask(other, previous_response_id=last)
        [error] = read(other)
    assert (error["status"], error["error"]["code"]) == (400, "previous_response_not_found")


@pytest.mark.parametrize(
    ("message", "status"),
    [("{", 400), ("[]", 400), ('{"type":"response.cancel"}', 400), ('{"type":"response.create"}', 400), (b"\xff\xfe", 400)],
)
def test_a_message_that_is_none_is_refused_and_the_next_one_is_served(client: ClientConnection, message: Any, status: int) -> None:
    client.send(message)
    [error] = read(client)
    assert (error["type"], error["status"], error["error"]["type"]) == ("error", status, "invalid_request_error")
    ask(client)
    assert text_of(read(client)) == "Hello."


def test_an_upstreams_error_comes_with_its_status_and_leaves_nothing_to_go_on_from(
    client: ClientConnection, upstream: FakeUpstream
) -> None:
    upstream.script(answers.error_answer(500, "no"))
    ask(client, stream_id="main")
    [error] = read(client)
    assert (error["type"], error["status"] >= 500, error["stream_id"]) == ("error", True, "main")


@pytest.mark.parametrize("fault", [answers.error_answer(400, "No."), answers.stream_answer(answers.events_of(answers.failed()))])
def test_an_answer_is_gone_on_from_no_more_once_a_call_that_did_so_has_failed(
    client: ClientConnection, upstream: FakeUpstream, fault: Answer
) -> None:
    ask(client)
    first = read(client)[-1]["response"]["id"]
    upstream.default = fault
    ask(client, previous_response_id=first)
    assert read(client)[-1]["type"] in {"error", "response.failed"}
    upstream.default = answers.sse_answer(*HELLO)
    ask(client, previous_response_id=first)
    assert read(client)[-1]["error"]["code"] == "previous_response_not_found"
    ask(client)
    assert text_of(read(client)) == "Hello."


def test_messages_are_served_one_after_the_other(client: ClientConnection, upstream: FakeUpstream) -> None:
    gate = threading.Event()
    upstream.script(answers.sse_answer(*HELLO[:5], Until(gate), *HELLO[5:]), answers.sse_answer(*HELLO))
    for number in range(3):
        ask(client, stream_id=str(number))
    assert json.loads(client.recv(timeout=BOUND_S))["stream_id"] == "0"
    assert len(upstream.requests) == 1
    gate.set()
    seen = [{event["stream_id"] for event in read(client)} for _ in range(3)]
    assert seen == [{"0"}, {"1"}, {"2"}]


# Who is let in.


def refused(gateway: RunningGateway, **headers: str) -> tuple[int, Any]:
    with pytest.raises(InvalidStatus) as caught:
        opened(gateway, additional_headers=headers)
    return caught.value.response.status_code, json.loads(caught.value.response.body)


def test_a_page_of_another_site_gets_no_connection(gateway: RunningGateway) -> None:
    assert refused(gateway, origin="https://evil.example")[0] == 403


def test_a_key_is_asked_for_before_there_is_a_connection(start_gateway: Any, upstream: FakeUpstream) -> None:
    key, digest = new_key()
    gateway = start_gateway(settings(upstream, keys={"ada": {"hash": digest}}))
    assert refused(gateway, authorization="Bearer wrong")[1]["error"]["code"] == "invalid_api_key"
    upstream.default = answers.sse_answer(*HELLO)
    with opened(gateway, additional_headers={"authorization": f"Bearer {key}"}) as socket:
        ask(socket)
        assert text_of(read(socket)) == "Hello."


def test_switched_off_it_is_a_426(start_gateway: Any, upstream: FakeUpstream) -> None:
    status, body = refused(start_gateway(settings(upstream, server={"websockets": False})))
    assert (status, body["error"]["type"]) == (426, "invalid_request_error")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sec-websocket-key": "short"}, 400),
        ({"sec-websocket-version": "8"}, 400),
        ({"connection": "close"}, 426),
        ({"upgrade": None}, 426),
        ({"sec-websocket-key": ""}, 400),
    ],
)
def test_a_handshake_that_is_none_is_refused(gateway: RunningGateway, changes: dict[str, Any], status: int) -> None:
    key = base64.b64encode(b"0123456789abcdef").decode()
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": key, **changes}
    answer = gateway.get(PATH, headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")


# Bounds.


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_message_that_is_too_large_ends_the_connection(start_gateway: Any, upstream: FakeUpstream, compression: Any) -> None:
    gateway = start_gateway(settings(upstream, server={"max_body_bytes": 10_000}))
    with opened(gateway, compression=compression) as socket:
        ask(socket, input="x" * 1_000_000)  # compressed, it is short
        with pytest.raises(ConnectionClosed):
            read(socket)
    assert socket.close_code == 1009
    assert upstream.requests == []


def test_a_large_message_is_served(client: ClientConnection, upstream: FakeUpstream) -> None:
    noise = base64.b85encode(zlib.compress(bytes(range(256)) * 4000, 0)).decode()
    ask(client, input=[{**HI, "content": noise}])
    assert text_of(read(client)) == "Hello."
    assert upstream.requests[0].json["input"][0]["content"] == noise


def door_of(gateway: RunningGateway) -> Any:
    front: Any = gateway.server._server.application
    assert isinstance(front, Front)
    hot_path: Any = front._app
    return hot_path.wsgi_app._sockets[PATH]


@pytest.mark.slow
def test_an_idle_connection_is_pinged_then_closed(gateway: RunningGateway) -> None:
    door = door_of(gateway)
    door.ping_s, door.idle_s = 0.01, 0.1
    with opened(gateway) as socket, pytest.raises(ConnectionClosed):
        socket.recv(timeout=BOUND_S)
    assert socket.close_code == 1000


# Who leaves.


@pytest.mark.parametrize("goes", [ClientConnection.close, lambda socket: socket.socket.shutdown(2)], ids=["by its word", "without one"])
def test_a_client_that_leaves_ends_its_call(gateway: RunningGateway, upstream: FakeUpstream, goes: Any) -> None:
    upstream.script(answers.sse_answer(*HELLO[:5], Stall()))
    with opened(gateway) as socket:
        ask(socket)
        socket.recv(timeout=BOUND_S)
        wait_for(lambda: gateway.gateway.gauges.in_flight)
        goes(socket)
        wait_for(lambda: upstream.abandoned)
    wait_for(gateway.calls)
    assert [call["outcome"] for call in gateway.calls()] == ["cancelled"]
    assert gateway.gateway.gauges.in_flight == 0


def test_a_silent_upstream_costs_no_pong(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(answers.sse_answer(*HELLO[:2], Sleep(0.5), *HELLO[2:]))
    gateway = start_gateway(settings(upstream, server={"heartbeat_s": 0.05}))
    with opened(gateway) as socket:
        ask(socket)
        assert socket.ping().wait(BOUND_S)
        assert text_of(read(socket)) == "Hello."


@pytest.mark.slow
def test_a_gateway_that_stops_lets_an_answer_finish_and_says_why_it_goes(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    gate = threading.Event()
    upstream.script(answers.sse_answer(*HELLO[:5], Until(gate), *HELLO[5:]))
    with opened(gateway) as socket, opened(gateway) as idle:
        ask(socket)
        socket.recv(timeout=BOUND_S)
        stopped = gevent.spawn(gateway.server.stop, BOUND_S)
        wait_for(lambda: gateway.gateway.gauges.is_draining)
        gate.set()
        assert text_of(read(socket)) == "Hello."
        for one in (socket, idle):
            with pytest.raises(ConnectionClosed):
                one.recv(timeout=BOUND_S)
            assert one.close_code == 1001
        assert stopped.get(timeout=BOUND_S) == 0


@pytest.mark.slow
def test_a_changed_configuration_lets_an_answer_finish_and_ends_the_connection(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    gate = threading.Event()
    upstream.script(answers.sse_answer(*HELLO[:5], Until(gate), *HELLO[5:]))
    door_of(gateway).ping_s = 0.01
    with opened(gateway) as socket, opened(gateway) as idle:
        ask(socket)
        socket.recv(timeout=BOUND_S)
        gateway.gateway.following.changes += 1
        with pytest.raises(ConnectionClosed):
            idle.recv(timeout=BOUND_S)
        gate.set()
        assert text_of(read(socket)) == "Hello."
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=BOUND_S)
        assert (socket.close_code, idle.close_code) == (1001, 1001)
    with opened(gateway) as again:
        ask(again)
        assert text_of(read(again)) == "Hello."


@pytest.mark.slow
def test_a_client_that_does_not_read_is_left(gateway: RunningGateway, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat.serve.gevent_server, "SEND_TIMEOUT_S", 0.3)
    long = answers.stream_events([items.message(items.text_part("x" * 2**20))])
    deltas = [answers.one_event(event) for event in long if event["type"].endswith("output_text.delta")]
    upstream.script(answers.sse_answer(*HELLO[:4], *deltas * (2**26 // sum(map(len, deltas))), Stall()))
    with opened(gateway, compression=None, max_size=None) as socket:
        ask(socket)
        wait_for(gateway.calls)
        assert [call["outcome"] for call in gateway.calls()] == ["cancelled"]
        assert gateway.gateway.gauges.in_flight == 0
        with pytest.raises(ConnectionClosed):
            list(socket)
