"""An upstream that is this very gateway is found by its address, whatever it is called."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compat.calls.gateway import Gateway
from compat.check import check
from compat.cli import main
from compat.config.settings import Settings, SettingsError
from compat.routing.own_address import OwnAddress, addresses_of, is_of_this_machine
from compat.serve.gunicorn_worker import GatewayWorker
from compat.service_check import examine
from tests.unit.builders import KEY, make_gateway, make_upstream

NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "box": ["192.168.1.5", "fe80::1%eth0"],
    "alias.test": ["192.168.1.5"],
    "other.test": ["192.168.1.6"],
}
HERE = {"127.0.0.1", "127.0.0.2", "::1", "192.168.1.5"}


def own(*listeners: tuple[str, int]) -> OwnAddress:
    return OwnAddress(
        listeners, resolve=lambda host: NAMES.get(host, [host] if set(host) <= set("0123456789abcdef.:") else []), is_here=HERE.__contains__
    )


@pytest.mark.parametrize(
    ("listener", "url", "is_own"),
    [
        (("127.0.0.1", 28889), "http://127.0.0.1:28889/v1", True),
        (("127.0.0.1", 28889), "http://127.0.0.1:28889/other/path", True),
        (("127.0.0.1", 28889), "https://127.0.0.1:28889/v1", True),
        (("127.0.0.1", 28889), "http://localhost:28889/v1", True),
        (("127.0.0.1", 28889), "http://LOCALHOST:28889/v1", True),
        (("127.0.0.1", 28889), "http://0.0.0.0:28889/v1", True),
        (("127.0.0.1", 28889), "http://[::ffff:127.0.0.1]:28889/v1", True),
        (("127.0.0.1", 28889), "http://127.0.0.1:28890/v1", False),
        (("127.0.0.1", 28889), "http://127.0.0.2:28889/v1", False),
        (("127.0.0.1", 28889), "http://[::1]:28889/v1", False),
        (("127.0.0.1", 28889), "http://box:28889/v1", False),
        (("127.0.0.1", 28889), "http://nobody.test:28889/v1", False),
        (("127.0.0.1", 80), "http://127.0.0.1/v1", True),
        (("127.0.0.1", 443), "https://localhost/v1", True),
        (("localhost", 28889), "http://127.0.0.1:28889/v1", True),
        (("::1", 28889), "http://localhost:28889/v1", True),
        (("::1", 28889), "http://[::]:28889/v1", True),
        (("192.168.1.5", 28889), "http://box:28889/v1", True),
        (("192.168.1.5", 28889), "http://other.test:28889/v1", False),
        (("192.168.1.5", 28889), "http://127.0.0.1:28889/v1", False),
        (("0.0.0.0", 28889), "http://127.0.0.1:28889/v1", True),
        (("0.0.0.0", 28889), "http://127.0.0.2:28889/v1", True),
        (("0.0.0.0", 28889), "http://alias.test:28889/v1", True),
        (("0.0.0.0", 28889), "http://other.test:28889/v1", False),
        (("::", 28889), "http://box:28889/v1", True),
        (("::", 28889), "http://other.test:28889/v1", False),
    ],
)
def test_an_upstream_is_this_gateway_where_a_connection_would_end_at_its_listener(
    listener: tuple[str, int], url: str, is_own: bool
) -> None:
    assert own(listener).has(make_upstream("x", base_url=url)) is is_own
    assert own(("127.0.0.1", 1), listener).has(make_upstream("x", base_url=url)) is is_own


def test_no_name_is_looked_up_where_the_port_is_another() -> None:
    def resolve(host: str) -> list[str]:
        raise AssertionError(host)

    assert not OwnAddress([("127.0.0.1", 28889)], resolve=resolve).has(make_upstream("openai"))


def test_the_system_knows_its_own_names_and_addresses() -> None:
    assert "127.0.0.1" in addresses_of("localhost")
    assert addresses_of("name.invalid") == frozenset()
    assert addresses_of("." * 300) == frozenset()
    assert is_of_this_machine("127.0.0.1")
    assert is_of_this_machine("::1")
    assert not is_of_this_machine("192.0.2.1")


def test_the_fault_names_what_is_to_be_changed() -> None:
    url = "http://127.0.0.1:28889/v1"
    (words,) = own(("127.0.0.1", 28889)).faults([make_upstream("openai", base_url=url), make_upstream("else")], Settings())
    assert words.startswith(f"environment variable OPENAI_BASE_URL: {url} is this gateway itself")


LOOP = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://localhost:28889/v1"}


def test_the_check_finds_it_and_does_not_ask_it(tmp_path: Path) -> None:
    said: list[str] = []
    gateway = make_gateway(tmp_path, environment=LOOP)
    assert not check(gateway, lambda upstream, _timeout_s: pytest.fail(upstream.name), said.append)
    assert [line for line in said if "FAULT environment variable OPENAI_BASE_URL" in line]
    assert said[-1] == "Something is wrong: see the lines marked FAULT."


def test_a_start_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "config.toml"
    config.write_text(
        f'embedded.enabled = false\nserver.port = {port}\n[upstreams.me]\nkind = "openai"\nbase_url = "http://localhost:{port}/v1"\n'
    )
    assert main(["--config", str(config)], tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    said = f"http://localhost:{port}/v1 is this gateway itself: give the address of the upstream."
    assert line == f"openai-compat: {config}: key 'upstreams.me.base_url': {said}"
    monkeypatch.setenv("OPENAI_COMPAT_CONFIG", str(config))
    for variable in ("OPENAI_COMPAT_ENV_FILE", "OPENAI_COMPAT_WORKERS"):
        monkeypatch.setenv(variable, "")
    with pytest.raises(SettingsError, match="is this gateway itself"):
        examine(tmp_path, tmp_path / "copies")  # what the watcher asks before it starts a generation


def listening_on(gateway: Gateway, *names: Any) -> Any:
    """What of a gunicorn worker is looked at: its sockets, and its application."""
    sockets = [SimpleNamespace(getsockname=lambda name=name: name) for name in names]
    return SimpleNamespace(sockets=sockets, wsgi=SimpleNamespace(gateway=gateway))


def test_a_worker_of_gunicorn_refuses_what_leads_back_to_its_own_sockets(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, environment=LOOP)
    GatewayWorker._refuse_itself(listening_on(gateway, ("127.0.0.1", 9000), "/run/a.socket"))
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL"):
        GatewayWorker._refuse_itself(listening_on(gateway, "/run/a.socket", ("127.0.0.1", 28889)))
