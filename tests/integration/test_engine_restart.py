"""The embedded engine dies and is started again: calls wait for it and go on, and no circuit keeps them from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gevent
import pytest

from compat.config.sections import EmbeddedSettings
from compat.engine.base import Endpoint
from compat.engine.embedded import EmbeddedEngine
from tests.cases.faults import BEGUN, TEXT, healthy, opening, said, streamed
from tests.conftest import RunningGateway
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request
from tests.integration.test_faults import streamed_message

NOWHERE = Endpoint("http://127.0.0.1:9", "key", "m")
SETTINGS = {
    "embedded": {"enabled": True},
    "circuit": {"failures": 2, "unreachable": 2},
    "retry": {"first_wait_s": 0.001, "max_wait_s": 0.01},
}


class RestartedEngine(EmbeddedEngine):
    """Answers at `place` until it is killed; then it is not ready for a few looks, and answers at the next place."""

    def __init__(self, place: Endpoint, after: Endpoint, looks: int = 3) -> None:
        super().__init__(EmbeddedSettings(), lambda _event, _fields: None)
        self.place = place
        self.after = after
        self.looks = looks
        self.is_killed = False

    def endpoint(self, timeout_s: float) -> Endpoint | None:
        if not self.is_killed:
            return self.place
        self.looks -= 1
        gevent.sleep(0)
        return self.after if self.looks < 0 else None


def endpoint_of(upstream: FakeUpstream) -> Endpoint:
    return Endpoint(upstream.url.removesuffix("/v1"), "key", "m")


@pytest.fixture
def after() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=healthy("openai")) as running:
        yield running


def with_engine(start_gateway: Any, engine: EmbeddedEngine) -> RunningGateway:
    gateway: RunningGateway = start_gateway(SETTINGS)
    object.__setattr__(gateway.gateway, "engine", engine)
    return gateway


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_calls_that_find_nobody_there_wait_for_the_next_engine(
    start_gateway: Any, after: FakeUpstream, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RestartedEngine(NOWHERE, endpoint_of(after))
    gateway = with_engine(start_gateway, engine)
    looks = 0
    old = engine.endpoint

    def endpoint(timeout_s: float) -> Endpoint | None:
        nonlocal looks
        looks += 1
        engine.is_killed = looks > 8  # its death is noticed when eight calls have failed
        return old(timeout_s)

    monkeypatch.setattr(engine, "endpoint", endpoint)
    calls = [gevent.spawn(gateway.chat, stream=stream, messages=[{"role": "user", "content": str(n)}]) for n in range(8)]
    gevent.joinall(calls, timeout=20)
    assert [call.value.status_code for call in calls] == [200] * 8
    assert len(after.requests) == 8
    assert gateway.get("/healthz").json()["circuits"] == []
    assert not [line for line in gateway.log_lines() if line["event"].startswith("circuit.")]


def test_calls_whose_engine_is_killed_before_their_first_word_begin_anew(
    start_gateway: Any, upstream: FakeUpstream, after: FakeUpstream
) -> None:
    engine = RestartedEngine(endpoint_of(upstream), endpoint_of(after))
    gateway = with_engine(start_gateway, engine)
    all_are_there = threading.Barrier(4)

    def is_killed(_: Request) -> Answer:
        all_are_there.wait(10)
        engine.is_killed = True
        return Answer(raw=(Cut(),))

    upstream.script(is_killed)
    calls = [gevent.spawn(gateway.chat, messages=[{"role": "user", "content": str(n)}]) for n in range(4)]
    gevent.joinall(calls, timeout=20)
    assert [call.value.status_code for call in calls] == [200] * 4
    assert gateway.get("/healthz").json()["circuits"] == []


def test_streams_that_had_begun_are_carried_on(start_gateway: Any, upstream: FakeUpstream, after: FakeUpstream) -> None:
    engine = RestartedEngine(endpoint_of(upstream), endpoint_of(after))
    gateway = with_engine(start_gateway, engine)
    all_are_there = threading.Barrier(4)

    def is_killed(_: Request) -> Answer:
        all_are_there.wait(10)
        engine.is_killed = True
        return streamed([*opening("openai"), *said("openai", BEGUN), Cut()])

    upstream.script(is_killed)
    calls = [gevent.spawn(gateway.chat, stream=True, messages=[{"role": "user", "content": str(n)}]) for n in range(4)]
    gevent.joinall(calls, timeout=10)
    for call in calls:
        assert call.value is not None, "it waits for a circuit"
        assert streamed_message(call.value.text)[0]["content"] == TEXT
        assert ": carried on after a fault: " in call.value.text
    assert gateway.get("/healthz").json()["circuits"] == []


def test_an_engine_that_is_there_and_fails_is_left_alone_as_any_upstream(start_gateway: Any, upstream: FakeUpstream) -> None:
    engine = RestartedEngine(endpoint_of(upstream), endpoint_of(upstream))
    gateway = with_engine(start_gateway, engine)
    upstream.script(Answer((b"{}",), 500))
    assert gateway.chat().status_code == 500
    assert gateway.chat().json()["error"]["code"] == "circuit_open"


class ClimbingEngine(EmbeddedEngine):
    """Answers at `place`, and from the moment it is told to at `better`."""

    def __init__(self, place: Endpoint, better: Endpoint) -> None:
        super().__init__(EmbeddedSettings(), lambda _event, _fields: None)
        self.place, self.better = place, better

    def endpoint(self, timeout_s: float) -> Endpoint | None:
        return self.place

    def climb(self) -> None:
        self.place = self.better


def test_the_switch_to_a_better_model_loses_no_call_and_each_answer_names_its_model(
    start_gateway: Any, upstream: FakeUpstream, after: FakeUpstream
) -> None:
    small, big = endpoint_of(upstream), endpoint_of(after)
    engine = ClimbingEngine(replace(small, model="small-model"), replace(big, model="big-model"))
    gateway = with_engine(start_gateway, engine)
    all_are_there, has_climbed = threading.Barrier(5), threading.Event()

    def goes_on(request: Request) -> Answer:
        all_are_there.wait(10)
        assert has_climbed.wait(10)
        return healthy("openai")(request)

    upstream.default = goes_on
    calls = [gevent.spawn(gateway.chat, stream=n % 2 == 0, messages=[{"role": "user", "content": str(n)}]) for n in range(4)]
    gevent.get_hub().threadpool.apply(all_are_there.wait, (10,))
    engine.climb()
    later = gateway.chat(messages=[{"role": "user", "content": "new"}])
    assert (later.status_code, later.headers["x-compat-upstream"]) == (200, "embedded/big-model")
    has_climbed.set()
    gevent.joinall(calls, timeout=20)
    assert [call.value.status_code for call in calls] == [200] * 4
    assert {call.value.headers["x-compat-upstream"] for call in calls} == {"embedded/small-model"}
    assert all(call.value.headers["x-compat-attempts"] == "1" for call in calls)
    assert (len(upstream.requests), len(after.requests)) == (4, 1)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_prompt_that_would_take_the_engine_minutes_is_refused_at_once(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    engine = ClimbingEngine(replace(endpoint_of(upstream), prompt_tokens_s=70.0), NOWHERE)
    gateway = with_engine(start_gateway, engine)
    answer = gateway.chat(stream=stream, messages=[{"role": "user", "content": "word " * 12_000}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "max_prompt_s" in answer.json()["error"]["message"]
    assert upstream.requests == []
    assert gateway.chat().status_code == 200
