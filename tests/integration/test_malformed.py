"""Malformed calls: a 4xx in OpenAI's shape, and the next call on the same connection works."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

import pytest

from tests.conftest import RunningGateway

HELLO = [{"role": "user", "content": "Hi"}]
GOOD = {"model": "claude-4-sonnet", "messages": HELLO}


def body(**changes: Any) -> bytes:
    return json.dumps({key: value for key, value in {**GOOD, **changes}.items() if value is not ...}).encode()


BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "not JSON": (b"{", 400),
    "words": (b"hello", 400),
    "a list": (b"[]", 400),
    "a string": (b'"x"', 400),
    "null": (b"null", 400),
    "trailing bytes": (body() + b"x", 400),
    "single quotes": (b"{'model': 'x'}", 400),
    "NaN": (b'{"model":"claude-4-sonnet","messages":[{"role":"user","content":"x"}],"top_p":NaN}', 400),
    "latin-1": ('{"model": "é"}'.encode("latin-1"), 400),
    "half a character": (body()[:-2] + b"\xe2\x82", 400),
    "gzip without saying so": (gzip.compress(body()), 400),
    "a key twice": (b'{"model":"a","model":"claude-4-sonnet","messages":[{"role":"user","content":"x"}]}', 400),
    "too deep": (b'{"model":"claude-4-sonnet","messages":' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400),
    "no model": (body(model=...), 400),
    "empty model": (body(model=" "), 400),
    "model is a number": (body(model=3), 400),
    "model is null": (body(model=None), 400),
    "unknown model": (body(model="claude-5-sonet"), 404),
    "no messages": (body(messages=...), 400),
    "messages is empty": (body(messages=[]), 400),
    "messages is a string": (body(messages="Hi"), 400),
    "messages is an object": (body(messages={}), 400),
    "messages is null": (body(messages=None), 400),
    "stream is a string": (body(stream="true"), 400),
    "stream is a number": (body(stream=1), 400),
    "stream_options is a list": (body(stream=True, stream_options=[1]), 400),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_malformed_body_is_refused_and_the_next_call_works(gateway: RunningGateway, name: str) -> None:
    sent, status = BODIES[name]
    answer = gateway.post(sent)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    assert gateway.chat().status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "robot", "content": "x"}],
        [{"content": "x"}],
        ["x"],
        [None],
        [{"role": "user"}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": [{"text": "x"}]}],
        [{"role": "assistant", "tool_calls": [{"id": 3}]}],
    ],
)
def test_malformed_messages_never_reach_a_local_server(start_gateway: Any, upstream: Any, messages: Any) -> None:
    settings = {
        "upstreams": {"local": {"kind": "llama-server", "base_url": upstream.url}},
        "models": {"claude-4-sonnet": {"route": ["local/m"]}},
    }
    gateway = start_gateway(settings)
    answer = gateway.post(body(messages=messages))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith(("The request is malformed", "messages["))
    assert upstream.requests == []
    assert gateway.chat().status_code == 200


def test_other_media_types_and_sizes_are_refused(start_gateway: Any, upstream: Any) -> None:
    from tests.conftest import to_upstream

    gateway = start_gateway(to_upstream(upstream, server={"max_body_bytes": 1000}))
    assert gateway.post(body(), content_type="text/plain").status_code == 415
    assert gateway.post(body(content="x" * 2000)).status_code == 413
    assert gateway.chat().status_code == 200


def test_a_client_that_sends_all_of_a_large_body_before_it_reads_gets_its_answer(start_gateway: Any, upstream: Any) -> None:
    """As nginx does: a connection that is reset while it sends would be told as a 502. On a 413 Kilo Code compacts."""
    from tests.conftest import to_upstream

    gateway = start_gateway(to_upstream(upstream, server={"max_body_bytes": 1000}))
    size_bytes = 33 * 1024 * 1024
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        f"content-length: {size_bytes}",
        "",
        "",
    ]
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as sock:
        sock.sendall("\r\n".join(lines).encode() + b" " * size_bytes)
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v2/nothing", 404, "unknown_url"),
        ("POST", "/v1/unknown", 404, "unknown_url"),
        ("GET", "/v1/models/no-such-model", 404, "model_not_found"),
        ("DELETE", "/", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_here_is_told_in_openais_shape(gateway: RunningGateway, method: str, path: str, status: int, code: str) -> None:
    answer = gateway.http.request(method, gateway.root + path, timeout=10)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/models", "/v1/v1/models", "/v1/models/claude-4-sonnet"])
def test_head_is_answered_wherever_get_is(gateway: RunningGateway, path: str) -> None:
    got, head = gateway.get(path), gateway.http.head(gateway.root + path, timeout=10)
    assert (got.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]


def test_an_unknown_model_is_told_with_its_nearest_names(gateway: RunningGateway) -> None:
    error = gateway.chat(model="claude-4-sonet").json()["error"]
    assert error["code"] == "model_not_found"
    assert "claude-4-sonnet" in error["message"]
