"""The console in headless Chromium, with real calls behind it: every view in both languages and schemes, on a small screen and a large one;
calls by hand that another page watches live; signing in.

It needs Playwright, Chromium and axe-core, which the development requirements don't install: see `.ci/run`.
"""

from __future__ import annotations

import hashlib
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
from tests.console.browse import APIS, PATHS, SCHEMES, VARIANTS, ZONE
from tests.console.calls import EVIL, answer, running, stored
from tests.fakes.upstream import FakeUpstream

ROOT = Path(compat.__file__).parents[1]
AXE = ROOT / "node_modules/axe-core/axe.min.js"
HAS_CHROMIUM = bool(os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser"))
HAS_DRIVER = importlib.util.find_spec("playwright") is not None
NAMES = [f"{language} {scheme} {width}" for language, scheme, width in VARIANTS]
ADA, BOB = "sk-compat-" + "a" * 43, "sk-compat-" + "b" * 43

pytestmark = [
    pytest.mark.slow,
    pytest.mark.heavy,
    pytest.mark.skipif(not HAS_DRIVER, reason="Playwright is not installed (pip install playwright)"),
    pytest.mark.skipif(not HAS_CHROMIUM, reason="Chromium is not installed (apt-get install chromium)"),
]


def browse(root: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", "tests.console.browse", root, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the browser saw of every view."""
    with FakeUpstream(default=answer) as upstream:
        gateway = running(tmp_path_factory.mktemp("gateway"), upstream)
        seen = browse(gateway.root, "look", *(["--axe", str(AXE)] if AXE.exists() else []))
        gateway.close()
    return seen


@pytest.mark.parametrize("variant", NAMES)
def test_every_view_opens_without_an_error_and_fits_its_screen(views: Any, variant: str) -> None:
    assert len(views[variant]) == len(PATHS) + 1
    for path, found in views[variant].items():
        assert (found["status"], found["errors"]) == (200, []), path
        assert found["width"] <= int(variant.split()[2]), f"{path} scrolls sideways"
        assert found["language"] == {"en": "en", "zh": "zh-CN"}[variant[:2]], path


def test_the_schemes_differ_and_the_languages_too(views: Any) -> None:
    backs = {scheme: {views[name][path]["back"] for name in NAMES if scheme in name for path in PATHS} for scheme in SCHEMES}
    assert {scheme: len(found) for scheme, found in backs.items()} == {"light": 1, "dark": 1}
    assert backs["light"] != backs["dark"]
    english, chinese = ([views[name][path]["heading"] for path in PATHS] for name in ("en light 390", "zh light 1600"))
    assert [path for path, one, other in zip(PATHS, english, chinese, strict=True) if one == other] == []


@pytest.mark.parametrize("variant", NAMES)
def test_hostile_names_errors_and_answers_are_text(views: Any, variant: str) -> None:
    assert {path: found["not_text"] for path, found in views[variant].items() if found["not_text"]} == {}


def test_hostile_words_are_shown(views: Any) -> None:
    for path in ("/calls", "/sessions", "/cost", "/catalog"):
        assert EVIL[:12] in views["without a script"][path], path


@pytest.mark.parametrize("variant", NAMES)
def test_times_are_the_readers_own(views: Any, variant: str) -> None:
    for path, found in views[variant].items():
        assert found["in_utc"] == 0, path
        assert ZONE in found["zone"], path


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (npm install axe-core)")
@pytest.mark.parametrize("variant", NAMES)
def test_axe_finds_nothing(views: Any, variant: str) -> None:
    assert {path: found["axe"] for path, found in views[variant].items() if found["axe"]} == {}


def test_every_view_can_be_read_without_a_script(views: Any) -> None:
    plain = views["without a script"]
    assert "claude-4-sonnet" in plain["/calls"]
    assert "UTC" in plain["/calls"]
    assert "needs JavaScript" in plain["/live"]
    assert "needs JavaScript" in plain["/try"]
    assert all(len(text) > 100 for text in plain.values())


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the browser saw while it made calls."""
    with FakeUpstream(default=answer) as upstream:
        gateway = running(tmp_path_factory.mktemp("used"), upstream)
        seen = browse(gateway.root, "use")
        gateway.gateway.usage.flush()
        seen |= {"stored": stored(gateway), "abandoned": len(upstream.abandoned)}
        gateway.close()
    return seen


@pytest.mark.parametrize("api", APIS)
def test_a_call_by_hand_streams_through_each_door(used: Any, api: str) -> None:
    told = used["calls"][api]
    assert (told["answer"], told["state"]) == (f"Hello. {EVIL}", "done")
    assert told["events"].count("data: ") > 4
    assert "x-compat-upstream: fake/their-model" in told["headers"]
    assert '"claude-4-sonnet"' in told["request"]
    assert "$" in told["receipt"]
    assert api in told["details"]
    assert "input, read from the cache" in told["details"]


def test_calls_are_watched_live(used: Any) -> None:
    assert len(used["live"]) == len(APIS)
    assert all("claude-4-sonnet" in row and "fake/their-model" in row and "11 → 7" in row for row in used["live"])


def test_a_call_ends_when_its_page_is_left_or_it_is_stopped(used: Any) -> None:
    assert "cancelled" in used["left"]
    assert used["stored"].count("cancelled") == 2
    assert used["abandoned"] == 2


def test_an_upstreams_error_is_shown_as_text(used: Any) -> None:
    assert EVIL in used["refused"]
    assert used["not_text"] == [0, 0]
    assert [error for error in used["errors"] if "400" not in error] == []


def test_the_keyboard_gets_past_the_menu(used: Any) -> None:
    assert used["keyboard"] == ["skip", True, "content"]


def test_filters_hold_for_the_list_and_its_download(used: Any) -> None:
    filtered = used["filtered"]
    assert "outcome=error" in filtered["url"]
    assert set(filtered["badges"]) == {"400", "404"}
    assert len(filtered["csv"].splitlines()) - 1 == len(filtered["badges"]) == used["stored"].count("error")


def test_signing_in_and_out(tmp_path: Path) -> None:
    keys = {name: {"hash": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"} for name, key in (("ada", ADA), ("key-canary", BOB))}
    with FakeUpstream(default=answer) as upstream:
        gateway = running(tmp_path, upstream, {"authorization": f"Bearer {BOB}"}, keys={**keys, "ada": {**keys["ada"], "console": True}})
        seen = browse(gateway.root, "sign-in", ADA)
        gateway.close()
    assert seen["menu"] == 0
    assert "canary" not in seen["form"]
    assert seen["fault"] == "网关不接受这个密钥。"
    assert (seen["url"], seen["call"]) == ("/cost?by=key", "完成")
    [cookie] = [one for one in seen["cookies"] if one["name"] == "compat_console"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert (seen["script"], seen["errors"]) == ("", [])
