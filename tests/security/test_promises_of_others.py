"""The promises 12, 14 and 15: prompts, processes, and text of others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from compat.service.state import Identity, RunFolder, identity_of
from tests.conftest import to_upstream
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import FakeUpstream
from tests.security.test_promises import CANARY, ROOT

EVIL = 'a<script>alert(1)</script>"\x1b[31m\u202e\x9b'

# 12


@pytest.mark.parametrize("kind", ["openai", "anthropic", "llama-server"])
def test_promise_12_no_url_in_a_prompt_is_fetched(start_gateway: Any, upstream: FakeUpstream, kind: str) -> None:
    row = {"upstreams": {"fake": {"kind": kind, "base_url": upstream.url, "api_keys": [CANARY]}}}
    gateway = start_gateway({**to_upstream(upstream), **row})
    with FakeUpstream(default=openai.respond) as pictures:
        for url in (
            f"{pictures.url}/a.png",
            "file:///etc/passwd",
            f"{pictures.url}/a.pdf",
            "data:text/plain;base64,eA==",
            "ftp://127.0.0.1/x",
        ):
            parts = [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "file", "file": {"file_data": url, "filename": "a.pdf", "file_id": url}},
                {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
            ]
            for part in parts[1:]:
                gateway.chat(messages=[{"role": "user", "content": [parts[0], part]}])
        assert pictures.connections == 0
    assert not [request for request in upstream.requests if b"root:" in request.body]


# 14


@pytest.mark.slow
def test_promise_14_only_a_process_that_was_started_here_gets_a_signal(tmp_path: Path) -> None:
    """A file that names somebody else's process, by its id, start and command, or by its id alone, does not get it killed."""
    for name in ("app.py", "gunicorn.conf.py", "restart_services.py"):
        shutil.copy(ROOT / name, tmp_path)
    bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        known = identity_of(bystander.pid)
        assert known is not None
        run = tmp_path / "data" / "run"
        run.mkdir(parents=True, mode=0o700)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        for claimed in (
            Identity(bystander.pid, "1", known.command),
            Identity(bystander.pid, known.started, "another command"),
            Identity(bystander.pid, known.started, "openai_compat: watcher"),
            known,
        ):
            facts = {"workers": 1, "shutdown_s": 0.0}
            row = {"number": 1, "state": "serving", "configuration": 1, "since_s": 1.0, "facts": facts, "identity": asdict(claimed)}
            rows = [row]
            (run / "service.json").write_text(json.dumps({"watcher": asdict(claimed), "generations": rows}))
            assert RunFolder(run).read_service().watcher == claimed
            for command in ("stop", "status"):
                done = subprocess.run(
                    [sys.executable, "restart_services.py", command],
                    cwd=tmp_path,
                    env=environment,
                    capture_output=True,
                    timeout=60,
                    check=False,
                )
                assert b"Traceback" not in done.stderr
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.communicate()


# 15


def test_promise_15_untrusted_text_is_escaped_on_pages_in_headers_and_in_the_log(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_upstream(upstream))
    inner = gateway.gateway
    inner.router.learn(inner.router.upstreams, {"fake": [EVIL, "their-model"]})
    upstream.script(openai.json_answer({"error": {"message": EVIL}}, 400), openai.respond)
    assert gateway.chat().status_code == 400
    for model in (f"fake/{EVIL}", "their-model"):
        answer = gateway.chat(model=model)
        assert all(value.isprintable() and value.isascii() for value in answer.headers.values())
    assert gateway.get("/v1/models/" + EVIL).status_code in {200, 404}
    for path in ("/", "/setup", "/setup?lang=zh", f"/setup?lang={EVIL}", f"/{EVIL}"):
        answer = gateway.get(path)
        is_page = answer.headers["content-type"].startswith("text/html")
        assert "<script>alert" not in answer.text or not is_page
        if is_page:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
        else:
            assert answer.headers["content-type"].startswith("application/json")
    inner.log.flush()
    text = gateway._log_path.read_text()
    assert all(letter.isprintable() or letter == "\n" for letter in text)
