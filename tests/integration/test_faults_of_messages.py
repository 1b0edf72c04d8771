"""The fault matrix (`tests/cases/faults.py`) at `/v1/messages`: what a client of Anthropic's protocol sees, over a network in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import requests

from compat.config.settings import merge
from compat.protocols import TRANSLATORS
from tests.cases.faults import ARGUMENTS, FAULTS, TOOL, Ended, Fault, Right, Seen, Told, Wire, healthy
from tests.cases.messages_client import events_of, message_of
from tests.conftest import InMemory, RunningGateway
from tests.integration.test_faults import KEY, SETTINGS, SPARE_TARGET, TARGET, faulty_row, row_of, tls_of

pytestmark = pytest.mark.slow

APIS = {"openai": "openai.chat", "anthropic": "anthropic.messages", "responses": "openai.responses"}
SERVED = {wire for wire, api in APIS.items() if ("anthropic.messages", api) in TRANSLATORS}
PASSING = {"garbled calls, whole"}
"""Arguments that are not JSON are the client's: Claude Code answers them with an error that the model reads."""


def at_this_door(fault: Fault) -> Fault:
    """Once the client has the reason of the end, and all of the answer with it, nothing that is missing is told any more."""
    if not fault.name.endswith("before message_stop"):
        return fault
    return replace(fault, alone=Right(), spared=Right(), calls=(1, 1), spare=0, attempts=1)


CELLS = [
    pytest.param(fault, wire, is_stream, id=f"{fault.place}-{fault.name}-{wire}-{'streamed' if is_stream else 'whole'}")
    for fault in map(at_this_door, FAULTS)
    for wire in fault.wires
    for is_stream in (False, True)
    if wire in SERVED and (fault.is_streamed if is_stream else fault.is_whole) and fault.name not in PASSING
]
IN_MID_ANSWER = [
    fault
    for fault in map(at_this_door, FAULTS)
    if fault.is_streamed and "anthropic" in fault.wires and fault.place in {"mid-text", "mid-call"}
]
cells = pytest.mark.parametrize(("fault", "wire", "is_stream"), CELLS)
KINDS = {
    408: {"invalid_request_error", "timeout_error"},
    400: {"invalid_request_error"},
    401: {"authentication_error"},
    402: {"billing_error"},
    403: {"permission_error"},
}
KINDS |= {
    404: {"not_found_error"},
    413: {"request_too_large"},
    429: {"rate_limit_error"},
    504: {"timeout_error"},
    529: {"overloaded_error"},
}

OF_THIS_PROTOCOL = {502: {500, 529}, 503: {529}}
"""Statuses that Anthropic's protocol has others for; an overload is an overload."""


def ask(gateway: RunningGateway, fault: Fault, is_stream: bool) -> requests.Response:
    tools = [{"name": TOOL, "input_schema": {"type": "object", "properties": {}}}]
    body = {"model": "claude-4-sonnet", "max_tokens": 1000, "messages": [{"role": "user", "content": "Hi"}], "stream": is_stream}
    return gateway.http.post(
        f"{gateway.url}/messages", json={**body, **({"tools": tools} if fault.place == "mid-call" else {})}, timeout=30
    )


def check(seen: Seen, answer: requests.Response, *, is_call: bool) -> None:
    """The client sees just this, and never a secret."""
    assert KEY not in answer.text
    if isinstance(seen, Told):
        error = answer.json()
        assert (error["type"], bool(error["error"]["message"])) == ("error", True)
        assert answer.status_code in OF_THIS_PROTOCOL.get(seen.status, {seen.status})
        assert error["error"]["type"] in {*KINDS.get(answer.status_code, {"api_error"}), "some_error"}  # the upstream's own passes
        assert answer.headers.get("retry-after") == seen.retry_after
        return
    assert answer.status_code == 200, answer.text
    if not answer.headers["content-type"].startswith("text/event-stream"):
        check_message(seen, answer.json(), is_call=is_call)
        return
    blocks = [block for block in answer.content.split(b"\n\n") if not block.startswith(b":")]
    assert (b": carried on after a fault: " in answer.content) is (isinstance(seen, Right) and seen.is_carried_on)
    events = events_of(b"\n\n".join(blocks))
    names = [event["type"] for event in events]
    if isinstance(seen, Ended):
        assert (names[-1], names.count("error"), names.count("message_stop")) == ("error", 1, 0)
        assert events[-1]["error"]["message"]
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        assert "".join(delta.get("text", "") for delta in deltas) == seen.text
        return
    assert (names[0], names[-1], names.count("message_start"), names.count("message_stop"), names.count("error")) == (
        *("message_start", "message_stop"),
        *(1, 1, 0),
    )
    check_message(seen, message_of(events), is_call=is_call)


def check_message(seen: Seen, message: dict[str, Any], *, is_call: bool) -> None:
    assert isinstance(seen, Right)
    blocks = [block for block in message["content"] if block["type"] != "thinking"]
    if is_call:
        [call] = [block for block in blocks if block["type"] == "tool_use"]
        assert (call["name"], call["input"], message["stop_reason"]) == (TOOL, ARGUMENTS, "tool_use")
    else:
        assert "".join(block["text"] for block in blocks) == seen.text
        assert message["model"] == "claude-4-sonnet"


def check_record(gateway: RunningGateway, seen: Seen, attempts: int) -> None:
    """One record that says the same, and nothing that is still held."""
    [record] = gateway.calls()
    assert (record["endpoint"], record["attempts"]) == ("messages", attempts)
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
    check_spared(in_memory, fault, wire, is_stream=is_stream, other="openai" if wire == "anthropic" else "anthropic")


@pytest.mark.parametrize("fault", IN_MID_ANSWER, ids=lambda fault: f"{fault.place}-{fault.name}")
def test_from_anthropic_in_mid_answer_to_a_healthy_responses_upstream(in_memory: InMemory, fault: Fault) -> None:
    check_spared(in_memory, fault, "anthropic", is_stream=True, other="responses")


def check_spared(in_memory: InMemory, fault: Fault, wire: Wire, *, is_stream: bool, other: Wire) -> None:
    faulty = in_memory.upstream(fault.make(wire, is_stream), tls_of(fault))
    spare = in_memory.upstream(healthy(other))
    upstreams = {"a": faulty_row(fault, faulty, wire), "b": row_of(spare, other)}
    models = {"claude-4-sonnet": {"route": [f"a/{TARGET}", f"b/{SPARE_TARGET}"]}}
    gateway = in_memory.start(merge(SETTINGS, {"upstreams": upstreams, "models": models}))
    answer = ask(gateway, fault, is_stream)
    check(fault.spared, answer, is_call=fault.place == "mid-call")
    assert (len(faulty.requests), len(spare.requests)) == (fault.calls[1], fault.spare)
    check_record(gateway, fault.spared, fault.calls[1] + fault.spare + int(fault.calls == (0, 0)))
