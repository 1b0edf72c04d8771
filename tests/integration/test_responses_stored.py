"""Answers of the Responses API that are stored: gone on from over every kind of upstream, read again, made in the background, cancelled."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from websockets.sync.client import connect

from compat.accounting.keys import new_key
from compat.config.settings import merge
from compat.stored.base import LEASE_S
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import responses_answers as answers
from tests.fakes import responses_items as items
from tests.fakes.redis_server import PROGRAM, RedisServer
from tests.fakes.ruled import UPSTREAMS
from tests.fakes.upstream import Answer, FakeUpstream, Stall, Until
from tests.integration.test_cancellation import wait_for
from tests.unit.builders import StillClock

STORE: dict[str, Any] = {"responses": {"store": True}}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False}
EVENTS = answers.stream_events([items.message(items.text_part("Hello."))])
HELLO = [answers.one_event(event) for event in EVENTS]
"""Created, in progress, an item, a part, then its text."""
OVER = ("completed", "incomplete", "failed", "cancelled")
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def sdk(gateway: RunningGateway, key: str = "sk-any") -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key=key, max_retries=0, timeout=30)


def kept_alone(upstream: FakeUpstream, **more: Any) -> dict[str, Any]:
    """A service of the same protocol, and answers that are stored."""
    return to_upstream(upstream, upstreams={"fake": {"wire_api": "responses"}}, **merge(STORE, more))


@pytest.fixture(params=list(UPSTREAMS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def started(start: Any, kind: str, upstream: FakeUpstream, **more: Any) -> RunningGateway:
    row = UPSTREAMS[kind]
    models = {"any": {"route": [f"up/{row.target}"]}}
    gateway: RunningGateway = start(merge({"upstreams": {"up": row.row(upstream)}, "models": models, **STORE}, more))
    return gateway


def said(request: Any) -> str:
    """The conversation that an upstream got, as text."""
    body = request.json
    return json.dumps(body.get("input") or body.get("messages"))


@both
def test_a_conversation_goes_on_from_what_is_stored_whatever_the_upstream(start_gateway: Any, kind: str, stream: bool) -> None:
    with FakeUpstream(default=UPSTREAMS[kind].model()) as upstream, sdk(gateway := started(start_gateway, kind, upstream)) as client:

        def ask(words: str, **more: Any) -> Any:
            if not stream:
                return client.responses.create(model="any", input=words, **more)
            *_, last = client.responses.create(model="any", input=words, stream=True, **more)
            return last.response

        first = ask("I am Ada.", instructions="Be brief.")
        second = ask("Who am I?", previous_response_id=first.id)
        third = ask("And now?", previous_response_id=second.id, store=False)
        assert [first.to_dict()["store"], second.to_dict()["store"], third.to_dict()["store"]] == [True, True, False]
        assert (first.previous_response_id, second.previous_response_id, third.previous_response_id) == (None, first.id, second.id)
        last = said(upstream.requests[-1])
        assert last.index("I am Ada.") < last.index("Hello") < last.index("Who am I?") < last.index("And now?")
        assert "Be brief" not in last, "instructions are each call's own"
        assert all(request.json.get("store") in (None, False) for request in upstream.requests)
        assert client.responses.retrieve(second.id).to_dict() == second.to_dict()
        with pytest.raises(openai.NotFoundError) as missing:
            client.responses.retrieve(third.id)
        assert "not found" in missing.value.message
        listed = client.responses.input_items.list(second.id)
        assert [item.content[0].text for item in listed.data] == ["Who am I?"]
        assert gateway.calls()[-1]["status"] == 200


def test_what_tools_gave_follows_the_call_that_is_stored(start_gateway: Any, kind: str) -> None:
    with FakeUpstream(default=UPSTREAMS[kind].model()) as upstream, sdk(started(start_gateway, kind, upstream)) as client:
        first = client.responses.create(model="any", input="Look.", tools=[TOOL], tool_choice="required")
        [call] = [item for item in first.output if item.type == "function_call"]
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "A tree."}
        client.responses.create(model="any", input=[result], previous_response_id=first.id, tools=[TOOL])
        assert said(upstream.requests[-1]).index(call.call_id) < said(upstream.requests[-1]).index("A tree.")
        with pytest.raises(openai.BadRequestError, match="No tool call found for function call output with call_id call_none"):
            client.responses.create(
                model="any",
                input=[{**result, "call_id": "call_none"}],
                previous_response_id=first.id,
                tools=[TOOL],
            )


@both
def test_a_background_answer_is_made_without_its_client(start_gateway: Any, kind: str, stream: bool) -> None:
    with FakeUpstream(default=UPSTREAMS[kind].model()) as upstream, sdk(started(start_gateway, kind, upstream)) as client:
        if stream:
            events = list(client.responses.create(model="any", input="Hi", background=True, stream=True))
            numbers = [event.sequence_number for event in events]
            assert numbers == list(range(len(events)))
            answer_id = events[0].response.id
            later = list(client.responses.retrieve(answer_id, stream=True, starting_after=numbers[2]))
            assert [event.to_dict() for event in later] == [event.to_dict() for event in events[3:]]
        else:
            begun = client.responses.create(model="any", input="Hi", background=True)
            assert (begun.status, begun.background, begun.output) == ("queued", True, [])
            answer_id = begun.id
            wait_for(lambda: client.responses.retrieve(answer_id).status in OVER)
        made = client.responses.retrieve(answer_id)
        assert (made.status, made.background, made.id) == ("completed", True, answer_id)
        assert made.output_text
        assert client.responses.cancel(answer_id).to_dict() == made.to_dict()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """The settings of gateways that share a store: a file, or a Redis."""
    if request.param == "file":
        yield lambda: {"responses": {"path": str(tmp_path / "shared.sqlite")}}
        return
    if PROGRAM is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield lambda: {"storage": {"redis_url": server.url}}


shared = pytest.mark.parametrize("place", ["file", "redis"], indirect=True)


@shared
def test_workers_and_those_that_come_after_them_go_on_with_each_others_answers(
    start_gateway: Any, upstream: FakeUpstream, place: Any
) -> None:
    upstream.default = answers.sse_answer(*HELLO)
    first = start_gateway(kept_alone(upstream, **place()))
    answer_id = ask(first, "I am Ada.", stream=True)
    second = start_gateway(kept_alone(upstream, **place()))
    ask(second, "Who am I?", stream=True, previous_response_id=answer_id)
    assert "I am Ada." in said(upstream.requests[-1])
    first.gateway.responses.close()
    first.close()
    assert second.get(f"/v1/responses/{answer_id}").status_code == 200
    assert second.http.delete(f"{second.url}/responses/{answer_id}").json() == {"id": answer_id, "object": "response", "deleted": True}
    assert second.http.delete(f"{second.url}/responses/{answer_id}").status_code == 404
    third = start_gateway(kept_alone(upstream, **place()))
    refused = third.http.post(f"{third.url}/responses", json={"model": "claude-4-sonnet", "input": "x", "previous_response_id": answer_id})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "previous_response_not_found")


def ask(gateway: RunningGateway, words: str, **fields: Any) -> str:
    """The id of the answer."""
    body = {"model": "claude-4-sonnet", "input": words, **fields}
    answer = gateway.http.post(f"{gateway.url}/responses", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    if not fields.get("stream"):
        return str(answer.json()["id"])
    return str(json.loads(answer.text.partition("data: ")[2].partition("\n")[0])["response"]["id"])


@pytest.mark.slow
@shared
def test_another_worker_shows_and_cancels_what_is_being_made(start_gateway: Any, upstream: FakeUpstream, place: Any) -> None:
    upstream.default = answers.sse_answer(*HELLO[:6], Stall())
    first, second = (start_gateway(kept_alone(upstream, **place())) for _ in range(2))
    answer_id = ask(first, "Hi", background=True)
    url = f"{second.root}/v1/responses/{answer_id}"
    wait_for(lambda: second.http.get(url).json()["status"] == "in_progress")
    assert second.http.get(f"{url}?stream=true").status_code == 400
    refused = second.http.post(
        f"{second.url}/responses", json={"model": "claude-4-sonnet", "input": "x", "previous_response_id": answer_id}
    )
    assert (refused.status_code, "is not finished" in refused.text) == (400, True)
    cancelled = second.http.post(f"{url}/cancel").json()
    assert (cancelled["status"], cancelled["id"]) == ("cancelled", answer_id)
    assert second.http.post(f"{url}/cancel").json() == cancelled == second.http.get(url).json()
    wait_for(lambda: first.gateway.gauges.background == 0)
    [record] = first.calls()
    assert record["outcome"] == "cancelled"


@pytest.mark.slow
def test_a_client_that_left_reads_the_rest_of_the_stream_later(start_gateway: Any, upstream: FakeUpstream) -> None:
    gate = threading.Event()
    upstream.default = answers.sse_answer(*HELLO[:5], Until(gate), *HELLO[5:])
    gateway = start_gateway(kept_alone(upstream))
    with sdk(gateway) as client:
        events = client.responses.create(model="claude-4-sonnet", input="Hi", background=True, stream=True)
        seen = [next(events), next(events)]
        events.close()
        gate.set()
        answer_id = seen[0].response.id
        rest = list(client.responses.retrieve(answer_id, stream=True, starting_after=seen[-1].sequence_number))
        assert len(seen) + len(rest) == len(EVENTS)
        assert rest[-1].type == "response.completed"


@pytest.mark.slow
def test_an_answer_that_is_deleted_while_it_is_made_is_not_made_further(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.default = answers.sse_answer(*HELLO[:6], Stall())
    gateway = start_gateway(kept_alone(upstream))
    answer_id = ask(gateway, "Hi", background=True)
    wait_for(lambda: gateway.get(f"/v1/responses/{answer_id}").json()["status"] == "in_progress")
    assert gateway.http.delete(f"{gateway.url}/responses/{answer_id}").status_code == 200
    wait_for(lambda: gateway.gateway.gauges.background == 0)
    assert gateway.get(f"/v1/responses/{answer_id}").status_code == 404


@pytest.mark.slow
def test_a_stream_whose_answer_is_deleted_ends_with_an_error(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.default = answers.sse_answer(*HELLO[:6], Stall())
    gateway = start_gateway(kept_alone(upstream))
    body = {"model": "claude-4-sonnet", "input": "Hi", "background": True, "stream": True}
    with gateway.http.post(f"{gateway.url}/responses", json=body, stream=True, timeout=30) as answer:
        lines = answer.iter_lines()
        created = json.loads(next(line for line in lines if line.startswith(b"data: "))[6:])
        assert gateway.http.delete(f"{gateway.url}/responses/{created['response']['id']}").status_code == 200
        last = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")][-1]
    assert last["type"] == "response.failed"
    assert [last["response"][name] == created["response"][name] for name in ("id", "model")] == [True, True]


@both
def test_a_background_answer_that_fails_says_why(start_gateway: Any, upstream: FakeUpstream, stream: bool) -> None:
    upstream.default = answers.error_answer(400, "No such thing.")
    gateway = start_gateway(kept_alone(upstream))
    answer_id = ask(gateway, "Hi", background=True, stream=stream)
    wait_for(lambda: gateway.get(f"/v1/responses/{answer_id}").json()["status"] in OVER)
    failed = gateway.get(f"/v1/responses/{answer_id}").json()
    assert (failed["status"], "No such thing." in failed["error"]["message"]) == ("failed", True)


@pytest.mark.slow
def test_an_answer_whose_maker_is_gone_has_failed(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.default = answers.sse_answer(*HELLO[:6], Stall())
    gateway = start_gateway(kept_alone(upstream))
    answer_id = ask(gateway, "Hi", background=True, stream=False)
    store = gateway.gateway.responses
    found = store.find(client_of(gateway), answer_id)
    assert found is not None
    wait_for(lambda: gateway.get(f"/v1/responses/{answer_id}").json()["status"] == "in_progress")
    clock = StillClock(now_s=gateway.gateway.clock.now() + LEASE_S + 5)
    gateway.http.post(f"{gateway.url}/responses/{answer_id}/cancel")
    store.save(client_of(gateway), found.record)
    late = start_gateway(merge(kept_alone(upstream), {"responses": {"path": str(store_path(gateway))}}), clock=clock)
    failed = late.get(f"/v1/responses/{answer_id}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")


def client_of(gateway: RunningGateway) -> str:
    return gateway.gateway.keys.client_of("", "")


def store_path(gateway: RunningGateway) -> Path:
    path: Path = gateway.gateway.responses._backend._file.path  # where the test's folder is
    return path


def test_the_end_of_the_gateway_ends_what_is_made_in_the_background(start_gateway: Any, upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.default = answers.sse_answer(*HELLO[:6], Stall())
    settings = kept_alone(upstream, responses={"path": str(tmp_path / "shared.sqlite")})
    gateway = start_gateway(settings)
    answer_id = ask(gateway, "Hi", background=True)
    wait_for(lambda: gateway.get(f"/v1/responses/{answer_id}").json()["status"] == "in_progress")
    gateway.server.stop(0.1)
    wait_for(lambda: gateway.gateway.gauges.background == 0)
    failed = start_gateway(settings).get(f"/v1/responses/{answer_id}").json()
    assert (failed["status"], "shutting down" in failed["error"]["message"]) == ("failed", True)


def test_clients_see_their_own_answers_alone(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.default = answers.sse_answer(*HELLO)
    (ada, ada_hash), (bob, bob_hash) = new_key(), new_key()
    gateway = start_gateway(kept_alone(upstream, keys={"ada": {"hash": ada_hash}, "bob": {"hash": bob_hash}}))
    with sdk(gateway, ada) as one, sdk(gateway, bob) as other:
        *_, last = one.responses.create(model="claude-4-sonnet", input="Hi", stream=True)
        answer_id = last.response.id
        assert one.responses.retrieve(answer_id).id == answer_id
        for act in (other.responses.retrieve, other.responses.delete, other.responses.cancel, other.responses.input_items.list):
            with pytest.raises(openai.NotFoundError) as missing:
                act(answer_id)
            assert f"Response with id '{answer_id}' not found." in missing.value.message
            assert missing.value.code == "response_not_found"
        with pytest.raises(openai.BadRequestError, match=f"Previous response with id '{answer_id}' not found"):
            other.responses.create(model="claude-4-sonnet", input="Hi", previous_response_id=answer_id)
        assert one.responses.retrieve(answer_id).id == answer_id


def test_a_stored_answer_is_given_again_as_a_stream(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.default = answers.sse_answer(*HELLO)
    gateway = start_gateway(kept_alone(upstream))
    with sdk(gateway) as client:
        *_, last = client.responses.create(model="claude-4-sonnet", input="Hi", stream=True)
        answer_id = last.response.id
        events = list(client.responses.retrieve(answer_id, stream=True))
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello."
        assert events[-1].type == "response.completed"
        rest = list(client.responses.retrieve(answer_id, stream=True, starting_after=2))
        assert [event.to_dict() for event in rest] == [event.to_dict() for event in events[3:]]
        with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
            client.responses.cancel(answer_id)


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("?stream=true&starting_after=x", "starting_after"),
        ("/input_items?limit=0", "limit"),
        ("/input_items?order=up", "order"),
        ("/input_items?after=x", "after"),
    ],
)
def test_a_wrong_question_about_a_stored_answer_is_refused(start_gateway: Any, upstream: FakeUpstream, path: str, param: str) -> None:
    upstream.default = answers.sse_answer(*HELLO)
    gateway = start_gateway(kept_alone(upstream))
    answer_id = ask(gateway, "Hi", stream=True)
    answer = gateway.get(f"/v1/responses/{answer_id}{path}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_store_that_can_not_be_used_costs_nobody_an_answer(start_gateway: Any, upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.default = answers.sse_answer(*HELLO)
    (tmp_path / "taken").mkdir()
    gateway = start_gateway(kept_alone(upstream, responses={"path": str(tmp_path / "taken")}))
    with sdk(gateway) as client:
        *_, last = client.responses.create(model="claude-4-sonnet", input="Hi", stream=True)
        assert last.response.to_dict()["store"] is False
    assert gateway.get("/v1/responses/resp_1").status_code == 503
    refused = gateway.http.post(f"{gateway.url}/responses", json={"model": "claude-4-sonnet", "input": "x", "background": True})
    assert refused.status_code == 503
    assert "responses" in json.dumps(gateway.get("/healthz").json()["causes"])


def test_a_websocket_stores_its_answers_and_goes_on_from_those_of_others(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.default = answers.sse_answer(*HELLO)
    gateway = start_gateway(kept_alone(upstream))
    answer_id = ask(gateway, "I am Ada.", stream=True)
    with connect(f"ws://127.0.0.1:{gateway.port}/v1/responses") as socket:
        socket.send(
            json.dumps({"type": "response.create", "model": "claude-4-sonnet", "input": "Who am I?", "previous_response_id": answer_id})
        )
        while (event := json.loads(socket.recv(10)))["type"] != "response.completed":
            assert event["type"] != "error", event
    assert "I am Ada." in said(upstream.requests[-1])
    assert upstream.requests[-1].json["store"] is False
    stored = gateway.get(f"/v1/responses/{event['response']['id']}").json()
    assert (stored["previous_response_id"], stored["store"]) == (answer_id, True)


def test_compaction_by_its_own_url_goes_on_from_a_stored_answer(start_gateway: Any) -> None:
    with FakeUpstream(default=UPSTREAMS["chat"].model()) as upstream:
        gateway = started(start_gateway, "chat", upstream)
        answer_id = gateway.http.post(f"{gateway.url}/responses", json={"model": "any", "input": "I am Ada."}).json()["id"]
        made = gateway.http.post(f"{gateway.url}/responses/compact", json={"model": "any", "previous_response_id": answer_id})
        assert made.status_code == 200, made.text
        assert "I am Ada." in said(upstream.requests[-1])


def test_an_answer_that_was_never_begun_is_not_stored(start_gateway: Any, upstream: FakeUpstream) -> None:
    upstream.default = Answer([b"{}"], status=500)
    gateway = start_gateway(kept_alone(upstream))
    answer = gateway.http.post(f"{gateway.url}/responses", json={"model": "claude-4-sonnet", "input": "x"})
    assert answer.status_code >= 500
