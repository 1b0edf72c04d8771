"""Hostile clients and hostile upstreams against the whole gateway, in one process."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.security import fuzz_cases as cases
from tests.security.fuzz_wire import Cut, answers, cut, header_text, paths, places
from tests.security.in_process import answer_is_clean, http_answer, shared

MODELS = ("claude-4-sonnet", "an", "local")
NAMES = (
    *(
        "HTTP_AUTHORIZATION",
        "HTTP_X_API_KEY",
        "HTTP_COOKIE",
        "HTTP_X_REQUEST_ID",
        "HTTP_X_SESSION_ID",
        "HTTP_IDEMPOTENCY_KEY",
        "QUERY_STRING",
    ),
    *("HTTP_X_STAINLESS_RETRY_COUNT", "HTTP_CONTENT_ENCODING", "HTTP_ACCEPT_ENCODING", "HTTP_X_COMPAT_SINGLE_FLIGHT", "CONTENT_LENGTH"),
    *(
        "CONTENT_TYPE",
        "HTTP_ACCEPT_LANGUAGE",
        "HTTP_HOST",
        "HTTP_ORIGIN",
        "HTTP_ACCEPT",
        "HTTP_IF_NONE_MATCH",
        "HTTP_RANGE",
        "HTTP_TRANSFER_ENCODING",
    ),
)
VALUES = (
    *(
        "",
        "x",
        "Bearer ",
        "Bearer \xff",
        "gzip",
        "gzip, gzip",
        "identity",
        "off",
        "-1",
        "1e9",
        "9" * 300,
        "٣",
        "application/json; charset=x",
        "a" * 9000,
    ),
    *("text/event-stream", "*/*;q=nan", "bytes=0-", "W/x", "chunked", "\x1b[31m", "a=b&a=%ff", "5", "null"),
)
headers = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | header_text, max_size=4)
ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/responses/resp_1",
    "/v1/models",
    "/v1/model/info",
    "/healthz",
    "/",
    "/setup",
    "/openapi.json",
    "/metrics",
)

Asked = tuple[str, str, dict[str, str], bytes]
asked = st.tuples(
    st.sampled_from(["POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "DELETE", "TRACE", "X"]),
    st.sampled_from(ENDPOINTS) | paths,
    headers,
    cases.bodies,
)


def any_request_is_answered_and_the_next_one_works(sent: Asked) -> None:
    """Whatever a client sends, it is at most told that it is wrong; the gateway is as it was."""
    method, path, environ, body = sent
    gateway = shared()
    gateway.transport.pieces = []
    answer_is_clean(gateway.ask(method, path, body, **environ))
    answer_is_clean(works())


def call_is_never_our_fault(sent: tuple[str, bytes]) -> None:
    """A body that is nearly a call: a 4xx of ours, or an answer, or an upstream's."""
    model, body = sent
    gateway = shared()
    gateway.transport.pieces = []
    answer = gateway.ask(body=body.replace(b'"claude-4-sonnet"', json.dumps(model).encode()))
    answer_is_clean(answer)
    assert answer.status < 500 or answer.error["code"] in {"upstream_broken", "no_upstream"}, answer.body
    if gateway.transport.sent:
        json.loads(gateway.transport.sent)


def works() -> Any:
    """The answer to a plain call, which must be good."""
    gateway = shared()
    gateway.transport.pieces = []
    answer = gateway.ask(body=b'{"model":"claude-4-sonnet","messages":[{"role":"user","content":"Hi"}]}')
    assert answer.status == 200, answer.body
    return answer


def whatever_an_upstream_sends_is_an_answer_or_told(sent: tuple[str, bool, Cut]) -> None:
    """Bytes of an upstream, cut anywhere: a whole answer or a stream that ends with an error event, never a fault of ours."""
    model, is_stream, answer = sent
    gateway = shared()
    gateway.transport.pieces = cut(*answer)
    body = {"model": model, "stream": is_stream, "messages": [{"role": "user", "content": "Hi"}]}
    answer_is_clean(gateway.ask(body=json.dumps(body).encode()))


def plain_answer_is_passed_on_or_told(sent: tuple[str, Cut]) -> None:
    """The same for embeddings and completions."""
    path, answer = sent
    gateway = shared()
    gateway.transport.pieces = cut(*answer)
    body = {"model": "claude-4-sonnet", "input": "Hi", "prompt": "Hi", "suffix": "x"}
    answer_is_clean(gateway.ask(path=path, body=json.dumps(body).encode()))


plain = st.builds(
    lambda rows, usage: cases.encoded({"data": rows, "choices": rows, "usage": usage}),
    st.lists(st.dictionaries(st.sampled_from(["embedding", "index", "text"]), cases.values, max_size=3), max_size=2) | cases.values,
    cases.values,
)
streams = st.builds(lambda body: http_answer(body, content_type="text/event-stream"), cases.openai_streams | cases.anthropic_streams)
wholes = st.builds(
    http_answer, cases.openai_answers | cases.anthropic_answers | plain, st.sampled_from([200, 200, 200, 400, 404, 429, 500, 529, 302, 204])
)

PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "request": (asked, any_request_is_answered_and_the_next_one_works),
    "call": (st.tuples(st.sampled_from(MODELS), cases.bodies), call_is_never_our_fault),
    "upstream": (
        st.tuples(st.sampled_from(MODELS), st.booleans(), st.tuples(streams | wholes | answers() | cases.noise, places)),
        whatever_an_upstream_sends_is_an_answer_or_told,
    ),
    "embeddings": (st.tuples(st.just("/v1/embeddings"), st.tuples(wholes | answers(), places)), plain_answer_is_passed_on_or_told),
    "completion": (st.tuples(st.just("/v1/completions"), st.tuples(wholes | answers(), places)), plain_answer_is_passed_on_or_told),
}
