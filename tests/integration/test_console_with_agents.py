"""The real Kilo CLI and Claude Code, watched live in the console while they work, and their sessions there afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.claude_code.client import claude_binary
from tests.conftest import RunningGateway
from tests.fakes.upstream import FakeUpstream
from tests.integration import test_claude_code, test_kilo_cli
from tests.integration.test_console_in_a_browser import HAS_CHROMIUM, HAS_DRIVER, ROOT
from tests.kilo.client import kilo_binary

STEPS = 4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.heavy,
    pytest.mark.skipif(not (HAS_DRIVER and HAS_CHROMIUM), reason="Playwright or Chromium is not installed"),
]


def watched(gateway: RunningGateway, work: Callable[[], Any]) -> tuple[Any, Any]:
    """What `work` returns, and what the live page showed meanwhile."""
    command = [sys.executable, "-m", "tests.console.browse", gateway.root, "watch", str(STEPS)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as browser:
        assert browser.stdout is not None
        assert browser.stdout.readline() == "ready\n"
        done = work()
        seen = json.loads(browser.stdout.read().splitlines()[-1])
    return done, seen


def session_of(gateway: RunningGateway) -> str:
    """The page of the session with the most calls."""
    usage: Any = gateway.gateway.usage
    usage.flush()
    rows = gateway.get("/calls.json").json()
    names = [(row["key"], row["session"]) for row in rows if row["session"]]
    key, name = max(set(names), key=names.count)
    answer = gateway.get("/sessions/one", params={"key": key, "id": name})
    assert answer.status_code == 200
    return answer.text


@pytest.mark.skipif(kilo_binary() is None, reason="the Kilo CLI is not installed")
def test_kilo_is_watched_while_it_works(tmp_path: Path, start_gateway: Any) -> None:
    with FakeUpstream() as upstream:
        desk = test_kilo_cli.Desk(tmp_path, start_gateway, upstream, "anthropic.messages", {})
        desk.set_up()
        session, seen = watched(desk.gateway, desk.work)
        page = session_of(desk.gateway)
    assert (session.exit_code, desk.is_done()) == (0, True)
    assert seen["errors"] == []
    assert len([row for row in seen["rows"] if "ok" in row and "up/claude-sonnet-4-6" in row]) >= STEPS
    assert all(f"<code>{tool}</code>" in page for tool, _ in test_kilo_cli.WORK)


@pytest.mark.skipif(claude_binary() is None, reason="Claude Code is not installed")
def test_claude_code_is_watched_while_it_works(tmp_path: Path, start_gateway: Any) -> None:
    with FakeUpstream() as upstream:
        desk = test_claude_code.Desk(tmp_path, start_gateway, upstream)
        gateway, model = desk.gateway(), test_claude_code.MODELS[0]
        session, seen = watched(gateway, lambda: desk.work(gateway, model))
        page = session_of(gateway)
    assert (session.is_good, desk.copy) == (True, "beta\n")
    assert seen["errors"] == []
    assert len([row for row in seen["rows"] if "ok" in row and f"up/{model}" in row]) >= STEPS
    assert all(f"<code>{tool}</code>" in page for tool in test_claude_code.FIRST_TOOLS)
