"""What clients' own files say is read back as it was written, and a file that says nothing of the gateway is no matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.setup.clients import client_setup
from compat.setup.files import PLACES
from compat.setup.look import LOOKED_AT, Look, look_of
from compat.setup.offers import Offer

URL, KEY = "http://127.0.0.1:28889/v1", "sk-compat-1"
OFFERS = (Offer("claude-4-sonnet", "Claude"), Offer("small", "Small"))


def test_every_file_that_is_merged_is_looked_at() -> None:
    assert set(LOOKED_AT) == set(PLACES)


@pytest.mark.parametrize("client", LOOKED_AT)
def test_a_file_says_what_set_up_wrote_into_it(tmp_path: Path, client: str) -> None:
    path = PLACES[client]({}, tmp_path)
    assert look_of(client, {}, tmp_path) is None
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert look_of(client, {}, tmp_path) is None
    path.write_text(client_setup(client, OFFERS, URL, KEY).files[0].text)
    found = look_of(client, {}, tmp_path)
    assert found is not None
    assert (found[0], found[1].base_url) == (path, URL.removesuffix("/v1") if client == "claude" else URL)
    assert found[1].key == (None if client == "zed" else KEY)
    assert "claude-4-sonnet" in found[1].models


@pytest.mark.parametrize("client", [client for client in LOOKED_AT if client != "codex"])
@pytest.mark.parametrize("text", ["[]", "{}", '{"provider": 1, "env": [], "modelProviders": {"openai-compat": 5}, "providers": "x"}'])
def test_a_file_of_another_shape_says_nothing(tmp_path: Path, client: str, text: str) -> None:
    path = PLACES[client]({}, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert look_of(client, {}, tmp_path) is None


@pytest.mark.parametrize("key", ["{env:OPENAI_COMPAT_KEY}", "$OPENAI_COMPAT_KEY"])
def test_a_key_that_stands_in_a_variable_is_not_judged(tmp_path: Path, key: str) -> None:
    path = PLACES["kilo"]({}, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(client_setup("kilo", OFFERS, URL, key).files[0].text)
    assert look_of("kilo", {}, tmp_path) == (path, Look(URL, None, ("claude-4-sonnet", "small")))
