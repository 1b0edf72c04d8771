"""Where a base URL leads: its origin, and the proxy that the environment names for it."""

from __future__ import annotations

import base64

import pytest

from compat.upstream.pool import Origin, origin_of, proxy_headers, request_target


@pytest.mark.parametrize(
    ("url", "origin", "netloc"),
    [
        ("https://api.example.test/v1", Origin("https", "api.example.test", 443), "api.example.test"),
        ("http://api.example.test", Origin("http", "api.example.test", 80), "api.example.test"),
        ("https://api.example.test:443/", Origin("https", "api.example.test", 443), "api.example.test"),
        ("http://api.example.test:443", Origin("http", "api.example.test", 443), "api.example.test:443"),
        ("http://API.Example.test:8080/a/b?c", Origin("http", "api.example.test", 8080), "api.example.test:8080"),
        ("http://[::1]:11434/v1", Origin("http", "::1", 11434), "[::1]:11434"),
        ("https://[2001:db8::1]", Origin("https", "2001:db8::1", 443), "[2001:db8::1]"),
        ("https://user:word@host.test/", Origin("https", "host.test", 443), "host.test"),
        ("https://bücher.test/v1", Origin("https", "xn--bcher-kva.test", 443), "xn--bcher-kva.test"),
    ],
)
def test_a_base_url_has_an_origin(url: str, origin: Origin, netloc: str) -> None:
    assert origin_of(url) == origin
    assert origin.netloc == netloc


@pytest.mark.parametrize(
    "url",
    ["", "api.example.test", "ftp://x", "http://", "http://:80", "https:///v1", "http://x:eighty", "http://[::1", "http://é..b"],
)
def test_what_is_no_http_url_has_none(url: str) -> None:
    with pytest.raises(ValueError):
        origin_of(url)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://upstream.test", ""),
        ({"HTTPS_PROXY": "http://proxy.test:3128"}, "https://upstream.test", "http://proxy.test:3128"),
        ({"https_proxy": "http://proxy.test:3128"}, "https://upstream.test", "http://proxy.test:3128"),
        ({"HTTPS_PROXY": "http://proxy.test:3128"}, "http://upstream.test", ""),
        ({"HTTP_PROXY": "http://proxy.test:3128"}, "http://upstream.test", "http://proxy.test:3128"),
        ({"HTTP_PROXY": "http://proxy.test:3128"}, "https://upstream.test", ""),
        ({"HTTP_PROXY": "http://proxy.test:3128", "NO_PROXY": "other.test,upstream.test"}, "http://upstream.test", ""),
        ({"HTTP_PROXY": "http://proxy.test:3128", "NO_PROXY": ".test"}, "http://upstream.test:8080/v1", ""),
        ({"HTTP_PROXY": "http://proxy.test:3128", "NO_PROXY": "127.0.0.1"}, "http://127.0.0.1:11434/v1", ""),
        ({"HTTP_PROXY": "http://proxy.test:3128", "NO_PROXY": "*"}, "http://upstream.test", ""),
        ({"HTTP_PROXY": "http://proxy.test:3128", "NO_PROXY": "other.test"}, "http://upstream.test", "http://proxy.test:3128"),
        ({"HTTP_PROXY": "proxy.test:3128"}, "http://upstream.test", "http://proxy.test:3128"),
        ({"HTTP_PROXY": "//proxy.test:3128"}, "http://upstream.test", "http://proxy.test:3128"),
        ({"HTTP_PROXY": "user:word@10.0.0.1:3128"}, "http://upstream.test", "http://user:word@10.0.0.1:3128"),
        ({"HTTPS_PROXY": " socks5://proxy.test "}, "https://upstream.test", "socks5://proxy.test"),
    ],
)
def test_the_proxy_is_the_environments(environment: dict[str, str], url: str, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert origin_of(url).proxy == proxy


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:40001/v1",
        "http://127.8.9.10:1",
        "http://localhost:11434/v1",
        "http://LOCALHOST.:11434/v1",
        "http://models.localhost",
        "http://[::1]:8080/v1",
        "http://[::ffff:127.0.0.1]:8080/v1",
        "http://0.0.0.0:11434",
        "https://localhost",
    ],
)
def test_this_machine_is_never_sought_through_a_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    assert origin_of(url).proxy == ""


@pytest.mark.parametrize("url", ["http://localhost.test", "http://127.0.0.1.test", "http://10.0.0.1", "http://[2001:db8::1]"])
def test_other_machines_are(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    assert origin_of(url).proxy == "http://proxy.test:3128"


PLAIN = Origin("http", "upstream.test", 8080)
PROXIED = Origin("http", "upstream.test", 8080, "http://proxy.test:3128")
TUNNELLED = Origin("https", "upstream.test", 443, "http://proxy.test:3128")
WITH_NAME = "http://us%40er:pass%3Aword@proxy.test:3128"
BASIC = "Basic " + base64.b64encode(b"us@er:pass:word").decode()


@pytest.mark.parametrize(
    ("origin", "target", "headers"),
    [
        (PLAIN, "/v1/x", {}),
        (PROXIED, "http://upstream.test:8080/v1/x", {}),
        (TUNNELLED, "/v1/x", {}),
        (Origin("http", "upstream.test", 80, WITH_NAME), "http://upstream.test/v1/x", {"proxy-authorization": BASIC}),
        (Origin("https", "upstream.test", 443, WITH_NAME), "/v1/x", {}),
    ],
)
def test_a_plain_proxy_is_told_where_to_go_and_a_tunnel_is_not(origin: Origin, target: str, headers: dict[str, str]) -> None:
    assert request_target(origin, "/v1/x") == target
    assert proxy_headers(origin) == headers
