"""The clients of test_hostile_clients.py before the whole program: `python app.py`, and gunicorn, whatever worker that was asked for."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from compat.serve.open_files import raise_file_limit
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import ServiceFolder, behind
from tests.integration.test_gunicorn import Started, free_port
from tests.security.test_hostile_clients import (
    BODY,
    BOUND_S,
    GET,
    HEAD,
    HUGE,
    INNER,
    LENGTH,
    SMUGGLED,
    TARGETS,
    connected,
    drip,
    first_answer,
    rest_of,
    said,
    statuses,
)

pytestmark = pytest.mark.slow

COMMANDS = {
    "python app.py": ["app.py"],
    "gunicorn app:app": ["-m", "gunicorn", "app:app"],
    "gunicorn -k gthread app:app": ["-m", "gunicorn", "-k", "gthread", "--threads", "4", "app:app"],
}
CALL = HEAD + LENGTH + b"\r\n" + BODY


class Program:
    """A gateway that runs as a process, as the functions of test_hostile_clients.py see one."""

    def __init__(self, folder: Path, command: list[str], upstream: FakeUpstream) -> None:
        self.port, self.upstream = free_port(), upstream
        self._folder = ServiceFolder(folder)
        bounds = "workers = 1\nbody_timeout_s = 0.5\nmax_body_bytes = 1000000\n[retry]\nattempts = 1\n"
        self._folder.configure(behind(upstream, bounds).replace("port = 0", f"port = {self.port}"))
        self._started = Started(self._folder, [sys.executable, *command], self.port)

    def works(self) -> bool:
        answer = requests.post(
            f"{self._started.root}/v1/chat/completions", data=BODY, headers={"content-type": "application/json"}, timeout=BOUND_S
        )
        return answer.status_code == 200

    def words(self) -> str:
        """All that it said and wrote."""
        return self._started.said() + "".join(path.read_text() for path in (self._folder.folder / "logs").glob("*"))

    def close(self) -> None:
        self._started.close()
        self._folder.close()


@pytest.fixture(scope="module", params=COMMANDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with FakeUpstream(default=openai.respond) as upstream:
        running = Program(tmp_path_factory.mktemp("served"), COMMANDS[request.param], upstream)
        try:
            yield running
        finally:
            running.close()


@pytest.fixture
def asked(program: Program) -> Iterator[Any]:
    """The program as a gateway; afterwards it works, and made no call but those of this check."""
    program.upstream.requests.clear()
    yield program
    assert program.works()
    assert len(program.upstream.requests) == 1
    assert "Traceback" not in program.words()


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_that_could_be_two_is_refused_by_every_server(asked: Any, name: str) -> None:
    fields, body = SMUGGLED[name]
    with connected(asked) as sock:
        sock.settimeout(5)
        sock.sendall(HEAD + fields + b"\r\n" + body + INNER)
        answer = rest_of(sock)
    assert [status[:1] for status in statuses(answer)] == [b"4"], answer[:400]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", HUGE)
def test_huge_heads_are_refused_by_every_server(asked: Any, name: str) -> None:
    answer = said(asked, HEAD + HUGE[name] + LENGTH + b"\r\n" + BODY)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))


def test_no_path_leads_out_of_any_server(asked: Any) -> None:
    for target in TARGETS:
        for method in (b"GET", b"POST"):
            body = b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}" if method == b"POST" else b"\r\n"
            answer = said(asked, b"%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n%s" % (method, target, body))
            (status,) = statuses(answer)
            assert status[:1] in {b"2", b"4"}, target
            assert b"location" not in answer.lower().partition(b"\r\n\r\n")[0]
            assert b"monkey.patch_all" not in answer
            assert b"root:" not in answer


@pytest.mark.parametrize(
    ("field", "status"),
    [(b"host: evil.example", b"421"), (b"origin: https://evil.example", b"403"), (b"sec-fetch-site: cross-site", b"403")],
)
def test_another_sites_page_is_refused_by_every_server_before_the_body(asked: Any, field: bytes, status: bytes) -> None:
    host = b"" if field.startswith(b"host") else b"host: 127.0.0.1\r\n"
    with connected(asked) as sock:
        sock.settimeout(5)
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + host + field + b"\r\ncontent-length: 1000000\r\n\r\n")
        assert statuses(first_answer(sock)) == [status]


def test_every_server_bounds_the_time_and_the_size_of_a_body(asked: Any) -> None:
    with connected(asked) as sock:
        sock.settimeout(5)
        sock.sendall(HEAD + b"content-length: 1000\r\n\r\n")
        drip(sock, b" " * 1000)
        assert statuses(first_answer(sock)) == [b"408"]
    assert statuses(said(asked, HEAD + b"content-length: 1000001\r\n\r\n"))[:1] == [b"413"]
    endless = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert statuses(said(asked, HEAD + b"transfer-encoding: chunked\r\n\r\n", *[endless] * 40))[:1] in ([b"413"], [])


def test_pipelined_requests_are_answered_in_their_order_by_every_server(program: Program) -> None:
    missing = b"GET /nowhere HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    assert statuses(said(program, CALL + GET + CALL + missing)) == [b"200", b"200", b"200", b"404"]


def test_two_thousand_idle_connections_keep_nobody_out_of_any_server(asked: Any) -> None:
    raise_file_limit()
    with contextlib.ExitStack() as stack:
        for number in range(2000):
            sock = stack.enter_context(connected(asked))
            if number % 2:
                sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        begun_s = time.monotonic()
        assert b"200" in statuses(said(asked, b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"))
        assert time.monotonic() - begun_s < 5
