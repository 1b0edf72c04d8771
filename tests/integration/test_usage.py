"""`python app.py --usage` after calls: cost and tokens by day, model and key; and `/healthz` on what is kept."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from compat.accounting.keys import new_key
from tests.fakes import openai_answers as answers
from tests.fakes.upstream import FakeUpstream
from tests.integration.services_folder import until
from tests.unit.service.command_line import CommandLine

pytestmark = pytest.mark.slow

NAME = "claude-4-sonnet"


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    for started in line.running:
        started.close()


def configuration(upstream: FakeUpstream, top: str = "", more: str = "") -> str:
    return (
        f"discovery.enabled = false\nembedded.enabled = false\n{top}\n[server]\nport = 0\n[log]\nterminal = false\n"
        f'[retry]\nattempts = 1\n[upstreams.fake]\nkind = "openai"\nbase_url = "{upstream.url}"\napi_keys = ["sk-canary-0123456789"]\n'
        f'models = ["their-model"]\n[models."{NAME}"]\nroute = ["fake/their-model"]\n[models."opus"]\nroute = ["fake/their-model"]\n'
        f"[models.their-model]\nfacts = {{ price = {{ input = 0.0, output = 1000.0, cache_read = 0.0 }} }}\n{more}"
    )


def chat(root: str, key: str = "any", **body: Any) -> requests.Response:
    document = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], **body}
    return requests.post(f"{root}/v1/chat/completions", json=document, headers={"authorization": f"Bearer {key}"}, timeout=30)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if not line.startswith("-")]


def test_the_table_has_a_row_for_each_day_model_and_key(cli: CommandLine, upstream: FakeUpstream) -> None:
    (laptop, laptop_hash), (ci, ci_hash) = new_key(), new_key()
    cli.configure(configuration(upstream, more=f'[keys.laptop]\nhash = "{laptop_hash}"\n[keys.ci]\nhash = "{ci_hash}"\n'))
    gateway = cli.start()
    for key, body in ((laptop, {}), (laptop, {"stream": True}), (ci, {}), (ci, {"model": "opus"})):
        assert chat(gateway.root, key, **body).status_code == 200
    upstream.script(answers.error_answer(400, "no"))
    assert chat(gateway.root, ci).status_code == 400
    done = until(lambda: (run := cli.run("--usage")) and "total" in run.stdout and rows(run.stdout)[-1][1] == "5" and run, "all is written")
    assert (done.returncode, done.stderr) == (0, "")
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    table = rows(done.stdout)
    assert table[0] == ["day", "key", "model", "calls"] or table[0][:4] == ["day", "model", "key", "calls"]
    assert table[1:] == [
        [today, NAME, "ci", "2", "1", "11", "4", "7", "0.0070"],
        [today, NAME, "laptop", "2", "0", "22", "8", "14", "0.0140"],
        [today, "opus", "ci", "1", "0", "11", "4", "7", "0.0070"],
        ["total", "5", "1", "44", "16", "28", "0.0280"],
    ]


def test_the_table_is_there_when_the_gateway_has_ended(cli: CommandLine, upstream: FakeUpstream) -> None:
    cli.configure(configuration(upstream))
    gateway = cli.start()
    assert chat(gateway.root).status_code == 200
    gateway.process.terminate()
    assert gateway.end()[0] == 0
    assert rows(cli.run("--usage").stdout)[-1] == ["total", "1", "0", "11", "4", "7", "0.0070"]


def test_without_calls_it_says_so(cli: CommandLine, upstream: FakeUpstream) -> None:
    cli.configure(configuration(upstream))
    done = cli.call("--usage")
    assert done.returncode == 0
    assert re.fullmatch(r"No calls since \d{4}-\d\d-\d\d\.\n", done.stdout)
    assert json.loads(cli.call("--usage", "--json").stdout)["rows"] == []
    refused = cli.call("--usage", "--since", "yesterday")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert not (cli.folder / "data/usage.sqlite").exists()


def test_switched_off_nothing_is_kept(cli: CommandLine, upstream: FakeUpstream) -> None:
    cli.configure(configuration(upstream, "usage.enabled = false"))
    gateway = cli.start()
    assert chat(gateway.root).status_code == 200
    gateway.process.terminate()
    assert gateway.end()[0] == 0
    assert not (cli.folder / "data/usage.sqlite").exists()


def test_a_file_that_cant_be_read_is_told_of(cli: CommandLine, upstream: FakeUpstream) -> None:
    cli.configure(configuration(upstream))
    (cli.folder / "data").mkdir()
    (cli.folder / "data/usage.sqlite").write_bytes(b"garbage " * 1000)
    done = cli.call("--usage")
    assert done.returncode == 1
    assert done.stdout.startswith("Nothing can be shown: usage.sqlite: ")
    assert (cli.folder / "data/usage.sqlite").exists()


def test_no_prompt_no_answer_and_no_key_is_kept(cli: CommandLine, upstream: FakeUpstream) -> None:
    key, digest = new_key()
    cli.configure(configuration(upstream, more=f'[keys.laptop]\nhash = "{digest}"\n'))
    gateway = cli.start()
    assert chat(gateway.root, key, messages=[{"role": "user", "content": "canary-prompt"}]).status_code == 200
    gateway.process.terminate()
    assert gateway.end()[0] == 0
    kept = b"".join(path.read_bytes() for path in (cli.folder / "data").glob("usage.sqlite*"))
    assert b"laptop" in kept
    assert not any(secret in kept for secret in (key.encode(), b"canary", b"Hello there"))
