"""One alias in front of upstreams of several kinds: a session's history moves between them, and each gets what it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers, openai_answers
from tests.fakes.anthropic_agent import AgentApi
from tests.fakes.anthropic_conversation import THINKING, blocks_of
from tests.fakes.anthropic_settings import ALIAS, origin_of
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request
from tests.integration.kilo_session import TOOLS, Call, KiloSession, Reply, read_stream

TARGETS = {
    "claude": "claude-sonnet-4-6",
    "second": "claude-opus-4-6",
    "router": "anthropic/claude-sonnet-4.6",
    "plain": "gpt-4o",
    "deep": "deepseek-chat",
}
KINDS = {"claude": "anthropic", "second": "anthropic", "router": "openrouter", "plain": "openai", "deep": "deepseek"}
OVERLOADED = {True: anthropic_answers.error_answer(529, "Overloaded"), False: openai_answers.error_answer(529, "Overloaded")}
ODD_IDS = ("functions.read:0", "call|1/ä", "chatcmpl-tool-" + "9" * 70)


class OpenAiAgent:
    """Thinks without signatures and calls tools under ids that Anthropic would refuse. Mutable: `turn`."""

    def __init__(self) -> None:
        self.turn = 0

    def __call__(self, request: Request) -> Answer:
        body = request.json
        self.turn += 1
        call = {"id": ODD_IDS[self.turn % 3], "type": "function", "function": {"name": TOOLS[self.turn]["function"]["name"]}}
        arguments = json.dumps({"filePath": f"{self.turn}.md"})
        assert body["stream"]
        chunk = openai_answers.chunk
        return openai_answers.stream_answer(
            [
                chunk({"role": "assistant", "content": None, "reasoning_content": "I think in another way."}),
                chunk({"tool_calls": [{"index": 0, **call, "function": {**call["function"], "arguments": ""}}]}),
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}),
                chunk({}, "tool_calls"),
                openai_answers.usage_chunk(),
            ]
        )


class Site:
    """The upstreams and the gateway. `only(name)` lets one upstream answer; the others are overloaded."""

    def __init__(self, upstreams: dict[str, FakeUpstream], gateway: RunningGateway, claude: AgentApi) -> None:
        self.upstreams = upstreams
        self.gateway = gateway
        self.claude = claude
        self._agents = {name: upstream.default for name, upstream in upstreams.items()}

    def only(self, name: str) -> None:
        for other, upstream in self.upstreams.items():
            upstream.default = self._agents[other] if other == name else OVERLOADED[KINDS[other] == "anthropic"]

    def step(self, session: KiloSession) -> tuple[dict[str, str], Reply]:
        """One request of the session: the answer's headers and the answer."""
        answer = self.gateway.chat(**session.body())
        assert answer.status_code == 200, answer.text
        reply = read_stream(answer.text)
        session.take(reply)
        return dict(answer.headers), reply

    def last(self, name: str) -> dict[str, Any]:
        """The last request that an upstream got."""
        return dict(self.upstreams[name].requests[-1].json)


@pytest.fixture
def claude() -> AgentApi:
    return AgentApi(rounds=9)


@pytest.fixture
def start_site(start_gateway: Any, claude: AgentApi) -> Iterator[Any]:
    """Starts a gateway whose alias leads to the named upstreams, in their order, with as many attempts."""
    with ExitStack() as stack:

        def start(*names: str, **other_targets: str) -> Site:
            agents = {name: claude if KINDS[name] == "anthropic" else OpenAiAgent() for name in names}
            upstreams = {name: stack.enter_context(FakeUpstream(default=agent)) for name, agent in agents.items()}
            rows = {
                name: {"kind": KINDS[name], "base_url": origin_of(it) if KINDS[name] == "anthropic" else it.url, "api_keys": ["sk-x"]}
                for name, it in upstreams.items()
            }
            route = [f"{name}/{(TARGETS | other_targets)[name]}" for name in names]
            settings = {
                "upstreams": rows,
                "models": {ALIAS: {"route": route}},
                "retry": {"attempts": len(names), "tries_per_deployment": 1},
                "circuit": {"failures": 1000, "unreachable": 1000, "min_calls": 1000},
                "affinity": {"enabled": False},
            }
            return Site(upstreams, start_gateway(settings), claude)

        yield start


def thinking_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [block for message in body["messages"] for block in blocks_of(message) if block["type"] in THINKING]


def names_in(value: Any) -> set[str]:
    """All keys of objects in `value`."""
    if isinstance(value, list):
        return set().union(*map(names_in, value))
    if isinstance(value, dict):
        return {*value, *names_in(list(value.values()))}
    return set()


def test_a_call_fails_over_from_anthropic_to_openrouter_to_openai(start_site: Any) -> None:
    site = start_site("claude", "router", "plain")
    for attempts, name in enumerate(("claude", "router", "plain"), 1):
        site.only(name)
        headers, _ = site.step(KiloSession())
        assert headers["x-compat-attempts"] == str(attempts)
        assert headers["x-compat-upstream"] == f"{name}/{TARGETS[name]}"
        assert site.last(name)["model"] == TARGETS[name]
        call = site.gateway.calls()[-1]
        assert (call["deployment"], call["attempts"]) == (f"{name}/{TARGETS[name]}", attempts)
    failed = [line["deployment"] for line in site.gateway.log_lines() if line["event"] == "attempt.failed"]
    assert failed == [f"{name}/{TARGETS[name]}" for name in ("claude", "claude", "router")]


def test_markers_and_reasoning_go_where_they_are_taken(start_site: Any) -> None:
    site = start_site("claude", "router", "plain", "deep")
    session = KiloSession(effort="medium")
    site.only("claude")
    _, reply = site.step(session)
    assert reply.reasoning
    for name in ("router", "plain", "deep"):
        site.only(name)
        site.step(session)
    router, plain, deep = (site.last(name) for name in ("router", "plain", "deep"))
    assert "cache_control" in names_in(router)
    assert {"cache_control", "reasoning_content"} <= names_in(plain), "another server of OpenAI's protocol may need them"
    assert [message.get("reasoning_content") for message in deep["messages"] if message["role"] == "assistant"] == [
        reply.reasoning,
        "I think in another way.",
        "I think in another way.",
    ]
    for body in (router, plain, deep):
        assert not {"signature", "thinking"} & names_in(body["messages"])


def test_the_whole_history_comes_back_to_anthropic(start_site: Any, claude: AgentApi) -> None:
    site = start_site("claude", "router", "plain", "deep")
    session = KiloSession(effort="medium")
    for name in ("claude", "router", "plain", "deep", "claude", "router", "claude"):
        site.only(name)
        headers, _ = site.step(session)
    body = site.last("claude")
    blocks = [block for message in body["messages"] for block in blocks_of(message)]
    calls = [block for block in blocks if block["type"] == "tool_use"]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", block["id"]) for block in calls)
    assert len({block["id"] for block in calls}) == len(calls) == 6
    assert [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"] == [block["id"] for block in calls]
    assert "thinking=restored(2)" in headers["x-compat-notes"]
    assert "thinking=omitted(4)" in headers["x-compat-notes"]
    assert {block["thinking"] for block in thinking_of(body) if block["type"] == "thinking"}.isdisjoint({"I think in another way."})
    assert claude.refusals == []


@pytest.mark.parametrize("client", ["kilo", "another"])
def test_odd_ids_of_calls_are_rewritten_for_anthropic_and_the_client_keeps_its_own(start_site: Any, claude: AgentApi, client: str) -> None:
    """Kilo scrubs ids when it sends them back; other clients send them as they were."""
    site = start_site("claude", "router")
    session = KiloSession()
    site.only("router")
    for _ in range(3):
        _, reply = site.step(session)
        if client == "another":
            _unscrub(session, reply.calls[0])
    ids = [message["tool_call_id"] for message in session.messages if message["role"] == "tool"]
    assert (set(ids) == set(ODD_IDS)) == (client == "another")
    site.only("claude")
    site.step(session)
    assert claude.refusals == []


def _unscrub(session: KiloSession, call: Call) -> None:
    said, result = session.messages[-2:]
    said["tool_calls"][0]["id"] = result["tool_call_id"] = call.id


def test_thinking_of_one_claude_is_not_sent_to_another(start_site: Any, claude: AgentApi) -> None:
    site = start_site("claude", "second")
    session = KiloSession(effort="medium")
    expected = {"claude": 0, "second": 0}
    for name in ("claude", "claude", "second", "second", "claude", "second"):
        site.only(name)
        headers, _ = site.step(session)
        count = re.search(r"thinking=restored(?:\((\d+)\))?", headers.get("x-compat-notes", ""))
        assert (int(count[1] or 1) if count else 0) == expected[name], name
        expected[name] += 1
    assert (claude.refusals, claude.dropped) == ([], [])


def test_a_session_that_an_openai_model_began_goes_on_at_claude_with_a_budget(start_site: Any, claude: AgentApi) -> None:
    site = start_site("claude", "plain", claude="claude-sonnet-4-5")
    session = KiloSession(effort="medium")
    site.only("plain")
    site.step(session)
    site.only("claude")
    headers, _ = site.step(session)
    assert "thinking=off(lost)" in headers["x-compat-notes"]
    assert claude.refusals == []


def test_a_stream_that_fails_before_content_moves_on(start_site: Any) -> None:
    site = start_site("claude", "plain")
    begun = anthropic_answers.stream_events([anthropic_answers.text()])[:3]
    site.upstreams["claude"].default = anthropic_answers.stream_answer([*begun, anthropic_answers.error_event()])
    headers, reply = site.step(KiloSession())
    assert headers["x-compat-upstream"] == f"plain/{TARGETS['plain']}"
    assert reply.calls


def test_a_refusal_is_not_tried_elsewhere(start_site: Any) -> None:
    site = start_site("claude", "plain")
    site.upstreams["claude"].default = anthropic_answers.error_answer(400, "messages.0.content: Field required")
    got = site.gateway.chat(**KiloSession().body())
    assert got.status_code == 400
    assert site.upstreams["plain"].requests == []
    assert got.headers["x-compat-attempts"] == "1"


@pytest.mark.parametrize("target", ["claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-5-5"])
@pytest.mark.parametrize("effort", [None, "medium"])
def test_an_answer_whose_upstream_dies_after_text_is_carried_on_by_claude(
    start_site: Any, claude: AgentApi, target: str, effort: str | None
) -> None:
    site = start_site("router", "claude", claude=target)
    session = KiloSession(effort=effort)
    claude.rounds = 0
    text = openai_answers.chunk({"role": "assistant", "content": "I begin with the first file. "})
    site.upstreams["router"].default = openai_answers.sse_answer(openai_answers.event(text), Cut())
    headers, reply = site.step(session)
    assert reply.text == "I begin with the first file. Task done after 0 rounds."
    assert claude.refusals == []
    assert headers["x-compat-upstream"].startswith("router/")
    assert site.gateway.calls()[-1]["deployment"] == f"claude/{target}"
