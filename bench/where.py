"""Where the time goes: `python -m bench.where` samples the gateway under one load after the other, and prints a table of shares.

Strategy: py-spy (`pip install py-spy`; not among the requirements) looks at the stacks of the gateway's process some hundred times a second
while `bench.load`'s machinery keeps it busy. A sample belongs to the innermost frame that a row of `PARTS` names, so that what a library
does counts for whoever called it. Only the thread that serves calls is looked at. With the CPU of the same load, shares become
microseconds.

Exit codes: 0 measured; 2 a process did not start, or py-spy is not there.
"""

from __future__ import annotations

import collections
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.load import Job, Load
from bench.processes import ProcessFailed, Running, started_gateway, started_mock
from bench.run import write_config
from bench.scenarios import scenario_named

PARTS: Mapping[str, tuple[str, ...]] = {
    "send": ("SocketMixin.send ",),
    "receive": ("SocketMixin.recv", "recv_into", "_is_quiet"),
    "event loop": ("gevent/hub.py", "gevent/timeout.py", "compat/streaming/coalesce.py"),
    "upstream client": ("compat/upstream/",),
    "wire, translation": ("compat/wire/", "compat/protocols/", "compat/jsonio.py", "compat/calls/call.py"),
    "plan, circuit, queue": ("compat/routing/", "compat/routing/pacing.py", "pybreaker"),
    "limits, cache, record": (
        *(
            "compat/calls/ledger.py",
            "compat/accounting/limits.py",
            "compat/reuse/answer_cache.py",
            "compat/reuse/whole_answer.py",
            "compat/calls/record.py",
        ),
        *(
            "compat/telemetry/metrics.py",
            "prometheus_client",
            "compat/accounting/usage_store.py",
            "compat/telemetry/calllog.py",
            "compat/telemetry/traces.py",
        ),
    ),
    "pipeline, relay": (
        "compat/calls/run.py",
        "compat/calls/attempt.py",
        "compat/streaming/relay.py",
        "compat/streaming/hold.py",
        "compat/calls/resume.py",
    ),
    "endpoint": ("compat/endpoints/", "compat/accounting/keys.py", "compat/accounting/key_store.py"),
    "server": ("gevent/pywsgi.py", "compat/service/"),
    "Flask": ("/flask/", "/werkzeug/", "flask_compress"),
}
_RATE = 400
_OTHER = "other"
_CACHE = "\n[cache]\nenabled = true\n"


@dataclass(frozen=True, slots=True)
class Course:
    """One load: the scenario whose requests are sent, how many, and what makes it another path than the scenario's own."""

    name: str
    scenario: str
    count: int
    body: bytes = b""
    config: str = ""


PATHS = (
    Course("whole, 1 kB", "whole, 32 at once", 6000),
    Course("stream", "stream, 8 at once", 1500),
    Course("translated, whole", "translated whole", 4000),
    Course("translated stream", "translated stream", 1200),
    Course("200 kB request", "200 kB request", 1500),
    Course("cache hit", "whole, 32 at once", 8000, config=_CACHE),
    Course("refused", "whole, 32 at once", 8000, body=b'{"model": "unknown", "messages": [{"role": "user", "content": "x"}]}'),
    Course("Kilo call", "Kilo call", 50),
)


def part_of(stack: str) -> str:
    """The row of `PARTS` that a stack (frames from the outermost in, with semicolons between) belongs to."""
    for frame in reversed(stack.split(";")):
        for name, marks in PARTS.items():
            if any(mark in frame for mark in marks):
                return name
    return _OTHER


def serving(line: str) -> bool:
    """Whether a line of py-spy's is of the thread that serves calls."""
    return not any(mark in line for mark in ("threadpool", "compat/storage/background.py", "CallLog._run"))


def shares(lines: Iterator[str]) -> dict[str, float]:
    """Part -> its share of all samples."""
    counts: collections.Counter[str] = collections.Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if serving(stack):
            counts[part_of(stack)] += int(count)
    return {name: count / max(counts.total(), 1) for name, count in counts.items()}


def measure(path: Course) -> tuple[float, dict[str, float]]:
    """Microseconds of CPU a request, and the shares. Errors: `ProcessFailed`."""
    scenario = scenario_named(path.scenario)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        started_mock() as mock,
        started_gateway(_config(Path(name), mock, path.config), Path(name) / "output") as gateway,
    ):
        body = path.body or scenario.body("gateway")
        head = (
            f"POST {scenario.path('gateway')} HTTP/1.1\r\nhost: 127.0.0.1:{gateway.port}\r\nauthorization: Bearer any\r\n"
            f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body

        def load(count: int) -> None:
            Load(gateway.port, [Job(request, scenario.connections, count, scenario.ramp_s)]).run()

        load(max(path.count // 20, 1))
        before_s = gateway.cpu_s()
        load(path.count // 2 + 1)
        cpu_us = (gateway.cpu_s() - before_s) * 1e6 / (path.count // 2 + 1)
        raw = Path(name) / "raw"
        command = ["py-spy", "record", "--rate", str(_RATE), "--duration", "600", "--format", "raw", "--full-filenames"]
        sampler = subprocess.Popen(
            [*command, "--output", str(raw), "--pid", str(gateway.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(1.0)
        load(path.count)
        sampler.send_signal(signal.SIGINT)
        sampler.wait(30)
        with raw.open() as lines:
            return cpu_us, shares(line.rstrip("\n") for line in lines)


def _config(folder: Path, mock: Running, more: str) -> Path:
    config = write_config(folder, mock)
    config.write_text(more + config.read_text())
    return config


def table(figures: Mapping[str, tuple[float, dict[str, float]]]) -> str:
    """Parts by paths, in microseconds a request."""
    names = [name for name in (*PARTS, _OTHER) if any(part.get(name, 0) >= 0.005 for _, part in figures.values())]
    rows = [["us a request", *figures], ["---", *["--:"] * len(figures)]]
    rows += [[name, *(f"{cpu_us * part.get(name, 0):,.0f}" for cpu_us, part in figures.values())] for name in names]
    rows.append(["all", *(f"{cpu_us:,.0f}" for cpu_us, _ in figures.values())])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    """Measure and print. Returns the exit code."""
    if shutil.which("py-spy") is None:
        print("py-spy is not there: pip install py-spy", file=sys.stderr)
        return 2
    wanted = sys.argv[1:]
    figures = {}
    for path in PATHS:
        if wanted and path.name not in wanted:
            continue
        try:
            figures[path.name] = measure(path)
        except ProcessFailed as error:
            print(error, file=sys.stderr)
            return 2
        print(path.name, json.dumps({name: round(share, 3) for name, share in figures[path.name][1].items()}), file=sys.stderr, flush=True)
    print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
