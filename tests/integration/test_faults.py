"""The fault matrix (`tests/cases/faults.py`): what the client sees, how many calls were made, what was recorded.

Every cell runs over a network in memory (`tests/fakes/memory.py`), alone and with a healthy upstream next; each kind of fault runs over
real sockets once as well.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from compat.config.settings import merge
from tests.cases.faults import ARGUMENTS, FAULTS, TOOL, Ended, Fault, Right, Seen, Told, Wire, healthy
from tests.conftest import InMemory, RunningGateway
from tests.fakes.upstream import Answer, FakeUpstream, Responder

pytestmark = pytest.mark.slow

KEY = "sk-canary-0123456789"
TARGET = "claude-sonnet-4-6"  # is asked to go on in words
SPARE_TARGET = "claude-haiku-4-5"  # takes a prefill
OTHER: dict[Wire, Wire] = {"openai": "anthropic", "anthropic": "responses", "responses": "openai"}
SETTINGS: dict[str, Any] = {
    "timeouts": {"connect_s": 5, "first_byte_s": 10, "silence_s": 10},
    "retry": {"attempts": 3, "first_wait_s": 0.001, "max_wait_s": 0.002},
    "rescue": {"times": 2},
}
STATUSES = {"upstream_broken": {502}, "upstream_timeout": {504}, "rate_limit_exceeded": {429}, "server_error": {500, 529}}
CELLS = [
    pytest.param(fault, wire, is_stream, id=f"{fault.place}-{fault.name}-{wire}-{'streamed' if is_stream else 'whole'}")
    for fault in FAULTS
    for wire in fault.wires
    for is_stream in (False, True)
    if (fault.is_streamed if is_stream else fault.is_whole)
]
cells = pytest.mark.parametrize(("fault", "wire", "is_stream"), CELLS)


def row_of(upstream: FakeUpstream, wire: Wire) -> dict[str, Any]:
    url = upstream.url.removesuffix("/v1") if wire == "anthropic" else upstream.url
    if wire == "responses":
        return {"kind": "openai", "wire_api": "responses", "base_url": url, "api_keys": [KEY]}
    return {"kind": wire, "base_url": url, "api_keys": [KEY]}


def faulty_row(fault: Fault, upstream: FakeUpstream, wire: Wire) -> dict[str, Any]:
    bounds = {"timeouts": {"first_byte_s": 0.15, "silence_s": 0.15}} if fault.is_silent else {}
    return merge(row_of(upstream, wire), {**bounds, **fault.settings})


class NoTls:
    """Shakes no hands."""

    def wrap_socket(self, *_: Any, **__: Any) -> Any:
        raise ConnectionAbortedError


def tls_of(fault: Fault) -> NoTls | None:
    return NoTls() if fault.has_tls else None


class OverSockets:
    """Upstreams with real sockets, which end with `stack`; the counterpart of `InMemory`."""

    def __init__(self, start_gateway: Any, stack: contextlib.ExitStack) -> None:
        self.start = start_gateway
        self._stack = stack

    def upstream(self, default: Answer | Responder, tls: Any = None) -> FakeUpstream:
        return self._stack.enter_context(FakeUpstream(default, tls))


Ground = InMemory | OverSockets


@pytest.fixture
def over_sockets(start_gateway: Any) -> Iterator[OverSockets]:
    with contextlib.ExitStack() as stack:
        yield OverSockets(start_gateway, stack)


def ask(gateway: RunningGateway, fault: Fault, is_stream: bool) -> requests.Response:
    tools = [{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object", "properties": {}}}}]
    return gateway.chat(stream=is_stream, **({"tools": tools} if fault.place == "mid-call" else {}))


def check(seen: Seen, answer: requests.Response, *, is_call: bool) -> None:
    """The client sees just this, and never a secret."""
    assert KEY not in answer.text
    if isinstance(seen, Told):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (seen.status, seen.code if seen.code else error["code"])
        assert error["message"]
        assert answer.headers.get("retry-after") == seen.retry_after
        return
    assert answer.status_code == 200, answer.text
    is_stream = answer.headers["content-type"].startswith("text/event-stream")
    message, last = streamed_message(answer.text) if is_stream else (answer.json()["choices"][0]["message"], {})
    if isinstance(seen, Ended):
        assert (message["content"], last["error"]["code"]) == (seen.text, seen.code)
        assert last["error"]["message"]
        return
    assert "error" not in last
    assert (": carried on after a fault: " in answer.text) is seen.is_carried_on
    if is_call:
        [call] = message["tool_calls"]
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (TOOL, ARGUMENTS)
    else:
        assert message["content"] == seen.text


def streamed_message(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message of a stream that is as regular as it must be, and its last event."""
    events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    assert events.count("[DONE]") <= 1
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    last = chunks.pop() if "error" in chunks[-1] else {}
    assert ("error" in last) is (events[-1] != "[DONE]")
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks]
    assert sum("role" in choice["delta"] for choice in choices) == 1
    assert [bool(choice["finish_reason"]) for choice in choices] == [False] * (len(choices) - 1) + [not last]
    calls: list[dict[str, Any]] = []
    for piece in [piece for choice in choices for piece in choice["delta"].get("tool_calls") or ()]:
        if "id" in piece:
            calls.append({"function": {"name": piece["function"]["name"], "arguments": ""}})
        calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return {"content": "".join(choice["delta"].get("content") or "" for choice in choices), "tool_calls": calls}, last


def check_record(gateway: RunningGateway, seen: Seen, attempts: int) -> None:
    """One record that tells the same."""
    [record] = gateway.calls()
    assert record["attempts"] == attempts
    earlier = [line for line in gateway.log_lines() if line["event"] in {"attempt.failed", "answer.carried_on"}]
    assert [line["attempt"] for line in earlier] == list(range(1, attempts)), "each attempt that was not the last one has its line"
    assert all(line["error"] and line["then"] and line["request_id"] == record["request_id"] for line in earlier)
    assert KEY not in str([record, *earlier])
    if isinstance(seen, Right):
        assert (record["outcome"], record["status"]) == ("ok", 200)
        assert ("carried_on_from" in record) is seen.is_carried_on
    else:
        assert record["outcome"] == "error"
        assert record["error"]
        assert record["code"] == (seen.code or record["code"])
        assert record["status"] in ({seen.status} if isinstance(seen, Told) else STATUSES[seen.code])
    assert gateway.gateway.gauges.in_flight == 0
    assert all(row["in_flight"] == row["waiting"] == 0 for row in gateway.gateway.policies.gates.report().values())


Checks = Callable[[Ground, Fault, Wire, bool], None]
Cell = tuple[Fault, Wire, bool]


def check_alone(ground: Ground, fault: Fault, wire: Wire, is_stream: bool) -> None:
    """With one deployment."""
    faulty = ground.upstream(fault.make(wire, is_stream), tls_of(fault))
    settings = merge(
        SETTINGS, {"upstreams": {"a": faulty_row(fault, faulty, wire)}, "models": {"claude-4-sonnet": {"route": [f"a/{TARGET}"]}}}
    )
    gateway = ground.start(settings)
    answer = ask(gateway, fault, is_stream)
    check(fault.alone, answer, is_call=fault.place == "mid-call")
    assert len(faulty.requests) == fault.calls[0]
    check_record(gateway, fault.alone, fault.attempts)


def check_spared(ground: Ground, fault: Fault, wire: Wire, is_stream: bool) -> None:
    """With a healthy one next."""
    other = OTHER[wire]
    faulty = ground.upstream(fault.make(wire, is_stream), tls_of(fault))
    spare = ground.upstream(healthy(other))
    upstreams = {"a": faulty_row(fault, faulty, wire), "b": row_of(spare, other)}
    route = [f"a/{TARGET}", f"b/{SPARE_TARGET}"]
    gateway = ground.start(merge(SETTINGS, {"upstreams": upstreams, "models": {"claude-4-sonnet": {"route": route}}}))
    answer = ask(gateway, fault, is_stream)
    check(fault.spared, answer, is_call=fault.place == "mid-call")
    assert (len(faulty.requests), len(spare.requests)) == (fault.calls[1], fault.spare)
    reached_nobody = int(fault.calls == (0, 0))
    check_record(gateway, fault.spared, fault.calls[1] + fault.spare + reached_nobody)


@cells
def test_with_one_deployment(in_memory: InMemory, fault: Fault, wire: Wire, is_stream: bool) -> None:
    check_alone(in_memory, fault, wire, is_stream)


@cells
def test_with_a_healthy_one_next(in_memory: InMemory, fault: Fault, wire: Wire, is_stream: bool) -> None:
    check_spared(in_memory, fault, wire, is_stream)


def kind_of(fault: Fault) -> str:
    """Faults of one kind differ in the place only, or in how a wait of an hour is written."""
    return fault.name.partition(" before ")[0].partition(" (")[0]


def on_sockets() -> Iterator[Any]:
    """One cell for each kind of fault: wire APIs, ways of asking, places and routes take turns."""
    kinds: dict[str, list[Cell]] = {}
    for fault, wire, is_stream in (cell.values for cell in CELLS):
        kinds.setdefault(kind_of(fault), []).append((fault, wire, is_stream))
    for number, (kind, its_cells) in enumerate(kinds.items()):
        fault, wire, is_stream = its_cells[(number // 2) % len(its_cells)]
        way = "streamed" if is_stream else "whole"
        yield pytest.param((check_alone, check_spared)[number % 2], fault, wire, is_stream, id=f"{kind}-{fault.place}-{wire}-{way}")


ON_SOCKETS = list(on_sockets())


def policy_of(fault: Fault) -> object:
    """What the gateway does about a fault."""
    is_carried_on = isinstance(fault.spared, Right) and fault.spared.is_carried_on
    return type(fault.alone), fault.calls, fault.spare, fault.attempts, is_carried_on


@pytest.mark.parametrize("checks", [check_alone, check_spared])
def test_cells_on_sockets_are_of_every_policy_place_wire_and_way(checks: Checks) -> None:
    every = [cell.values for cell in CELLS]
    mine = [cell.values[1:] for cell in ON_SOCKETS if cell.values[0] is checks]
    for feature in (lambda f, _, __: policy_of(f), lambda f, _, __: f.place, lambda _, wire, __: wire, lambda _, __, is_stream: is_stream):
        assert {feature(*cell) for cell in mine} == {feature(*cell) for cell in every}


@pytest.mark.parametrize(("checks", "fault", "wire", "is_stream"), ON_SOCKETS)
def test_over_sockets(over_sockets: OverSockets, checks: Checks, fault: Fault, wire: Wire, is_stream: bool) -> None:
    checks(over_sockets, fault, wire, is_stream)
