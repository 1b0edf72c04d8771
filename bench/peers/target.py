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

from bench.answers import PATHS, Wire
from bench.bodies import AGENT_WIRES
from bench.peers.install import Environment
from bench.processes import Running
from bench.scenarios import PEER_SCENARIOS, Scenario
from compat import __version__

CLAUDE, TLS, CLAUDE_TLS = "a Claude upstream", "a TLS upstream", "a Claude upstream behind TLS"
KEY = "sk-bench-0123456789abcdef"
BEARER = {"authorization": f"Bearer {KEY}"}


def pair(client: Wire, upstream: Wire) -> str:
    """What a gateway has to do for an agent that speaks that wire API, with an upstream that speaks this one."""
    return f"{client} to {upstream}"


AGENTS = frozenset(pair(client, upstream) for client in AGENT_WIRES.values() for upstream in PATHS)
"""Every such pair."""


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
    serves: frozenset[str] = frozenset({CLAUDE, TLS, CLAUDE_TLS}) | AGENTS
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
        return self.serves.issuperset(_needed(scenario))


def _needed(scenario: Scenario) -> Iterator[str]:
    is_claude = scenario.upstream == "anthropic"
    if scenario.agent:
        yield pair(scenario.wire("gateway"), scenario.upstream)
    elif is_claude:
        yield CLAUDE
    if scenario.is_tls:
        yield CLAUDE_TLS if is_claude else TLS


def routes() -> Iterator[Scenario]:
    """One scenario for each public name."""
    return iter({row.route: row for row in PEER_SCENARIOS}.values())


def base_url(place: Place, row: Scenario) -> str:
    """Where the row's upstream is: one that speaks its wire API alone, so that what should be translated is."""
    origin = f"https://127.0.0.1:{place.mock.tls_port}" if row.is_tls else f"http://127.0.0.1:{place.mock.port}"
    return f"{origin}/{row.upstream}"


def find_program(name: str) -> str:
    """Where a program of the machine is; empty: nowhere."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


def provider(row: Scenario) -> str:
    """Which of the upstreams a public name is served by: the name of its wire API, with `-tls` behind it where it speaks TLS."""
    return f"{row.upstream}{'-tls' if row.is_tls else ''}"
