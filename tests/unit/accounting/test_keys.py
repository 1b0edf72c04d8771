"""Client keys: none, one, several; which header, which name."""

from __future__ import annotations

import datetime
import hashlib

import pytest

from compat.accounting.keys import ANONYMOUS, ClientKeys, new_key
from compat.config.sections import GroupSettings, KeySettings
from compat.config.settings import load_settings
from compat.errors import InvalidKey, ModelForbidden


def configured(**keys: str) -> ClientKeys:
    return ClientKeys({name: KeySettings(hash="sha256:" + hashlib.sha256(key.encode()).hexdigest()) for name, key in keys.items()})


@pytest.mark.parametrize("authorization", ["", "Bearer anything", "Basic x", "nonsense"])
def test_with_no_key_configured_any_key_is_accepted(authorization: str) -> None:
    client = configured().client_of(authorization)
    assert client == ANONYMOUS if authorization != "Bearer anything" else client.startswith("key-")
    assert "anything" not in client


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "client"),
    [
        ("Bearer sk-ada", "", "ada"),
        ("bearer   sk-ada ", "", "ada"),
        ("BEARER sk-grace", "", "grace"),
        ("", "sk-ada", "ada"),
        ("", " sk-grace ", "grace"),
        ("Basic abc", "sk-ada", "ada"),
        ("Bearer sk-ada", "sk-wrong", "ada"),
    ],
)
def test_a_client_is_known_by_its_keys_name(authorization: str, x_api_key: str, client: str) -> None:
    assert configured(ada="sk-ada", grace="sk-grace").client_of(authorization, x_api_key) == client


def test_names_are_shown_to_who_has_a_key_and_to_everybody_where_none_is_required() -> None:
    keys = configured(ada="sk-ada")
    assert keys.admits("Bearer sk-ada")
    assert keys.admits("", "sk-ada")
    for authorization, x_api_key in (("", ""), ("Bearer sk-wrong", ""), ("", "sk-wrong"), ("Bearer \udcff\xe9", "")):
        assert not keys.admits(authorization, x_api_key)
        assert configured().admits(authorization, x_api_key)


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "words"),
    [
        ("", "", "requires a key"),
        ("Bearer", "", "requires a key"),
        ("Bearer  ", "", "requires a key"),
        ("sk-ada", "", "requires a key"),
        ("Bearer sk-ad", "", "does not know"),
        ("Bearer sk-adaa", "", "does not know"),
        ("Bearer SK-ADA", "", "does not know"),
        ("Bearer sk-wrong", "sk-ada", "does not know"),
        ("Bearer \udcff\xe9", "", "does not know"),
    ],
)
def test_any_other_key_is_refused_without_being_repeated(authorization: str, x_api_key: str, words: str) -> None:
    with pytest.raises(InvalidKey, match=words) as caught:
        configured(ada="sk-ada").client_of(authorization, x_api_key)
    assert caught.value.status == 401
    assert "sk-" not in caught.value.message


def test_the_hash_is_no_key() -> None:
    digest = hashlib.sha256(b"sk-ada").hexdigest()
    with pytest.raises(InvalidKey):
        configured(ada="sk-ada").client_of(f"Bearer {digest}")


def test_a_new_key_fits_its_hash_and_is_never_the_same() -> None:
    key, digest = new_key()
    settings = load_settings(None, {}, {"keys": {"ada": {"hash": digest}}})
    assert ClientKeys(settings.keys).client_of(f"Bearer {key}") == "ada"
    assert key.startswith("sk-compat-")
    assert len(key) >= 50
    assert new_key() != (key, digest)


def test_a_key_is_required_once_there_is_one() -> None:
    assert not configured().are_required
    assert configured(ada="sk-ada").are_required


def hashed(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


TEAM = GroupSettings(models=("claude-*",))
KEYS = {
    "ada": KeySettings(hash=hashed("sk-ada"), models=("gpt-x", "*-mini")),
    "bea": KeySettings(hash=hashed("sk-bea"), group="team"),
    "cleo": KeySettings(hash=hashed("sk-cleo"), group="team", models=("claude-x", "gpt-x")),
    "dora": KeySettings(hash=hashed("sk-dora")),
}


@pytest.mark.parametrize(
    ("client", "allowed", "forbidden"),
    [
        ("ada", ["gpt-x", "gpt-x-mini"], ["gpt-xx", "up/gpt-x", ""]),
        ("bea", ["claude-x"], ["gpt-x", "anthropic/claude-x"]),
        ("cleo", ["claude-x", "gpt-x"], ["claude-y"]),
        ("dora", ["anything"], []),
        ("anonymous", ["anything"], []),
    ],
)
def test_a_key_may_call_its_models_or_those_of_its_group(client: str, allowed: list[str], forbidden: list[str]) -> None:
    keys = ClientKeys(KEYS, groups={"team": TEAM})
    for model in allowed:
        keys.check_model(client, model)
    for model in forbidden:
        with pytest.raises(ModelForbidden, match=f"The key '{client}' may not call '{model}', only: "):
            keys.check_model(client, model)


def test_the_keys_of_a_group_are_known_by_name() -> None:
    assert ClientKeys(KEYS, groups={"team": TEAM}).members_of("team") == ["bea", "cleo"]


def test_a_key_whose_group_is_not_there_is_refused_for_it_has_no_limits() -> None:
    with pytest.raises(InvalidKey, match="of the group 'team', which the configuration does not have"):
        ClientKeys(KEYS).client_of("Bearer sk-bea")


def test_of_a_key_that_is_replaced_both_secrets_are_accepted_for_a_time() -> None:
    until = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    rows = {"ada": KeySettings(hash=hashed("sk-new"), old_hash=hashed("sk-old"), old_until=until)}
    now_s = until.timestamp() - 1
    keys = ClientKeys(rows, now=lambda: now_s)
    assert [keys.client_of(f"Bearer {key}") for key in ("sk-new", "sk-old")] == ["ada", "ada"]
    now_s = until.timestamp()
    assert keys.client_of("Bearer sk-new") == "ada"
    with pytest.raises(InvalidKey):
        keys.client_of("Bearer sk-old")
    endless = ClientKeys({"ada": KeySettings(hash=hashed("sk-new"), old_hash=hashed("sk-old"))})
    assert endless.client_of("Bearer sk-old") == "ada"
