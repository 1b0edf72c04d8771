"""A load generator: `python -m bench.load --port P --scenario NAME --target direct|gateway` prints one JSON object.

Strategy: one thread and one epoll object drive all connections, which are opened beforehand and kept alive; each sends its next request as
soon as its answer has ended. While the load runs, bytes and times are only put aside; they are read and checked when it is over. The end
of a chunked answer is recognised by its last bytes, and the check afterwards proves that it really was the end.

The object: `latency_ms` and `first_byte_ms` (median, p90, max; the first byte is that of the body), `late_ms` (median, p99, max) of the
pieces of a slow stream, `wall_s`, `peak_open` (answers under way at once), `failures`, and some `faults` in words.
"""

from __future__ import annotations

import argparse
import bisect
import gc
import heapq
import itertools
import json
import re
import select
import socket
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.answers import STAMP_BYTES, shape_of
from bench.check import Fault, check_answer
from bench.scenarios import TARGETS, Scenario, Target, scenario_named

_READ_BYTES = 256 * 1024
_LIMIT_S = 120.0
_FAULTS_SHOWN = 5
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_AFTER_RAMP_S = 0.3


@dataclass(slots=True)
class Answer:
    """One request and what was read of its answer, piece by piece with the time; `fault` tells why the answer did not end."""

    sent_s: float
    pieces: list[bytes] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    size: int = 0
    needed: int = 0
    fault: str = ""

    @property
    def ended_s(self) -> float:
        """When its last byte came."""
        return self.times_s[-1]

    @property
    def raw(self) -> bytes:
        """All that was read."""
        return b"".join(self.pieces)

    def take(self, data: bytes, now_s: float) -> bool:
        """Put a piece aside. Whether that was all, as far as the framing's length or last bytes tell."""
        self.pieces.append(data)
        self.times_s.append(now_s)
        self.size += len(data)
        if not self.needed:
            head = data if len(self.pieces) == 1 else self.raw
            head_end = head.find(b"\r\n\r\n") + 4
            if head_end < 4:
                return False
            length = _LENGTH.search(head, 0, head_end)
            self.needed = head_end + int(length[1]) if length else -1
        if self.needed > 0:
            return self.size >= self.needed
        return (data if len(data) >= len(_LAST_CHUNK) else b"".join(self.pieces[-len(_LAST_CHUNK) :])).endswith(_LAST_CHUNK)

    def arrivals(self) -> list[tuple[int, float]]:
        """How many bytes there were at which time."""
        return list(zip(itertools.accumulate(map(len, self.pieces)), self.times_s, strict=True))


def came_s(arrivals: Sequence[tuple[int, float]], offset: int) -> float:
    """When the byte at `offset` came."""
    return arrivals[bisect.bisect_right(arrivals, offset, key=lambda read: read[0])][1]


@dataclass(slots=True, eq=False)
class Job:
    """`left` requests more of one kind, over `connections` connections, the first of them at `after_s`. Mutable: `left`, `answers`."""

    request: bytes
    connections: int
    left: int
    ramp_s: float = 0.0
    pause_s: float = 0.0
    after_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Connection:
    """A connection to the server; `unsent` is what its socket would not take yet of the request."""

    job: Job
    sock: socket.socket
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    answer: Answer | None = None


class Load:
    """A run of some jobs against 127.0.0.1:`port`. One use only. Mutable: all of it, while it runs."""

    def __init__(self, port: int, jobs: Sequence[Job]) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Connection] = {}
        self._due: list[tuple[float, int, _Connection]] = []
        self._order = itertools.count()
        self._open = 0
        self.peak_open = 0
        self.wall_s = 0.0
        for job in jobs:
            for number in range(job.connections):
                self._plan(job.after_s + number * job.ramp_s / job.connections, self._connect(job))

    def run(self) -> None:
        """Send all requests and gather their answers; what did not end within the limit has a `fault`."""
        begun_s = time.monotonic()
        self._due = [(begun_s + after_s, number, connection) for after_s, number, connection in self._due]
        while (self._due or self._open) and time.monotonic() - begun_s < _LIMIT_S:
            while self._due and self._due[0][0] <= time.monotonic():
                self._send_next(heapq.heappop(self._due)[2])
            timeout_s = max(self._due[0][0] - time.monotonic(), 0.0) if self._due else 1.0
            for fd, mask in self._epoll.poll(timeout_s):
                if mask & select.EPOLLOUT:
                    self._write(self._by_fd[fd])
                elif fd in self._by_fd:
                    self._read(self._by_fd[fd])
        self.wall_s = time.monotonic() - begun_s
        for connection in self._by_fd.values():
            if connection.answer is not None:
                self._end(connection, f"no end within {_LIMIT_S:g} s")
            connection.sock.close()
        self._epoll.close()

    def _plan(self, due_s: float, connection: _Connection) -> None:
        heapq.heappush(self._due, (due_s, next(self._order), connection))

    def _connect(self, job: Job) -> _Connection:
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._by_fd[sock.fileno()] = _Connection(job, sock)
        self._epoll.register(sock, select.EPOLLIN)
        return connection

    def _send_next(self, connection: _Connection) -> None:
        job = connection.job
        if not job.left:
            return
        job.left -= 1
        self._open += 1
        self.peak_open = max(self.peak_open, self._open)
        connection.unsent = memoryview(job.request)
        connection.answer = Answer(time.monotonic())
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        had_more = len(connection.unsent) < len(connection.job.request)
        try:
            connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(connection, f"sending failed: {error}")
            return
        if connection.unsent:
            self._epoll.modify(connection.sock, select.EPOLLIN | select.EPOLLOUT)
        elif had_more:
            self._epoll.modify(connection.sock, select.EPOLLIN)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(connection, f"receiving failed: {error}")
            return
        now_s = time.monotonic()
        answer = connection.answer
        if not data or answer is None:
            self._break(connection, "the connection was closed" if not data else "bytes came that were not asked for")
        elif answer.take(data, now_s):
            self._end(connection, "")
            if connection.job.pause_s:
                self._plan(now_s + connection.job.pause_s, connection)
            else:
                self._send_next(connection)

    def _break(self, connection: _Connection, fault: str) -> None:
        """Note the fault, and go on with a new connection if requests are left."""
        del self._by_fd[connection.sock.fileno()]
        self._epoll.unregister(connection.sock)
        connection.sock.close()
        if connection.answer is not None:
            self._end(connection, fault)
        self._due = [(due_s, number, one) for due_s, number, one in self._due if one is not connection]
        heapq.heapify(self._due)
        if connection.job.left:
            self._plan(time.monotonic(), self._connect(connection.job))

    def _end(self, connection: _Connection, fault: str) -> None:
        answer, connection.answer = connection.answer, None
        assert answer is not None
        answer.fault = fault
        connection.job.answers.append(answer)
        self._open -= 1


def request_of(scenario: Scenario, target: Target, port: int, prefix: str = "", headers: Mapping[str, str] | None = None) -> bytes:
    """The whole request, head and body. `prefix` goes before the path; `headers` replace and add."""
    body = scenario.body(target)
    fields = {
        "host": f"127.0.0.1:{port}",
        "authorization": "Bearer any",
        "content-type": "application/json",
        "accept": "*/*",
        **(headers or {}),
        "content-length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {prefix}{scenario.path(target)} HTTP/1.1\r\n{head}\r\n".encode() + body


def measure(
    scenario: Scenario, target: Target, port: int, count: int, prefix: str = "", headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run the scenario with `count` requests and tell what came of it."""
    request = request_of(scenario, target, port, prefix, headers)
    job = Job(request, scenario.connections, count, scenario.ramp_s, scenario.pause_s)
    jobs = [(scenario, job)]
    if scenario.behind:
        other = scenario_named(scenario.behind)
        busy = Job(request_of(other, target, port, prefix, headers), other.connections, other.connections, scenario.ramp_s)
        job.ramp_s, job.after_s = 0.0, scenario.ramp_s + _AFTER_RAMP_S
        jobs.append((other, busy))
    load = Load(port, [one for _, one in jobs])
    gc.disable()
    load.run()
    sorted_out = [_sorted_out(one.answers, row, target) for row, one in jobs]
    good = sorted_out[0][0]
    faults = [fault for _, found in sorted_out for fault in found]
    arrivals = [answer.arrivals() for answer in good]
    raws = [answer.raw for answer in good]
    late = [late for raw, came in zip(raws, arrivals, strict=True) for late in late_ms(raw, came)] if scenario.is_slow else []
    firsts = [came_s(came, raw.index(b"\r\n\r\n") + 4) for raw, came in zip(raws, arrivals, strict=True)]
    return {
        "scenario": scenario.name,
        "target": target,
        "connections": scenario.connections,
        "requests": count,
        "request_bytes": len(request) - request.index(b"\r\n\r\n") - 4,
        "wall_s": load.wall_s,
        "peak_open": load.peak_open,
        "latency_ms": _spread([(answer.ended_s - answer.sent_s) * 1000 for answer in good], 90),
        "first_byte_ms": _spread([(first - answer.sent_s) * 1000 for first, answer in zip(firsts, good, strict=True)], 90),
        "late_ms": _spread(late, 99),
        "failures": len(faults),
        "faults": faults[:_FAULTS_SHOWN],
    }


def _sorted_out(answers: Sequence[Answer], scenario: Scenario, target: Target) -> tuple[list[Answer], list[str]]:
    """The answers that are right, and what is wrong with the others."""
    good: list[Answer] = []
    faults: list[str] = []
    shape = shape_of(scenario.model)
    for answer in answers:
        try:
            if answer.fault:
                raise Fault(answer.fault)
            check_answer(answer.raw, scenario.wire(target), shape, is_stream=scenario.chunks > 0)
        except Fault as fault:
            faults.append(str(fault))
        else:
            good.append(answer)
    return good, faults


def late_ms(raw: bytes, arrivals: Sequence[tuple[int, float]]) -> list[float]:
    """How long after its due time each piece of a slow stream came; the Responses API says the whole text again at its end."""
    firsts: dict[bytes, re.Match[bytes]] = {}
    for stamp in STAMP_BYTES.finditer(raw):
        firsts.setdefault(stamp[1], stamp)
    return [(came_s(arrivals, stamp.end() - 1) - float(stamp[2])) * 1000 for stamp in firsts.values()]


def _spread(values: Sequence[float], percentile: int) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    high = ordered[min(len(ordered) * percentile // 100, len(ordered) - 1)]
    return {"median": statistics.median(ordered), f"p{percentile}": high, "max": ordered[-1]}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="One scenario against one server on 127.0.0.1.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--scenario", required=True, help="the name of a row of bench/scenarios.py")
    parser.add_argument("--target", choices=TARGETS, required=True, help="which of the two the port is")
    parser.add_argument("--requests", type=int, help="how many (default: as many as the row says)")
    parser.add_argument("--prefix", default="", help="goes before the path")
    parser.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="one header more; may be given again")
    arguments = parser.parse_args()
    scenario = scenario_named(arguments.scenario)
    count = arguments.requests or scenario.requests
    headers = dict(one.split("=", 1) for one in arguments.header)
    print(json.dumps(measure(scenario, arguments.target, arguments.port, count, arguments.prefix, headers)))


if __name__ == "__main__":
    main()
