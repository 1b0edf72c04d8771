"""What the gateway takes of a machine's memory: at rest, and while clients don't read what they asked for."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.cases.faults import opening, said
from tests.fakes.upstream import Answer, FakeUpstream
from tests.integration.services_folder import until
from tests.integration.test_usage import NAME, chat, configuration
from tests.unit.service.command_line import CommandLine, Started

MB = 2**20
IDLE_MB = 120
READERS = 40
HELD_BYTES = 256 * 1024

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell of a process's memory"),
]


class Endless(FakeUpstream):
    """Streams without an end, as fast as it can. `written` counts what its sockets took."""

    written = 0

    def _answer(self, sock: socket.socket, answer: Answer) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        sock.sendall(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        self._send(sock, self._steps(), plain=False)

    def _steps(self) -> Iterator[bytes]:
        yield from opening("openai")
        frame = b"".join(said("openai", "x" * 10_000))
        while True:
            self.written += len(frame)
            yield frame


def resident_bytes(gateway: Started) -> int:
    """Of the gateway's own memory: what the kernel's sockets hold is not in it."""
    return int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    for started in line.running:
        started.close()


def test_one_worker_at_rest_takes_little(cli: CommandLine, upstream: FakeUpstream) -> None:
    cli.configure(configuration(upstream))
    gateway = cli.start()
    for stream in (False, True):
        assert chat(gateway.root, stream=stream).status_code == 200
    assert requests.get(f"{gateway.root}/healthz", timeout=30).status_code == 200
    assert resident_bytes(gateway) < IDLE_MB * MB


class Reader:
    """A client that asks for a stream, reads its beginning, and then nothing."""

    def __init__(self, gateway: Started, headers: dict[str, str]) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self.sock.connect(("127.0.0.1", gateway.port))
        body = json.dumps({"model": NAME, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}).encode()
        head = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body)), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.sock.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + body)
        assert b" 200 " in self.sock.recv(1024)


@pytest.mark.parametrize("shares", [False, True], ids=["alone", "with an idempotency key"])
def test_a_slow_reader_holds_at_most_256_kb(cli: CommandLine, shares: bool) -> None:
    with Endless(default=lambda _: Answer()) as upstream:
        cli.configure(configuration(upstream, more="[single_flight]\nrecord_bytes = 65536\n"))  # kept for those who join, read or not
        gateway = cli.start()
        warm = [Reader(gateway, {}) for _ in range(READERS)]  # what greenlets and sockets take by themselves
        for reader in warm:
            reader.sock.close()
        until(lambda: requests.get(f"{gateway.root}/healthz", timeout=30).json()["in_flight"] == 0, "they have left")
        before = resident_bytes(gateway)
        readers = [Reader(gateway, {"idempotency-key": str(number)} if shares else {}) for number in range(READERS)]
        settled = threading.Event()
        counts = [-1]
        while len(counts) < 3 or counts[-1] != counts[-3]:
            settled.wait(0.2)
            counts.append(upstream.written)
        assert upstream.written > READERS * 100_000, "it would have sent more"
        assert resident_bytes(gateway) - before < READERS * HELD_BYTES
        for reader in readers:
            reader.sock.close()
