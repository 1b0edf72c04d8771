"""The command line of the peers' benchmark: `python -m bench.peers`. See docs/performance.md.

Exit codes: 0 measured, and every answer of ours was right; 1 wrong answers of ours; 2 a process did not start, or nothing to measure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from bench.peers.budgets import Judged, judge
from bench.peers.figures import Table, figures_of
from bench.peers.measure import Plan, Run, run
from bench.peers.plot import picture
from bench.peers.tables import budget_table, process_table, scenario_tables
from bench.peers.targets import TARGETS
from bench.processes import ProcessFailed
from bench.scenarios import PEER_SCENARIOS, Scenario

FULL = Plan(rounds=3, slow_rounds=2, share=1.0)
QUICK = Plan(rounds=1, slow_rounds=1, share=0.3)
OURS = ("ours", "gunicorn")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="The gateway beside its peers, in one interleaved run.")
    names = ",".join(["direct", *(target.name for target in TARGETS if target.is_default)])
    parser.add_argument("--targets", default=names, metavar="NAMES", help=f"with commas between (default: {names}; smg is one more)")
    parser.add_argument("--only", default="", metavar="WORDS", help="only scenarios whose name holds one of these, with semicolons between")
    parser.add_argument("--rounds", type=int, help="rounds of every scenario")
    parser.add_argument("--quick", action="store_true", help="one small round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single load there as well")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the CPU figures there")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(platformdirs.user_cache_dir("openai-compat")) / "peers",
        metavar="FOLDER",
        help="where peers are installed",
    )
    return parser.parse_args()


def selected(words: str) -> list[Scenario]:
    """The scenarios whose name holds one of the words, and their baselines."""
    wanted = [row for row in PEER_SCENARIOS if any(word.strip() in row.name for word in words.split(";"))]
    names = {row.name for row in wanted} | {row.baseline for row in wanted}
    return [row for row in PEER_SCENARIOS if row.name in names]


def _document(found: Run, figures: Table, judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "figures": [{"scenario": scenario, "target": target, **asdict(row)} for (scenario, target), row in figures.items()],
        "processes": {name: asdict(one) for name, one in found.processes.items()},
        "budgets": [{**asdict(one), "verdict": one.verdict} for one in judged],
        "skipped": found.skipped,
        "loads": [asdict(load) for load in found.loads],
    }


def main() -> int:
    """Measure and print. Returns the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    plan = QUICK if arguments.quick else FULL
    if arguments.rounds:
        plan = Plan(arguments.rounds, arguments.rounds, plan.share)
    scenarios = selected(arguments.only)
    names = [name.strip() for name in arguments.targets.split(",")]
    unknown = set(names) - {"direct", *(target.name for target in TARGETS)}
    if unknown:
        _tell(f"There is no target {', '.join(sorted(unknown))}.")
        return 2
    targets = [target for target in TARGETS if target.name in names]
    if not scenarios or not targets:
        _tell("Nothing is left to be measured.")
        return 2
    begun_s = time.monotonic()
    try:
        found = run(targets, scenarios, plan, arguments.cache, _tell, is_direct="direct" in names)
    except ProcessFailed as error:
        _tell(str(error))
        return 2
    figures = figures_of(found.loads)
    rivals = [target.name for target in targets if target.is_gateway and target.name not in OURS]
    judged = judge(figures, found.processes, OURS, rivals)
    print(scenario_tables(figures, ["direct", *found.processes]), process_table(found.processes), budget_table(judged), sep="\n\n")
    for name, reason in found.skipped.items():
        print(f"\n{name} is not in this run: {reason}")
    print(f"\nmeasured in {time.monotonic() - begun_s:.0f} s on {os.cpu_count()} cores, Python {platform.python_version()}")
    if arguments.png and (image := picture(figures, list(found.processes))):
        arguments.png.write_bytes(image)
    if arguments.json:
        arguments.json.write_text(json.dumps(_document(found, figures, judged), indent=1))
    return 1 if any(row.wrong for (_, target), row in figures.items() if target in OURS) else 0


if __name__ == "__main__":
    sys.exit(main())
