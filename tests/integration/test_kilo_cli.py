"""The real Kilo CLI through the gateway, configured by `setup kilo` alone, on both wire APIs, without and with faults in the way.

Its start takes most of a run: what does not depend on how it starts, prints and exits is asked of one server, as few runs as can be.
It needs the CLI (`npm install --no-save @kilocode/cli-linux-x64@7.7.9`); the folder it was installed into is named by KILO_CLI.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.config.catalog import load_catalog
from compat.setup.jsonc import plain_json
from tests.conftest import RunningGateway
from tests.fakes.upstream import FakeUpstream
from tests.integration.test_gunicorn import free_port
from tests.kilo.client import KiloServer, Session, kilo_binary, run_kilo
from tests.kilo.responses_script import MODEL, ResponsesModel
from tests.kilo.script import FINAL, AgentModel, Fault, WireApi
from tests.unit.service.command_line import CommandLine

TASK = "Change alpha to beta in note.txt, then copy the file to copy.txt."
HAND_WRITTEN = """\
{
  // how I like it
  "share": "disabled",
  "autoupdate": false,
  "disabled_providers": ["kilo", "apertis"], /* not these */
  "experimental": { "openTelemetry": false },
}
"""
WORK = [("read", "completed"), ("edit", "completed"), ("bash", "completed")]
FAULTS: dict[int, Fault] = {1: "overloaded", 2: "cut", 3: "rate limit"}
KINDS: dict[WireApi, str] = {"openai.chat": "openai", "anthropic.messages": "anthropic", "openai.responses": "openai"}
SCRIPTED: list[WireApi] = ["openai.chat", "anthropic.messages"]

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.skipif(kilo_binary() is None, reason="the Kilo CLI is not installed: see the docstring of this module"),
]


class Desk:
    """A folder with the note, a home with a hand-written configuration, and a gateway before an upstream that plays the model."""

    def __init__(
        self, base: Path, start_gateway: Any, upstream: FakeUpstream, wire_api: WireApi, faults: dict[int, Fault], *, is_whole: bool = False
    ) -> None:
        self.folder = base / "work"
        self.home = base / "home"
        for folder in (self.folder, self.home):
            folder.mkdir()
        (self.folder / "note.txt").write_text("alpha\n")
        subprocess.run(["git", "init", "-q", "-b", "main", "."], cwd=self.folder, check=True)
        self.model: Any = AgentModel(self.folder, wire_api, faults)
        if wire_api == "openai.responses":
            self.model = ResponsesModel(folder=self.folder, faults=faults, is_whole=is_whole)
        upstream.default = self.model
        base_url = upstream.url.removesuffix("/v1") if wire_api == "anthropic.messages" else upstream.url
        target = MODEL if wire_api == "openai.responses" else "claude-sonnet-4-6"
        row = {"kind": KINDS[wire_api], "base_url": base_url, "api_keys": ["sk-canary-0123456789"], "models": [target]}
        aliases = {name: {"route": [f"up/{MODEL}"]} for name in load_catalog().aliases} if target == MODEL else {}
        bound_s = 1 if wire_api == "openai.chat" else 30  # at a rate limit Kilo waits there itself, else the gateway does
        self.gateway: RunningGateway = start_gateway({"upstreams": {"up": row}, "models": aliases, "retry": {"max_retry_after_s": bound_s}})

    def set_up(self, client: str = "kilo") -> str:
        """`python app.py setup kilo`, in this process; what it said."""
        config = self.home / ".config/kilo"
        config.mkdir(parents=True)
        (config / "kilo.jsonc").write_text(HAND_WRITTEN)
        done = CommandLine(self.home).call("setup", client, "--url", self.gateway.root)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def work(self, server: KiloServer | None = None) -> Session:
        """The task, by a run of the program, or by its server, which finds what set-up wrote in the folder."""
        if server is None:
            return run_kilo(kilo_binary() or Path(), self.home, self.folder, TASK)
        (self.folder / "kilo.jsonc").write_text((self.home / ".config/kilo/kilo.jsonc").read_text())
        return server.work(self.folder, TASK)

    def is_done(self) -> bool:
        return (self.folder / "copy.txt").exists() and (self.folder / "copy.txt").read_text() == "beta\n"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KiloServer]:
    running = KiloServer(kilo_binary() or Path(), tmp_path_factory.mktemp("kilo") / "home", free_port())
    yield running
    running.close()


def logged(gateway: RunningGateway, outcome: str = "ok") -> list[tuple[int, int, int, float]]:
    """The gateway's own records of the steps of the work, in the client's terms; the small calls beside them are left out."""
    rows = [line for line in gateway.calls() if line["outcome"] == outcome and line["prompt_tokens"] > 10_000]
    return [(row["prompt_tokens"], row["cache_read_tokens"], row["completion_tokens"], row["cost_usd"]) for row in rows]


@pytest.mark.parametrize("wire_api", SCRIPTED)
def test_kilo_reads_edits_runs_and_finishes(tmp_path: Path, start_gateway: Any, upstream: FakeUpstream, wire_api: WireApi) -> None:
    desk = Desk(tmp_path, start_gateway, upstream, wire_api, {})
    said = desk.set_up()
    assert said.splitlines()[-1] == "It works."
    assert (desk.home / ".config/kilo/kilo.jsonc").read_text().startswith(HAND_WRITTEN.removesuffix("\n}\n"))
    session = desk.work()
    assert (session.exit_code, session.errors) == (0, [])
    assert session.tools == WORK
    assert session.text.strip() == FINAL
    assert desk.is_done()
    assert [part["reason"] for part in session.parts("step_finish")] == ["tool-calls"] * 3 + ["stop"]
    shown, known = session.steps, logged(desk.gateway)
    assert (
        [row[:3] for row in shown]
        == [row[:3] for row in known]
        == [(20_000, 0, 40), (21_000, 15_000, 41), (22_000, 15_000, 42), (23_000, 15_000, 43)]
    )
    assert [row[3] for row in shown] == pytest.approx([row[3] for row in known], rel=1e-9)
    assert sum(row[3] for row in known) > 0
    undone = CommandLine(desk.home).call("setup", "kilo", "--undo")  # Kilo itself writes `$schema` and `permission` into its file
    assert "which was changed since: provider.openai-compat, model, small_model" in undone.stdout
    left = (desk.home / ".config/kilo/kilo.jsonc").read_text()
    assert HAND_WRITTEN.removeprefix("{\n").removesuffix("\n}\n") in left
    assert "openai-compat" not in left
    assert {"$schema", "permission"} & set(json.loads(plain_json(left)))


@pytest.mark.parametrize("wire_api", ["anthropic.messages", "openai.chat"])
def test_kilo_works_by_anthropics_protocol(
    tmp_path: Path, start_gateway: Any, upstream: FakeUpstream, server: KiloServer, wire_api: WireApi
) -> None:
    desk = Desk(tmp_path, start_gateway, upstream, wire_api, {})
    assert desk.set_up("kilo-anthropic").splitlines()[-1] == "It works."
    session = desk.work(server)
    assert session.errors == []
    assert session.tools == WORK
    assert desk.is_done()
    assert {call["endpoint"] for call in desk.gateway.calls()} == {"messages"}
    assert [row[:3] for row in session.steps] == [row[:3] for row in logged(desk.gateway)]


@pytest.mark.parametrize("wire_api", SCRIPTED)
def test_kilo_gets_the_work_done_with_faults_in_the_way(
    tmp_path: Path, start_gateway: Any, upstream: FakeUpstream, server: KiloServer, wire_api: WireApi
) -> None:
    desk = Desk(tmp_path, start_gateway, upstream, wire_api, FAULTS)
    desk.set_up()
    session = desk.work(server)
    assert session.errors == [], session.output
    assert session.tools == WORK
    assert session.text.strip().endswith(FINAL)
    assert desk.is_done()
    assert [desk.model.served.count(fault) for fault in FAULTS.values()] == [1] * len(FAULTS)
    assert "summary" not in desk.model.served
    assert [row[:3] for row in session.steps if row[0] > 10_000] == [row[:3] for row in logged(desk.gateway)]


@pytest.mark.parametrize("wire_api", SCRIPTED)
def test_kilo_compacts_a_conversation_that_overflows_and_goes_on(
    tmp_path: Path, start_gateway: Any, upstream: FakeUpstream, wire_api: WireApi
) -> None:
    desk = Desk(tmp_path, start_gateway, upstream, wire_api, {1: "overflow"})
    desk.set_up()
    session = desk.work()
    assert session.errors == ["ContextOverflowError"], session.output
    assert session.tools == WORK
    assert session.text.strip().endswith(FINAL)
    assert desk.is_done()
    assert desk.model.served.count("overflow") == 1
    assert "summary" in desk.model.served
    assert [row[:3] for row in session.steps if row[0] > 10_000] == [row[:3] for row in logged(desk.gateway)]


@pytest.mark.parametrize(
    ("faults", "is_whole"),
    [({1: "cut", 2: "overloaded", 3: "rate limit"}, False), ({1: "cut", 2: "overloaded", 3: "rate limit"}, True), ({1: "overflow"}, False)],
    ids=["faults, streamed", "faults, whole", "an overflow"],
)
def test_kilo_works_with_a_model_that_has_its_tools_on_responses_only(
    tmp_path: Path, start_gateway: Any, upstream: FakeUpstream, server: KiloServer, faults: dict[int, Fault], is_whole: bool
) -> None:
    desk = Desk(tmp_path, start_gateway, upstream, "openai.responses", faults, is_whole=is_whole)
    assert desk.set_up().splitlines()[-1] == "It works."
    overflows = "overflow" in faults.values()
    session = desk.work(None if overflows else server)
    assert session.errors == (["ContextOverflowError"] if overflows else []), session.output
    assert session.tools == WORK
    assert session.text.strip().endswith(FINAL)
    assert desk.is_done()
    assert [desk.model.served.count(fault) for fault in faults.values()] == [1] * len(faults)
    assert {request.path for request in upstream.requests if request.method == "POST"} == {"/v1/responses"}
    assert desk.model.refusals == []
    assert overflows or desk.model.forgotten == []
    rows = [line for line in desk.gateway.calls() if line["outcome"] == "ok" and line["prompt_tokens"] > 5000]
    assert [row[:3] for row in session.steps if row[0] > 5000] == [
        (row["prompt_tokens"], row["cache_read_tokens"], row["completion_tokens"]) for row in rows
    ]
    assert any(row["cache_read_tokens"] for row in rows)


def test_kilo_sees_tokens_and_cost_where_the_upstream_tells_none(
    tmp_path: Path, start_gateway: Any, upstream: FakeUpstream, server: KiloServer
) -> None:
    desk = Desk(tmp_path, start_gateway, upstream, "openai.chat", {})
    desk.model.tells_usage = False
    desk.set_up()
    session = desk.work(server)
    assert (session.errors, desk.is_done()) == ([], True)
    records = [line for line in desk.gateway.calls() if line["prompt_tokens"] > 5000]
    assert [record["is_estimate"] for record in records] == [True] * 4
    assert [row[0] for row in session.steps] == [record["prompt_tokens"] for record in records]
    assert [row[3] for row in session.steps] == pytest.approx([record["cost_usd"] for record in records], rel=1e-9)
    assert all(10_000 < row[0] < 40_000 and row[3] > 0 for row in session.steps), session.steps
