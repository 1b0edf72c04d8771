"""The benchmark: `python -m bench.run [--quick] [--json FILE] [--rounds N] [--only WORDS]`.

Strategy: one mock upstream, one gateway, one load generator at a time, each a process of its own on 127.0.0.1. In every round each
scenario is run directly against the mock and then through the gateway (the other way round in odd rounds), so that whatever disturbs
the machine disturbs both. Each answer's content is checked. The CPU is that of the gateway's process tree: the figure that holds on a
noisy machine. The gateway runs as it is delivered, its log included; only its model discovery and its embedded model are off.

Exit codes: 0 measured, every answer right; 1 wrong answers; 2 a process did not start, or broke off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.answers import Wire
from bench.processes import ROOT, ProcessFailed, Running, started_gateway, started_mock
from bench.report import Measured, as_document, rows_of, table
from bench.scenarios import PEER_SCENARIOS, SCENARIOS, TARGETS, Scenario, Target
from compat import __version__
from compat.protocols import TRANSLATORS

_SETTLE_S = 0.1
_LOAD_LIMIT_S = 180
_WARM_UP_SHARE = 0.1
_TRANSLATION = ("openai.chat", "anthropic.messages")

_CONFIG = """
[server]
port = {own_port}

[discovery]
enabled = false

[embedded]
enabled = false

[log]
file = {log}

[vault]
path = {vault}

[usage]
path = {usage}
"""
_UPSTREAM = """
[upstreams.{name}]
kind = "{kind}"
base_url = "{scheme}://127.0.0.1:{port}/{wire}{version}"
wire_api = "{api}"
api_keys = ["k"]
"""
_UPSTREAMS: Mapping[Wire, tuple[str, str, str, str]] = {
    "openai": ("mock", "openai", "/v1", "chat"),
    "anthropic": ("claude", "anthropic", "", "messages"),
    "responses": ("gpt", "openai", "/v1", "responses"),
}
_ROUTE = """
[models.{name}]
route = [{target}]
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: rounds of each row, of the slow rows, and the share of a row's requests that a round makes."""

    rounds: int
    slow_rounds: int
    share: float

    def rounds_of(self, scenario: Scenario) -> int:
        """How often the row is measured."""
        return self.slow_rounds if scenario.is_slow else self.rounds

    def requests_of(self, scenario: Scenario) -> int:
        """How many requests one round of the row makes."""
        return scenario.requests if scenario.is_slow else max(int(scenario.requests * self.share), scenario.connections)


FULL = Plan(rounds=9, slow_rounds=3, share=1.0)
QUICK = Plan(rounds=3, slow_rounds=1, share=0.4)


@dataclass(frozen=True, slots=True)
class Bench:
    """The two servers of a run."""

    mock: Running
    gateway: Running

    def warm_up(self, scenarios: Iterable[Scenario]) -> None:
        """Some requests of each row that is not slow, unmeasured: connections are open and code is loaded afterwards."""
        for scenario in scenarios:
            if not scenario.is_slow:
                for target in TARGETS:
                    self._load(scenario, target, max(int(scenario.requests * _WARM_UP_SHARE), 1))

    def measure(self, scenario: Scenario, target: Target, round_number: int, requests: int) -> Measured:
        """One load, and the gateway's CPU meanwhile."""
        before_s = self.gateway.cpu_s()
        load = self._load(scenario, target, requests)
        time.sleep(_SETTLE_S)
        return Measured(round_number, target, load, self.gateway.cpu_s() - before_s)

    def _load(self, scenario: Scenario, target: Target, requests: int) -> dict[str, Any]:
        port = (self.mock if target == "direct" else self.gateway).port
        command = [sys.executable, "-m", "bench.load", "--port", str(port), "--scenario", scenario.name, "--target", target]
        command += ["--requests", str(requests)]
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=_LOAD_LIMIT_S, check=True)
        except subprocess.SubprocessError as error:
            raise ProcessFailed(f"The load generator failed: {scenario.name}, {target}: {error}") from error
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def measure_all(bench: Bench, scenarios: Sequence[Scenario], plan: Plan) -> dict[str, list[Measured]]:
    """All rounds: scenario name -> its loads."""
    bench.warm_up(scenarios)
    measured: dict[str, list[Measured]] = {scenario.name: [] for scenario in scenarios}
    for round_number in range(max(plan.rounds_of(scenario) for scenario in scenarios)):
        _tell(f"round {round_number + 1}")
        for scenario in scenarios:
            if round_number >= plan.rounds_of(scenario):
                continue
            for target in TARGETS if round_number % 2 == 0 else reversed(TARGETS):
                load = bench.measure(scenario, target, round_number, plan.requests_of(scenario))
                measured[scenario.name].append(load)
                for fault in load.load["faults"]:
                    _tell(f"{scenario.name}, {target}: {fault}")
    return measured


def selected(words: str) -> list[Scenario]:
    """The rows whose name holds `words` with their baselines, without those that this gateway can't serve."""
    wanted = [row for row in SCENARIOS if words in row.name]
    names = {row.name for row in wanted} | {row.baseline for row in wanted}
    rows = [row for row in SCENARIOS if row.name in names]
    if _TRANSLATION in TRANSLATORS:
        return rows
    for row in rows:
        if row.upstream == "anthropic":
            _tell(f"skipped: {row.name}: the gateway has no translator from {_TRANSLATION[0]} to {_TRANSLATION[1]}")
    return [row for row in rows if row.upstream != "anthropic"]


def write_config(folder: Path, mock: Running, authority: Path | None = None, *, port: int = 28889) -> Path:
    """The gateway's configuration; its log goes into `folder` as well. With an `authority` there is an upstream that speaks TLS."""
    rows = [row for row in PEER_SCENARIOS if authority or not row.is_tls] + list(SCENARIOS)
    routes = {row.route: f"{_UPSTREAMS[row.upstream][0]}{'-tls' if row.is_tls else ''}/{row.model}" for row in rows}
    files = {name: json.dumps(str(folder / f"gateway.{name}")) for name in ("log", "vault", "usage")}
    text = _CONFIG.format(own_port=port, **files)
    for wire, (name, kind, version, api) in _UPSTREAMS.items():
        row = {"wire": wire, "kind": kind, "version": version, "api": api}
        text += _UPSTREAM.format(name=name, scheme="http", port=mock.port, **row)
        if authority:
            text += _UPSTREAM.format(name=f"{name}-tls", scheme="https", port=mock.tls_port, **row)
            text += f"ca_file = {json.dumps(str(authority))}\n"
    config = folder / "config.toml"
    config.write_text(text + "".join(_ROUTE.format(name=json.dumps(name), target=json.dumps(to)) for name, to in routes.items()))
    return config


def run(scenarios: Sequence[Scenario], plan: Plan) -> dict[str, Any]:
    """Start everything, measure, end everything; the whole report, `table` among it. Errors: `ProcessFailed`."""
    begun_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        started_mock() as mock,
        started_gateway(write_config(Path(name), mock), Path(name) / "output") as gateway,
    ):
        idle_mb = gateway.memory_mb()
        measured = measure_all(Bench(mock, gateway), scenarios, plan)
        memory = {"idle": idle_mb, "afterwards": gateway.memory_mb(), "peak": gateway.memory_mb("VmHWM")}
    rows = rows_of(scenarios, measured)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "gateway": __version__}
    return {
        "machine": machine,
        "table": table(rows),
        "start_s": gateway.start_s,
        "memory_mb": memory,
        "seconds": time.monotonic() - begun_s,
        "wrong": sum(row.failures for row in rows),
        **as_document(rows, measured),
    }


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="The gateway against a direct call, in one interleaved run.")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single load there as well")
    parser.add_argument("--rounds", type=int, help="rounds of the rows that are not slow")
    parser.add_argument("--only", default="", metavar="WORDS", help="only rows whose name holds these words, and their baselines")
    return parser.parse_args()


def main() -> int:
    """Measure and print. Returns the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    plan = QUICK if arguments.quick else FULL
    if arguments.rounds:
        plan = Plan(arguments.rounds, plan.slow_rounds, plan.share)
    scenarios = selected(arguments.only)
    if not scenarios:
        _tell("No row is left to be measured.")
        return 2
    try:
        report = run(scenarios, plan)
    except ProcessFailed as error:
        _tell(str(error))
        return 2
    memory, machine = report["memory_mb"], report["machine"]
    print(report["table"])
    print(f"\nmemory: {memory['idle']:.0f} MB idle, {memory['afterwards']:.0f} MB afterwards, {memory['peak']:.0f} MB at its peak")
    print(f"healthy after {report['start_s']:.2f} s; measured in {report['seconds']:.0f} s on {machine['cores']} cores")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
