"""The promises of SECURITY.md, each by its number; where one has more to it, the modules beside this one go deeper."""

from __future__ import annotations

import ast
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import compat
from compat.accounting.keys import ClientKeys
from compat.config.sections import AdmissionSettings, KeySettings
from compat.config.settings import Settings, SettingsError, load_settings
from compat.endpoints.openapi import openapi_document
from compat.errors import GatewayError
from compat.routing.admission import Gates
from compat.wire.hops import HOPS_HEADER
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes import responses_answers as responses
from tests.fakes.responses_items import message, text_part
from tests.fakes.upstream import Answer, FakeUpstream
from tests.integration.services_folder import ServiceFolder, behind, until
from tests.security.in_process import InProcess
from tests.unit.service.command_line import CommandLine

ROOT = Path(compat.__file__).parents[1]
CANARY = "sk-canary-0123456789"
HASH = "sha256:" + "0" * 64
CALLS = {
    "/v1/chat/completions": {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"model": "claude-4-sonnet", "prompt": "Hi", "suffix": "x"},
    "/v1/embeddings": {"model": "claude-4-sonnet", "input": "Hi"},
    "/v1/responses": {"model": "claude-4-sonnet", "input": "Hi"},
}
POSTS = pytest.mark.parametrize("path", CALLS)


def fair(request: Any) -> Answer:
    """An upstream that can do everything."""
    if request.path.endswith("/embeddings"):
        return openai.json_answer({"data": [{"embedding": [0.5], "index": 0}], "usage": {"prompt_tokens": 1}})
    if request.path.endswith("/responses"):
        whole = responses.response([message(text_part("Hello."))])
        return responses.stream_answer(responses.events_of(whole)) if request.json.get("stream") else responses.json_answer(whole)
    if request.path.endswith("/completions") and "messages" not in request.json:
        return openai.json_answer({"choices": [{"text": "x", "index": 0, "finish_reason": "stop"}]})
    return openai.respond(request)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=fair) as running:
        yield running


def post(gateway: RunningGateway, path: str, body: bytes | None = None, **headers: str) -> Any:
    sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    data = json.dumps(CALLS[path]).encode() if body is None else body
    return gateway.http.post(gateway.root + path, data=data, headers={name: value for name, value in sent.items() if value}, timeout=20)


def with_key(start_gateway: Any, upstream: FakeUpstream, key: str) -> RunningGateway:
    """A gateway that takes one client key: without any it takes nothing that has the fields of a proxy."""
    gateway: RunningGateway = start_gateway(
        to_upstream(upstream, keys={"ada": {"hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest()}})
    )
    return gateway


# 1


@pytest.mark.slow
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.lan", "169.254.1.1", "0"])
def test_promise_01_another_address_than_loopback_needs_client_keys(host: str, tmp_path: Path) -> None:
    assert Settings().server.host == "127.0.0.1"
    with pytest.raises(SettingsError, match=r"client keys are required.*--new-key"):
        load_settings(None, {}, {"server": {"host": host}})
    assert load_settings(None, {}, {"server": {"host": host}, "keys": {"a": {"hash": HASH}}}).server.host == host
    if host == "0.0.0.0":
        done = CommandLine(tmp_path).run("--host", host)
        assert (done.returncode, done.stdout) == (2, "")
        assert "client keys are required" in done.stderr


def test_promise_01_holds_for_an_address_that_gunicorn_is_given(tmp_path: Path) -> None:
    for name in ("app.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "config.toml").write_text("embedded.enabled = false\ndiscovery.enabled = false\n")
    command = [sys.executable, "-m", "gunicorn", "--bind", "0.0.0.0:0", "--workers", "1", "app:app"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=4)
    finally:
        process.kill()
        process.communicate()
    assert "client keys are required" in said


@pytest.mark.slow
def test_promise_01_holds_for_a_server_that_listens_where_we_did_not_say(tmp_path: Path) -> None:
    """Such as gunicorn with a configuration of somebody else's: other machines get nothing, unless there are client keys."""
    gateway = InProcess(tmp_path)
    for path, methods in openapi_document()["paths"].items():
        for method in methods:
            where = path.replace("{", "").replace("}", "")
            refused = gateway.ask(method.upper(), where, b"{}", REMOTE_ADDR="192.0.2.7", HTTP_HOST="127.0.0.1")
            told = refused.error["type"] if path.startswith("/v1/messages") else refused.error["code"]
            assert (refused.status, told) == (403, "permission_error" if path.startswith("/v1/messages") else "client_not_allowed")
    assert gateway.ask("GET", "/healthz").status == 200
    assert CommandLine(tmp_path).run("keys", "add", "laptop").returncode == 0
    asked = InProcess(tmp_path).ask("GET", "/v1/models", REMOTE_ADDR="192.0.2.7")
    assert (asked.status, asked.error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("field", ["forwarded", "via", "x_forwarded_for", "x_real_ip"])
def test_promise_01_holds_behind_a_proxy_on_this_machine(gateway: RunningGateway, upstream: FakeUpstream, field: str) -> None:
    """Every client of it looks local; and a name of its own is refused at the start."""
    answer = post(gateway, "/v1/chat/completions", **{field: "127.0.0.1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "client_not_allowed")
    assert upstream.requests == []
    with pytest.raises(SettingsError, match=r"'server\.allowed_hosts'.*client keys are required"):
        load_settings(None, {}, {"server": {"allowed_hosts": ["gateway.example"]}})


@pytest.mark.slow
def test_promise_01_is_content_with_keys_of_the_key_file(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    assert line.run("keys", "add", "laptop").returncode == 0
    line.configure("embedded.enabled = false\ndiscovery.enabled = false\n")
    done = line.run("--host", "0.0.0.0", "--port", "0", "--check")
    assert "client keys are required" not in done.stderr


# 2, 3


@POSTS
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.nip.io", "localhost.evil.example", "169.254.169.254"])
def test_promise_02_a_foreign_host_name_gets_421(gateway: RunningGateway, upstream: FakeUpstream, path: str, host: str) -> None:
    answer = post(gateway, path, host=host)
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host_not_allowed")
    assert upstream.requests == []


@POSTS
@pytest.mark.parametrize("header", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}])
def test_promise_03_a_page_of_another_site_gets_403_and_no_leave(
    gateway: RunningGateway, upstream: FakeUpstream, path: str, header: dict[str, str]
) -> None:
    for method in ("post", "options", "get"):
        answer = gateway.http.request(method, gateway.root + path, headers={k.replace("_", "-"): v for k, v in header.items()}, timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert upstream.requests == []


# 4


@POSTS
@pytest.mark.parametrize(
    ("content_type", "origin", "is_taken"),
    [
        ("application/json", "", True),
        ("application/json; charset=utf-8", "", True),
        ("", "", True),
        ("", "own", False),
        ("text/plain", "", False),
        ("text/plain;application/json", "", False),
        ("application/x-www-form-urlencoded", "", False),
        ("multipart/form-data; boundary=x", "", False),
    ],
)
def test_promise_04_a_body_is_json_by_its_type(gateway: RunningGateway, path: str, content_type: str, origin: str, is_taken: bool) -> None:
    answer = post(gateway, path, content_type=content_type, origin=gateway.root if origin else "")
    assert (answer.status_code == 200) is is_taken, answer.text
    assert is_taken or (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


# 5


@POSTS
def test_promise_05_a_request_never_says_where_it_goes(start_gateway: Any, upstream: FakeUpstream, path: str) -> None:
    gateway = with_key(start_gateway, upstream, "sk-clients-own")
    with FakeUpstream(default=fair) as evil:
        where = evil.url
        fields = ("api_base", "base_url", "api_url", "custom_host", "endpoint", "url", "proxy", "api_version", "custom_llm_provider")
        headers = {
            **dict.fromkeys(
                ("x-forwarded-host", "x-original-url", "x-rewrite-url", "x-portkey-custom-host", "x-api-base", "x-base-url"), where
            ),
            "forwarded": f"host={where}",
            "authorization": "Bearer sk-clients-own",
            "x-openai-base-url": where,
        }
        body = json.dumps({**CALLS[path], **dict.fromkeys(fields, where), "extra_body": {"api_base": where}}).encode()
        assert post(gateway, f"{path}", body, **{name.replace("-", "_"): value for name, value in headers.items()}).status_code == 200
        for model in (where, f"{where}/m", f"fake/{where}", "fake/../../x", "fake/a?b=c#d", "//evil.example/m", "fake/\r\nx: y"):
            post(gateway, path, json.dumps({**CALLS[path], "model": model}).encode(), authorization="Bearer sk-clients-own")
        assert evil.connections == 0
    own = set(CALLS)
    assert {request.path for request in upstream.requests} <= own
    assert {request.headers["host"] for request in upstream.requests} == {f"127.0.0.1:{upstream.port}"}
    sent = {name for request in upstream.requests for name in request.headers}
    assert {name for name in sent if name.startswith(("x-", "forwarded"))} <= {HOPS_HEADER}


# 7 (6 is in test_secrets.py)


@POSTS
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_promise_07_nothing_that_identifies_the_client_is_forwarded(
    start_gateway: Any, upstream: FakeUpstream, path: str, stream: bool
) -> None:
    mark = "sk-clients-own"
    gateway = with_key(start_gateway, upstream, mark)
    headers = {
        **dict.fromkeys(("authorization", "proxy_authorization"), f"Bearer {mark}"),
        **dict.fromkeys(("x_api_key", "api_key", "x_goog_api_key", "anthropic_api_key", "x_forwarded_for", "referer", "user_agent"), mark),
        "cookie": f"session={mark}",
    }
    body = json.dumps({**CALLS[path], "stream": stream} if "embeddings" not in path else CALLS[path]).encode()
    assert post(gateway, path, body, **headers).status_code == 200
    (request,) = upstream.requests
    assert mark not in json.dumps(request.headers)
    assert mark.encode() not in request.body
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    expected = {"host", "content-type", "accept", "user-agent", "accept-encoding", "authorization", "content-length", HOPS_HEADER}
    assert set(request.headers) == expected


# 8


def test_promise_08_every_key_is_compared_to_its_end_and_known_by_its_whole_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counting(known: Any, digest: Any) -> bool:
        compared.append(known)
        return compare(known, digest)

    rows = {f"k{number}": KeySettings(hash="sha256:" + hashlib.sha256(b"key-%d" % number).hexdigest()) for number in range(5)}
    keys = ClientKeys(rows)
    monkeypatch.setattr(hmac, "compare_digest", counting)
    assert keys.client_of("Bearer key-0") == "k0"
    assert keys.client_of("Bearer key-4") == "k4"
    assert len(compared) == 10
    assert ClientKeys({}).client_of("Bearer x") == "key-" + hashlib.sha256(b"x").hexdigest()


# 9

RUNS_COMMANDS = ("engine/", "service/", "setup/", "cli.py")
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "ctypes", "code", "runpy", "subprocess", "importlib", "yaml", "pty"}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "compat").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_promise_09_no_code_of_ours_runs_commands_or_loads_code_for_a_request(path: Path) -> None:
    name = path.relative_to(ROOT / "compat").as_posix()
    tree = ast.parse(path.read_text())
    calls = {node.func.id if isinstance(node.func, ast.Name) else "" for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"eval", "exec", "__import__"}
    if name.startswith(RUNS_COMMANDS):
        return
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module.partition(".")[0] for module in imported if module != "importlib.resources"} & (FORBIDDEN_MODULES - {"importlib"})
    named = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {name for name in named if name.startswith(("os.system", "os.popen", "os.exec", "os.spawn", "flask.render_template_string"))}


def test_promise_09_no_request_changes_the_configuration(tmp_path: Path) -> None:
    for name in ("config.toml", ".env", "keys.json"):
        (tmp_path / name).write_text('{"version": 1, "keys": {}}' if name == "keys.json" else "")
    gateway = InProcess(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for path in openapi_document()["paths"]:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            body = json.dumps({"keys": {"a": {"hash": HASH}}, "model": "x", "path": "/etc/passwd"}).encode()
            assert gateway.ask(method, path.replace("{", "").replace("}", ""), body).status < 500
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


# 10


@pytest.mark.skipif(os.name != "posix", reason="files have no modes there")
def test_promise_10_what_the_gateway_keeps_is_its_owners_alone(start_gateway: Any, upstream: FakeUpstream) -> None:
    before = os.umask(0)
    try:
        gateway = start_gateway(to_upstream(upstream, vault={"path": "data/thinking.sqlite"}))
        gateway.gateway.vault.start()
        assert gateway.chat().status_code == 200
        gateway.gateway.vault.close()
        folder = gateway._log_path.parents[1]
    finally:
        os.umask(before)
    state = [path for path in folder.rglob("*") if "logs" not in path.parts]
    assert [path for path in state if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


@pytest.mark.slow
def test_promise_10_a_file_with_keys_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    line.configure("embedded.enabled = false\ndiscovery.enabled = false\n")
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-canary-0123456789\nOPENAI_BASE_URL=http://127.0.0.1:9/v1\n")
    (tmp_path / ".env").chmod(0o644)
    done = line.run("--check")
    assert f"warning: {tmp_path / '.env'} holds keys" in done.stderr
    assert CANARY not in done.stderr + done.stdout
    (tmp_path / ".env").chmod(0o600)
    assert "warning" not in line.run("--check").stderr
    assert line.run("keys", "add", "laptop").returncode == 0
    assert "warning" not in line.run("--check").stderr
    (tmp_path / "data/keys.json").chmod(0o640)
    assert f"warning: {tmp_path / 'data/keys.json'} holds keys" in line.run("--check").stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="files have no modes there")
def test_promise_10_a_worker_writes_the_warning_into_the_log(tmp_path: Path) -> None:
    folder = ServiceFolder(tmp_path)
    with FakeUpstream(default=fair) as upstream:
        folder.configure(behind(upstream))
        (tmp_path / "config.toml").chmod(0o644)
        try:
            folder.do("start")
            until((tmp_path / "logs/openai_compat.log").exists, "there is a log")
            told = until(lambda: [row for row in folder.log() if row["event"] == "keys.exposed"], "it is told", bound_s=5)
        finally:
            folder.close()
    assert {row["level"] for row in told} == {"warning"}
    assert str(tmp_path) in told[0]["detail"]
    assert CANARY not in json.dumps(folder.log())


# 11


@POSTS
def test_promise_11_bodies_are_bounded_in_size_and_depth(start_gateway: Any, upstream: FakeUpstream, path: str) -> None:
    """Heads, slow clients and connections: test_hostile_clients.py."""
    assert Settings().server.max_body_bytes == 32 * 2**20
    gateway = start_gateway(to_upstream(upstream, server={"max_body_bytes": 10_000}))
    assert post(gateway, path, b" " * 10_001).status_code == 413
    assert post(gateway, path, json.dumps(CALLS[path])[:-1].encode() + b',"x":' + b"[" * 4_500 + b"]" * 4_500 + b"}").status_code in {
        200,
        400,
    }
    for encoding in ("gzip", "zstd", "br", "deflate", "gzip, gzip"):
        assert post(gateway, path, b"\x1f\x8b" + b"\x00" * 100, content_encoding=encoding).status_code in {400, 413, 415}
    assert post(gateway, path).status_code == 200


def test_promise_11_one_client_can_not_fill_the_queue(start_gateway: Any, upstream: FakeUpstream) -> None:
    """Clients take turns; when the queue is full, the one that has most in it gives way."""
    gate = Gates(AdmissionSettings(first_limit=1, max_limit=1, queue_length=4), lambda: 0.0).of("up")
    gate.enter("greedy", 1, False, 100)
    waiting = [gate.enter("greedy", 1, False, 100) for _ in range(4)]
    modest = gate.enter("modest", 1, False, 100)

    def gave_way(ticket: Any) -> bool:
        try:
            ticket.wait(0.001)
        except GatewayError:
            return True
        return False

    assert [gave_way(ticket) for ticket in (*waiting, modest)].count(True) == 1
    assert not gave_way(modest)


# And SECURITY.md itself.


def test_every_promise_is_told_with_a_test_that_there_is() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 20))
    for number, _, tests in rows:
        named = re.findall(r"`((?:tests/\S+?\.py)|(?:test_\w+))`", tests)
        assert named, number
        assert f"def test_promise_{int(number):02}_" in _all_tests(), number
        for name in named:
            found = (ROOT / name).exists() if name.startswith("tests/") else re.search(rf"def {name}", _all_tests())
            assert found, name
    assert "Reporting" in text


def _all_tests() -> str:
    return "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))


def test_the_port_is_on_loopback_only(gateway: RunningGateway) -> None:
    """Promise 1, asked of the system: nothing listens for the machine's other addresses."""
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    others = {address for address in others if not str(address).startswith("127.")}
    for address in others:
        with pytest.raises(OSError):
            socket.create_connection((str(address), gateway.port), timeout=1).close()


# 16


def test_promise_16_without_a_client_key_no_name_of_an_upstream_is_told(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = with_key(start_gateway, upstream, "sk-clients-own")
    for path, methods in openapi_document()["paths"].items():
        if "get" in methods:
            said = gateway.get(path.replace("{", "").replace("}", "")).text
            assert not [name for name in ("fake", "their-model", str(upstream.port)) if name in said], path
    for path in ("/catalog", "/healthz", "/setup/kilo.jsonc"):
        answer = gateway.http.get(gateway.root + path, headers={"authorization": "Bearer sk-clients-own"}, timeout=20)
        assert "their-model" in answer.text or "claude-4-sonnet" in answer.text, path
