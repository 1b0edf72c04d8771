"""A changed configuration takes effect on each way to run the gateway, while answers flow."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from compat.service.fleet import workers
from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import BOUND_S, ServiceFolder, Upstream, behind, hold_streams, until
from tests.integration.test_gunicorn import Started, free_port

pytestmark = pytest.mark.slow


@dataclass
class Site:
    """A gateway with two upstreams of which the configuration names one."""

    folder: ServiceFolder
    root: str
    port: int
    model: Upstream
    first: FakeUpstream
    second: FakeUpstream

    def configure(self, upstream: FakeUpstream, more: str = "") -> None:
        self.folder.configure(behind(upstream, "workers = 2").replace("port = 0", f"port = {self.port}") + more)

    def reports(self) -> list[dict[str, Any]]:
        """What `/healthz` says of the configuration, at each of the workers that serve."""
        found: dict[int, dict[str, Any]] = {}

        def ask() -> bool:
            answer = requests.get(f"{self.root}/healthz", timeout=BOUND_S, headers={"connection": "close"}).json()
            found[answer.get("pid", 0)] = answer["configuration"]
            serving = [worker["pid"] for row in answer.get("generations", ()) for worker in row["workers"] if worker["state"] == "serving"]
            return set(serving or [0]) <= set(found)

        until(ask, "each worker has had a say")
        return list(found.values())

    def reported(self) -> list[str]:
        return [row["event"] for row in self.folder.log() if row["event"].startswith("configuration.")]

    def call(self) -> int:
        body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"connection": "close"}
        return requests.post(f"{self.root}/v1/chat/completions", json=body, timeout=BOUND_S, headers=headers).status_code


@pytest.fixture(params=["python app.py", "gunicorn app:app", "restart_services.py"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    model, folder, started = Upstream(), ServiceFolder(tmp_path), None
    with FakeUpstream(default=model) as first, FakeUpstream(default=model) as second:
        made = Site(folder, "", free_port(), model, first, second)
        made.configure(first)
        try:
            if request.param == "restart_services.py":
                folder.do("start")
                made.root = folder.root
            else:
                command = ["-m", "gunicorn", "app:app"] if "gunicorn" in request.param else ["app.py"]
                started = Started(folder, [sys.executable, *command], made.port)
                made.root = started.root
            count = 1 if request.param == "python app.py" else 2
            until(lambda: len(made.reports()) == count, "every worker serves, none reads its first configuration later")
            yield made
        finally:
            model.gate.set()
            if started is not None:
                started.close()
            folder.close()


def test_new_calls_follow_and_streams_in_flight_end_as_they_began(site: Site) -> None:
    streams = hold_streams(site.port, 4)
    site.configure(site.second)
    until(lambda: all(one["changes"] == 1 for one in site.reports()), "every worker has followed")
    before = len(site.first.requests)
    for _ in range(8):
        assert site.call() == 200
    assert len(site.first.requests) == before, "nobody asks the old upstream any more"
    assert len(site.second.requests) >= 8

    site.folder.configure("[server\n")
    until(lambda: all("is not valid TOML" in one["fault"] for one in site.reports()), "every worker refuses it")
    assert site.call() == 200, "the configuration before it goes on"

    site.configure(site.second, "[models.another]\nroute = ['fake/their-model']\n")
    until(lambda: all((one["changes"], one["fault"]) == (2, "") for one in site.reports()), "every worker has followed")
    site.model.gate.set()
    for stream in streams:
        stream.join(BOUND_S)
    assert [stream.outcome for stream in streams] == ["ok"] * 4
    until(lambda: len(site.reported()) >= 3, "the log is written")
    assert site.reported() == ["configuration.changed", "configuration.failed", "configuration.changed"], "one of the workers reports"


def test_a_worker_that_is_started_again_reads_what_its_siblings_have_read(tmp_path: Path) -> None:
    folder = ServiceFolder(tmp_path)
    with FakeUpstream(default=Upstream()) as first, FakeUpstream(default=Upstream()) as second:
        site = Site(folder, "", free_port(), Upstream(), first, second)
        site.configure(first)
        try:
            folder.do("start")
            site.root = folder.root
            site.configure(second)
            until(lambda: all(one["changes"] == 1 for one in site.reports()), "every worker has followed")
            folder.configure("[server\n")
            until(lambda: all(one["fault"] for one in site.reports()), "every worker refuses it")
            killed = {worker.identity.pid for worker in workers(folder.run_folder)}
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            until(lambda: len({w.identity.pid for w in workers(folder.run_folder)} - killed) == 2, "there are new ones")
            asked = len(first.requests)
            assert [site.call() for _ in range(4)] == [200] * 4
            assert len(first.requests) == asked
            until(lambda: all(one["fault"] for one in site.reports()), "they see that the file is wrong")
        finally:
            folder.close()
