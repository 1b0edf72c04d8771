"""The first pages for people: what they show, and that nothing in them can do harm."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from werkzeug.test import Client

from compat import __version__
from compat.accounting.keys import new_key
from compat.calls.gateway import Gateway
from compat.console.texts import all_texts, page_texts
from compat.engine.presets import PRESETS
from compat.factory import create_app
from compat.routing.discovery import UpstreamState
from compat.setup.clients import Language
from tests.unit.builders import KEY, make_gateway

TEXTS = page_texts("overview")
UPSTREAMS = {"up": {"kind": "openai", "base_url": "http://up.example/v1", "api_keys": [KEY]}}


def page(gateway: Gateway, path: str = "/", **headers: str) -> str:
    answer = Client(create_app(gateway)).get(path, headers=headers)
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    return answer.text


def test_the_models_page_shows_where_each_name_goes(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS, "models": {"claude-4-sonnet": {"route": ["up/theirs"]}}})
    text = page(gateway, "/catalog")
    assert '<code>claude-4-sonnet</code></th><td class="goes">up/theirs</td>' in text
    assert all(f"<code>{name}</code>" in text for name in gateway.catalog.aliases)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/"])
def test_the_overview_is_where_clients_addresses_lead(tmp_path: Path, path: str) -> None:
    text = page(make_gateway(tmp_path, {"upstreams": UPSTREAMS}), path)
    assert TEXTS["en"]["state_ok"] in text
    assert f'<p class="version">{__version__}</p>' in text
    assert TEXTS["en"]["no_upstreams"] not in text


def test_a_call_by_hand_has_the_address_that_the_page_was_asked_at(tmp_path: Path) -> None:
    assert "curl -N http://127.0.0.1:1234/v1/chat/completions" in page(make_gateway(tmp_path), "/setup", host="127.0.0.1:1234")


def test_without_an_upstream_the_page_says_what_answers(tmp_path: Path) -> None:
    assert f"{TEXTS['en']['no_upstreams']} (disabled)" in page(make_gateway(tmp_path))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("auto", ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"]),
        ("small", ["smollm2-135m-instruct"]),
        ("own.gguf", []),
    ],
)
def test_the_page_tells_what_is_fetched_and_how_to_switch_it_off(tmp_path: Path, language: Language, model: str, names: list[str]) -> None:
    text = page(make_gateway(tmp_path, {"embedded": {"enabled": True, "model": model, "cache_dir": str(tmp_path)}}), f"/?lang={language}")
    words = TEXTS[language]
    assert [name for name in PRESETS if f"<td><code>{name}</code></td>" in text] == names
    assert (words["embedded_fetched"] in text, "enabled = false" in text) == (bool(names), bool(names))
    if model == "auto":
        row = '<td><code>qwen2.5-coder-1.5b-instruct</code></td><td class="n">1117 MB</td><td>Apache-2.0</td><td>huggingface.co</td>'
        assert row in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_setup_page_tells_whether_any_key_works(tmp_path: Path, language: Language) -> None:
    key, digest = new_key()
    words = page_texts("setup")[language]
    without = html.unescape(page(make_gateway(tmp_path), f"/setup?lang={language}"))
    assert words["any_key"] in without
    assert "Authorization" not in without
    gateway = make_gateway(tmp_path, {"keys": {"ada": {"hash": digest}}})
    text = html.unescape(page(gateway, f"/setup?lang={language}", authorization=f"Bearer {key}"))
    assert words["needs_key"] in text
    assert words["any_key"] not in text
    assert '-H "Authorization: Bearer YOUR-CLIENT-KEY" \\\n  -d' in text
    assert key not in text


def test_the_page_is_there_in_chinese(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS})
    for text in (page(gateway, "/?lang=zh"), page(gateway, accept_language="zh-CN,zh;q=0.9")):
        assert '<html lang="zh-CN">' in text
        assert TEXTS["zh"]["state_ok"] in text
    assert '<html lang="en">' in page(gateway, "/?lang=en", accept_language="zh-CN")
    assert '<html lang="en">' in page(gateway, "/?lang=fr")


def test_the_language_that_was_switched_to_is_kept(tmp_path: Path) -> None:
    client = Client(create_app(make_gateway(tmp_path)))
    assert client.get("/", headers={"accept-language": "en"}).headers.getlist("set-cookie") == []
    assert "HttpOnly" in client.get("/?lang=zh").headers["set-cookie"]
    assert '<html lang="zh-CN">' in client.get("/setup", headers={"accept-language": "en"}).text
    assert '<html lang="en">' in client.get("/setup?lang=en").text
    assert '<html lang="en">' in client.get("/setup").text


@pytest.mark.parametrize("table", all_texts())
def test_every_word_of_the_pages_is_there_in_both_languages(table: str) -> None:
    texts = all_texts()[table]
    assert texts["en"].keys() == texts["zh"].keys()
    assert all(texts["en"].values())
    assert all(texts["zh"].values())


def test_what_others_wrote_is_escaped(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS})
    gateway.router.learn(gateway.router.upstreams, {"up": ["<script>alert(1)</script>"]})
    text = page(gateway, "/catalog")
    assert "<script>" not in text
    assert "up/&lt;script&gt;" in text


@pytest.mark.parametrize("path", ["/", "/setup", "/calls/7"])
def test_a_page_may_load_nothing_from_elsewhere_and_run_nothing_inline(tmp_path: Path, path: str) -> None:
    headers = Client(create_app(make_gateway(tmp_path))).get(path).headers
    rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["form-action"] == rules["connect-src"] == "'self'"
    assert (headers["x-content-type-options"], headers["referrer-policy"], headers["cache-control"]) == (
        "nosniff",
        "same-origin",
        "no-store",
    )


def test_the_page_has_no_inline_code_and_its_style_is_served(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    text = page(gateway)
    assert not any(mark in text for mark in ("<style", "style=", "onclick", "javascript:", "http-equiv"))
    assert 'href="/static/console.css"' in text
    with Client(create_app(gateway)).get("/static/console.css") as style:
        assert (style.status_code, style.content_type) == (200, "text/css; charset=utf-8")


def test_the_page_tells_no_secret(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS})
    gateway.discovery.states["up"] = UpstreamState("failing", "wrong")
    text = page(gateway)
    assert "canary" not in text
    assert TEXTS["en"]["state_degraded"] in text


def test_the_page_names_what_does_not_work_and_why(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS})
    assert TEXTS["en"]["causes"] not in page(gateway)
    gateway.discovery.states["up"] = UpstreamState("failing", "a <wrong> key")
    assert "<li>up: a &lt;wrong&gt; key</li>" in page(gateway)
    assert TEXTS["zh"]["causes"] in page(gateway, "/?lang=zh")


def test_another_page_is_an_error_in_openais_shape(tmp_path: Path) -> None:
    answer = Client(create_app(make_gateway(tmp_path))).get("/nowhere/<b>")
    assert (answer.status_code, answer.content_type, answer.json["error"]["code"]) == (404, "application/json", "unknown_url")
