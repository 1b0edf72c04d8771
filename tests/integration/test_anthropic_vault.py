"""Kept thinking: a session goes on after a restart, and goes on without what was lost; no other client or model gets it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.storage.redis_link import redis_client
from compat.vault.redis import KEY_PREFIX
from tests.conftest import RunningGateway
from tests.fakes.anthropic_agent import AgentApi
from tests.fakes.anthropic_conversation import THINKING, blocks_of
from tests.fakes.anthropic_settings import ALIAS, to_claude
from tests.fakes.redis_server import RedisServer, needs_redis
from tests.fakes.upstream import FakeUpstream
from tests.integration.kilo_session import KiloSession, Reply, read_stream
from tests.integration.services_folder import until

ENABLED, ADAPTIVE, BOUND = "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-5-5"
every_model = pytest.mark.parametrize("target", [ENABLED, ADAPTIVE, BOUND], ids=["a budget", "adaptive", "bound"])


@pytest.fixture
def claude() -> AgentApi:
    return AgentApi(rounds=1)


@pytest.fixture
def upstream(claude: AgentApi) -> Iterator[FakeUpstream]:
    with FakeUpstream(default=claude) as running:
        yield running


def step(gateway: RunningGateway, session: KiloSession, **headers: str) -> tuple[str, Reply]:
    """One request of the session: the notes and the answer."""
    answer = gateway.chat(**session.body(), headers=headers)
    assert answer.status_code == 200, answer.text
    reply = read_stream(answer.text)
    session.take(reply)
    return answer.headers.get("x-compat-notes", ""), reply


def thinking_in(upstream: FakeUpstream) -> int:
    """How many thinking blocks the last request held."""
    body = upstream.requests[-1].json
    return sum(block["type"] in THINKING for message in body["messages"] for block in blocks_of(message))


def end(gateway: RunningGateway) -> None:
    """End the process of this gateway, as far as the vault can tell."""
    gateway.gateway.vault.close()
    gateway.close()


@pytest.mark.slow
@every_model
def test_a_session_goes_on_after_a_restart(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi, tmp_path: Path, target: str
) -> None:
    settings = to_claude(upstream, target, vault={"path": str(tmp_path / "thinking.sqlite")})
    session = KiloSession(effort="medium", tasks=3)
    first = start_gateway(settings)
    for _ in range(3):
        step(first, session)
    end(first)
    second = start_gateway(settings)
    notes, _ = step(second, session)
    assert "thinking=restored(2)" in notes
    assert thinking_in(upstream) >= 2
    assert (claude.refusals, claude.dropped) == ([], [])
    assert (tmp_path / "thinking.sqlite").stat().st_mode & 0o777 == 0o600
    end(second)


@every_model
def test_a_session_goes_on_when_everything_that_was_kept_is_lost(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi, target: str
) -> None:
    session = KiloSession(effort="medium", tasks=4)
    first = start_gateway(to_claude(upstream, target, vault={"path": ""}))
    for _ in range(3):
        step(first, session)
    second = start_gateway(to_claude(upstream, target, vault={"path": ""}))
    notes, _ = step(second, session)  # with the results of calls whose thinking is lost
    assert thinking_in(upstream) == 0
    if target == ENABLED:
        assert "thinking=off(lost)" in notes
        assert upstream.requests[-1].json.get("thinking", {}).get("type") != "enabled"
    else:
        assert "thinking=omitted" in notes
        assert upstream.requests[-1].json["thinking"]["type"] == "adaptive"
    _, reply = step(second, session)  # a new task: the model thinks again
    assert upstream.requests[-1].json["thinking"]["type"] != "disabled"
    assert reply.reasoning
    notes, _ = step(second, session)
    assert "thinking=restored" in notes
    assert "lost" not in notes
    assert (claude.refusals, claude.dropped) == ([], [])


@every_model
def test_one_lost_entry_among_others_never_costs_a_refusal(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi, target: str
) -> None:
    gateway = start_gateway(to_claude(upstream, target, vault={"path": ""}))
    session = KiloSession(effort="medium", tasks=6)
    scribe = start_gateway(to_claude(upstream, target, vault={"path": ""}))
    while not session.is_over:
        step(scribe if len(session.replies) == 4 else gateway, session)  # one answer goes by a vault that the others can't see
    assert len(session.replies) == 12
    assert (claude.refusals, claude.dropped) == ([], [])
    assert thinking_in(upstream) > 0


@every_model
def test_a_vault_that_is_switched_off_costs_thinking_and_no_call(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi, target: str
) -> None:
    gateway = start_gateway(to_claude(upstream, target, vault={"enabled": False}))
    session = KiloSession(effort="medium", tasks=4)
    while not session.is_over:
        notes, _ = step(gateway, session)
        assert "restored" not in notes
    assert claude.refusals == []
    assert thinking_in(upstream) == 0


def test_what_a_client_was_told_is_not_found_by_another(start_gateway: Any, upstream: FakeUpstream, claude: AgentApi) -> None:
    keys = {name: {"hash": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"} for name in ("ann", "bob")}
    gateway = start_gateway(to_claude(upstream, ADAPTIVE, vault={"path": ""}, keys=keys))
    session = KiloSession(effort="medium", tasks=2)
    step(gateway, session, authorization="Bearer ann")
    notes, _ = step(gateway, session, authorization="Bearer bob")
    assert "restored" not in notes
    assert thinking_in(upstream) == 0
    assert claude.refusals == []


@pytest.mark.parametrize("after", [ADAPTIVE, ENABLED, BOUND, "claude-opus-4-8"])
@pytest.mark.parametrize("before", [ADAPTIVE, ENABLED, BOUND])
def test_thinking_of_another_model_is_not_sent(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi, before: str, after: str
) -> None:
    gateway = start_gateway(to_claude(upstream, before, models={"other": {"route": [f"claude/{after}"]}}, vault={"path": ""}))
    session = KiloSession(effort="medium", tasks=4)
    step(gateway, session)
    session.model = "other"
    step(gateway, session)
    assert (thinking_in(upstream) > 0) == (before == after)
    session.model = ALIAS
    step(gateway, session)
    assert thinking_in(upstream) > 0
    while not session.is_over:
        step(gateway, session)
    assert (claude.refusals, claude.dropped) == ([], [])


def test_the_texts_of_thoughts_are_in_no_log(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_claude(upstream, ADAPTIVE, vault={"path": ""}))
    session = KiloSession(effort="medium", tasks=2)
    while not session.is_over:
        _, reply = step(gateway, session)
        assert "change the least" in reply.reasoning
    assert "change the least" not in str(gateway.log_lines())
    assert gateway.gateway.vault.entries > 0


@pytest.mark.slow
@needs_redis
@pytest.mark.heavy
def test_a_session_goes_back_and_forth_between_two_gateways_with_one_redis(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi
) -> None:
    """Each request is answered by the other gateway; what one of them kept, the other puts back."""
    with RedisServer() as redis:
        settings = to_claude(upstream, ADAPTIVE, storage={"redis_url": redis.url})
        pair = [start_gateway(settings) for _ in range(2)]
        for gateway in pair:
            gateway.gateway.vault.start()
        session = KiloSession(effort="medium", tasks=3)
        client = redis_client(redis.url)
        notes, expected = "", 0
        for number in range(6):
            notes, reply = step(pair[number % 2], session)
            expected += len(reply.calls)
            until(lambda expected=expected: len(client.keys(f"{KEY_PREFIX}*")) >= expected, "it is kept")
        client.close()
        assert "thinking=restored(" in notes
        assert thinking_in(upstream) >= 2
        assert (claude.refusals, claude.dropped) == ([], [])
        for gateway in pair:
            gateway.gateway.vault.close()
