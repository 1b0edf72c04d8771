"""Which upstreams there are: from the configuration, from keys in the environment, and local servers worth looking for."""

from __future__ import annotations

from typing import Any

import pytest

from compat.config.sections import TimeoutSettings
from compat.config.settings import SettingsError, load_settings
from compat.routing.upstreams import configured_upstreams, local_candidates
from compat.upstream.client import Upstream
from compat.upstream.kinds import UPSTREAM_KINDS


def configured(upstreams: dict[str, Any] | None = None, **environment: str) -> dict[str, Upstream]:
    return configured_upstreams(load_settings(None, environment, {"upstreams": upstreams or {}, "timeouts": {"silence_s": 7}}), environment)


def keys_of(upstream: Upstream) -> list[str]:
    return [key.reveal() for key in upstream.keys]


def test_nothing_configured_is_no_upstream() -> None:
    assert configured() == {}


@pytest.mark.parametrize("kind", [kind for kind in UPSTREAM_KINDS.values() if kind.key_variable], ids=lambda kind: kind.name)
def test_a_key_in_the_environment_is_an_upstream(kind: Any) -> None:
    found = configured(**{kind.key_variable: "sk-1"})
    assert list(found) == [kind.name]
    assert (found[kind.name].kind, found[kind.name].base_url, keys_of(found[kind.name])) == (kind, kind.base_url, ["sk-1"])
    assert found[kind.name].timeouts == TimeoutSettings(silence_s=7.0)


@pytest.mark.parametrize(("value", "keys"), [("sk-1, sk-2 ,,", ["sk-1", "sk-2"]), (" sk-1\n", ["sk-1"])])
def test_a_variable_may_hold_several_keys(value: str, keys: list[str]) -> None:
    assert keys_of(configured(OPENAI_API_KEY=value)["openai"]) == keys


@pytest.mark.parametrize(
    ("row", "sources"),
    [
        ({}, ("OPENAI_API_KEY",)),
        ({"api_keys": ["sk-2"]}, ("upstreams.work.api_keys",)),
        ({"api_keys": ["env:WORK_KEY"]}, ("WORK_KEY",)),
        ({"api_keys": ["env:WORK_KEY", "env:NOT_THERE"]}, ("WORK_KEY",)),
        ({"base_url": "http://elsewhere.example/v1"}, ()),
    ],
)
def test_an_upstream_knows_where_its_keys_were_found(row: dict[str, Any], sources: tuple[str, ...]) -> None:
    found = configured({"work": {"kind": "openai", **row}}, OPENAI_API_KEY="sk-1", WORK_KEY="sk-3")
    assert found["work"].key_sources == sources


@pytest.mark.parametrize("value", ["", " ", " , "])
def test_an_empty_variable_is_no_key(value: str) -> None:
    assert configured(OPENAI_API_KEY=value) == {}


def test_the_environment_may_name_another_address() -> None:
    found = configured(OPENAI_API_KEY="sk-1", OPENAI_BASE_URL="http://proxy.example/v1/")
    assert found["openai"].base_url == "http://proxy.example/v1"


def test_upstreams_of_the_environment_come_best_first_after_the_configurations() -> None:
    found = configured({"mine": {"kind": "ollama"}}, OPENAI_API_KEY="sk-1", ANTHROPIC_API_KEY="sk-2")
    assert list(found) == ["mine", "anthropic", "openai"]


def test_the_configuration_wins_over_the_environment() -> None:
    row = {"kind": "openai", "base_url": "http://mine.example/v1/", "api_keys": ["sk-mine"], "headers": {"x-a": "b"}, "models": ["m"]}
    found = configured({"openai": {**row, "timeouts": {"connect_s": 1}, "ca_file": "ca.pem"}}, OPENAI_API_KEY="sk-1")
    upstream = found["openai"]
    assert list(found) == ["openai"]
    assert (upstream.base_url, keys_of(upstream), upstream.headers) == ("http://mine.example/v1", ["sk-mine"], {"x-a": "b"})
    assert (upstream.models, upstream.ca_file) == (("m",), "ca.pem")
    assert upstream.timeouts == TimeoutSettings(connect_s=1.0, silence_s=7.0)


def test_a_row_without_keys_and_address_takes_its_kinds() -> None:
    upstream = configured({"work": {"kind": "openai"}}, OPENAI_API_KEY="sk-1", OPENAI_BASE_URL="http://proxy.example/v1")["work"]
    assert (upstream.base_url, keys_of(upstream)) == ("http://proxy.example/v1", ["sk-1"])


@pytest.mark.parametrize("api_keys", [[], ["sk-mine"], ["env:GONE", "sk-mine"]], ids=["no keys", "a key", "a variable that is gone"])
def test_a_key_of_the_environment_never_leaves_for_another_address(api_keys: list[str]) -> None:
    row = {"kind": "openai", "base_url": "http://mine.example/v1", "api_keys": api_keys}
    assert keys_of(configured({"work": row}, OPENAI_API_KEY="sk-openai")["work"]) == api_keys[-1:]


def test_a_row_that_names_its_kinds_own_address_takes_its_key() -> None:
    row = {"kind": "openai", "base_url": "https://api.openai.com/v1/"}
    assert keys_of(configured({"work": row}, OPENAI_API_KEY="sk-openai")["work"]) == ["sk-openai"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "opnai"}, "key 'upstreams.up.kind': 'opnai' is not one of anthropic, openai, "),
        ({"kind": "openai", "base_url": "ftp://x"}, "key 'upstreams.up.base_url': 'ftp://x' is not an http or https URL."),
        ({"kind": "openai", "base_url": "api.example.com/v1"}, "is not an http or https URL"),
        ({"kind": "openai", "base_url": "http://"}, "is not an http or https URL"),
        ({"kind": "openai", "base_url": "http://x:port/v1"}, "key 'upstreams.up.base_url': "),
        ({"kind": "openai", "base_url": "http://[::1/v1"}, "key 'upstreams.up.base_url': "),
        ({"kind": "openai", "base_url": "http://me:pw@x/v1"}, "key 'upstreams.up.base_url': a URL can't hold a user name"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_row_that_cant_be_used_is_told_by_its_key(row: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configured({"up": row})
    assert words in str(caught.value)


@pytest.mark.parametrize("url", ["x", "http://me@x"])
def test_an_address_of_the_environment_is_told_by_its_variable(url: str) -> None:
    with pytest.raises(SettingsError, match="environment variable OPENAI_BASE_URL: "):
        configured(OPENAI_API_KEY="sk-1", OPENAI_BASE_URL=url)


@pytest.mark.parametrize("url", ["http://:canary@x/v1", "https://me:canary@x", "ftp://:canary@x", "me:canary@x/v1", "http://@x"])
def test_a_password_in_an_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="can't hold a user name or a password") as caught:
        configured({"up": {"kind": "openai", "base_url": url}})
    assert "canary" not in str(caught.value)


def test_an_at_sign_in_a_path_is_no_password() -> None:
    assert configured({"up": {"kind": "openai", "base_url": "http://x/run/@cf/"}})["up"].base_url == "http://x/run/@cf"


@pytest.mark.parametrize("url", ["http://x/v 1", "http://\u4f8b.jp/v1", "http://x/v1\r\nx-evil: 1"])
def test_an_address_that_no_request_can_name_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"upstreams\.up\.base_url.*can't be sent"):
        configured({"up": {"kind": "openai", "base_url": url}})


@pytest.mark.parametrize(
    ("upstreams", "environment"),
    [
        ({}, {"OPENAI_API_KEY": "sk-\u2026"}),
        ({}, {"OPENAI_API_KEY": "sk-1\nx-evil: 1"}),
        ({"up": {"kind": "openai", "api_keys": ["sk-1"], "headers": {"x-a": "\u6f22"}}}, {}),
        ({"up": {"kind": "openai", "api_keys": ["sk-1"], "headers": {"x-a": "1\r\nx-b: 2"}}}, {}),
    ],
    ids=["a key of the environment", "a key of two lines", "a header", "a header of two lines"],
)
def test_what_no_header_can_hold_is_told_at_the_start(upstreams: dict[str, Any], environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        configured(upstreams, **environment)


def candidates(upstreams: dict[str, Any] | None = None, **environment: str) -> list[tuple[str, str]]:
    settings = load_settings(None, environment, {"upstreams": upstreams or {}})
    found = local_candidates(settings, environment, configured_upstreams(settings, environment))
    return [(upstream.name, upstream.base_url) for upstream in found]


def test_local_servers_are_looked_for_at_their_usual_ports() -> None:
    assert candidates() == [
        ("ollama", "http://127.0.0.1:11434/v1"),
        ("lmstudio", "http://127.0.0.1:1234/v1"),
        ("llama-server", "http://127.0.0.1:8080/v1"),
    ]


def test_a_local_server_may_be_elsewhere() -> None:
    assert ("ollama", "http://box.lan:1/v1") in candidates(OLLAMA_BASE_URL="http://box.lan:1/v1/")


def test_a_kind_that_is_configured_is_not_looked_for() -> None:
    assert [name for name, _ in candidates({"mine": {"kind": "ollama"}})] == ["lmstudio", "llama-server"]


def test_a_local_server_never_takes_the_name_of_an_upstream_that_is_configured() -> None:
    row = {"kind": "openai", "base_url": "http://box.lan:1/v1", "api_keys": ["sk-1"]}
    assert [name for name, _ in candidates({"ollama": row})] == ["lmstudio", "llama-server"]


def test_an_upstream_shows_no_key_and_no_header() -> None:
    upstream = configured({"up": {"kind": "openai", "api_keys": ["sk-canary"], "headers": {"x-a": "canary"}}})["up"]
    assert "canary" not in repr(upstream)


def test_a_service_with_another_address_for_anthropics_protocol_is_called_there() -> None:
    found = configured({"ds": {"kind": "deepseek", "wire_api": "messages"}}, DEEPSEEK_API_KEY="sk-1")["ds"]
    assert (found.base_url, keys_of(found)) == ("https://api.deepseek.com/anthropic", ["sk-1"])
    assert found.kind.apis == {"anthropic.messages": "/v1/messages"}
    assert found.kind.messages is not None


def test_its_key_stays_at_the_address_that_the_environment_names() -> None:
    row = {"ds": {"kind": "deepseek", "wire_api": "messages"}}
    found = configured(row, DEEPSEEK_API_KEY="sk-1", DEEPSEEK_BASE_URL="https://proxy.example")["ds"]
    assert (found.base_url, keys_of(found)) == ("https://proxy.example", ["sk-1"])
