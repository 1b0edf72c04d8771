"""Which prompts the embedded model is too slow for."""

from __future__ import annotations

import pytest

from compat.engine.base import Endpoint, Patience
from compat.errors import ContextTooLong

SLOW = Endpoint("http://127.0.0.1:1", "key", "tiny", prompt_tokens_s=70.0)


def test_a_prompt_that_would_take_longer_than_allowed_is_refused_in_words() -> None:
    with pytest.raises(ContextTooLong) as caught:
        Patience(60).admit(SLOW, b'[{"role":"user","content":"x"}]', 15_000)
    words = caught.value.message
    assert caught.value.status == 400
    assert caught.value.code == "context_length_exceeded", "agents shorten the conversation"
    for part in ("15000 tokens", "tiny", "215 s", "max_prompt_s = 60", "ANTHROPIC_API_KEY", "set max_prompt_s higher"):
        assert part in words


@pytest.mark.parametrize(
    ("max_prompt_s", "speed", "tokens"),
    [(60, 70, 4200), (300, 70, 15_000), (60, 0, 10**6), (60, 1000, 15_000)],
    ids=["just allowed", "allowed by the configuration", "a speed that is not known", "a fast machine"],
)
def test_what_it_can_read_in_time_is_let_in(max_prompt_s: float, speed: float, tokens: int) -> None:
    Patience(max_prompt_s).admit(Endpoint("http://127.0.0.1:1", "key", "tiny", speed), b"[1]", tokens)


def test_a_conversation_counts_by_what_is_new_in_it() -> None:
    patience = Patience(60)
    turns = [b"[1,2]", b"[1,2,3,4]", b"[1,2,3,4,5,6] "]
    for tokens, messages in zip((4000, 8000, 12_000), turns, strict=True):
        patience.admit(SLOW, messages, tokens)
    with pytest.raises(ContextTooLong):
        patience.admit(SLOW, b"[9,2,3,4,5,6,7,8]", 8000)
    with pytest.raises(ContextTooLong):
        patience.admit(Endpoint("http://127.0.0.1:2", "key", "tiny", 70.0), b"[1,2,3,4,5,6,7,8]", 12_100)


def test_only_the_last_prompts_are_remembered() -> None:
    patience = Patience(60)
    patience.admit(SLOW, b"[0]", 4000)
    for number in range(1, 5):
        patience.admit(SLOW, b"[%d]" % number, 100)
    with pytest.raises(ContextTooLong):
        patience.admit(SLOW, b"[0,1]", 4300)


def test_a_prompt_without_messages_is_nobodys_beginning() -> None:
    patience = Patience(60)
    patience.admit(SLOW, b"", 4000)
    with pytest.raises(ContextTooLong):
        patience.admit(SLOW, b"[1]", 4300)
