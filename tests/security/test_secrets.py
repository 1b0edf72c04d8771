"""Promise 6: a canary in every place where a secret can be, sought in every place where something comes out."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import compat.calls.attempt
from compat.accounting.keys import ClientKeys, new_key
from compat.check import masked
from compat.config.settings import load_settings
from compat.endpoints.openapi import openapi_document
from compat.errors import UpstreamUnreachable
from compat.upstream.client import Secret
from compat.upstream.pool import origin_of
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, FakeUpstream
from tests.integration.services_folder import ServiceFolder, behind
from tests.integration.test_gunicorn import Started as GunicornStarted
from tests.integration.test_gunicorn import free_port
from tests.unit.service.command_line import CommandLine

LITERAL = "sk-literal-canary-00001"
SECOND = "sk-second-canary-000002"
OF_ENVIRONMENT = "sk-environment-canary-3"
OF_HEADER = "header-canary-00000004"
OF_HEADER_VARIABLE = "variable-canary-0000005"
SERVICE = "sk-service-canary-00006"
CLIENT = "sk-clients-canary-00007"
PROXY = "proxy-canary-000000008"
REDIS = "redis-canary-000000009"
CANARIES = (LITERAL, SECOND, OF_ENVIRONMENT, OF_HEADER, OF_HEADER_VARIABLE, SERVICE, CLIENT, PROXY, REDIS)
ENVIRONMENT = {
    "OUR_KEY": OF_ENVIRONMENT,
    "OUR_TOKEN": OF_HEADER_VARIABLE,
    "DEEPSEEK_API_KEY": SERVICE,
    "DEEPSEEK_BASE_URL": "http://127.0.0.1:9/v1",
}
PROMPT = "PROMPT-CANARY"
CALL = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": PROMPT}]}


def leaks(text: str | bytes) -> list[str]:
    """The canaries in it."""
    shown = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return [canary for canary in CANARIES if canary in shown]


def rows(upstream: FakeUpstream) -> dict[str, Any]:
    headers = {"x-token": OF_HEADER, "x-other": "env:OUR_TOKEN"}
    keys = [LITERAL, SECOND, "env:OUR_KEY"]
    return to_upstream(upstream, upstreams={"fake": {"api_keys": keys, "headers": headers}}, log={"level": "debug"})


def tattle(request: Any) -> Answer:
    """An upstream that quotes all that it was sent."""
    said = json.dumps(request.headers)
    return openai.error_answer(401, f"Incorrect API key provided: {said}", type=said, code=said, param=said)


@pytest.fixture
def secret_gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(rows(upstream), ENVIRONMENT)


def everything_said(gateway: RunningGateway) -> Iterator[tuple[str, bytes]]:
    """Every page and every answer, heads included; the live feed shows what is in the log, and ends."""
    gateway.gateway.feed.close()
    for path in openapi_document()["paths"]:
        url = path.replace("{model_id}", "claude-4-sonnet").replace("{name}", "kilo.jsonc").replace("{filename}", "console.css")
        answer = gateway.get(url, headers={"authorization": f"Bearer {CLIENT}"})
        yield path, str(answer.headers).encode() + answer.content


def log_text(gateway: RunningGateway) -> str:
    gateway.gateway.log.flush()
    return "".join(path.read_text() for path in gateway._log_path.parent.glob("*"))


BODIES = {
    "/v1/chat/completions": CALL,
    "/v1/chat/completions?stream": {**CALL, "stream": True},
    "/v1/completions": {"model": "claude-4-sonnet", "prompt": PROMPT, "suffix": "x"},
    "/v1/embeddings": {"model": "claude-4-sonnet", "input": PROMPT},
}


@pytest.mark.parametrize("path", BODIES)
def test_promise_06_an_upstream_that_quotes_its_key_is_not_quoted(
    secret_gateway: RunningGateway, upstream: FakeUpstream, path: str
) -> None:
    upstream.script(tattle)
    for _ in range(3):  # each key has its turn
        answer = secret_gateway.http.post(
            secret_gateway.root + path, json=BODIES[path], headers={"authorization": f"Bearer {CLIENT}", "cookie": CLIENT}, timeout=20
        )
        assert answer.status_code == 401
        assert leaks(str(answer.headers) + answer.text) == []
    used = {request.headers["authorization"].removeprefix("Bearer ") for request in upstream.requests}
    assert used & {LITERAL, SECOND, OF_ENVIRONMENT}
    assert leaks(log_text(secret_gateway)) == []
    for where, said in everything_said(secret_gateway):
        assert leaks(said) == [], where


@pytest.mark.parametrize("key", [LITERAL, OF_HEADER])
def test_promise_06_a_key_that_is_quoted_within_a_stream_is_not_shown(
    secret_gateway: RunningGateway, upstream: FakeUpstream, key: str
) -> None:
    started = openai.event(openai.chunk({"role": "assistant", "content": "Hi"}))
    upstream.script(openai.sse_answer(started, openai.event({"error": {"message": f"bad {key}", "type": key, "code": key}})))
    answer = secret_gateway.chat(stream=True)
    assert answer.text.count("data: ") >= 2
    assert leaks(answer.text) == []
    assert leaks(log_text(secret_gateway)) == []


def test_promise_06_nothing_that_is_shown_or_kept_holds_a_secret(
    secret_gateway: RunningGateway, upstream: FakeUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    for body in (CALL, {**CALL, "stream": True}):
        assert secret_gateway.http.post(f"{secret_gateway.url}/chat/completions", json=body, headers={"x-api-key": CLIENT}, timeout=20).ok
    for where, said in everything_said(secret_gateway):
        assert leaks(said) == [], where
    secret_gateway.gateway.vault.close()
    folder = secret_gateway._log_path.parents[1]
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert kept
    for path, data in kept.items():
        assert leaks(data) == [], path
        assert "logs" not in path.parts or PROMPT.encode() not in data
    assert leaks("".join(capfd.readouterr())) == []


def test_promise_06_no_object_shows_a_secret(secret_gateway: RunningGateway) -> None:
    """A `repr` ends up in tracebacks and in debuggers."""
    gateway = secret_gateway.gateway
    upstream = gateway.router.upstreams["fake"]
    keys = ClientKeys({"a": gateway.settings.keys["a"]} if gateway.settings.keys else {})
    shown = [gateway, gateway.settings, gateway.settings.upstreams, upstream, upstream.keys, gateway.transport, gateway.keys, keys]
    shown += [getattr(gateway, name) for name in gateway.__slots__]
    assert leaks("".join(repr(item) + str(item) for item in shown)) == []
    assert leaks(masked(Secret(LITERAL)) + masked(Secret("sk-short"))) == []


def test_promise_06_settings_do_not_show_the_password_of_redis() -> None:
    settings = load_settings(None, {}, {"storage": {"redis_url": f"redis://:{REDIS}@127.0.0.1:1/0"}})
    assert leaks(repr(settings)) == []


def test_promise_06_an_origin_does_not_show_the_password_of_its_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PROXY}@127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", f"http://user:{PROXY}@127.0.0.1:1")
    origin = origin_of("https://api.example.com/v1")
    assert origin.proxy
    assert leaks(repr(origin)) == []


@pytest.mark.parametrize("url", [f"http://user:{LITERAL}@127.0.0.1:1/v1", f"http://{LITERAL}@127.0.0.1:1/v1"])
def test_promise_06_an_address_with_a_password_is_refused_without_showing_it(start_gateway: Any, url: str) -> None:
    from compat.config.settings import SettingsError

    with pytest.raises(SettingsError) as caught:
        start_gateway({"upstreams": {"x": {"kind": "openai", "base_url": url}}})
    assert leaks(str(caught.value)) == []


class Crash(Exception):
    """It knows too much."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_promise_06_a_crash_tells_neither_the_client_nor_the_log(
    secret_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stream: bool
) -> None:
    """An injected fault whose words are a key and a prompt."""

    def fail(*_: object) -> None:
        raise Crash(f"{LITERAL} {PROMPT} {CLIENT}")

    monkeypatch.setattr(compat.calls.attempt.Attempt, "_open", fail)
    answer = secret_gateway.http.post(
        f"{secret_gateway.url}/chat/completions", json={**CALL, "stream": stream}, headers={"authorization": f"Bearer {CLIENT}"}, timeout=20
    )
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    said = answer.text + log_text(secret_gateway) + "".join(capfd.readouterr())
    assert leaks(said) == []
    assert PROMPT not in said
    assert "Traceback" not in answer.text
    assert [line["type"] for line in secret_gateway.log_lines() if line["event"] == "error"] == ["Crash"]


def test_promise_06_a_crash_in_a_running_stream_is_an_error_event_and_no_traceback(
    secret_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    relay = compat.calls.attempt.Attempt._relay

    def fail(*arguments: Any) -> Iterator[Any]:
        yield from relay(*arguments)
        raise Crash(f"{LITERAL} {PROMPT}")

    monkeypatch.setattr(compat.calls.attempt.Attempt, "_relay", fail)
    answer = secret_gateway.http.post(f"{secret_gateway.url}/chat/completions", json={**CALL, "stream": True}, timeout=20)
    said = "".join(capfd.readouterr())
    assert leaks(said) == []
    assert PROMPT not in said
    assert json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == "internal_error"


def test_promise_06_a_client_key_is_neither_shown_nor_kept(start_gateway: Any, upstream: FakeUpstream) -> None:
    key, digest = new_key()
    gateway = start_gateway(to_upstream(upstream, keys={"ada": {"hash": digest}}, log={"level": "debug"}))
    assert gateway.chat(headers={"authorization": f"Bearer {key}"}).status_code == 200
    for wrong in (key + "x", key[:-1], digest, f"Basic {key}"):
        answer = gateway.chat(headers={"authorization": f"Bearer {wrong}"})
        assert answer.status_code == 401
        assert wrong not in answer.text
    said = log_text(gateway) + "".join(str(part) for part in everything_said(gateway))
    assert key not in said
    assert key[:-1] not in said
    assert [line["client"] for line in gateway.calls()] == ["ada"]


@pytest.mark.slow
def test_promise_06_the_command_line_shows_no_secret(tmp_path: Path, upstream: FakeUpstream) -> None:
    line = CommandLine(tmp_path)
    line.configure(
        "embedded.enabled = false\n"
        f'[server]\nport = 0\n[log]\nlevel = "debug"\n[upstreams.fake]\nkind = "openai"\nbase_url = "{upstream.url}"\n'
        f'api_keys = ["{LITERAL}", "env:OUR_KEY"]\nheaders = {{ "x-token" = "{OF_HEADER}", "x-other" = "env:OUR_TOKEN" }}\n'
        '[models."claude-4-sonnet"]\nroute = ["fake/m"]\n'
    )
    upstream.script(tattle)
    environment = {**ENVIRONMENT, "HTTPS_PROXY": f"http://user:{PROXY}@127.0.0.1:1"}
    for arguments in (["--check"], ["doctor"], ["keys", "list"], ["setup", "kilo", "--print"]):
        done = line.run(*arguments, **environment)
        assert leaks(done.stdout + done.stderr) == [], arguments
        assert "Traceback" not in done.stderr
    started = line.start(**environment)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", started.port), timeout=5) as sock:
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer " + CLIENT.encode() + b"\r\nx\r\n\r\n"
        )
        sock.recv(65536)
    started.process.terminate()
    code, said = started.end()
    assert code == 0
    assert leaks(said) == []
    assert leaks((tmp_path / "logs/openai_compat.log").read_text()) == []


@pytest.mark.slow
def test_promise_06_gunicorn_shows_no_secret_whatever_it_is_told_to_log(tmp_path: Path, upstream: FakeUpstream) -> None:
    """With all that it can log, and under the watcher, whose words go into a file."""
    folder = ServiceFolder(tmp_path)
    folder.environment.update(ENVIRONMENT)
    port = free_port()
    keys = f'["{LITERAL}", "env:OUR_KEY"]\nheaders = {{ "x-token" = "{OF_HEADER}", "x-other" = "env:OUR_TOKEN" }}'
    text = behind(upstream, "workers = 1").replace('["sk-canary-0123456789"]', keys).replace("port = 0", f"port = {port}")
    folder.configure(text.replace("terminal = false", 'level = "debug"'))
    upstream.script(tattle)
    loud = ["--log-level", "debug", "--access-logfile", "-", "--capture-output", "--access-logformat", "%(h)s %({authorization}i)s %(r)s"]
    said = []
    try:
        started = GunicornStarted(folder, [sys.executable, "-m", "gunicorn", *loud, "app:app"], port)
        try:
            said += attacked(started.root)
        finally:
            started.close()
        said.append(started.said())
        folder.do("start")
        said += attacked(folder.root)
        for command in ("status", "logs", "reload", "stop"):
            done = folder.command(command)
            said += [done.stdout, done.stderr]
    finally:
        folder.close()
    said += [path.read_text() for path in (tmp_path / "logs").glob("*")]
    assert any("Current configuration" in text for text in said)
    assert leaks("".join(said)) == []


def attacked(root: str) -> list[str]:
    """What a server answers to calls that fail and to requests that are none, with keys in all of them."""
    answers = [
        requests.post(f"{root}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {CLIENT}", "cookie": CLIENT}, timeout=20)
        for body in (CALL, {**CALL, "stream": True}, {"model": 5})
    ]
    address = ("127.0.0.1", int(root.rpartition(":")[2]))
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer " + CLIENT.encode() + b"\r\nx\r\n\r\n")
        answers_text = sock.recv(65536).decode()
    return [answers_text, *(str(answer.headers) + answer.text for answer in answers)]


def test_promise_06_a_traceback_of_the_upstreams_client_holds_no_key(secret_gateway: RunningGateway) -> None:
    """With the values of all local names, as crash reporters write it, only the bytes of the request itself may show one."""
    upstream = secret_gateway.gateway.router.upstreams["fake"]
    with pytest.raises(UpstreamUnreachable) as caught:
        secret_gateway.gateway.transport.open(upstream, "openai.chat", b"{}", {"x": "a\r\nb"}, upstream.keys[0])
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert leaks(text) == []
