"""The streamed faults of the matrix over TLS, where one read holds many records; the client's framing is read byte by byte.

A stream that ends in an error must look ended to whoever reads HTTP: whole chunks, one last chunk, and nothing behind it on a connection
that goes on in step.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cases.faults import AT_THE_END, BODIES, STREAMS, TOOL, WIRES, Ended, Fault, Right, Told, Wire
from tests.conftest import RunningGateway
from tests.fakes.authority import Authority
from tests.fakes.upstream import Answer, FakeUpstream
from tests.integration.test_faults import TARGET, row_of, streamed_message

pytestmark = pytest.mark.slow

FAULTS = [fault for fault in (*BODIES, *STREAMS, *AT_THE_END) if fault.is_streamed]
CELLS = [pytest.param(fault, wire, id=f"{fault.place}-{fault.name}-{wire}") for fault in FAULTS for wire in fault.wires]
TOOLS = [{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object", "properties": {}}}}]


def model_of(fault: Fault, wire: Wire) -> str:
    """A model of its own for each cell, and so a circuit of its own."""
    return f"{fault.place} {fault.name} {wire}"


def deployment_of(fault: Fault, wire: Wire) -> str:
    return f"{wire}{'-silent' if fault.is_silent else ''}/{TARGET}-{FAULTS.index(fault)}"


class Upstreams:
    """One upstream for each wire API over TLS; `answer` is what all of them say next."""

    def __init__(self, authority: Authority) -> None:
        self.answer = Answer()
        self.running = {wire: FakeUpstream(default=lambda _: self.answer, tls=authority.server) for wire in WIRES}


@pytest.fixture(scope="module")
def upstreams(authority: Authority) -> Iterator[Upstreams]:
    made = Upstreams(authority)
    with contextlib.ExitStack() as running:
        for upstream in made.running.values():
            running.enter_context(upstream)
        yield made


@pytest.fixture(scope="module")
def gateway(authority: Authority, upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    rows = {wire: {**row_of(upstream, wire), "ca_file": authority.ca_file} for wire, upstream in upstreams.running.items()}
    silent = {f"{wire}-silent": {**row, "timeouts": {"first_byte_s": 0.3, "silence_s": 0.3}} for wire, row in rows.items()}
    settings = {
        "upstreams": {**rows, **silent},
        "models": {model_of(fault, wire): {"route": [deployment_of(fault, wire)]} for fault in FAULTS for wire in fault.wires},
        "retry": {"attempts": 1},
    }
    running = RunningGateway(settings, tmp_path_factory.mktemp("gateway"))
    yield running
    running.close()


class Line:
    """A client's connection, read a byte at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def close(self) -> None:
        self._socket.close()

    def ask(self, **body: Any) -> tuple[int, str]:
        """Status and body of an answer."""
        data = json.dumps({"messages": [{"role": "user", "content": "Hi"}], **body}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(data)}"
        self._socket.sendall(head.encode() + b"\r\n\r\n" + data)
        version, status, _ = self._line().split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        if b"content-length" in headers:
            return int(status), self._exactly(int(headers[b"content-length"])).decode()
        assert headers[b"transfer-encoding"] == b"chunked"
        chunks = []
        while size := int(self._line(), 16):
            chunks.append(self._exactly(size))
            assert self._line() == b""
        assert self._line() == b""
        return int(status), b"".join(chunks).decode()

    def is_silent(self) -> bool:
        """Whether nothing stands on the connection that nobody asked for."""
        self._socket.settimeout(0.02)
        try:
            return self._socket.recv(1) == b"nothing"
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(10)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._exactly(1)
        return line[:-2]

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(1)
            assert piece, f"the connection ended within the answer, after {data!r}"
            data += piece
        return data


@pytest.mark.parametrize(("fault", "wire"), CELLS)
def test_the_framing_is_whole_and_the_connection_in_step(gateway: RunningGateway, upstreams: Upstreams, fault: Fault, wire: Wire) -> None:
    upstreams.answer = fault.make(wire, True)
    is_call = fault.place == "mid-call"
    line = Line(gateway.port)
    try:
        for _ in range(2):  # the second one finds the connection where the first one left it
            status, text = line.ask(model=model_of(fault, wire), stream=True, **({"tools": TOOLS} if is_call else {}))
            match fault.alone:
                case Told():
                    assert status == fault.alone.status
                    assert json.loads(text)["error"]["code"] == (fault.alone.code or json.loads(text)["error"]["code"])
                case Ended():
                    message, last = streamed_message(text)
                    assert (message["content"], last["error"]["code"]) == (fault.alone.text, fault.alone.code)
                case Right():
                    message, last = streamed_message(text)
                    assert (message["content"], last) == (fault.alone.text, {})
        assert line.is_silent()
    finally:
        line.close()
