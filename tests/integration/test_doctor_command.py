"""`python app.py doctor`, and what the doctor says at start: in the banner, in `/healthz`, in the log."""

from __future__ import annotations

import datetime
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.fakes.openai_answers import json_answer
from tests.fakes.upstream import FakeUpstream
from tests.unit.service.command_line import CommandLine

pytestmark = pytest.mark.slow


def in_30_days() -> tuple[datetime.date, str]:
    """That day, and what is said of a model that retires then; asked anew by each test, for a run may go past midnight."""
    day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=30)
    return day, f"'claude-4-sonnet': claude-sonnet-4-6 retires on {day}, in 30 days; claude-opus-4-8 replaces it."


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=json_answer({"data": [{"id": "claude-sonnet-4-6"}, {"id": "claude-opus-4-8"}]})) as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    for started in line.running:
        started.close()


def configure(cli: CommandLine, upstream: FakeUpstream, facts: str, models: str = "") -> None:
    base_url = upstream.url.removesuffix("/v1")
    path = cli.configure(
        "embedded.enabled = false\ndiscovery.local_interval_s = 3600\n[server]\nport = 0\n[log]\nterminal = false\n"
        f'[upstreams.up]\nkind = "anthropic"\nbase_url = "{base_url}"\napi_keys = ["sk-canary-0123456789"]\n{models}\n'
        f'[models."claude-sonnet-4-6"]\nfacts = {{ {facts} }}\n'
    )
    Path(path).chmod(0o600)


def test_a_model_that_retires_soon_is_told_and_nothing_is_lost(cli: CommandLine, upstream: FakeUpstream) -> None:
    soon, words = in_30_days()
    configure(cli, upstream, f'retires = {soon}, replaced_by = "claude-opus-4-8"')
    done = cli.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "claude-4-sonnet -> up/claude-sonnet-4-6" in lines
    assert f"WARNING  {words}" in lines
    assert lines[-1] == "No action is needed."
    assert [request.method for request in upstream.requests] == ["GET"]
    assert "canary" not in done.stdout


def test_all_is_well_where_nothing_ends(cli: CommandLine, upstream: FakeUpstream) -> None:
    configure(cli, upstream, "context = 200_000")
    assert cli.call("doctor").stdout.splitlines()[-1] == "All is well."


def test_a_list_that_can_not_be_had_is_noted(cli: CommandLine) -> None:
    with FakeUpstream() as gone:
        pass
    configure(cli, gone, "context = 200_000")
    done = cli.call("doctor")
    assert "NOTE     up did not list its models: up can't be reached" in done.stdout


def test_the_warning_is_in_the_banner_in_the_health_report_and_in_the_log(cli: CommandLine, upstream: FakeUpstream) -> None:
    soon, words = in_30_days()
    configure(cli, upstream, f'retires = {soon}, replaced_by = "claude-opus-4-8"', 'models = ["claude-sonnet-4-6"]')
    started = cli.start()
    assert f"  Warning  {words}" in started.banner
    health = requests.get(f"{started.root}/healthz", timeout=10).json()
    assert [(row["name"], row["kind"], row["day"]) for row in health["models"]] == [
        (name, "retires", str(soon)) for name in ("claude-4-sonnet", "claude-3-sonnet")
    ]
    started.process.send_signal(signal.SIGTERM)
    assert started.end()[0] == 0
    told = [(row["name"], row["level"]) for row in started.log() if row["event"] == "model.retires"]
    assert ("claude-4-sonnet", "warning") in told
