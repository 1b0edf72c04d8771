"""What is measured, a row each: how it is installed, configured, started, asked. A new peer is one more row.

Strategy: every gateway gets the same public names (`Scenario.route`), calls the same mock upstream with the same ids (`Scenario.model`),
runs in one process or with one worker, and keeps its own defaults otherwise. What a gateway can't do is left out of `serves`, and the
scenarios that need it are not measured with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers.install import Environment, Pip
from bench.processes import Running
from bench.run import write_config
from bench.scenarios import PEER_SCENARIOS, Scenario
from compat import __version__

CLAUDE, TLS = "a Claude upstream", "a TLS upstream"
_KEY = "sk-bench-0123456789abcdef"
_BEARER = {"authorization": f"Bearer {_KEY}"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target runs: `folder` is its own, `installed` that of its environment, `authority` the certificate it shall trust."""

    folder: Path
    installed: Path
    port: int
    mock: Running
    authority: Path | None


Files = Callable[[Place], Mapping[str, str]]
Command = Callable[[Place], Sequence[str]]
Words = Callable[[Place], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Target:
    """A row. `files` are written into its folder before it is started; `share` of a scenario's requests is enough for a slow one.

    `headers` and `prefix` are what its clients send and put before the path. `needs` are programs that must be on the machine.
    """

    name: str
    title: str
    command: Command
    serves: frozenset[str] = frozenset({CLAUDE, TLS})
    environment: Environment | None = None
    package: str = ""
    needs: Sequence[str] = ()
    files: Files = lambda _: {}
    variables: Words = lambda _: {}
    ready: str = "/healthz"
    start_limit_s: float = 30.0
    headers: Callable[[Place, Scenario], Mapping[str, str]] = lambda _place, _scenario: _BEARER
    prefix: Callable[[Scenario], str] = lambda _: ""
    share: float = 1.0
    version: Callable[[], str] = lambda: __version__
    is_gateway: bool = True

    def can_serve(self, scenario: Scenario) -> bool:
        """Whether the scenario can be measured with it."""
        return _needed(scenario) <= self.serves


def _needed(scenario: Scenario) -> frozenset[str]:
    return frozenset(({CLAUDE} if scenario.upstream == "anthropic" else set()) | ({TLS} if scenario.is_tls else set()))


def _routes() -> Iterator[Scenario]:
    """One scenario for each public name."""
    return iter({row.route: row for row in PEER_SCENARIOS}.values())


def _base(place: Place, row: Scenario) -> str:
    return f"https://127.0.0.1:{place.mock.tls_port}" if row.is_tls else f"http://127.0.0.1:{place.mock.port}"


def find_program(name: str) -> str:
    """Where a program of the machine is; empty: nowhere."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


# Ours.


def _our_configuration(place: Place) -> Mapping[str, str]:
    write_config(place.folder, place.mock, place.authority, port=place.port)
    return {}


def _our_command(place: Place) -> Sequence[str]:
    return [sys.executable, "app.py", "--port", str(place.port), "--config", str(place.folder / "config.toml")]


def _our_gunicorn(_place: Place) -> Sequence[str]:
    return [sys.executable, "-m", "gunicorn", "app:app"]


def _our_variables(place: Place) -> Mapping[str, str]:
    return {"OPENAI_COMPAT_CONFIG": str(place.folder / "config.toml"), "OPENAI_COMPAT_WORKERS": "1"}


# nginx.

_NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffering off;
  proxy_request_buffering off;
  proxy_read_timeout 300s;
  upstream plain {{ server 127.0.0.1:{port}; keepalive 1024; keepalive_requests 1000000; }}
  {tls_upstream}
  server {{
    listen 127.0.0.1:{own_port} backlog=4096;
    location = /healthz {{ return 200; }}
    location / {{ proxy_pass http://plain; }}
    {tls_location}
  }}
}}
"""


def _nginx_files(place: Place) -> Mapping[str, str]:
    tls = bool(place.authority)
    location = f"location /tls/ {{ proxy_pass https://tls/; proxy_ssl_trusted_certificate {place.authority}; proxy_ssl_verify on;"
    upstream = f"upstream tls {{ server 127.0.0.1:{place.mock.tls_port}; keepalive 1024; keepalive_requests 1000000; }}"
    text = _NGINX.format(
        user="user root;" if os.geteuid() == 0 else "",
        folder=place.folder,
        port=place.mock.port,
        own_port=place.port,
        tls_upstream=upstream if tls else "",
        tls_location=f"{location} proxy_ssl_name localhost; }}" if tls else "",
    )
    return {"nginx.conf": text}


def _nginx_version() -> str:
    """Such as 1.22.1."""
    words = subprocess.run([find_program("nginx"), "-v"], capture_output=True, text=True, check=True).stderr
    return words.rpartition("/")[2].split()[0]


# rolter.

_ROLTER = """
[server]
host = "127.0.0.1"
port = {port}
{tls}

[[providers.readonly]]
name = "plain"
kind = "openai_compatible"
api_base = "http://127.0.0.1:{mock}"

[[providers.readonly]]
name = "tls"
kind = "openai_compatible"
api_base = "https://127.0.0.1:{mock_tls}"

[[providers.readonly]]
name = "claude"
kind = "anthropic"
api_base = "http://127.0.0.1:{mock}"
api_key_env = "UPSTREAM_KEY"
allow_custom_api_base = true

[[virtual_keys]]
key = "{key}"
name = "bench"
models = []
"""
_ROLTER_ROUTE = """
[[routes]]
model = "{route}"
strategy = "round_robin"
[[routes.targets]]
provider = "{provider}"
model = "{model}"
"""


def _rolter_files(place: Place) -> Mapping[str, str]:
    tls = f'[tls]\nca_bundles = ["{place.authority}"]' if place.authority else ""
    text = _ROLTER.format(port=place.port, mock=place.mock.port, mock_tls=place.mock.tls_port or 1, tls=tls, key=_KEY)
    routes = (_ROLTER_ROUTE.format(route=row.route, provider=_provider(row), model=row.model) for row in _routes())
    return {"rolter.toml": text + "".join(routes)}


def _provider(row: Scenario) -> str:
    return "claude" if row.upstream == "anthropic" else "tls" if row.is_tls else "plain"


TARGETS = (
    Target(
        "nginx",
        "nginx, a plain streaming proxy",
        command=lambda place: [find_program("nginx"), "-p", str(place.folder), "-c", str(place.folder / "nginx.conf")],
        serves=frozenset({TLS}),
        needs=("nginx",),
        files=_nginx_files,
        prefix=lambda scenario: "/tls" if scenario.is_tls else "",
        version=_nginx_version,
        is_gateway=False,
    ),
    Target("ours", "openai-compat, `python app.py`", command=_our_command, files=_our_configuration),
    Target("gunicorn", "openai-compat, gunicorn", command=_our_gunicorn, files=_our_configuration, variables=_our_variables),
    Target(
        "rolter",
        "rolter (Rust)",
        command=lambda place: [str(place.installed / "bin" / "rolter"), "gateway", "--config", str(place.folder / "rolter.toml")],
        environment=Pip(["rolter==0.1.*"]),
        package="rolter",
        files=_rolter_files,
        variables=lambda _: {"UPSTREAM_KEY": "k", "ROLTER_UPDATE_CHECK": "false"},
    ),
)
