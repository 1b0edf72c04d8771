"""The gateway on gunicorn: the suite of SDK tests on each way to run it, and what `gunicorn app:app` does by itself."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from compat.service.fleet import workers
from tests.fakes import openai_answers as answers
from tests.fakes.upstream import FakeUpstream, Sleep
from tests.integration import test_openai_sdk as sdk
from tests.integration.services_folder import BOUND_S, ServiceFolder, Upstream, behind, hold_streams, until

pytestmark = pytest.mark.slow


class Started:
    """A command in the folder that serves at `root`, with all its words in a file."""

    def __init__(self, folder: ServiceFolder, command: list[str], port: int) -> None:
        self._path = folder.folder / "said"
        self.root = f"http://127.0.0.1:{port}"
        with self._path.open("wb") as file:
            self.process = subprocess.Popen(command, cwd=folder.folder, env=folder.environment, stdout=file, stderr=file)
        until(self._serves, "it serves")

    def said(self) -> str:
        return self._path.read_text()

    def _serves(self) -> bool:
        assert self.process.poll() is None, self.said()
        try:
            return requests.get(f"{self.root}/healthz", timeout=BOUND_S, headers={"connection": "close"}).status_code == 200
        except requests.ConnectionError:
            return False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def gunicorn(folder: ServiceFolder, upstream: FakeUpstream, server: str = "") -> Started:
    port = free_port()
    folder.configure(behind(upstream, server).replace("port = 0", f"port = {port}"))
    return Started(folder, [sys.executable, "-m", "gunicorn", "app:app"], port)


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=answers.respond) as running:
        yield running


@pytest.fixture
def upstream(shared_upstream: FakeUpstream) -> FakeUpstream:
    shared_upstream.requests.clear()
    shared_upstream.script()
    return shared_upstream


@pytest.fixture(scope="module", params=["python app.py", "gunicorn app:app", "restart_services.py"])
def served(request: pytest.FixtureRequest, shared_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gateway that is run in that way."""
    folder = ServiceFolder(tmp_path_factory.mktemp("served"))
    started: Started | None = None
    base = behind(shared_upstream) + (
        f'[retry]\nattempts = 1\n[upstreams.two]\nkind = "openai"\nbase_url = "{shared_upstream.url}"\napi_keys = ["sk-canary-9876543"]\n'
        '[models.counted]\nroute = ["two/their-model"]\n'
    )
    try:
        if request.param == "restart_services.py":
            folder.configure(base)
            folder.do("start")
            yield folder.root
        else:
            port = free_port()
            folder.configure(base.replace("port = 0", f"port = {port}"))
            command = ["-m", "gunicorn", "app:app"] if "gunicorn" in request.param else ["app.py"]
            started = Started(folder, [sys.executable, *command], port)
            yield started.root
    finally:
        if started is not None:
            started.close()
        folder.close()


class TestTheSdkSuite(sdk.TestInFrontOfAScriptedUpstream):
    """Every test of the suite, on each way to run the gateway."""

    @pytest.fixture
    def client(self, served: str, upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=f"{served}/v1", api_key="sk-dummy-key", max_retries=0, timeout=60) as client:
            yield client


class TestTheWire:
    """What is the same on each way to run the gateway, besides the API."""

    @pytest.mark.parametrize(
        "sent", [b"GARBAGE\r\n\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: five\r\n\r\n"], ids=["garbage", "length"]
    )
    def test_malformed_requests_are_answered_in_openais_shape(self, served: str, sent: bytes) -> None:
        with socket.create_connection(("127.0.0.1", _port(served)), timeout=BOUND_S) as sock, sock.makefile("rb") as reader:
            sock.sendall(sent)
            head, _, body = reader.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"

    def test_a_small_answer_never_waits_for_an_acknowledgement(self, served: str, upstream: FakeUpstream) -> None:
        """Without TCP_NODELAY each would take 40 ms."""
        with requests.Session() as session:
            took_s = []
            for _ in range(20):
                begun_s = time.monotonic()
                assert session.get(f"{served}/readyz", timeout=BOUND_S).status_code == 200
                took_s.append(time.monotonic() - begun_s)
        assert sorted(took_s)[10] < 0.03

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_client_that_hangs_up_is_noticed_at_once(self, served: str, upstream: FakeUpstream, stream: bool) -> None:
        upstream.script(answers.sse_answer(Sleep(30)) if stream else answers.Answer((Sleep(30), b"{}")))
        abandoned = len(upstream.abandoned)
        body = json.dumps({"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", "host: localhost", "content-type: application/json", f"content-length: {len(body)}"]
        with socket.create_connection(("127.0.0.1", _port(served)), timeout=BOUND_S) as sock:
            sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            until(lambda: upstream.requests, "the upstream is called")
        until(lambda: len(upstream.abandoned) > abandoned, "the upstream is let go of", bound_s=5)

    def test_websockets_are_served_and_refused_by_their_words(self, served: str, upstream: FakeUpstream) -> None:
        with opened(served) as client:
            client.send(json.dumps({"type": "response.create", "model": "claude-4-sonnet", "input": "Hi", "generate": False}))
            events = [json.loads(client.recv(timeout=BOUND_S))["type"] for _ in range(2)]
            assert events == ["response.created", "response.completed"]
            client.send("{")
            assert json.loads(client.recv(timeout=BOUND_S))["status"] == 400

    def test_whichever_worker_is_asked_for_metrics_tells_the_calls_of_all(self, served: str, upstream: FakeUpstream) -> None:
        body = {"model": "counted", "messages": [{"role": "user", "content": "Hi"}]}  # which no other test asks for
        for _ in range(20):  # each on a connection of its own, so that both workers are met
            assert requests.post(f"{served}/v1/chat/completions", json=body, timeout=BOUND_S).status_code == 200
        told = [requests.get(f"{served}/metrics", timeout=BOUND_S).text for _ in range(6)]
        for text in told:
            lines = [line for line in text.splitlines() if line.startswith("openai_compat_calls_total{")]
            counts = [line.split()[-1] for line in lines if 'upstream="two"' in line and 'outcome="ok"' in line]
            assert sum(map(float, counts)) == 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ServiceFolder]:
    made = ServiceFolder(tmp_path)
    yield made
    made.close()


def test_a_reload_by_sighup_keeps_streams_and_refuses_a_broken_configuration(folder: ServiceFolder) -> None:
    """gunicorn alone would end the whole service over a typing error."""
    upstream_answers = Upstream(0.2)
    with FakeUpstream(default=upstream_answers) as upstream:
        started = gunicorn(folder, upstream, "workers = 1")
        try:
            streams = hold_streams(_port(started.root), 5)
            good = (folder.folder / "config.toml").read_text()
            folder.configure("[server]\nprot = 1\n")
            started.process.send_signal(signal.SIGHUP)
            until(lambda: "did you mean 'port'?" in started.said(), "it says what is wrong")
            folder.configure(good)
            started.process.send_signal(signal.SIGHUP)
            rows = until(lambda: _generations(started.root, 2), "the new worker is told beside the old one")
            assert not list(folder.run_folder.root.glob("check-*")), "copies of the configuration, which may hold keys, are left"
            assert [(row["generation"], row["state"], row["in_flight"]) for row in rows] == [(0, "retiring", 5), (1, "serving", 0)]
            upstream_answers.gate.set()
            for stream in streams:
                stream.join(30)
            assert [stream.outcome for stream in streams] == ["ok"] * 5
            until(lambda: len(_generations(started.root, 1) or ()) == 1, "the old worker is gone")
        finally:
            upstream_answers.gate.set()
            started.close()
    assert not list(folder.run_folder.root.glob("gunicorn-*.json"))


def test_sigterm_lets_a_stream_finish_and_then_all_is_gone(folder: ServiceFolder) -> None:
    upstream_answers = Upstream(0.2)
    with FakeUpstream(default=upstream_answers) as upstream:
        started = gunicorn(folder, upstream, "workers = 1")
        try:
            streams = hold_streams(_port(started.root), 1)
            started.process.terminate()
            until(lambda: [worker.state for worker in workers(folder.run_folder)] == ["stopping"], "it stops")
            upstream_answers.gate.set()
            streams[0].join(30)
            assert streams[0].outcome == "ok"
            assert started.process.wait(BOUND_S) == 0
        finally:
            upstream_answers.gate.set()
            started.close()


def test_a_websocket_that_is_idle_holds_no_worker_up(folder: ServiceFolder) -> None:
    with FakeUpstream(default=answers.respond) as upstream:
        started = gunicorn(folder, upstream, "workers = 1")
        try:
            with opened(started.root) as client:
                started.process.terminate()
                with pytest.raises(ConnectionClosed):
                    client.recv(timeout=BOUND_S)
                assert client.close_code == 1001
            assert started.process.wait(BOUND_S) == 0
        finally:
            started.close()


def test_a_start_with_a_broken_configuration_ends_with_one_line(folder: ServiceFolder) -> None:
    folder.configure("[server]\nprot = 1\n")
    command = [sys.executable, "-m", "gunicorn", "app:app"]
    done = subprocess.run(command, cwd=folder.folder, env=folder.environment, capture_output=True, text=True, timeout=BOUND_S, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].endswith("config.toml: unknown key 'server.prot'; did you mean 'port'?")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["-m", "gunicorn", "app:app"], ["app.py"]], ids=["gunicorn", "python app.py"])
def test_more_connections_than_files_wait_for_their_turn(folder: ServiceFolder, arguments: list[str]) -> None:
    """With a low limit of open files fewer connections are taken; the others are served later, not dropped."""
    import resource

    with FakeUpstream(default=answers.respond) as upstream:
        port = free_port()
        folder.configure(behind(upstream, "workers = 1").replace("port = 0", f"port = {port}"))
        command = [sys.executable, *arguments]
        code = f"import resource, os; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); os.execv({sys.executable!r}, {command!r})"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 300, "this test itself needs files"
        started = Started(folder, [sys.executable, "-c", code], port)
        try:
            idle = [socket.create_connection(("127.0.0.1", port), timeout=BOUND_S) for _ in range(220)]
            with socket.create_connection(("127.0.0.1", port), timeout=BOUND_S) as waiting:
                waiting.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                for held in idle:
                    held.close()
                assert waiting.recv(100).startswith(b"HTTP/1.1 200 ")
            assert "Too many open files" not in started.said()
        finally:
            started.close()


def opened(root: str) -> ClientConnection:
    return connect(f"{root.replace('http', 'ws')}/v1/responses", open_timeout=BOUND_S)


def _port(root: str) -> int:
    return int(root.rpartition(":")[2])


def _generations(root: str, count: int) -> list[dict[str, Any]] | None:
    rows: list[dict[str, Any]] = requests.get(f"{root}/healthz", timeout=BOUND_S, headers={"connection": "close"}).json()["generations"]
    return rows if len(rows) == count and (count == 1 or rows[0]["state"] == "retiring") else None
