"""One child process: what it is given, what is heard of it, and that it is gone when it is to be gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import compat
from compat.engine.child import Child, child_environment, exit_reason

PROGRAM = "tests.unit.engine.child_program"
ROOT = Path(compat.__file__).parents[1]
BOUND_S = 20


@pytest.fixture
def start() -> Iterator[Any]:
    running: list[Child] = []

    def start_one(deed: str, *arguments: str, environment: Mapping[str, str] | None = None, **rest: Any) -> Child:
        running.append(Child(PROGRAM, [deed, *arguments], environment or child_environment(os.environ), **rest))
        return running[-1]

    yield start_one
    for child in running:
        child.stop(0)


def all_of(child: Child) -> list[dict[str, Any]]:
    found = []
    while (message := child.read(BOUND_S)) is not None:
        found.append(message)
    return found


# What it is given.


def test_a_child_gets_its_arguments_its_folder_and_its_first_line(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    child = start("tell", "--flag", first_line={"key": "canary", "text": "é\n"})
    said = child.read(BOUND_S)
    assert said["arguments"] == ["tell", "--flag"]
    assert json.loads(said["first"]) == {"key": "canary", "text": "é\n"}
    assert Path(said["folder"]) == ROOT


def test_a_child_knows_nothing_of_the_gateways_environment_that_it_does_not_need(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:canary@proxy.test")
    monkeypatch.setenv("XDG_CACHE_HOME", "kept")
    child = start("tell", first_line={})
    environment = child.read(BOUND_S)["environment"]
    assert environment["XDG_CACHE_HOME"] == "kept"
    assert environment["PATH"] == os.environ["PATH"]
    assert "canary" not in str(environment)


def test_an_environment_that_is_given_is_all_that_a_child_gets(start: Any) -> None:
    child = start("tell", environment={"PATH": os.environ["PATH"], "ONLY": "this"}, first_line={})
    assert set(child.read(BOUND_S)["environment"]) - {"LC_CTYPE"} == {"PATH", "ONLY"}


FULL = {
    "PATH": "/bin",
    "HOME": "/home/x",
    "OPENAI_API_KEY": "canary",
    "ANTHROPIC_API_KEY": "canary",
    "AWS_SECRET_ACCESS_KEY": "canary",
    "https_proxy": "http://proxy.test",
    "NO_PROXY": "x",
    "SSL_CERT_FILE": "ca.pem",
    "PIP_INDEX_URL": "https://index.test",
    "PYTHONPATH": "lib",
    "PYTHONSTARTUP": "canary",
    "LD_PRELOAD": "canary",
    "OPENAI_COMPAT_PARENT": "canary",
}


@pytest.mark.parametrize(
    ("extra", "with_network", "more"),
    [
        (None, False, {}),
        ({"OMP_WAIT_POLICY": "passive"}, False, {"OMP_WAIT_POLICY": "passive"}),
        ({"PATH": "/mine"}, False, {"PATH": "/mine"}),
        (None, True, {name: FULL[name] for name in ("https_proxy", "NO_PROXY", "SSL_CERT_FILE", "PIP_INDEX_URL")}),
    ],
    ids=["offline", "with an extra", "an extra wins", "with the network"],
)
def test_what_a_child_may_know_is_a_short_list(extra: dict[str, str] | None, with_network: bool, more: dict[str, str]) -> None:
    always = {"PATH": "/bin", "HOME": "/home/x", "PYTHONPATH": "lib", "PYTHONUNBUFFERED": "1", "OPENAI_COMPAT_PARENT": str(os.getpid())}
    assert child_environment(FULL, extra, with_network=with_network) == {**always, **more}


# What is heard of it.


def test_only_json_objects_of_a_line_each_are_heard(start: Any) -> None:
    assert all_of(start("garble")) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_the_end_of_output_is_none(start: Any) -> None:
    child = start("complain")
    assert child.read(BOUND_S) is None
    assert child.wait() == 3


def test_the_last_lines_of_standard_error_are_kept(start: Any) -> None:
    child = start("complain")
    child.wait()
    assert child.tail == (*(f"line {number}" for number in range(11, 30)), "the end \ufffd")


def test_a_child_that_says_nothing_in_time_is_a_time_out(start: Any) -> None:
    child = start("wait")
    assert child.read(BOUND_S) == {"ready": True}
    with pytest.raises(TimeoutError):
        child.read(0.01)


def test_a_child_never_waits_for_its_reader(start: Any) -> None:
    child = start("flood")
    assert child.wait() == 0
    assert [message["n"] for message in all_of(child)] == list(range(5000))


def test_a_first_line_to_a_child_that_died_is_no_error(start: Any) -> None:
    child = start("no_such_deed", first_line={"filler": "x" * 1_000_000})
    assert child.wait() == 1
    assert "no_such_deed" in child.tail[-1]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-15, "ended by SIGTERM"),
        (-11, "ended by SIGSEGV"),
        (-9, "ended by SIGKILL (out of memory?)"),
        (-250, "ended by signal 250"),
    ],
)
def test_an_exit_code_has_words(code: int, words: str) -> None:
    assert exit_reason(code) == words


@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT", "SIGTERM"])
def test_the_signal_that_ended_a_child_is_its_code(start: Any, name: str) -> None:
    assert start("die", name).wait() == -getattr(signal, name)


# Its end.


def test_a_child_is_gone_when_stop_returns(start: Any) -> None:
    child = start("wait")
    child.read(BOUND_S)
    child.stop(BOUND_S)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    assert child.wait() == -signal.SIGTERM
    assert child.read(BOUND_S) is None


def test_a_child_that_defies_sigterm_is_killed(start: Any) -> None:
    child = start("defy")
    child.read(BOUND_S)
    begun_s = time.monotonic()
    child.stop(0.1)
    assert time.monotonic() - begun_s < 5
    assert child.wait() == -signal.SIGKILL


def test_a_child_can_be_stopped_twice_and_after_its_end(start: Any) -> None:
    child = start("complain")
    child.wait()
    child.stop()
    child.stop()
    assert child.wait() == 3


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(BOUND_S)
        yield server


def accepted(listener: socket.socket) -> socket.socket:
    """The connection of a child that follows; it ends when the child does."""
    sock, _ = listener.accept()
    sock.settimeout(BOUND_S)
    assert sock.recv(4) == b"here"
    return sock


@pytest.mark.parametrize(
    "deed",
    ["follow", pytest.param("deaf_follow", marks=pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's"))],
)
def test_a_child_ends_when_its_parent_is_killed(start: Any, listener: socket.socket, deed: str) -> None:
    parent = start("lead", deed, str(listener.getsockname()[1]))
    with accepted(listener) as sock:
        assert parent.read(BOUND_S) == {"child": {"ready": True}}
        os.kill(parent.pid, signal.SIGKILL)
        assert sock.recv(1) == b""


def test_a_child_ends_when_its_standard_input_does(listener: socket.socket) -> None:
    command = [sys.executable, "-m", PROGRAM, "follow", str(listener.getsockname()[1])]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process, accepted(listener) as sock:
        assert process.stdin is not None
        process.stdin.close()
        assert sock.recv(1) == b""
        assert process.wait(BOUND_S) == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of standard input tells")
def test_a_child_whose_parent_is_gone_already_leaves_at_once(listener: socket.socket) -> None:
    command = [sys.executable, "-m", PROGRAM, "follow", str(listener.getsockname()[1])]
    environment = {**child_environment(os.environ), "OPENAI_COMPAT_PARENT": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOUND_S, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
