"""The set-up page and its files, for a gateway with and without client keys."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from compat.accounting.keys import new_key
from compat.console.setup import with_code
from compat.console.texts import page_texts
from compat.factory import create_app
from compat.setup.clients import client_setup, clients
from compat.setup.jsonc import parse
from tests.unit.builders import KEY, make_gateway

TEXTS = page_texts("setup")
UPSTREAM = {"up": {"kind": "openai", "base_url": "http://up.example/v1", "models": ["<b>"], "api_keys": [KEY]}}


def client_of(folder: Path, settings: dict[str, Any] | None = None) -> Client:
    return Client(create_app(make_gateway(folder, {"upstreams": UPSTREAM, "models": {"<i>": {"route": ["up/<b>"]}}, **(settings or {})})))


def test_the_page_shows_every_client_with_this_gateways_address(tmp_path: Path) -> None:
    answer = client_of(tmp_path).get("/setup", base_url="http://localhost:1234")
    assert answer.content_type == "text/html; charset=utf-8"
    for client in clients():
        assert f'id="{client}"' in answer.text
    assert html.unescape(answer.text).count('"baseURL": "http://localhost:1234/v1"') == 3
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "canary" not in answer.text


def test_names_are_escaped(tmp_path: Path) -> None:
    text = client_of(tmp_path).get("/setup").text
    assert "&#34;&lt;i&gt;&#34;" in text
    assert "<i>" not in text


@pytest.mark.parametrize(
    ("path", "accepted", "language"),
    [
        ("/setup", "", "en"),
        ("/setup", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("/setup", "de", "en"),
        ("/setup?lang=zh", "en", "zh"),
        ("/setup?lang=en", "zh", "en"),
        ("/setup?lang=<b>", "", "en"),
    ],
)
def test_the_language_is_the_browsers_unless_the_switch_says_otherwise(tmp_path: Path, path: str, accepted: str, language: Any) -> None:
    answer = client_of(tmp_path).get(path, headers={"accept-language": accepted})
    assert TEXTS[language]["lead"] in html.unescape(answer.text)
    assert "accept-language" in answer.headers["vary"]
    assert f'href="/setup?lang={"en" if language == "zh" else "zh"}"' in answer.text


def test_both_languages_have_the_same_texts() -> None:
    assert TEXTS["en"].keys() == TEXTS["zh"].keys()


@pytest.mark.parametrize("name", ["kilo.jsonc", "opencode.jsonc"])
def test_a_file_can_be_fetched(tmp_path: Path, name: str) -> None:
    answer = client_of(tmp_path).get(f"/setup/{name}", base_url="http://localhost:1234")
    assert answer.content_type == "text/plain; charset=utf-8"
    node = parse(answer.text)
    assert node is not None
    options = node.value["provider"]["openai-compat"]["options"]
    assert (options["baseURL"], options["apiKey"]) == ("http://localhost:1234/v1", "sk-any")
    assert "<i>" in node.value["provider"]["openai-compat"]["models"]


def test_each_file_has_an_address_of_its_own(tmp_path: Path) -> None:
    client = client_of(tmp_path)
    urls = re.findall(r'<p><a href="(/setup/[^"]+)">', client.get("/setup").text)
    assert len(urls) == len(set(urls)) == sum(len(row.files) for row in clients().values())
    assert client.get("/setup/kilo.jsonc").text != client.get("/setup/kilo-anthropic-kilo.jsonc").text
    assert {client.get(url).status_code for url in urls} == {200}


def test_it_is_said_of_each_file_that_is_merged(tmp_path: Path) -> None:
    merged = [name for name in clients() if any(file.merge for file in client_setup(name, [], "http://x/v1", "k").files)]
    assert {"kilo", "claude", "codex"} <= set(merged)
    assert client_of(tmp_path).get("/setup").text.count(TEXTS["en"]["prove"]) == len(merged)


@pytest.mark.parametrize("name", ["openai-compat-roo.json", "config.yaml", "aider.conf.yml", "aider.model.metadata.json"])
def test_the_files_of_other_clients_can_be_fetched(tmp_path: Path, name: str) -> None:
    answer = client_of(tmp_path).get(f"/setup/{name}")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_is_none_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    answer = client_of(tmp_path).get("/setup/nobody.json")
    assert (answer.status_code, "/setup/kilo.jsonc" in answer.json["error"]["message"]) == (404, True)


def test_with_client_keys_the_files_name_a_variable_or_a_placeholder(tmp_path: Path) -> None:
    key, digest = new_key()
    client = client_of(tmp_path, {"keys": {"ada": {"hash": digest}}})
    sent = {"authorization": f"Bearer {key}"}
    page = client.get("/setup", headers=sent).text
    assert "&#34;&lt;i&gt;&#34;" in page
    assert "{env:OPENAI_COMPAT_KEY}" in client.get("/setup/kilo.jsonc", headers=sent).text
    assert "YOUR-CLIENT-KEY" in client.get("/setup/config.yaml", headers={"x-api-key": key}).text
    assert key not in page
    assert digest not in page
    assert "sk-any" not in page


@pytest.mark.parametrize("sent", [{}, {"authorization": "Bearer sk-wrong"}])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_one_of_the_client_keys_no_name_is_shown(tmp_path: Path, sent: dict[str, str], language: Any) -> None:
    client = client_of(tmp_path, {"keys": {"ada": {"hash": new_key()[1]}}})
    answer = client.get(f"/setup?lang={language}", headers=sent, base_url="http://localhost:1234")
    page = html.unescape(answer.text)
    assert answer.status_code == 401
    assert page_texts("sign_in")[language]["lead"] in page
    assert "python app.py keys add NAME --console" in page
    assert "<i>" not in page
    for name in ("kilo.jsonc", "nobody.json"):
        answer = client.get(f"/setup/{name}", headers=sent)
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "invalid_api_key")
        assert "<i>" not in answer.text


def test_what_stands_in_backticks_is_code_and_nothing_else_is_markup() -> None:
    assert with_code("Run `a <b>`, <i>then</i> `c`.") == "Run <code>a &lt;b&gt;</code>, &lt;i&gt;then&lt;/i&gt; <code>c</code>."


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_backtick_is_left_in_the_steps_and_each_field_has_a_line(tmp_path: Path, language: Any) -> None:
    text = client_of(tmp_path).get(f"/setup?lang={language}", base_url="http://localhost:1234").text
    steps = text[text.index('id="cline"') : text.index('id="continue"')]
    assert "`" not in steps
    assert steps.count("<li>") == 4
    assert "<code>http://localhost:1234/v1</code>" in steps


def test_a_gateway_without_an_upstream_says_so(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"embedded": {"enabled": True}})
    assert html.escape(TEXTS["en"]["embedded"], quote=False) in Client(create_app(gateway)).get("/setup").text


def test_files_of_one_name_have_addresses_of_their_own(tmp_path: Path) -> None:
    client = client_of(tmp_path)
    assert '"env"' in client.get("/setup/settings.json").text
    assert '"modelProviders"' in client.get("/setup/qwen-settings.json").text
    assert '"language_models"' in client.get("/setup/zed-settings.json").text
    assert "@ai-sdk/anthropic" in client.get("/setup/kilo-anthropic-kilo.jsonc").text
