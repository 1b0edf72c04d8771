"""What goes wrong at an upstream of Anthropic's wire API, as the official `openai` SDK and a plain reader of streams see it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import openai
import pytest

from tests.conftest import RunningGateway
from tests.fakes import anthropic_answers as answers
from tests.fakes.anthropic_settings import ALIAS, KEY, to_claude
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Reset, Stall, Step
from tests.integration.kilo_session import events_of

HELLO: Any = [{"role": "user", "content": "Say hello."}]
EVENTS = answers.stream_events([answers.thinking("Let me see."), answers.text("Hello there, you.")])
THINKING_AT = next(number for number, event in enumerate(EVENTS) if event.get("delta", {}).get("type") == "thinking_delta")
TEXT_AT = next(number for number, event in enumerate(EVENTS) if event.get("delta", {}).get("type") == "text_delta")
CALLING = answers.stream_events([answers.tool_use("read_file", {"path": "a.py"})])
CALLING_AT = next(n for n, event in enumerate(CALLING) if event.get("delta", {}).get("partial_json"))


def frames(events: list[dict[str, Any]]) -> list[bytes]:
    return [answers.one_event(event) for event in events]


BEFORE_CONTENT = frames(EVENTS[:3])
AFTER_THINKING = frames(EVENTS[: THINKING_AT + 1])
AFTER_TEXT = frames(EVENTS[: TEXT_AT + 1])
IN_A_CALL = frames(CALLING[: CALLING_AT + 1])


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=answers.respond) as running:
        yield running


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(to_claude(upstream))


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="sk-any", max_retries=0, timeout=30) as client:
        yield client


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@both
@pytest.mark.parametrize(
    ("status", "exception", "code"),
    [
        (400, openai.BadRequestError, None),
        (401, openai.AuthenticationError, "upstream_key_refused"),
        (402, openai.APIStatusError, "insufficient_quota"),
        (403, openai.PermissionDeniedError, "upstream_key_refused"),
        (404, openai.NotFoundError, None),
        (409, openai.ConflictError, None),
        (413, openai.APIStatusError, None),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, "server_error"),
        (504, openai.InternalServerError, "server_error"),
        (529, openai.InternalServerError, "server_error"),
    ],
)
def test_every_status_is_the_sdks_own_exception(
    client: openai.OpenAI, upstream: FakeUpstream, status: int, exception: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    upstream.script(answers.error_answer(status, "the upstream's own words"))
    with pytest.raises(exception, match="the upstream's own words") as caught:
        client.chat.completions.create(model=ALIAS, messages=HELLO, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert caught.value.type
    assert caught.value.request_id
    assert KEY not in str(caught.value.response.text)
    assert len(upstream.requests) == 1


@both
@pytest.mark.parametrize(
    "words", ["prompt is too long: 201000 tokens > 200000 maximum", "input length and `max_tokens` exceed context limit: 190000 + 64000"]
)
def test_an_overflow_has_the_code_that_makes_agents_compact(
    client: openai.OpenAI, upstream: FakeUpstream, words: str, stream: bool
) -> None:
    upstream.script(answers.error_answer(400, words))
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=ALIAS, messages=HELLO, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("asked", "told"), [("3", "3"), ("86400", "30"), (None, None)])
def test_a_rate_limit_never_asks_for_more_than_half_a_minute(
    gateway: RunningGateway, upstream: FakeUpstream, asked: str | None, told: str | None
) -> None:
    upstream.script(answers.error_answer(429, "slow down", (("retry-after", asked),) if asked else ()))
    assert gateway.chat().headers.get("retry-after") == told


@pytest.mark.parametrize(
    ("kind", "status"), [("overloaded_error", 529), ("rate_limit_error", 429), ("api_error", 500), ("invalid_request_error", 400)]
)
def test_an_error_event_before_content_is_an_http_error(client: openai.OpenAI, upstream: FakeUpstream, kind: str, status: int) -> None:
    upstream.script(answers.sse_answer(*BEFORE_CONTENT, answers.one_event(answers.error_event(kind, "not today"))))
    with pytest.raises(openai.APIStatusError, match="not today") as caught:
        client.chat.completions.create(model=ALIAS, messages=HELLO, stream=True)
    assert caught.value.status_code == status


@pytest.mark.parametrize("before", [AFTER_THINKING, AFTER_TEXT, IN_A_CALL], ids=["after thinking", "after text", "in a call"])
def test_an_error_event_after_content_is_raised_by_the_sdk(client: openai.OpenAI, upstream: FakeUpstream, before: list[bytes]) -> None:
    upstream.script(answers.sse_answer(*before, answers.one_event(answers.error_event(words="Overloaded, they say"))))
    with pytest.raises(openai.APIError, match="Overloaded, they say"):
        list(client.chat.completions.create(model=ALIAS, messages=HELLO, stream=True))


BREAKS: dict[str, tuple[Step, ...]] = {
    "error event": (answers.one_event(answers.error_event()),),
    "cut": (Cut(),),
    "reset": (Reset(),),
    "end": (),
    "garbage": (b"event: content_block_delta\ndata: {\n\n",),
    "stop before it is complete": (answers.one_event({"type": "message_stop"}),),
}


@pytest.mark.parametrize("before", [AFTER_THINKING, AFTER_TEXT], ids=["after thinking", "after text"])
@pytest.mark.parametrize("end", BREAKS.values(), ids=BREAKS.keys())
def test_a_stream_that_breaks_ends_with_an_error_and_nothing_invented(
    gateway: RunningGateway, upstream: FakeUpstream, before: list[bytes], end: tuple[Step, ...]
) -> None:
    upstream.script(answers.sse_answer(*before, *end))
    events = events_of(gateway.chat(stream=True).text)
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["message"]
    assert "[DONE]" not in events
    assert not any(chunk["choices"][0]["finish_reason"] for chunk in events[:-1])
    call = gateway.calls()[-1]
    assert (call["outcome"], call["attempts"]) == ("error", 1)


@pytest.mark.parametrize("end", BREAKS.values(), ids=BREAKS.keys())
def test_a_stream_that_breaks_in_a_tool_call_never_looks_complete(
    gateway: RunningGateway, upstream: FakeUpstream, end: tuple[Step, ...]
) -> None:
    """The call may have been held back until then, or not: nothing that a client could run is shown."""
    upstream.script(answers.sse_answer(*IN_A_CALL, *end))
    got = gateway.chat(stream=True)
    last = events_of(got.text)[-1] if got.status_code == 200 else got.json()
    assert last["error"]["message"]
    assert "[DONE]" not in got.text
    assert '"finish_reason":"' not in got.text
    assert gateway.calls()[-1]["outcome"] == "error"


@both
@pytest.mark.parametrize(
    "answer",
    [
        Answer((b"<html>Welcome</html>",), 200, (("content-type", "text/html"),)),
        answers.json_answer({"type": "message"}),
        answers.json_answer({"id": "chatcmpl-1", "choices": []}),
        Answer((b'{"type": "message", "content": [',), 200),
        Answer((b"",), 200),
        Answer(raw=(Cut(),)),
    ],
    ids=["a web page", "no content", "another protocol", "half", "nothing", "no answer"],
)
def test_an_answer_that_is_none_is_a_bad_gateway(gateway: RunningGateway, upstream: FakeUpstream, answer: Answer, stream: bool) -> None:
    upstream.script(answer)
    got = gateway.chat(stream=stream)
    assert got.status_code == 502
    assert got.json()["error"]["message"]
    upstream.script(answers.respond)
    assert gateway.chat(stream=stream).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"n": 2}, "'n' must be 1"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "input_audio"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"functions": [{"name": "f"}]}, "replaced by 'tools'"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_has_no_translation_is_refused_in_words_and_costs_nothing(
    gateway: RunningGateway, upstream: FakeUpstream, body: dict[str, Any], words: str
) -> None:
    got = gateway.chat(**body)
    assert got.status_code == 400
    assert words in got.json()["error"]["message"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("stream", "before"),
    [(False, ()), (True, ()), (True, BEFORE_CONTENT), (True, AFTER_THINKING), (True, AFTER_TEXT), (True, IN_A_CALL)],
    ids=["whole", "streamed", "before content", "while it thinks", "in a text", "in a call"],
)
def test_a_client_that_leaves_ends_the_upstreams_call_within_a_second(
    gateway: RunningGateway, upstream: FakeUpstream, stream: bool, before: Any
) -> None:
    upstream.script(answers.sse_answer(*before, Stall()))
    body = json.dumps({"model": ALIAS, "messages": HELLO, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as sock:
        sock.sendall(head.encode() + body)
        wait_for(lambda: upstream.requests)
        if before in (AFTER_THINKING, AFTER_TEXT):
            assert sock.recv(65536)
    with gevent.Timeout(1):
        wait_for(lambda: upstream.abandoned and not gateway.gateway.gauges.in_flight)
    call = gateway.calls()[-1]
    assert (call["outcome"], call["status"]) == ("cancelled", 499)


def wait_for(is_done: Any) -> None:
    """Until something that has no event of its own is so; bounded by a timeout around it or by the test's."""
    with gevent.Timeout(5):
        while not is_done():
            gevent.sleep(0.005)
