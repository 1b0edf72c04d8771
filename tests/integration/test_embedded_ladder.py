"""The ladder as a new user meets it: from an empty cache to the best model, with real engines. It fetches 1.2 GB; not where `CI` is set."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests

from compat.engine.presets import BEST, SMALL
from compat.engine.room import room_of
from tests.conftest import RunningGateway
from tests.integration.kilo_session import read_stream

FETCH_S = 900
ANSWER_S = 300
USAGE: Any = {"stream_options": {"include_usage": True}}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city just now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.slow,
    pytest.mark.skipif(bool(os.environ.get("CI")), reason="CI keeps the small model"),
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the embedded engine has no wheel for this platform"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("ladder")
    room = room_of(folder)
    if room.memory_bytes < BEST.memory_bytes or room.disk_bytes < BEST.disk_bytes:
        pytest.skip("this machine has no room for the best model")
    settings = {"embedded": {"enabled": True, "model": "auto", "cache_dir": str(folder / "models")}, "timeouts": {"first_byte_s": FETCH_S}}
    running = RunningGateway(settings, folder)
    yield running
    assert running.gateway.engine is not None
    running.gateway.engine.stop()
    running.close()


def ask(gateway: RunningGateway, question: str, **more: Any) -> requests.Response:
    messages = [{"role": "user", "content": question}]
    answer = requests.post(
        f"{gateway.url}/chat/completions", json={"model": "claude-4-sonnet", "messages": messages, **more}, timeout=FETCH_S
    )
    assert answer.status_code == 200, answer.text
    return answer


def text_of(answer: requests.Response) -> str:
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def wait_until(is_so: Callable[[], bool], bound_s: float) -> None:
    deadline_s = time.monotonic() + bound_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not come to that in time"
        gevent.sleep(0.2)


def embedded(gateway: RunningGateway) -> dict[str, Any]:
    report: dict[str, Any] = gateway.get("/healthz").json()["embedded"]
    return report


def test_from_an_empty_cache_to_the_best_model_without_losing_a_call(gateway: RunningGateway) -> None:
    first = ask(gateway, "Hello")
    assert first.headers["x-compat-upstream"] == f"embedded/{SMALL.name}"
    assert text_of(first).strip()
    assert embedded(gateway)["better"]["model"] == BEST.name
    failures: list[Any] = []
    names: list[str] = []

    def keep_asking() -> None:
        while BEST.name not in names[-1:]:
            answer = gateway.chat(messages=[{"role": "user", "content": "Say hello."}], max_tokens=16, timeout=ANSWER_S)
            names.append(answer.headers["x-compat-upstream"].removeprefix("embedded/"))
            if answer.status_code != 200 or answer.headers["x-compat-attempts"] != "1":
                failures.append(answer.text)
            gevent.sleep(1)

    asking = gevent.spawn(keep_asking)
    wait_until(lambda: embedded(gateway)["model"] == BEST.name, FETCH_S)
    asking.join(ANSWER_S)
    assert (failures, sorted(set(names))) == ([], sorted({SMALL.name, BEST.name}))
    assert embedded(gateway)["better"] is None
    told = [line["event"] for line in gateway.log_lines() if line["event"].startswith("engine.")]
    wait_until(lambda: "engine.stopped" in [line["event"] for line in gateway.log_lines()], 60)
    assert [name for name in told if name in {"engine.climbing", "engine.switched"}] == ["engine.climbing", "engine.switched"]


def test_the_best_model_answers_in_english_and_in_chinese(gateway: RunningGateway) -> None:
    assert "Paris" in text_of(ask(gateway, "What is the capital of France?", max_tokens=40))
    assert "\u5317\u4eac" in text_of(ask(gateway, "\u4e2d\u56fd\u7684\u9996\u90fd\u662f\u54ea\u91cc\uff1f", max_tokens=40))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_best_model_calls_a_tool(gateway: RunningGateway, stream: bool) -> None:
    answer = ask(gateway, "What is the weather in Paris?", tools=[TOOL], max_tokens=100, stream=stream, **(USAGE if stream else {}))
    if stream:
        read = read_stream(answer.text)
        (call,), reason = read.calls, read.finish_reason
        name, arguments = call.name, call.arguments
    else:
        choice = answer.json()["choices"][0]
        function, reason = choice["message"]["tool_calls"][0]["function"], choice["finish_reason"]
        name, arguments = function["name"], function["arguments"]
    assert (name, json.loads(arguments), reason) == ("get_weather", {"city": "Paris"}, "tool_calls")


def test_an_engine_that_is_killed_in_the_middle_of_an_answer_costs_no_answer(gateway: RunningGateway) -> None:
    engine = gateway.gateway.engine
    assert engine is not None
    body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Count from one to twenty in words."}]}
    answer = requests.post(
        f"{gateway.url}/chat/completions", json={**body, "max_tokens": 80, "stream": True, **USAGE}, stream=True, timeout=FETCH_S
    )
    lines = answer.iter_lines()
    got = [line for _, line in zip(range(9), lines, strict=False)]
    pid = engine.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    text = b"\n".join([*got, *lines, b"", b""]).decode()
    assert read_stream(text).finish_reason in {"stop", "length"}
    assert "[DONE]" in text
    assert "Paris" in text_of(ask(gateway, "What is the capital of France?", max_tokens=40))


def test_what_was_fetched_is_there_at_the_next_start(gateway: RunningGateway) -> None:
    names = {path.name for path in Path(gateway.gateway.settings.embedded.cache_dir).iterdir()}
    assert {f"{preset.name}.gguf" for preset in (SMALL, BEST)} <= names
    assert not [name for name in names if name.endswith(".part") or name.startswith(".fetch-")]
