"""The configuration: every section is read, every mistake is told with its key and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from compat.cli import read_configuration
from compat.config.settings import Settings, SettingsError, is_loopback, load_settings, merge, timeouts_of
from tests.cases.settings import COMPLETE, HASH, REFUSED, UP


def load(folder: Path, text: str, environment: dict[str, str] | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment or {}, overrides)


def test_every_key_is_optional(tmp_path: Path) -> None:
    assert msgspec.structs.replace(load(tmp_path, ""), source="the defaults") == load_settings(None, {}) == Settings()
    assert load(tmp_path, "").source == str(tmp_path / "config.toml")
    assert (Settings().server.host, Settings().server.port) == ("127.0.0.1", 28889)


def test_every_section_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, COMPLETE, {"WORK_KEYS": " sk-two , sk-three,, "})
    work, route = settings.upstreams["work"], settings.models["my-model"].route
    read = {
        "server": (settings.server.host, settings.server.port, settings.server.allowed_hosts, settings.server.allowed_origins),
        "seconds": (settings.server.heartbeat_s, settings.timeouts.connect_s, settings.timeouts.silence_s, settings.timeouts.first_byte_s),
        "work": (work.kind, work.base_url, work.api_keys, work.headers, work.models),
        "route": (route[0], getattr(route[1], "to", ""), getattr(route[1], "weight", 0), getattr(route[1], "priority", 0)),
        "facts": settings.models["my-model"].facts,
        "rest": (settings.retry.attempts, settings.discovery.enabled, settings.embedded.model, settings.keys["ada"].hash),
        "log": (settings.log.file, settings.log.level, settings.log.backups),
    }
    assert read == {
        "server": ("0.0.0.0", 1234, ("gateway.lan",), ("http://gateway.lan",)),
        "seconds": (5.0, 1.5, 60.0, 300.0),
        "work": ("openai", "https://work.example/v1", ("sk-one", "sk-two", "sk-three"), {"x-team": "blue"}, ("big",)),
        "route": ("work/big", "work/small", 3, 7),
        "facts": {"context": 5000},
        "rest": (2, False, "tiny.gguf", HASH),
        "log": ("elsewhere/calls.log", "debug", 0),
    }


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[words[:60] for _, words in REFUSED])
def test_a_mistake_is_told_with_its_key_and_its_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, {"ODD": "sk\u00e9", "TWO_LINES": "1\r\nx-b: 2", "EMPTY": " "})
    assert str(caught.value).startswith(f"{tmp_path / 'config.toml'}: {words}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[models.x]\nroute = [{ to = "a/b", wieght = 2 }]',
            "unknown key 'models.x.route.0.wieght'; did you mean 'weight'?",
        ),
        (
            UP + "[upstreams.a.headers]\nx-team = 5",
            "key 'upstreams.a.headers.x-team': Expected `str`, got `int`.",
        ),
        (
            UP + "[upstreams.a.timeouts]\nconnect_s = 0",
            "key 'upstreams.a.timeouts.connect_s': Expected `float` > 0.0.",
        ),
        (
            '[server]\nhost = "127.example.com"',
            "key 'server.host': 127.example.com can be reached from other machines",
        ),
    ],
)
def test_a_mistake_deep_in_a_table_is_told_as_well(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "words"), [("none.toml", "No such file"), (".", "Is a directory")])
def test_a_file_that_cant_be_read_is_named(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(tmp_path / name, {})
    assert str(caught.value).startswith(f"{tmp_path / name}: can't be read")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b'[log]\nfile = "\xff"')
    with pytest.raises(SettingsError, match=r"config\.toml: line 2 is not UTF-8"):
        load_settings(tmp_path / "config.toml", {})


def test_a_mistake_without_a_file_is_told_of_the_defaults() -> None:
    with pytest.raises(SettingsError, match=r"^the defaults: unknown key 'server\.prot'"):
        load_settings(None, {}, {"server": {"prot": 1}})


def test_the_command_line_wins_over_the_file_and_leaves_its_neighbours(tmp_path: Path) -> None:
    settings = load(tmp_path, '[server]\nport = 1\nallowed_hosts = ["a.localhost"]', overrides={"server": {"port": 2}})
    assert (settings.server.port, settings.server.allowed_hosts) == (2, ("a.localhost",))


@pytest.mark.parametrize("environment", [{}, {"MY_KEY": ""}, {"MY_KEY": "  "}, {"MY_KEY": " , "}])
def test_a_key_whose_variable_is_missing_is_left_out(tmp_path: Path, environment: dict[str, str]) -> None:
    settings = load(tmp_path, UP + 'api_keys = ["env:MY_KEY", "sk-plain"]', environment)
    assert settings.upstreams["a"].api_keys == ("sk-plain",)


def test_a_header_is_taken_from_the_environment(tmp_path: Path) -> None:
    settings = load(tmp_path, UP + 'headers = { x-token = "env:TOKEN" }', {"TOKEN": "t-1"})
    assert settings.upstreams["a"].headers == {"x-token": "t-1"}


def test_what_is_sent_as_it_is_written_is_not_looked_up(tmp_path: Path) -> None:
    row = load(tmp_path, UP + 'api_keys = ["sk-a,b"]\nheaders = { x-a = "caf\u00e9 env:X\t~", "X-B" = "" }').upstreams["a"]
    assert (row.api_keys, row.headers) == (("sk-a,b",), {"x-a": "caf\u00e9 env:X\t~", "X-B": ""})


def test_what_a_file_may_not_say(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown key 'source'"):
        load(tmp_path, 'source = "elsewhere"')


def test_a_repr_shows_no_key_and_no_header(tmp_path: Path) -> None:
    settings = load(tmp_path, UP + 'api_keys = ["sk-canary"]\nheaders = { x-token = "canary" }')
    assert "canary" not in repr(settings)
    assert "x-token" in repr(settings)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, UP + 'api_keys = ["sk-canary canary"]')
    assert "canary" not in str(caught.value)


def test_another_address_is_served_once_there_are_client_keys(tmp_path: Path) -> None:
    assert load(tmp_path, f'[server]\nhost = "0.0.0.0"\n[keys.ada]\nhash = "{HASH}"').server.host == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_a_loopback_address_needs_no_key(tmp_path: Path, host: str) -> None:
    assert is_loopback(load(tmp_path, f'[server]\nhost = "{host}"').server.host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com", "127.evil.example", "127.1", ""])
def test_any_other_address_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_an_upstreams_own_timeouts_lie_over_the_common_ones(tmp_path: Path) -> None:
    settings = load(tmp_path, "[timeouts]\nconnect_s = 1\nsilence_s = 2\n" + UP + "timeouts = { silence_s = 9 }")
    timeouts = timeouts_of(settings, settings.upstreams["a"])
    assert (timeouts.connect_s, timeouts.first_byte_s, timeouts.silence_s) == (1.0, 300.0, 9.0)
    assert settings.timeouts.silence_s == 2.0


def test_merging_changes_neither_side() -> None:
    base: dict[str, Any] = {"a": {"b": 1, "c": 2}, "d": [1]}
    over: dict[str, Any] = {"a": {"b": 5}, "d": [2], "e": {"f": 1}}
    assert merge(base, over) == {"a": {"b": 5, "c": 2}, "d": [2], "e": {"f": 1}}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]}
    assert over == {"a": {"b": 5}, "d": [2], "e": {"f": 1}}


@pytest.mark.parametrize(("base", "over"), [({"a": 1}, {"a": {"b": 2}}), ({"a": {"b": 2}}, {"a": 1})])
def test_a_table_and_a_plain_value_replace_each_other(base: dict[str, Any], over: dict[str, Any]) -> None:
    assert merge(base, over) == over


@pytest.mark.parametrize(
    ("files", "variable", "argument", "port"),
    [
        ((), None, None, 28889),
        (("config.toml",), None, None, 1),
        (("config.toml", "other.toml"), "other.toml", None, 2),
        (("config.toml", "other.toml", "third.toml"), "other.toml", "third.toml", 3),
    ],
    ids=["defaults", "the file beside the program", "the environment's file", "the argument's file"],
)
def test_the_file_that_is_named_closest_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], variable: str | None, argument: str | None, port: int
) -> None:
    monkeypatch.delenv("OPENAI_COMPAT_CONFIG", raising=False)
    for number, name in enumerate(files, 1):
        (tmp_path / name).write_text(f"[server]\nport = {number}")
    if variable:
        monkeypatch.setenv("OPENAI_COMPAT_CONFIG", str(tmp_path / variable))
    settings, _ = read_configuration(tmp_path, {}, str(tmp_path / argument) if argument else None)
    assert settings.server.port == port


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        read_configuration(tmp_path, {}, str(tmp_path / "none.toml"))


def test_the_environment_wins_over_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("COMPAT_TEST_A=file\nCOMPAT_TEST_B=file\nCOMPAT_TEST_C\n")
    monkeypatch.setenv("COMPAT_TEST_A", "shell")
    _, environment = read_configuration(tmp_path, {})
    assert (environment["COMPAT_TEST_A"], environment["COMPAT_TEST_B"]) == ("shell", "file")
    assert "COMPAT_TEST_C" not in environment


def test_the_group_of_a_key_must_be_there(tmp_path: Path) -> None:
    key = f'[keys.ada]\nhash = "{HASH}"\ngroup = "team"\n'
    assert load(tmp_path, key + "[groups.team]\nday_usd = 5").groups["team"].day_usd == 5
    with pytest.raises(SettingsError, match=r"key 'keys.ada.group': there is no \[groups.team\]"):
        load(tmp_path, key)
