"""The wall clock is put right while calls run: nothing is cut, waits for a day, or is told to have lasted one."""

from __future__ import annotations

from typing import Any

import pytest

from compat.clock import SystemClock
from tests.conftest import to_upstream
from tests.fakes import openai_answers as answers
from tests.fakes.upstream import FakeUpstream, Sleep

DAY_S = 86_400.0


class WrongClock(SystemClock):
    """A wall clock that somebody puts right. Mutable: how wrong it is."""

    wrong_by_s = 0.0

    def now(self) -> float:
        return super().now() + self.wrong_by_s


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S, 400 * DAY_S], ids=["a day back", "a day ahead", "a year ahead"])
def test_a_jump_in_the_middle_of_a_stream_changes_nothing(start_gateway: Any, upstream: FakeUpstream, jump_s: float) -> None:
    clock = WrongClock()
    limits = {"client": "1000/minute", "budget": {"day_usd": 1000.0}}
    gateway = start_gateway(to_upstream(upstream, limits=limits, cache={"enabled": True}, server={"heartbeat_s": 0.1}), clock=clock)
    gateway.gateway.usage.start()
    assert gateway.chat().headers["x-cache"] == "miss"
    events = [answers.event(chunk) for chunk in answers.text_chunks()]
    upstream.script(answers.sse_answer(*events[:2], Sleep(0.5), *events[2:], answers.event("[DONE]")))
    body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Another"}], "stream": True}
    with gateway.http.post(f"{gateway.url}/chat/completions", json=body, timeout=30, stream=True) as answer:
        lines = answer.iter_lines()
        next(lines)
        clock.wrong_by_s = jump_s
        assert b"data: [DONE]" in list(lines)
    assert gateway.chat().headers["x-cache"] == "hit", "what is kept is kept by a clock that does not jump"
    upstream.script()
    for _ in range(3):
        assert gateway.chat(temperature=0.5).status_code == 200
    report = gateway.get("/healthz").json()
    assert (report["status"], report["in_flight"]) == ("ok", 0)
    assert 0 <= report["uptime_s"] < 60
    assert all(0 <= record["duration_ms"] < 30_000 for record in gateway.calls())
    gateway.gateway.usage.close()
