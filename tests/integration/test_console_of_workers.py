"""The console on gunicorn with two workers: a sign-in holds on both, a page that is served by one shows the calls of both live."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
import requests

from tests.fakes.openai_answers import respond
from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import BOUND_S, ServiceFolder, behind, until
from tests.integration.test_gunicorn import Started, free_port
from tests.unit.service.command_line import CommandLine

pytestmark = pytest.mark.slow
CALLS = 12
CLOSE = {"connection": "close"}
"""A connection for each request, so that both workers get some."""


class Console:
    """A gateway with two workers, and a visitor who is signed in with `key`."""

    def __init__(self, folder: Path, upstream: FakeUpstream) -> None:
        self._folder = ServiceFolder(folder)
        port = free_port()
        self._folder.configure(behind(upstream, "workers = 2").replace("port = 0", f"port = {port}"))
        made = CommandLine(folder).run("keys", "add", "ada", "--console")
        found = re.search(r"sk-compat-\S+", made.stdout)
        assert found is not None, made.stderr
        self.key = found[0]
        self.started = Started(self._folder, [sys.executable, "-m", "gunicorn", "app:app"], port)
        self.root = self.started.root
        answer = requests.post(f"{self.root}/sign-in", data={"key": self.key}, headers=CLOSE, timeout=BOUND_S, allow_redirects=False)
        assert answer.status_code == 303
        self._cookies = answer.cookies

    def get(self, path: str, *, streams: bool = False) -> requests.Response:
        return requests.get(self.root + path, cookies=self._cookies, headers=CLOSE, timeout=BOUND_S, stream=streams)

    def call(self) -> str:
        """A call; its id."""
        body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}]}
        headers = {**CLOSE, "authorization": f"Bearer {self.key}"}
        answer = requests.post(f"{self.root}/v1/chat/completions", json=body, headers=headers, timeout=BOUND_S)
        assert answer.status_code == 200
        return answer.headers["x-request-id"]

    def call_until(self, is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            self.call()

    def close(self) -> None:
        self.started.close()
        self._folder.close()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    with FakeUpstream(default=respond) as upstream:
        console = Console(tmp_path, upstream)
        yield console
        console.close()


def test_workers_have_one_console(console: Console, tmp_path: Path) -> None:
    pages = [console.get("/") for _ in range(CALLS)]
    assert {page.status_code for page in pages} == {200}
    assert all("in the worker that answers" in page.text for page in pages)
    feed = console.get("/live/events?level=info", streams=True)
    seen: dict[str, str] = {}
    calling = gevent.spawn(console.call_until, lambda: len(seen) == 2)
    for line in feed.iter_lines(chunk_size=1):
        if line.startswith(b"data: ") and (event := json.loads(line[6:]))["event"] == "call":
            seen[event["id"].partition("-")[0]] = event["request_id"]
        if len(seen) == 2:
            break
    calling.get(timeout=BOUND_S)
    feed.close()
    shown = set(seen.values())
    until(lambda: shown <= {row["request_id"] for row in console.get("/calls.json").json()}, "the calls are written down")
    assert CommandLine(tmp_path).run("keys", "revoke", "ada").returncode == 0
    until(lambda: {console.get("/keys").status_code for _ in range(6)} == {401}, "both workers know that the key is revoked")
