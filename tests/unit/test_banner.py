"""What `python app.py` says when it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compat.accounting.keys import new_key
from compat.banner import banner
from compat.config.sections import EmbeddedSettings
from compat.engine.base import EngineStatus
from compat.engine.embedded import EmbeddedEngine
from tests.unit.builders import make_gateway


@pytest.mark.parametrize(
    ("with_key", "key", "shown"), [(False, "any value", "sk-dummy-key"), (True, "one of your client", "YOUR-CLIENT-KEY")]
)
def test_it_tells_which_key_a_client_needs(tmp_path: Path, with_key: bool, key: str, shown: str) -> None:
    keys = {"ada": {"hash": new_key()[1]}} if with_key else {}
    text = banner(make_gateway(tmp_path, {"keys": keys}), 1234)
    assert f"API key  {key}" in text
    assert f'{{"apiUrl": "http://127.0.0.1:1234/v1/chat/completions", "apiKey": "{shown}", ' in text


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:1234"), ("::", "http://[::1]:1234"), ("192.168.1.5", "http://192.168.1.5:1234")]
)
def test_its_addresses_are_those_that_this_machine_can_call(tmp_path: Path, host: str, url: str) -> None:
    text = banner(make_gateway(tmp_path, {"server": {"host": host}, "keys": {"ada": {"hash": new_key()[1]}}}), 1234)
    assert f"URL      {url}/v1\n" in text
    assert f"Console  {url} " in text


class Engine(EmbeddedEngine):
    """Is as it was made to be."""

    def __init__(self, **status: str) -> None:
        super().__init__(EmbeddedSettings(), lambda _event, _fields: None)
        self._status = EngineStatus("starting", "starting", "tiny", None, 8192, 0, **status)

    def status(self) -> EngineStatus:
        return self._status


def shown(tmp_path: Path, **status: str) -> str:
    gateway = make_gateway(tmp_path, {"embedded": {"enabled": True, "cache_dir": str(tmp_path)}})
    return banner(replace(gateway, engine=Engine(**status)), 1234)


def test_it_tells_which_embedded_model_answers_and_what_is_fetched(tmp_path: Path) -> None:
    text = shown(tmp_path, better="qwen2.5-coder-1.5b-instruct")
    assert "tiny answers first; qwen2.5-coder-1.5b-instruct (1.1 GB, Apache-2.0) is fetched meanwhile and takes its place." in text
    assert 'model = "small"' in text
    assert "enabled = false" in text
    assert "->  embedded/tiny" in text


def test_it_tells_why_no_better_model_is_fetched(tmp_path: Path) -> None:
    text = shown(tmp_path, better_detail="big is not fetched: it needs 4.0 GB of memory, 1.0 are free")
    assert "It is tiny. Big is not fetched: it needs 4.0 GB of memory, 1.0 are free." in text
    assert "is fetched meanwhile" not in shown(tmp_path)
