"""The pages in headless Chromium: copy buttons, the language switch, no script error, nothing from elsewhere, no script but our own.

It needs Playwright and Chromium, which the development requirements don't install: see `tests/kilo/browse.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import compat
from compat.setup.clients import clients
from tests.conftest import RunningGateway, to_upstream
from tests.fakes.openai_answers import respond
from tests.fakes.upstream import FakeUpstream

ROOT = Path(compat.__file__).parents[1]
HAS_CHROMIUM = bool(os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser"))
HAS_DRIVER = importlib.util.find_spec("playwright") is not None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.heavy,
    pytest.mark.skipif(not HAS_DRIVER, reason="Playwright is not installed (pip install playwright)"),
    pytest.mark.skipif(not HAS_CHROMIUM, reason="Chromium is not installed (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the browser saw of a gateway with one upstream."""
    folder = tmp_path_factory.mktemp("gateway")
    with FakeUpstream(default=respond) as upstream:
        gateway = RunningGateway(to_upstream(upstream), folder)
        command = [sys.executable, "-m", "tests.kilo.browse", gateway.root]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        gateway.close()
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


LANGUAGES = ["en", "zh"]
PAGES = ["/", "/setup"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_an_error_under_a_strict_policy(seen: Any, language: str, page: str) -> None:
    found = seen[language][page]
    assert (found["status"], found["errors"]) == (200, [])
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"):
        assert rule in found["policy"]
    assert "unsafe" not in found["policy"]


def test_nothing_is_loaded_from_elsewhere(seen: Any) -> None:
    assert seen["elsewhere"] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_copy_button_puts_its_text_on_the_clipboard(seen: Any, language: str) -> None:
    copied = seen[language]["/setup"]["copied"]
    assert len(copied) > len(clients())
    assert all(button["is_same"] and button["characters"] > 10 for button in copied)
    assert {(button["label"], button["then"]) for button in copied} == {("Copy", "Copied") if language == "en" else ("复制", "已复制")}


@pytest.mark.parametrize("page", PAGES)
def test_the_browsers_language_is_the_first_one_and_the_switch_changes_it(seen: Any, page: str) -> None:
    assert seen["en"]["switch"][page] == ["en", "zh-CN", "en"]
    assert seen["zh"]["switch"][page] == ["zh-CN", "en", "zh-CN"]
    assert (seen["en"]["/setup"]["heading"], seen["zh"]["/setup"]["heading"]) == ("Set up a client", "配置客户端")


def test_a_script_that_gets_into_the_page_does_not_run(seen: Any) -> None:
    assert [seen[language]["injected"] for language in LANGUAGES] == [False, False]
