"""Deadlines, heartbeats, and waits that a client is told of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from tests.cases.faults import BEGUN, TEXT, closing, end, opening, right, said, streamed
from tests.conftest import RunningGateway, to_upstream
from tests.fakes.upstream import Answer, FakeUpstream, Sleep, Stall
from tests.integration.test_cancellation import Client, is_at_rest, wait_for
from tests.integration.test_faults import streamed_message

BUSY = Answer((b'{"error": {"message": "busy"}}',), 429, (("retry-after-ms", "250"),), "length")
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def took_s(work: Callable[[], Any]) -> float:
    begun_s = time.monotonic()
    work()
    return time.monotonic() - begun_s


# The deadline of a call.


@both
def test_a_call_is_over_at_its_deadline_whatever_the_upstream_does(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    upstream.script(Answer(raw=(Stall(),)))
    gateway = start_gateway(to_upstream(upstream, timeouts={"total_s": 0.3}, retry={"attempts": 3}))
    answer = gateway.chat(stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert "0.3 s for the call" in answer.json()["error"]["message"]
    assert len(upstream.requests) == 1


def test_a_stream_that_never_ends_is_ended_at_the_deadline_and_not_held_against_the_upstream(
    start_gateway: Any, upstream: FakeUpstream
) -> None:
    words = [step for _ in range(200) for step in (*said("openai", "and "), Sleep(0.02))]
    upstream.script(streamed([*opening("openai"), *words]))
    gateway = start_gateway(to_upstream(upstream, timeouts={"total_s": 0.4}, retry={"attempts": 3}))
    message, last = streamed_message(gateway.chat(stream=True).text)
    assert message["content"].startswith("and and ")
    assert last["error"]["code"] == "upstream_timeout"
    assert len(upstream.requests) == 1, "there is no time left to carry it on"
    assert gateway.gateway.policies.circuits.report() == []


@both
def test_no_attempt_begins_that_could_not_end_in_time(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    upstream.script(Answer((b'{"error": {"message": "busy"}}',), 429, (("retry-after", "5"),), "length"))
    gateway = start_gateway(to_upstream(upstream, timeouts={"total_s": 2}, retry={"attempts": 3}))
    assert took_s(lambda: gateway.chat(stream=stream)) < 1.5
    assert len(upstream.requests) == 1


def test_the_longest_deadline_of_a_routes_upstreams_counts(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(streamed([*opening("openai"), Sleep(0.5), *said("openai", TEXT), *closing("openai"), end("openai")]))
    slow = {"kind": "openai", "base_url": upstream.url, "timeouts": {"total_s": 20}}
    settings = to_upstream(upstream, timeouts={"total_s": 0.2}, upstreams={"slow": slow})
    settings["models"]["claude-4-sonnet"]["route"] = ["slow/m", "fake/m"]
    assert streamed_message(start_gateway(settings).chat(stream=True).text)[0]["content"] == TEXT


def left_alone(gateway: RunningGateway, upstream: FakeUpstream, wait_s: int) -> None:
    """Let the upstream ask to be left alone for so long."""
    upstream.script(Answer((b'{"error": {"message": "busy"}}',), 429, (("retry-after", str(wait_s)),), "length"))
    assert gateway.chat().status_code == 429


@both
def test_nobody_waits_beyond_the_deadline_for_an_upstream_that_asked_to_be_left_alone(
    start_gateway: Any, upstream: FakeUpstream, stream: bool
) -> None:
    gateway = start_gateway(to_upstream(upstream, timeouts={"total_s": 1}, retry={"attempts": 3}))
    left_alone(gateway, upstream, 4)
    answers: list[Any] = []
    assert took_s(lambda: answers.append(gateway.chat(stream=stream))) < 0.9
    assert answers[0].status_code == 429
    assert answers[0].headers["retry-after"] == "4"
    assert len(upstream.requests) == 1


def test_a_call_that_waits_for_its_rate_limit_is_in_nobodys_way(start_gateway: Any, upstream: FakeUpstream) -> None:
    settings = to_upstream(upstream, concurrency={"first_limit": 1, "max_limit": 1}, models={"other": {"route": ["fake/other"]}})
    gateway = start_gateway(settings)
    left_alone(gateway, upstream, 4)
    upstream.script(right("openai", is_stream=True))
    waiting = Client(gateway)
    wait_for(lambda: gateway.gateway.gauges.in_flight == 1)
    assert took_s(lambda: gateway.chat(model="other", stream=True)) < 2
    waiting.leave()
    wait_for(lambda: is_at_rest(gateway))


# Heartbeats.


def test_a_client_in_the_queue_hears_heartbeats(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(streamed([*opening("openai"), *said("openai", "x"), Stall()]), right("openai", is_stream=True))
    gateway = start_gateway(to_upstream(upstream, concurrency={"first_limit": 1, "max_limit": 1}, server={"heartbeat_s": 0.05}))
    first, texts = Client(gateway), []
    wait_for(lambda: upstream.requests)
    second = gevent.spawn(lambda: texts.append(gateway.chat(stream=True).text))
    gevent.sleep(0.3)
    assert len(upstream.requests) == 1
    first.leave()
    second.join(10)
    assert texts[0].startswith(": keep-alive\n\n: keep-alive\n\n")
    assert streamed_message(texts[0])[0]["content"] == TEXT


def test_a_client_whose_call_backs_off_hears_heartbeats(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(BUSY, right("openai", is_stream=True))
    gateway = start_gateway(to_upstream(upstream, server={"heartbeat_s": 0.05}, retry={"attempts": 3}))
    text = gateway.chat(stream=True).text
    assert text.startswith(": keep-alive\n\n: keep-alive\n\n")
    assert streamed_message(text)[0]["content"] == TEXT
    assert gateway.calls()[0]["attempts"] == 2


def test_an_error_that_comes_after_heartbeats_is_an_event(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(streamed([*opening("openai"), *said("openai", "x"), Stall()]))
    settings = to_upstream(upstream, concurrency={"first_limit": 1, "max_limit": 1, "queue_wait_s": 0.2}, server={"heartbeat_s": 0.05})
    gateway = start_gateway(settings)
    first = Client(gateway)
    wait_for(lambda: upstream.requests)
    text = gateway.chat(stream=True).text
    assert text.startswith(": keep-alive\n\n")
    assert '"code":"upstream_busy"' in text
    assert "[DONE]" not in text
    first.leave()
    wait_for(lambda: is_at_rest(gateway))


# After the reason, and after a refusal's status.


def test_an_answer_whose_end_mark_never_comes_is_not_waited_for(start_gateway: Any, upstream: FakeUpstream) -> None:
    """All of it is there with the `finish_reason`; the bound for the rest is five seconds, or the silence that is allowed."""
    upstream.script(streamed([*opening("openai"), *said("openai", TEXT), closing("openai")[0], Stall()]))
    gateway = start_gateway(to_upstream(upstream, timeouts={"silence_s": 0.2}))
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT
    assert gateway.calls()[0]["outcome"] == "ok"


# Waits that clients are told of.


@both
@pytest.mark.parametrize(("asked", "told"), [("3", "3"), ("29.2", "30"), ("31", "30"), ("3600", "30"), ("99999999999", "30")])
def test_a_client_is_never_asked_to_wait_for_more_than_half_a_minute(
    start_gateway: Any, upstream: FakeUpstream, asked: str, told: str, stream: bool
) -> None:
    upstream.script(Answer((b'{"error": {"message": "busy"}}',), 429, (("retry-after", asked),), "length"))
    gateway = start_gateway(to_upstream(upstream, retry={"attempts": 1}))
    assert gateway.chat(stream=stream).headers["retry-after"] == told


def test_an_upstreams_wait_is_kept(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(BUSY, right("openai", is_stream=False))
    gateway = start_gateway(to_upstream(upstream, retry={"attempts": 3, "first_wait_s": 0.001, "max_wait_s": 0.001}))
    assert took_s(gateway.chat) >= 0.25


def test_a_retry_keeps_its_place_before_the_commit_point(start_gateway: Any, upstream: FakeUpstream) -> None:
    """Once text was shown, a failure is never answered by a fresh start."""
    upstream.script(streamed([*opening("openai"), *said("openai", BEGUN)]), right("openai", is_stream=True, text=TEXT[20:]))
    gateway: RunningGateway = start_gateway(to_upstream(upstream, retry={"attempts": 3}))
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT
    assert len(upstream.requests[1].json["messages"]) == 3
