"""The page of `python app.py doctor`: each thing that can be wrong is a line with its remedy, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from compat.calls.gateway import Gateway
from compat.config.sections import DiscoverySettings
from compat.errors import UpstreamUnreachable
from compat.examine import LEAST_FREE_BYTES, Finding, Surroundings, doctor, examine
from compat.routing.discovery import Discovery
from compat.upstream.client import Upstream
from compat.upstream.listing import Listing
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.fakes.searching import searx
from tests.fakes.upstream import Answer, FakeUpstream
from tests.unit.builders import make_gateway

UPSTREAM: dict[str, Any] = {"kind": "openai", "base_url": "http://ok.example/v1", "api_keys": ["sk-12345678"]}
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def port() -> Iterator[int]:
    """One at which nobody listens while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def lists(upstream: Upstream, _timeout_s: float) -> Listing:
    if upstream.name == "away":
        raise UpstreamUnreachable("away can't be reached.")
    return Listing(("claude-sonnet-4-6", "claude-opus-4-8", "gpt-6-luna"))


def gateway_of(folder: Path, port: int, **settings: Any) -> Gateway:
    quiet = {"discovery": {"enabled": True}, "server": {"port": port}}
    gateway = make_gateway(folder, {"upstreams": {"ok": UPSTREAM}, **quiet, **settings})
    return dataclasses.replace(gateway, discovery=Discovery(DiscoverySettings(), gateway.router, [], lists, lambda *_: None))


def around(folder: Path, **places: Path) -> Surroundings:
    return Surroundings(folder, {}, folder, places)


def found(gateway: Gateway, surroundings: Surroundings) -> list[str]:
    return [str(finding) for finding in examine(gateway, surroundings) if "retires on" not in finding.message]


def kilo(folder: Path, url: str, key: str = "sk-any", models: Mapping[str, Any] | None = None) -> None:
    provider = {"options": {"baseURL": url, "apiKey": key}, "models": models or {}}
    path = folder / ".config" / "kilo" / "kilo.jsonc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("// mine\n" + json.dumps({"provider": {"openai-compat": provider}}))


def claude(folder: Path, url: str, **env: str) -> None:
    path = folder / ".claude" / "settings.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": url, **env}}))


def codex(folder: Path, text: str) -> None:
    path = folder / ".codex" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_nothing_is_wrong_where_nothing_is(tmp_path: Path, port: int) -> None:
    assert found(gateway_of(tmp_path, port), around(tmp_path, log=tmp_path / "logs" / "log")) == []


def test_the_worst_stands_first_and_decides(tmp_path: Path, port: int) -> None:
    (tmp_path / "file").write_text("")
    gateway = gateway_of(tmp_path, port, upstreams={"ok": UPSTREAM, "away": UPSTREAM})
    said: list[str] = []
    assert not doctor(gateway, around(tmp_path, usage=tmp_path / "file" / "usage.sqlite"), said.append)
    marked = [line.split()[0] for line in said if line[:1].isupper()]
    assert marked[0] == "ERROR"
    assert said[-1] == "Action is needed."
    assert "claude-4-sonnet -> ok/claude-sonnet-4-6" in said
    assert sorted(marked[:-1], key=["ERROR", "WARNING", "NOTE"].index) == marked[:-1]


def test_an_upstream_that_lists_nothing_is_noted(tmp_path: Path, port: int) -> None:
    gateway = gateway_of(tmp_path, port, upstreams={"ok": UPSTREAM, "away": UPSTREAM})
    assert found(gateway, around(tmp_path)) == ["NOTE     away did not list its models: away can't be reached."]


def test_an_upstream_that_is_this_very_gateway_is_an_error(tmp_path: Path, port: int) -> None:
    own = {**UPSTREAM, "base_url": f"http://localhost:{port}/v1"}
    (line,) = found(gateway_of(tmp_path, port, upstreams={"ok": UPSTREAM, "own": own}), around(tmp_path))
    assert line.startswith("ERROR    ")
    assert f"key 'upstreams.own.base_url': http://localhost:{port}/v1 is this gateway itself" in line


def test_a_gateway_that_can_answer_nothing_says_what_to_set(tmp_path: Path, port: int) -> None:
    (line,) = (line for line in found(gateway_of(tmp_path, port, upstreams={}), around(tmp_path)) if "No upstream" in line)
    assert line.startswith("ERROR    No upstream is configured, and the embedded model is off: set a key")


def test_keys_that_others_can_read_are_named(tmp_path: Path, port: int) -> None:
    (tmp_path / "config.toml").write_text('upstreams.ok.api_keys = ["sk-12345678"]')
    (tmp_path / "config.toml").chmod(0o644)
    (line,) = found(gateway_of(tmp_path, port), around(tmp_path))
    assert line.startswith("WARNING  ")
    assert line.endswith(f"chmod 600 {tmp_path}/config.toml")


def test_a_place_that_can_not_be_written_and_a_disk_that_is_full(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    gateway = gateway_of(tmp_path, port)
    (line,) = found(gateway, around(tmp_path, log=tmp_path / "file" / "log"))
    assert line.startswith(f"ERROR    log: {tmp_path}/file/log can't be written: ")
    assert line.endswith(". Make it writable, or name another place in the configuration.")

    class Disk(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(LEAST_FREE_BYTES - 1))
    (line,) = found(gateway, around(tmp_path, log=tmp_path / "log", usage=tmp_path / "usage"))
    assert line == f"WARNING  log: only 255 MB are free at {tmp_path}; make room for logs and data."


def test_a_port_that_another_program_has_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        taken.settimeout(30)
        gateway = gateway_of(tmp_path, number)

        threading.Thread(target=lambda: [taken.accept()[0].close() for _ in range(2)], daemon=True).start()
        (line,) = found(gateway, around(tmp_path))
    assert line.startswith(f"ERROR    Another program has the port {number} of 127.0.0.1: stop it")


def test_clients_that_are_set_up_well_or_for_another_gateway_are_no_matter(tmp_path: Path, port: int) -> None:
    kilo(tmp_path, f"http://127.0.0.1:{port}/v1", models={"claude-4-sonnet": {}})
    claude(tmp_path, "http://gateway.example", ANTHROPIC_MODEL="no-such-model")
    codex(tmp_path, 'model = "gpt-5.5"\n')
    note = f"NOTE     No gateway listens on port {port}, which the settings of Kilo Code name: start it with `python app.py`."
    assert found(gateway_of(tmp_path, port), around(tmp_path)) == [note]


def test_a_client_that_calls_a_port_where_nobody_listens_is_named(tmp_path: Path, port: int) -> None:
    claude(tmp_path, f"http://localhost:{port}")
    with socket.create_server(("127.0.0.1", 0)) as other:
        kilo(tmp_path, f"http://127.0.0.1:{other.getsockname()[1]}/v1")  # it may be another gateway
        (line,) = found(gateway_of(tmp_path, 28_889 if port != 28_889 else 28_890), around(tmp_path))
    assert (
        f"Claude Code ({tmp_path}/.claude/settings.json) calls port {port} of this machine, where nobody listens; this gateway has port 288"
        in line
    )
    assert line.endswith(": run `python app.py setup claude` again.")


def test_a_redis_that_can_not_be_used_is_an_error_without_its_password(tmp_path: Path, port: int) -> None:
    gateway = gateway_of(tmp_path, port, storage={"redis_url": f"redis://:canary@127.0.0.1:{port}/0"})
    (line,) = found(gateway, around(tmp_path))
    assert line.startswith("ERROR    The Redis of storage.redis_url can't be used: ")
    assert line.endswith(f" at 127.0.0.1:{port}: start it, or correct its address. Until then nothing is shared.")


@needs_redis
def test_a_redis_that_answers_is_no_matter(tmp_path: Path, port: int) -> None:
    with RedisServer() as server:
        assert found(gateway_of(tmp_path, port, storage={"redis_url": server.url}), around(tmp_path)) == []


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (searx, ""),
        (lambda _: Answer(status=403), "WARNING  Clients can't search: The search endpoint answered with status 403. SearXNG needs 'json'"),
    ],
)
def test_a_search_endpoint_is_tried(tmp_path: Path, port: int, answer: Any, line: str) -> None:
    with FakeUpstream() as endpoint:
        endpoint.default = answer
        lines = found(gateway_of(tmp_path, port, search={"url": f"http://127.0.0.1:{endpoint.port}/search"}), around(tmp_path))
    assert len(lines) == bool(line)
    assert "".join(lines).startswith(line)


def test_a_search_endpoint_that_is_not_there_is_named(tmp_path: Path, port: int) -> None:
    (line,) = found(gateway_of(tmp_path, port, search={"url": f"http://127.0.0.1:{port}/search"}), around(tmp_path))
    assert line.startswith("WARNING  Clients can't search: No connection to ")
    assert line.endswith(" Start the search endpoint, or correct search.url.")


def test_clients_whose_models_or_keys_are_not_those_of_the_gateway_are_named(tmp_path: Path, port: int) -> None:
    root = f"http://127.0.0.1:{port}"
    kilo(tmp_path, f"{root}/v1", models={"gone-1": {}, "gone-2": {}, "claude-4-sonnet": {}})
    claude(tmp_path, root, ANTHROPIC_AUTH_TOKEN="sk-compat-other", ANTHROPIC_MODEL="claude-4-sonnet")
    codex(
        tmp_path,
        'model = "gone-3"\nmodel_provider = "openai-compat"\n'
        f'[model_providers.openai-compat]\nbase_url = "{root}/v1"\nexperimental_bearer_token = "sk-any"\n',
    )
    lines, names = found(gateway_of(tmp_path, port, keys={"laptop": {"hash": DIGEST}}), around(tmp_path)), "Kilo Code, Claude Code, Codex"
    kilo_path, claude_path, codex_path = (
        tmp_path / name for name in (".config/kilo/kilo.jsonc", ".claude/settings.json", ".codex/config.toml")
    )
    assert lines == [
        f"WARNING  Kilo Code ({kilo_path}) sends no client key, and one is needed: run `python app.py setup kilo` again.",
        f"WARNING  Kilo Code ({kilo_path}) names a model that is not offered, 'gone-1' and 1 more: run `python app.py setup kilo` again.",
        f"WARNING  Claude Code ({claude_path}) sends a key that is not accepted: run `python app.py setup claude` again.",
        f"WARNING  Codex ({codex_path}) sends no client key, and one is needed: run `python app.py setup codex` again.",
        f"WARNING  Codex ({codex_path}) names a model that is not offered, 'gone-3': run `python app.py setup codex` again.",
        f"NOTE     No gateway listens on port {port}, which the settings of {names} name: start it with `python app.py`.",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "url"),
    [("fd00::5", "http://[fd00::5]:{port}/v1"), ("127.0.0.1", "http://LocalHost:{port}"), ("::1", "http://[::1]:{port}/v1/")],
)
def test_a_client_of_this_gateway_is_known_however_its_address_is_written(tmp_path: Path, port: int, host: str, url: str) -> None:
    kilo(tmp_path, url.format(port=port), models={"gone": {}})
    server, keys = {"host": host, "port": port}, {"laptop": {"hash": DIGEST}}
    lines = found(gateway_of(tmp_path, port, server=server, keys=keys), around(tmp_path))
    assert any("names a model that is not offered, 'gone'" in line for line in lines)


@pytest.mark.parametrize("text", ["{", "[]", '{"provider": 1}', '{"provider": {"openai-compat": {"options": {"baseURL": 7}}}}', ""])
def test_a_file_that_is_not_what_it_should_be_is_no_fault_of_the_doctor(tmp_path: Path, port: int, text: str) -> None:
    kilo(tmp_path, "x")
    (tmp_path / ".config" / "kilo" / "kilo.jsonc").write_text(text)
    lines = found(gateway_of(tmp_path, port), around(tmp_path))
    assert len(lines) == (text == "{")
    assert not lines or lines[0].startswith("WARNING  Kilo Code: its configuration can't be read: ")


def test_an_address_that_is_none_is_named(tmp_path: Path, port: int) -> None:
    kilo(tmp_path, "ftp://there")
    (line,) = found(gateway_of(tmp_path, port), around(tmp_path))
    assert "calls 'ftp://there', which is not an address: run `python app.py setup kilo` again." in line


def test_a_finding_is_a_line() -> None:
    assert str(Finding("note", "So it is.")) == "NOTE     So it is."
