"""An agent's sessions in front of a strict imitation of OpenAI's service, in Kilo Code's shape, on the API that the model needs.

The client speaks chat and sends no reasoning back: that reasoning goes on, that the prompt cache holds and that nothing is refused is the
gateway's work.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers, openai_answers
from tests.fakes import responses_answers as answers
from tests.fakes import responses_items as items
from tests.fakes.responses_agent import AgentApi
from tests.fakes.responses_answers import ResponsesApi
from tests.fakes.responses_settings import ALIAS, to_openai
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Request, Stall
from tests.integration.kilo_session import KiloSession, Reply, read_stream
from tests.unit.upstream.proxy import wait_until

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "read_file", "parameters": {"type": "object", "properties": {}}}}
TOOLS = [TOOL]
HELLO: Any = [{"role": "user", "content": "Say hello."}]
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def agent() -> AgentApi:
    return AgentApi()


@pytest.fixture
def upstream(agent: AgentApi) -> Iterator[FakeUpstream]:
    with FakeUpstream(default=agent) as running:
        yield running


def step(gateway: RunningGateway, session: KiloSession, **headers: str) -> tuple[str, Reply]:
    """One request of the session: the notes and the answer."""
    answer = gateway.chat(**session.body(), headers={**session.headers, **headers})
    assert answer.status_code == 200, answer.text
    reply = read_stream(answer.text)
    session.take(reply)
    return answer.headers.get("x-compat-notes", ""), reply


def session_of(**rest: Any) -> KiloSession:
    return KiloSession(model=ALIAS, **rest)


def paths(upstream: FakeUpstream) -> list[str]:
    return [request.path for request in upstream.requests]


# Sessions.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "effort", "rounds"),
    [("gpt-6.1-sol", None, 4), ("gpt-6.1-sol", "high", 1), ("gpt-6-astra", "low", 4), ("gpt-5.6-luna", None, 4)],
)
def test_forty_turns_with_tools_and_reasoning(
    start_gateway: Any, upstream: FakeUpstream, agent: AgentApi, target: str, effort: str | None, rounds: int
) -> None:
    gateway = start_gateway(to_openai(upstream, target))
    agent.rounds = rounds
    session = session_of(effort=effort, tasks=40 // (rounds + 1))
    restored = 0
    while not session.is_over:
        notes, _ = step(gateway, session)
        restored += "thinking=restored" in notes
        assert "learnt" not in notes
    assert len(session.replies) == len(upstream.requests) == 40
    assert set(paths(upstream)) == {"/v1/responses"}
    assert (agent.refusals, agent.chat_refusals, agent.forgotten, agent.rewritten) == ([], [], [], [])
    assert restored == 39
    cached = sum(reply.usage["prompt_tokens_details"]["cached_tokens"] for reply in session.replies)
    share = cached / sum(reply.usage["prompt_tokens"] for reply in session.replies)
    print(f"{target}, {rounds} rounds a task: {share:.1%} of the prompt tokens of 40 turns came from the cache")
    assert share > 0.8
    assert any(len(reply.calls) == 2 for reply in session.replies)
    assert any(reply.text and reply.calls for reply in session.replies)
    assert all(reply.reasoning for reply in session.replies)


def test_the_log_tells_tokens_and_cost_by_size(start_gateway: Any, upstream: FakeUpstream, agent: AgentApi) -> None:
    gateway = start_gateway(to_openai(upstream))
    session = session_of(tasks=1)
    while not session.is_over:
        step(gateway, session)
    calls = gateway.calls()
    assert [call["cache_read_tokens"] for call in calls] == [counts["cached_tokens"] for counts in agent.cache.history]
    assert [call["cache_write_tokens"] for call in calls] == [counts["cache_write_tokens"] for counts in agent.cache.history]
    assert not any("cache_lost" in call for call in calls)
    for call, reply in zip(calls, session.replies, strict=True):
        assert call["prompt_tokens"] == reply.usage["prompt_tokens"]
        assert call["cost_usd"] == pytest.approx(reply.usage["cost_details"]["upstream_inference_cost"])
        read, written = call["cache_read_tokens"], call["cache_write_tokens"]
        price = (call["prompt_tokens"] - read - written) * 2 + read * 0.1 + written * 2.5 + call["completion_tokens"] * 10
        assert call["cost_usd"] == pytest.approx(price / 1e6)


@pytest.mark.parametrize(("tokens", "factors"), [(272_000, (1, 1)), (272_001, (2, 1.5))])
def test_a_long_prompt_costs_more(start_gateway: Any, upstream: FakeUpstream, tokens: int, factors: tuple[float, float]) -> None:
    usage = {"input_tokens": tokens, "output_tokens": 100, "total_tokens": tokens + 100}
    upstream.script(answers.json_answer(answers.response([items.message()], usage=usage)))
    gateway = start_gateway(to_openai(upstream))
    gateway.chat(model=ALIAS)
    assert gateway.calls()[-1]["cost_usd"] == pytest.approx((tokens * 2 * factors[0] + 100 * 10 * factors[1]) / 1e6)


def test_a_longer_history_begins_with_the_same_items(start_gateway: Any, upstream: FakeUpstream) -> None:
    gateway = start_gateway(to_openai(upstream))
    session = session_of(tasks=2)
    while not session.is_over:
        step(gateway, session)
    bodies = [bare(request.json) for request in upstream.requests]
    for before, after in itertools.pairwise(bodies):
        assert json.dumps(before["tools"]) == json.dumps(after["tools"])
        assert before["prompt_cache_key"] == after["prompt_cache_key"]
        begun = [json.dumps(item) for item in before["input"]]
        assert [json.dumps(item) for item in after["input"]][: len(begun)] == begun


def bare(value: Any) -> Any:
    """`value` without breakpoints."""
    if isinstance(value, list):
        return [bare(item) for item in value]
    return {key: bare(item) for key, item in value.items() if key != "prompt_cache_breakpoint"} if isinstance(value, dict) else value


# Reasoning that is kept.


@pytest.mark.slow
def test_reasoning_survives_a_restart(start_gateway: Any, upstream: FakeUpstream, agent: AgentApi, tmp_path: Path) -> None:
    settings = to_openai(upstream, vault={"path": str(tmp_path / "thinking.sqlite")})
    session = session_of(tasks=2)
    first = start_gateway(settings)
    for _ in range(3):
        step(first, session)
    first.gateway.vault.close()
    first.close()
    second = start_gateway(settings)
    notes, _ = step(second, session)
    assert "thinking=restored(3)" in notes
    assert (agent.refusals, agent.forgotten) == ([], [])


def test_reasoning_that_was_lost_costs_no_call(start_gateway: Any, upstream: FakeUpstream, agent: AgentApi) -> None:
    gateway = start_gateway(to_openai(upstream, vault={"enabled": False}))
    session = session_of(tasks=1)
    while not session.is_over:
        notes, _ = step(gateway, session)
        assert "restored" not in notes
    assert agent.refusals == []
    assert agent.forgotten


@both
def test_reasoning_that_is_refused_is_left_out_once_and_noted(
    start_gateway: Any, upstream: FakeUpstream, agent: AgentApi, stream: bool
) -> None:
    gateway = start_gateway(to_openai(upstream))
    session = session_of(tasks=1)
    for _ in range(2):
        step(gateway, session)
    upstream.script(another_key(agent), agent)
    got = gateway.chat(**{**session.body(), "stream": stream}, headers=session.headers)
    assert got.status_code == 200, got.text
    assert "learnt=input.reasoning" in got.headers["x-compat-notes"]
    assert "thinking=omitted" in got.headers["x-compat-notes"]
    assert "learnt=input.reasoning" in gateway.calls()[-1]["notes"]
    kinds = [[item.get("type") for item in request.json["input"]] for request in upstream.requests[-2:]]
    assert ["reasoning" in kind for kind in kinds] == [True, False]
    assert len(agent.refusals) == 2  # of one request: two items
    notes, _ = step(gateway, session)
    assert "restored" in notes
    assert "learnt" not in notes


def another_key(agent: AgentApi) -> Any:
    """The account's secret has changed: what it sealed it can't read any more."""
    return lambda request: agent(Request(request.method, request.path, {"authorization": "Bearer sk-else-1"}, request.body, 1))


@pytest.mark.parametrize("change", ["account", "model", "client"])
def test_reasoning_goes_only_to_the_account_and_model_that_made_it(
    start_gateway: Any, upstream: FakeUpstream, agent: AgentApi, change: str
) -> None:
    with FakeUpstream(default=agent) as other:
        row = {"kind": "openai", "base_url": other.url, "api_keys": ["sk-theirs-1"]}
        routes = {"account": "theirs/gpt-6.1-sol", "model": "openai/gpt-6.2-sol", "client": "openai/gpt-6.1-sol"}
        settings = to_openai(upstream, upstreams={"theirs": row}, models={"second": {"route": [routes[change]]}})
        gateway = start_gateway(settings)
        session = session_of(tasks=1)
        for _ in range(2):
            step(gateway, session)
        session.model = "second"
        notes, _ = step(gateway, session)
        assert ("restored" in notes) == (change == "client")
        assert agent.refusals == []


# By which API.


@both
def test_the_catalogue_says_which_api_a_model_needs(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    gateway = start_gateway(
        to_openai(upstream, models={name: {"route": [f"openai/{name}"]} for name in ("gpt-4.1", "gpt-5-mini", "gpt-6.2-astra", "own")})
    )
    for name in (ALIAS, "gpt-6.2-astra", "gpt-4.1", "gpt-5-mini", "own"):
        assert gateway.chat(model=name, tools=TOOLS, stream=stream).status_code == 200
    assert paths(upstream) == ["/v1/responses"] * 2 + ["/v1/chat/completions"] * 3


@both
@pytest.mark.parametrize(("target", "asked"), [("gpt-5.4", {"reasoning_effort": "high"}), ("gpt-6.9-nova", {})])
def test_a_refusal_that_names_the_other_api_is_learnt_within_the_attempt(
    start_gateway: Any, upstream: FakeUpstream, agent: AgentApi, stream: bool, target: str, asked: dict[str, Any]
) -> None:
    facts = {"apis": ["openai.chat", "openai.responses"]}
    gateway = start_gateway(to_openai(upstream, target, models={ALIAS: {"route": [f"openai/{target}"], "facts": facts}}))
    first = gateway.chat(model=ALIAS, tools=TOOLS, stream=stream, **asked)
    assert first.status_code == 200, first.text
    assert "learnt=endpoint openai.chat" in first.headers["x-compat-notes"]
    assert first.headers["x-compat-attempts"] == "1"
    assert gateway.chat(model=ALIAS, tools=TOOLS, stream=stream, **asked).status_code == 200
    assert paths(upstream) == ["/v1/chat/completions", "/v1/responses", "/v1/responses"]
    assert len(agent.chat_refusals) == 1
    assert agent.refusals == []
    if asked:
        assert upstream.requests[-1].json["reasoning"]["effort"] == "high"


@both
def test_a_server_without_the_api_is_called_by_the_other(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    def chat_only(request: Request) -> Answer:
        return openai_answers.respond(request) if "chat" in request.path else answers.error_answer(404, "Not Found")

    upstream.default = chat_only
    gateway = start_gateway(to_openai(upstream))
    for _ in range(2):
        assert gateway.chat(model=ALIAS, stream=stream).status_code == 200
    assert paths(upstream) == ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"]


@pytest.mark.parametrize(
    ("kind", "wire_api", "path"),
    [
        ("openai", "responses", "/v1/responses"),
        ("openai", "chat", "/v1/chat/completions"),
        ("openai", "messages", "/v1/messages"),
        ("deepseek", "responses", "/v1/responses"),
        ("anthropic", "chat", "/v1/chat/completions"),
        ("anthropic", "responses", "/v1/responses"),
        ("anthropic", "messages", "/v1/messages"),
    ],
)
@pytest.mark.parametrize("path_asked", ["/chat/completions", "/completions"])
def test_an_api_that_is_configured_is_used_to_the_letter(
    start_gateway: Any, upstream: FakeUpstream, kind: str, wire_api: str, path: str, path_asked: str
) -> None:
    """Whatever the kind speaks, the model would rather have, and the client asks for."""
    seen: list[Request] = []

    def note(request: Request) -> Answer:
        seen.append(request)
        return answers.error_answer(500, "noted")

    upstream.default = note
    base_url = upstream.url if kind != "anthropic" else upstream.url.removesuffix("/v1")
    row = {"kind": kind, "base_url": base_url, "wire_api": wire_api, "api_keys": ["sk-canary-0123456789"]}
    gateway = start_gateway({"upstreams": {"openai": row}, "models": {ALIAS: {"route": ["openai/gpt-6.1-sol"]}}, "retry": {"attempts": 1}})
    body = {"model": ALIAS, "prompt": "Say"} if path_asked == "/completions" else {"model": ALIAS, "messages": HELLO}
    gateway.http.post(gateway.url + path_asked, json=body, timeout=30)
    assert [request.path for request in seen] == [path]
    assert ("anthropic-version" in seen[0].headers) == (wire_api == "messages" or kind == "anthropic")


# The official SDK.


@both
def test_the_openai_sdk_reads_every_kind_of_answer(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    gateway = start_gateway(to_openai(upstream))
    given = [
        items.reasoning("Let me see."),
        items.message(items.text_part("I read.")),
        items.function_call("read_file", '{"path": "a.py"}'),
        items.function_call("read_file", '{"path": "b.py"}', "call_2", "fc_2"),
    ]
    whole = answers.response(given)
    upstream.script(answers.stream_answer(answers.events_of(whole)) if stream else answers.json_answer(whole))
    with openai.OpenAI(base_url=gateway.url, api_key="sk-any", max_retries=0, timeout=30) as client:
        asked: dict[str, Any] = {"model": ALIAS, "messages": HELLO, "tools": TOOLS}
        if stream:
            with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
                for _ in events:
                    pass
                completion: Any = events.get_final_completion()
        else:
            completion = client.chat.completions.create(**asked)
    message = completion.choices[0].message
    assert message.content == "I read."
    assert [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls] == [
        ("call_1", "read_file", {"path": "a.py"}),
        ("call_2", "read_file", {"path": "b.py"}),
    ]
    assert completion.choices[0].finish_reason == "tool_calls"
    assert completion.usage.prompt_tokens_details.cached_tokens == 3
    assert completion.usage.completion_tokens_details.reasoning_tokens == 2


@both
@pytest.mark.parametrize(
    ("status", "exception", "code"),
    [
        (400, openai.BadRequestError, None),
        (401, openai.AuthenticationError, "upstream_key_refused"),
        (404, openai.NotFoundError, None),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, "server_error"),
        (503, openai.InternalServerError, "server_error"),
    ],
)
def test_every_status_is_the_sdks_own_exception(
    start_gateway: Any, upstream: FakeUpstream, status: int, exception: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    upstream.default = answers.error_answer(status, "the model's own words")
    gateway = start_gateway(to_openai(upstream))
    with (
        openai.OpenAI(base_url=gateway.url, api_key="sk-any", max_retries=0, timeout=30) as client,
        pytest.raises(exception, match="the model's own words") as caught,
    ):
        client.chat.completions.create(model=ALIAS, messages=HELLO, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == code


# Faults.

EVENTS = answers.stream_events([items.reasoning("Let me see."), items.message(items.text_part("Hello there, you."))])
TEXT_AT = next(number for number, event in enumerate(EVENTS) if event["type"] == "response.output_text.delta")
BREAKS: dict[str, tuple[Any, ...]] = {
    "error event": (answers.one_event(answers.error_event()),),
    "failed": (answers.one_event(answers.events_of(answers.failed())[-1]),),
    "cut": (Cut(),),
    "end": (),
    "garbage": (b"event: response.output_text.delta\ndata: {\n\n",),
}


@pytest.mark.parametrize("end", BREAKS.values(), ids=BREAKS)
def test_a_stream_that_breaks_ends_with_an_error_and_nothing_invented(
    start_gateway: Any, upstream: FakeUpstream, end: tuple[Any, ...]
) -> None:
    upstream.script(answers.sse_answer(*(answers.one_event(event) for event in EVENTS[: TEXT_AT + 2]), *end))
    gateway = start_gateway(to_openai(upstream))
    got = gateway.chat(model=ALIAS, stream=True).text
    frames = [json.loads(line[6:]) for line in got.split("\n") if line.startswith("data: {")]
    assert frames[-1]["error"]["message"]
    assert "[DONE]" not in got
    assert not any(choice["finish_reason"] for frame in frames for choice in frame.get("choices", ()))


@pytest.mark.parametrize("end", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("second", ["responses", "chat", "messages"])
def test_an_answer_that_broke_is_carried_on_by_a_deployment_of_any_api(
    start_gateway: Any, upstream: FakeUpstream, end: tuple[Any, ...], second: str
) -> None:
    upstream.script(answers.sse_answer(*(answers.one_event(event) for event in EVENTS[: TEXT_AT + 2]), *end))
    rest = "re, you."
    other_answers = {
        "responses": answers.stream_answer(answers.stream_events([items.message(items.text_part(rest))])),
        "chat": Answer(
            (*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in openai_answers.text_chunks(rest)), b"data: [DONE]\n\n"),
            headers=(("content-type", "text/event-stream"),),
        ),
        "messages": anthropic_answers.stream_answer(anthropic_answers.stream_events([anthropic_answers.text(rest)])),
    }
    with FakeUpstream(default=other_answers[second]) as other:
        row = {"kind": "openai", "base_url": other.url, "wire_api": second, "api_keys": ["sk-other-0123456789"]}
        settings = to_openai(upstream, upstreams={"other": row}, retry={"attempts": 3})
        settings["models"][ALIAS]["route"] = ["openai/gpt-6.1-sol", {"to": "other/gpt-6.1-sol", "priority": 2}]
        gateway = start_gateway(settings)
        reply = read_stream(gateway.chat(model=ALIAS, stream=True, stream_options={"include_usage": True}).text)
    assert reply.text.startswith("Hello")
    assert reply.text.endswith(rest)
    assert reply.finish_reason == "stop"
    assert gateway.calls()[-1]["outcome"] == "ok"


def test_an_answer_ends_at_a_stop_sequence_and_its_upstream_is_left(start_gateway: Any, upstream: FakeUpstream) -> None:
    begun = answers.stream_events([items.message(items.text_part("One, two. END of"))])
    told = [event for event in begun if not event["type"].endswith((".done", ".completed"))]
    upstream.script(answers.sse_answer(*map(answers.one_event, told), Stall()))
    gateway = start_gateway(to_openai(upstream))
    got = gateway.chat(model=ALIAS, stream=True, stop=["END"], stream_options={"include_usage": True})
    reply = read_stream(got.text)
    assert (reply.text, reply.finish_reason) == ("One, two. ", "stop")
    assert "emulated=stop" in got.headers["x-compat-notes"]
    wait_until(lambda: len(upstream.abandoned) == 1)
    record = gateway.calls()[-1]
    assert record["outcome"] == "ok"
    assert record["completion_tokens"] > 0
    assert record["is_estimate"]


def test_a_whole_answer_ends_at_a_stop_sequence(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.script(answers.json_answer(answers.response([items.message(items.text_part("One, two. END of it."))])))
    answer = start_gateway(to_openai(upstream)).chat(model=ALIAS, stop="END").json()
    assert answer["choices"][0]["message"]["content"] == "One, two. "
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 7


@both
@pytest.mark.parametrize("first", ["responses", "chat", "messages"])
@pytest.mark.parametrize("second", ["responses", "chat", "messages"])
def test_a_call_falls_over_between_deployments_of_any_apis(start_gateway: Any, stream: bool, first: str, second: str) -> None:
    responders: dict[str, Any] = {"responses": ResponsesApi(), "chat": openai_answers.respond, "messages": anthropic_answers.respond}
    targets = {"responses": "gpt-6.1-sol", "chat": "gpt-4.1", "messages": "claude-sonnet-4-6"}
    with FakeUpstream(default=answers.error_answer(503, "overloaded")) as one, FakeUpstream(default=responders[second]) as two:
        rows = {
            name: {"kind": "openai", "base_url": server.url, "wire_api": api, "api_keys": ["sk-canary-0123456789"]}
            for name, server, api in (("one", one, first), ("two", two, second))
        }
        route = [f"one/{targets[first]}", {"to": f"two/{targets[second]}", "priority": 2}]
        gateway = start_gateway(
            {"upstreams": rows, "models": {ALIAS: {"route": route}}, "retry": {"attempts": 3, "tries_per_deployment": 1}}
        )
        got = gateway.chat(model=ALIAS, stream=stream, tools=TOOLS)
    assert got.status_code == 200, got.text
    assert one.requests
    assert two.requests
    assert got.headers["x-compat-upstream"].startswith("two")
