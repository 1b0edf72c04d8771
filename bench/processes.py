"""The processes of a run: started on 127.0.0.1, measured through /proc, ended by their pid whatever happens. Linux only.

Strategy: the CPU of a process tree is the user and system time of all its members, and of children that they have already waited for.
That of members is read from their CPU clocks (clock_getcpuclockid(3)), which count nanoseconds where /proc counts ticks of 10 ms.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START_LIMIT_S = 30.0
_END_LIMIT_S = 10.0
_POLL_S = 0.01
_CPU_CLOCK = 2  # the kernel's name of a process's CPU clock: its inverted id, and this


class ProcessFailed(Exception):
    """A process that did not come up or broke off; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that was started: its process, its port, and how long it took until it answered. `tls_port`: 0 is none."""

    pid: int
    port: int
    start_s: float
    tls_port: int = 0

    def cpu_s(self) -> float:
        """Seconds of CPU that the process tree has used."""
        return sum(_cpu_s(pid) for pid in self._pids())

    def memory_mb(self, row: str = "VmRSS") -> float:
        """The tree's resident memory now, or its peak (`VmHWM`), in MB."""
        return sum(_status_kb(pid, row) for pid in self._pids()) * 1024 / 1_000_000

    def _pids(self) -> list[int]:
        parents = {int(path.name): int(stat[1]) for path in _PROC.glob("[0-9]*") if (stat := _stat(int(path.name)))}
        tree = [self.pid]
        for pid in tree:  # grows while it is walked
            tree += [child for child, parent in parents.items() if parent == pid]
        return [pid for pid in tree if pid in parents]


@contextlib.contextmanager
def started_mock(tls: Sequence[Path] = ()) -> Iterator[Running]:
    """A mock upstream, ended on leaving. `tls`: its certificate and key, for a second port. Errors: `ProcessFailed`."""
    begun_s = time.monotonic()
    command = [sys.executable, "-m", "bench.mock_upstream", *(["--tls", *map(str, tls)] if tls else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        if not ports:
            raise ProcessFailed("The mock upstream did not start.")
        yield Running(process.pid, int(ports[0]), time.monotonic() - begun_s, int(ports[1]) if len(ports) > 1 else 0)
    finally:
        _end(process)


@contextlib.contextmanager
def started_gateway(config: Path, output: Path) -> Iterator[Running]:
    """The gateway with that configuration, healthy, ended on leaving; what it prints goes to `output`. Errors: `ProcessFailed`."""
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port), "--config", str(config)]
    with started_server("The gateway", command, port, output) as running:
        yield running


@contextlib.contextmanager
def started_server(
    name: str,
    command: Sequence[str],
    port: int,
    output: Path,
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    ready: str = "/healthz",
    limit_s: float = _START_LIMIT_S,
) -> Iterator[Running]:
    """A server that answers 200 at `ready`, ended on leaving; what it prints goes to `output`. Errors: `ProcessFailed`."""
    env = _environment(os.environ) | dict(environment or {})
    begun_s = time.monotonic()
    with output.open("wb") as stream:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
    try:
        while not _is_healthy(port, ready):
            if process.poll() is not None or time.monotonic() - begun_s > limit_s:
                raise ProcessFailed(f"{name} did not start:\n{output.read_text(errors='replace')[-2000:]}")
            time.sleep(_POLL_S)
        yield Running(process.pid, port, time.monotonic() - begun_s)
    finally:
        _end(process)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Without proxies: all that is called is on this machine."""
    return {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _is_healthy(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _cpu_s(pid: int) -> float:
    """A process's user and system time, of threads that have ended too, and that of the children that it has waited for."""
    stat = _stat(pid)
    if not stat:
        return 0.0
    children_s = (int(stat[13]) + int(stat[14])) / _TICKS_PER_S
    try:
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK) + children_s
    except OSError:  # it ended just now
        return 0.0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat that follow the name, which may hold spaces; none for a process that has ended.

    [1] is the parent, [11] to [14] are user and system time, the process's own and those of its ended children.
    """
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def _status_kb(pid: int, row: str) -> int:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{row}:")), 0)
