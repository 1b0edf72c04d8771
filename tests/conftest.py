"""Shared fixtures: a gateway on a real socket in front of scripted upstreams."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests

from compat.calls.gateway import Gateway
from compat.clock import Clock
from compat.config.settings import load_settings, merge
from compat.factory import build_gateway, create_app
from compat.serve.gevent_server import Server
from compat.service.listener import open_listener
from compat.upstream.client import UpstreamClient
from tests.fakes.authority import Authority, made_in
from tests.fakes.memory import Network
from tests.fakes.openai_answers import respond
from tests.fakes.upstream import FakeUpstream

hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("steady")


class RunningGateway:
    """A gateway that serves on `url`; `log_lines` are the records it wrote, `settings` nest as in the configuration file."""

    def __init__(
        self,
        settings: dict[str, Any],
        base_dir: Path,
        environment: dict[str, str] | None = None,
        clock: Clock | None = None,
        transport: UpstreamClient | None = None,
    ) -> None:
        quiet = {
            "server": {"port": 0},
            "discovery": {"enabled": False},
            "embedded": {"enabled": False, "model": "small"},
            "log": {"terminal": False},
        }
        loaded = load_settings(None, environment or {}, merge(quiet, settings))
        self.gateway: Gateway = build_gateway(loaded, environment or {}, base_dir, clock=clock, transport=transport)
        listener = open_listener("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.server = Server(listener, create_app(self.gateway), self.gateway)
        self.server.start()
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"
        self.http = requests.Session()
        self.http.trust_env = False
        self._log_path = base_dir / "logs/openai_compat.log"
        self._data = base_dir / "data"

    def chat(
        self, *, path: str = "/chat/completions", timeout: float = 30, headers: dict[str, str] | None = None, **body: Any
    ) -> requests.Response:
        document = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}], **body}
        return self.http.post(self.url + path, json=document, timeout=timeout, headers=headers)

    def post(self, body: bytes, **headers: str) -> requests.Response:
        sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.http.post(f"{self.url}/chat/completions", data=body, headers=sent, timeout=30)

    def get(self, path: str, **rest: Any) -> requests.Response:
        return self.http.get(self.root + path, timeout=30, **rest)

    def log_lines(self) -> list[dict[str, Any]]:
        self.gateway.log.flush()
        text = self._log_path.read_text() if self._log_path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def calls(self) -> list[dict[str, Any]]:
        return [line for line in self.log_lines() if line["event"] == "call"]

    def close(self) -> None:
        self.http.close()
        self.server.stop(0.5)
        self.gateway.transport.close()
        self.gateway.responses.close()
        for name, store in (("thinking", self.gateway.vault), ("usage", self.gateway.usage)):
            if (self._data / f"{name}.sqlite").exists():  # to close one that was never used takes as long as to make it
                store.close()
        with contextlib.suppress(io.UnsupportedOperation):
            self.gateway.log.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return made_in(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=respond) as running:
        yield running


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Any]:
    running: list[RunningGateway] = []

    def start(settings: dict[str, Any], environment: dict[str, str] | None = None, **more: Any) -> RunningGateway:
        folder = tmp_path / f"gateway{len(running)}"
        folder.mkdir()
        running.append(RunningGateway(settings, folder, environment, **more))
        return running[-1]

    yield start
    for gateway in running:
        gateway.close()


class InMemory:
    """Upstreams without sockets (`tests/fakes/memory.py`), and gateways that reach them."""

    def __init__(self, start_gateway: Any) -> None:
        self._network = Network()
        self._start = start_gateway
        self.upstream = self._network.upstream

    def start(self, settings: dict[str, Any]) -> RunningGateway:
        network = self._network
        gateway: RunningGateway = self._start(settings, clock=network.clock, transport=UpstreamClient(network.pool))
        return gateway


@pytest.fixture
def in_memory(start_gateway: Any) -> InMemory:
    return InMemory(start_gateway)


def to_upstream(upstream: FakeUpstream, **more: Any) -> dict[str, Any]:
    """Settings with one upstream named `fake` behind `claude-4-sonnet`."""
    return merge(
        {
            "upstreams": {"fake": {"kind": "openai", "base_url": upstream.url, "api_keys": ["sk-canary-0123456789"]}},
            "models": {"claude-4-sonnet": {"route": ["fake/their-model"]}},
            "retry": {"attempts": 1},
        },
        more,
    )


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    """A gateway with one upstream, one attempt per call."""
    return start_gateway(to_upstream(upstream))
