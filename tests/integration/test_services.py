"""`restart_services.py` as a command: what it does, says and leaves alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from compat.service.state import identity_of, is_alive, write_json
from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import BOUND_S, QUIET, ServiceFolder, Upstream, behind, generations_of, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=Upstream()) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ServiceFolder]:
    made = ServiceFolder(tmp_path)
    yield made
    made.close()


def test_a_life_from_down_to_up_to_down(folder: ServiceFolder, upstream: FakeUpstream) -> None:
    """Without a word it starts, the second time it restarts; status and exit codes are right all along."""
    folder.configure(behind(upstream, "workers = 1"))
    assert folder.do("status", code=3)["outcome"] == "down"
    done = folder.command()
    assert done.returncode == 0, done.stdout + done.stderr
    root, watcher = folder.root, folder.watcher()
    assert done.stdout.startswith("openai-compat  started in ")
    assert f"URL      {root}/v1\n" in done.stdout
    assert "health   ok\n" in done.stdout
    assert f"pid      {watcher.pid}\n" in done.stdout

    restarted = folder.do()
    assert (restarted["outcome"], restarted["pid"], restarted["url"]) == ("restarted", watcher.pid, root)
    assert restarted["generations"][-1]["generation"] == 2
    assert folder.do("start")["outcome"] == "already up"
    assert folder.do("reload")["outcome"] == "reloaded"
    report = folder.do("status")
    assert (report["outcome"], report["health"], report["url"]) == ("up", "ok", root)

    log = folder.command("logs", "-n", "3").stdout
    assert "watcher" in log
    assert "worker.started" in log

    assert folder.do("stop")["outcome"] == "stopped"
    assert not is_alive(watcher)
    assert folder.do("stop")["outcome"] == "was down"
    assert folder.do("status", code=3)["outcome"] == "down"
    assert "canary" not in done.stdout + log + folder.said()
    assert not list(folder.run_folder.root.glob("generation-*")), "copies of configurations are left"


def test_a_start_that_fails_says_why(folder: ServiceFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        folder.configure(f"{QUIET}server.port = {port}\n")
        report = folder.do(code=1)
    hint = "Another program uses the port: stop it, or choose another port in config.toml."
    assert report["detail"] == f"can't listen on 127.0.0.1:{port}: Address already in use. {hint}"
    assert folder.do("status", code=3)["outcome"] == "down"
    (folder.folder / "app.py").write_text("import no_such_module\n")
    folder.configure(f"{QUIET}server.port = 0\n")
    words = folder.do(code=1)["detail"].splitlines()
    assert words[1:] == ["openai-compat: a worker can't start: ModuleNotFoundError: No module named 'no_such_module'"]
    assert folder.command("strat").returncode == 2


def test_a_stale_pid_file_is_told_and_its_process_left_alone(folder: ServiceFolder) -> None:
    """Its id may be another process's by now: one that is not ours is never signalled."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stranger = identity_of(other.pid)
        assert stranger is not None
        folder.run_folder.make()
        gone = replace(stranger, started="1")
        rows = [{"number": 7, "identity": gone, "state": "serving", "facts": {"shutdown_s": 1}}]
        write_json(folder.run_folder.service, {"watcher": gone, "state": "running", "generations": rows})
        report = folder.do("stop")
        assert report["outcome"] == "was down"
        assert report["notes"] == [f"Removed a stale pid file: process {other.pid} is gone, or is another one by now."]
        assert not folder.run_folder.service.exists()
        assert other.poll() is None
        other.communicate(b"\n")


@pytest.fixture(scope="module")
def up(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceFolder]:
    """A service that is up, for tests that leave it so."""
    made = ServiceFolder(tmp_path_factory.mktemp("up"))
    made.configure(behind(upstream, "workers = 1"))
    try:
        made.do("start")
        yield made
    finally:
        made.close()


def test_variables_of_the_calling_shell_count_at_a_reload(up: ServiceFolder, upstream: FakeUpstream) -> None:
    up.do("reload", MISTRAL_API_KEY="sk-from-the-shell-xx", MISTRAL_BASE_URL=upstream.url)
    report = requests.get(f"{up.root}/healthz", timeout=BOUND_S).json()
    assert [row["name"] for row in report["upstreams"]] == ["fake", "mistral"]
    assert requests.get(f"{up.root}/readyz", timeout=BOUND_S).json() == {"status": "ready"}
    assert not up.run_folder.request.exists(), "the wish, which holds the environment, is taken away"


def test_a_command_that_is_to_wait_for_nothing_does_not_wait(up: ServiceFolder) -> None:
    assert up.do("reload", "--timeout", "0", code=5)["detail"] == "it did not finish within 0 s"
    assert up.do("reload")["outcome"] == "reloaded"


def test_a_broken_configuration_leaves_the_service_as_it_was(up: ServiceFolder) -> None:
    """Also when a worker has to be started again meanwhile: a generation has a configuration of its own."""
    root = up.root
    current = up.run_folder.read_service().current
    good = (up.folder / "config.toml").read_text()
    up.configure("[server]\nprot = 1\n")
    fault = f"{up.folder}/config.toml: unknown key 'server.prot'; did you mean 'port'?"
    known_health = {"ok", f"degraded, configuration: {fault}"}  # a worker has looked at the file already, or it has not
    for command in ("reload", "restart"):
        report = up.do(command, code=5)
        assert report["detail"] == fault
        assert report["health"] in known_health
    before = generations_of(root)[current]["workers"][0]["pid"]
    known = identity_of(before)
    assert known is not None
    os.kill(before, signal.SIGKILL)

    def workers() -> list[int]:
        rows = up.do("status")["generations"]
        return [worker["pid"] for row in rows if row["generation"] == current for worker in row["workers"]]

    until(lambda: workers() not in ([], [before]), "a new worker")
    os.kill(up.generation().pid, signal.SIGKILL)
    until(lambda: up.run_folder.read_service().current == current + 1, "the watcher starts another generation")
    assert up.do("status")["health"] in known_health
    up.configure(good)
    assert up.do("reload")["outcome"] == "reloaded"


def test_a_wish_that_can_not_be_written_leaves_the_service_as_it_was(up: ServiceFolder) -> None:
    """As on a full disk."""
    up.run_folder.request.mkdir()
    report = up.do("reload", code=5)
    assert report["outcome"] == "failed: the service goes on as it was"
    assert "request.json" in report["detail"]
    up.run_folder.request.rmdir()
    assert up.do("reload")["outcome"] == "reloaded"


def test_a_removed_log_folder_is_made_again_by_the_workers_that_run(up: ServiceFolder) -> None:
    path = up.folder / "logs/openai_compat.log"
    call(up)
    until(lambda: path.exists() and '"call"' in path.read_text(), "the worker writes its log")
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    call(up)
    until(path.exists, "the call log is there again", bound_s=3)


def test_a_new_port_is_taken_without_a_gap_and_the_service_log_is_made_again(up: ServiceFolder, upstream: FakeUpstream) -> None:
    (up.folder / "logs/service.log").unlink(missing_ok=True)
    old = up.port
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    up.configure(behind(upstream, "workers = 1").replace("port = 0", f"port = {port}"))
    assert up.do("reload")["url"] == f"http://127.0.0.1:{port}"
    until(lambda: _refuses(old), "the old port is closed")
    assert (up.folder / "logs/service.log").exists()


def test_a_new_port_whose_workers_fail_leaves_the_service_at_the_one_before(up: ServiceFolder, upstream: FakeUpstream) -> None:
    config, program = up.folder / "config.toml", up.folder / "app.py"
    good, app, root = config.read_text(), program.read_text(), up.root
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    up.configure(behind(upstream, "workers = 1").replace("port = 0", f"port = {port}"))
    program.write_text("import no_such_module\n")
    report = up.do("reload", code=5)
    assert "no_such_module" in report["detail"]
    assert report["url"] == root
    assert not report["health"].startswith("does not answer")
    assert _refuses(port), "nobody would take what comes there"
    program.write_text(app)
    up.configure(good)
    report = up.do("reload")
    assert (report["outcome"], report["url"]) == ("reloaded", root)


def test_a_python_without_the_packages_finds_the_one_in_dot_venv(folder: ServiceFolder) -> None:
    bare = Path(sys.base_prefix) / "bin" / "python3"
    done = folder.command("status", "--json", python=str(bare), PYTHONPATH="")
    if done.returncode != 1:
        pytest.skip("the Python that this environment was made from has the packages")
    assert " lacks " in done.stderr
    assert "python3 -m venv .venv" in done.stderr
    (folder.folder / ".venv/bin").mkdir(parents=True)
    python = folder.folder / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder.environment["PYTHONPATH"]} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = folder.command("status", "--json", python=str(bare), PYTHONPATH="")
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (3, "down")


def call(folder: ServiceFolder) -> None:
    body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}]}
    assert requests.post(f"{folder.root}/v1/chat/completions", json=body, timeout=BOUND_S).status_code == 200


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False
