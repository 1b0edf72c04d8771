"""The requests that leave: their heads, whose key they carry, and over which connections they go."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from compat import __version__
from compat.config.sections import TimeoutSettings
from compat.errors import UpstreamUnreachable
from compat.upstream.client import MAX_LANES, Secret, Upstream, UpstreamClient, request_headers
from compat.upstream.http1 import Exchange
from compat.upstream.kinds import UPSTREAM_KINDS
from compat.upstream.pool import Origin
from tests.fakes.authority import Authority
from tests.fakes.openai_answers import json_answer
from tests.fakes.upstream import Answer, FakeUpstream, Request
from tests.unit.upstream.proxy import unused_port, wait_until

OPENAI = UPSTREAM_KINDS["openai"]
ANTHROPIC = UPSTREAM_KINDS["anthropic"]
OLLAMA = UPSTREAM_KINDS["ollama"]
CANARY = "sk-canary-0123456789"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=json_answer({"n": 1})) as running:
        yield running


@pytest.fixture
def client() -> Iterator[UpstreamClient]:
    made = UpstreamClient()
    yield made
    made.close()


def at(base_url: str, kind: Any = OPENAI, keys: tuple[str, ...] = (), **more: Any) -> Upstream:
    return Upstream(more.pop("name", "fake"), kind, base_url, tuple(map(Secret, keys)), **more)


def call(client: UpstreamClient, upstream: Upstream, body: bytes = b"{}", endpoint: str = "", **headers: str) -> bytes:
    exchange = client.open(upstream, endpoint or next(iter(upstream.kind.apis)), body, headers)
    answer = b""
    try:
        while exchange.receive_head(5) is None:
            pass
        while data := exchange.receive(5):
            answer += data
    finally:
        exchange.close()
    return answer


def only(upstream: FakeUpstream) -> Request:
    (request,) = upstream.requests
    return request


# Heads.


@pytest.mark.parametrize(
    ("kind", "keys", "expected", "absent"),
    [
        (OPENAI, ("k1",), {"authorization": "Bearer k1"}, "x-api-key"),
        (ANTHROPIC, ("k1",), {"x-api-key": "k1", "anthropic-version": "2023-06-01"}, "authorization"),
        (OLLAMA, (), {}, "authorization"),
        (OPENAI, (), {}, "authorization"),
    ],
    ids=["openai", "anthropic", "a local server", "no key"],
)
def test_a_request_has_the_headers_of_its_kind(
    client: UpstreamClient, upstream: FakeUpstream, kind: Any, keys: tuple[str, ...], expected: dict[str, str], absent: str
) -> None:
    call(client, at(upstream.url, kind, keys))
    headers = only(upstream).headers
    common = {
        "host": f"127.0.0.1:{upstream.port}",
        "user-agent": f"openai-compat/{__version__}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "x-compat-hops": "1",
        "content-length": "2",
    }
    assert headers == {**common, **expected}
    assert absent not in headers


@pytest.mark.parametrize(
    ("own", "sent", "expected"),
    [
        ({}, "2023-06-01", "2023-06-01"),
        ({}, "2026-10-21", "2026-10-21"),
        ({"Anthropic-Version": "2099-01-01"}, "2026-10-21", "2099-01-01"),
    ],
)
def test_what_all_requests_of_a_kind_have_is_sent_once_and_the_calls_own_goes_before_it(
    client: UpstreamClient, upstream: FakeUpstream, own: dict[str, str], sent: str, expected: str
) -> None:
    call(client, at(upstream.url, ANTHROPIC, headers=own), **{"anthropic-version": sent, "anthropic-beta": "a,b"})
    head = only(upstream)
    assert head.headers["anthropic-version"] == expected
    assert head.headers["anthropic-beta"] == "a,b"


@pytest.mark.parametrize(
    ("kind", "base", "endpoint", "path"),
    [
        (OPENAI, "/v1", "openai.chat", "/v1/chat/completions"),
        (OPENAI, "/v1/", "openai.chat", "/v1/chat/completions"),
        (OPENAI, "", "openai.chat", "/chat/completions"),
        (OPENAI, "/", "openai.chat", "/chat/completions"),
        (OPENAI, "/deep/er/v1", "embeddings", "/deep/er/v1/embeddings"),
        (ANTHROPIC, "", "anthropic.messages", "/v1/messages"),
        (OPENAI, "/a b/é/%20/v1", "openai.chat", "/a%20b/%C3%A9/%20/v1/chat/completions"),
    ],
)
def test_a_request_goes_to_its_endpoint_below_the_base_url(
    client: UpstreamClient, upstream: FakeUpstream, kind: Any, base: str, endpoint: str, path: str
) -> None:
    call(client, at(f"http://127.0.0.1:{upstream.port}{base}", kind), endpoint=endpoint)
    assert (only(upstream).method, only(upstream).path) == ("POST", path)


@pytest.mark.parametrize(
    ("kind", "own", "expected"),
    [
        (OPENAI, {"Authorization": "Basic abc"}, {"authorization": "Basic abc"}),
        (ANTHROPIC, {"Anthropic-Version": "2099-01-01"}, {"anthropic-version": "2099-01-01", "x-api-key": "k1"}),
        (ANTHROPIC, {"X-Api-Key": "mine"}, {"x-api-key": "mine"}),
        (OPENAI, {"User-Agent": "mine/1"}, {"user-agent": "mine/1"}),
        (OPENAI, {"HOST": "virtual.test"}, {"host": "virtual.test"}),
        (OPENAI, {"OpenAI-Organization": "org-1"}, {"openai-organization": "org-1", "authorization": "Bearer k1"}),
    ],
    ids=["authorization", "a header of the kind", "the key's header", "user agent", "host", "one more"],
)
def test_the_users_own_headers_win(
    client: UpstreamClient, upstream: FakeUpstream, kind: Any, own: dict[str, str], expected: dict[str, str]
) -> None:
    configured = at(upstream.url, kind, ("k1",), headers=own)
    call(client, configured)
    assert expected.items() <= only(upstream).headers.items()
    assert {name: value for name, value in expected.items() if name != "host"}.items() <= request_headers(
        configured, configured.keys[0]
    ).items()


class RecordingPool:
    """Keeps what it was made with and what it was asked to send."""

    def __init__(self, origin: Origin, **options: Any) -> None:
        self.origin, self.options = origin, options
        self.sent: list[bytes] = []

    def open(self, message: bytes) -> Exchange:
        self.sent.append(message)
        raise UpstreamUnreachable("only recorded")


def recorded(upstream: Upstream, body: bytes = b"{}", **headers: str) -> RecordingPool:
    pools: list[RecordingPool] = []

    def make_pool(origin: Origin, **options: Any) -> Any:
        pools.append(RecordingPool(origin, **options))
        return pools[-1]

    with pytest.raises(UpstreamUnreachable, match="only recorded"):
        UpstreamClient(make_pool).open(upstream, next(iter(upstream.kind.apis)), body, headers)
    return pools[0]


def test_a_request_is_one_message_and_each_header_is_sent_once() -> None:
    own = {"X-API-KEY": "mine", "Content-Type": "application/json; charset=utf-8"}
    (message,) = recorded(at("http://upstream.test", ANTHROPIC, ("k1",), headers=own), b'{"a": 1}', x_trace="1").sent
    head, _, body = message.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert sorted(names) == sorted(set(names))
    assert body == b'{"a": 1}'


def test_a_compressed_answer_that_the_user_asked_for_is_read(client: UpstreamClient, upstream: FakeUpstream) -> None:
    upstream.script(json_answer(gzip.compress(b'{"n": 2}'), headers=(("content-encoding", "gzip"),)))
    assert call(client, at(upstream.url, headers={"Accept-Encoding": "gzip"})) == b'{"n": 2}'
    assert only(upstream).headers["accept-encoding"] == "gzip"


def test_the_body_is_sent_as_it_is(client: UpstreamClient, upstream: FakeUpstream) -> None:
    body = json.dumps({"text": "é漢😀\r\n\r\n" * 50_000}, ensure_ascii=False).encode()
    call(client, at(upstream.url), body, x_trace="1")
    assert only(upstream).body == body
    assert only(upstream).headers["x_trace"] == "1"


@pytest.mark.parametrize("name", ["anthropic-beta", "Anthropic-Beta"])
def test_a_header_of_the_call_joins_the_configured_one(client: UpstreamClient, upstream: FakeUpstream, name: str) -> None:
    configured = at(upstream.url, ANTHROPIC, ("k1",), headers={name: "ours", "x-team": "blue"})
    exchange = client.open(configured, "anthropic.messages", b"{}", {"anthropic-beta": "theirs", "x-trace": "1"})
    while exchange.receive_head(5) is None:
        pass
    exchange.close()
    call(client, configured)
    joined, plain = (request.headers for request in upstream.requests)
    assert (joined["anthropic-beta"], plain["anthropic-beta"]) == ("ours,theirs", "ours")
    assert (joined["x-team"], joined["x-trace"], joined["x-api-key"]) == ("blue", "1", "k1")


def test_the_headers_of_one_call_are_not_those_of_the_next(client: UpstreamClient, upstream: FakeUpstream) -> None:
    call(client, at(upstream.url), x="1")
    call(client, at(upstream.url))
    assert ["x" in request.headers for request in upstream.requests] == [True, False]


# Keys and connections.


def test_several_keys_are_shared_out_in_turn(client: UpstreamClient, upstream: FakeUpstream) -> None:
    configured = at(upstream.url, keys=("k1", "k2", "k3"))
    for _ in range(7):
        call(client, configured)
    assert [request.headers["authorization"][-2:] for request in upstream.requests] == ["k1", "k2", "k3", "k1", "k2", "k3", "k1"]


def test_a_call_under_a_key_of_its_own_does_not_take_a_turn(client: UpstreamClient, upstream: FakeUpstream) -> None:
    configured = at(upstream.url, keys=("k1", "k2"))
    for key in (None, Secret("k2"), Secret("k9"), None, Secret("k1"), None):
        exchange = client.open(configured, "openai.chat", b"{}", {}, key)
        while exchange.receive_head(5) is None:
            pass
        while exchange.receive(5) != b"":
            pass
        exchange.close()
    assert [request.headers["authorization"][-2:] for request in upstream.requests] == ["k1", "k2", "k9", "k2", "k1", "k1"]
    assert upstream.connections == 3


def test_each_upstream_has_its_own_turn(client: UpstreamClient, upstream: FakeUpstream) -> None:
    first, second = (at(upstream.url, keys=("k1", "k2"), name=name) for name in ("first", "second"))
    for configured in (first, second, first, second):
        call(client, configured)
    assert [request.headers["authorization"][-2:] for request in upstream.requests] == ["k1", "k1", "k2", "k2"]


def test_two_keys_never_share_a_connection(client: UpstreamClient, upstream: FakeUpstream) -> None:
    configured = at(upstream.url, keys=("k1", "k2"))
    for _ in range(10):
        call(client, configured)
    used = {(request.connection, request.headers["authorization"]) for request in upstream.requests}
    assert used == {(1, "Bearer k1"), (2, "Bearer k2")}


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_200_calls_in_a_row_open_one_connection(client: UpstreamClient, upstream: FakeUpstream, framing: str) -> None:
    upstream.script(json_answer({"n": 1}, framing=framing))
    configured = at(upstream.url, keys=("k1",))
    assert {call(client, configured) for _ in range(200)} == {b'{"n": 1}'}
    assert (upstream.connections, client.connections_opened, len(upstream.requests)) == (1, 1, 200)


def test_an_upstream_that_moved_is_called_where_it_is_now(client: UpstreamClient, upstream: FakeUpstream) -> None:
    call(client, at(upstream.url))
    with FakeUpstream(default=Answer((b"moved",))) as elsewhere:
        assert call(client, at(elsewhere.url)) == b"moved"


def test_what_an_engine_left_behind_with_each_start_is_closed(client: UpstreamClient) -> None:
    for number in range(5):
        with FakeUpstream(default=json_answer({"n": number})) as engine:
            call(client, at(engine.url, keys=(f"key {number}",), name="embedded"))
            wait_until(lambda engine=engine: engine.open_connections == 1)
    assert len(client._lanes) == 1
    assert client.connections_opened == 5


def test_the_longest_unused_connections_are_let_go(client: UpstreamClient, upstream: FakeUpstream) -> None:
    busy = at(upstream.url, name="busy")
    call(client, busy)
    for number in range(MAX_LANES + 5):
        call(client, at(upstream.url, keys=(f"key {number}",)))
        if number % 100 == 0:
            call(client, busy)
    assert len(client._lanes) == MAX_LANES
    wait_until(lambda: upstream.open_connections == MAX_LANES)
    call(client, busy)
    assert client.connections_opened == upstream.connections == MAX_LANES + 6


def test_an_answer_that_runs_outlives_what_replaced_its_upstream(client: UpstreamClient, upstream: FakeUpstream) -> None:
    exchange = client.open(at(upstream.url), "openai.chat", b"{}", {})
    with FakeUpstream(default=json_answer({"n": 2})) as elsewhere:
        call(client, at(elsewhere.url))
    while (head := exchange.receive_head(5)) is None:
        pass
    assert head.status == 200
    exchange.close()
    wait_until(lambda: upstream.open_connections == 0)


def test_tls_is_checked_against_the_upstreams_own_authority(client: UpstreamClient, authority: Authority) -> None:
    with FakeUpstream(default=json_answer({"n": 1}), tls=authority.server) as upstream:
        assert call(client, at(upstream.url, keys=("k1",), ca_file=authority.ca_file)) == b'{"n": 1}'
        with pytest.raises(UpstreamUnreachable, match="not trusted"):
            call(client, at(upstream.url, keys=("k1",), name="without"))
    assert len(upstream.requests) == 1


def test_the_upstreams_own_time_to_connect_and_authority_count() -> None:
    pool = recorded(at("https://upstream.test:8443/v1", timeouts=TimeoutSettings(connect_s=0.25), ca_file="a.pem"))
    assert pool.origin == Origin("https", "upstream.test", 8443)
    assert pool.options == {"connect_s": 0.25, "ca_file": "a.pem"}


def test_a_plain_proxy_gets_the_whole_url_and_its_own_credentials(
    client: UpstreamClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:pass@127.0.0.1:{upstream.port}")
    call(client, at("http://upstream.test:8080/v1", keys=("k1",)))
    request = only(upstream)
    assert request.path == "http://upstream.test:8080/v1/chat/completions"
    assert request.headers["host"] == "upstream.test:8080"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert request.headers["authorization"] == "Bearer k1"


# Secrets.


def test_a_secret_is_shown_by_reveal_only() -> None:
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{[secret]}"):
        assert CANARY not in text


def test_secrets_that_are_alike_are_equal() -> None:
    assert {Secret("a"), Secret("a"), Secret("b")} == {Secret("b"), Secret("a")}


def test_an_upstream_can_be_shown() -> None:
    text = repr(at("https://api.example.test", keys=(CANARY,), headers={"authorization": CANARY}))
    assert "api.example.test" in text
    assert CANARY not in text


def test_nothing_that_the_client_keeps_shows_a_key(client: UpstreamClient, upstream: FakeUpstream) -> None:
    call(client, at(upstream.url, keys=(CANARY,)))
    assert CANARY not in repr(vars(client))


def test_no_error_holds_a_key(client: UpstreamClient) -> None:
    configured = at(f"http://127.0.0.1:{unused_port()}/v1", keys=(CANARY,))
    with pytest.raises(UpstreamUnreachable) as caught:
        call(client, configured)
    errors: list[BaseException | None] = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not any(CANARY in repr(error) for error in errors)


@pytest.mark.parametrize(
    ("base_url", "are_known"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://api.openai.com:8443/v1", True),
        ("https://notapi.openai.com.example/v1", False),
        ("http://127.0.0.1:8000/v1", False),
    ],
)
def test_what_a_service_refuses_is_known_at_its_own_address_only(base_url: str, are_known: bool) -> None:
    """DeepSeek, Kimi, GLM and Qwen behind the kind `openai` need the reasoning of the history back."""
    unwanted = at(base_url).unwanted_fields
    assert unwanted == (OPENAI.unwanted_fields if are_known else frozenset())
    assert "reasoning_content" in OPENAI.unwanted_fields
