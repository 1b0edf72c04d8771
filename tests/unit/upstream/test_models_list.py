"""The model list of an upstream: what is read from every shape of it, and which error comes of every fault."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.errors import (
    GatewayError,
    UpstreamBroken,
    UpstreamFailure,
    UpstreamKeyRefused,
    UpstreamOverloaded,
    UpstreamRateLimit,
    UpstreamRefusal,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from compat.upstream.client import Secret, Upstream, UpstreamClient
from compat.upstream.kinds import UPSTREAM_KINDS
from compat.upstream.models_list import list_models
from tests.fakes.authority import Authority
from tests.fakes.openai_answers import error_answer, json_answer
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Reset, Stall
from tests.unit.upstream.proxy import serving, unused_port

CANARY = "sk-canary-0123456789"
LIST = {"object": "list", "data": [{"id": "a"}, {"id": "b"}]}


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=json_answer(LIST)) as running:
        yield running


def at(base_url: str, kind: str = "openai", **more: Any) -> Upstream:
    return Upstream("fake", UPSTREAM_KINDS[kind], base_url, (Secret(CANARY), Secret("second")), **more)


@pytest.mark.parametrize(
    ("document", "ids"),
    [
        (LIST, ["a", "b"]),
        ({"data": []}, []),
        ({"models": [{"name": "a"}, {"name": "b:latest"}]}, ["a", "b:latest"]),
        ([{"id": "a"}], ["a"]),
        ({"data": [{"id": "models/gemini-2.5-pro"}]}, ["gemini-2.5-pro"]),
        ({"data": [{"id": "a"}, {}, {"id": None}, {"id": 5}, {"id": ""}, "b", None, {"id": "c\n"}, {"id": "d", "name": "e"}]}, ["a", "d"]),
        ({"data": [{"id": "漢字"}]}, ["漢字"]),
    ],
    ids=["openai", "empty", "models and names", "a bare list", "gemini", "odd rows", "beyond ASCII"],
)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_the_ids_of_a_list_are_read(upstream: FakeUpstream, document: Any, ids: list[str], framing: str) -> None:
    upstream.script(json_answer(document, framing=framing))
    assert list(list_models(at(upstream.url), 5).ids) == ids


def test_a_compressed_list_is_read(upstream: FakeUpstream) -> None:
    upstream.script(json_answer(gzip.compress(json.dumps(LIST).encode()), headers=(("content-encoding", "gzip"),)))
    assert list(list_models(at(upstream.url), 5).ids) == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "path", "headers"),
    [
        ("openai", "/v1/models", {"authorization": f"Bearer {CANARY}"}),
        ("anthropic", "/v1/v1/models?limit=1000", {"x-api-key": CANARY, "anthropic-version": "2023-06-01"}),
    ],
)
def test_a_list_is_asked_for_in_the_kinds_way(upstream: FakeUpstream, kind: str, path: str, headers: dict[str, str]) -> None:
    list_models(at(upstream.url, kind, headers={"X-Own": "1", "User-Agent": "mine/1"}), 5)
    (request,) = upstream.requests
    assert (request.method, request.path) == ("GET", path)
    assert {**headers, "x-own": "1", "user-agent": "mine/1"}.items() <= request.headers.items()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (error_answer(401, "wrong key"), UpstreamKeyRefused),
        (error_answer(403, "not for you"), UpstreamKeyRefused),
        (error_answer(404, "no such page"), UpstreamRefusal),
        (error_answer(429, "slow down"), UpstreamRateLimit),
        (error_answer(500, "oh no"), UpstreamFailure),
        (error_answer(529, "too much"), UpstreamOverloaded),
        (Answer((b"<html>Bad gateway</html>",), 502, (("content-type", "text/html"),)), UpstreamFailure),
        (Answer((b"<html>Welcome</html>",), 200, (("content-type", "text/html"),)), UpstreamBroken),
        (Answer((b'{"data": [',), 200), UpstreamBroken),
        (Answer((b'{"data": "\xff"}',), 200), UpstreamBroken),
        (Answer((b"[" * 100_000,), 200), UpstreamBroken),
        (Answer((b"",), 200), UpstreamBroken),
        (json_answer({"data": {"a": 1}}), UpstreamBroken),
        (json_answer({"error": "none"}), UpstreamBroken),
        (json_answer("text"), UpstreamBroken),
        (json_answer(None), UpstreamBroken),
        (Answer((b" " * (16 * 1024 * 1024 + 1),), 200), UpstreamBroken),
        (Answer(raw=(b"garbage\r\n\r\n",), keeps_alive=False), UpstreamBroken),
        (Answer(raw=(Cut(),)), UpstreamUnreachable),
        (Answer(raw=(Reset(),)), UpstreamUnreachable),
        (Answer(before_head=(Stall(),)), UpstreamTimeout),
    ],
)
def test_a_fault_is_an_error_of_the_tree(upstream: FakeUpstream, answer: Answer, error: type[GatewayError]) -> None:
    upstream.script(answer)
    with pytest.raises(GatewayError) as caught:
        list_models(at(upstream.url), 0.3 if error is UpstreamTimeout else 5)
    assert type(caught.value) is error
    assert "fake" in caught.value.message
    assert CANARY not in caught.value.message


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(raw=(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", Cut())), (UpstreamUnreachable, UpstreamBroken)),
        (Answer((b"{", Cut()), 200), (UpstreamUnreachable, UpstreamBroken)),
        (Answer((b"{", Reset()), 200), (UpstreamUnreachable, UpstreamBroken)),
        (Answer((b"{", Stall()), 200), (UpstreamTimeout,)),
        (json_answer(b"no gzip", headers=(("content-encoding", "gzip"),)), (UpstreamUnreachable, UpstreamBroken)),
    ],
    ids=["cut short of its length", "cut between chunks", "reset", "silence", "damaged gzip"],
)
def test_a_list_that_breaks_off_is_an_error_of_the_tree(
    upstream: FakeUpstream, answer: Answer, error: tuple[type[GatewayError], ...]
) -> None:
    upstream.script(answer)
    with pytest.raises(error):
        list_models(at(upstream.url), 0.3 if error == (UpstreamTimeout,) else 5)


def test_a_redirect_is_not_followed_with_the_key(upstream: FakeUpstream) -> None:
    with FakeUpstream(default=json_answer(LIST)) as elsewhere:
        upstream.script(Answer((), 302, (("location", f"{elsewhere.url}/models"),)))
        with pytest.raises(GatewayError):
            list_models(at(upstream.url), 5)
    assert not elsewhere.requests


@pytest.mark.parametrize("host", ["127.0.0.1", "[fe80::1%nosuch]"], ids=["refused", "unknown name"])
def test_an_upstream_that_is_not_there_is_unreachable(host: str) -> None:
    base_url = f"http://{host}:{unused_port()}/v1"
    with pytest.raises(UpstreamUnreachable) as caught:
        list_models(at(base_url), 5)
    assert base_url in caught.value.message
    assert "0x" not in caught.value.message


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test"])
def test_a_name_that_can_not_be_asked_for_is_unreachable(host: str) -> None:
    with pytest.raises(UpstreamUnreachable):
        list_models(at(f"http://{host}/v1"), 5)


def test_tls_is_checked_against_the_upstreams_own_authority(authority: Authority) -> None:
    with FakeUpstream(default=json_answer(LIST), tls=authority.server) as upstream:
        assert list(list_models(at(upstream.url, ca_file=authority.ca_file), 5).ids) == ["a", "b"]
        with pytest.raises(UpstreamUnreachable):
            list_models(at(upstream.url), 5)


def test_the_proxy_is_the_environments(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{upstream.port}")
    assert list(list_models(at("http://upstream.test/v1"), 5).ids) == ["a", "b"]
    assert upstream.requests[0].path == "http://upstream.test/v1/models"


def test_this_machine_is_asked_without_a_proxy(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{unused_port()}")
    assert list(list_models(at(upstream.url), 5).ids) == ["a", "b"]


def test_the_proxy_gets_its_own_credentials(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"user:pass@127.0.0.1:{upstream.port}")
    list_models(at("http://upstream.test/v1"), 5)
    assert upstream.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert upstream.requests[0].headers["authorization"] == f"Bearer {CANARY}"


def test_a_proxy_that_is_not_supported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:word@127.0.0.1:1080")
    with pytest.raises(UpstreamUnreachable, match="HTTPS_PROXY names a proxy of the kind socks5://"):
        list_models(at("https://upstream.test/v1"), 5)


def test_the_users_own_host_is_sent_once() -> None:
    heads: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        heads.append(sock.recv(65536))

    with serving(serve) as port, pytest.raises(UpstreamUnreachable):
        list_models(at(f"http://127.0.0.1:{port}/v1", headers={"HOST": "virtual.test"}), 5)
    names = [line.partition(b":")[0].lower() for line in heads[0].split(b"\r\n")[1:-2]]
    assert sorted(names) == sorted(set(names))
    assert b"host: virtual.test\r\n" in heads[0]


def test_a_list_trusts_whom_a_call_trusts(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with FakeUpstream(default=json_answer(LIST), tls=authority.server) as upstream:
        assert list(list_models(at(upstream.url), 5).ids) == ["a", "b"]
        client = UpstreamClient()
        exchange = client.open(at(upstream.url), "openai.chat", b"{}", {})
        while (head := exchange.receive_head(5)) is None:
            pass
        exchange.close()
        client.close()
    assert head.status == 200


def test_the_key_is_the_configured_one_whatever_netrc_says(upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    list_models(at(upstream.url), 5)
    assert upstream.requests[0].headers["authorization"] == f"Bearer {CANARY}"
