"""A gateway with real calls behind its console: several models and sessions, faults, and names and answers that want to be markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compat.accounting.usage_queries import calls
from compat.accounting.usage_views import CallFilter
from compat.config.settings import merge
from tests.conftest import RunningGateway, to_upstream
from tests.fakes.openai_answers import chunk, error_answer, event, respond, sse_answer, stream_answer, text_chunks
from tests.fakes.upstream import Answer, FakeUpstream, Request, Stall

EVIL = "<img src=x onerror=window.pwned=1><script>window.pwned=2</script>"
"""Of a model's name, a session's, an answer and an error."""
PRICE = {"input": 3.0, "output": 15.0, "cache_read": 0.3, "cache_write": 3.75}


def answer(request: Request) -> Answer:
    """As the model that is asked for does: it stalls, fails, or answers with markup."""
    model = request.json.get("model")
    if model == "their-slow":
        return sse_answer(event(chunk({"role": "assistant", "content": "Hello"})), Stall())
    if model == "their-broken":
        return error_answer(400, f"{EVIL} is not possible")
    if request.json.get("stream") and not request.json.get("tools"):
        return stream_answer(text_chunks(f"Hello. {EVIL}"))
    return respond(request)


def settings(upstream: FakeUpstream, **more: Any) -> dict[str, Any]:
    """Of a gateway in front of it."""
    models: dict[str, Any] = {name: {"route": [f"fake/{target}"]} for name, target in (("slow", "their-slow"), ("broken", "their-broken"))}
    models |= {name: {"route": ["fake/their-model"], "facts": {"price": PRICE}} for name in ("claude-4-sonnet", EVIL)}
    return merge(to_upstream(upstream, upstreams={"fake": {"wire_api": "chat"}}, models=models), more)


def make_calls(gateway: RunningGateway, headers: dict[str, str]) -> int:
    """Make them, and wait until they are written down. Returns their number."""
    gateway.gateway.usage.start()
    names = ["claude-4-sonnet"] * 6 + [EVIL, "broken", f"nobody-{EVIL}"]
    for number, name in enumerate(names):
        session = {"x-session-id": f"session-{number // 3}" if name != EVIL else EVIL}
        gateway.chat(model=name, stream=bool(number % 2), headers={**headers, **session})
    tools = [{"type": "function", "function": {"name": "read_file", "parameters": {"type": "object", "properties": {}}}}]
    gateway.chat(tools=tools, headers={**headers, "x-session-id": "session-0"})
    gateway.gateway.usage.flush()
    return len(names) + 1


def stored(gateway: RunningGateway) -> list[str]:
    """The outcomes of the calls that are written down, the newest first."""
    return [row.outcome for row in calls(gateway.gateway.usage, CallFilter()).rows]


def running(folder: Path, upstream: FakeUpstream, headers: dict[str, str] | None = None, **more: Any) -> RunningGateway:
    """A gateway with calls."""
    gateway = RunningGateway(settings(upstream, **more), folder)
    make_calls(gateway, headers or {})
    return gateway
