"""The prompt cache of Anthropic: what the log says when it is lost, and that the planner's marks earn what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import RunningGateway
from tests.fakes.anthropic_agent import AgentApi
from tests.fakes.anthropic_rules import violations
from tests.fakes.anthropic_settings import to_claude
from tests.fakes.upstream import FakeUpstream
from tests.integration.kilo_session import MARK, KiloSession, Reply, read_stream

LONG = "A line of a system prompt that is long enough to be cached.\n" * 200
SHORT = "Be brief."


@pytest.fixture
def claude() -> AgentApi:
    return AgentApi(rounds=3)


@pytest.fixture
def upstream(claude: AgentApi) -> Iterator[FakeUpstream]:
    with FakeUpstream(default=claude) as running:
        yield running


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_claude(upstream))


def step(gateway: RunningGateway, session: KiloSession) -> Reply:
    answer = gateway.chat(headers=session.headers, **session.body())
    assert answer.status_code == 200, answer.text
    reply = read_stream(answer.text)
    session.take(reply)
    return reply


def lost(gateway: RunningGateway) -> list[str | None]:
    """What each call's record says of the cache."""
    return [call.get("cache_lost") for call in gateway.calls()]


def begun(gateway: RunningGateway, steps: int = 6) -> KiloSession:
    session = KiloSession(effort="medium", tasks=9)
    for _ in range(steps):
        step(gateway, session)
    return session


def test_nothing_is_said_while_the_cache_holds(gateway: RunningGateway) -> None:
    begun(gateway, 12)
    assert lost(gateway) == [None] * 12


def test_a_changed_system_prompt_is_named(gateway: RunningGateway) -> None:
    session = begun(gateway)
    session.messages[0]["content"] += "\nToday is another day."
    reply = step(gateway, session)
    assert reply.usage["cache_read_input_tokens"] == 0
    assert lost(gateway) == [None] * 6 + ["system"]
    step(gateway, session)
    assert lost(gateway)[-1] is None


def test_changed_tools_are_named(gateway: RunningGateway) -> None:
    session = begun(gateway)
    session.fields["tools"] = session.fields["tools"][:-1]
    step(gateway, session)
    assert lost(gateway)[-1] == "tools"


def test_a_cache_that_expired_is_told_as_that(gateway: RunningGateway, claude: AgentApi) -> None:
    session = begun(gateway)
    claude.cache.forget()
    step(gateway, session)
    assert lost(gateway)[-1] == "expired"


def change_first_answer(session: KiloSession) -> None:
    said = next(message for message in session.messages if message["role"] == "assistant")
    said["content"] = "What I never said."


def change_first_result(session: KiloSession) -> None:
    result = next(message for message in session.messages if message["role"] == "tool")
    result["content"] = "(cut)"


def change_first_task(session: KiloSession) -> None:
    session.messages[1]["content"][-1]["text"] = "Another task."


@pytest.mark.parametrize(
    ("change", "segment"),
    [
        (change_first_answer, "messages[1]"),
        (change_first_result, "messages[2]"),
        (change_first_task, "messages[0]"),
    ],
    ids=["answer", "result", "task"],
)
def test_an_early_message_that_changed_is_named(gateway: RunningGateway, change: Callable[[KiloSession], None], segment: str) -> None:
    session = begun(gateway)
    before = step(gateway, session).usage["cache_read_input_tokens"]
    change(session)
    reply = step(gateway, session)
    assert reply.usage["cache_read_input_tokens"] < before
    assert lost(gateway)[-1] == segment


@pytest.mark.parametrize(("number", "segment"), [(1, "messages[1]"), (2, "messages[2]"), (3, "messages[3]")])
def test_an_early_message_is_named_where_it_is_all_there_is_to_cache(
    gateway: RunningGateway, upstream: FakeUpstream, number: int, segment: str
) -> None:
    """A head below the model's minimum is never cached by itself."""
    said = [{"role": role, "content": f"{number} {LONG}"} for number, role in enumerate(("user", "assistant") * 3)]
    ask = {"role": "user", "content": "And now?"}
    system = {"role": "system", "content": SHORT}
    gateway.chat(messages=[system, *said, ask])
    gateway.chat(messages=[system, *said, ask, {"role": "assistant", "content": "Now."}, ask])
    said[number] = {**said[number], "content": f"changed {LONG}"}
    gateway.chat(messages=[system, *said, ask, {"role": "assistant", "content": "Now."}, ask, {"role": "assistant", "content": "So."}, ask])
    assert lost(gateway) == [None, None, segment]


def test_a_bound_model_drops_thinking_behind_a_change_and_refuses_nothing(
    start_gateway: Any, upstream: FakeUpstream, claude: AgentApi
) -> None:
    gateway = start_gateway(to_claude(upstream, "claude-opus-5-5"))
    session = begun(gateway)
    assert claude.dropped == []
    change_first_result(session)
    step(gateway, session)
    assert claude.dropped
    assert claude.refusals == []
    request = upstream.requests[-1]
    assert request.json["thinking"]["block_binding"] == {"prefix_mismatch_behavior": "drop_block"}
    assert request.headers["anthropic-beta"] == "thinking-binding-controls-2026-08-01"


def test_a_client_without_marks_gets_them(gateway: RunningGateway) -> None:
    session = KiloSession(effort="medium", tasks=9)
    read = []
    for _ in range(12):
        body = bare(session.body())
        assert "cache_control" not in str(body)
        reply = read_stream(gateway.chat(**body).text)
        session.take(reply)
        read.append(reply.usage["cache_read_input_tokens"])
    assert read[0] == 0
    assert all(after >= before > 0 for before, after in itertools.pairwise(read[1:]))


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_marks_of_every_carrier_and_life_are_never_too_many_nor_in_the_wrong_order(
    gateway: RunningGateway, upstream: FakeUpstream, claude: AgentApi, ttl: str
) -> None:
    session = begun(gateway, 3)
    body = session.body()
    mark = {"cache_control": {"type": "ephemeral", "ttl": ttl}}
    body["tools"] = [{**tool, **mark} for tool in body["tools"]]
    body["messages"] = [{**message, **(mark if message["role"] in {"user", "tool"} else MARK)} for message in body["messages"]]
    assert gateway.chat(**body).status_code == 200
    sent = upstream.requests[-1].json
    assert str(sent).count("cache_control") == 4
    assert violations(sent) == []
    assert claude.refusals == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_writes_that_live_for_an_hour_have_their_own_price(gateway: RunningGateway, claude: AgentApi, stream: bool) -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages = [{"role": "system", "content": LONG, **mark}, {"role": "user", "content": "Hi"}]
    gateway.chat(messages=messages, stream=stream)
    usage = claude.cache.history[-1]
    long = usage["cache_creation"]["ephemeral_1h_input_tokens"]
    assert long > 1000
    call = gateway.calls()[-1]
    short = usage["cache_creation_input_tokens"] - long
    cost = (usage["input_tokens"] * 3 + short * 3.75 + long * 6 + call["completion_tokens"] * 15) / 1e6
    assert call["cost_usd"] == pytest.approx(cost)


def bare(value: Any) -> Any:
    """`value` without cache markers."""
    if isinstance(value, list):
        return [bare(item) for item in value]
    if isinstance(value, dict):
        return {name: bare(item) for name, item in value.items() if name != "cache_control"}
    return value
