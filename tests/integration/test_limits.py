"""Limits and budgets over real sockets: what is admitted, what a client is told, what is charged, and what outlives a restart."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent.pool
import openai
import pytest
import requests

from compat.accounting.keys import new_key
from compat.accounting.limits import Estimate
from compat.accounting.usage_queries import cost
from compat.config.settings import merge
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as answers
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request, Stall
from tests.integration.services_folder import ServiceFolder, behind, until
from tests.integration.test_gunicorn import Started, free_port
from tests.unit.service.command_line import CommandLine

NAME = "claude-4-sonnet"
FACTS = {"max_output": 1000, "price": {"input": 0.0, "output": 30.0}}  # a call costs 0.03 USD at most
USED = {"prompt_tokens": 10, "completion_tokens": 1000, "total_tokens": 1010}


def limited(upstream: FakeUpstream, **limits: Any) -> dict[str, Any]:
    return to_upstream(upstream, limits=limits, models={"their-model": {"facts": FACTS}})


def full_answer(request: Request) -> Answer:
    """One that costs what a call may cost at most."""
    if request.json.get("stream"):
        return answers.stream_answer([*answers.text_chunks()[:-1], {**answers.usage_chunk(), "usage": USED}])
    return answers.json_answer({**answers.completion(), "usage": USED})


def left(answer: requests.Response, measure: str) -> str | None:
    return answer.headers.get(f"x-ratelimit-remaining-{measure}")


def is_left(gateway: RunningGateway, **expected: str) -> None:
    """This is left of the limits of the first call's client, as soon as its correction has been made: by measure."""
    client = gateway.calls()[0]["client"]

    def now() -> dict[str, str]:
        told = dict(gateway.gateway.limits.headers(client, NAME))
        return {measure: told[f"x-ratelimit-remaining-{measure}"] for measure in expected}

    until(lambda: now() == expected, f"{expected} is left, not {now()}")


class Gate:
    """An upstream that answers nobody before `opened` is set."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, request: Request) -> Answer:
        assert self.opened.wait(60)
        return full_answer(request)


# What is counted, and what a client is told.


@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_tells_what_is_left(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    gateway = start_gateway(limited(upstream, client="3/minute; 10000 tokens/minute", budget={"day_usd": 1}))
    headers = gateway.chat(stream=stream).headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("3", "2")
    assert headers["x-ratelimit-limit-tokens"] == "10000"
    assert 8900 <= int(headers["x-ratelimit-remaining-tokens"]) < 9000
    assert (headers["x-ratelimit-limit-usd"], headers["x-ratelimit-remaining-usd"]) == ("1", "0.97")
    assert 1 <= int(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "rules", [{"client": "1/hour"}, {"model": "1/hour"}, {"models": {NAME: "1/hour"}}], ids=["client", "models", "model"]
)
def test_a_client_over_its_limit_is_told_when_to_come_back(
    start_gateway: Any, upstream: FakeUpstream, rules: dict[str, Any], stream: bool
) -> None:
    gateway = start_gateway(limited(upstream, **rules))
    assert gateway.chat(stream=stream).status_code == 200
    refused = gateway.chat(stream=stream)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert (refused.headers["x-ratelimit-limit-requests"], left(refused, "requests")) == ("1", "0")
    assert "1 requests per hour" in refused.json()["error"]["message"]
    assert len(upstream.requests) == 1


def test_tokens_are_limited_by_what_calls_used(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(limited(upstream, client="30 tokens/day"))
    assert [gateway.chat(max_tokens=1).status_code for _ in range(3)] == [200, 200, 429]  # 18 tokens each


def test_a_model_has_a_limit_of_its_own(start_gateway: Any, upstream: FakeUpstream) -> None:
    settings = limited(upstream, models={NAME: "1/day"})
    gateway = start_gateway(merge(settings, {"models": {"other": {"route": ["fake/their-model"]}}}))
    assert [gateway.chat(model=name).status_code for name in (NAME, NAME, "other", "other")] == [200, 429, 200, 200]


def test_each_client_key_has_counts_of_its_own(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(limited(upstream, client="1/day"))
    seen = [gateway.chat(headers={"authorization": f"Bearer {key}"}).status_code for key in ("one", "two", "one", "two")]
    assert seen == [200, 200, 429, 429]


def test_a_spent_budget_is_named_with_its_reset_and_no_client_tries_again(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(full_answer)
    gateway = start_gateway(limited(upstream, budget={"day_usd": 0.03}))
    client = openai.OpenAI(base_url=gateway.url, api_key="any", max_retries=2)
    client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Hi"}])
    client.close()
    error = caught.value
    assert (error.status_code, error.code, error.type) == (402, "budget_spent", "insufficient_quota")
    assert "0.03 USD per day" in error.message
    assert "renewed at" in error.message
    assert "00:00:00 UTC" in error.message
    assert (error.response.headers["x-ratelimit-remaining-usd"], "retry-after" in error.response.headers) == ("0", False)
    assert len([call for call in gateway.calls() if call["status"] == 402]) == 1
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("n", "held"), [(1, 1000), (10, 10_000), (None, 1000), ("x", 1000), (10**30, 128_000), (True, 1000), (-3, 1000)])
def test_each_choice_that_is_asked_for_is_held(start_gateway: Any, upstream: FakeUpstream, n: Any, held: int) -> None:
    gateway = start_gateway(limited(upstream, client="200000 tokens/day"))
    left = int(gateway.chat(n=n, max_tokens=1000).headers["x-ratelimit-remaining-tokens"])
    assert 0 < 200_000 - left - held < 100


def test_a_call_that_got_nowhere_is_told_what_is_left(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(limited(upstream, client="5/day; 10000 tokens/day"))
    for body in ({}, {"model": "nobody"}, {"model": "nobody", "stream": True}):
        answer = gateway.chat(**body)
        assert (answer.status_code, left(answer, "requests")) == (404 if body else 200, "4")


# What is charged.


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_charged_what_it_used(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    gateway = start_gateway(limited(upstream, client="10000 tokens/day", budget={"day_usd": 1}))
    assert gateway.chat(stream=stream).text
    is_left(gateway, tokens=str(10000 - 18), usd=str(1 - 7 * 30 / 1e6))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer", [answers.error_answer(500, "no"), answers.error_answer(400, "no"), Answer(before_head=[Cut()])])
def test_a_call_that_failed_is_charged_nothing(start_gateway: Any, upstream: FakeUpstream, answer: Answer, stream: bool) -> None:
    upstream.script(answer)
    gateway = start_gateway(limited(upstream, client="5/day; 10000 tokens/day", budget={"day_usd": 1}))
    assert gateway.chat(stream=stream).status_code >= 400
    is_left(gateway, requests="5", tokens="10000", usd="1")


def test_a_client_that_left_is_charged_for_the_prompt_and_for_what_was_written(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(answers.sse_answer(*(answers.event(answers.chunk({"content": "Hello "})) for _ in range(500)), Stall()))
    gateway = start_gateway(limited(upstream, client="5/day; 10000 tokens/day"))
    body = json.dumps({"model": NAME, "stream": True, "messages": [{"role": "user", "content": "Hi"}]})
    with requests.post(f"{gateway.url}/chat/completions", data=body, headers={"content-type": "application/json"}, stream=True) as answer:
        assert b"Hel" in next(answer.iter_content(None))
        gevent.sleep(0.05)
    until(gateway.calls, "the call is over")
    [record] = gateway.calls()
    assert record["outcome"] == "cancelled"
    assert record["is_estimate"]
    assert 0 < record["prompt_tokens"] < 20
    assert 500 < record["completion_tokens"] < 1000
    is_left(gateway, requests="4", tokens=str(10000 - record["prompt_tokens"] - record["completion_tokens"]))
    gateway.gateway.usage.flush()
    [row] = cost(gateway.gateway.usage, ("key",))
    assert (row.sums.prompt_tokens, row.sums.completion_tokens) == (record["prompt_tokens"], record["completion_tokens"])


def test_a_client_that_left_before_the_first_word_is_charged_for_the_prompt(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(Answer(raw=(Stall(),)))
    gateway = start_gateway(limited(upstream, client="5/day; 10000 tokens/day"))
    with pytest.raises(requests.Timeout):
        gateway.chat(stream=True, timeout=0.2)
    until(gateway.calls, "the call is over")
    [record] = gateway.calls()
    assert (record["outcome"], record["completion_tokens"], record["is_estimate"]) == ("cancelled", 0, True)
    is_left(gateway, requests="4", tokens=str(10000 - record["prompt_tokens"]))


def test_an_answer_that_broke_off_is_charged_for_what_was_written(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(answers.sse_answer(*(answers.event(answers.chunk({"content": "Hello "})) for _ in range(500)), Cut()))
    gateway = start_gateway(limited(upstream, client="5/day; 10000 tokens/day"))
    assert "error" in gateway.chat(stream=True).text
    [record] = gateway.calls()
    assert (record["outcome"], record["is_estimate"]) == ("error", True)
    assert 500 < record["completion_tokens"] < 1000
    is_left(gateway, requests="4", tokens=str(10000 - record["prompt_tokens"] - record["completion_tokens"]))


def test_calls_in_flight_hold_their_share(start_gateway: Any, upstream: FakeUpstream) -> None:
    gate = Gate()
    upstream.default = gate
    gateway = start_gateway(limited(upstream, budget={"day_usd": 0.06}))
    waiting = [gevent.spawn(gateway.chat) for _ in range(2)]
    until(lambda: len(upstream.requests) == 2, "both are there")
    refused = gateway.chat()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5"), "nothing is spent yet: an agent may ask again"
    assert "running calls hold the rest" in refused.json()["error"]["message"]
    gate.opened.set()
    assert [one.get().status_code for one in waiting] == [200, 200]
    assert gateway.chat().status_code == 402


def test_a_client_that_leaves_as_its_call_is_settled_leaves_nothing_held(start_gateway: Any, upstream: FakeUpstream) -> None:
    """The storage in memory starts a timer now and then, which lets others run: what ends the call just then must not end the settling."""
    gateway = start_gateway(limited(upstream, client="10/day; 10000 tokens/day", budget={"day_usd": 1}))
    limits = gateway.gateway.limits
    for end in (lambda taken: taken.cancel(), lambda taken: taken.settle(None, 0.0)):
        taken = limits.admit("c", NAME, Estimate(10, 1000, 0.0, 0.03))
        until(lambda: not limits.counts._limiter.limiter.storage.timer.is_alive(), "the timer has run")
        ending = gevent.spawn(end, taken)
        gevent.sleep(0)
        ending.kill()
        until(lambda: dict(limits.headers("c", NAME))["x-ratelimit-remaining-usd"] == "1", "its dollars are given back")


# Many at once.


def storm(urls: list[str], calls: int, gate: Gate, admitted: int) -> list[int]:
    """The statuses of `calls` calls at once, of which `admitted` may reach the upstream; it answers when all others were refused."""
    statuses: list[int] = []

    def call(number: int) -> None:
        body = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1000}
        statuses.append(requests.post(f"{urls[number % len(urls)]}/v1/chat/completions", json=body, timeout=60).status_code)

    pool = gevent.pool.Pool(calls)
    for number in range(calls):
        pool.spawn(call, number)
    until(lambda: len(statuses) == calls - admitted, "all others were refused")
    gate.opened.set()
    pool.join()
    return statuses


def test_a_hundred_calls_at_once_pass_a_budget_by_one_call_at_most(start_gateway: Any, upstream: FakeUpstream) -> None:
    gate = Gate()
    upstream.default = gate
    gateway = start_gateway(limited(upstream, budget={"day_usd": 0.1}))
    statuses = storm([gateway.root], 100, gate, admitted=4)
    assert (statuses.count(200), statuses.count(429)) == (4, 96)
    assert sum(call.get("cost_usd", 0) for call in gateway.calls()) == pytest.approx(0.12)
    assert gateway.chat().status_code == 402


def configuration(upstream: FakeUpstream, top: str) -> str:
    return (
        f"discovery.enabled = false\nembedded.enabled = false\n{top}\n[server]\nport = 0\n[log]\nterminal = false\n"
        f'[upstreams.fake]\nkind = "openai"\nbase_url = "{upstream.url}"\napi_keys = ["sk-canary-0123456789"]\nmodels = ["their-model"]\n'
        f'[models."{NAME}"]\nroute = ["fake/their-model"]\n'
        "[models.their-model]\nfacts = { max_output = 1000, price = { input = 0.0, output = 30.0 } }\n"
    )


@pytest.fixture
def command_lines(tmp_path: Path) -> Iterator[Any]:
    made: list[CommandLine] = []

    def make() -> CommandLine:
        folder = tmp_path / f"folder{len(made)}"
        folder.mkdir()
        made.append(CommandLine(folder))
        return made[-1]

    yield make
    for line in made:
        for started in line.running:
            started.close()


@pytest.mark.slow
@needs_redis
@pytest.mark.heavy
def test_four_gateways_on_one_redis_pass_a_budget_by_one_call_at_most(command_lines: Any, upstream: FakeUpstream) -> None:
    gate = Gate()
    upstream.default = gate
    with RedisServer() as redis:
        gateways = []
        for _ in range(4):
            line = command_lines()
            line.configure(configuration(upstream, f'storage.redis_url = "{redis.url}"\nlimits.budget.day_usd = 0.1'))
            gateways.append(line.start())
        statuses = storm([gateway.root for gateway in gateways], 100, gate, admitted=4)
        assert (statuses.count(200), statuses.count(429)) == (4, 96)
        body = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]}

        def is_spent() -> bool:
            return requests.post(f"{gateways[0].root}/v1/chat/completions", json=body, timeout=30).status_code == 402

        until(is_spent, "what the calls have cost is known to Redis")
        after = [requests.post(f"{gateway.root}/v1/chat/completions", json=body, timeout=30) for gateway in gateways]
        assert [(answer.status_code, left(answer, "usd")) for answer in after] == [(402, "0")] * 4


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_budget_survives_the_end_of_the_gateway(command_lines: Any, upstream: FakeUpstream, end: signal.Signals) -> None:
    upstream.default = full_answer
    line = command_lines()
    line.configure(configuration(upstream, "limits.budget.month_usd = 0.05"))
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]}
    first = line.start()
    assert [requests.post(f"{first.root}/v1/chat/completions", json=body, timeout=30).status_code for _ in range(3)] == [200, 200, 402]
    until(lambda: "0.0600" in line.run("--usage").stdout, "what was used is in the file")
    first.process.send_signal(end)
    first.process.wait(30)
    second = line.start()
    answer = requests.post(f"{second.root}/v1/chat/completions", json=body, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "budget_spent")
    assert "0.05 USD per month" in answer.json()["error"]["message"]


# An answer that nobody pays for twice.


def test_a_call_that_shares_another_ones_answer_is_no_call_in_flight_for_ever(start_gateway: Any, upstream: FakeUpstream) -> None:
    gate = Gate()
    upstream.default = gate
    gateway: RunningGateway = start_gateway(limited(upstream, client="2/day"))
    headers = {"idempotency-key": "k1"}
    both = [gevent.spawn(gateway.chat, headers=headers) for _ in range(2)]
    until(lambda: gateway.gateway.flights is not None and len(upstream.requests) == 1, "the call is there")
    gate.opened.set()
    assert [one.get().status_code for one in both] == [200, 200]
    assert len(upstream.requests) == 1
    assert "openai_compat_in_flight 0.0" in gateway.get("/metrics").text


def test_an_answer_carried_on_by_another_upstream_is_charged_with_its_first_part(start_gateway: Any, upstream: FakeUpstream) -> None:
    part = answers.sse_answer(answers.event(answers.chunk({"content": "Hello, this is the first half "})), Cut())
    with FakeUpstream(default=part) as dying:
        settings = limited(upstream, client="10000 tokens/day")
        dies = {"kind": "openai", "base_url": dying.url, "api_keys": ["sk-canary-0123456789"]}
        route = {"route": [{"to": "dying/a", "priority": 1}, {"to": "fake/their-model", "priority": 2}]}
        gateway = start_gateway(merge(settings, {"upstreams": {"dying": dies}, "models": {NAME: route}, "retry": {"attempts": 3}}))
        assert "[DONE]" in gateway.chat(stream=True).text
    record = gateway.calls()[0]
    assert "carried_on_from" in record
    is_left(gateway, tokens=str(10000 - record["prompt_tokens"] - record["completion_tokens"]))


# Keys that come and go.


@pytest.mark.slow
def test_a_key_has_its_limit_its_budget_and_its_end_without_a_restart(command_lines: Any, upstream: FakeUpstream) -> None:
    upstream.default = full_answer
    line = command_lines()
    line.configure(configuration(upstream, ""))
    gateway = line.start()
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]}

    def status(key: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return requests.post(f"{gateway.root}/v1/chat/completions", json=body, headers=headers, timeout=30).status_code

    def added(name: str, *terms: str) -> str:
        done = line.call("keys", "add", name, *terms)
        assert done.returncode == 0, done.stderr
        return str(re.search(r"sk-compat-\S+", done.stdout)[0])

    assert status("any") == 200
    few = added("few", "--limit", "2/day")
    until(lambda: status("any") == 401, "a key is asked for")
    assert [status(few) for _ in range(4)] == [200, 200, 429, 429]
    poor, free = added("poor", "--day-usd", "0.05"), added("free", "--expires", "2999-01-01")
    until(lambda: status(free) == 200, "the new keys are known")
    assert [status(poor) for _ in range(3)] == [200, 200, 402]
    assert status(few) == 429, "reading the file again does not forget what was used"
    assert line.call("keys", "revoke", "free").returncode == 0
    until(lambda: status(free) == 401, "it is revoked")


@pytest.mark.slow
def test_a_limit_that_is_none_is_told_and_nothing_of_its_file_counts(command_lines: Any, upstream: FakeUpstream) -> None:
    """Written by hand: it must neither break a call nor be taken for no limit."""
    line = command_lines()
    line.configure(configuration(upstream, ""))
    row = {"hash": "sha256:" + "0" * 64, "created": "2026-11-23T12:00:00Z", "terms": {"limit": "many"}}
    (line.folder / "keys.json").write_text(json.dumps({"version": 1, "keys": {"laptop": row}}))
    done = line.run()
    assert done.returncode == 2
    assert "keys.json" in done.stderr
    assert "'many' is not a limit" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/chat/completions", {}),
        ("/messages", {"max_tokens": 5}),
        ("/messages/count_tokens", {}),
        ("/responses", {"input": "Hi"}),
        ("/completions", {"prompt": "x"}),
        ("/embeddings", {"input": "x"}),
    ],
)
def test_promise_08_a_key_that_may_call_some_models_reaches_no_others(
    start_gateway: Any, upstream: FakeUpstream, path: str, more: dict[str, Any]
) -> None:
    key, digest = new_key()
    gateway = start_gateway(to_upstream(upstream, keys={"ada": {"hash": digest, "models": ["claude-*"]}}))
    headers = {"authorization": f"Bearer {key}"}
    refused = gateway.chat(path=path, model="fake/their-model", headers=headers, **more)
    assert refused.status_code == 403, refused.text
    error = refused.json()["error"]
    assert error["message"] == "The key 'ada' may not call 'fake/their-model', only: claude-*."
    assert error["type"] == "permission_error"
    assert upstream.requests == []
    if path in {"/chat/completions", "/messages"}:
        assert gateway.chat(path=path, headers=headers, **more).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("way", ["gunicorn app:app", "restart_services.py"])
def test_a_limit_holds_across_the_workers_of_a_machine(tmp_path: Path, upstream: FakeUpstream, way: str) -> None:
    """Without Redis; also over a reload, for the count is no worker's own."""
    folder = ServiceFolder(tmp_path)
    port = free_port()
    text = behind(upstream, "workers = 3").replace("port = 0", f"port = {port}")
    folder.configure(text + '[limits]\nclient = "7/hour"\n')
    started = None
    try:
        if way == "restart_services.py":
            folder.do("start")
        else:
            started = Started(folder, [sys.executable, "-m", "gunicorn", "app:app"], port)
        root = f"http://127.0.0.1:{port}"

        def call(_: int) -> int:
            body = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]}
            headers = {"connection": "close", "authorization": "Bearer sk-anybody"}
            return requests.post(f"{root}/v1/chat/completions", json=body, timeout=30, headers=headers).status_code

        codes = gevent.pool.Pool(8).map(call, range(24))
        assert (codes.count(200), codes.count(429)) == (7, 17)
        assert (folder.run_folder.root / "limits-1.counts").exists()
        if started is None:
            folder.do("reload")
            assert [call(0) for _ in range(6)] == [429] * 6
    finally:
        if started is not None:
            started.close()
        folder.close()
