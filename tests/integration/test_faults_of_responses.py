"""The fault matrix (`tests/cases/faults.py`) at `/v1/responses`: what a client of OpenAI's Responses protocol sees, over a network in
memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from compat.config.settings import merge
from tests.cases.faults import ARGUMENTS, FAULTS, TOOL, Ended, Fault, Right, Seen, Told, Wire, healthy
from tests.cases.messages_client import events_of
from tests.conftest import InMemory, RunningGateway
from tests.fakes.upstream import FakeUpstream
from tests.integration import test_faults
from tests.integration.test_faults import KEY, OTHER, SETTINGS, SPARE_TARGET, TARGET, tls_of

pytestmark = pytest.mark.slow

PASSING = {"garbled calls, whole"}
"""Calls that are no list are none, as at the door of Anthropic's protocol."""
CELLS = [
    pytest.param(fault, wire, is_stream, id=f"{fault.place}-{fault.name}-{wire}-{'streamed' if is_stream else 'whole'}")
    for fault in FAULTS
    for wire in fault.wires
    for is_stream in (False, True)
    if (fault.is_streamed if is_stream else fault.is_whole) and fault.name not in PASSING
]
cells = pytest.mark.parametrize(("fault", "wire", "is_stream"), CELLS)
ENDS = ("response.completed", "response.incomplete", "response.failed")
ONLY_CHAT: dict[Wire, dict[str, Any]] = {"openai": {"wire_api": "chat"}}
OF_THIS_PROTOCOL = {402: {429}, 429: {503}}
"""Codex shows nothing of a 429 and asks again after a 503, but for an account without credit: there it stops."""
CODES = {"upstream_broken": "server_error", "upstream_timeout": "server_error"}


def row_of(upstream: FakeUpstream, wire: Wire) -> dict[str, Any]:
    return merge(test_faults.row_of(upstream, wire), ONLY_CHAT.get(wire, {}))


def faulty_row(fault: Fault, upstream: FakeUpstream, wire: Wire) -> dict[str, Any]:
    return merge(test_faults.faulty_row(fault, upstream, wire), ONLY_CHAT.get(wire, {}))


def ask(gateway: RunningGateway, fault: Fault, is_stream: bool) -> requests.Response:
    tools = [{"type": "function", "name": TOOL, "parameters": {"type": "object", "properties": {}}}]
    body = {"model": "claude-4-sonnet", "input": [{"role": "user", "content": "Hi"}], "stream": is_stream}
    return gateway.http.post(
        f"{gateway.url}/responses", json={**body, **({"tools": tools} if fault.place == "mid-call" else {})}, timeout=30
    )


def check(seen: Seen, answer: requests.Response, *, is_call: bool) -> None:
    """The client sees just this, and never a secret."""
    assert KEY not in answer.text
    if isinstance(seen, Told):
        error = answer.json()["error"]
        assert answer.status_code in OF_THIS_PROTOCOL.get(seen.status, {seen.status})
        assert error["code"] == (seen.code if seen.code else error["code"])
        assert error["message"]
        assert answer.headers.get("retry-after") == seen.retry_after
        return
    assert answer.status_code == 200, answer.text
    if not answer.headers["content-type"].startswith("text/event-stream"):
        check_response(seen, answer.json(), is_call=is_call)
        return
    assert (b": carried on after a fault: " in answer.content) is (isinstance(seen, Right) and seen.is_carried_on)
    events = events_of(b"\n\n".join(block for block in answer.content.split(b"\n\n") if not block.startswith(b":")))
    names = [event["type"] for event in events]
    assert sum(name in ENDS for name in names) == 1
    assert names[-1] == ("response.failed" if isinstance(seen, Ended) else "response.completed")
    response = events[-1]["response"]
    if isinstance(seen, Ended):
        assert response["error"]["message"]
        assert response["error"]["code"] == CODES.get(seen.code, seen.code)
        assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == seen.text
        return
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    check_response(seen, {**response, "output": done or streamed_items(events, response)}, is_call=is_call)


def streamed_items(events: list[dict[str, Any]], response: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of an upstream that tells them in pieces only, whose bytes pass."""
    texts = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    calls = [
        event["item"] for event in events if event["type"] == "response.output_item.added" and event["item"]["type"] == "function_call"
    ]
    pieces = "".join(event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta")
    if calls:
        return [{**calls[0], "arguments": pieces}]
    return response["output"] or [{"type": "message", "content": [{"type": "output_text", "text": "".join(texts)}]}]


def check_response(seen: Seen, response: dict[str, Any], *, is_call: bool) -> None:
    assert isinstance(seen, Right)
    items = [item for item in response["output"] if item["type"] != "reasoning"]
    assert response["status"] == "completed"
    if is_call:
        [call] = items
        assert (call["name"], json.loads(call["arguments"])) == (TOOL, ARGUMENTS)
    else:
        assert "".join(part["text"] for item in items for part in item["content"]) == seen.text
        assert response["model"] == "claude-4-sonnet"


def check_record(gateway: RunningGateway, seen: Seen, attempts: int) -> None:
    """One record that says the same, and nothing that is still held."""
    [record] = gateway.calls()
    assert (record["endpoint"], record["attempts"]) == ("responses", attempts)
    assert record["outcome"] == ("ok" if isinstance(seen, Right) else "error")
    assert KEY not in json.dumps(gateway.log_lines())
    assert gateway.gateway.gauges.in_flight == 0
    assert all(row["in_flight"] == row["waiting"] == 0 for row in gateway.gateway.policies.gates.report().values())


@cells
def test_with_one_deployment(in_memory: InMemory, fault: Fault, wire: Wire, is_stream: bool) -> None:
    faulty = in_memory.upstream(fault.make(wire, is_stream), tls_of(fault))
    models = {"claude-4-sonnet": {"route": [f"a/{TARGET}"]}}
    gateway = in_memory.start(merge(SETTINGS, {"upstreams": {"a": faulty_row(fault, faulty, wire)}, "models": models}))
    answer = ask(gateway, fault, is_stream)
    check(fault.alone, answer, is_call=fault.place == "mid-call")
    assert len(faulty.requests) == fault.calls[0]
    check_record(gateway, fault.alone, fault.attempts)


@cells
def test_with_a_healthy_one_next(in_memory: InMemory, fault: Fault, wire: Wire, is_stream: bool) -> None:
    faulty = in_memory.upstream(fault.make(wire, is_stream), tls_of(fault))
    spare = in_memory.upstream(healthy(OTHER[wire]))
    upstreams = {"a": faulty_row(fault, faulty, wire), "b": row_of(spare, OTHER[wire])}
    models = {"claude-4-sonnet": {"route": [f"a/{TARGET}", f"b/{SPARE_TARGET}"]}}
    gateway = in_memory.start(merge(SETTINGS, {"upstreams": upstreams, "models": models}))
    answer = ask(gateway, fault, is_stream)
    check(fault.spared, answer, is_call=fault.place == "mid-call")
    assert (len(faulty.requests), len(spare.requests)) == (fault.calls[1], fault.spare)
    check_record(gateway, fault.spared, fault.calls[1] + fault.spare + int(fault.calls == (0, 0)))
