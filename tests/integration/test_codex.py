"""The real Codex through the gateway, in front of strict imitations of each kind of upstream, with each of its sets of tools, and faults.

It needs the CLI (`npm install --no-save @openai/codex@0.171.0`); the folder it was installed into is named by CODEX_CLI.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.codex.client import Session, codex_binary, run_codex
from tests.codex.script import DONE, FIRST, SECOND, Fault, Script, ScriptedChat, ScriptedClaude, ScriptedResponses
from tests.conftest import RunningGateway
from tests.fakes.anthropic_settings import KEY, origin_of
from tests.fakes.responses_settings import KEY as OPENAI_KEY
from tests.fakes.upstream import FakeUpstream
from tests.unit.service.command_line import CommandLine

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.skipif(codex_binary() is None, reason="Codex is not installed: see the docstring of this module"),
]

KINDS: dict[str, tuple[type[Any], str]] = {
    "anthropic": (ScriptedClaude, "claude-opus-5-5"),
    "chat": (ScriptedChat, "deep-x"),
    "responses": (ScriptedResponses, "gpt-6.1-sol"),
}
SHAPES = {"functions": "any-model", "freeform": "gpt-5.5", "namespaces": "gpt-6.1-sol"}
"""The name of a model says which tools Codex sends."""


class Desk:
    """A folder with the note, an empty home, and an upstream of each kind, which a model is scripted for."""

    def __init__(self, base: Path, start_gateway: Any, upstreams: dict[str, FakeUpstream]) -> None:
        self.folder, self.home = base / "work", base / "home"
        for folder in (self.folder, self.home / ".codex"):
            folder.mkdir(parents=True)
        (self.folder / "note.txt").write_text("alpha\n")
        self.scripts: dict[str, Any] = {kind: KINDS[kind][0]() for kind in upstreams}
        for kind, upstream in upstreams.items():
            upstream.default = self.scripts[kind]
        self._start = start_gateway
        self._rows = {
            "anthropic": {"kind": "anthropic", "base_url": origin_of(upstreams["anthropic"]), "api_keys": [KEY]},
            "chat": {"kind": "deepseek", "base_url": upstreams["chat"].url, "api_keys": [OPENAI_KEY]},
            "responses": {"kind": "openai", "base_url": upstreams["responses"].url, "api_keys": [OPENAI_KEY]},
        }

    def gateway(self, kind: str, **more: Any) -> RunningGateway:
        """A gateway where every name of `SHAPES` leads to the upstream of a kind."""
        kept = {"path": str(self.home.with_name("sealing.secret"))}  # what one that was started again still has
        models = {name: {"route": [f"{kind}/{KINDS[kind][1]}"]} for name in SHAPES.values()}
        settings = {"upstreams": self._rows, "models": models, "sealing": kept, "retry": {"attempts": 3, "first_wait_s": 0.01}, **more}
        gateway: RunningGateway = self._start(settings)
        return gateway

    def work(self, gateway: RunningGateway, model: str, task: str = FIRST, *arguments: str, **settings: Any) -> Session:
        provider = {"name": "gateway", "base_url": gateway.url, "wire_api": "responses", "experimental_bearer_token": "sk-any"}
        given = {f"model_providers.gw.{name}": value for name, value in provider.items()}
        binary = codex_binary() or Path()
        return run_codex(binary, self.home, self.folder, task, *arguments, **{"model": model, "model_provider": "gw", **given, **settings})

    def done(self, session: Session, script: Script, task: str = FIRST, copy: str = "beta\n") -> None:
        """Whether the work is done, without a refusal of the model's."""
        assert getattr(script, "refusals", []) == []
        assert session.is_good, (session.events[-3:], session.output)
        assert session.text == DONE[task]
        assert (self.folder / "copy.txt").read_text() == copy


@pytest.fixture
def desk(tmp_path: Path, start_gateway: Any) -> Iterator[Desk]:
    with FakeUpstream() as one, FakeUpstream() as two, FakeUpstream() as three:
        yield Desk(tmp_path, start_gateway, dict(zip(KINDS, (one, two, three), strict=True)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_codex_reads_edits_runs_and_finishes(desk: Desk, kind: str, shape: str) -> None:
    gateway, script = desk.gateway(kind), desk.scripts[kind]
    session = desk.work(gateway, SHAPES[shape])
    desk.done(session, script)
    assert script.asked == [0, 1, 2, 3]
    assert {(call["endpoint"], call["outcome"]) for call in gateway.calls()} == {("responses", "ok")}


@pytest.mark.parametrize("fault", ["overloaded", "cut in text", "cut in a call"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_gets_the_work_done_with_faults_in_the_way(desk: Desk, kind: str, fault: Fault) -> None:
    script = desk.scripts[kind]
    script.meet({1: fault})
    desk.done(desk.work(desk.gateway(kind), "gpt-5.5"), script)
    assert script.met == [fault]


@pytest.mark.parametrize(("first", "second"), [("anthropic", "chat"), ("chat", "responses"), ("responses", "anthropic")])
def test_it_goes_on_after_a_restart_of_the_gateway_with_another_model(desk: Desk, first: str, second: str) -> None:
    gateway = desk.gateway(first)
    desk.done(desk.work(gateway, "any-model"), desk.scripts[first])
    gateway.close()
    session = desk.work(desk.gateway(second), "any-model", SECOND, "resume", "--last")
    desk.done(session, desk.scripts[second], SECOND, "beta\ngamma\n")


def test_it_works_over_a_websocket_by_what_setup_wrote_alone(desk: Desk) -> None:
    gateway = desk.gateway("anthropic", models={"claude-4-sonnet": {"route": ["anthropic/claude-opus-5-5"]}})
    done = CommandLine(desk.home).run("setup", "codex", "--url", gateway.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "It works."
    session = run_codex(codex_binary() or Path(), desk.home, desk.folder, FIRST)
    desk.done(session, desk.scripts["anthropic"])
    assert all(item["type"] != "error" for event in session.events if (item := event.get("item")))
    undone = CommandLine(desk.home).call("setup", "codex", "--undo")
    assert undone.stdout == f"Removed: {desk.home / '.codex/config.toml'}\n"


@pytest.mark.parametrize("name", ["gateway", "OpenAI"], ids=["local", "remote"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_after_its_conversation_was_made_short(desk: Desk, kind: str, name: str) -> None:
    script = desk.scripts[kind]
    script.spent = {1: 150_000}  # after the second step
    limits = {"model_context_window": 200_000, "model_auto_compact_token_limit": 100_000, "model_providers.gw.name": name}
    session = desk.work(desk.gateway(kind), "any-model", **limits)
    desk.done(session, script)
    assert (script.asked, script.summaries) == ([0, 1, 2, 3], 1)
