"""What an upstream quotes of its credentials is taken out of its words."""

from __future__ import annotations

from typing import Any

import pytest

from compat.errors import UpstreamKeyRefused
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
    assert caught.value.message == "fake: Incorrect API key provided: [secret]"
