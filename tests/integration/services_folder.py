"""The service in a folder of its own: `restart_services.py` as a command, and clients that hold streams and make calls."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import requests

import compat
from compat.service.fleet import keepers, workers
from compat.service.state import Identity, RunFolder, is_alive, send_signal
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, FakeUpstream, Request

ROOT = Path(compat.__file__).parents[1]
BOUND_S = 60.0
QUIET = "discovery.enabled = false\nembedded.enabled = false\n"


def behind(upstream: FakeUpstream, server: str = "", top: str = QUIET) -> str:
    """A configuration whose alias goes to `upstream`; `server` are more lines of `[server]`."""
    return (
        f"{top}\n[server]\nport = 0\n{server}\n[log]\nterminal = false\n"
        f'[upstreams.fake]\nkind = "openai"\nbase_url = "{upstream.url}"\napi_keys = ["sk-canary-0123456789"]\nmodels = ["their-model"]\n'
        '[models."claude-4-sonnet"]\nroute = ["fake/their-model"]\n'
    )


class ServiceFolder:
    """The files beside `app.py`, and the commands. Whatever it started ends with `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("app.py", "gunicorn.conf.py", "restart_services.py"):
            shutil.copy(ROOT / name, folder)
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", str(folder)), "PYTHONPATH": str(ROOT)}
        self.run_folder = RunFolder(folder / "data" / "run")

    def configure(self, text: str, name: str = "config.toml") -> None:
        (self.folder / name).write_text(text)

    def command(self, *arguments: str, python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [python, "restart_services.py", *arguments]
        env = {**self.environment, **environment}
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=BOUND_S, check=False)

    def do(self, *arguments: str, code: int = 0, **environment: str) -> dict[str, Any]:
        """The report of a command that ends with `code`."""
        done = self.command(*arguments, "--json", **environment)
        assert done.returncode == code, (done.stdout, done.stderr, self.said())
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["exit_code"] == code
        return report

    @property
    def root(self) -> str:
        bound = self.run_folder.read_service().bound
        assert bound is not None
        host, port = bound
        return f"http://{host}:{port}"

    @property
    def port(self) -> int:
        return int(self.root.rpartition(":")[2])

    def generation(self, state: str = "serving") -> Identity:
        """The gunicorn of the generation in that state."""
        found = [row for row in self.run_folder.read_service().generations if row.state == state][-1].identity
        assert found is not None
        return found

    def watcher(self) -> Identity:
        found = self.run_folder.read_service().watcher
        assert found is not None
        return found

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "logs/openai_compat.log").read_text().splitlines()]

    def said(self) -> str:
        path = self.folder / "logs/service.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """End all that the folder's files tell of, by id and start. They are stopped first: one that lives on would bring others back."""
        service = self.run_folder.read_service()
        known = [service.watcher, *(row.identity for row in service.generations)]
        known += [worker.identity for worker in workers(self.run_folder)]
        known += [row.keeper for row in keepers(self.run_folder)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for identity in known:
                send_signal(identity, number)
        for identity in known:
            until(lambda identity=identity: not is_alive(identity), "it ends")


def until(is_so: Callable[[], Any], what: str, bound_s: float = BOUND_S) -> Any:
    """Wait for something that other processes do."""
    deadline_s = time.monotonic() + bound_s
    while not (value := is_so()):
        assert time.monotonic() < deadline_s, f"waited in vain until {what}"
        gevent.sleep(0.02)
    return value


class Upstream:
    """Answers whole calls at once, and streams with a chunk every so often until `gate` is set, when they come to their end."""

    def __init__(self, pace_s: float = 0.5) -> None:
        self.gate = threading.Event()
        self._pace_s = pace_s

    def __call__(self, request: Request) -> Answer:
        if request.method == "GET":
            return openai.json_answer({"data": [{"id": "their-model"}]})
        if not request.json.get("stream"):
            return openai.respond(request)
        return Answer(raw=self._stream(), keeps_alive=False)

    def _stream(self) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        yield openai.event(openai.chunk({"role": "assistant", "content": ""}))
        while not self.gate.wait(self._pace_s):
            yield openai.event(openai.chunk({"content": "tick "}))
        yield openai.event(openai.chunk({"content": "done"}))
        yield openai.event(openai.chunk({}, "stop")) + openai.event("[DONE]")


class Stream(gevent.Greenlet):
    """A client that reads one stream on a connection of its own; `outcome` is `ok` or what went wrong."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.has_begun = False
        self.outcome = "running"
        self.read = b""

    def _run(self) -> None:
        body = json.dumps({"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=BOUND_S) as sock:
                sock.sendall(head.encode() + body)
                while data := sock.recv(65536):
                    self.read += data
                    self.has_begun = self.has_begun or b"tick" in self.read
        except OSError as error:
            self.outcome = f"{type(error).__name__}: {error}"
            return
        is_whole = self.read.startswith(b"HTTP/1.1 200 ") and b'"done"' in self.read and b"data: [DONE]" in self.read
        self.outcome = "ok" if is_whole and self.read.endswith(b"0\r\n\r\n") else f"broken: {self.read[-300:]!r}"


class Load(gevent.Greenlet):
    """A client that makes one call after the other until `stop`, over a kept connection or each over a new one."""

    def __init__(self, root: str, *, keeps: bool) -> None:
        super().__init__()
        self._root = root
        self._keeps = keeps
        self._is_stopping = False
        self.good = 0
        self.failed: list[tuple[float, str]] = []
        self.slowest_s = 0.0

    def _run(self) -> None:
        session = requests.Session()
        session.trust_env = False
        while not self._is_stopping:
            begun_s = time.monotonic()
            try:
                self._call(session)
                self.good += 1
            except (requests.RequestException, ValueError, AssertionError, KeyError) as error:
                self.failed.append((begun_s, f"{type(error).__name__}: {error}"))
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)
            if not self._keeps:
                session.close()
            gevent.sleep(0.01)
        session.close()

    def _call(self, session: requests.Session) -> None:
        body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}]}
        answer = session.post(f"{self._root}/v1/chat/completions", json=body, timeout=BOUND_S)
        assert answer.status_code == 200, (answer.status_code, answer.text[:200])
        assert answer.json()["choices"][0]["message"]["content"] == "Hello there."

    def stop(self) -> None:
        self._is_stopping = True
        self.join(BOUND_S)


def hold_streams(port: int, count: int) -> list[Stream]:
    """So many streams that have begun."""
    streams = [Stream(port) for _ in range(count)]
    for stream in streams:
        stream.start()
    until(lambda: all(stream.has_begun or stream.ready() for stream in streams), "all streams begin")
    assert [stream.outcome for stream in streams] == ["running"] * count
    return streams


def generations_of(root: str) -> dict[int, dict[str, Any]]:
    """What `/healthz` says of the generations, by number."""
    report = requests.get(f"{root}/healthz", timeout=BOUND_S, headers={"connection": "close"}).json()
    return {row["generation"]: row for row in report["generations"]}
