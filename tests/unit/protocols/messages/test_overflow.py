"""A conversation that is too long is one in the two sentences that Claude Code knows."""

from __future__ import annotations

import time

import pytest

from compat.protocols.messages.overflow import sentence
from tests.cases.messages_overflow import OVERFLOWS


@pytest.mark.parametrize(("words", "told"), OVERFLOWS)
def test_an_overflow_is_one_of_two_sentences(words: str, told: str) -> None:
    assert sentence(words) == told.replace("%", words)
    assert sentence(f"their-name: {words}") == told.replace("%", f"their-name: {words}")


def test_long_words_cost_little() -> None:
    start = time.process_time()
    sentence("1 in the " * 500 + "request (" * 400 + "9" * 4000)
    assert time.process_time() - start < 0.05
