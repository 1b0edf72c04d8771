"""The gateway behind nginx, with the site of deploy/nginx.conf: the suite of SDK tests, and streams as they come."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes import openai_answers as answers
from tests.fakes.upstream import FakeUpstream, Sleep
from tests.integration import test_openai_sdk as sdk
from tests.integration.services_folder import BOUND_S, ROOT, ServiceFolder, behind, until
from tests.integration.test_gunicorn import free_port, shared_upstream, upstream

__all__ = ["shared_upstream", "upstream"]
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.heavy,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)"),
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed, and the site wants a certificate"),
]
KEY = "sk-compat-of-ada"
HASH = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


class Site:
    """nginx with the site, whose ports and certificate are the only things that were changed."""

    def __init__(self, folder: Path, gateway_port: int) -> None:
        self.port = free_port()
        self.certificate = folder / "site.pem"
        key = folder / "site.key"
        subject = ["-subj", "/CN=gateway.example", "-addext", "subjectAltName=DNS:gateway.example,IP:127.0.0.1"]
        command = [str(OPENSSL), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-keyout", str(key)]
        subprocess.run([*command, "-out", str(self.certificate), *subject], check=True, capture_output=True)
        site = (ROOT / "deploy/nginx.conf").read_text()
        changes = {
            "127.0.0.1:28889": f"127.0.0.1:{gateway_port}",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/ssl/certs/gateway.example.pem": str(self.certificate),
            "/etc/ssl/private/gateway.example.key": str(key),
        }
        for old, new in changes.items():
            assert site.count(old) == 1, f"{old} is not in the site once"
            site = site.replace(old, new)
        (folder / "site.conf").write_text(site)
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user))
        self._folder = folder
        subprocess.run([str(NGINX), "-t", "-c", str(folder / "nginx.conf")], check=True, capture_output=True)
        self.process = subprocess.Popen([str(NGINX), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
        until(self._accepts, "nginx accepts connections")

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def client(self) -> Any:
        """The HTTP client of the SDK, which trusts the site's certificate."""
        trust = ssl.create_default_context(cafile=str(self.certificate))
        headers = {"authorization": f"Bearer {KEY}"}
        return openai.DefaultHttpxClient(verify=trust, timeout=BOUND_S, trust_env=False, headers=headers)

    @property
    def root(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(BOUND_S)


@pytest.fixture(scope="module")
def folder(shared_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceFolder]:
    made = ServiceFolder(tmp_path_factory.mktemp("behind_nginx"))
    server = 'heartbeat_s = 1\nallowed_hosts = ["gateway.example"]'
    made.configure(behind(shared_upstream, server) + f'[retry]\nattempts = 1\n[keys.ada]\nhash = "{HASH}"\n')
    try:
        made.do("start")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def site(folder: ServiceFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("nginx"), folder.port)
    yield running
    running.close()


class TestTheSdkSuite(sdk.TestInFrontOfAScriptedUpstream):
    """Every test of the suite, through TLS and nginx."""

    @pytest.fixture
    def client(self, site: Site, upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
        with site.client() as http, openai.OpenAI(base_url=f"{site.root}/v1", api_key=KEY, max_retries=0, http_client=http) as client:
            yield client


JSON = {"content-type": "application/json"}
BODY = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def test_events_pass_one_by_one_and_silence_is_filled(site: Site, upstream: FakeUpstream) -> None:
    """nginx holds nothing back: each event is there long before the next one is sent."""
    events = [answers.event(chunk) for chunk in answers.text_chunks()]
    upstream.script(answers.sse_answer(*events[:2], Sleep(2.5), *events[2:], answers.event("[DONE]")))
    came: list[tuple[float, bytes]] = []
    begun_s = time.monotonic()
    with site.client() as http, http.stream("POST", f"{site.root}/v1/chat/completions", json=BODY) as answer:
        for data in answer.iter_raw():
            came.append((time.monotonic() - begun_s, data))
    assert came[0][0] < 1
    assert b"Hello" in came[0][1] + came[1][1]
    assert [data for at_s, data in came if 0.5 < at_s < 2.3 and b": keep-alive" in data]
    assert b"".join(data for _, data in came).endswith(b"data: [DONE]\n\n")


def test_a_client_that_hangs_up_is_noticed_through_nginx(site: Site, upstream: FakeUpstream) -> None:
    upstream.script(answers.sse_answer(answers.event(answers.text_chunks()[0]), answers.event(answers.text_chunks()[1]), Sleep(30)))
    abandoned = len(upstream.abandoned)
    with site.client() as http, http.stream("POST", f"{site.root}/v1/chat/completions", json=BODY) as answer:
        next(answer.iter_raw())
    until(lambda: len(upstream.abandoned) > abandoned, "the upstream is let go of", bound_s=5)


def test_large_bodies_names_and_refusals_are_the_gateways(site: Site, upstream: FakeUpstream) -> None:
    body = {**BODY, "stream": False, "messages": [{"role": "user", "content": "x" * 5_000_000}]}
    with site.client() as http:
        assert http.post(f"{site.root}/v1/chat/completions", json=body).status_code == 200
        assert len(upstream.requests[0].body) > 5_000_000
        too_large = http.post(f"{site.root}/v1/chat/completions", content=b" " * (32 * 1024 * 1024 + 1), headers=JSON)
        assert (too_large.status_code, too_large.json()["error"]["type"]) == (413, "invalid_request_error")
        statuses = [http.get(f"{site.root}/v1/models", headers={"host": host}).status_code for host in ("gateway.example", "evil.example")]
        assert statuses == [200, 421]


def test_a_restart_behind_nginx_drops_no_call(site: Site, folder: ServiceFolder, upstream: FakeUpstream) -> None:
    """nginx keeps connections to the gateway, which the old workers let go of one by one."""
    body = {**BODY, "stream": False}
    command = [sys.executable, "restart_services.py"]
    restart = subprocess.Popen(command, cwd=folder.folder, env=folder.environment, stdout=subprocess.DEVNULL)
    statuses: list[int] = []
    with site.client() as http:
        while restart.poll() is None or len(statuses) < 50:
            statuses.append(http.post(f"{site.root}/v1/chat/completions", json=body).status_code)
    assert restart.returncode == 0
    assert set(statuses) == {200}
