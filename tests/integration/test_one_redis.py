"""Two gateways on different ports with one Redis behave as one: what each of them knows, the other one knows.

Budgets and limits of tokens are in `test_limits.py` (four gateways, a hundred calls at once).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import requests

from tests.fakes import openai_answers as answers
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.fakes.upstream import Answer, FakeUpstream, Request, Stall
from tests.integration.services_folder import until
from tests.unit.service.command_line import CommandLine, Started

pytestmark = [pytest.mark.slow, pytest.mark.heavy, needs_redis]

CONFIGURATION = """
discovery.enabled = false
embedded.enabled = false
storage.redis_url = "{redis}"
limits.models.limited = "3/day"
[server]
port = 0
heartbeat_s = 0.2
[log]
terminal = false
[retry]
attempts = 1
[circuit]
failures = 2
cooldown_s = 3
[upstreams.fake]
kind = "openai"
base_url = "{upstream}"
api_keys = ["sk-canary-0123456789"]
models = ["their-model"]
[models."claude-4-sonnet"]
route = ["fake/their-model"]
[models.limited]
route = ["fake/their-model"]
[models.flaky]
route = ["fake/flaky-model"]
"""


class Model:
    """Answers at once, but `flaky-model` fails until it is `well`, and a stream waits in its middle until `gate` is set."""

    def __init__(self) -> None:
        self.is_well = True
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, request: Request) -> Answer:
        body = request.json
        if body["model"] == "flaky-model" and not self.is_well:
            return answers.error_answer(500, "Broken", type="server_error")
        return Answer(raw=self._stream(), keeps_alive=False) if body.get("stream") else answers.respond(request)

    def head(self) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        yield answers.event(answers.chunk({"role": "assistant", "content": ""})) + answers.event(answers.chunk({"content": "first "}))

    def _stream(self) -> Iterator[bytes]:
        yield from self.head()
        while not self.gate.wait(0.1):
            yield b": waiting\n\n"
        yield answers.event(answers.chunk({"content": "last"})) + answers.event(answers.chunk({}, "stop")) + answers.event("[DONE]")


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def upstream(model: Model) -> Iterator[FakeUpstream]:
    with FakeUpstream(default=model) as running:
        yield running
        model.gate.set()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def pair(upstream: FakeUpstream, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Started, Started]]:
    lines = [CommandLine(tmp_path_factory.mktemp("gateway")) for _ in range(2)]
    for line in lines:
        line.configure(CONFIGURATION.format(redis=redis.url, upstream=upstream.url))
    one, two = (line.start() for line in lines)
    yield one, two
    for started in (one, two):
        started.close()


def ask(gateway: Started, model: str = "claude-4-sonnet", *, headers: dict[str, str] | None = None, **more: Any) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}
    return requests.post(f"{gateway.root}/v1/chat/completions", json=body, headers=headers, timeout=30)


def circuits(gateway: Started) -> list[str]:
    rows = requests.get(f"{gateway.root}/healthz", timeout=30).json()["circuits"]
    return [row["state"] for row in rows if row["state"] != "closed"]


def test_a_limit_counts_the_calls_of_both(pair: tuple[Started, Started]) -> None:
    statuses = [ask(pair[number], "limited").status_code for number in (0, 1, 0, 1, 0)]
    assert statuses == [200, 200, 200, 429, 429]


def test_an_answer_that_one_keeps_the_other_gives(pair: tuple[Started, Started], upstream: FakeUpstream) -> None:
    wish = {"x-compat-cache": "on"}
    assert ask(pair[0], headers=wish).headers["x-cache"] == "miss"
    until(lambda: ask(pair[1], headers=wish).headers["x-cache"] == "hit", "the other one has it", bound_s=5)


def test_a_circuit_opens_and_closes_for_both(pair: tuple[Started, Started], upstream: FakeUpstream, model: Model) -> None:
    one, two = pair
    model.is_well = False
    assert [ask(one, "flaky").status_code for _ in range(2)] == [500, 500]
    assert circuits(one) == ["open"]
    until(lambda: circuits(two) == ["open"], "the other one has heard of it", bound_s=5)
    asked = len(upstream.requests)
    refusal = ask(two, "flaky")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "circuit_open")
    assert "2 faults in a row" in refusal.json()["error"]["message"]
    assert len(upstream.requests) == asked, "it does not have to find out for itself"
    model.is_well = True
    until(lambda: ask(one, "flaky").status_code == 200, "a probe finds it well", bound_s=10)
    until(lambda: circuits(two) == [], "the other one closes without a call of its own", bound_s=5)


def counted(gateway: Started) -> float:
    text = requests.get(f"{gateway.root}/metrics", timeout=30).text
    return sum(float(value) for value in re.findall(r'^openai_compat_calls_total\{.*outcome="ok".*\} (\S+)$', text, re.M))


def test_either_tells_the_metrics_of_both_also_of_one_that_has_ended(pair: tuple[Started, Started]) -> None:
    one, two = pair
    for gateway, count in ((one, 3), (two, 2)):
        assert [ask(gateway).status_code for _ in range(count)] == [200] * count
    until(lambda: counted(one) == counted(two) == 5, "both tell of all", bound_s=10)
    text = requests.get(f"{two.root}/metrics", timeout=30).text
    bounds = [float(bound) for bound in re.findall(r'gen_ai_server_request_duration_seconds_bucket\{.*le="([^"]+)"', text)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == float("inf")
    two.process.terminate()
    two.process.wait(30)
    assert counted(one) == 5


# Calls in flight.

SHARED = {"idempotency-key": "the very same"}


def begin(gateway: Started) -> requests.Response:
    body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    return requests.post(f"{gateway.root}/v1/chat/completions", json=body, headers=SHARED, timeout=30, stream=True)


def rest(answer: requests.Response) -> str:
    return answer.content.decode()


def test_a_call_that_is_under_way_at_one_is_joined_at_the_other(
    pair: tuple[Started, Started], upstream: FakeUpstream, model: Model
) -> None:
    model.gate.clear()
    first = begin(pair[0])
    second = begin(pair[1])
    assert second.headers["x-compat-shared-with"] == first.headers["x-request-id"]
    assert second.headers["x-compat-upstream"] == "fake/their-model"
    model.gate.set()
    texts = [rest(first), rest(second)]
    for text in texts:
        assert text.count('"first "') == text.count('"last"') == text.count("[DONE]") == 1
    assert [line for line in texts[0].splitlines() if line.startswith("data")] == [
        line for line in texts[1].splitlines() if line.startswith("data")
    ]
    assert len(upstream.requests) == 1


def test_an_answer_of_which_too_much_was_said_already_is_not_joined(
    pair: tuple[Started, Started], upstream: FakeUpstream, model: Model
) -> None:
    """What was said is kept up to `single_flight.record_bytes`; the second client gets a call of its own."""
    model.gate.clear()
    long = answers.event(answers.chunk({"content": "x" * 50_000}))
    upstream.script(Answer(raw=(*model.head(), *[long] * 30, Stall()), keeps_alive=False), model)
    first = begin(pair[0])
    read = iter(first.iter_content(65536))
    for _ in range(20):
        next(read)
    model.gate.set()
    second = begin(pair[1])
    assert rest(second).endswith("data: [DONE]\n\n")
    assert "x-compat-shared-with" not in second.headers
    assert len(upstream.requests) == 2
    first.close()


def test_whole_answers_are_joined_as_well(pair: tuple[Started, Started], upstream: FakeUpstream) -> None:
    gate = threading.Event()

    def slow(request: Request) -> Answer:
        gate.wait(20)
        return answers.respond(request)

    upstream.default = slow
    calls = [gevent.spawn(ask, pair[0], headers=SHARED)]
    until(lambda: len(upstream.requests) == 1, "the first one is under way")
    calls.append(gevent.spawn(ask, pair[1], headers=SHARED))
    gevent.sleep(1)  # the second one is on its way through Redis, which nothing here can see
    gate.set()
    gevent.joinall(calls, timeout=30)
    first, second = (call.value for call in calls)
    assert first.json() == second.json()
    assert "x-compat-shared-with" in second.headers
    assert len(upstream.requests) == 1


def test_the_answer_goes_on_for_the_other_when_the_first_client_leaves(
    pair: tuple[Started, Started], upstream: FakeUpstream, model: Model
) -> None:
    model.gate.clear()
    first, second = begin(pair[0]), begin(pair[1])
    lines = second.iter_lines()
    first.close()
    beats = 0
    while beats < 10:  # two seconds, in which the leader has long noticed
        beats += next(lines).startswith(b": keep-alive")
    model.gate.set()
    assert b"data: [DONE]" in list(lines)
    assert (len(upstream.requests), upstream.abandoned) == (1, [])


def test_when_both_clients_have_left_the_upstream_is_let_go_of(pair: tuple[Started, Started], upstream: FakeUpstream, model: Model) -> None:
    model.gate.clear()
    first, second = begin(pair[0]), begin(pair[1])
    for answer in (first, second):
        answer.close()
    until(lambda: upstream.abandoned, "the upstream's work ends", bound_s=5)


def test_a_gateway_that_is_killed_leaves_its_followers_an_error_or_a_call_of_their_own(
    pair: tuple[Started, Started], upstream: FakeUpstream, model: Model
) -> None:
    model.gate.clear()
    _first, second = begin(pair[0]), begin(pair[1])
    pair[0].process.kill()
    text = rest(second)
    assert '"first "' in text
    assert "was lost in the middle of its answer" in text
    model.gate.set()
    third = begin(pair[1])
    assert "[DONE]" in rest(third)
    assert "x-compat-shared-with" not in third.headers


def test_a_follower_of_a_gateway_that_dies_before_its_first_word_calls_for_itself(
    pair: tuple[Started, Started], upstream: FakeUpstream, model: Model
) -> None:
    upstream.script(Answer(before_head=(Stall(),)), model)
    calls = [gevent.spawn(ask, pair[0], headers=SHARED)]
    until(lambda: len(upstream.requests) == 1, "the first one is under way")
    calls.append(gevent.spawn(ask, pair[1], headers=SHARED))
    gevent.sleep(1)  # see above
    pair[0].process.kill()
    calls[1].join(30)
    assert calls[1].value.status_code == 200
    assert "x-compat-shared-with" not in calls[1].value.headers
    with pytest.raises(requests.ConnectionError):
        calls[0].get()


def test_without_the_redis_each_goes_on_by_itself_and_says_so(
    pair: tuple[Started, Started], upstream: FakeUpstream, redis: RedisServer
) -> None:
    redis.stop()
    for gateway in pair:
        assert ask(gateway, headers=SHARED).status_code == 200
        until(lambda gateway=gateway: _fault(gateway), "it says so", bound_s=10)
        assert counted(gateway) >= 1
    redis.start()
    for gateway in pair:
        until(lambda gateway=gateway: not _fault(gateway), "it is well again", bound_s=20)


def _fault(gateway: Started) -> str:
    fault: str = requests.get(f"{gateway.root}/healthz", timeout=30).json()["commons"]["fault"]
    return fault
