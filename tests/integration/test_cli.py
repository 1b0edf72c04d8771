"""`python app.py` as a process: arguments, configuration, start, stop, exit codes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from compat import __version__
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, FakeUpstream, Request
from tests.unit.service.command_line import BOUND_S, CommandLine, Started

pytestmark = pytest.mark.slow

CANARY = "sk-canary-0123456789"
QUIET = "discovery.enabled = false\nembedded.enabled = false\n"


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    for started in line.running:
        started.close()


def answer(request: Request) -> Answer:
    return openai.json_answer({"data": [{"id": "their-model"}]}) if request.method == "GET" else openai.respond(request)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=answer) as running:
        yield running


def behind(upstream: FakeUpstream, top: str = "", key: str = CANARY) -> str:
    """A configuration whose every alias goes to `upstream`."""
    return (
        f"{QUIET}{top}\n[server]\nport = 0\nshutdown_s = 20\n[log]\nterminal = false\n"
        f'[upstreams.fake]\nkind = "openai"\nbase_url = "{upstream.url}"\napi_keys = ["{key}"]\nmodels = ["their-model"]\n'
        '[models."claude-4-sonnet"]\nroute = ["fake/their-model"]\n'
    )


def fails_to_start(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It ended with 2 and one line that holds `words`."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("openai-compat: ")
    for word in words:
        assert word in lines[0]


# Arguments.


def test_it_tells_its_version(cli: CommandLine) -> None:
    done = cli.run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"openai-compat {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--prot", "1"], ["--port", "http"], ["--port", "65536"], ["--port", "-1"]])
def test_a_wrong_argument_is_reported_in_one_line(cli: CommandLine, arguments: list[str]) -> None:
    fails_to_start(cli.call(*arguments), arguments[0], "See `app.py --help`.")


def test_a_new_key_is_shown_with_its_hash(cli: CommandLine) -> None:
    done = cli.run("--new-key")
    keys, hashes = re.findall(r"sk-compat-\S+", done.stdout), re.findall(r'hash = "sha256:([0-9a-f]{64})"', done.stdout)
    assert (done.returncode, len(keys)) == (0, 1)
    assert hashes == [hashlib.sha256(keys[0].encode()).hexdigest()]


# A start that fails.


def test_a_taken_port_is_told_in_one_line(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cli.configure(f"{QUIET}server.port = {port}\n")
        fails_to_start(cli.run(), f"127.0.0.1:{port}", "Address already in use", "--port")


def test_an_address_of_another_machine_is_told_in_one_line(cli: CommandLine) -> None:
    digest = "sha256:" + "0" * 64
    cli.configure(f'{QUIET}server.host = "192.0.2.1"\nkeys.me.hash = "{digest}"\n')
    fails_to_start(cli.run("--port", "0"), "192.0.2.1:0")


UPSTREAM = '[upstreams.x]\nkind = "openai"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ("'server.prot'", "did you mean 'port'?")),
        ('[server]\nport = "http"\n', ("'server.port'",)),
        ("[server\n", ("is not valid TOML",)),
        ('[upstreams.x]\nkind = "nobody"\n', ("'upstreams.x.kind'", "nobody", "anthropic")),
        (UPSTREAM + 'base_url = "api.example.test"\n', ("'upstreams.x.base_url'", "api.example.test")),
        (UPSTREAM + 'api_keys = ["sk canary"]\n', ("'upstreams.x.api_keys'",)),
        ('[models.mine]\nroute = ["x"]\n', ("'models.mine.route'", "upstream/model")),
        ('[keys.me]\nhash = "sk-canary"\n', ("'keys.me.hash'",)),
    ],
)
def test_a_bad_configuration_is_told_in_one_line_that_names_the_key(cli: CommandLine, text: str, words: tuple[str, ...]) -> None:
    path = cli.configure(QUIET + text, "mine.toml")
    done = cli.call("--config", path)
    fails_to_start(done, *words)
    assert "canary" not in done.stderr


def test_facts_of_a_model_that_do_not_fit_are_told_with_their_key(cli: CommandLine) -> None:
    cli.configure(QUIET + '[models.mine]\nfacts = { context = "much" }\n')
    fails_to_start(cli.run(), "models.mine.facts", "context")


@pytest.mark.parametrize("source", ["argument", "variable"])
def test_a_configuration_that_is_named_must_be_there(cli: CommandLine, source: str) -> None:
    path = str(cli.folder / "gone.toml")
    done = cli.call("--config", path) if source == "argument" else cli.call(OPENAI_COMPAT_CONFIG=path)
    fails_to_start(done, path, "No such file")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_not_let_in_without_keys(cli: CommandLine, host: str) -> None:
    cli.configure(QUIET)
    fails_to_start(cli.call("--host", host), "server.host", host, "--new-key")


@pytest.mark.parametrize("key", ["sk-\u2026", "sk canary"], ids=["an ellipsis", "a space"])
def test_a_key_of_the_environment_that_can_not_be_sent_is_told(cli: CommandLine, key: str) -> None:
    cli.configure(QUIET)
    fails_to_start(cli.call("--port", "0", "--check", MISTRAL_API_KEY=key, MISTRAL_BASE_URL="http://127.0.0.1:1"), "MISTRAL_API_KEY")


# The check.


def test_a_check_that_finds_no_fault_ends_with_0_and_shows_no_secret(cli: CommandLine, upstream: FakeUpstream) -> None:
    done = cli.run("--config", cli.configure(behind(upstream), "mine.toml"), "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "All is well."
    assert f"upstream   fake (openai) at {upstream.url}, keys: sk-...89" in done.stdout
    assert "ok, lists 1 models" in done.stdout
    assert "model      claude-4-sonnet -> fake/their-model" in done.stdout
    assert CANARY not in done.stdout
    assert [(request.method, request.path) for request in upstream.requests] == [("GET", "/v1/models")]


def test_keys_that_were_added_are_told_by_the_check_and_the_banner(cli: CommandLine, upstream: FakeUpstream) -> None:
    cli.configure(behind(upstream))
    assert "client keys: none (any key is accepted)" in cli.call("--check").stdout
    assert "API key  any value" in cli.start().banner
    assert cli.call("keys", "add", "laptop").returncode == 0
    assert "client keys: laptop\n" in cli.call("--check").stdout
    assert "API key  one of your client keys\n" in cli.start().banner
    assert cli.call("keys", "revoke", "laptop").returncode == 0
    assert "client keys: none left (every call is refused)" in cli.call("--check").stdout


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (openai.error_answer(401, "wrong key"), "wrong key"),
        (openai.error_answer(500, "oh no"), "FAULT fake: oh no"),
        (Answer((b"<html>Welcome</html>",), 200, (("content-type", "text/html"),)), "FAULT fake sent a model list"),
    ],
    ids=["the key is refused", "the upstream fails", "a web page"],
)
def test_a_check_that_finds_a_fault_ends_with_1(cli: CommandLine, upstream: FakeUpstream, given: Answer, words: str) -> None:
    upstream.script(given)
    cli.configure(behind(upstream))
    done = cli.call("--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "Something is wrong: see the lines marked FAULT."
    assert words in done.stdout
    assert CANARY not in done.stdout


def test_a_check_tells_of_open_files_and_of_a_redis_that_is_not_there(cli: CommandLine, upstream: FakeUpstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    cli.configure(f'storage.redis_url = "redis://:canary-password@127.0.0.1:{port}/0"\n' + behind(upstream))
    done = cli.call("--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"storage    FAULT the Redis of storage.redis_url can't be used: ConnectionError at 127.0.0.1:{port}\n" in done.stdout
    assert "files      " in done.stdout
    assert "canary" not in done.stdout


def test_a_key_that_the_upstream_quotes_is_not_shown(cli: CommandLine, upstream: FakeUpstream) -> None:
    upstream.script(openai.error_answer(401, f"Incorrect API key provided: {CANARY}"))
    cli.configure(behind(upstream))
    assert CANARY not in cli.call("--check").stdout


def test_a_check_of_an_embedded_model_that_is_not_there_ends_with_1(cli: CommandLine) -> None:
    cli.configure('discovery.enabled = false\n[embedded]\nmodel = "gone.gguf"\n')
    done = cli.call("--check")
    assert done.returncode == 1
    assert "FAULT the embedded model's file" in done.stdout
    assert "Something is wrong: see the lines marked FAULT." in done.stdout


def test_a_check_of_an_embedded_model_that_nobody_needs_is_no_fault(cli: CommandLine, upstream: FakeUpstream) -> None:
    cli.configure(behind(upstream).replace("embedded.enabled = false", 'embedded.model = "gone.gguf"'))
    done = cli.call("--check")
    assert (done.returncode, "gone.gguf" in done.stdout) == (0, True), done.stdout


def test_a_check_of_an_upstream_that_is_not_there_ends_with_1(cli: CommandLine) -> None:
    with FakeUpstream() as gone:
        cli.configure(behind(gone))
    done = cli.call("--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"FAULT fake can't be reached at {gone.url}: No connection to 127.0.0.1:{gone.port}: Connection refused." in done.stdout


def test_the_environment_lies_over_the_dot_env_file(cli: CommandLine) -> None:
    cli.configure(QUIET)
    cli.configure("MISTRAL_API_KEY=sk-from-the-file-xx\nMISTRAL_BASE_URL=http://127.0.0.1:1/file\n", ".env")
    done = cli.call("--check", MISTRAL_BASE_URL="http://127.0.0.1:1/environment")
    assert "mistral (mistral) at http://127.0.0.1:1/environment, keys: sk-...xx" in done.stdout


# Serving and stopping.


@pytest.fixture(scope="module")
def under_nohup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A gateway for tests that only ask it."""
    line = CommandLine(tmp_path_factory.mktemp("under_nohup"))
    with FakeUpstream(default=answer) as upstream:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does; it is inherited
        try:
            started = line.start("--config", line.configure(behind(upstream), "mine.toml"))
        finally:
            signal.signal(signal.SIGHUP, before)
        yield started
        started.close()


def test_the_banner_says_what_to_paste_into_kilo_code(under_nohup: Started) -> None:
    started = under_nohup
    assert started.banner.startswith(f"openai-compat {__version__}\n")
    assert f"URL      http://127.0.0.1:{started.port}/v1\n" in started.banner
    assert "API key  any value\n" in started.banner
    assert re.search(r"claude-4-sonnet +-> +fake/their-model\n", started.banner)
    kilo = json.loads(next(line for line in started.banner.splitlines() if "apiUrl" in line))
    assert kilo == {"apiUrl": f"{started.root}/v1/chat/completions", "apiKey": "sk-dummy-key", "model": "claude-4-sonnet"}
    body = {"model": kilo["model"], "messages": [{"role": "user", "content": "Hi"}]}
    got = requests.post(kilo["apiUrl"], json=body, headers={"authorization": f"Bearer {kilo['apiKey']}"}, timeout=BOUND_S)
    assert got.json()["choices"][0]["message"]["content"] == "Hello there."
    assert CANARY not in started.banner


def test_with_keys_other_machines_are_let_in_and_the_key_is_asked_for(cli: CommandLine, upstream: FakeUpstream) -> None:
    digest = hashlib.sha256(b"sk-compat-mine").hexdigest()
    started = cli.start("--host", "0.0.0.0", "--config", cli.configure(behind(upstream, f'keys.me.hash = "sha256:{digest}"')))
    assert "API key  one of your client keys\n" in started.banner
    statuses = [
        requests.get(f"http://127.0.0.1:{started.port}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=BOUND_S).status_code
        for key in ("sk-compat-mine", "sk-compat-other")
    ]
    assert statuses == [200, 401]


def test_a_python_without_the_packages_goes_on_with_the_one_in_dot_venv(cli: CommandLine) -> None:
    bare = [sys.executable, "-S", "app.py", "--version"]
    folder = cli.folder.resolve()
    done = subprocess.run(bare, cwd=cli.folder, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=BOUND_S, check=False)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith(f"openai-compat: {sys.executable} lacks flask, gevent, msgspec, dotenv. In {folder} run: python3 -m venv .venv")
    (folder / ".venv/bin").mkdir(parents=True)
    python = folder / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={cli.environment["PYTHONPATH"]} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(bare, cwd=cli.folder, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=BOUND_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"openai-compat {__version__}\n", "")


def test_under_nohup_a_closed_terminal_ends_nothing(under_nohup: Started) -> None:
    under_nohup.process.send_signal(signal.SIGHUP)
    assert requests.get(f"{under_nohup.root}/healthz", timeout=BOUND_S).json()["status"] == "ok"
    assert not under_nohup.refuses_connections()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_in_good_order(cli: CommandLine, upstream: FakeUpstream, number: signal.Signals) -> None:
    cli.configure(behind(upstream))
    inherited = signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may have it ignored
    try:
        started = cli.start()
    finally:
        signal.signal(number, inherited)
    assert requests.get(f"{started.root}/healthz", timeout=BOUND_S).json()["status"] == "ok"
    started.process.send_signal(number)
    code, said = started.end()
    assert code == 0
    assert "Traceback" not in said
    events = {line["event"]: line for line in started.log()}
    assert list(events) == ["gateway.started", "gateway.stopping", "gateway.stopped"]
    assert events["gateway.started"]["port"] == started.port
    assert events["gateway.stopped"]["ended_by_force"] == 0
    assert CANARY not in said + str(events)


class Stream:
    """An answer in two halves; the second is sent when `gate` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        events = [openai.event(chunk) for chunk in openai.text_chunks("Hello there.")]
        self._halves = b"".join(events[:2]), b"".join([*events[2:], openai.event("[DONE]")])

    def __iter__(self) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + self._halves[0]
        if self.gate.wait(BOUND_S):
            yield self._halves[1]


@contextlib.contextmanager
def streaming(cli: CommandLine, upstream: FakeUpstream, config: str) -> Iterator[tuple[Started, Stream, Iterator[bytes]]]:
    """A gateway whose client has read the first half of a stream."""
    stream = Stream()
    upstream.script(Answer(raw=stream, keeps_alive=False))
    cli.configure(config)
    started = cli.start()
    body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    try:
        with requests.post(f"{started.root}/v1/chat/completions", json=body, stream=True, timeout=BOUND_S) as got:
            pieces = got.iter_content(None)
            assert b"Hello" in next(pieces)
            yield started, stream, pieces
    finally:
        stream.gate.set()


def wait_until_it_drains(started: Started) -> None:
    """Its port is closed as soon as it stops to take calls."""
    while not started.refuses_connections():
        assert started.process.poll() is None


def test_sigterm_lets_a_running_stream_finish(cli: CommandLine, upstream: FakeUpstream) -> None:
    with streaming(cli, upstream, behind(upstream)) as (started, stream, pieces):
        started.process.send_signal(signal.SIGTERM)
        wait_until_it_drains(started)
        assert started.process.poll() is None
        stream.gate.set()
        rest = b"".join(pieces)
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b"there." in rest
    assert started.end()[0] == 0
    lines = {line["event"]: line for line in started.log()}
    assert lines["gateway.stopping"]["in_flight"] == 1
    assert lines["gateway.stopped"]["ended_by_force"] == 0
    assert lines["call"]["outcome"] == "ok"


def test_a_stream_that_lasts_too_long_is_ended_with_the_gateway(cli: CommandLine, upstream: FakeUpstream) -> None:
    config = behind(upstream).replace("shutdown_s = 20", "shutdown_s = 0.2")
    with streaming(cli, upstream, config) as (started, _, pieces):
        started.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(requests.RequestException):
            assert b"[DONE]" not in b"".join(pieces)
        assert started.end()[0] == 0
    lines = {line["event"]: line for line in started.log()}
    assert lines["gateway.stopped"]["ended_by_force"] == 1


def test_a_second_ctrl_c_does_not_wait(cli: CommandLine, upstream: FakeUpstream) -> None:
    with streaming(cli, upstream, behind(upstream)) as (started, _, _):
        started.process.send_signal(signal.SIGINT)
        wait_until_it_drains(started)
        started.process.send_signal(signal.SIGINT)
        assert started.end()[0] == -signal.SIGINT
