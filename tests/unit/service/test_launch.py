"""What a generation may know, what a new watcher gets back, and how the configuration is copied."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import compat
from compat.config.settings import Settings, SettingsError
from compat.service.configuration import find_sources, worker_count
from compat.service.health import Health, ask_health
from compat.service.launch import (
    generation_environment,
    open_service_log,
    outer_environment,
    revive_watcher,
    service_log,
    was_touched_lately,
)
from compat.service.listener import open_listener
from compat.service.logs import Ending
from compat.service.state import RunFolder, identity_of, write_json
from compat.service_check import examine, keep_copies, main

ROOT = Path(compat.__file__).parents[1]


@pytest.mark.parametrize(
    "outer",
    [
        {"PATH": "/bin"},
        {"PATH": "/bin", "OPENAI_COMPAT_CONFIG": "/mine.toml", "OPENAI_COMPAT_WORKERS": "7", "ANTHROPIC_API_KEY": "sk-x"},
    ],
)
def test_a_new_watcher_gets_the_environment_of_the_one_before(outer: dict[str, str], tmp_path: Path) -> None:
    inner = generation_environment({**outer, "NOTIFY_SOCKET": "@x"}, tmp_path, 3, 9, 2)
    assert inner["OPENAI_COMPAT_CONFIG"] == str(tmp_path / "config.toml")
    assert (inner["OPENAI_COMPAT_GENERATION"], inner["OPENAI_COMPAT_LISTEN_FD"], inner["OPENAI_COMPAT_WORKERS"]) == ("3", "9", "2")
    assert "NOTIFY_SOCKET" not in inner, "only the watcher speaks to systemd"
    assert outer_environment({**inner, "SERVER_SOFTWARE": "gunicorn"}) == outer


def test_copies_are_private_and_nothing_is_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("x = 1\n")
    variables = keep_copies(tmp_path / "generation-1", tmp_path / "mine.toml", tmp_path / ".env")
    assert Path(variables["OPENAI_COMPAT_CONFIG"]).read_text() == "x = 1\n"
    assert Path(variables["OPENAI_COMPAT_ENV_FILE"]).read_text() == ""
    assert [stat.S_IMODE(Path(path).stat().st_mode) for path in variables.values()] == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "generation-1").stat().st_mode) == 0o700


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without what this machine has set; it is put back afterwards."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith("OPENAI_COMPAT"):
            monkeypatch.delenv(name)
    for name in ("OPENAI_COMPAT_CONFIG", "OPENAI_COMPAT_ENV_FILE"):
        monkeypatch.setenv(name, "")


def test_a_good_configuration_is_told_in_the_watchers_words(own_environment: None, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[server]\nport = 7\nworkers = 3\nshutdown_s = 5\n")
    (tmp_path / ".env").write_text("OPENAI_COMPAT_WORKERS=4\n")
    facts = examine(tmp_path, tmp_path / "copy")
    assert (facts.host, facts.port, facts.workers, facts.shutdown_s) == ("127.0.0.1", 7, 4, 5.0)
    assert facts.log_file == str(tmp_path / "logs/openai_compat.log")


@pytest.mark.parametrize(
    ("config", "env_file", "words"),
    [
        ("[server]\nprot = 1\n", "", "config.toml: unknown key 'server.prot'"),
        ('[upstreams.x]\nkind = "openai"\napi_keys = ["env:NOT_THERE"]\n', "", "the environment has no NOT_THERE"),
        ("", "OPENAI_COMPAT_WORKERS=none\n", "OPENAI_COMPAT_WORKERS must be a number"),
        ("", "OPENAI_COMPAT_CONFIG=/not/there.toml\n", "/not/there.toml: can't be read"),
    ],
)
def test_a_fault_names_the_users_own_file(
    own_environment: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: str,
    env_file: str,
    words: str,
) -> None:
    monkeypatch.delenv("OPENAI_COMPAT_CONFIG")
    (tmp_path / "config.toml").write_text(config)
    (tmp_path / ".env").write_text(env_file)
    assert main(tmp_path, tmp_path / "copy") == 1
    fault = json.loads(capsys.readouterr().out)["fault"]
    assert words in fault
    assert str(tmp_path / "copy") not in fault


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the service is gunicorn's, which Windows lacks")
def test_a_copy_that_can_not_be_written_names_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[server]\nport = 7\n")
    command = [sys.executable, "-B", "-m", "compat.service_check", str(tmp_path), str(tmp_path / "copy")]
    limited = ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command]  # as on a full disk: the system names no file
    done = subprocess.run(limited, cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["fault"] == f"{tmp_path}/copy: File too large."


def test_without_a_file_the_defaults_count(own_environment: None, tmp_path: Path) -> None:
    assert find_sources(tmp_path).config is None
    assert worker_count(Settings(), {}) == 2
    assert worker_count(Settings(), {"OPENAI_COMPAT_WORKERS": "5"}) == 5
    for wrong in ("0", "-1", "many", "²"):
        with pytest.raises(SettingsError):
            worker_count(Settings(), {"OPENAI_COMPAT_WORKERS": wrong})


@pytest.mark.parametrize(
    "service",
    [
        {},
        {"mode": "foreground", "state": "running"},
        {"mode": "background", "state": "stopping"},
        {"mode": "background", "state": "stopped"},
        {"mode": "background", "state": "failed"},
        {"mode": "background", "state": "running", "watcher": "alive"},
    ],
    ids=["none", "in the foreground", "stopping", "stopped", "failed", "alive"],
)
def test_a_watcher_is_revived_only_where_one_is_missed(service: dict[str, object], tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.make()
    if service.get("watcher"):
        own = identity_of(os.getpid())
        assert own is not None
        service = {**service, "watcher": own}
    write_json(run.service, service)
    assert not revive_watcher(run, tmp_path, 0)


@pytest.mark.parametrize(
    ("age_s", "is_lately"), [(0.5, True), (11, False), (-86_400, False)], ids=["now", "long ago", "the clock was put back"]
)
def test_another_attempt_is_waited_for_shortly_whatever_the_clock_does(tmp_path: Path, age_s: float, is_lately: bool) -> None:
    path = tmp_path / "revived"
    assert not was_touched_lately(path, 1_700_000_000.0)
    path.touch()
    os.utime(path, (1_700_000_000.0, 1_700_000_000.0))
    assert was_touched_lately(path, 1_700_000_000.0 + age_s) == is_lately


def test_health_of_nobody_is_told_in_words() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    assert ask_health(f"http://127.0.0.1:{port}").words == "does not answer (ConnectionRefusedError)"
    assert ask_health("").words == "no address yet"


def test_health_is_asked_for_with_the_key_of_the_run_folder_so_that_faults_are_told() -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_admitted = self.headers["authorization"] == "Bearer local"
            body = json.dumps({"status": "degraded"} | ({"causes": ["up: wrong key"]} if is_admitted else {})).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=lambda: [server.handle_request() for _ in range(2)])
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert ask_health(url) == Health(True, "degraded")
        assert ask_health(url, "local") == Health(True, "degraded, up: wrong key")
        thread.join()


def test_what_is_added_to_a_log_is_read_also_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("before\n")
    ending = Ending(path)
    assert ending.read() == []
    with path.open("a") as file:
        file.write("one\ntw")
    assert ending.read() == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert ending.read() == ["two"]
    path.rename(tmp_path / "x.log.1")
    assert ending.read() == []
    path.write_text("three\n")
    assert ending.read() == ["three"]


def test_the_service_log_is_its_owners_alone_also_one_that_was_not(tmp_path: Path) -> None:
    with open_service_log(tmp_path) as log:
        log.write(b"a\n")
    path = service_log(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with open_service_log(tmp_path) as log:
        log.write(b"b\n")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (0o600, b"a\nb\n")
