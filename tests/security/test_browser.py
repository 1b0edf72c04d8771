"""Promises 2 and 3 with a real browser: a page of somebody else's, in Chromium, tries all it can against the gateway.

The names of the attacker lead to this machine, as they do after DNS rebinding, so that no rule of the browser's for other networks helps.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningGateway, to_upstream
from tests.fakes.openai_answers import respond
from tests.fakes.upstream import FakeUpstream

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
PAGE = Path(__file__).with_name("attack_page.html")
BOUND_S = 90.0
READS = {"json", "json with cookies", "text", "no type", "embeddings", "models", "health", "script", "style", "image", "websocket"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.heavy,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (apt-get install chromium)"),
]


class Attacker:
    """A web site; `told` is what its page reported, once `has_told` is set. Mutable: both."""

    def __init__(self, gateways: list[str]) -> None:
        page = PAGE.read_text().replace("GATEWAYS", json.dumps(gateways)).encode()
        attacker, self.told, self.has_told = self, [], threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(page, "text/html")

            def do_POST(self) -> None:
                attacker.told = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._answer(b"{}", "application/json")
                attacker.has_told.set()

            def _answer(self, body: bytes, content_type: str) -> None:
                self.send_response(200)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page's report, the gateway, and its upstream."""
    folder = tmp_path_factory.mktemp("gateway")
    with FakeUpstream(default=respond) as upstream:
        gateway = RunningGateway(to_upstream(upstream), folder)
        attacker = Attacker([f"http://{name}:{gateway.port}" for name in ("127.0.0.1", "localhost", "rebound.test")])
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP rebound.test 127.0.0.1"]
        with (folder / "said").open("wb") as said:
            browser = subprocess.Popen(
                [*command, f"http://evil.test:{attacker.port}/"], stdout=said, stderr=said, env={**os.environ, "HOME": str(folder)}
            )
        try:
            assert attacker.has_told.wait(BOUND_S), (folder / "said").read_text()[-2000:]
            yield attacker.told, gateway, upstream
        finally:
            browser.kill()
            browser.wait()
            attacker.close()
            gateway.close()


def test_a_page_of_another_site_reads_nothing(attacked: Any) -> None:
    told, gateway, _ = attacked
    by_gateway: dict[str, dict[str, str]] = {}
    for row in told:
        by_gateway.setdefault(row["gateway"], {})[row["what"]] = row["outcome"]
    assert len(by_gateway) == 3
    for address, outcomes in by_gateway.items():
        assert set(outcomes) == READS, address
        assert set(outcomes.values()) <= {"blocked", "opaque"}, (address, outcomes)
    assert gateway.get("/healthz").status_code == 200


def test_a_page_of_another_site_makes_no_call(attacked: Any) -> None:
    _, gateway, upstream = attacked
    assert upstream.requests == []
    assert gateway.calls() == []
    assert gateway.chat().status_code == 200
    assert len(upstream.requests) == 1
