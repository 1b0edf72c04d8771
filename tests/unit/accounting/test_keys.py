"""Client keys: none, one, several; which header, which name."""

from __future__ import annotations

import hashlib

import pytest

from compat.accounting.keys import ANONYMOUS, ClientKeys, new_key
from compat.config.sections import KeySettings
from compat.config.settings import load_settings
from compat.errors import InvalidKey


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
