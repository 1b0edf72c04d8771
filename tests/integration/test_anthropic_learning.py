"""Learning from refusals (docs/translation.md, rule 11): what an upstream refuses is left out from then on, if the call can do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers as answers
from tests.fakes.anthropic_agent import AgentApi
from tests.fakes.anthropic_conversation import THINKING, blocks_of
from tests.fakes.anthropic_settings import to_claude
from tests.fakes.upstream import Answer, FakeUpstream, Request
from tests.integration.kilo_session import KiloSession, read_stream

SIGNATURE = "messages.1.content.0: Invalid `signature` in `thinking` block"
OPENING = (
    "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final"
    " `assistant` message must start with a thinking block."
)


class Moody(AgentApi):
    """Refuses requests that a test doesn't want, before its own rules are asked."""

    def __init__(self, words: str, is_refused: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(rounds=1)
        self._words = words
        self._is_refused = is_refused

    def __call__(self, request: Request) -> Answer:
        if self._is_refused(request.json):
            return answers.error_answer(400, self._words)
        return super().__call__(request)


def has_thinking(body: dict[str, Any]) -> bool:
    return any(block["type"] in THINKING for message in body["messages"] for block in blocks_of(message))


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as running:
        yield running


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.mark.slow
@both
@pytest.mark.parametrize(
    ("asked", "name", "words"),
    [
        ({"temperature": 0.2}, "temperature", "`temperature` is deprecated for this model."),
        ({"top_p": 0.5}, "top_p", "top_p: Extra inputs are not permitted"),
        ({"service_tier": "default"}, "service_tier", "service_tier: Input should be 'auto'; 'standard_only' is not supported"),
        ({"user": "ann"}, "metadata", "metadata.user_id: Extra inputs are not permitted"),
        ({"reasoning_effort": "low"}, "output_config", "output_config: Extra inputs are not permitted"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_refused_parameter_is_left_out_and_remembered(
    start_gateway: Any, upstream: FakeUpstream, asked: dict[str, Any], name: str, words: str, stream: bool
) -> None:
    upstream.default = Moody(words, lambda body: name in body)
    gateway = start_gateway(to_claude(upstream))
    first = gateway.chat(stream=stream, **asked)
    assert first.status_code == 200, first.text
    assert f"learnt={name}" in first.headers["x-compat-notes"]
    assert first.headers["x-compat-attempts"] == "1"
    assert [name in request.json for request in upstream.requests] == [True, False]
    assert f"learnt={name}" in gateway.calls()[0]["notes"]
    second = gateway.chat(stream=stream, **asked)
    assert second.status_code == 200
    assert "learnt" not in second.headers.get("x-compat-notes", "")
    assert [name in request.json for request in upstream.requests] == [True, False, False]
    learnt = [line for line in gateway.log_lines() if line["event"] == "parameter.refused"]
    assert [(line["deployment"], line["parameter"]) for line in learnt] == [("claude/claude-sonnet-4-6", name)]


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "read_file", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"temperature": 0.2}, "temperature"),
        ({"service_tier": "default"}, "service_tier"),
        ({"reasoning_effort": "low"}, "thinking"),
        ({"reasoning_effort": "low"}, "output_config"),
        ({"user": "ann"}, "metadata"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_left_out_for_an_earlier_refusal_is_noted_in_every_call(
    start_gateway: Any, upstream: FakeUpstream, asked: dict[str, Any], name: str
) -> None:
    upstream.default = Moody(f"{name}: Extra inputs are not permitted", lambda body: name in body)
    gateway = start_gateway(to_claude(upstream))
    gateway.chat(**asked)
    later = gateway.chat(**asked)
    assert later.status_code == 200
    assert next(iter(asked.keys() & {"reasoning_effort"}), name) in later.headers.get("x-compat-notes", "")


@pytest.mark.slow
@both
def test_a_refusal_that_does_not_help_is_told_after_one_retry(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    upstream.default = Moody("`temperature` is deprecated for this model.", lambda body: True)
    gateway = start_gateway(to_claude(upstream))
    got = gateway.chat(temperature=0.2, stream=stream)
    assert got.status_code == 400
    assert "`temperature` is deprecated for this model." in got.json()["error"]["message"]
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "words",
    ["messages.0.content: Field required", "max_tokens: 0 is too small", "Your credit balance is too low", "model: not-a-model is unknown"],
)
def test_a_refusal_that_names_nothing_optional_is_told_at_once(start_gateway: Any, upstream: FakeUpstream, words: str) -> None:
    upstream.default = answers.error_answer(400, words)
    gateway = start_gateway(to_claude(upstream))
    got = gateway.chat(temperature=0.2)
    assert (got.status_code, len(upstream.requests)) == (400, 1)
    assert words in got.json()["error"]["message"]


def test_one_deployments_refusal_is_not_held_against_another(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.default = Moody("`temperature` is deprecated for this model.", lambda body: "temperature" in body and "6" in body["model"])
    gateway = start_gateway(to_claude(upstream))
    gateway.chat(temperature=0.2)
    gateway.chat(temperature=0.2, model="claude-sonnet-4-5")
    assert upstream.requests[-1].json["temperature"] == 0.2


@pytest.mark.parametrize(
    ("target", "words"),
    [("claude-sonnet-4-5", SIGNATURE), ("claude-sonnet-4-6", SIGNATURE), ("claude-opus-5-5", SIGNATURE), ("claude-sonnet-4-5", OPENING)],
    ids=["a budget", "adaptive", "bound", "a budget whose turn does not open with thinking"],
)
def test_refused_thinking_is_left_out_of_this_call_only(start_gateway: Any, upstream: FakeUpstream, target: str, words: str) -> None:
    moody = Moody(words, lambda body: is_strict and has_thinking(body))
    is_strict = True
    upstream.default = moody
    gateway = start_gateway(to_claude(upstream, target))
    session = KiloSession(effort="medium", tasks=2)
    notes = [step(gateway, session) for _ in range(2)]
    assert "learnt=messages.thinking" in notes[1]
    assert [has_thinking(request.json) for request in upstream.requests] == [False, True, False]
    retried = upstream.requests[-1].json.get("thinking", {}).get("type")
    assert retried == (None if target == "claude-sonnet-4-5" else "adaptive")
    assert "learnt=messages.thinking" in step(gateway, session)  # not remembered: sent, refused and left out again
    assert [has_thinking(request.json) for request in upstream.requests][3:] == [True, False]
    is_strict = False
    notes.append(step(gateway, session))
    assert "thinking=restored" in notes[-1]
    assert moody.refusals == []
    assert not [line for line in gateway.log_lines() if line["event"] == "parameter.refused"]


def step(gateway: RunningGateway, session: KiloSession) -> str:
    """One request of the session: its notes."""
    answer = gateway.chat(**session.body())
    assert answer.status_code == 200, answer.text
    session.take(read_stream(answer.text))
    return answer.headers.get("x-compat-notes", "")


def test_facts_that_are_wrong_in_the_catalog_heal_by_themselves(start_gateway: Any, upstream: FakeUpstream) -> None:
    """A model that is newer than the data: told to be an old one, it is one of the newest."""
    claude = AgentApi(rounds=2)
    upstream.default = claude
    facts = {"messages": {"sampling": "all", "thinking_default": "off", "forced_tools": "always"}}
    gateway = start_gateway(to_claude(upstream, "claude-opus-5-5", models={"claude-opus-5-5": {"facts": facts}}))
    asked = {"temperature": 0.3, "top_k": 5, "tools": [TOOL], "tool_choice": "required"}
    got = gateway.chat(**asked)
    assert got.status_code == 200, got.text
    assert [note for note in got.headers["x-compat-notes"].split("; ") if note.startswith("learnt=")] == [
        "learnt=tool_choice.forced",
        "learnt=temperature",
        "learnt=top_k",
    ]
    assert len(claude.refusals) >= 3
    claude.refusals.clear()
    assert gateway.chat(**asked).status_code == 200
    assert claude.refusals == []


@pytest.mark.parametrize(
    ("target", "facts", "learnt", "kind"),
    [
        ("claude-sonnet-4-5", {"thinking": "adaptive"}, ["thinking.adaptive", "output_config.effort"], "enabled"),
        ("claude-opus-4-8", {"thinking": "enabled"}, ["thinking.enabled"], "adaptive"),
    ],
)
def test_a_type_of_thinking_that_is_wrong_in_the_catalog_becomes_the_other_one(
    start_gateway: Any, upstream: FakeUpstream, target: str, facts: dict[str, Any], learnt: list[str], kind: str
) -> None:
    claude = AgentApi(rounds=2)
    upstream.default = claude
    gateway = start_gateway(to_claude(upstream, target, models={target: {"facts": {"messages": facts}}}))
    got = gateway.chat(reasoning_effort="high", max_tokens=30_000)
    assert got.status_code == 200, got.text
    notes = got.headers["x-compat-notes"].split("; ")
    assert {f"learnt={name}" for name in learnt} >= {note for note in notes if note.startswith("learnt=")} >= {f"learnt={learnt[0]}"}
    assert upstream.requests[-1].json["thinking"]["type"] == kind
    claude.refusals.clear()
    assert gateway.chat(reasoning_effort="high", max_tokens=30_000).status_code == 200
    assert (claude.refusals, upstream.requests[-1].json["thinking"]["type"]) == ([], kind)


def test_a_level_of_effort_that_is_refused_is_not_asked_for_again(start_gateway: Any, upstream: FakeUpstream) -> None:
    claude = AgentApi(rounds=2)
    upstream.default = claude
    facts = {"messages": {"efforts": ["low", "medium", "high", "xhigh", "max"]}}
    gateway = start_gateway(to_claude(upstream, "claude-sonnet-4-6", models={"claude-sonnet-4-6": {"facts": facts}}))
    notes = [gateway.chat(reasoning_effort="xhigh").headers["x-compat-notes"] for _ in range(2)]
    assert ["learnt=output_config.effort.xhigh" in text for text in notes] == [True, False]
    assert [request.json["output_config"]["effort"] for request in upstream.requests] == ["xhigh", "max", "max"]
    assert gateway.chat(reasoning_effort="high").status_code == 200
    assert upstream.requests[-1].json["output_config"]["effort"] == "high"


def test_a_choice_of_tools_that_thinking_forbids_is_free_in_that_call_only(start_gateway: Any, upstream: FakeUpstream) -> None:
    words = "Thinking may not be enabled when tool_choice forces tool use."
    upstream.default = Moody(words, lambda body: "thinking" in body and body.get("tool_choice", {}).get("type") == "any")
    gateway = start_gateway(to_claude(upstream))
    asked = {"tools": [TOOL], "tool_choice": "required"}
    thinking = gateway.chat(reasoning_effort="low", **asked)
    assert thinking.status_code == 200
    assert "tool_choice=auto" in thinking.headers["x-compat-notes"]
    gateway.chat(**asked)
    assert [request.json["tool_choice"]["type"] for request in upstream.requests] == ["any", "auto", "any"]
