"""`.env` as people and editors write it: what can't be read is reported in one line, and so is what nobody reads."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import msgspec
import pytest

from compat.cli import main
from compat.config.settings import SettingsError, load_settings
from compat.dot_env import env_warnings
from compat.key_commands import configured_names
from compat.service.commands import configuration_warnings
from compat.service.configuration import find_sources
from compat.service.state import Generation, RunFolder, Service, write_json
from compat.service_check import examine

TEXT = "MISTRAL_API_KEY=sk-canary\n"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith("OPENAI_COMPAT"):
            monkeypatch.delenv(name)


def warned(folder: Path, text: str, config: str = "", outer: dict[str, str] | None = None) -> list[str]:
    """The warnings about a file with that text, without its path."""
    (folder / ".env").write_text(text)
    if config:
        (folder / "config.toml").write_text(config)
    found = env_warnings(find_sources(folder), outer=outer or {})
    assert all(line.startswith(f"{folder / '.env'}: ") for line in found)
    assert "canary" not in str(found)
    return [line.removeprefix(f"{folder / '.env'}: ") for line in found]


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["without a mark", "with a byte order mark"])
def test_values_are_read_with_and_without_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / ".env").write_bytes(mark + TEXT.encode() + b"export OTHER='two\nlines'\nBOTH=${OTHER}!\n")
    sources = find_sources(tmp_path)
    assert sources.written == {"MISTRAL_API_KEY": "sk-canary", "OTHER": "two\nlines", "BOTH": "two\nlines!"}
    assert sources.environment["MISTRAL_API_KEY"] == "sk-canary"
    assert env_warnings(sources) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TEXT.encode("utf-16"), "is UTF-16"),
        (TEXT.encode("utf-16-le"), "is UTF-16"),
        (TEXT.encode("utf-16-be"), "is UTF-16"),
        (b"A=1\nB=\xff\n", "line 2 is not UTF-8"),
        (None, "Is a directory"),
    ],
    ids=["UTF-16", "little", "big", "latin-1", "a folder"],
)
def test_a_file_that_can_not_be_read_is_one_line_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes | None, words: str
) -> None:
    path = tmp_path / ".env"
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    for arguments in (["--check"], ["keys", "list"]):
        assert main(arguments, tmp_path) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"openai-compat: {path}: ")
        assert words in line
        assert "canary" not in line


def test_a_file_that_may_not_be_read_is_one_line_with_its_path(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to(".env")  # for root may read whatever there is
    with pytest.raises(SettingsError, match=r"\.env: can't be read: "):
        find_sources(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("# a comment\n\nMISTRAL_API_KEY=sk-canary\nMY_OWN=1\n", []),
        ("A=1\n\nsk-canary is my key\n", ["line 3 is not NAME=value and is ignored."]),
        ("A=1\nsk-canary\nB=2\n=sk-canary\n", ["lines 2, 4 are not NAME=value and are ignored."]),
        ("ANTHROPIC_API_KEY=\n", ["ANTHROPIC_API_KEY is empty: an upstream without a key is not used."]),
        (
            "ANTHROPIC_API_KEY=\nOPENAI_API_KEY=' '\n",
            ["ANTHROPIC_API_KEY, OPENAI_API_KEY are empty: an upstream without a key is not used."],
        ),
        ("ANTROPIC_API_KEY=sk-canary\n", ["ANTROPIC_API_KEY has no effect; did you mean ANTHROPIC_API_KEY?"]),
        ("ANTHROPIC_APIKEY=sk-canary\n", ["ANTHROPIC_APIKEY has no effect; did you mean ANTHROPIC_API_KEY?"]),
        ("openai_api_key=sk-canary\n", ["openai_api_key has no effect; did you mean OPENAI_API_KEY?"]),
        ("OPENAI_BASEURL=http://canary\n", ["OPENAI_BASEURL has no effect; did you mean OPENAI_BASE_URL?"]),
        ("OPENAI_COMPAT_WORKER=2\n", ["OPENAI_COMPAT_WORKER has no effect; did you mean OPENAI_COMPAT_WORKERS?"]),
        ("MINIMAX_API_KEY=sk-canary\nCOHERE_API_KEY=sk-canary\nPATH=/bin\n", []),
        ("OPENAI_APIKEY=sk-canary\nOPENAI_API_KEY=${OPENAI_APIKEY}\n", []),
    ],
)
def test_what_nobody_reads_is_reported(tmp_path: Path, text: str, words: list[str]) -> None:
    assert warned(tmp_path, text) == words


def test_a_variable_that_the_configuration_names_is_read(tmp_path: Path) -> None:
    config = '[upstreams.x]\nkind = "openai"\napi_keys = ["env:OPENAI_API_KEY_2"]\n'
    assert warned(tmp_path, "OPENAI_API_KEY_2=sk-canary\n", config) == []


def test_an_empty_key_that_the_environment_has_is_nothing_to_tell(tmp_path: Path) -> None:
    assert warned(tmp_path, "OPENAI_API_KEY=\n", outer={"OPENAI_API_KEY": "sk-canary"}) == []


def test_a_service_tells_of_it_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_COMPAT_CONFIG", "OPENAI_COMPAT_ENV_FILE"):
        monkeypatch.setenv(variable, "")  # put back afterwards
    (tmp_path / ".env").write_text("MISTRAL_APIKEY=sk-canary\n")
    facts = examine(tmp_path, tmp_path / "copy")
    words = f"{tmp_path / '.env'}: MISTRAL_APIKEY has no effect; did you mean MISTRAL_API_KEY?"
    assert facts.warnings == (words,)
    rows = [Generation(1, "retiring", msgspec.structs.replace(facts, warnings=("old",))), Generation(2, "serving", facts)]
    write_json(tmp_path / "service.json", Service(current=2, generations=rows))
    service = RunFolder(tmp_path).read_service()
    assert configuration_warnings(service) == [f"warning: {words}"]
    assert configuration_warnings(Service()) == []


def test_a_start_that_fails_for_want_of_a_key_names_the_misspelt_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text("MISTRAL_APIKEY=sk-canary\n")
    (tmp_path / "config.toml").write_text('[upstreams.x]\nkind = "mistral"\napi_keys = ["env:MISTRAL_API_KEY"]\n')
    assert main(["--check"], tmp_path) == 2
    told, fault = capsys.readouterr().err.splitlines()
    assert told == f"openai-compat: warning: {tmp_path / '.env'}: MISTRAL_APIKEY has no effect; did you mean MISTRAL_API_KEY?"
    assert "the environment has no MISTRAL_API_KEY" in fault


def test_a_configuration_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(codecs.BOM_UTF8 + b'[server]\nport = 7\n[keys.laptop]\nhash = "sha256:' + b"0" * 64 + b'"\n')
    assert load_settings(path, {}).server.port == 7
    assert configured_names(path) == {"laptop"}
    path.write_bytes("[server]\nport = 7\n".encode("utf-16"))
    with pytest.raises(SettingsError, match=r"config\.toml: is UTF-16"):
        load_settings(path, {})
