"""What a gateway keeps fails under it: calls go on, it says so once in the log and in `/healthz`, and recovers by itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes.redis_server import RedisServer, needs_redis
from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import until
from tests.integration.test_usage import NAME, chat, configuration, rows
from tests.unit.service.command_line import CommandLine, Started

pytestmark = pytest.mark.slow


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    for started in line.running:
        started.close()


def health(gateway: Started) -> dict[str, Any]:
    report: dict[str, Any] = requests.get(f"{gateway.root}/healthz", timeout=30).json()
    return report


def is_degraded(gateway: Started, *parts: str) -> bool:
    report = health(gateway)
    return report["status"] == "degraded" and all(report[part]["fault"] for part in parts)


def is_well(gateway: Started) -> bool:
    return health(gateway)["status"] == "ok"


def goes_on(gateway: Started) -> bool:
    """Whether a call is answered, whole and streamed."""
    return chat(gateway.root).status_code == 200 and "[DONE]" in chat(gateway.root, stream=True).text


def recovers(gateway: Started) -> None:
    until(lambda: goes_on(gateway) and is_well(gateway), "it is well again")


def folder_of(gateway: Started) -> Path:
    return Path(f"/proc/{gateway.process.pid}/cwd")


def events(gateway: Started, *names: str) -> list[str]:
    """Those of its events, in their order, once the last of them is written. What a full disk cut short is passed over."""

    def written() -> list[str]:
        path = folder_of(gateway) / "logs/openai_compat.log"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [re.search(r'"event":"([^"]*)"', line) for line in lines]
        return [match[1] for match in found if match is not None and match[1] in names]

    seen: list[str] = until(lambda: (have := written())[-1:] == [names[-1]] and have, f"{names[-1]} is written")
    return seen


def ended(gateway: Started) -> str:
    """All it said on standard error; it ends well."""
    gateway.process.terminate()
    code, said = gateway.end()
    assert code == 0, said
    return said


def test_a_full_disk(cli: CommandLine, upstream: FakeUpstream) -> None:
    cli.configure(configuration(upstream))
    gateway = cli.start()
    assert goes_on(gateway)
    no_bound = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (1, no_bound[1]))  # no file of its may grow
    until(lambda: goes_on(gateway) and is_degraded(gateway, "log", "usage"), "it says so")
    assert all(goes_on(gateway) for _ in range(5))
    assert health(gateway)["log"]["dropped"] > 0
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, no_bound)
    recovers(gateway)
    calls = upstream.requests
    assert until(lambda: rows(cli.run("--usage").stdout)[-1][1] == str(len(calls)), "all that was used is written")
    assert events(gateway, "usage.recovered") == ["usage.recovered"]
    said = ended(gateway)
    assert said.count("can't be written") == 1, said
    assert "Calls continue." in said


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with hardly any room."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a file system of its own takes root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_file_system_without_room_for_usage(cli: CommandLine, upstream: FakeUpstream, tiny: Path) -> None:
    filler = tiny / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    cli.configure(configuration(upstream, f'usage.path = "{tiny}/usage.sqlite"'))
    gateway = cli.start()
    until(lambda: goes_on(gateway) and is_degraded(gateway, "usage"), "it says so")
    assert all(goes_on(gateway) for _ in range(3))
    filler.unlink()
    recovers(gateway)
    assert events(gateway, "usage.failed", "usage.recovered") == ["usage.failed", "usage.recovered"]
    calls = upstream.requests
    assert until(lambda: rows(cli.run("--usage").stdout)[-1][1] == str(len(calls)), "all that was used is written")
    ended(gateway)


@pytest.mark.parametrize("part", ["log", "usage", "vault"])
def test_a_folder_that_cant_be_written(cli: CommandLine, upstream: FakeUpstream, part: str) -> None:
    blocked = cli.folder / "blocked"
    blocked.write_text("a file where a folder should be")
    key = "log.file" if part == "log" else f"{part}.path"
    text = configuration(upstream).replace("[log]\n", f'[log]\nfile = "{blocked}/x"\n') if part == "log" else ""
    cli.configure(text or configuration(upstream, f'{key} = "{blocked}/x"'))
    gateway = cli.start()
    assert goes_on(gateway)
    until(lambda: is_degraded(gateway, part), "it says so")
    assert all(goes_on(gateway) for _ in range(3))
    blocked.unlink()
    recovers(gateway)
    if part != "log":
        assert events(gateway, f"{part}.failed", f"{part}.recovered") == [f"{part}.failed", f"{part}.recovered"]
    said = ended(gateway)
    if part == "log":
        assert said.count("can't be written") == 1
        assert '"event":"call"' in (blocked / "x").read_text()


@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_a_broken_file_of_usage(cli: CommandLine, upstream: FakeUpstream, when: str) -> None:
    cli.configure(configuration(upstream, "limits.budget.month_usd = 100"))
    path = cli.folder / "data/usage.sqlite"
    path.parent.mkdir()
    if when == "before the start":
        path.write_bytes(b"garbage " * 10_000)
    gateway = cli.start()
    assert goes_on(gateway)
    if when == "while it runs":
        until(lambda: rows(cli.run("--usage").stdout)[-1][1] == "2", "it is written")
        for name in ("usage.sqlite-wal", "usage.sqlite-shm", "usage.sqlite"):
            with (path.parent / name).open("r+b") as file:
                file.write(b"garbage " * 4096)
        until(lambda: goes_on(gateway) and (path.parent / "usage.sqlite.broken").exists(), "it is set aside")
    recovers(gateway)
    assert (path.parent / "usage.sqlite.broken").read_bytes().startswith(b"garbage ")
    assert events(gateway, "usage.failed", "usage.recovered") == ["usage.failed", "usage.recovered"]
    assert int(rows(cli.run("--usage").stdout)[-1][1]) >= 1
    ended(gateway)


@needs_redis
@pytest.mark.heavy
def test_redis_gone_and_back(cli: CommandLine, upstream: FakeUpstream) -> None:
    with RedisServer() as redis:
        cli.configure(configuration(upstream, f'storage.redis_url = "{redis.url}"\nlimits.client = "100000/day"\ncache.enabled = true'))
        gateway = cli.start()
        assert goes_on(gateway)
        until(lambda: chat(gateway.root).headers["x-cache"] == "hit", "the answer is shared")
        redis.stop()
        until(lambda: goes_on(gateway) and is_degraded(gateway, "limits", "answers"), "it says so")
        for _ in range(20):
            answer = chat(gateway.root)
            assert (answer.status_code, answer.headers["x-cache"]) == (200, "miss")
        redis.start()
        recovers(gateway)
        answer = until(lambda: (one := chat(gateway.root)).headers["x-cache"] == "hit" and one, "it is used again")
        assert int(answer.headers["x-ratelimit-remaining-requests"]) < 100_000
        for part in ("limits", "cache"):
            assert events(gateway, f"{part}.failed", f"{part}.recovered") == [f"{part}.failed", f"{part}.recovered"]
    ended(gateway)


@needs_redis
@pytest.mark.heavy
def test_a_gateway_starts_without_its_redis_and_budgets_hold_meanwhile(cli: CommandLine, upstream: FakeUpstream) -> None:
    redis = RedisServer()  # never started
    cli.configure(configuration(upstream, f'storage.redis_url = "{redis.url}"\nlimits.budget.day_usd = 0.01'))
    gateway = cli.start()
    seen = until(lambda: (status := chat(gateway.root, model=NAME).status_code) == 402 and status, "the budget is spent")
    assert seen == 402
    assert is_degraded(gateway, "limits")
    ended(gateway)


def test_a_kill_loses_at_most_a_second_of_the_log(cli: CommandLine, upstream: FakeUpstream) -> None:
    """A line is in the file within a second of its call's end, whole, whatever happens to the process then."""
    cli.configure(configuration(upstream))
    gateway = cli.start()
    path = folder_of(gateway).resolve() / "logs/openai_compat.log"
    for stream in (False, True):
        request_id = chat(gateway.root, stream=stream).headers["x-request-id"]
        until(lambda request_id=request_id: path.exists() and request_id in path.read_text(), "the line is in the file", 1.0)
    gateway.process.kill()
    gateway.process.wait(30)
    calls = [line for line in map(json.loads, path.read_text().splitlines()) if line["event"] == "call"]
    assert [line["outcome"] for line in calls] == ["ok", "ok"]


@needs_redis
def test_a_redis_that_hangs_costs_a_call_now_and_then_a_second_and_no_more(cli: CommandLine, upstream: FakeUpstream) -> None:
    """It takes connections and says nothing: each of those who ask it waits once, then leaves it alone for a while."""
    with RedisServer() as redis:
        cli.configure(configuration(upstream, f'[storage]\nredis_url = "{redis.url}"\n[limits]\nclient = "1000/hour"\n'))
        gateway = cli.start()
        assert chat(gateway.root).status_code == 200
        redis.hang()
        begun_s = time.monotonic()
        answers = [chat(gateway.root) for _ in range(20)]
        assert [answer.status_code for answer in answers] == [200] * 20
        assert time.monotonic() - begun_s < 5, "not half a second for each"
        assert is_degraded(gateway, "limits")
        redis.go_on()
        recovers(gateway)
    assert events(gateway, "limits.failed", "limits.recovered") == ["limits.failed", "limits.recovered"]
