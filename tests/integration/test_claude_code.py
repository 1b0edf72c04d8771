"""The real Claude Code through the gateway, in front of strict imitations of Anthropic's service and of both of OpenAI's, with faults too.

It needs the CLI (`npm install --no-save @anthropic-ai/claude-code@2.1.332`); the folder it was installed into is named by CLAUDE_CLI.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.claude_code.chat_script import THOUGHT, ScriptedChat
from tests.claude_code.client import Session, claude_binary, run_claude
from tests.claude_code.responses_script import ScriptedResponses
from tests.claude_code.script import FIRST, FIRST_DONE, FIRST_TOOLS, SECOND, SECOND_DONE, SECOND_TOOLS, Fault, ScriptedClaude
from tests.conftest import RunningGateway
from tests.fakes.anthropic_settings import KEY, origin_of
from tests.fakes.responses_settings import KEY as OPENAI_KEY
from tests.fakes.searching import PAGE, SAID, searching_model, searx
from tests.fakes.upstream import FakeUpstream
from tests.unit.service.command_line import CommandLine

MODELS = ["claude-opus-5-5", "claude-sonnet-4-6", "claude-haiku-4-5"]

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.skipif(claude_binary() is None, reason="Claude Code is not installed: see the docstring of this module"),
]


@dataclass(frozen=True)
class Other:
    """Another model than Anthropic's: where it is, and what plays it."""

    place: str
    script: ScriptedChat | ScriptedResponses

    @property
    def name(self) -> str:
        """By which Claude Code asks for it."""
        return f"claude-compat/{self.place}"


class Desk:
    """A folder with the note, an empty home, and an upstream that plays the model."""

    def __init__(self, base: Path, start_gateway: Any, upstream: FakeUpstream) -> None:
        self.folder, self.home = base / "work", base / "home"
        for folder in (self.folder, self.home):
            folder.mkdir()
        (self.folder / "note.txt").write_text("alpha\n")
        subprocess.run(["git", "init", "-q", "-b", "main", "."], cwd=self.folder, check=True)
        self.model = ScriptedClaude(folder=self.folder)
        self._start, self._upstream = start_gateway, upstream
        self._rows: dict[str, Any] = {}
        upstream.default = self.model

    def with_other(self, kind: str, upstream: FakeUpstream) -> Other:
        """Let another upstream be there, that speaks one of OpenAI's protocols; what plays its model."""
        row = {"base_url": upstream.url, "api_keys": [OPENAI_KEY]}
        if kind == "chat":
            upstream.default = chat = ScriptedChat(self.folder)
            self._rows["chat"] = {"kind": "deepseek", "models": ["deep-x"], **row}
            return Other("chat/deep-x", chat)
        upstream.default = responses = ScriptedResponses(folder=self.folder)
        self._rows["gpt"] = {"kind": "openai", "models": ["gpt-6.1-sol"], **row}
        return Other("gpt/gpt-6.1-sol", responses)

    def gateway(self, **more: Any) -> RunningGateway:
        row = {"kind": "anthropic", "base_url": origin_of(self._upstream), "api_keys": [KEY], "models": MODELS}
        kept = {"path": str(self.home.with_name("sealing.secret"))}  # what one that was started again still has
        gateway: RunningGateway = self._start({"upstreams": {"up": row, **self._rows}, "sealing": kept, **more})
        return gateway

    def work(self, gateway: RunningGateway, model: str, task: str = FIRST, *arguments: str, **more: str) -> Session:
        environment = {"ANTHROPIC_BASE_URL": gateway.root, "ANTHROPIC_AUTH_TOKEN": "sk-any", "ANTHROPIC_MODEL": model, **more}
        binary = claude_binary() or Path()
        return run_claude(binary, self.home, self.folder, task, *arguments, ANTHROPIC_DEFAULT_HAIKU_MODEL=model, **environment)

    @property
    def copy(self) -> str:
        path = self.folder / "copy.txt"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def desk(tmp_path: Path, start_gateway: Any) -> Iterator[Desk]:
    with FakeUpstream() as upstream:
        yield Desk(tmp_path, start_gateway, upstream)


@pytest.mark.parametrize("model", MODELS)
def test_claude_code_reads_edits_runs_and_finishes(desk: Desk, model: str) -> None:
    gateway = desk.gateway()
    session = desk.work(gateway, model)
    assert desk.model.refusals == []
    assert session.is_good, (session.result, session.output)
    assert session.tools == [(name, True) for name in FIRST_TOOLS]
    assert (session.text, desk.copy) == (FIRST_DONE, "beta\n")
    assert [asked for asked, _ in desk.model.asked] == [model] * 4
    calls = gateway.calls()
    assert {(call["endpoint"], call["outcome"]) for call in calls} == {("messages", "ok")}
    assert desk.model.cache.history[-1]["cache_read_input_tokens"] > 0


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("fault", ["overloaded", "cut in text", "cut in a call"])
def test_it_gets_the_work_done_with_faults_in_the_way(desk: Desk, fault: Fault, attempts: int) -> None:
    desk.model.meet({1: fault})
    gateway = desk.gateway(retry={"attempts": attempts, "first_wait_s": 0.01})
    session = desk.work(gateway, "claude-opus-5-5")
    assert desk.model.refusals == []
    assert session.is_good, (session.result, session.output)
    assert desk.model.met == [fault]
    assert session.tools == [(name, True) for name in FIRST_TOOLS]
    assert (session.text, desk.copy) == (FIRST_DONE, "beta\n")


@pytest.mark.parametrize("second", ["claude-opus-5-5", "claude-sonnet-4-6"])
def test_it_goes_on_after_a_restart_of_the_gateway_and_with_another_model(desk: Desk, second: str) -> None:
    gateway = desk.gateway()
    assert desk.work(gateway, "claude-opus-5-5").is_good
    gateway.close()
    session = desk.work(desk.gateway(), second, SECOND, "--continue")
    assert desk.model.refusals == []
    assert session.is_good, (session.result, session.output)
    assert session.tools == [(name, True) for name in SECOND_TOOLS]
    assert (session.text, desk.copy) == (SECOND_DONE, "beta\ngamma\n")
    assert [asked for asked, _ in desk.model.asked][-2:] == [second] * 2


@pytest.fixture(params=["chat", "responses"])
def other(desk: Desk, request: pytest.FixtureRequest) -> Iterator[Other]:
    with FakeUpstream() as upstream:
        yield desk.with_other(request.param, upstream)


@pytest.mark.parametrize("fault", [None, "overloaded", "cut in text", "cut in a call"])
def test_it_works_with_a_model_behind_openais_protocols(desk: Desk, other: Other, fault: Fault | None) -> None:
    other.script.meet({1: fault} if fault else {})
    session = desk.work(desk.gateway(), other.name)
    assert other.script.refusals == []
    assert session.is_good, (session.result, session.output)
    assert other.script.met == ([fault] if fault else [])
    assert session.tools == [(name, True) for name in FIRST_TOOLS]
    assert (session.text, desk.copy) == (FIRST_DONE, "beta\n")
    assert desk.model.asked == []


def test_what_such_a_model_thought_comes_back_to_it_after_a_restart(desk: Desk, other: Other) -> None:
    gateway = desk.gateway()
    assert desk.work(gateway, other.name).is_good
    gateway.close()
    session = desk.work(desk.gateway(), other.name, SECOND, "--continue")
    assert other.script.refusals == []
    assert session.is_good, (session.result, session.output)
    assert (session.text, desk.copy) == (SECOND_DONE, "beta\ngamma\n")
    if isinstance(other.script, ScriptedChat):
        thoughts = [[thought.strip() for thought in step] for step in other.script.asked]
        assert thoughts == [[], *[[THOUGHT]] * 4, [THOUGHT] * 2]
    else:
        assert other.script.forgotten == []
        assert other.script.asked == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_session_goes_from_one_kind_of_upstream_to_the_other(desk: Desk, other: Other, is_first: bool) -> None:
    gateway = desk.gateway()
    models = (other.name, "claude-opus-5-5") if is_first else ("claude-opus-5-5", other.name)
    assert desk.work(gateway, models[0]).is_good
    session = desk.work(gateway, models[1], SECOND, "--continue")
    assert (desk.model.refusals, desk.model.dropped, other.script.refusals) == ([], [], [])
    assert session.is_good, (session.result, session.output)
    assert (session.text, desk.copy) == (SECOND_DONE, "beta\ngamma\n")


@pytest.mark.parametrize("fault", ["overloaded", "cut in text"])
def test_one_upstream_takes_the_others_place(desk: Desk, other: Other, fault: Fault) -> None:
    desk.model.meet(dict.fromkeys(range(1, 9), fault))
    gateway = desk.gateway(
        models={"claude-both": {"route": ["up/claude-opus-5-5", other.place]}}, retry={"attempts": 3, "first_wait_s": 0.01}
    )
    session = desk.work(gateway, "claude-both")
    assert (desk.model.refusals, other.script.refusals) == ([], [])
    assert session.is_good, (session.result, session.output)
    assert session.tools == [(name, True) for name in FIRST_TOOLS]
    assert (session.text, desk.copy) == (FIRST_DONE, "beta\n")
    assert other.script.asked


@pytest.mark.parametrize("has_search", [True, False])
def test_its_web_search_works_with_any_model(desk: Desk, has_search: bool) -> None:
    with FakeUpstream() as upstream, FakeUpstream(default=searx) as endpoint:
        other = desk.with_other("chat", upstream)
        upstream.default = searching_model
        gateway = desk.gateway(search={"url": f"http://127.0.0.1:{endpoint.port}/search"} if has_search else {})
        session = desk.work(gateway, other.name, "How high is a lighthouse?", ENABLE_TOOL_SEARCH="false")
    assert session.is_good, (session.result, session.output)
    assert session.tools == [("WebSearch", True)]
    result = next(block for block in session.blocks if block["type"] == "tool_result")["content"]
    assert (PAGE["url"] if has_search else "Web search is not configured") in result
    assert (SAID in result) is has_search
    assert session.text == (SAID if has_search else "I found nothing.")
    assert len(endpoint.requests) == has_search


def test_it_works_by_what_setup_wrote_alone(desk: Desk) -> None:
    settings = desk.home / ".claude/settings.json"
    settings.parent.mkdir()
    settings.write_text('{\n  "env": {"MINE": "1"}\n}\n')
    gateway = desk.gateway()
    done = CommandLine(desk.home).run("setup", "claude", "--url", gateway.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "It works."
    assert json.loads(settings.read_text())["env"]["MINE"] == "1"
    assert [path.read_text() for path in settings.parent.glob("settings.json.backup-*")] == ['{\n  "env": {"MINE": "1"}\n}\n']
    assert [call["endpoint"] for call in gateway.calls()] == ["messages"] * 2
    session = run_claude(claude_binary() or Path(), desk.home, desk.folder, FIRST)
    assert desk.model.refusals == []
    assert session.is_good, (session.result, session.output)
    assert (session.text, desk.copy) == (FIRST_DONE, "beta\n")
    assert {call["model"] for call in gateway.calls()} == {"claude-4-sonnet"}
    assert CommandLine(desk.home).call("setup", "claude", "--undo").stdout == f"Put back: {settings}\n"
    assert settings.read_text() == '{\n  "env": {"MINE": "1"}\n}\n'
