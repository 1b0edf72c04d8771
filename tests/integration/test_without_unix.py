"""`python app.py` where there is nothing of Unix, and no gunicorn: the way to run the gateway on Windows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import Upstream, behind
from tests.unit.service.command_line import CommandLine, Started

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[1] / "unit/engine/windows_program.py"
BODY = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    answers = Upstream(0.1)
    answers.gate.set()
    with FakeUpstream(default=answers) as running:
        yield running


def test_it_serves_whole_and_streamed_logs_rotates_and_ends_in_good_order(tmp_path: Path, upstream: FakeUpstream) -> None:
    line = CommandLine(tmp_path)
    line.configure(
        behind(upstream, top="embedded.enabled = false\ndiscovery.enabled = false\n").replace("[log]", "[log]\nmax_bytes = 1500")
    )
    started = Started([sys.executable, str(PROGRAM)], tmp_path, line.environment)
    try:
        for _ in range(5):
            assert requests.post(f"{started.root}/v1/chat/completions", json=BODY, timeout=30).status_code == 200
        streamed = requests.post(f"{started.root}/v1/chat/completions", json={**BODY, "stream": True}, timeout=30)
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert requests.get(f"{started.root}/metrics", timeout=30).status_code == 200
        assert requests.get(f"{started.root}/healthz", timeout=30).json()["status"] == "ok"
        started.process.send_signal(signal.SIGINT)
        code, said = started.end()
    finally:
        started.close()
    assert (code, "Traceback" in said) == (0, False), said
    logs = sorted((tmp_path / "logs").iterdir())
    assert len(logs) > 1, "it was rotated"
    lines = [line for path in logs for line in path.read_bytes().split(b"\n") if line]
    assert sum(json.loads(line)["event"] == "call" for line in lines) == 6


@pytest.mark.parametrize(
    "arguments", [["--check"], ["setup", "kilo", "--print"], ["doctor"], ["keys", "add", "laptop"], ["--usage"]], ids=" ".join
)
def test_its_commands_work(tmp_path: Path, upstream: FakeUpstream, arguments: list[str]) -> None:
    line = CommandLine(tmp_path)
    line.configure(behind(upstream))
    command = [sys.executable, str(PROGRAM), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=line.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
