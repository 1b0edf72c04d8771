"""The long run: `scripts/fuzz [--cases N] [--seed S] [TARGET ...]`. Exit code 1 when a case failed, was too slow, or took too much memory.

A target is a property and a strategy (`PROPERTIES` of the `fuzz_*` modules); the tests run a slice of each (`test_fuzz.py`).
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests.security import fuzz_calls, fuzz_doors, fuzz_schema, fuzz_server, fuzz_translate, fuzz_wire

PROPERTIES: Mapping[str, tuple[st.SearchStrategy[Any], Any]] = {
    **fuzz_wire.PROPERTIES,
    **fuzz_translate.PROPERTIES,
    **fuzz_calls.PROPERTIES,
    **fuzz_doors.PROPERTIES,
    **fuzz_server.PROPERTIES,
    **fuzz_schema.PROPERTIES,
}
WEIGHTS: Mapping[str, int] = {**dict.fromkeys(fuzz_wire.PROPERTIES, 3), **dict.fromkeys(fuzz_translate.PROPERTIES, 2)}
"""How many of the cases a target gets; the others one part each."""

CASES = 110_000
MAX_CASE_S = 10.0
MAX_MEMORY_MB = 1024


class Run:
    """One target. Mutable: how many cases there were, and the longest of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases = 0
        self.longest_s = 0.0

    def __call__(self, cases: int, seed: int) -> None:
        """Try so many cases. Whatever a case raises is raised, with the smallest one that does it."""
        strategy, check = PROPERTIES[self.name]

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=cases,
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=list(hypothesis.HealthCheck),
            print_blob=True,
        )
        @hypothesis.given(strategy)
        def run(case: Any) -> None:
            begun_s = time.monotonic()
            check(case)
            took_s = time.monotonic() - begun_s
            self.cases += 1
            self.longest_s = max(self.longest_s, took_s)
            assert took_s < MAX_CASE_S, f"a case took {took_s:.1f} s"

        run()


def memory_mb() -> int:
    """The most memory that this process had."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size // (1024 * 1024 if sys.platform == "darwin" else 1024)


def main(arguments: Sequence[str]) -> int:
    """Run the targets that are named, or all; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Hostile input by machine.")
    parser.add_argument("--cases", type=int, default=CASES, help=f"for all targets together (default {CASES})")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed gives the same cases")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one or several of: {', '.join(PROPERTIES)} (default: all)")
    asked = parser.parse_args(arguments)
    names = asked.targets or list(PROPERTIES)
    if unknown := [name for name in names if name not in PROPERTIES]:
        parser.error(f"no such target: {', '.join(unknown)}")
    parts = sum(WEIGHTS.get(name, 1) for name in names)
    print(f"seed {asked.seed}\n{'target':<18} {'cases':>8} {'seconds':>8} {'longest':>9} {'memory':>8}")
    failed, total, begun_s = [], 0, time.monotonic()
    for name in names:
        run, at_s = Run(name), time.monotonic()
        try:
            run(max(asked.cases * WEIGHTS.get(name, 1) // parts + 1, 1), asked.seed)
        except Exception:  # noqa: BLE001  # whatever it is, it is told, and the other targets are tried
            failed.append(name)
            traceback.print_exc()
        total += run.cases
        row = f"{run.cases:>8} {time.monotonic() - at_s:>8.1f} {run.longest_s * 1000:>6.0f} ms {memory_mb():>5} MB"
        print(f"{name:<18} {row}{'  FAILED' if name in failed else ''}", flush=True)
    print(f"{total} cases in {time.monotonic() - begun_s:.0f} s, {memory_mb()} MB at most; failed: {', '.join(failed) or 'none'}")
    return 1 if failed or memory_mb() > MAX_MEMORY_MB else 0
