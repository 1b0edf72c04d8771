"""An agent's session of forty requests in front of a strict imitation of Anthropic's service, in Kilo Code's shape.

The client sends no signatures back: that thinking goes on, that the prompt cache holds and that nothing is refused is the gateway's work.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningGateway
from tests.fakes.anthropic_agent import AgentApi
from tests.fakes.anthropic_conversation import blocks_of
from tests.fakes.anthropic_settings import to_claude
from tests.fakes.upstream import FakeUpstream
from tests.integration.kilo_session import KiloSession, Reply, read_stream

MODELS = [
    pytest.param("claude-sonnet-4-5", "medium", 1, id="a budget, one round a task"),
    pytest.param("claude-sonnet-4-5", "medium", 4, id="a budget"),
    pytest.param("claude-sonnet-4-6", "medium", 4, id="adaptive"),
    pytest.param("claude-opus-5-5", None, 4, id="bound"),
]
TURNS = 40
RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "kilo"
MIN_SHARE = 0.8


@pytest.fixture
def claude() -> AgentApi:
    return AgentApi()


@pytest.fixture
def upstream(claude: AgentApi) -> Iterator[FakeUpstream]:
    with FakeUpstream(default=claude) as running:
        yield running


def step(gateway: RunningGateway, session: KiloSession) -> tuple[str, Reply]:
    """One request of the session: the notes and the answer."""
    answer = gateway.http.post(f"{gateway.url}/chat/completions", json=session.body(), headers=session.headers, timeout=30)
    assert answer.status_code == 200, answer.text
    reply = read_stream(answer.text)
    session.take(reply)
    return answer.headers.get("x-compat-notes", ""), reply


def restored(notes: str) -> int:
    """How many turns got their thinking back."""
    match = re.search(r"thinking=restored(?:\((\d+)\))?", notes)
    return int(match[1] or 1) if match else 0


def play(gateway: RunningGateway, session: KiloSession, claude: AgentApi) -> None:
    """The whole session; what must hold in every turn is checked in every turn."""
    while not session.is_over:
        expected = claude.thoughtful_calls
        notes, reply = step(gateway, session)
        number = len(session.replies)
        assert claude.refusals == []
        assert claude.dropped == []
        assert restored(notes) == expected, (number, notes)
        assert "lost" not in notes
        assert (reply.usage["prompt_tokens_details"]["cached_tokens"] > 0) == (number > 1)
        assert reply.finish_reason == ("tool_calls" if reply.calls else "stop")


def share_of(replies: list[Reply]) -> float:
    """The share of the prompts' tokens that were read from the cache."""
    read = sum(reply.usage["prompt_tokens_details"]["cached_tokens"] for reply in replies)
    return float(read / sum(reply.usage["prompt_tokens"] for reply in replies))


def session_of(claude: AgentApi, effort: str | None, rounds: int, opening: dict[str, Any] | None = None) -> KiloSession:
    """A session of `TURNS` requests: so many tasks of so many rounds with tools, each ended in words."""
    claude.rounds = rounds
    return KiloSession(effort=effort, tasks=TURNS // (rounds + 1), opening=opening)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "effort", "rounds"), MODELS)
def test_forty_turns_with_tools_and_thinking(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi, target: str, effort: str | None, rounds: int
) -> None:
    gateway = start_gateway(to_claude(upstream, target))
    session = session_of(claude, effort, rounds)
    play(gateway, session, claude)
    share = share_of(session.replies)
    print(f"{target}, {rounds} rounds a task: {share:.1%} of the prompt tokens of {len(session.replies)} turns came from the cache")
    assert len(session.replies) == len(upstream.requests) == TURNS
    assert share > MIN_SHARE
    assert_is_rich(session, upstream.requests[-1].json)


def assert_is_rich(session: KiloSession, last: dict[str, Any]) -> None:
    """The session held what it was written for, as its last request shows."""
    blocks = [block for message in last["messages"] for block in blocks_of(message)]
    results = [block for block in blocks if block["type"] == "tool_result"]
    assert {"text", "image", "thinking", "redacted_thinking", "tool_use"} <= {block["type"] for block in blocks}
    assert any(isinstance(result["content"], list) and result["content"][-1]["type"] == "image" for result in results)
    assert len(last["tools"]) == 24
    assert any(len(reply.calls) == 2 for reply in session.replies)
    assert any(reply.text and reply.calls for reply in session.replies)
    assert any(reply.reasoning for reply in session.replies)


def test_reasoning_tokens_are_told_in_a_stream(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_claude(upstream))
    _, reply = step(gateway, KiloSession(effort="medium"))
    assert reply.usage["completion_tokens_details"]["reasoning_tokens"] > 0


def test_the_log_tells_what_the_cache_did(start_gateway: Any, upstream: FakeUpstream, claude: AgentApi) -> None:
    gateway = start_gateway(to_claude(upstream))
    session = KiloSession(effort="medium", tasks=2)
    play(gateway, session, claude)
    calls = gateway.calls()
    assert [call["cache_read_tokens"] for call in calls] == [usage["cache_read_input_tokens"] for usage in claude.cache.history]
    assert [call["cache_write_tokens"] for call in calls] == [usage["cache_creation_input_tokens"] for usage in claude.cache.history]
    assert not any("cache_lost" in call for call in calls)
    assert all(call["cost_usd"] > 0 for call in calls)
    for call, reply in zip(calls, session.replies, strict=True):
        assert call["prompt_tokens"] == reply.usage["prompt_tokens"]
        assert call["cost_usd"] == pytest.approx(reply.usage["cost_details"]["upstream_inference_cost"])


def test_a_longer_history_begins_with_the_same_bytes(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_claude(upstream))
    session = KiloSession(effort="medium", tasks=3)
    while not session.is_over:
        step(gateway, session)
    bodies = [bare(request.json) for request in upstream.requests]
    for before, after in itertools.pairwise(bodies):
        assert json.dumps(before["tools"]) == json.dumps(after["tools"])
        assert json.dumps(before["system"]) == json.dumps(after["system"])
        turns = [json.dumps(message) for message in before["messages"]]
        assert [json.dumps(message) for message in after["messages"]][: len(turns)] == turns


def bare(value: Any) -> Any:
    """`value` without cache markers."""
    if isinstance(value, list):
        return [bare(item) for item in value]
    if isinstance(value, dict):
        return {name: bare(item) for name, item in value.items() if name != "cache_control"}
    return value


def recorded(name: str) -> dict[str, Any]:
    path = RECORDED / f"{name}.json"
    if not path.is_file():
        pytest.skip("no recorded requests here")
    return dict(json.loads(path.read_text())["body"])


@pytest.mark.parametrize("target", ["claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-5-5"])
@pytest.mark.parametrize("name", ["first_turn", "after_tool", "title", "compaction"])
def test_a_recorded_request_is_refused_by_nobody(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi, target: str, name: str
) -> None:
    body = recorded(name)
    gateway = start_gateway(to_claude(upstream, target))
    reply = read_stream(gateway.chat(**body).text)
    assert claude.refusals == []
    assert reply.text or reply.calls


@pytest.mark.slow
@pytest.mark.parametrize(("target", "effort", "rounds"), MODELS)
def test_forty_turns_that_begin_with_a_recorded_request(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi, target: str, effort: str | None, rounds: int
) -> None:
    opening = recorded("first_turn")
    gateway = start_gateway(to_claude(upstream, target))
    session = session_of(claude, effort, rounds, opening)
    play(gateway, session, claude)
    share = share_of(session.replies)
    print(f"{target}, {rounds} rounds a task, recorded opening: {share:.1%} of the prompt tokens came from the cache")
    assert len(session.replies) == TURNS
    assert share > MIN_SHARE
