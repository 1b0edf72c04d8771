"""Requests that could stop a worker: `python -m bench.stall [--megabytes 30] [--only WORDS] [--rounds 2] [--json FILE]`.

Each row sends one body whose shape was chosen to be slow to read, and tells how long nobody else was served meanwhile (the longest gap of a
heartbeat on the gateway's event loop), how much memory it took, and what the client got. The least gap of the rounds counts: what
else runs on the machine makes gaps longer, never shorter.

Strategy: the gateway runs as it is delivered, in a process of its own with a greenlet that ticks every 5 ms; the parent reads its longest
gap through a port of its own and the kernel's peak of resident memory from /proc, which is set back before each body. Linux only.

Exit codes: 0 measured; 1 a gap or the memory was beyond its bound; 2 a process did not start.
"""

from bench import monkey  # isort: skip  # the gateway runs on gevent

import argparse
import http.client
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import gevent
import gevent.server

from bench.processes import ROOT, ProcessFailed, Running, free_port, started_mock, started_server
from bench.run import write_config
from bench.scenarios import CLAUDE_MODEL, SCENARIOS
from compat.config.settings import load_settings
from compat.factory import build_gateway, create_app
from compat.serve.gevent_server import Server
from compat.service.listener import open_listener

PATCHED = monkey
TICK_S = 0.005
MOST_GAP_MS = 100.0
MOST_TIMES = 8
SPARE_MB = 64.0
"""Memory that a body may take besides `MOST_TIMES` its size: small ones stand for many small things."""
_BOUND_S = 120.0
Shape = Callable[[int], bytes]


def chat(**fields: object) -> bytes:
    """A request's body."""
    return json.dumps({"messages": [{"role": "user", "content": "Hi"}], **fields}).encode()


def asked(content: object, **fields: object) -> bytes:
    """A body with one message."""
    return chat(messages=[{"role": "user", "content": content, **fields}])


def _named(count: int, name: str, value: object) -> dict[str, object]:
    return {name.format(number): value for number in range(count)}


def _schema(schema: object) -> bytes:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})


def _tool(parameters: object) -> bytes:
    return chat(tools=[{"type": "function", "function": {"name": "a", "parameters": parameters}}])


def _picture(url: str) -> bytes:
    return asked([{"type": "image_url", "image_url": {"url": url}}])


def _chain(size: int) -> bytes:
    links = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(size // 42)}
    return _schema({"$ref": "#/$defs/d0", "$defs": {**links, f"d{len(links)}": {}}})


def _references(size: int) -> bytes:
    names = [f"d{number}" for number in range(size // 78)]
    ways = [{"$ref": f"#/$defs/{name}"} for name in names]
    return _tool({"anyOf": ways, "$defs": {name: {"properties": {name: {}}} for name in names}})


def _required(size: int) -> bytes:
    own, other = ([f"{letter}{number}" for number in range(size // 20)] for letter in "ab")
    return _tool({"required": own, "allOf": [{"required": other}]})


def _tools(size: int) -> bytes:
    return chat(tools=[{"type": "function", "function": {"name": f"a b{number}"}} for number in range(size // 62)])


ROWS: Mapping[str, tuple[str, Shape]] = {
    "a chain of `$defs`": ("claude", _chain),
    "`$ref` x definitions": ("claude", _references),
    "`required` names": ("claude", _required),
    "`anyOf` of properties": (
        "claude",
        lambda n: _tool({"anyOf": [{"properties": {"a": {"const": number}}} for number in range(n // 48)]}),
    ),
    "`data:` and `;`": ("claude", lambda n: _picture("data:" + ";" * n)),
    "base64 with `%41`": ("claude", lambda n: _picture("data:image/png;base64,iVBORw0KGgoA" + "%41" * (n // 12 * 4))),
    "base64 of a picture": ("claude", lambda n: _picture("data:image/png;base64,iVBORw0KGgoA" + "A" * (n // 4 * 4))),
    "tools whose names don't fit": ("claude", _tools),
    "unknown keys": ("claude", lambda n: chat(**_named(900, "k{}", [[]] * (n // 900 // 4)))),
    "keys of metadata": ("claude", lambda n: chat(metadata=_named(n // 14, "k{}", 1))),
    "lone surrogates": ("claude", lambda n: asked("").replace(b'""', b'"%s"' % (b"\\ud83d" * (n // 6)))),
    "lone surrogates, OpenAI": ("mock", lambda n: asked("").replace(b'""', b'"%s"' % (b"\\ud83d" * (n // 6)))),
    "a list of `{}`, OpenAI": ("mock", lambda n: asked([{}] * (n // 4), cache_control={}, reasoning_content="a")),
    "a list of `[]`, OpenAI": ("mock", lambda n: asked([[]] * (n // 4), cache_control={}, reasoning_content="a")),
    "small messages": ("claude", lambda n: chat(messages=[{"role": "user", "content": "a"}] * min(n // 35, 90_000))),
    "one text": ("claude", lambda n: asked("word " * (n // 5))),
    "one text of escapes": ("claude", lambda n: asked("\n" * (n // 2))),
    "one text, wide": (
        "claude",
        lambda n: json.dumps({"messages": [{"role": "user", "content": "a" * n + "\U0001f600"}]}, ensure_ascii=False).encode(),
    ),
    "one text, OpenAI": ("mock", lambda n: asked("word " * (n // 5))),
}
"""Upstream kind and shape. The first twelve were found by others; the rest are large and plain."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: the body's size, the longest gap, memory above what was there before, the answer's status, seconds until it came."""

    row: str
    megabytes: float
    gap_ms: float
    memory_mb: float
    status: int
    seconds: float

    @property
    def is_within(self) -> bool:
        """Whether it kept the bounds."""
        return self.gap_ms <= MOST_GAP_MS and self.memory_mb <= MOST_TIMES * self.megabytes + SPARE_MB


def measure(gateway: Running, beats: int, row: str, size: int, rounds: int) -> Figure:
    """The least gap of some rounds, and the memory of the first: later ones use what was left."""
    kind, shape = ROWS[row]
    model = CLAUDE_MODEL if kind == "claude" else next(scenario.model for scenario in SCENARIOS if scenario.model != CLAUDE_MODEL)
    body = b'{"model":"%s",' % route_of(model).encode() + shape(size)[1:]
    figures = [_once(gateway, beats, row, body) for _ in range(rounds)]
    return replace(min(figures, key=lambda figure: figure.gap_ms), memory_mb=figures[0].memory_mb)


def route_of(model: str) -> str:
    """The public name of a model of the mock."""
    return next(scenario.route for scenario in SCENARIOS if scenario.model == model)


def _once(gateway: Running, beats: int, row: str, body: bytes) -> Figure:
    time.sleep(0.2)
    Path(f"/proc/{gateway.pid}/clear_refs").write_text("5")
    before_mb = gateway.memory_mb()
    longest_gap_ms(beats)
    begun_s = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=_BOUND_S)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    seconds = time.monotonic() - begun_s
    gap_ms = longest_gap_ms(beats)
    return Figure(row, round(len(body) / 1e6, 2), gap_ms, round(gateway.memory_mb("VmHWM") - before_mb, 1), status, round(seconds, 2))


def longest_gap_ms(port: int) -> float:
    """The longest gap since the last question."""
    with socket.create_connection(("127.0.0.1", port), timeout=_BOUND_S) as sock:
        return float(sock.makefile().read())


class Heartbeat:
    """Ticks on the event loop. Mutable: when the last tick was, and the longest gap."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_s = clock()
        self._longest_s = 0.0

    def run(self) -> None:
        """Tick for ever."""
        while True:
            gevent.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """One tick."""
        now_s = self._clock()
        self._longest_s = max(self._longest_s, now_s - self._last_s - TICK_S)
        self._last_s = now_s

    def take_ms(self) -> float:
        """The longest gap so far, milliseconds; the next one begins at nothing."""
        self.tick()
        longest_s, self._longest_s = self._longest_s, 0.0
        return round(longest_s * 1000, 1)


def serve(config: Path, port: int, beats: int) -> None:
    """The gateway of a run, which tells its gaps on the port `beats`."""
    gateway = build_gateway(load_settings(config, {}, {}), {}, config.parent)
    heartbeat = Heartbeat()

    def tell(sock: socket.socket, _address: object) -> None:
        sock.sendall(str(heartbeat.take_ms()).encode())
        sock.close()

    gevent.server.StreamServer(("127.0.0.1", beats), tell).start()
    gevent.spawn(heartbeat.run)
    server = Server(open_listener("127.0.0.1", port), create_app(gateway), gateway)
    server.start()
    gevent.sleep(float("1e9"))


def table(figures: list[Figure]) -> str:
    """The figures in Markdown."""
    lines = ["| body | MB | gap, ms | memory, MB | times | status | s |", "|---|--:|--:|--:|--:|--:|--:|"]
    for figure in figures:
        times = figure.memory_mb / figure.megabytes
        lines.append(
            f"| {figure.row} | {figure.megabytes:g} | {figure.gap_ms:,.0f} | {figure.memory_mb:,.0f} | {times:.1f} | {figure.status} "
            f"| {figure.seconds:g} |"
        )
    return "\n".join(lines)


def run(only: str, size: int, rounds: int) -> list[Figure]:
    """All rows whose name holds `only`. Errors: `ProcessFailed`."""
    figures = []
    for row in ROWS:
        if only in row:
            with tempfile.TemporaryDirectory(prefix="stall-") as name, started_mock() as mock:
                config = write_config(Path(name), mock)
                port, beats = free_port(), free_port()
                command = [sys.executable, "-m", "bench.stall", "--serve", str(config), str(port), str(beats)]
                with started_server("The gateway", command, port, Path(name) / "output", cwd=ROOT) as gateway:
                    figures.append(measure(gateway, beats, row, size, rounds))
            print(table(figures[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return figures


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="Requests that could stop a worker")
    parser.add_argument("--megabytes", type=float, default=30.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), int(options.serve[1]), int(options.serve[2]))
        return 0
    try:
        figures = run(options.only, int(options.megabytes * 1e6), options.rounds)
    except ProcessFailed as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    print(table(figures))
    return 0 if all(figure.is_within for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
