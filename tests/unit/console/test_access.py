"""The guard of the console: promises 2, 3, 9 and 15 for every page and feed, as the table of URLs has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from compat.accounting.keys import new_key
from compat.calls.gateway import Gateway
from compat.console.access import COOKIE, SESSION_S
from compat.console.sign_in import own_path
from compat.factory import create_app
from compat.routing.doctor import Diagnosis, Finding
from tests.unit.builders import KEY, StillClock, make_gateway

ADA, ADA_HASH = new_key()
BOB, BOB_HASH = new_key()
SETTINGS = {
    "upstreams": {"upstream-canary": {"kind": "openai", "base_url": "http://up.example/v1", "api_keys": [KEY]}},
    "models": {"model-canary": {"route": ["upstream-canary/theirs"]}},
    "keys": {"ada": {"hash": ADA_HASH, "console": True}, "key-canary": {"hash": BOB_HASH}},
}
PUBLIC = {
    "/api/hello": "what agents ask",
    "/api/event_logging/batch": "what agents ask",
    "/healthz": "the state in a word",
    "/readyz": "the state in a word",
    "/openapi.json": "the same for everybody",
    "/static/<path:filename>": "the same for everybody",
    "/sign-in": "the way in",
    "/sign-out": "the way out",
}
"""URLs that answer without a key, and why; all others must not."""


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path, SETTINGS)


def rules_of(gateway: Gateway) -> Iterator[tuple[str, str, str]]:
    """Endpoint, method and path of every URL, with something in the place of each variable."""
    for rule in create_app(gateway)._app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            yield str(rule.rule), method, re.sub(r"<[^>]*>", "1", str(rule.rule))


def console_rules(gateway: Gateway) -> list[tuple[str, str]]:
    rules = create_app(gateway)._app.url_map.iter_rules()
    return [
        (method, re.sub(r"<[^>]*>", "1", str(rule.rule)))
        for rule in rules
        if rule.endpoint.startswith("console.") and str(rule.rule) not in PUBLIC
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})
    ]


def signed_in(gateway: Gateway, key: str = ADA, **environ: Any) -> Client:
    client = Client(create_app(gateway))
    assert client.post("/sign-in", data={"key": key}, environ_overrides=environ).status_code == 303
    return client


def test_promise_19_every_url_that_is_not_public_refuses_whoever_has_no_key(gateway: Gateway) -> None:
    app = create_app(gateway)
    for rule, method, path in rules_of(gateway):
        for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"x-api-key": "sk-wrong"}, {"cookie": f"{COOKIE}=wrong"}):
            answer = Client(app).open(path, method=method, headers={**headers, "content-type": "application/json"})
            assert "canary" not in answer.text, (method, path)
            if rule not in PUBLIC:
                assert answer.status_code in {401, 426}, (method, path, answer.status)


def test_the_console_has_pages_and_feeds(gateway: Gateway) -> None:
    rules = console_rules(gateway)
    assert {("GET", "/"), ("GET", "/calls"), ("GET", "/calls.csv"), ("POST", "/try"), ("GET", "/setup/1")} <= set(rules)
    assert [rule for rule in rules if rule[0] not in {"GET", "HEAD"}] == [("POST", "/try")], "promise 9: nothing is changed from here"


def test_promise_2_and_3_hold_for_each_of_them(gateway: Gateway) -> None:
    client = signed_in(gateway)
    for method, path in console_rules(gateway):
        elsewhere = client.open(path, method=method, headers={"host": "rebound.example"})
        assert elsewhere.status_code == 421, path
        for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            answer = client.open(path, method=method, headers=headers)
            assert answer.status_code == 403, (path, headers)
            assert "access-control-allow-origin" not in answer.headers
            assert "canary" not in answer.text


def test_whoever_signs_in_sees_every_page(gateway: Gateway) -> None:
    client = signed_in(gateway)
    for method, path in console_rules(gateway):
        if method == "GET":
            assert client.get(path).status_code in {200, 404}, path
    assert "upstream-canary" in client.get("/").text
    assert "model-canary" in client.get("/catalog").text
    assert "key-canary" in client.get("/keys").text


def test_an_ordinary_key_sees_its_own_calls_and_nobody_elses(gateway: Gateway) -> None:
    client = signed_in(gateway, BOB)
    assert "upstream-canary" not in client.get("/").text
    keys = client.get("/keys").text
    assert "key-canary" in keys
    assert "ada" not in keys
    assert 'name="key"' not in client.get("/calls").text


@pytest.mark.parametrize("is_group", [True, False], ids=["models of the group", "models of the key"])
def test_no_page_names_a_model_that_the_visitors_key_may_not_call(tmp_path: Path, *, is_group: bool) -> None:
    terms = {"group": "team"} if is_group else {"models": ["open-*"]}
    settings: dict[str, Any] = {
        "upstreams": {"up": {"kind": "openai", "base_url": "http://up.example/v1", "api_keys": [KEY]}},
        "models": {name: {"route": ["up/theirs"]} for name in ("open-one", "shut-canary")},
        "keys": {"ada": {"hash": ADA_HASH, "console": True}, "bob": {"hash": BOB_HASH, **terms}},
        "groups": {"team": {"models": ["open-*"]}},
    }
    gateway = make_gateway(tmp_path, settings)
    gateway.doctor.diagnosis = Diagnosis((Finding("warning", "retires", "shut-canary", "theirs", "'shut-canary' retires."),))
    bob, ada = signed_in(gateway, BOB), signed_in(gateway)
    paths = [path for method, path in console_rules(gateway) if method == "GET" and path != "/live/events"]  # which has no end
    paths += ["/setup/kilo.jsonc", "/setup/zed-settings.json"]
    assert [path for path in paths if "shut-canary" in bob.get(path).text] == []
    assert [path for path in paths if "gpt-" in bob.get(path).text] == [], "names of the catalog are no exception"
    for path in ("/setup", "/setup/kilo.jsonc", "/catalog", "/try"):
        assert "open-one" in bob.get(path).text, path
        assert "shut-canary" in ada.get(path).text, path


def test_a_key_may_be_sent_as_for_a_call(gateway: Gateway) -> None:
    client = Client(create_app(gateway))
    assert "upstream-canary" in client.get("/", headers={"authorization": f"Bearer {ADA}"}).text
    assert client.get("/calls.json", headers={"x-api-key": BOB}).status_code == 200


def test_the_cookie_is_out_of_reach_and_ends(gateway: Gateway) -> None:
    answer = Client(create_app(gateway)).post("/sign-in", data={"key": ADA, "after": "/calls?outcome=error"})
    cookie = answer.headers["set-cookie"]
    assert answer.headers["location"] == "/calls?outcome=error"
    assert {"HttpOnly", "SameSite=Strict", f"Max-Age={SESSION_S}", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert ADA not in cookie
    for headers, scheme in (({"x-forwarded-proto": "https"}, "http"), ({}, "https")):
        answer = Client(create_app(gateway)).post("/sign-in", data={"key": ADA}, headers=headers, base_url=f"{scheme}://localhost")
        assert "Secure" in answer.headers["set-cookie"].split("; ")


def test_a_sign_in_ends_by_itself(gateway: Gateway) -> None:
    client, clock = signed_in(gateway), gateway.clock
    assert isinstance(clock, StillClock)
    clock.now_s += SESSION_S - 1
    assert client.get("/calls").status_code == 200
    clock.now_s += 1
    assert client.get("/calls").status_code == 401


def test_a_cookie_that_somebody_changed_is_worth_nothing(gateway: Gateway) -> None:
    client = signed_in(gateway)
    cookie = client.get_cookie(COOKIE)
    assert cookie is not None
    for value in (cookie.value[:-1], cookie.value + "x", "." + cookie.value, "", "e30.x"):
        client.set_cookie(COOKIE, value)
        assert client.get("/calls").status_code == 401


def test_signing_out_takes_the_cookie_away(gateway: Gateway) -> None:
    client = signed_in(gateway)
    assert client.post("/sign-out").headers["location"] == "/"
    assert client.get("/calls").status_code == 401


def test_promise_19_sign_ins_end_with_their_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compat.cli import main

    monkeypatch.delenv("OPENAI_COMPAT_KEYS", raising=False)
    assert main(["keys", "add", "ada", "--console"], tmp_path) == 0
    key = re.search(r"sk-compat-\S+", capsys.readouterr().out)
    assert key is not None
    first, second = make_gateway(tmp_path), make_gateway(tmp_path)
    client = signed_in(first, key[0])
    cookie = client.get_cookie(COOKIE)
    assert cookie is not None
    other = Client(create_app(second))
    other.set_cookie(COOKIE, cookie.value)
    assert (client.get("/keys").status_code, other.get("/keys").status_code) == (200, 200)
    assert main(["keys", "revoke", "ada"], tmp_path) == 0
    for gateway in (first, second):
        assert isinstance(gateway.clock, StillClock)
        gateway.clock.monotonic_s += 2
    assert (client.get("/keys").status_code, other.get("/keys").status_code) == (401, 401)


def test_wrong_keys_are_bounded_in_number_for_each_address(gateway: Gateway) -> None:
    client = Client(create_app(gateway))
    statuses = [client.post("/sign-in", data={"key": "sk-wrong"}).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    refused = client.post("/sign-in", data={"key": ADA})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert client.post("/sign-in", data={"key": ADA}, environ_overrides={"REMOTE_ADDR": "127.0.0.2"}).status_code == 303


def test_the_form_leads_back_to_the_page_that_was_wanted(gateway: Gateway) -> None:
    answer = Client(create_app(gateway)).get("/calls?outcome=error")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="openai-compat"')
    assert 'name="after" value="/calls?outcome=error"' in answer.text


@pytest.mark.parametrize(
    ("wanted", "after"),
    [
        ("/calls", "/calls"),
        ("/calls?model=a&b=//c", "/calls?model=a&b=//c"),
        ("//evil.example", "/"),
        ("https://evil.example/calls", "/"),
        ("/\\evil.example", "/"),
        ("/calls.csv", "/"),
        ("", "/"),
    ],
)
def test_signing_in_leads_to_our_own_pages_only(wanted: str, after: str) -> None:
    assert own_path({"/", "/calls"}, wanted) == after


def test_without_client_keys_the_console_is_open_on_this_machine_only(tmp_path: Path) -> None:
    client = Client(create_app(make_gateway(tmp_path)))
    assert client.get("/calls").status_code == 200
    assert client.get("/calls", environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 403
    assert client.get("/calls", headers={"x-forwarded-for": "192.0.2.7"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("gw.example", "https://gw.example", 303),
        ("gw.example", "http://gw.example", 303),
        ("gw.example", "https://evil.example", 403),
        ("gw.example", "https://gw.example.evil", 403),
        ("localhost", "https://localhost", 403),
    ],
)
def test_a_page_of_this_gateway_behind_a_proxy_with_tls_is_its_own(tmp_path: Path, host: str, origin: str, status: int) -> None:
    client = Client(create_app(make_gateway(tmp_path, {**SETTINGS, "server": {"allowed_hosts": ["gw.example"]}})))
    headers = {"host": host, "origin": origin, "x-forwarded-proto": "https"}
    assert client.post("/sign-in", data={"key": ADA}, headers=headers).status_code == status
