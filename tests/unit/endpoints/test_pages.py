"""The page for people: what it shows, and that nothing in it can do harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from werkzeug.test import Client

from compat import __version__
from compat.accounting.keys import new_key
from compat.calls.gateway import Gateway
from compat.engine.presets import PRESETS
from compat.factory import create_app
from compat.routing.discovery import UpstreamState
from compat.setup.clients import Language
from compat.setup.texts import page_texts
from tests.unit.builders import KEY, make_gateway

TEXTS, START_TEXTS = page_texts("setup"), page_texts("start")
UPSTREAMS = {"up": {"kind": "openai", "base_url": "http://up.example/v1", "api_keys": [KEY]}}


def page(gateway: Gateway, path: str = "/", **headers: str) -> str:
    answer = Client(create_app(gateway)).get(path, headers=headers)
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    return answer.text


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/"])
def test_the_page_shows_where_each_name_goes(tmp_path: Path, path: str) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS, "models": {"claude-4-sonnet": {"route": ["up/theirs"]}}})
    text = page(gateway, path)
    assert "<code>claude-4-sonnet</code></td><td>up/theirs</td>" in text
    assert all(f"<code>{name}</code>" in text for name in gateway.catalog.aliases)
    assert f"version {__version__}" in text
    assert "No upstream is configured" not in text


def test_the_page_gives_the_address_that_it_was_asked_at(tmp_path: Path) -> None:
    assert '"apiUrl": "http://127.0.0.1:1234/v1/chat/completions"' in page(make_gateway(tmp_path), host="127.0.0.1:1234")


def test_without_an_upstream_the_page_says_what_answers(tmp_path: Path) -> None:
    text = page(make_gateway(tmp_path))
    assert "No upstream is configured: answers come from a small embedded model (disabled)" in text


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
    words = START_TEXTS[language]
    assert [name for name in PRESETS if f"<td><code>{name}</code></td>" in text] == names
    assert (words["embedded_fetched"] in text, "enabled = false" in text) == (bool(names), bool(names))
    if model == "auto":
        row = "<td><code>qwen2.5-coder-1.5b-instruct</code></td><td>1117 MB</td><td>Apache-2.0</td><td>huggingface.co</td>"
        assert row in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_tells_whether_any_key_works(tmp_path: Path, language: Language) -> None:
    key, digest = new_key()
    words = START_TEXTS[language]
    without = page(make_gateway(tmp_path), f"/?lang={language}")
    assert words["any_key"] in without
    assert '"apiKey": "sk-dummy-key"' in without
    assert "Authorization" not in without
    text = page(make_gateway(tmp_path, {"keys": {"ada": {"hash": digest}}}), f"/?lang={language}", authorization=f"Bearer {key}")
    assert words["client_key"] in text
    assert words["any_key"] not in text
    assert '"apiKey": "YOUR-CLIENT-KEY"' in text
    assert '-H "Authorization: Bearer YOUR-CLIENT-KEY" \\\n  -d' in text
    assert key not in text


@pytest.mark.parametrize("sent", [{}, {"authorization": "Bearer sk-wrong"}, {"x_api_key": "sk-wrong"}])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_one_of_the_client_keys_no_name_is_shown(tmp_path: Path, sent: dict[str, str], language: Language) -> None:
    key, digest = new_key()
    settings = {"upstreams": UPSTREAMS, "models": {"claude-4-sonnet": {"route": ["up/theirs"]}}, "keys": {"ada": {"hash": digest}}}
    gateway = make_gateway(tmp_path, settings)
    gateway.discovery.states["up"] = UpstreamState("failing", "wrong")
    locked = page(gateway, f"/?lang={language}", **sent)
    assert START_TEXTS[language]["locked"] in locked
    assert '<strong class="degraded">degraded</strong>' in locked
    assert "up/theirs" not in locked
    assert "up.example" not in locked
    text = page(gateway, f"/?lang={language}", authorization=f"Bearer {key}")
    assert START_TEXTS[language]["locked"] not in text
    assert "up/theirs" in text


def test_the_page_is_there_in_chinese(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS})
    for text in (page(gateway, "/?lang=zh"), page(gateway, accept_language="zh-CN,zh;q=0.9")):
        assert '<html lang="zh-CN">' in text
        assert "每个模型的去向" in text
    assert '<html lang="en">' in page(gateway, "/?lang=en", accept_language="zh-CN")
    assert '<html lang="en">' in page(gateway, "/?lang=fr")


def test_every_word_of_the_pages_is_there_in_both_languages() -> None:
    for texts in (TEXTS, START_TEXTS):
        assert texts["en"].keys() == texts["zh"].keys()


def test_what_others_wrote_is_escaped(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS})
    gateway.router.learn(gateway.router.upstreams, {"up": ["<script>alert(1)</script>"]})
    text = page(gateway)
    assert "<script" not in text
    assert "up/&lt;script&gt;" in text


def test_the_page_may_load_nothing_from_elsewhere_and_run_nothing_inline(tmp_path: Path) -> None:
    headers = Client(create_app(make_gateway(tmp_path))).get("/").headers
    rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["form-action"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert (headers["x-content-type-options"], headers["referrer-policy"], headers["cache-control"]) == (
        "nosniff",
        "no-referrer",
        "no-store",
    )


def test_the_page_has_no_inline_code_and_its_style_is_served(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    text = page(gateway)
    assert not any(mark in text for mark in ("<style", "style=", "onclick", "javascript:", "http-equiv"))
    assert 'href="/static/page.css"' in text
    with Client(create_app(gateway)).get("/static/page.css") as style:
        assert (style.status_code, style.content_type) == (200, "text/css; charset=utf-8")


def test_the_page_tells_no_secret(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS})
    gateway.discovery.states["up"] = UpstreamState("failing", "wrong")
    text = page(gateway)
    assert "canary" not in text
    assert '<strong class="degraded">degraded</strong>' in text


def test_the_page_names_what_does_not_work_and_why(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"upstreams": UPSTREAMS})
    assert "What does not work" not in page(gateway)
    gateway.discovery.states["up"] = UpstreamState("failing", "a <wrong> key")
    assert "up: a &lt;wrong&gt; key." in page(gateway)
    assert "有问题的部分" in page(gateway, "/?lang=zh")


def test_another_page_is_an_error_in_openais_shape(tmp_path: Path) -> None:
    answer = Client(create_app(make_gateway(tmp_path))).get("/nowhere/<b>")
    assert (answer.status_code, answer.content_type, answer.json["error"]["code"]) == (404, "application/json", "unknown_url")
