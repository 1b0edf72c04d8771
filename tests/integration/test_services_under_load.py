"""Restarts and kills while streams are open and calls are made: what nobody may notice, and what may break."""

from __future__ import annotations

import collections
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from compat.service.fleet import keepers, workers
from compat.service.state import FileLock, Identity, identity_of, is_alive, send_signal
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import QUIET, Load, ServiceFolder, Upstream, behind, generations_of, hold_streams, until

pytestmark = pytest.mark.slow

STREAMS = 200


@pytest.fixture
def answers() -> Upstream:
    return Upstream()


@pytest.fixture
def upstream(answers: Upstream) -> Iterator[FakeUpstream]:
    with FakeUpstream(default=answers) as running:
        yield running
        answers.gate.set()


@pytest.fixture
def folder(tmp_path: Path, upstream: FakeUpstream) -> Iterator[ServiceFolder]:
    made = ServiceFolder(tmp_path)
    made.configure(behind(upstream))
    made.do("start")
    yield made
    made.close()


@pytest.fixture
def load(folder: ServiceFolder) -> Iterator[list[Load]]:
    """Four clients that call all the time: two over kept connections, two over a new one for each call."""
    clients = [Load(folder.root, keeps=number < 2) for number in range(4)]
    for client in clients:
        client.start()
    yield clients
    for client in clients:
        client.stop()


def failures(load: list[Load]) -> list[str]:
    return [words for client in load for _, words in client.failed]


@pytest.mark.slow
def test_nobody_notices_two_restarts_with_200_streams_open(folder: ServiceFolder, answers: Upstream, load: list[Load]) -> None:
    streams = hold_streams(folder.port, STREAMS)
    for _ in range(2):
        report = folder.do()
        assert report["outcome"] == "restarted"
        assert report["health"] == "ok"
    rows = until(lambda: _when_told(folder, {1: "retiring", 3: "serving"}), "both generations are told")
    assert rows[1]["in_flight"] == STREAMS
    assert rows[1]["pid"] != rows[3]["pid"]
    answers.gate.set()
    for stream in streams:
        stream.join(60)
    assert collections.Counter(stream.outcome for stream in streams) == {"ok": STREAMS}
    until(lambda: set(generations_of(folder.root)) == {3}, "the old generations are gone")
    for client in load:
        client.stop()
    assert failures(load) == []
    assert min(client.good for client in load) > 50
    lost = [line for line in folder.log() if line["event"] == "call" and line["outcome"] != "ok"]
    assert lost == []
    made = STREAMS + sum(client.good for client in load)
    until(lambda: sum(1 for line in folder.log() if line["event"] == "call") == made, "each call has its line in the log")


@pytest.mark.slow
def test_what_is_killed_comes_back_by_itself(folder: ServiceFolder, answers: Upstream, load: list[Load]) -> None:
    """A worker takes its own calls with it; nothing else takes any."""
    streams = hold_streams(folder.port, 40)

    # A worker: its streams break, no others; its place is taken.
    row = until(lambda: _when_told(folder, {1: "serving"}), "the workers are told")[1]
    victim = row["workers"][0]
    other = row["workers"][1]["pid"]
    _kill(victim["pid"])
    status = until(lambda: _with_workers(folder, 2, without=victim["pid"]), "another worker serves")
    assert status["exit_code"] == 0
    broken = [stream for stream in streams if stream.ready()]
    assert all(stream.outcome != "ok" for stream in broken)
    assert len(broken) < len(streams)
    running = [stream for stream in streams if not stream.ready()]
    assert len(failures(load)) <= len(load), "more calls failed than were in flight"
    _forget(load)

    # gunicorn's master: its workers finish their streams, and others take their place.
    master = folder.generation()
    send_signal(master, signal.SIGKILL)
    until(lambda: folder.run_folder.read_service().current == 2, "another generation serves")
    until(lambda: _when_told(folder, {1: "retiring", 2: "serving"}), "the workers without a master retire")
    assert folder.do("status")["exit_code"] == 0
    assert not is_alive(master)
    assert is_alive(identity_of(other)), "the worker that holds the streams goes on"

    # The watcher: a worker starts another one on the same socket.
    watcher = folder.watcher()
    guard = FileLock(folder.run_folder.root / "guard.lock")
    assert until(guard.acquire, "no worker looks after the watcher"), "they would be quicker than the command"
    send_signal(watcher, signal.SIGKILL)
    status = folder.do("status", code=4)
    assert "The watcher is gone" in status["notes"][0]
    guard.release()
    until(lambda: folder.watcher() != watcher and is_alive(folder.watcher()), "another watcher")
    assert until(lambda: folder.command("status").returncode == 0, "the status is good again")
    assert folder.do("restart")["outcome"] == "restarted"

    answers.gate.set()
    for stream in running:
        stream.join(60)
    assert collections.Counter(stream.outcome for stream in running) == {"ok": len(running)}

    until(lambda: set(generations_of(folder.root)) == {3}, "only the last generation is left")
    for client in load:
        client.stop()
    assert failures(load) == [], folder.said()
    assert max(client.slowest_s for client in load) < 15
    _check_that_the_last_generation_needs_nothing_of_the_first(folder, master)


def _check_that_the_last_generation_needs_nothing_of_the_first(folder: ServiceFolder, master: Identity) -> None:
    """A worker is killed once more, when what the first generations had is gone with them."""
    victim = folder.do("status")["generations"][0]["workers"][0]["pid"]
    _kill(victim)
    until(lambda: _with_workers(folder, 2, without=victim), "another worker serves")
    assert _counted(requests.get(f"{folder.root}/metrics", timeout=30).text) > 0
    folder.do("stop")
    left = {path.name for path in folder.run_folder.root.glob("metrics-*")}
    assert left <= {f"metrics-{master.pid}"}, "a master that was killed leaves its own at most, until the next start"
    folder.do("start")
    assert f"metrics-{master.pid}" not in {path.name for path in folder.run_folder.root.glob("metrics-*")}


@pytest.mark.slow
@pytest.mark.heavy
@needs_redis
def test_a_redis_that_is_killed_fails_no_call_and_its_loss_is_told(folder: ServiceFolder, upstream: FakeUpstream) -> None:
    """Two workers with limits, a cache, circuits and metrics in it, and a restart in the middle of its absence."""
    with RedisServer() as redis:
        top = f'{QUIET}storage.redis_url = "{redis.url}"\ncache.enabled = true\nlimits.client = "1000000/day"\n'
        folder.configure(behind(upstream, top=top))
        folder.do("restart")
        load = [Load(folder.root, keeps=number < 2) for number in range(4)]
        for client in load:
            client.start()
        until(lambda: min(client.good for client in load) > 20, "calls are made")
        redis.stop()
        until(lambda: folder.do("status")["health"].startswith("degraded, "), "its loss is told")
        folder.do("restart")
        until(lambda: folder.do("status")["health"].startswith("degraded, "), "the new workers tell it as well")
        redis.start()
        until(lambda: all(folder.do("status")["health"] == "ok" for _ in range(6)), "both workers are well again")
        for client in load:
            client.stop()
        assert failures(load) == []
        assert max(client.slowest_s for client in load) < 15
        before = requests.get(f"{folder.root}/metrics", timeout=30).text
        folder.do("restart")
        after = requests.get(f"{folder.root}/metrics", timeout=30).text
        assert _counted(after) >= _counted(before) > 0, "counts outlive the workers that counted them"


def _counted(text: str) -> float:
    return sum(float(value) for value in re.findall(r'^openai_compat_calls_total\{.*outcome="ok".*\} (\S+)$', text, re.MULTILINE))


@pytest.mark.slow
def test_a_stop_and_a_reload_end_what_lasts_longer_than_their_bounds_with_a_word(folder: ServiceFolder, upstream: FakeUpstream) -> None:
    folder.configure(behind(upstream, "shutdown_s = 0.5\ndrain_s = 1\nworkers = 1"))
    folder.do("reload")
    replaced = hold_streams(folder.port, 2)
    folder.do("reload")
    for stream in replaced:
        stream.join(10)
    assert [stream.read[-400:] for stream in replaced if b"The gateway is shutting down" not in stream.read] == []
    streams = hold_streams(folder.port, 4)
    begun_s = time.monotonic()
    assert folder.do("stop")["outcome"] == "stopped"
    assert time.monotonic() - begun_s < 10
    for stream in streams:
        stream.join(10)
    assert [stream.read[-400:] for stream in streams if b"The gateway is shutting down" not in stream.read] == []
    assert workers(folder.run_folder) == []


@pytest.mark.slow
def test_a_stop_in_the_middle_of_a_recovery_is_a_stop(folder: ServiceFolder) -> None:
    """A worker that is only beginning does not hear gunicorn's signal; it looks for itself whether it is still wanted."""
    begun_s = time.monotonic()
    known = workers(folder.run_folder)[0].identity
    send_signal(known, signal.SIGKILL)
    until(lambda: "SIGKILL" in folder.said(), "gunicorn has noticed")
    assert folder.do("stop")["outcome"] == "stopped"
    assert time.monotonic() - begun_s < 20
    assert workers(folder.run_folder) == []
    assert folder.do("status", code=3)["outcome"] == "down"


@pytest.mark.slow
def test_a_stop_while_a_worker_starts_the_next_watcher_is_a_stop(folder: ServiceFolder) -> None:
    """Else that one would find nothing that runs, and start everything again."""
    send_signal(folder.watcher(), signal.SIGKILL)
    assert folder.do("stop")["outcome"] == "stopped"
    service = folder.run_folder.read_service()
    assert (service.state, is_alive(service.watcher), workers(folder.run_folder)) == ("stopped", False, [])


@pytest.mark.slow
@pytest.mark.embedded
def test_the_embedded_engine_outlives_restarts_and_comes_back_when_it_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the embedded engine has no wheel for this platform")
    folder = ServiceFolder(tmp_path)
    folder.configure('discovery.enabled = false\nembedded.model = "small"\nserver.port = 0\nlog.terminal = false\n')
    try:
        folder.do("start")
        engine = until(lambda: _ready_engine(folder), "the engine is ready")
        folder.do("restart")
        assert _ready_engine(folder) == engine, "a restart leaves the engine alone"
        _kill(engine["pid"])
        assert _asks(folder) == 200, "a call waits for the engine"
        fresh = until(lambda: _ready_engine(folder, without=engine["pid"]), "another engine")
        keeper = identity_of(_keeper(folder))
        assert keeper is not None
        send_signal(keeper, signal.SIGKILL)
        until(lambda: _ready_engine(folder, without=fresh["pid"]), "another keeper with another engine")
        assert _asks(folder) == 200
        assert len(folder.do("status")["engine"]) == 1, "one engine for both workers"
        assert folder.do("stop")["outcome"] == "stopped"
        assert not any(folder.run_folder.root.glob("engine-*.json"))
    finally:
        folder.close()


def _when_told(folder: ServiceFolder, states: dict[int, str]) -> dict[int, dict[str, Any]] | None:
    rows = generations_of(folder.root)
    is_told = all(number in rows and rows[number]["state"] == state for number, state in states.items())
    return rows if is_told and sum(row["in_flight"] for row in rows.values()) >= 1 else None


def _with_workers(folder: ServiceFolder, count: int, without: int) -> dict[str, Any] | None:
    report = folder.do("status")
    pids = [worker["pid"] for row in report["generations"] for worker in row["workers"] if worker["state"] == "serving"]
    return report if len(pids) == count and without not in pids else None


def _ready_engine(folder: ServiceFolder, without: int = 0) -> dict[str, Any] | None:
    rows = folder.do("status")["engine"]
    return rows[0] if rows and rows[0]["state"] == "ready" and rows[0]["pid"] != without else None


def _asks(folder: ServiceFolder) -> int:
    body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    return requests.post(f"{folder.root}/v1/chat/completions", json=body, timeout=60).status_code


def _keeper(folder: ServiceFolder) -> int:
    keeper = keepers(folder.run_folder)[0].keeper
    assert keeper is not None
    return keeper.pid


def _kill(pid: int) -> None:
    known = identity_of(pid)
    assert known is not None
    assert send_signal(known, signal.SIGKILL)


def _forget(load: list[Load]) -> None:
    for client in load:
        client.failed.clear()
