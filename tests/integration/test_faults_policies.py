"""What calls have in common, from end to end: circuits, the retry budget, affinity, concurrency, answers that are shared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from compat.config.settings import merge
from tests.cases.faults import BEGUN, TEXT, healthy, opening, right, said, streamed
from tests.conftest import RunningGateway, to_upstream
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request, Sleep, Stall
from tests.integration.test_cancellation import Client, is_at_rest, wait_for
from tests.integration.test_faults import streamed_message

FAULT = Answer((b'{"error": {"message": "broken inside"}}',), 500, (("content-type", "application/json"),), "length")
BUSY = Answer((b'{"error": {"message": "too many"}}',), 429, (("content-type", "application/json"),), "length")
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def spare() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=healthy("openai")) as running:
        yield running


def with_spare(upstream: FakeUpstream, spare: FakeUpstream, **more: Any) -> dict[str, Any]:
    """Settings with a second upstream next on the route."""
    settings = merge(to_upstream(upstream, upstreams={"spare": {"kind": "openai", "base_url": spare.url}}), more)
    settings["models"]["claude-4-sonnet"]["route"] = ["fake/m", "spare/m"]
    return settings


def opened(gateway: RunningGateway, upstream: FakeUpstream, *, faults: int = 10) -> None:
    """Open the circuit."""
    upstream.script(FAULT)
    for _ in range(faults):
        assert gateway.chat().status_code == 500
    assert gateway.get("/healthz").json()["circuits"][0]["state"] == "open"


# Circuits.


@pytest.mark.slow
@both
def test_after_ten_faults_calls_are_answered_at_once_with_what_is_wrong(
    gateway: RunningGateway, upstream: FakeUpstream, stream: bool
) -> None:
    opened(gateway, upstream)
    for _ in range(10):
        answer = gateway.chat(stream=stream)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "circuit_open")
        assert "The circuit of fake for their-model is open" in error["message"]
        assert "broken inside" in error["message"]
        assert "next probe is in 15 s" in error["message"]
        assert answer.headers["retry-after"] == "15"
    assert len(upstream.requests) == 10
    assert min(record["duration_ms"] for record in gateway.calls()[-10:]) < 5
    assert gateway.calls()[-1]["attempts"] == 0


def test_a_circuit_is_visible_in_the_report_and_the_log(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    opened(gateway, upstream)
    [row] = gateway.get("/healthz").json()["circuits"]
    assert (row["upstream"], row["model"], row["state"], row["failures"]) == ("fake", "their-model", "open", 10)
    assert row["cause"] == "fake: broken inside"
    assert 10 < row["next_probe_s"] <= 15
    assert "canary" not in str(row)
    [line] = [line for line in gateway.log_lines() if line["event"] == "circuit.open"]
    assert line["circuit"].startswith("fake/their-model (key ")
    assert line["cause"] == "fake: broken inside"


@both
def test_with_another_deployment_an_open_circuit_is_passed_by(
    start_gateway: Any, upstream: FakeUpstream, spare: FakeUpstream, stream: bool
) -> None:
    gateway = start_gateway(with_spare(upstream, spare, retry={"attempts": 3, "tries_per_deployment": 1}))
    upstream.script(FAULT)
    for _ in range(10):
        assert gateway.chat(stream=stream).status_code == 200
    answer = gateway.chat(stream=stream)
    assert answer.headers["x-compat-upstream"] == "spare/m"
    assert answer.headers["x-compat-attempts"] == "1"
    assert len(upstream.requests) == 10


def test_a_circuit_that_opens_under_a_call_is_not_waited_for(start_gateway: Any, upstream: FakeUpstream, spare: FakeUpstream) -> None:
    """The fifth fault opens it: the same call goes on to the next one, without its second try."""
    upstream.script(FAULT)
    settings = with_spare(upstream, spare, circuit={"failures": 5}, retry={"attempts": 3, "first_wait_s": 0.001, "max_wait_s": 0.001})
    gateway = start_gateway(settings)
    for requests in (2, 4, 5):
        assert gateway.chat().headers["x-compat-upstream"] == "spare/m"
        assert len(upstream.requests) == requests


@both
def test_a_call_that_has_begun_waits_for_a_probe_where_there_is_nobody_else(
    start_gateway: Any, upstream: FakeUpstream, spare: FakeUpstream, stream: bool
) -> None:
    """New calls do not."""
    settings = with_spare(upstream, spare, circuit={"cooldown_s": 0.5, "failures": 1}, retry={"attempts": 3})
    gateway = start_gateway(merge(settings, {"models": {"spare": {"route": ["spare/m"]}}}))
    spare.script(FAULT, healthy("openai"))
    assert gateway.chat(model="spare").status_code == 500
    assert gateway.chat(model="spare").json()["error"]["code"] == "circuit_open"
    upstream.script(Answer((b"{}",), 404))
    answer = gateway.chat(stream=stream)
    assert (answer.status_code, answer.headers["x-compat-upstream"]) == (200, "spare/m")
    assert (len(upstream.requests), len(spare.requests)) == (1, 2)


def test_an_answer_that_broke_off_waits_for_a_probe_too(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, circuit={"cooldown_s": 0.5, "failures": 1}, retry={"attempts": 3}))
    upstream.script(streamed([*opening("openai"), *said("openai", BEGUN), Cut()]), healthy("openai"))
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 422, 429])
def test_a_refusal_opens_nothing(gateway: RunningGateway, upstream: FakeUpstream, status: int) -> None:
    upstream.script(Answer((b"{}",), status))
    for _ in range(8):
        assert gateway.chat().status_code == status
    assert len(upstream.requests) == 8
    assert gateway.get("/healthz").json()["circuits"] == []


def test_a_stream_that_is_cut_counts(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(streamed([*opening("openai"), *said("openai", BEGUN), Cut()]))
    for _ in range(10):
        assert "upstream_broken" in gateway.chat(stream=True).text
    assert gateway.chat(stream=True).json()["error"]["code"] == "circuit_open"


def test_one_call_probes_and_its_first_word_opens_the_way_for_all(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, circuit={"cooldown_s": 0.2}))
    opened(gateway, upstream)
    may_speak = threading.Event()

    def hesitates(_: Request) -> Answer:
        assert may_speak.wait(10)
        return streamed([*opening("openai"), *said("openai", TEXT), Stall()])

    upstream.script(hesitates)
    gevent.sleep(0.25)
    probe = Client(gateway)
    wait_for(lambda: len(upstream.requests) == 11)
    refused = gateway.chat(stream=True)
    assert refused.json()["error"]["code"] == "circuit_open"
    assert "A probe is under way" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "2"
    upstream.script(healthy("openai"))
    may_speak.set()
    assert b"200" in probe.sock.recv(65536)
    assert streamed_message(gateway.chat(stream=True).text)[0]["content"] == TEXT
    assert gateway.get("/healthz").json()["circuits"] == []
    probe.leave()
    wait_for(lambda: is_at_rest(gateway))


def test_a_probe_whose_client_leaves_lets_another_probe(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, circuit={"cooldown_s": 0.2}))
    opened(gateway, upstream)
    upstream.script(Answer(raw=(Stall(),)), healthy("openai"))
    gevent.sleep(0.25)
    probe = Client(gateway)
    wait_for(lambda: len(upstream.requests) == 11)
    probe.leave()
    wait_for(lambda: is_at_rest(gateway))
    assert gateway.chat().status_code == 200


def test_another_model_of_the_same_upstream_is_called_all_the_same(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream, models={"other": {"route": ["fake/other"]}}))
    opened(gateway, upstream)
    upstream.script(healthy("openai"))
    assert gateway.chat(model="other").status_code == 200
    assert gateway.chat().status_code == 503


def test_failover_goes_to_another_model_of_the_same_upstream_where_the_route_says_so(start_gateway: Any, upstream: FakeUpstream) -> None:
    settings = to_upstream(upstream, retry={"attempts": 3, "first_wait_s": 0.001, "max_wait_s": 0.001})
    settings["models"]["claude-4-sonnet"]["route"] = ["fake/one", "fake/two"]
    gateway = start_gateway(settings)

    def one_is_broken(request: Request) -> Answer:
        return FAULT if request.json["model"] == "one" else right("openai", is_stream=False)

    upstream.script(one_is_broken)
    assert gateway.chat().headers["x-compat-upstream"] == "fake/two"
    upstream.script(lambda request: Answer((b"{}",), 404) if request.json["model"] == "one" else right("openai", is_stream=False))
    assert gateway.chat().headers["x-compat-attempts"] == "2"


# The retry budget.


def test_retries_are_paid_for_by_calls(start_gateway: Any, upstream: FakeUpstream) -> None:
    """10 % of the calls of a minute and 3 more: 40 calls that all fail are asked 47 times, not 120."""
    upstream.script(BUSY)
    budget = {"budget_percent": 10, "budget_calls": 3}
    gateway = start_gateway(to_upstream(upstream, retry={"attempts": 3, "first_wait_s": 0.001, "max_wait_s": 0.001, **budget}))
    for _ in range(40):
        assert gateway.chat().status_code == 429
    assert len(upstream.requests) == 47
    assert gateway.get("/healthz").json()["retries"] == {"calls": 40, "retries": 7}


def test_failover_needs_no_budget(start_gateway: Any, upstream: FakeUpstream, spare: FakeUpstream) -> None:
    upstream.script(BUSY)
    retry = {"attempts": 3, "budget_percent": 0, "budget_calls": 0}
    gateway = start_gateway(with_spare(upstream, spare, retry=retry))
    for _ in range(5):
        assert gateway.chat().headers["x-compat-attempts"] == "2"


# Keys and affinity.


def keyed(upstream: FakeUpstream, *keys: str, **more: Any) -> dict[str, Any]:
    row = {"kind": "openai", "base_url": upstream.url, "api_keys": list(keys)}
    retry = {"attempts": 3, "first_wait_s": 0.001, "max_wait_s": 0.001}
    return merge({"upstreams": {"fake": row}, "models": {"claude-4-sonnet": {"route": ["fake/m"]}}, "retry": retry}, more)


def keys_used(upstream: FakeUpstream) -> list[str]:
    return [request.headers["authorization"].removeprefix("Bearer ") for request in upstream.requests]


def test_a_session_stays_with_its_key_however_its_messages_change(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(keyed(upstream, "key-a", "key-b", "key-c"))
    for session in range(12):
        for turn in range(3):
            headers = {"x-session-id": f"session {session}"}
            gateway.chat(messages=[{"role": "user", "content": f"{session} {turn}"}], headers=headers)
    used = keys_used(upstream)
    assert used[::3] == used[1::3] == used[2::3]
    assert set(used) == {"key-a", "key-b", "key-c"}


def test_a_conversation_stays_with_its_key_while_it_grows(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(keyed(upstream, "key-a", "key-b", "key-c"))
    for session in range(12):
        messages = [{"role": "system", "content": "You are."}, {"role": "user", "content": f"task {session}"}]
        for _ in range(3):
            gateway.chat(messages=messages)
            messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Go on."}]
    used = keys_used(upstream)
    assert used[::3] == used[1::3] == used[2::3]
    assert set(used) == {"key-a", "key-b", "key-c"}


@pytest.mark.parametrize("answer", [Answer((b"{}",), 401), Answer((b"{}",), 429), Answer((b"{}",), 402)], ids=["401", "429", "402"])
def test_a_key_that_is_refused_gives_way_to_the_next_and_the_session_stays_there(
    start_gateway: Any, upstream: FakeUpstream, answer: Answer
) -> None:
    gateway = start_gateway(keyed(upstream, "key-a", "key-b", retry={"tries_per_deployment": 1}))
    gateway.chat()
    [first] = keys_used(upstream)
    upstream.script(lambda request: answer if first in request.headers["authorization"] else right("openai", is_stream=False))
    for _ in range(3):
        assert gateway.chat().status_code == 200
    used = keys_used(upstream)
    assert used[1] == first
    assert used[2] != first
    assert used.count(first) == 2, "the session has moved"


def test_a_fault_of_the_upstream_is_not_tried_with_every_key(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(FAULT)
    gateway = start_gateway(keyed(upstream, "key-a", "key-b"))
    assert gateway.chat().status_code == 500
    assert len(set(keys_used(upstream))) == 1


def test_a_session_that_failed_over_stays_and_comes_back_by_priority(
    start_gateway: Any, upstream: FakeUpstream, spare: FakeUpstream
) -> None:
    settings = with_spare(upstream, spare, retry={"attempts": 3, "tries_per_deployment": 1})
    steps = [{"to": "fake/m", "priority": 1}, {"to": "spare/m", "priority": 1}]
    settings["models"]["claude-4-sonnet"]["route"] = steps
    gateway = start_gateway(settings)
    home = gateway.chat().headers["x-compat-upstream"]
    broken, other = (upstream, "spare/m") if home == "fake/m" else (spare, "fake/m")
    broken.script(FAULT)
    assert gateway.chat().headers["x-compat-upstream"] == other
    broken.script(healthy("openai"))
    for _ in range(3):
        assert gateway.chat().headers["x-compat-upstream"] == other


# Concurrency.


@pytest.mark.slow
def test_an_upstream_that_says_429_gets_fewer_calls_at_once(start_gateway: Any) -> None:
    """Six calls at once are one too many for it: the limit shrinks, and those who wait are answered in time."""
    running, most = [0], [0]

    def narrow(_: Request) -> Answer:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            gevent.sleep(0.02)
            return BUSY if running[0] > 5 else right("openai", is_stream=False)
        finally:
            running[0] -= 1

    with FakeUpstream(default=narrow) as upstream:
        retry = {"attempts": 30, "tries_per_deployment": 30, "budget_percent": 100, "budget_calls": 1000, "first_wait_s": 0.01}
        gateway = start_gateway(to_upstream(upstream, retry=retry))
        calls = [gevent.spawn(gateway.chat, messages=[{"role": "user", "content": str(number)}]) for number in range(60)]
        gevent.joinall(calls, timeout=30)
        assert [call.value.status_code for call in calls] == [200] * 60
        assert gateway.get("/healthz").json()["concurrency"]["fake"]["limit"] < 60
        assert is_at_rest(gateway)


def test_a_full_queue_says_so_and_is_bounded(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(Answer(raw=(Stall(),)))
    limits = {"first_limit": 2, "max_limit": 2, "queue_length": 3}
    gateway = start_gateway(to_upstream(upstream, concurrency=limits))
    clients = [Client(gateway, number) for number in range(5)]
    wait_for(lambda: gateway.gateway.policies.gates.report().get("fake") == {"limit": 2, "in_flight": 2, "waiting": 3})
    answer = gateway.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_busy")
    assert "fake has too many calls waiting: 2 calls are running, 3 are in the queue" in answer.json()["error"]["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    clients.append(Client(gateway, 9, authorization="Bearer another"))
    wait_for(lambda: len(gateway.calls()) == 2)
    assert gateway.calls()[1]["code"] == "upstream_busy", "the one who has most in the queue gives way"
    assert gateway.gateway.policies.gates.report()["fake"]["waiting"] == 3
    assert len(upstream.requests) == 2
    for client in clients:
        client.leave()
    wait_for(lambda: is_at_rest(gateway))


@pytest.mark.slow
def test_two_clients_at_one_upstream_get_near_equal_shares(start_gateway: Any) -> None:
    """One of them asks ten times as often."""
    served: list[str] = []

    def slowly(request: Request) -> Answer:
        served.append(request.json["messages"][0]["content"])
        gevent.sleep(0.01)
        return right("openai", is_stream=False)

    with FakeUpstream(default=slowly) as upstream:
        gateway = start_gateway(to_upstream(upstream, concurrency={"first_limit": 2, "max_limit": 2}))

        def ask(client: str) -> int:
            answer = gateway.chat(messages=[{"role": "user", "content": client}], headers={"authorization": f"Bearer {client}"})
            status: int = answer.status_code
            return status

        greedy = [gevent.spawn(ask, "greedy") for _ in range(100)]
        wait_for(lambda: len(served) >= 2)
        modest = [gevent.spawn(ask, "modest") for _ in range(10)]
        gevent.joinall([*greedy, *modest], timeout=30)
        assert {call.value for call in (*greedy, *modest)} == {200}
        first, last = served.index("modest"), len(served) - 1 - served[::-1].index("modest")
        assert last - first < 30, "ten calls of the modest one took as many turns of the greedy one, and a few more"


# Shared answers.


def slow_answer(request: Request) -> Answer:
    return streamed(
        [*opening("openai"), *said("openai", BEGUN), Sleep(0.2), *said("openai", TEXT[20:]), *right("openai", is_stream=True).steps[-3:]]
    )


def asked_together(gateway: RunningGateway, *headers: dict[str, str], **body: Any) -> list[Any]:
    calls = [gevent.spawn(gateway.chat, stream=True, headers=one, **body) for one in headers]
    gevent.joinall(calls, timeout=20, raise_error=True)
    return [call.value for call in calls]


def test_identical_calls_with_one_idempotency_key_share_one_upstream_call(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(slow_answer)
    answers = asked_together(gateway, *[{"idempotency-key": "k"}] * 5)
    assert {streamed_message(answer.text)[0]["content"] for answer in answers} == {TEXT}
    assert len({answer.text for answer in answers}) == 1
    assert len(upstream.requests) == 1
    assert sum("x-compat-shared-with" in answer.headers for answer in answers) == 4
    assert len(gateway.calls()) == 1
    assert sum(line["event"] == "call.shared" for line in gateway.log_lines()) == 4


def test_retries_of_an_sdk_share_as_well(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(slow_answer)
    asked_together(gateway, *[{"x-stainless-retry-count": "1"}] * 2)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "headers",
    [
        [{}, {}],
        [{"idempotency-key": "k"}, {"idempotency-key": "other"}],
        [{"idempotency-key": "k", "authorization": "Bearer one"}, {"idempotency-key": "k", "authorization": "Bearer two"}],
        [{"idempotency-key": "k", "x-compat-single-flight": "off"}] * 2,
        [{"x-stainless-retry-count": "0"}] * 2,
    ],
    ids=["no key", "two keys", "two clients", "switched off by a header", "no retry"],
)
def test_others_do_not_share(gateway: RunningGateway, upstream: FakeUpstream, headers: list[dict[str, str]]) -> None:
    upstream.script(slow_answer)
    for answer in asked_together(gateway, *headers):
        assert "x-compat-shared-with" not in answer.headers
    assert len(upstream.requests) == 2


def test_those_who_share_see_the_same_error(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    def fails(_: Request) -> Answer:
        gevent.sleep(0.1)
        return FAULT

    upstream.script(fails)
    answers = asked_together(gateway, *[{"idempotency-key": "k"}] * 3)
    assert [answer.status_code for answer in answers] == [500] * 3
    assert len(upstream.requests) == 1
    assert is_at_rest(gateway)
