"""The soak: `python -m bench.soak [--calls 10000] [--png FILE] [--json FILE]`.

10,000 streamed calls, 8 at a time, through one gateway to the mock upstream; every answer is checked. After each 500 calls the gateway's
resident memory and the descriptors it has open are read from /proc. Memory must not grow: after 10,000 calls it is within 5 % of what it
was after 1,000, and descriptors stay level.

Strategy: the gateway runs as it is delivered, its log, its usage store and its metrics on. The curve is drawn without a plotting library:
a grid of pixels, letters from a tiny font, and zlib for the PNG (W3C PNG, sections 9 to 11).

Exit codes: 0 memory and descriptors are level; 1 they are not, or an answer was wrong; 2 a process did not start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.chart import Curve, draw
from bench.processes import ROOT, ProcessFailed, Running, started_gateway, started_mock
from bench.run import write_config
from bench.scenarios import scenario_named

SCENARIO = scenario_named("stream, 8 at once")
CALLS = 10_000
STEP = 500
FIRST = 1000
MOST_GROWTH = 0.05
MOST_DESCRIPTORS = 2
_LOAD_LIMIT_S = 180


@dataclass(frozen=True, slots=True)
class Sample:
    """The gateway after `calls` calls."""

    calls: int
    seconds: float
    rss_mb: float
    descriptors: int
    wrong: int


def soak(calls: int) -> list[Sample]:
    """A sample before the first call, and one after each step. Errors: `ProcessFailed`."""
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        started_mock() as mock,
        started_gateway(write_config(Path(name), mock), Path(name) / "output") as gateway,
    ):
        begun_s = time.monotonic()
        samples = [Sample(0, 0.0, gateway.memory_mb(), descriptors(gateway), 0)]
        for done in range(STEP, calls + 1, STEP):
            wrong = load(gateway.port, STEP)
            samples.append(Sample(done, round(time.monotonic() - begun_s, 1), gateway.memory_mb(), descriptors(gateway), wrong))
            print(samples[-1], file=sys.stderr, flush=True)
    return samples


def load(port: int, count: int) -> int:
    """Make `count` calls; how many answers were wrong. Errors: `ProcessFailed`."""
    command = [sys.executable, "-m", "bench.load", "--port", str(port), "--scenario", SCENARIO.name, "--target", "gateway"]
    try:
        done = subprocess.run([*command, "--requests", str(count)], cwd=ROOT, stdout=subprocess.PIPE, timeout=_LOAD_LIMIT_S, check=True)
    except subprocess.SubprocessError as error:
        raise ProcessFailed(f"The load generator failed: {error}") from error
    return int(json.loads(done.stdout)["failures"])


def descriptors(gateway: Running) -> int:
    """How many descriptors the gateway has open, once the clients' sockets are closed."""
    folder, count = Path(f"/proc/{gateway.pid}/fd"), -1
    while (now := len(list(folder.iterdir()))) != count:
        count = now
        time.sleep(0.2)
    return count


def verdict(samples: list[Sample]) -> str:
    """What is wrong; empty when all is level."""
    first, last = next(one for one in samples if one.calls >= FIRST), samples[-1]
    growth = last.rss_mb / first.rss_mb - 1
    if any(one.wrong for one in samples):
        return f"{sum(one.wrong for one in samples)} answers were wrong"
    if growth > MOST_GROWTH:
        return f"memory grew by {growth:.1%} between {first.calls} and {last.calls} calls"
    if last.descriptors - first.descriptors > MOST_DESCRIPTORS:
        return f"descriptors grew from {first.descriptors} to {last.descriptors}"
    return ""


def main() -> int:
    """Soak, draw, tell. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Memory and descriptors over many streamed calls.")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the curve there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the samples there")
    arguments = parser.parse_args()
    try:
        samples = soak(max(arguments.calls, 2 * FIRST))
    except ProcessFailed as error:
        print(error, file=sys.stderr)
        return 2
    first, last = next(one for one in samples if one.calls >= FIRST), samples[-1]
    if arguments.png:
        curves = [
            Curve("RSS, MB", [(one.calls, one.rss_mb) for one in samples], (31, 119, 180)),
            Curve("OPEN DESCRIPTORS", [(one.calls, one.descriptors) for one in samples], (214, 100, 20)),
        ]
        arguments.png.write_bytes(draw(curves, "STREAMED CALLS"))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in samples], indent=1))
    print(f"idle {samples[0].rss_mb:.1f} MB, {samples[0].descriptors} descriptors")
    print(f"after {first.calls:,} calls {first.rss_mb:.1f} MB, {first.descriptors} descriptors")
    change = last.rss_mb / first.rss_mb - 1
    print(f"after {last.calls:,} calls {last.rss_mb:.1f} MB ({change:+.1%}), {last.descriptors} descriptors; {last.seconds:.0f} s")
    words = verdict(samples)
    print(words or "level")
    return 1 if words else 0


if __name__ == "__main__":
    sys.exit(main())
