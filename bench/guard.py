"""The guard of the hot path's cost: `python -m bench.guard [--record]`. CI runs it.

It measures what a whole call, a streamed chunk, a translated chunk and a Kilo-shaped call cost the gateway in CPU, as ratios to what a
bare WSGI server costs for the same answers in the same minutes (`bench.reference_server`). A ratio more than 35 % above the recorded one
(`bench/guard.json`) fails.

Strategy: a disturbed load costs more, never less, so the best of several rounds counts, and a ratio that is too high gets more rounds
before it is believed. After an optimisation `--record` writes down the new ratios, which then need a commit.

Exit codes: 0 within bounds, or recorded; 1 a ratio is too high, or an answer was wrong; 2 a process did not start.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import ProcessFailed, free_port, started_gateway, started_mock, started_server
from bench.run import Bench, write_config
from bench.scenarios import Scenario, scenario_named

RECORDED = Path(__file__).with_name("guard.json")
MOST = 1.35
LEAST_ROUNDS, MOST_ROUNDS = 3, 12
WHOLE, STREAM, TRANSLATED, TRANSLATED_STREAM = "whole, 32 at once", "stream, 8 at once", "translated whole", "translated stream"
KILO = "Kilo call"
_REQUESTS = {WHOLE: 400, STREAM: 100, TRANSLATED: 300, TRANSLATED_STREAM: 100, KILO: 50}
_REFERENCES = (WHOLE, STREAM, KILO)


@dataclass(slots=True)
class Costs:
    """The least CPU a request, in microseconds, by scenario. Mutable: lowered by each better load."""

    ours: dict[str, float] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def ratios(self) -> dict[str, float]:
        """Figure -> ours by the reference's."""
        chunk = _per_chunk(self.reference, STREAM, WHOLE)
        return {
            "a whole call": self.ours[WHOLE] / self.reference[WHOLE],
            "a streamed chunk": _per_chunk(self.ours, STREAM, WHOLE) / chunk,
            "a translated chunk": _per_chunk(self.ours, TRANSLATED_STREAM, TRANSLATED) / chunk,
            "a Kilo-shaped call": self.ours[KILO] / self.reference[KILO],
        }


def _per_chunk(costs: Mapping[str, float], stream: str, whole: str) -> float:
    return (costs[stream] - costs[whole]) / scenario_named(stream).chunks


def too_high(ratios: Mapping[str, float], recorded: Mapping[str, float]) -> dict[str, float]:
    """The figures that are above their bound, with how many times the recorded ratio they are."""
    return {name: ratio / recorded[name] for name, ratio in ratios.items() if ratio > recorded[name] * MOST}


def measure_round(gateway: Bench, reference: Bench, costs: Costs, *, with_kilo: bool) -> None:
    """One load of each scenario, the reference's beside the gateway's."""
    for name in _REQUESTS:
        if name == KILO and not with_kilo:
            continue
        scenario = scenario_named(name)
        if name in _REFERENCES:
            _measure(reference, scenario, costs.reference, costs)
        _measure(gateway, scenario, costs.ours, costs)


def _measure(bench: Bench, scenario: Scenario, least: dict[str, float], costs: Costs) -> None:
    measured = bench.measure(scenario, "gateway", 0, _REQUESTS[scenario.name])
    costs.wrong += [f"{scenario.name}: {fault}" for fault in measured.load["faults"]]
    least[scenario.name] = min(measured.cpu_us, least.get(scenario.name, measured.cpu_us))


def run(recorded: Mapping[str, float] | None) -> Costs:
    """Measure until the ratios are within bounds of `recorded`, or the rounds are used up. Errors: `ProcessFailed`."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="guard-") as name,
        started_mock() as mock,
        started_gateway(write_config(Path(name), mock), Path(name) / "output") as gateway,
        started_server(
            "The reference", [sys.executable, "-m", "bench.reference_server", str(port)], port, Path(name) / "reference"
        ) as reference,
    ):
        costs = Costs()
        for number in range(MOST_ROUNDS):
            measure_round(Bench(mock, gateway), Bench(mock, reference), costs, with_kilo=number % 2 == 0)
            if costs.wrong or (recorded and number + 1 >= LEAST_ROUNDS and not too_high(costs.ratios(), recorded)):
                break
    return costs


def main() -> int:
    """Measure, and compare or record. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description="Does the hot path cost more than it did?")
    parser.add_argument("--record", action="store_true", help="write the ratios down as what is right")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    recorded = None if arguments.record else json.loads(RECORDED.read_text())
    try:
        costs = run(recorded)
    except ProcessFailed as error:
        print(error, file=sys.stderr)
        return 2
    if costs.wrong:
        print(*costs.wrong, sep="\n", file=sys.stderr)
        return 1
    ratios = costs.ratios()
    if recorded is None:
        RECORDED.write_text(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}, indent=2) + "\n")
    high = too_high(ratios, recorded) if recorded else {}
    for name, ratio in ratios.items():
        words = "" if recorded is None else f", recorded {recorded[name]:.2f}" + (f": {high[name]:.2f} times it" if name in high else "")
        print(f"{name}: {ratio:.2f} times the reference{words}")
    print({name: round(cost) for name, cost in costs.ours.items()}, {name: round(cost) for name, cost in costs.reference.items()})
    return 1 if high else 0


if __name__ == "__main__":
    sys.exit(main())
