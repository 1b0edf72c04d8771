"""A load generator: `python -m bench.load --port P --scenario NAME --target direct|gateway` prints one JSON object.

Strategy: one thread and one selector drive all connections, which are opened beforehand and kept alive; each sends its next request as
soon as its answer has ended. While the load runs, bytes and times are only recorded; they are read and checked when it is over. The end
of a chunked answer is recognised by its last bytes, and the check afterwards proves that it really was the end.

The object: `latency_ms` and `first_byte_ms` (median, p90, max; the first byte is the body's), `late_ms` (median, p99, max) of the pieces
of a slow stream, `wall_s`, `peak_open` (answers under way at once), `failures`, and some `faults` in words.
"""

from __future__ import annotations

import argparse
import bisect
import collections
import gc
import json
import re
import selectors
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.answers import STAMP_BYTES
from bench.check import Fault, check_answer
from bench.scenarios import TARGETS, Scenario, Target, scenario_named

_READ_BYTES = 256 * 1024
_LIMIT_S = 90.0
_FAULTS_SHOWN = 5
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(slots=True)
class Answer:
    """One request and its raw answer. `reads` are (bytes received so far, when); `fault` tells why the answer did not end."""

    sent_s: float
    raw: bytearray = field(default_factory=bytearray)
    reads: list[tuple[int, float]] = field(default_factory=list)
    needed: int = 0
    fault: str = ""

    @property
    def ended_s(self) -> float:
        """When its last byte came."""
        return self.reads[-1][1]

    def is_complete(self) -> bool:
        """Whether all bytes are there, as far as the framing's length or last bytes tell."""
        if not self.needed:
            head_end = self.raw.find(b"\r\n\r\n") + 4
            if head_end < 4:
                return False
            length = _LENGTH.search(self.raw, 0, head_end)
            self.needed = head_end + int(length[1]) if length else -1
        return self.raw.endswith(_LAST_CHUNK) if self.needed < 0 else len(self.raw) >= self.needed

    def came_s(self, offset: int) -> float:
        """When the byte at `offset` came."""
        return self.reads[bisect.bisect_right(self.reads, offset, key=lambda read: read[0])][1]


@dataclass(slots=True, eq=False)
class _Connection:
    """A connection to the server; `unsent` is what its socket would not take yet of the request."""

    sock: socket.socket
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    answer: Answer | None = None


class Load:
    """A run of `count` requests over `connections` connections to 127.0.0.1:`port`. One use only."""

    def __init__(self, port: int, request: bytes, connections: int, count: int, ramp_s: float) -> None:
        self._port = port
        self._request = memoryview(request)
        self._left = count
        self._selector = selectors.DefaultSelector()
        self._connections = [self._connect() for _ in range(connections)]
        self._ramp_s = ramp_s
        self._open = 0
        self.peak_open = 0
        self.answers: list[Answer] = []
        self.wall_s = 0.0

    def run(self) -> None:
        """Send all requests and gather their answers; what did not end within the limit has a `fault`."""
        begun_s = time.monotonic()
        step_s = self._ramp_s / len(self._connections)
        waiting = collections.deque((begun_s + number * step_s, connection) for number, connection in enumerate(self._connections))
        while (waiting or self._open) and time.monotonic() - begun_s < _LIMIT_S:
            while waiting and waiting[0][0] <= time.monotonic():
                self._send_next(waiting.popleft()[1])
            timeout_s = max(waiting[0][0] - time.monotonic(), 0.0) if waiting else 1.0
            for key, mask in self._selector.select(timeout_s):
                if mask & selectors.EVENT_WRITE:
                    self._write(key.data)
                else:
                    self._read(key.data)
        self.wall_s = time.monotonic() - begun_s
        for connection in self._connections:
            if connection.answer is not None:
                self._end(connection, f"no end within {_LIMIT_S:g} s")
            connection.sock.close()

    def _connect(self) -> _Connection:
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        return connection

    def _send_next(self, connection: _Connection) -> None:
        if not self._left:
            return
        self._left -= 1
        self._open += 1
        self.peak_open = max(self.peak_open, self._open)
        connection.unsent = self._request
        connection.answer = Answer(time.monotonic())
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        had_more = len(connection.unsent) < len(self._request)
        try:
            connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(connection, f"sending failed: {error}")
            return
        if connection.unsent:
            self._selector.modify(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        elif had_more:
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)

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
            return
        answer.raw += data
        answer.reads.append((len(answer.raw), now_s))
        if answer.is_complete():
            self._end(connection, "")
            self._send_next(connection)

    def _break(self, connection: _Connection, fault: str) -> None:
        """Note the fault, and go on with a new connection if requests are left."""
        self._selector.unregister(connection.sock)
        connection.sock.close()
        if connection.answer is not None:
            self._end(connection, fault)
        if self._left:
            fresh = self._connect()
            self._connections.append(fresh)
            self._send_next(fresh)

    def _end(self, connection: _Connection, fault: str) -> None:
        answer, connection.answer = connection.answer, None
        assert answer is not None
        answer.fault = fault
        self.answers.append(answer)
        self._open -= 1


def measure(scenario: Scenario, target: Target, port: int, count: int) -> dict[str, Any]:
    """Run the scenario with `count` requests and tell what came of it."""
    body = scenario.body(target)
    head = (
        f"POST {scenario.path(target)} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer any\r\n"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    load = Load(port, head.encode() + body, scenario.connections, count, scenario.ramp_s)
    gc.disable()
    load.run()
    good, faults = _sorted_out(load.answers, scenario, target)
    return {
        "scenario": scenario.name,
        "target": target,
        "connections": scenario.connections,
        "requests": count,
        "request_bytes": len(body),
        "wall_s": load.wall_s,
        "peak_open": load.peak_open,
        "latency_ms": _spread([(answer.ended_s - answer.sent_s) * 1000 for answer in good], 90),
        "first_byte_ms": _spread([(answer.came_s(answer.raw.index(b"\r\n\r\n") + 4) - answer.sent_s) * 1000 for answer in good], 90),
        "late_ms": _spread([late for answer in good for late in _late_ms(answer)], 99) if scenario.is_slow else None,
        "failures": count - len(good),
        "faults": faults[:_FAULTS_SHOWN],
    }


def _sorted_out(answers: Sequence[Answer], scenario: Scenario, target: Target) -> tuple[list[Answer], list[str]]:
    """The answers that are right, and what is wrong with the others."""
    good: list[Answer] = []
    faults: list[str] = []
    for answer in answers:
        try:
            if answer.fault:
                raise Fault(answer.fault)
            check_answer(bytes(answer.raw), scenario.wire(target), is_stream=scenario.chunks > 0, is_slow=scenario.is_slow)
        except Fault as fault:
            faults.append(str(fault))
        else:
            good.append(answer)
    return good, faults


def _late_ms(answer: Answer) -> list[float]:
    """How long after its due time each piece of a slow stream came."""
    return [(answer.came_s(stamp.end() - 1) - float(stamp[2])) * 1000 for stamp in STAMP_BYTES.finditer(answer.raw)]


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
    arguments = parser.parse_args()
    scenario = scenario_named(arguments.scenario)
    print(json.dumps(measure(scenario, arguments.target, arguments.port, arguments.requests or scenario.requests)))


if __name__ == "__main__":
    main()
