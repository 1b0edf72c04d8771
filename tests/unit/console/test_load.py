"""A hundred thousand stored calls: each view takes little of a processor."""

from __future__ import annotations

import time
from typing import Any

import pytest
from werkzeug.test import Client

from compat.accounting.usage_rows import CallFacts
from compat.factory import create_app
from tests.unit.accounting.stored_calls import PRICE, USED
from tests.unit.builders import make_gateway

CALLS = 100_000
MOST_S = 0.2
DAYS = 28
PATHS = [
    "/",
    "/live",
    "/calls",
    "/calls?outcome=error",
    "/calls?model=model-3&key=key-3",
    "/calls?session=s-7",
    "/calls/50000",
    "/sessions",
]
PATHS += ["/cost", "/cost?days=90", "/cost?by=upstream", "/cost?by=key", "/cost?by=session", "/keys", "/catalog", "/try", "/setup"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    gateway = make_gateway(tmp_path_factory.mktemp("many"), {"usage": {"max_mb": 1000}})
    usage: Any = gateway.usage
    clock: Any = gateway.clock
    end_s = clock.now_s
    for begin in range(0, CALLS, 1000):
        for number in range(begin, begin + 1000):
            clock.now_s = end_s - (CALLS - number) * DAYS * 86_400 / CALLS
            work, model = number // 40, number % 8
            facts = CallFacts("openai.chat", "anthropic.messages", session=f"s-{work}", priced=((USED, PRICE),))
            record = {"client": f"key-{work % 20}", "model": f"model-{model}", "deployment": f"up-{number % 3}/m-{model}", "status": 200}
            outcome = {"outcome": "error" if number % 10 == 0 else "ok", "error": "No room." if number % 10 == 0 else None}
            times = {
                "duration_ms": 2000.0,
                "ttft_ms": 200.0 + number % 900,
                "cost_usd": 0.01,
                "prompt_tokens": 1000,
                "completion_tokens": 100,
            }
            usage.add({**record, **outcome, **times}, facts)
        usage.flush()
    return Client(create_app(gateway))


def cpu_s(client: Client, path: str) -> float:
    began_s = time.process_time()
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.text
    return time.process_time() - began_s


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_a_view_takes_little(client: Client, path: str) -> None:
    assert min(cpu_s(client, path) for _ in range(3)) < MOST_S
