"""No request stops a worker: the bodies of `bench.stall` at 1 MB against the whole gateway, while a greenlet ticks.

A gap is what this process computed between two ticks: on a wall clock it would be other processes' load as well.
"""

from __future__ import annotations

import json
import time
from typing import Any

import gevent
import pytest

from bench.stall import MOST_GAP_MS, ROWS, TICK_S, Heartbeat
from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers as anthropic
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, FakeUpstream, Request

pytestmark = pytest.mark.slow

SIZE = 1_000_000
ROUNDS = 5
"""At most: other load makes gaps longer, never shorter."""
BOUND_MS = 3 * MOST_GAP_MS
"""Beside other tests on two cores. `bench.stall` holds a quiet machine to a third of it; what it guards against took seconds."""


def answer(request: Request) -> Answer:
    """Without a look at the body, which would count."""
    if request.path.endswith("/embeddings"):
        return openai.json_answer({"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    if request.path.endswith("/completions") and "/chat/" not in request.path:
        return openai.json_answer({"id": "c", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]})
    if request.path.endswith("/messages"):
        return anthropic.json_answer(anthropic.message([anthropic.text("Hello.")]))
    return openai.json_answer(openai.completion("Hello."))


@pytest.fixture
def both(start_gateway: Any) -> Any:
    with FakeUpstream(default=answer) as upstream:
        root = upstream.url.removesuffix("/v1")
        rows = {"an": {"kind": "anthropic", "base_url": root}, "oa": {"kind": "openai", "base_url": upstream.url}}
        yield start_gateway(
            {
                "upstreams": {name: {**row, "api_keys": ["sk-canary-0123456789"]} for name, row in rows.items()},
                "models": {"claude": {"route": ["an/claude-sonnet-4-6"]}, "mock": {"route": ["oa/m"]}},
                "retry": {"attempts": 1},
            }
        )


def longest_gap_ms(gateway: RunningGateway, body: bytes, path: str) -> float:
    heartbeat = Heartbeat(time.process_time)
    ticking = gevent.spawn(heartbeat.run)
    try:
        gevent.sleep(TICK_S)
        heartbeat.take_ms()
        answer = gateway.http.post(gateway.url + path, data=body, headers={"content-type": "application/json"}, timeout=60)
        assert answer.status_code in {200, 400, 502}
        return heartbeat.take_ms()
    finally:
        ticking.kill()


@pytest.mark.parametrize("name", ROWS)
def test_others_are_served_while_a_body_is_read_whatever_its_shape(both: RunningGateway, name: str) -> None:
    kind, shape = ROWS[name]
    body = b'{"model":%s,' % json.dumps(kind).encode() + shape(SIZE)[1:]
    assert min(gaps_ms(both, body)) < BOUND_MS


OTHERS = {
    "a prompt of escapes": ("/completions", {"prompt": "\n" * (SIZE // 2)}),
    "a suffix": ("/completions", {"prompt": "a", "suffix": "\u4e2d" * (SIZE // 6)}),
    "a list of prompts": ("/completions", {"prompt": ["a"] * (SIZE // 5)}),
    "texts": ("/embeddings", {"input": ["a"] * (SIZE // 5)}),
    "numbers of tokens": ("/embeddings", {"input": [[1000]] * (SIZE // 8)}),
    "what is no input": ("/embeddings", {"input": [{}] * (SIZE // 4)}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_served_whichever_endpoint_a_body_is_for(both: RunningGateway, name: str) -> None:
    path, fields = OTHERS[name]
    assert min(gaps_ms(both, json.dumps({"model": "mock", **fields}).encode(), path)) < BOUND_MS


def gaps_ms(gateway: RunningGateway, body: bytes, path: str = "/chat/completions") -> list[float]:
    """The gaps of rounds until one is short."""
    gaps: list[float] = []
    while len(gaps) < ROUNDS and (not gaps or gaps[-1] >= BOUND_MS):
        gaps.append(longest_gap_ms(gateway, body, path))
    return gaps


def test_several_at_once_keep_nobody_waiting_either(both: RunningGateway) -> None:
    bodies = [b'{"model":"claude",' + shape(SIZE)[1:] for kind, shape in ROWS.values() if kind == "claude"][:4]

    def gap_ms() -> float:
        heartbeat = Heartbeat(time.process_time)
        ticking = gevent.spawn(heartbeat.run)
        try:
            gevent.sleep(TICK_S)
            heartbeat.take_ms()
            calls = [gevent.spawn(both.post, body) for body in bodies]
            assert {call.get().status_code for call in calls} == {200}
            return heartbeat.take_ms()
        finally:
            ticking.kill()

    gaps = [gap_ms()]
    while gaps[-1] >= BOUND_MS and len(gaps) < ROUNDS:
        gaps.append(gap_ms())
    assert gaps[-1] < BOUND_MS
