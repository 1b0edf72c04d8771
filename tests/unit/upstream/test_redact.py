"""What an upstream quotes of its credentials is taken out of its words."""

from __future__ import annotations

from typing import Any

import pytest

from compat.errors import GatewayError, UpstreamFailure, UpstreamKeyRefused
from compat.upstream.client import Secret, Upstream
from compat.upstream.kinds import UPSTREAM_KINDS
from compat.upstream.models_list import list_models
from tests.fakes.openai_answers import error_answer
from tests.fakes.upstream import FakeUpstream

CANARY = "sk-canary-0123456789"


def upstream(base_url: str = "http://x", keys: tuple[str, ...] = (CANARY, "second-key"), **more: Any) -> Upstream:
    return Upstream("fake", UPSTREAM_KINDS["openai"], base_url, tuple(map(Secret, keys)), **more)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Incorrect API key provided: sk-c***89.", "Incorrect API key provided: sk-c***89."),
        (f"Incorrect API key provided: {CANARY}.", "Incorrect API key provided: [secret]."),
        (f"{CANARY}{CANARY} second-key", "[secret][secret] [secret]"),
        ("Bearer t-0123456789 is wrong, so is short", "Bearer [secret] is wrong, so is short"),
    ],
)
def test_every_credential_is_taken_out(text: str, shown: str) -> None:
    assert upstream(headers={"authorization": "Bearer t-0123456789", "x-team": "short"}).redact(text) == shown


def test_a_short_key_is_a_word_like_any_other() -> None:
    assert upstream(keys=("none", "")).redact("none of these") == "none of these"


def test_a_list_that_is_refused_with_the_key_in_its_words_does_not_show_it() -> None:
    with FakeUpstream() as server:
        server.script(error_answer(401, f"Incorrect API key provided: {CANARY}"))
        with pytest.raises(UpstreamKeyRefused) as caught:
            list_models(upstream(server.url), 5)
    assert caught.value.message == (
        "fake: Incorrect API key provided: [secret] - This is about the gateway's own key for fake; it is not about the client's key."
    )


@pytest.mark.parametrize(
    ("sources", "place"),
    [
        ((), ""),
        (("OPENAI_API_KEY",), " (OPENAI_API_KEY)"),
        (("WORK_KEY", "OTHER_KEY"), " (WORK_KEY or OTHER_KEY)"),
    ],
)
def test_a_refused_key_is_said_to_be_the_gateways_with_its_variable(sources: tuple[str, ...], place: str) -> None:
    error = UpstreamKeyRefused(f"fake: wrong key {CANARY}")
    upstream(key_sources=sources).explain(error)
    assert (
        error.message
        == f"fake: wrong key [secret] - This is about the gateway's own key for fake{place}; it is not about the client's key."
    )
    assert str(error) == error.message


def test_an_upstream_without_a_key_that_refuses_is_said_to_have_none() -> None:
    error = UpstreamKeyRefused("fake: who are you?")
    upstream(keys=()).explain(error)
    assert error.message.endswith("- The gateway has no key for fake; it is not about the client's key.")


def test_any_other_error_keeps_its_words() -> None:
    error: GatewayError = UpstreamFailure(f"fake: {CANARY} broke it")
    upstream(key_sources=("OPENAI_API_KEY",)).explain(error)
    assert error.message == "fake: [secret] broke it"
