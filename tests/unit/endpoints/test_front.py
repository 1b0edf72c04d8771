"""The front: the path that was meant, the hosts and pages that may use the gateway, the request id."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.config.sections import ServerSettings
from compat.endpoints.front import REQUEST_ID, Front, canonical_path, host_name

CHAT, MODELS = "/v1/chat/completions", "/v1/models"

PATHS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions/", CHAT),
    ("/chat/completions", CHAT),
    ("/chat/completions//", CHAT),
    ("/v1/v1/chat/completions", CHAT),
    ("//v1//chat/completions", CHAT),
    ("/chat/completions/chat/completions", CHAT),
    ("/v1/chat/completions/v1/chat/completions", CHAT),
    ("/api/v1/chat/completions", CHAT),
    ("http://127.0.0.1:28889/v1/chat/completions", CHAT),
    ("/http://127.0.0.1:28889/chat/completions", CHAT),
    ("/v1/models", MODELS),
    ("/models/", MODELS),
    ("/v1/v1/models", MODELS),
    ("http://127.0.0.1:28889/v1/models", MODELS),
    ("/v1/models/gpt-x", "/v1/models/gpt-x"),
    ("/models/gpt-x", "/v1/models/gpt-x"),
    ("/v1/v1/models/gpt-x/", "/v1/models/gpt-x"),
    ("/v1/models/anthropic/claude-x", "/v1/models/anthropic/claude-x"),
    ("http://127.0.0.1:28889/v1/models/gpt-x", "/v1/models/gpt-x"),
    ("/http://127.0.0.1:28889/models/a/b", "/v1/models/a/b"),
    ("/https:/127.0.0.1/v1/v1/models/gpt-x", "/v1/models/gpt-x"),
    ("/http://127.0.0.1:28889/other/models/gpt-x", "/http://127.0.0.1:28889/other/models/gpt-x"),
    ("/v1", "/"),
    ("/v1/", "/"),
    ("/", "/"),
    ("", ""),
    ("/healthz", "/healthz"),
    ("/v1/completions", "/v1/completions"),
    ("/v1/embeddings", "/v1/embeddings"),
    ("/chat/completions/extra", "/chat/completions/extra"),
    ("/v1/chat/completionsx", "/v1/chat/completionsx"),
    ("/other/models/x", "/other/models/x"),
    ("/v1/chat", "/v1/chat"),
]


@pytest.mark.parametrize(("path", "meant"), PATHS, ids=[path or "nothing" for path, _ in PATHS])
def test_a_path_stands_for_the_endpoint_that_was_meant(path: str, meant: str) -> None:
    assert canonical_path(path) == meant
    assert canonical_path(meant) == meant


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("", ""),
        ("localhost", "localhost"),
        ("LocalHost:28889", "localhost"),
        ("localhost.", "localhost"),
        ("localhost.:80", "localhost"),
        (" 127.0.0.1:1 ", "127.0.0.1"),
        ("[::1]:28889", "::1"),
        ("[::1]", "::1"),
        ("example.com:80", "example.com"),
        ("localhost:", "localhost"),
        ("[::1].evil.example", "[::1].evil.example"),
        ("[::1]:evil.example", "[::1]:evil.example"),
        ("127.0.0.1:evil.example", "127.0.0.1:evil.example"),
    ],
)
def test_a_host_has_a_name(host: str, name: str) -> None:
    assert host_name(host) == name


class Answer:
    """What the front answered; `seen` is the environ of the application behind it, if it was asked."""

    def __init__(self, settings: ServerSettings, *, asks_for_keys: bool = False, **environ: str) -> None:
        self.seen: dict[str, Any] = {}
        self.status, self.headers = "", {}
        front = Front(self._app, settings, lambda: "new-id", lambda: asks_for_keys)
        self.body = b"".join(
            front({"REQUEST_METHOD": "POST", "PATH_INFO": "/chat/completions", "wsgi.url_scheme": "http", **environ}, self._start)
        )

    def _app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.seen = environ
        start_response("200 OK", [("content-type", "text/plain")])
        return [b"served"]

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> None:
        assert len(dict(headers)) == len(headers)
        self.status, self.headers = status, dict(headers)

    @property
    def code(self) -> str | None:
        """The code of the refusal, or nothing when the request was served."""
        if self.seen:
            assert self.body == b"served"
            return None
        error = json.loads(self.body)["error"]
        assert self.status == f"{ {'host_not_allowed': 421, 'origin_not_allowed': 403, 'client_not_allowed': 403}[error['code']] } Refused"
        assert self.headers["content-type"] == "application/json"
        assert self.headers["content-length"] == str(len(self.body))
        assert self.headers["connection"] == "close"
        assert not [name for name in self.headers if name.startswith("access-control")]
        return str(error["code"])


LOCAL = ServerSettings()
LISTED = ServerSettings(allowed_hosts=("Gateway.LAN",), allowed_origins=("https://App.example/",))
ANYWHERE = ServerSettings(host="0.0.0.0")
NAMED = ServerSettings(host="192.168.1.5")


@pytest.mark.parametrize(
    ("settings", "host", "is_served"),
    [
        (LOCAL, "127.0.0.1:28889", True),
        (LOCAL, "127.0.0.2", True),
        (LOCAL, "localhost:28889", True),
        (LOCAL, "LOCALHOST.", True),
        (LOCAL, "[::1]:28889", True),
        (LOCAL, "", True),
        (LOCAL, "evil.example", False),
        (LOCAL, "evil.example:28889", False),
        (LOCAL, "localhost.evil.example", False),
        (LOCAL, "evil-localhost", False),
        (LOCAL, "192.168.1.5", False),
        (LOCAL, "0.0.0.0", False),
        (LOCAL, "gateway.lan", False),
        (LOCAL, "127.evil.example", False),
        (LOCAL, "[::1].evil.example", False),
        (LOCAL, "127.0.0.1:evil.example", False),
        (LOCAL, "127.0.0.1.evil.example:28889", False),
        (LISTED, "gateway.lan:28889", True),
        (LISTED, "GATEWAY.lan", True),
        (LISTED, "sub.gateway.lan", False),
        (ANYWHERE, "192.168.1.5:28889", True),
        (ANYWHERE, "[2001:db8::1]:28889", True),
        (ANYWHERE, "0.0.0.0:28889", True),
        (ANYWHERE, "evil.example", False),
        (NAMED, "192.168.1.5:28889", True),
        (NAMED, "192.168.1.6:28889", False),
    ],
)
def test_only_hosts_that_are_served_here_are_answered(settings: ServerSettings, host: str, is_served: bool) -> None:
    answer = Answer(settings, **({"HTTP_HOST": host} if host else {}))
    assert answer.code == (None if is_served else "host_not_allowed")


@pytest.mark.parametrize(
    ("address", "is_of_this_machine"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("", True),
        ("192.168.1.5", False),
        ("::ffff:192.168.1.5", False),
        ("fe80::1%eth0", False),
        ("10.0.0.1", False),
        ("nonsense", False),
    ],
)
@pytest.mark.parametrize("asks_for_keys", [False, True], ids=["without keys", "with keys"])
def test_without_client_keys_only_clients_of_this_machine_are_answered(address: str, is_of_this_machine: bool, asks_for_keys: bool) -> None:
    """Promise 1, whatever address a server of somebody else's listens on; a forged `Host` is no way in."""
    for host in ("127.0.0.1:28889", "localhost", ""):
        answer = Answer(LOCAL, asks_for_keys=asks_for_keys, REMOTE_ADDR=address, HTTP_HOST=host)
        assert answer.code == (None if is_of_this_machine or asks_for_keys else "client_not_allowed")


@pytest.mark.parametrize(
    "field", ["FORWARDED", "VIA", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "X_REAL_IP", "CF_CONNECTING_IP"]
)
@pytest.mark.parametrize("value", ["127.0.0.1", "192.0.2.7", ""])
@pytest.mark.parametrize("asks_for_keys", [False, True], ids=["without keys", "with keys"])
def test_what_came_through_a_proxy_is_answered_only_with_client_keys(field: str, value: str, asks_for_keys: bool) -> None:
    """Promise 1: behind a proxy every client looks like this machine."""
    answer = Answer(LOCAL, asks_for_keys=asks_for_keys, REMOTE_ADDR="127.0.0.1", **HOST, **{f"HTTP_{field}": value})
    assert answer.code == (None if asks_for_keys else "client_not_allowed")
    assert asks_for_keys or b"keys add" in answer.body


HOST = {"HTTP_HOST": "127.0.0.1:28889"}
NAVIGATION = {
    "REQUEST_METHOD": "GET",
    "HTTP_SEC_FETCH_SITE": "cross-site",
    "HTTP_SEC_FETCH_MODE": "navigate",
    "HTTP_SEC_FETCH_DEST": "document",
}


@pytest.mark.parametrize(
    ("settings", "environ", "is_served"),
    [
        (LOCAL, {}, True),
        (LOCAL, {"HTTP_ORIGIN": "https://evil.example"}, False),
        (LOCAL, {"HTTP_ORIGIN": "null"}, False),
        (LOCAL, {"HTTP_ORIGIN": "http://127.0.0.1:3000"}, False),
        (LOCAL, {"HTTP_ORIGIN": "http://localhost:28889"}, False),
        (LOCAL, {"HTTP_ORIGIN": "http://127.0.0.1:28889"}, True),
        (LOCAL, {"HTTP_ORIGIN": "HTTP://127.0.0.1:28889"}, True),
        (LOCAL, {"HTTP_ORIGIN": "https://127.0.0.1:28889"}, False),
        (LOCAL, {"HTTP_ORIGIN": "https://127.0.0.1:28889", "wsgi.url_scheme": "https"}, True),
        (LOCAL, {"HTTP_ORIGIN": "https://app.example"}, False),
        (LISTED, {"HTTP_ORIGIN": "https://APP.example"}, True),
        (LISTED, {"HTTP_ORIGIN": "https://app.example", "HTTP_SEC_FETCH_SITE": "cross-site"}, True),
        (LISTED, {"HTTP_ORIGIN": "http://app.example"}, False),
        (LISTED, {"HTTP_ORIGIN": "https://app.example.evil.example"}, False),
        (LOCAL, {"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        (LISTED, {"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        (LOCAL, {"HTTP_SEC_FETCH_SITE": "cross-site,same-origin"}, False),
        (LOCAL, {"HTTP_SEC_FETCH_SITE": "same-origin, cross-site"}, False),
        (LOCAL, {"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
        (LOCAL, {"HTTP_SEC_FETCH_SITE": "same-site"}, True),
        (LOCAL, {"HTTP_SEC_FETCH_SITE": "none"}, True),
        (LOCAL, NAVIGATION, True),
        (LOCAL, {**NAVIGATION, "REQUEST_METHOD": "POST"}, False),
        (LOCAL, {**NAVIGATION, "HTTP_SEC_FETCH_MODE": "no-cors"}, False),
        (LOCAL, {**NAVIGATION, "HTTP_SEC_FETCH_DEST": "iframe"}, False),
        (LOCAL, {**NAVIGATION, "HTTP_ORIGIN": "https://evil.example"}, False),
    ],
)
def test_only_pages_of_the_gateways_own_or_listed_ones_are_answered(
    settings: ServerSettings, environ: dict[str, str], is_served: bool
) -> None:
    assert Answer(settings, **{**HOST, **environ}).code == (None if is_served else "origin_not_allowed")


def test_a_refusal_does_not_read_the_body() -> None:
    class Untouched:
        def read(self, *_: int) -> bytes:
            raise AssertionError("the body was read")

    assert Answer(LOCAL, HTTP_HOST="evil.example", **{"wsgi.input": Untouched()}).code == "host_not_allowed"


def test_what_a_refusal_repeats_is_bounded() -> None:
    assert len(Answer(LOCAL, HTTP_HOST="x" * 10_000).body) < 400
    assert len(Answer(LOCAL, **HOST, HTTP_ORIGIN="x" * 10_000).body) < 400


@pytest.mark.parametrize(
    ("sent", "used"),
    [
        ("", "new-id"),
        ("abc-1_2.3:4", "abc-1_2.3:4"),
        ("x" * 128, "x" * 128),
        ("x" * 129, "new-id"),
        ("a b", "new-id"),
        ("a\r\nx-evil: 1", "new-id"),
        ("\xe9", "new-id"),
        ("<b>", "new-id"),
    ],
)
@pytest.mark.parametrize("host", ["localhost", "evil.example"], ids=["served", "refused"])
def test_a_request_id_comes_back_and_is_made_where_none_is_sane(sent: str, used: str, host: str) -> None:
    answer = Answer(LOCAL, HTTP_HOST=host, HTTP_X_REQUEST_ID=sent)
    assert answer.headers["x-request-id"] == used
    assert answer.seen.get(REQUEST_ID, used) == used


def test_the_application_sees_the_path_that_was_meant() -> None:
    assert Answer(LOCAL).seen["PATH_INFO"] == CHAT


def test_an_error_of_the_application_is_passed_on() -> None:
    calls: list[tuple[Any, ...]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("500 X", [], ("type", "error", "traceback"))
        return []

    Front(app, LOCAL, lambda: "new-id")({}, lambda *arguments: calls.append(arguments))
    assert calls == [("500 X", [("x-request-id", "new-id")], ("type", "error", "traceback"))]
