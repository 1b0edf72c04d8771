"""No request stops a worker: the bodies of `bench.stall` at 1 MB against the whole gateway, while a greenlet ticks."""

from __future__ import annotations

import json
from typing import Any

import gevent
import pytest

from bench.stall import MOST_GAP_MS, ROWS, TICK_S, Heartbeat
from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers as anthropic
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, FakeUpstream, Request

SIZE = 1_000_000
ROUNDS = 5
"""At most: other load makes gaps longer, never shorter."""


def answer(request: Request) -> Answer:
    """Without a look at the body, which would count."""
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


def longest_gap_ms(gateway: RunningGateway, body: bytes) -> float:
    heartbeat = Heartbeat()
    ticking = gevent.spawn(heartbeat.run)
    try:
        gevent.sleep(TICK_S)
        heartbeat.take_ms()
        assert gateway.post(body).status_code in {200, 400}
        return heartbeat.take_ms()
    finally:
        ticking.kill()


@pytest.mark.parametrize("name", ROWS)
def test_others_are_served_while_a_body_is_read_whatever_its_shape(both: RunningGateway, name: str) -> None:
    kind, shape = ROWS[name]
    body = b'{"model":%s,' % json.dumps(kind).encode() + shape(SIZE)[1:]
    assert min(iter_until(MOST_GAP_MS, both, body)) < MOST_GAP_MS


def iter_until(bound_ms: float, gateway: RunningGateway, body: bytes) -> list[float]:
    """The gaps of rounds until one is short."""
    gaps: list[float] = []
    while len(gaps) < ROUNDS and (not gaps or gaps[-1] >= bound_ms):
        gaps.append(longest_gap_ms(gateway, body))
    return gaps
