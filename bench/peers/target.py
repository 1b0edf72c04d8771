"""What a target of the benchmark is, and what all of them have in common.

Strategy: every gateway gets the same public names (`Scenario.route`), calls the same mock upstream with the same ids (`Scenario.model`),
runs in one process or with one worker, and keeps its own defaults otherwise. What a gateway can't do is left out of `serves`, and the
scenarios that need it are not measured with it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers.install import Environment
from bench.processes import Running
from bench.scenarios import PEER_SCENARIOS, Scenario
from compat import __version__

CLAUDE, TLS = "a Claude upstream", "a TLS upstream"
KEY = "sk-bench-0123456789abcdef"
BEARER = {"authorization": f"Bearer {KEY}"}


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
    """A row of the table: how it is installed, configured, started, asked.

    `files` are written into its folder before it is started. `headers` and `prefix` are what its clients send and put before the path.
    `needs` are programs that must be on the machine. `share` of a scenario's requests and
    `most_rounds` are enough for one that is slow.
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
    headers: Callable[[Place, Scenario], Mapping[str, str]] = lambda _place, _scenario: BEARER
    prefix: Callable[[Scenario], str] = lambda _: ""
    share: float = 1.0
    most_rounds: int = 100
    version: Callable[[], str] = lambda: __version__
    is_gateway: bool = True
    is_default: bool = True

    def can_serve(self, scenario: Scenario) -> bool:
        """Whether the scenario can be measured with it."""
        return _needed(scenario) <= self.serves


def _needed(scenario: Scenario) -> frozenset[str]:
    return frozenset(({CLAUDE} if scenario.upstream == "anthropic" else set()) | ({TLS} if scenario.is_tls else set()))


def routes() -> Iterator[Scenario]:
    """One scenario for each public name."""
    return iter({row.route: row for row in PEER_SCENARIOS}.values())


def base_url(place: Place, row: Scenario) -> str:
    return f"https://127.0.0.1:{place.mock.tls_port}" if row.is_tls else f"http://127.0.0.1:{place.mock.port}"


def find_program(name: str) -> str:
    """Where a program of the machine is; empty: nowhere."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


def provider(row: Scenario) -> str:
    """Which of the three upstreams a public name is served by."""
    return "claude" if row.upstream == "anthropic" else "tls" if row.is_tls else "plain"
