"""The interleaved run: everything is started, each scenario goes round the targets, everything is ended by its pid.

Strategy: in each round each scenario is run with one target after the other, the other way round in odd rounds, so that whatever disturbs
the machine disturbs all of them. There is one load at a time. A target that can't be installed or started is left out with its reason; a
load that breaks off is counted as wrong, and the others go on.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers.certificates import make_certificates
from bench.peers.figures import Loaded, Process
from bench.peers.install import NotInstalled, install
from bench.peers.target import Place, Target, find_program
from bench.processes import ROOT, ProcessFailed, Running, free_port, started_mock, started_server
from bench.scenarios import Scenario

_SETTLE_S = 0.15
_IDLE_S = 1.0
_LOAD_LIMIT_S = 180
_WARM_UP_SHARE = 0.1
_REASON = 400
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: rounds of each scenario, of the slow ones, and the share of a scenario's requests that a round makes."""

    rounds: int
    slow_rounds: int
    share: float

    def rounds_of(self, scenario: Scenario) -> int:
        """How often the scenario is measured."""
        return self.slow_rounds if scenario.is_slow or scenario.behind else self.rounds

    def requests_of(self, scenario: Scenario, share: float) -> int:
        """How many requests one round of it makes."""
        if scenario.is_slow or scenario.behind:
            return scenario.requests
        return max(int(scenario.requests * self.share * share), scenario.connections, 2)


@dataclass(frozen=True, slots=True)
class Started:
    """A target that runs. `place` is `None` for the upstream itself, which is asked directly."""

    name: str
    running: Running
    place: Place | None = None
    target: Target | None = None
    version: str = ""
    idle_mb: float = 0.0

    @property
    def share(self) -> float:
        """The share of requests that is enough."""
        return self.target.share if self.target else 1.0

    @property
    def most_rounds(self) -> int:
        """How many rounds are enough."""
        return self.target.most_rounds if self.target else 2

    def can_serve(self, scenario: Scenario) -> bool:
        """Whether the scenario can be measured with it."""
        return not scenario.is_tls if self.target is None else self.target.can_serve(scenario)

    def load(self, scenario: Scenario, requests: int) -> dict[str, Any]:
        """Run it; what the load generator told. Errors: `ProcessFailed`."""
        command = [sys.executable, "-m", "bench.load", "--port", str(self.running.port), "--scenario", scenario.name]
        command += ["--target", "gateway" if self.target else "direct", "--requests", str(requests)]
        if self.target and self.place:
            command += ["--prefix", self.target.prefix(scenario)]
            for name, value in self.target.headers(self.place, scenario).items():
                command += ["--header", f"{name}={value}"]
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=_LOAD_LIMIT_S, check=True)
        except subprocess.SubprocessError as error:
            raise ProcessFailed(f"the load broke off: {error}") from error
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def measure(self, scenario: Scenario, round_number: int, requests: int) -> Loaded:
        """One load, and the CPU of the target meanwhile; a load that broke off has nothing but wrong answers."""
        before_s = self.running.cpu_s()
        try:
            load = self.load(scenario, requests)
        except ProcessFailed as error:
            load = {"requests": requests, "failures": requests, "faults": [str(error)]}
        time.sleep(_SETTLE_S)
        return Loaded(scenario.name, self.name, round_number, load, self.running.cpu_s() - before_s)


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run found out; `skipped` are the targets that are not in it, with the reason."""

    loads: list[Loaded]
    processes: dict[str, Process]
    skipped: dict[str, str]


def run(targets: Sequence[Target], scenarios: Sequence[Scenario], plan: Plan, cache: Path, tell: Tell, *, is_direct: bool) -> Run:
    """Install, start, measure, end. Errors: `ProcessFailed` of the mock upstream."""
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="peers-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        certificates = make_certificates(folder)
        if certificates is None:
            tell("There is no openssl: nothing is measured with a TLS upstream.")
            scenarios = [row for row in scenarios if not row.is_tls]
        mock = stack.enter_context(started_mock([certificates.certificate, certificates.key] if certificates else []))
        started = [Started("direct", mock)] if is_direct else []
        for target in targets:
            try:
                place = _place(target, folder, mock, certificates.authority if certificates else None, cache, tell)
                started.append(stack.enter_context(_started(target, place)))
            except (NotInstalled, ProcessFailed) as error:
                skipped[target.name] = reason = " ".join(str(error).split())[:_REASON]
                tell(f"{target.name} is left out: {reason}")
            else:
                tell(
                    f"{target.name} {started[-1].version}: healthy after {started[-1].running.start_s:.2f} s, {started[-1].idle_mb:.0f} MB"
                )
        loads = list(_rounds(started, scenarios, plan, tell))
        processes = {
            one.name: Process(one.version, one.running.start_s, one.idle_mb, one.running.memory_mb("VmHWM"))
            for one in started
            if one.target
        }
    return Run(loads, processes, skipped)


def _place(target: Target, folder: Path, mock: Running, authority: Path | None, cache: Path, tell: Tell) -> Place:
    """Install the target, and write its files. Errors: `NotInstalled`."""
    for program in target.needs:
        if not find_program(program):
            raise NotInstalled(f"there is no {program} on this machine")
    if target.environment is not None:
        tell(f"{target.name}: installing, unless it is there")
    installed = install(target.name, target.environment, cache) if target.environment else folder
    place = Place(folder / target.name, installed, free_port(), mock, authority)
    place.folder.mkdir()
    for name, text in target.files(place).items():
        (place.folder / name).write_text(text)
    return place


@contextlib.contextmanager
def _started(target: Target, place: Place) -> Iterator[Started]:
    version = target.environment.version(place.installed, target.package) if target.environment else target.version()
    with started_server(
        target.title,
        target.command(place),
        place.port,
        place.folder / "output",
        cwd=ROOT if target.environment is None else place.folder,
        environment=target.variables(place),
        ready=target.ready,
        limit_s=target.start_limit_s,
    ) as running:
        time.sleep(_IDLE_S)
        yield Started(target.name, running, place, target, version, running.memory_mb())


def warming(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those that open connections and load code before anything is measured: one for each model, whole and streamed; none that is slow."""
    quick = [row for row in scenarios if not row.is_slow and not row.behind]
    return list({(row.route, row.chunks > 0): row for row in quick}.values())


def _rounds(started: Sequence[Started], scenarios: Sequence[Scenario], plan: Plan, tell: Tell) -> Iterator[Loaded]:
    pairs = [(scenario, [one for one in started if one.can_serve(scenario)]) for scenario in scenarios]
    for scenario in warming(scenarios):
        for one in [one for one in started if one.can_serve(scenario)]:
            with contextlib.suppress(ProcessFailed):  # the measured load will tell it
                one.load(scenario, max(int(plan.requests_of(scenario, one.share) * _WARM_UP_SHARE), 1))
    for round_number in range(max((plan.rounds_of(scenario) for scenario in scenarios), default=0)):
        for scenario, able in pairs:
            if round_number >= plan.rounds_of(scenario):
                continue
            tell(f"round {round_number + 1}: {scenario.name}")
            for one in able if round_number % 2 == 0 else reversed(able):
                if round_number >= one.most_rounds:
                    continue
                loaded = one.measure(scenario, round_number, plan.requests_of(scenario, one.share))
                for fault in loaded.load["faults"]:
                    tell(f"  {one.name}: {fault[:200]}")
                yield loaded
