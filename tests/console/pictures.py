"""Makes the documentation's pictures of the console: a gateway with a month of invented calls behind it, and a browser that looks at it.

python -m gevent.monkey --module tests.console.pictures docs/images
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compat.accounting.usage_rows import CallFacts
from compat.accounting.usage_views import FailedAttempt
from compat.config.catalog import Price
from compat.routing.discovery import UpstreamState
from compat.wire.usage import Usage, cost_of
from tests.conftest import RunningGateway
from tests.fakes.openai_answers import respond
from tests.fakes.upstream import FakeUpstream

CALLS = 6000
DAY_S = 86_400.0
MODELS = {
    "claude-4-sonnet": ("anthropic/claude-sonnet-4-6", "anthropic.messages", Price(3.0, 15.0, 0.3, 3.75, 6.0), 9),
    "gpt-5.6-sol": ("openai/gpt-5.6-sol", "openai.responses", Price(1.25, 10.0, 0.125), 4),
    "claude-4-opus": ("anthropic/claude-opus-4-8", "anthropic.messages", Price(5.0, 25.0, 0.5, 6.25, 10.0), 2),
    "deepseek-chat": ("deepseek/deepseek-chat", "openai.chat", Price(0.28, 0.42, 0.028), 5),
}
KEYS = {"laptop": ("anthropic.messages", 6), "ci": ("openai.responses", 2), "desktop": ("openai.chat", 3)}
TOOLS = ("Read", "Edit", "Bash", "Grep", "Task")


class PastClock:
    """A clock that can be set back while calls are invented; the last ones end now. Mutable: `back_s`."""

    def __init__(self) -> None:
        self.back_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        return time.time() - self.back_s

    def new_id(self) -> str:
        return f"{random.getrandbits(128):032x}"  # names, no secrets


def invent(gateway: Any, clock: PastClock) -> None:
    """A month of calls, fewer at night and at the weekend; the last one had a failed attempt, and is looked at closely."""
    chance = random.Random(7)
    moments = sorted(chance.random() * 29 * DAY_S for _ in range(CALLS))[::-1]
    recent = [second * 40.0 for second in range(90)][::-1]
    for number, back_s in enumerate([*moments, *recent]):
        moment = time.gmtime(time.time() - back_s)
        if back_s > DAY_S and ((moment.tm_wday > 4 and chance.random() < 0.7) or (moment.tm_hour < 7 and chance.random() < 0.9)):
            continue
        clock.back_s = back_s + chance.random()
        _add(gateway, chance, number // 30, is_last=back_s == 0.0)
    clock.back_s = 0.0
    gateway.usage.flush()


def _add(gateway: Any, chance: random.Random, work: int, *, is_last: bool) -> None:
    key = chance.choices(list(KEYS), [weight for _, weight in KEYS.values()])[0]
    model = "claude-4-sonnet" if is_last else chance.choices(list(MODELS), [weight for *_, weight in MODELS.values()])[0]
    deployment, upstream_api, price, _ = MODELS[model]
    prompt = chance.randint(4_000, 120_000)
    read = int(prompt * chance.choice((0.0, 0.7, 0.85, 0.92, 0.95)))
    used = Usage(prompt, chance.randint(60, 2_400), read, int((prompt - read) * 0.8) if upstream_api == "anthropic.messages" else 0)
    is_error = not is_last and chance.random() < 0.025
    ttft_ms = chance.lognormvariate(6.6, 0.5)
    record = {
        "request_id": f"req-{work}-{chance.randint(1000, 9999)}",
        "client": key,
        "model": model,
        "deployment": deployment,
        "outcome": "error" if is_error else "ok",
        "status": 529 if is_error else 200,
        "attempts": 2 if is_last else 1,
        "stream": True,
        "duration_ms": ttft_ms + used.completion_tokens * chance.uniform(9, 16),
        "bytes_in": prompt * 4,
        "bytes_out": used.completion_tokens * 7,
        "finish_reason": "tool_calls",
    }
    if is_error:
        record |= {"error": "Overloaded", "code": "upstream_overloaded"}
    else:
        counts = ("prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens")
        record |= {name: getattr(used, name) for name in counts} | {"cost_usd": cost_of(used, price), "ttft_ms": ttft_ms}
    failed = (FailedAttempt("anthropic/claude-sonnet-4-6", "Overloaded", "upstream_overloaded", "retry", 250.0),) if is_last else ()
    notes = {"notes": "dropped=temperature; thinking=restored(2)"} if is_last else {}
    priced = () if is_error else ((used, price),)
    tools = {name: chance.randint(1, 4) for name in chance.sample(TOOLS, 2)}
    facts = CallFacts(KEYS[key][0], upstream_api, f"session-{work:04}", "", 12.0 if is_last else 0.0, failed, priced, lambda: tools)
    gateway.usage.add(record | notes, facts)
    if work % 20 == 0:
        gateway.usage.flush()


def main(argv: list[str]) -> int:
    clock = PastClock()
    with tempfile.TemporaryDirectory() as folder, FakeUpstream(default=respond) as upstream:
        kinds = ("anthropic", "openai", "deepseek")
        row = {"base_url": upstream.url, "api_keys": ["sk-0123456789abcdef"]}
        settings = {
            "upstreams": {kind: {"kind": kind, **row} for kind in kinds},
            "usage": {"max_mb": 100},
            "limits": {"budgets": {"laptop": {"month_usd": 400.0}, "ci": {"day_usd": 5.0}}},
        }
        gateway = RunningGateway(settings, Path(folder), clock=clock)
        for kind in kinds:
            gateway.gateway.discovery.states[kind] = UpstreamState("ok")
        invent(gateway.gateway, clock)
        done = subprocess.run([sys.executable, "-m", "tests.console.browse", gateway.root, "pictures", argv[0]], check=False)
        gateway.close()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
