"""What travels in a client's history: made by us alone, for one model of one upstream, under a key of its own."""

from __future__ import annotations

import itsdangerous
import pytest

from compat.protocols.sealed import PREFIX, Sealed, Sealer, is_ours

STATE = Sealed("deepseek", "deepseek-chat", "openai.chat", {"text": "Hm. " * 500, "z": [1, None, "ä"]})
OLD, NEW = b"old secret", b"new secret"


def test_what_was_sealed_is_read_again() -> None:
    token = Sealer([NEW]).seal(STATE)
    assert is_ours(token)
    assert Sealer([NEW]).open(token) == STATE
    assert Sealer([NEW]).seal(STATE) == token, "histories stay append-only"
    assert len(token) < 500, "long states are compressed"


def test_rotation_breaks_no_open_session() -> None:
    token = Sealer([OLD]).seal(STATE)
    rotated = Sealer([NEW, OLD])
    assert rotated.open(token) == STATE
    assert Sealer([NEW]).open(rotated.seal(STATE)) == STATE, "the newest signs"
    assert Sealer([NEW]).open(token) is None


@pytest.mark.parametrize(
    "change", [lambda token: token[:-1], lambda token: token.replace(".", "!", 2), lambda token: f"{token}x", lambda _: PREFIX]
)
def test_nobody_else_can_make_one(change: object) -> None:
    assert Sealer([NEW]).open(change(Sealer([NEW]).seal(STATE))) is None


@pytest.mark.parametrize("foreign", ["", "EqQBCkgIBxAB", "compat2.x.y"])
def test_signatures_of_others_are_not_ours(foreign: str) -> None:
    assert not is_ours(foreign)
    assert Sealer([NEW]).open(foreign) is None


def test_another_purpose_of_the_same_secret_has_another_key() -> None:
    other = itsdangerous.URLSafeSerializer([NEW], "sessions").dumps(["deepseek", "deepseek-chat", "openai.chat", None])
    assert Sealer([NEW]).open(PREFIX + str(other)) is None
